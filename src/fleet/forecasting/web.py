"""Reading a stranger's web address: bounded in time, size and redirects, with one kind of error.

Compressed bodies are not asked for and not taken: a few kilobytes of them can hold gigabytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from fleet.forecasting.wording import plain

USER_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) polybot-fleet/0.1"
"""As in ``venues.transport``: Cloudflare answers 403 to clients without a normal one."""
BODY_BYTES_MAX: Final = 2 * 1024 * 1024
REDIRECTS_MAX: Final = 3
TIMEOUT_S: Final = 10.0


class FetchFailed(Exception):  # noqa: N818 - named for what happened
    """No whole answer came; the text says why, without headers or parameters."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer. ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def fetch(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    redirects: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> Fetched:
    """GET an address. Raises ``FetchFailed``."""
    sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
    host = urlsplit(url).hostname or url
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(
                timeout=timeout_s, follow_redirects=redirects, max_redirects=REDIRECTS_MAX
            ) as client,
            client.stream("GET", url, headers=sent, params=params) as response,
        ):
            encoding = response.headers.get("content-encoding", "identity")
            if encoding.lower() not in {"", "identity"}:
                raise FetchFailed(f"{host} compressed its answer ({plain(encoding, 40)}), unasked")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise FetchFailed(f"{host} answered more than {BODY_BYTES_MAX} bytes")
            return Fetched(response.status_code, dict(response.headers), bytes(body))
    except TimeoutError:
        raise FetchFailed(f"{host} did not answer in {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchFailed(f"{host}: {type(error).__name__}: {plain(str(error), 200)}") from None
