"""What every Polymarket frame reader shares: numbers, rejections, arrays, plain text, counters.

Pure. Nothing here guesses: a text that is not exactly a number of the stated range raises
``FrameError``, which the decoders turn into one ``FrameRejected`` for the whole frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from fleet.clock import NS_PER_MS
from fleet.domain.events import FrameRejected
from fleet.domain.units import SCALE, Price, Qty, parse_units

CACHE_LIMIT: Final = 20_000
"""Texts kept per cache: more than every price of the finest grid (1e-4), about 2 MB."""
NUMBER_LENGTH_MAX: Final = 32
"""Longer number texts are refused unread; the venue's longest have 20 characters."""
QTY_MAX: Final = 2**63 - 1
TIMESTAMP_MS_MAX: Final = QTY_MAX // NS_PER_MS
TEXT_LENGTH_MAX: Final = 256
"""A longer frame that is not JSON is no control text."""
NAMES_MAX: Final = 64
"""Distinct names a counter keeps; the rest are counted as ``other``."""
UNKNOWN_TYPE: Final = "event_type_unknown"
"""``FrameRejected`` code of a readable message of a type not known here; no book is in doubt."""

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""All that reading bytes may raise here; a bug of ours raises something else and is seen."""


class FrameError(ValueError):
    """A frame that cannot be read; ``code`` is a short name that can be counted."""

    def __init__(self, code: str, detail: str = "") -> None:
        """Say what is wrong; ``detail`` may quote the frame."""
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code


def read_price(text: str) -> Price:
    """Dollars a share in [0, 1] at 1e-8. Raises ``FrameError``."""
    value = _units(text, "price")
    if not 0 <= value <= SCALE:
        raise FrameError("price_out_of_range", text)
    return Price(value)


def read_qty(text: str) -> Qty:
    """Shares at 1e-8, not negative, within 63 bits. Raises ``FrameError``."""
    value = _units(text, "size")
    if not 0 <= value <= QTY_MAX:
        raise FrameError("size_out_of_range", text)
    return Qty(value)


def read_tick(text: str) -> Price:
    """A price step that divides one dollar. Raises ``FrameError``."""
    value = _units(text, "tick")
    if not 0 < value <= SCALE // 2 or SCALE % value:
        raise FrameError("tick_invalid", text)
    return Price(value)


def _units(text: str, what: str) -> int:
    if len(text) > NUMBER_LENGTH_MAX:
        raise FrameError(f"{what}_unreadable", f"{len(text)} characters")
    try:
        return parse_units(text)
    except ValueError as error:
        raise FrameError(f"{what}_unreadable", str(error)) from error


class NumberCache:
    """Number texts already read, as two plain dicts that the hot path reads directly.

    Only valid values are kept, and a full cache is emptied: what is common comes back at once.
    """

    __slots__ = ("prices", "sizes")

    def __init__(self) -> None:
        """Start empty."""
        self.prices: dict[str, Price] = {}
        self.sizes: dict[str, Qty] = {}

    def price(self, text: str) -> Price:
        """The price ``text`` says, remembered. Raises ``FrameError``."""
        value = self.prices.get(text)
        if value is None:
            value = read_price(text)
            if len(self.prices) >= CACHE_LIMIT:
                self.prices.clear()
            self.prices[text] = value
        return value

    def size(self, text: str) -> Qty:
        """The quantity ``text`` says, remembered. Raises ``FrameError``."""
        value = self.sizes.get(text)
        if value is None:
            value = read_qty(text)
            if len(self.sizes) >= CACHE_LIMIT:
                self.sizes.clear()
            self.sizes[text] = value
        return value


class _Kind(msgspec.Struct, gc=False):
    event_type: str = ""


def read_timestamp_ms(milliseconds: int) -> int:
    """Milliseconds since the epoch as nanoseconds. Raises ``FrameError`` outside 63 bits."""
    if not 0 <= milliseconds <= TIMESTAMP_MS_MAX:
        raise FrameError("timestamp_invalid", str(milliseconds))
    return milliseconds * NS_PER_MS


def count_name(counter: Counter[str], name: str) -> None:
    """Count ``name``, but never more than ``NAMES_MAX`` different ones: the frames choose them."""
    counter[name if name in counter or len(counter) < NAMES_MAX else "other"] += 1


def describe_error(error: Exception) -> str:
    """``code: detail`` of a frame that could not be read, short and printable ASCII."""
    if isinstance(error, FrameError):
        text = str(error)
    elif isinstance(error, msgspec.ValidationError):
        text = f"shape_invalid: {error}"
    elif isinstance(error, RecursionError):
        text = "json_too_deep"
    else:
        text = f"json_invalid: {error}"
    return ascii(text)[1:-1][:160]


class FrameReader:
    """What both channels share: arrays, plain text and counters."""

    __slots__ = ("_kind", "_split", "ignored", "rejected")

    def __init__(self) -> None:
        """Start with empty counters."""
        self._split = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._kind = msgspec.json.Decoder(_Kind).decode
        self.ignored: Counter[str] = Counter()
        """Messages that change nothing here, by type or text."""
        self.rejected: Counter[str] = Counter()
        """Frames and messages rejected, by code."""

    def _messages(self, frame: bytes | memoryview) -> Sequence[bytes | msgspec.Raw]:
        """The messages of a frame that does not begin with a brace; none for plain text."""
        body = bytes(frame).strip()
        if body[:1] == b"{":
            return (body,)
        if body[:1] == b"[":
            messages = self._split(body)
            if not messages:
                count_name(self.ignored, "[]")
            return messages
        text = body.decode("ascii", "replace")
        if not (0 < len(text) <= TEXT_LENGTH_MAX and text.isascii() and text.isprintable()):
            raise FrameError("not_json", f"{len(body)} bytes")
        count_name(self.ignored, text[:40])
        return ()

    def _reject(self, error: Exception, ts_recv: int) -> FrameRejected:
        reason = describe_error(error)
        count_name(self.rejected, reason.partition(":")[0])
        return FrameRejected(ts_recv=ts_recv, reason=reason)

    def _unknown(self, kind: str, ts_recv: int) -> FrameRejected:
        """Report a message of an unknown type; raise if it does not even name one."""
        if not kind:
            raise FrameError("event_type_missing")
        return self._reject(FrameError(UNKNOWN_TYPE, repr(kind[:40])), ts_recv)
