"""What the sandbox lists: events and markets with seeded ids, in the venue's own vocabulary.

Pure tables and hashes: the same seed lists the same ids at every start. The names are invented and
each description says that the market is simulated. Among the events are traps a bot must know: an
*augmented* outcome set with placeholder outcomes (its prices need not sum to one for the named
legs), fine ticks, markets without fees, a market about to change its tick, and a timed series.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from fleet.clock import NS_PER_DAY
from fleet.domain.instruments import FeeSchedule
from fleet.domain.units import SCALE, Price
from fleet.sandbox.questions import CENT, GROUPS, SINGLES, YES_NO, GroupKind, GroupRow

FEE_RATES: Final = {"crypto": 7, "sports": 5, "politics": 4, "economics": 5, "geopolitics": 0}
"""Taker fee rates in hundredths (Polymarket fees page, crawled 2026-10/11)."""
REBATE_RATES: Final = {"crypto": 0.2, "sports": 0.15, "politics": 0.25, "economics": 0.25}


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSpec:
    """One binary market as listed. ``fair`` is where its simulated price begins."""

    id: str
    condition_id: str
    question_id: str
    tokens: tuple[str, str]
    slug: str
    question: str
    outcomes: tuple[str, str]
    category: str
    tick: Price
    fair: float
    group_item_title: str
    group_item_threshold: str
    start_ns: int
    end_ns: int
    neg_risk: bool = False
    neg_risk_other: bool = False
    placeholder: bool = False
    game_start_ns: int = 0
    activity: float = 1.0
    taker_delay_ms: int = 0
    """How long the exchange holds back an order that would take (reference 8)."""

    @property
    def fees(self) -> FeeSchedule:
        """The taker fee of this market's category."""
        return FeeSchedule(rate=FEE_RATES[self.category] * SCALE // 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSpec:
    """A Gamma event: one market, an outcome set or a ladder."""

    id: str
    slug: str
    title: str
    category: str
    kind: GroupKind
    markets: tuple[MarketSpec, ...]
    start_ns: int
    end_ns: int
    volatility: float
    neg_risk_market_id: str = ""
    augmented: bool = False
    tight: bool = False
    """Makers quote narrow spreads, as in the recordings' calmest games."""

    @property
    def rungs(self) -> tuple[MarketSpec, ...]:
        """A ladder's markets ordered so that each implies the next (strikes are listed rising)."""
        return self.markets[::-1] if self.kind == "above" else self.markets


def derived_hex(seed: int, what: str) -> str:
    """64 hex digits that depend on the seed and on what they name, nothing else."""
    return hashlib.sha256(f"sandbox:{seed}:{what}".encode()).hexdigest()


def derived_token(seed: int, what: str) -> str:
    """A token id: a uint256 as decimal text."""
    return str(int(derived_hex(seed, what), 16))


TAKER_DELAYS_MS: Final = {"harbor-vs-comets": 1_000, "bay-vs-prairie": 3_000}
"""Games whose takers wait; football had 1 s on the venue (reference 8)."""
TIMED_DELAY_MS: Final = 50
"""Of the venue's crypto up/down markets since 2026-08-17 (reference 8)."""
TIMED_MARKET_IDS: Final = 1_000_000
TIMED_EVENT_IDS: Final = 100_000
BY_DATE_STEP_DAYS: Final = 7
UPDOWN_SECONDS: Final = 300
_SINGLE_VOLATILITY: Final = {
    "crypto": 0.008,
    "sports": 0.010,
    "politics": 0.004,
    "economics": 0.004,
    "geopolitics": 0.004,
}


def date_text(at_ns: int) -> str:
    """``December 4`` for a time, in UTC, as the venue's titles write dates."""
    import datetime as dt

    day = dt.datetime.fromtimestamp(at_ns // 1_000_000_000, dt.UTC)
    return f"{day:%B} {day.day}"


class UniverseBuilder:
    """Makes the specs of one seed. Gamma ids count up from fixed starts."""

    def __init__(self, seed: int, start_ns: int) -> None:
        """Events end whole days after the UTC day of ``start_ns``."""
        self._seed = seed
        self._start_ns = start_ns
        self._day_ns = start_ns - start_ns % NS_PER_DAY
        self._next_market = 900_001
        self._next_event = 90_001

    def build(self) -> tuple[EventSpec, ...]:
        """Every event listed at the start."""
        events = [self._single(*row) for row in SINGLES]
        events += [self._group(row) for row in GROUPS]
        return tuple(events)

    def updown(self, window_start_ns: int) -> EventSpec:
        """The timed market of one five-minute window."""
        seconds = window_start_ns // 1_000_000_000
        end_ns = window_start_ns + UPDOWN_SECONDS * 1_000_000_000
        slug = f"btc-updown-5m-{seconds}"
        market = self._market(
            slug=slug,
            question=f"Bitcoin Up or Down - five minutes from {seconds}",
            category="crypto",
            fair=0.5,
            tick=CENT,
            end_ns=end_ns,
            outcomes=("Up", "Down"),
        )
        # Windows are numbered by the clock: a restart lists the same one under the same ids.
        window = seconds // UPDOWN_SECONDS
        market = replace(market, id=str(TIMED_MARKET_IDS + window), taker_delay_ms=TIMED_DELAY_MS)
        event = self._event(slug, market.question, "crypto", "single", (market,), 0.03)
        return replace(event, id=str(TIMED_EVENT_IDS + window))

    def _single(
        self,
        slug: str,
        question: str,
        category: str,
        fair: float,
        tick: Price,
        days: int,
        outcomes: tuple[str, str],
    ) -> EventSpec:
        end_ns = self._day_ns + days * NS_PER_DAY + NS_PER_DAY // 2
        market = self._market(
            slug=slug,
            question=question,
            category=category,
            fair=fair,
            tick=tick,
            end_ns=end_ns,
            outcomes=outcomes,
            game_start_ns=end_ns if outcomes != YES_NO else 0,
            taker_delay_ms=TAKER_DELAYS_MS.get(slug, 0),
        )
        return self._event(
            slug, question, category, "single", (market,), _SINGLE_VOLATILITY[category]
        )

    def _group(self, row: GroupRow) -> EventSpec:
        """An outcome set or a ladder."""
        is_set = row.kind == "set"
        neg_risk_id = "0x" + derived_hex(self._seed, f"neg-risk:{row.slug}")[:62] + "00"
        markets = []
        for index, leg in enumerate(row.legs):
            days = (index + 1) * BY_DATE_STEP_DAYS if row.kind == "by_date" else row.days
            end_ns = self._day_ns + days * NS_PER_DAY + NS_PER_DAY // 2
            date = date_text(end_ns)
            markets.append(
                self._market(
                    slug=f"{row.slug}-{index}",
                    question=leg.question.format(date=date),
                    category=row.category,
                    fair=leg.fair,
                    tick=row.tick,
                    end_ns=end_ns,
                    outcomes=YES_NO,
                    group_item_title=leg.title or date,
                    group_item_threshold=str(index),
                    neg_risk=is_set,
                    placeholder=leg.placeholder,
                    neg_risk_other=row.augmented and leg.title == "Other",
                    question_id=f"{neg_risk_id[:-2]}{index:02x}" if is_set else "",
                )
            )
        return self._event(
            row.slug,
            row.title.format(date=date_text(markets[-1].end_ns)),
            row.category,
            row.kind,
            tuple(markets),
            row.volatility,
            neg_risk_market_id=neg_risk_id if is_set else "",
            augmented=row.augmented,
            tight=True,
        )

    def _event(
        self,
        slug: str,
        title: str,
        category: str,
        kind: GroupKind,
        markets: tuple[MarketSpec, ...],
        volatility: float,
        *,
        neg_risk_market_id: str = "",
        augmented: bool = False,
        tight: bool = False,
    ) -> EventSpec:
        self._next_event += 1
        return EventSpec(
            id=str(self._next_event - 1),
            slug=slug,
            title=title,
            category=category,
            kind=kind,
            markets=markets,
            start_ns=self._start_ns,
            end_ns=max(m.end_ns for m in markets),
            volatility=volatility,
            neg_risk_market_id=neg_risk_market_id,
            augmented=augmented,
            tight=tight,
        )

    def _market(
        self,
        *,
        slug: str,
        question: str,
        category: str,
        fair: float,
        tick: Price,
        end_ns: int,
        outcomes: tuple[str, str],
        group_item_title: str = "",
        group_item_threshold: str = "0",
        neg_risk: bool = False,
        neg_risk_other: bool = False,
        placeholder: bool = False,
        question_id: str = "",
        game_start_ns: int = 0,
        taker_delay_ms: int = 0,
    ) -> MarketSpec:
        self._next_market += 1
        seed = self._seed
        return MarketSpec(
            id=str(self._next_market - 1),
            condition_id="0x" + derived_hex(seed, f"cond:{slug}"),
            question_id=question_id or "0x" + derived_hex(seed, f"question:{slug}"),
            tokens=(derived_token(seed, f"{slug}:0"), derived_token(seed, f"{slug}:1")),
            slug=slug,
            question=question,
            outcomes=outcomes,
            category=category,
            tick=tick,
            fair=fair,
            group_item_title=group_item_title,
            group_item_threshold=group_item_threshold,
            start_ns=self._start_ns,
            end_ns=end_ns,
            neg_risk=neg_risk,
            neg_risk_other=neg_risk_other,
            placeholder=placeholder,
            game_start_ns=game_start_ns,
            taker_delay_ms=taker_delay_ms,
        )
