"""Which markets ought to move together, from what the universe says of them; no price is seen here.

A ``Relation`` is a spread: the sum of its legs' YES prices, each with weight +1 or -1, less a level
that history tells. Four kinds:

- SET: all legs of a complete outcome set; the sum ought to be one.
- LADDER: two neighbouring rungs; the implied one less the implying one ought to stay in its band.
- THRESHOLD: "Bitcoin above 66,000 on June 26" is a digital option; its price less that of a digital
  at the underlying's price and the volatility of its whole strip ought to stay at its level.
- PAIR: two markets of one event, underlying or category that moved together.

Weights are +1 and -1 because a bundle trades the same number of shares of every leg. A short YES is
a bought NO. A relation is told by its key alone, so that a restart finds it again. A question that
is not plainly a digital (one that asks whether a price is ever reached) is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

from fleet.domain.instruments import Market, MarketId, Universe
from fleet.domain.units import UnitsError, parse_units


class Kind(Enum):
    """Why markets ought to move together."""

    SET = "SET"
    LADDER = "LADDER"
    THRESHOLD = "THRESHOLD"
    PAIR = "PAIR"


@dataclass(frozen=True, slots=True)
class Relation:
    """A spread: ``legs`` are (market, +1 or -1)."""

    kind: Kind
    key: str
    legs: tuple[tuple[MarketId, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A digital option on an underlying: pays if it ends in [``low``, ``high``), dollars at 1e-8.

    ``None`` is an open end. ``strip`` names the options of one underlying and expiry.
    """

    symbol: str
    low: int | None
    high: int | None
    end_ns: int

    @property
    def strip(self) -> tuple[str, int]:
        """What shares one volatility."""
        return self.symbol, self.end_ns


SYMBOLS: Final = {
    "bitcoin": "BTC", "btc": "BTC", "ethereum": "ETH", "eth": "ETH", "solana": "SOL", "sol": "SOL",
    "xrp": "XRP", "ripple": "XRP", "dogecoin": "DOGE", "doge": "DOGE", "bnb": "BNB",
    "cardano": "ADA", "ada": "ADA", "chainlink": "LINK", "link": "LINK", "avalanche": "AVAX",
    "avax": "AVAX", "polkadot": "DOT", "litecoin": "LTC", "ltc": "LTC",
}  # fmt: skip
_SCALES: Final = {"": 1, "k": 1_000, "m": 1_000_000}
_AMOUNT: Final = r"\$?(\d[\d,]*(?:\.\d+)?)([km]?)"
_NAME: Final = re.compile(rf"\b({'|'.join(SYMBOLS)})\b", re.IGNORECASE)
_ABOVE: Final = re.compile(rf"\b(?:above|greater than|higher than)\s+{_AMOUNT}\b", re.IGNORECASE)
_BELOW: Final = re.compile(rf"\b(?:below|less than|lower than)\s+{_AMOUNT}\b", re.IGNORECASE)
_BETWEEN: Final = re.compile(rf"\bbetween\s+{_AMOUNT}\s+and\s+{_AMOUNT}\b", re.IGNORECASE)
_ON: Final = re.compile(
    r"\bon (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d", re.IGNORECASE
)
_OTHER: Final = re.compile(
    r"\b(?:reach|hit|dip|by|before|ever|any time|market cap|fdv|volatility|dominance|or)\b",
    re.IGNORECASE,
)


def read_threshold(market: Market) -> Threshold | None:
    """The digital option a question describes; nothing if it is not plainly one.

    "Plainly": one known underlying, one amount (or one range), "on" a date, a known end, and no
    word of questions that depend on the path or on something else than the price.
    """
    question = market.question
    symbols = {SYMBOLS[name.lower()] for name in _NAME.findall(question)}
    if (
        not market.end_ns
        or len(symbols) != 1
        or not _ON.search(question)
        or _OTHER.search(question)
    ):
        return None
    above, below = _ABOVE.findall(question), _BELOW.findall(question)
    between = _BETWEEN.findall(question)
    if len(above) + len(below) + len(between) != 1:
        return None
    low = high = None
    if above:
        low = _amount(*above[0])
    elif below:
        high = _amount(*below[0])
    else:
        low, high = _amount(*between[0][:2]), _amount(*between[0][2:])
        if low is None or high is None or low >= high:
            return None
    if low is None and high is None:
        return None
    return Threshold(symbol=min(symbols), low=low, high=high, end_ns=market.end_ns)


def _amount(digits: str, scale: str) -> int | None:
    try:
        value = parse_units(digits.replace(",", "")) * _SCALES[scale.lower()]
    except UnitsError:
        return None
    return value if value > 0 else None


def symbol_of(reference: str) -> str:
    """The underlying a reference price is of: ``"btc/usd"`` and ``"BTCUSDT"`` are ``"BTC"``."""
    plain = re.sub(r"[^A-Z]", "", reference.upper())
    for quote in ("USDT", "USDC", "USD"):
        if plain.endswith(quote) and plain != quote:
            return plain.removesuffix(quote)
    return plain


class Relations:
    """The relations of a universe that need no prices to be seen, and the limits markets share."""

    def __init__(self, universe: Universe, *, max_legs: int) -> None:
        """Read sets, ladders and questions once; sets of more than ``max_legs`` are left out."""
        self._universe = universe
        self.thresholds: Mapping[MarketId, Threshold] = {
            market.id: found
            for market in universe.markets.values()
            if (found := read_threshold(market)) is not None
        }
        known = [*self._sets(max_legs), *self._ladders()]
        known += [
            Relation(Kind.THRESHOLD, f"THRESHOLD:{market}", ((market, 1),))
            for market in self.thresholds
        ]
        self.fixed: Sequence[Relation] = tuple(known)
        self._by_key = {relation.key: relation for relation in known}
        self._groups = self._shared_limits()

    def _sets(self, max_legs: int) -> list[Relation]:
        return [
            Relation(Kind.SET, f"SET:{group.id}", tuple((m, 1) for m in group.markets))
            for group in self._universe.sets
            if group.complete and len(group.markets) <= max_legs
        ]

    def _ladders(self) -> list[Relation]:
        found: dict[str, Relation] = {}
        for ladder in self._universe.ladders:
            for rarer, likelier in pairwise(ladder.rungs):
                key = f"LADDER:{rarer}:{likelier}"
                found[key] = Relation(Kind.LADDER, key, ((likelier, 1), (rarer, -1)))
        return list(found.values())

    def _shared_limits(self) -> dict[MarketId, tuple[str, ...]]:
        """What each market shares a limit with: its underlying, event, sets and ladders."""
        groups: dict[MarketId, list[str]] = {market: [] for market in self._universe.markets}
        for market in self._universe.markets.values():
            symbols = {SYMBOLS[n.lower()] for n in _NAME.findall(market.question)}
            if len(symbols) == 1:
                groups[market.id].append(f"underlying:{min(symbols)}")
            elif market.event_id:
                groups[market.id].append(f"event:{market.event_id}")
        for group in self._universe.sets:
            for member in group.markets:
                groups[member].append(f"set:{group.id}")
        for ladder in self._universe.ladders:
            for member in ladder.rungs:
                groups[member].append(f"ladder:{ladder.id}")
        return {market: tuple(names) or (f"market:{market}",) for market, names in groups.items()}

    def groups(self, relation: Relation) -> tuple[str, ...]:
        """The limits a position in this relation counts towards."""
        named = [name for market, _ in relation.legs for name in self._groups.get(market, ())]
        return tuple(dict.fromkeys(named))

    def related(self, market: MarketId) -> str:
        """What a market may be paired within: its first group, or its category without one."""
        first = self._groups[market][0]
        category = self._universe.markets[market].category
        return f"category:{category}" if first.startswith("market:") and category else first

    def named(self, key: str) -> Relation | None:
        """The relation of a key, if all its markets are in the universe; pairs are read from it."""
        known = self._by_key.get(key)
        if known is not None:
            return known
        parts = key.split("|")
        if len(parts) != 4 or parts[0] != Kind.PAIR.value or parts[1] not in {"+", "-"}:
            return None
        first, second = MarketId(parts[2]), MarketId(parts[3])
        if first == second or not {first, second} <= self._universe.markets.keys():
            return None
        return pair(first, second, together=parts[1] == "+")


def pair(first: MarketId, second: MarketId, *, together: bool) -> Relation:
    """Two markets that move ``together`` (or, if not, against each other)."""
    key = f"{Kind.PAIR.value}|{'+' if together else '-'}|{first}|{second}"
    return Relation(Kind.PAIR, key, ((first, 1), (second, -1 if together else 1)))
