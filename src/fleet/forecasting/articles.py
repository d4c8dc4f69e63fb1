"""Articles as evidence: dated, plain, named by what they are, each once.

An article without a date is dropped: what is not known to be old may be from the future. Where a
source gives a time of publication and of change, the later one counts, as the text is of then.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from fleet.forecasting.port import Evidence
from fleet.forecasting.wording import plain, without_markup

TITLE_MAX: Final = 300
TEXT_MAX: Final = 2_000
SOURCE_MAX: Final = 80
URL_MAX: Final = 1_000
_TRACKING: Final = re.compile(r"utm_\w+|fbclid|gclid|mc_[ce]id|ref|cmpid|ocid|smid")
_LAST_NS: Final = (1 << 63) - 1


def article(
    *, source: str, title: str, text: str, url: str, published_ns: int | None
) -> Evidence | None:
    """An article made plain; ``None`` without a date or a title."""
    if published_ns is None or not 0 < published_ns <= _LAST_NS:
        return None
    head = plain(without_markup(title), TITLE_MAX)
    if not head or head == "[Removed]":  # What NewsAPI shows of an article that was taken back.
        return None
    address = _normal(url)
    publisher = plain(without_markup(source), SOURCE_MAX)
    return Evidence(
        id=_identity(address or f"{publisher}|{_folded(head)}|{published_ns}"),
        published_ns=published_ns,
        source=publisher,
        title=head,
        text=plain(without_markup(text), TEXT_MAX),
        url=address,
    )


def distinct(found: Iterable[Evidence]) -> list[Evidence]:
    """Each article once, by address and by title, newest first.

    Of several prints the one that was published first stays: since then it was known.
    """
    kept: list[Evidence] = []
    seen: set[str] = set()
    for item in sorted(found, key=lambda one: (one.published_ns, one.id)):
        names = {f"id:{item.id}", f"title:{_folded(item.title)}"}
        if item.url:
            names.add(f"url:{item.url}")
        if not names & seen:
            kept.append(item)
        seen |= names
    return kept[::-1]


def known_before(found: Sequence[Evidence], before_ns: int) -> list[Evidence]:
    """The articles published before a moment. What is published at it was not known before it."""
    return [item for item in found if item.published_ns < before_ns]


def ns_of(moment: datetime) -> int | None:
    """Nanoseconds since the epoch; ``None`` without a time zone."""
    if moment.tzinfo is None:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return (moment - epoch) // timedelta(microseconds=1) * 1_000


def iso_ns(text: str) -> int | None:
    """Nanoseconds of an ISO 8601 time with its zone; ``None`` for anything else."""
    try:
        return ns_of(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        return None


def _identity(text: str) -> str:
    return f"news:{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _folded(title: str) -> str:
    """A title without case, accents, punctuation and the publisher after the last dash."""
    head, dash, tail = title.rpartition(" - ")
    if dash and len(tail) < 40 and len(head) >= 12:
        title = head
    letters = unicodedata.normalize("NFKD", title).casefold()
    return " ".join(re.findall(r"[^\W_]+", letters)) or title


def _normal(url: str) -> str:
    """An address without fragment and tracking; empty for what is no web address."""
    url = url[:URL_MAX].strip()
    if " " in url or plain(url, URL_MAX) != url:
        return ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            return ""
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        return ""
    query = [(k, v) for k, v in parse_qsl(parts.query) if not _TRACKING.fullmatch(k)]
    path = parts.path.rstrip("/")
    return urlunsplit((parts.scheme, host, path, urlencode(query), ""))
