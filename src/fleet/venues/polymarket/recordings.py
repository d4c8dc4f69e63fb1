"""What a recording is about: the markets named by its frames, when no catalogue came with it.

A recording made elsewhere has frames and nothing else. ``infer_universe`` reads them once, lightly,
and pairs the tokens of each market; what cannot be paired is left out. The grid is the finest one
any price of the market needs. Rules the frames do not carry (fees, minimums) are the caller's to
say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fleet.domain.instruments import (
    FeeSchedule,
    Instrument,
    InstrumentId,
    Market,
    MarketId,
    Universe,
)
from fleet.domain.units import SCALE, Price

TICKS: Final = (Price(SCALE // 100), Price(SCALE // 1000), Price(SCALE // 10_000))


class RecordingError(ValueError):
    """A recording that no market can be read from."""


class _Entry(msgspec.Struct, gc=False):
    asset_id: str = ""
    price: str = ""


class _Frame(msgspec.Struct, gc=False):
    market: str | None = None
    market_slug: str | None = None
    asset_id: str | None = None
    price_changes: list[_Entry] | None = None
    changes: list[_Entry] | None = None
    bids: list[_Entry] | None = None
    asks: list[_Entry] | None = None


@dataclass(slots=True)
class _Seen:
    tokens: list[str] = field(default_factory=list)
    decimals: int = 2
    slug: str = ""
    """The readable name, which not every frame of a market carries."""


def infer_universe(payloads: Iterable[bytes], *, fees: FeeSchedule) -> Universe:
    """The markets of a recording. Raises ``RecordingError`` if no market has both its tokens.

    The first token seen of a market is taken as YES: for every idea here the two are alike.
    """
    one = msgspec.json.Decoder(_Frame)
    many = msgspec.json.Decoder(list[_Frame])
    markets: dict[str, _Seen] = {}
    for payload in payloads:
        if payload[:1] not in {b"{", b"["}:
            continue
        try:
            frames = many.decode(payload) if payload[:1] == b"[" else [one.decode(payload)]
        except msgspec.MsgspecError:
            continue
        for frame in frames:
            _note(markets, frame)
    instruments: dict[InstrumentId, Instrument] = {}
    found: dict[MarketId, Market] = {}
    for name, seen in markets.items():
        if len(seen.tokens) != 2 or seen.tokens[0] in instruments:
            continue
        yes, no = (InstrumentId(token) for token in seen.tokens)
        tick = TICKS[min(max(seen.decimals, 2), 4) - 2]
        market_id = MarketId(seen.slug or name)
        for token, other, outcome in ((yes, no, "Yes"), (no, yes, "No")):
            instruments[token] = Instrument(
                id=token,
                market_id=market_id,
                complement=other,
                outcome=outcome,
                tick=tick,
                fees=fees,
            )
        found[market_id] = Market(id=market_id, question=market_id, yes=yes, no=no, slug=market_id)
    if not found:
        raise RecordingError(
            "no market with both of its tokens was found; is this a market-channel recording?"
        )
    return Universe(instruments=instruments, markets=found)


def _note(markets: dict[str, _Seen], frame: _Frame) -> None:
    name = frame.market or frame.market_slug
    if not name:
        return
    entries = frame.price_changes or ()
    tokens = [frame.asset_id] if frame.asset_id else [e.asset_id for e in entries]
    if not any(tokens):
        return
    seen = markets.setdefault(name, _Seen())
    seen.slug = frame.market_slug or seen.slug
    for token in tokens:
        if token and token not in seen.tokens:
            seen.tokens.append(token)
    for group in (entries, frame.changes or (), frame.bids or (), frame.asks or ()):
        for entry in group:
            fraction = entry.price.partition(".")[2].rstrip("0")
            seen.decimals = max(seen.decimals, len(fraction))
