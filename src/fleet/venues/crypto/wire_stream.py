"""Frames of Binance's combined streams as facts. Pure.

A frame names its stream; candles, best quotes and trades are known, anything else is passed over,
as are answers to subscriptions. A best quote carries no time: its ``ts_event`` is when it came.
A frame that cannot be read raises ``FrameError``: something may be missing, so the caller must not
go on as if nothing was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from fleet.clock import NS_PER_MS
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.market import BookSnapshot, TradePrinted
from fleet.domain.units import Price, Qty
from fleet.venues.crypto.bars import Candle, candle
from fleet.venues.crypto.wire import exact
from fleet.venues.port import AnswerInvalid


class FrameError(ValueError):
    """A frame that is none; says what was wrong and shows the start of it."""


class _Frame(Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Kline(Struct):
    t: int
    i: str
    o: str
    h: str
    l: str  # noqa: E741 - the wire's name
    c: str
    v: str
    x: bool


class _KlineFrame(Struct):
    s: str
    k: _Kline


class _Top(Struct):
    s: str
    b: str
    B: str
    a: str
    A: str


class _Trade(Struct):
    s: str
    p: str
    q: str
    T: int
    m: bool


class CandleSeen(NamedTuple):
    """A candle; only a ``closed`` one is final."""

    instrument_id: InstrumentId
    interval: str
    closed: bool
    candle: Candle


Seen = CandleSeen | BookSnapshot | TradePrinted
_FRAME: Final = msgspec.json.Decoder(_Frame)
_KLINE: Final = msgspec.json.Decoder(_KlineFrame)
_TOP: Final = msgspec.json.Decoder(_Top)
_TRADE: Final = msgspec.json.Decoder(_Trade)


def snapshot(token: InstrumentId, bid: str, bid_qty: str, ask: str, ask_qty: str, now_ns: int) -> (
    BookSnapshot
):  # fmt: skip
    """The best quotes as a book of one level a side. Raises ``AnswerInvalid``."""
    bids = [(Price(exact(bid, "bid")), Qty(exact(bid_qty, "bid quantity")))]
    asks = [(Price(exact(ask, "ask")), Qty(exact(ask_qty, "ask quantity")))]
    return BookSnapshot(
        ts_event=now_ns, ts_recv=now_ns, instrument_id=token,
        bids=[level for level in bids if level[0] > 0 and level[1] > 0],
        asks=[level for level in asks if level[0] > 0 and level[1] > 0],
    )  # fmt: skip


def read_frame(
    frame: memoryview | bytes, tokens: Mapping[str, InstrumentId], now_ns: int
) -> Seen | None:
    """What a frame says of one of ``tokens`` (by symbol). Raises ``FrameError``."""
    try:
        outer = _FRAME.decode(frame)
        kind = outer.stream.partition("@")[2]
        if kind == "bookTicker":
            top = _TOP.decode(outer.data)
            token = tokens.get(top.s)
            return snapshot(token, top.b, top.B, top.a, top.A, now_ns) if token else None
        if kind.startswith("kline_"):
            row = _KLINE.decode(outer.data)
            token, k = tokens.get(row.s), row.k
            bar = candle(k.t, (k.o, k.h, k.l, k.c, k.v))
            return CandleSeen(token, k.i, k.x, bar) if token else None
        if kind == "trade":
            trade = _TRADE.decode(outer.data)
            token = tokens.get(trade.s)
            return TradePrinted(
                ts_event=trade.T * NS_PER_MS, ts_recv=now_ns, instrument_id=token,
                side=Side.SELL if trade.m else Side.BUY, price=Price(exact(trade.p, "price")),
                qty=Qty(exact(trade.q, "quantity")),
            ) if token else None  # fmt: skip
    except (msgspec.MsgspecError, UnicodeDecodeError, AnswerInvalid) as error:
        raise FrameError(f"{error}: {bytes(frame[:80])!r}") from None
    return None
