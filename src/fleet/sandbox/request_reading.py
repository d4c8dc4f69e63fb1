"""Reading requests: query parameters, bodies and cursors, with the venue's words for what is wrong.

``ApiError`` is an answer, not a fault: the routes raise it and the server writes it as
``{"error": ...}`` with its status.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp import web

CURSOR_START: Final = "MA=="
CURSOR_END: Final = "LTE="
"""Base64 of 0 and of -1 (reference 4)."""
BATCH_MAX: Final = 500


@dataclass(slots=True)
class ApiError(Exception):
    """An error answer: HTTP status and text, further ``fields`` of its body, headers."""

    status: int
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class TokenRequest(msgspec.Struct):
    """An entry of a batch read."""

    token_id: str
    side: str = ""


def cursor_offset(cursor: str) -> int | None:
    """The offset a cursor stands for; None for the end marker. Raises ``ApiError`` 400."""
    if cursor in {"", CURSOR_START}:
        return 0
    if cursor == CURSOR_END:
        return None
    try:
        offset = int(base64.b64decode(cursor, validate=True))
    except (binascii.Error, ValueError):
        raise ApiError(400, "invalid next_cursor") from None
    if offset < 0:
        raise ApiError(400, "invalid next_cursor")
    return offset


def cursor_of(offset: int) -> str:
    """The cursor of an offset."""
    return base64.b64encode(str(offset).encode()).decode()


def whole(query: Mapping[str, str], name: str, default: int, *, low: int, high: int) -> int:
    """A whole number within limits; 422 otherwise, as Gamma answers."""
    text = query.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ApiError(422, f"{name} must be a whole number") from None
    if not low <= value <= high:
        raise ApiError(422, f"{name} must be in {low}..{high}")
    return value


def flag(query: Mapping[str, str], name: str) -> bool | None:
    """``true`` or ``false``; None when absent; 422 otherwise."""
    text = query.get(name)
    if text is None:
        return None
    if text not in {"true", "false"}:
        raise ApiError(422, f"{name} must be true or false")
    return text == "true"


def listed(request: web.Request, name: str) -> list[str]:
    """A parameter that may be repeated or comma-joined."""
    values: list[str] = []
    for text in request.query.getall(name, []):
        values += [part for part in text.split(",") if part]
    return values


async def token_batch(request: web.Request) -> list[TokenRequest]:
    """The body of a batch read: at most 500 tokens. Raises ``ApiError`` 400."""
    try:
        batch = msgspec.json.decode(await request.read(), type=list[TokenRequest])
    except msgspec.MsgspecError:
        raise ApiError(400, "Invalid payload") from None
    if len(batch) > BATCH_MAX:
        raise ApiError(400, f"Payload exceeds the limit of {BATCH_MAX}")
    return batch


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def ordered(rows: Sequence[dict[str, Any]], key: str, *, rising: bool) -> list[dict[str, Any]]:
    """Rows sorted by one of their own fields; 422 for a field they do not have."""
    if any(key not in row for row in rows):
        raise ApiError(422, f"order fields are not valid: {key}")
    return sorted(rows, key=lambda row: row[key], reverse=not rising)
