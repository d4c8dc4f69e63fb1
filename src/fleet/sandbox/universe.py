"""What the sandbox lists: events and markets with seeded ids, in the venue's own vocabulary.

Pure tables and hashes: the same seed lists the same ids at every start. The names are invented and
each description says that the market is simulated. Among the events are traps a bot must know: an
*augmented* outcome set with placeholder outcomes (its prices need not sum to one for the named
legs), fine ticks, markets without fees, a market about to change its tick, and a timed series.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from fleet.clock import NS_PER_DAY
from fleet.domain.instruments import FeeSchedule
from fleet.domain.units import SCALE, Price

CENT: Final = Price(SCALE // 100)
MILL: Final = Price(SCALE // 1000)

GroupKind = Literal["single", "set", "by_date", "above"]

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


@dataclass(frozen=True, slots=True)
class _Leg:
    title: str
    question: str
    fair: float
    placeholder: bool = False


@dataclass(frozen=True, slots=True)
class _GroupRow:
    slug: str
    title: str
    category: str
    kind: GroupKind
    tick: Price
    days: int
    volatility: float
    legs: tuple[_Leg, ...]
    augmented: bool = False


_OUTCOMES_YES_NO: Final = ("Yes", "No")

# slug, question, category, fair, tick, days to the end, outcomes
_SINGLES: Final[tuple[tuple[str, str, str, float, Price, int, tuple[str, str]], ...]] = (
    ("btc-green-week", "Will Bitcoin close the week green?", "crypto", 0.56, CENT, 5,
     _OUTCOMES_YES_NO),
    ("eth-new-high-month", "Will Ethereum set a new high this month?", "crypto", 0.22, CENT, 20,
     _OUTCOMES_YES_NO),
    ("sol-flips-bnb", "Will Solana pass BNB by market value this month?", "crypto", 0.31, CENT, 25,
     _OUTCOMES_YES_NO),
    ("stablecoin-depeg", "Will a top five stablecoin trade below 0.99 this month?", "crypto", 0.03,
     MILL, 25, _OUTCOMES_YES_NO),
    ("harbor-vs-comets", "Harbor Gulls vs. Canyon Comets", "sports", 0.47, CENT, 1,
     ("Harbor Gulls", "Canyon Comets")),
    ("foundry-vs-pines", "Foundry Nine vs. Pine Barons", "sports", 0.61, CENT, 1,
     ("Foundry Nine", "Pine Barons")),
    ("lakes-vs-mesa", "Lake City Herons vs. Mesa Sparks", "sports", 0.38, CENT, 2,
     ("Lake City Herons", "Mesa Sparks")),
    ("delta-vs-summit", "Delta Kings vs. Summit Rams", "sports", 0.72, CENT, 2,
     ("Delta Kings", "Summit Rams")),
    ("bay-vs-prairie", "Bay Lanterns vs. Prairie Owls", "sports", 0.53, CENT, 3,
     ("Bay Lanterns", "Prairie Owls")),
    ("perfect-game-season", "Will there be a perfect game this season?", "sports", 0.12, CENT, 60,
     _OUTCOMES_YES_NO),
    ("senate-bill-passes", "Will the transit bill pass the upper house?", "politics", 0.64, CENT,
     14, _OUTCOMES_YES_NO),
    ("minister-resigns", "Will the transport minister resign this quarter?", "politics", 0.18, CENT,
     40, _OUTCOMES_YES_NO),
    ("turnout-above-60", "Will turnout be above 60 percent?", "politics", 0.44, CENT, 30,
     _OUTCOMES_YES_NO),
    ("referendum-called", "Will a referendum be called this year?", "politics", 0.27, CENT, 40,
     _OUTCOMES_YES_NO),
    ("cpi-above-3", "Will yearly inflation print above 3.0 percent?", "economics", 0.41, CENT, 12,
     _OUTCOMES_YES_NO),
    ("jobs-above-150k", "Will payrolls rise by more than 150,000?", "economics", 0.58, CENT, 9,
     _OUTCOMES_YES_NO),
    ("recession-this-year", "Will a recession be declared this year?", "economics", 0.06, MILL, 40,
     _OUTCOMES_YES_NO),
    ("strait-reopens", "Will the northern strait reopen this month?", "geopolitics", 0.35, CENT, 20,
     _OUTCOMES_YES_NO),
    ("summit-held", "Will the spring summit be held in person?", "geopolitics", 0.79, CENT, 35,
     _OUTCOMES_YES_NO),
    ("embargo-lifted", "Will the grain embargo be lifted this quarter?", "geopolitics", 0.24, CENT,
     40, _OUTCOMES_YES_NO),
    # Begins above 0.96, so its tick becomes finer about two minutes after the start.
    ("budget-signed", "Will the budget be signed by the deadline?", "politics", 0.966, CENT, 10,
     _OUTCOMES_YES_NO),
)

_GROUPS: Final = (
    _GroupRow("port-city-mayor", "Who will be elected mayor of Port City?", "politics", "set", CENT, 6,
     0.004, (
         _Leg("Ada Lindqvist", "Will Ada Lindqvist be elected mayor of Port City?", 0.34),
         _Leg("Bruno Castellan", "Will Bruno Castellan be elected mayor of Port City?", 0.24),
         _Leg("Chidi Okafor", "Will Chidi Okafor be elected mayor of Port City?", 0.17),
         _Leg("Dara Whitlock", "Will Dara Whitlock be elected mayor of Port City?", 0.12),
         _Leg("Emil Sorensen", "Will Emil Sorensen be elected mayor of Port City?", 0.08),
         _Leg("Another person", "Will another person be elected mayor of Port City?", 0.05))),
    _GroupRow("central-bank-decision", "Central bank decision this month?", "economics", "set", MILL, 8,
     0.004, (
         _Leg("50+ bps cut", "Will the bank cut by 50 or more basis points?", 0.06),
         _Leg("25 bps cut", "Will the bank cut by 25 basis points?", 0.38),
         _Leg("No change", "Will the bank leave its rate unchanged?", 0.43),
         _Leg("25 bps rise", "Will the bank raise by 25 basis points?", 0.09),
         _Leg("50+ bps rise", "Will the bank raise by 50 or more basis points?", 0.04))),
    _GroupRow("coast-league-champion", "Coast League champion", "sports", "set", CENT, 30, 0.004, (
        _Leg("Harbor Gulls", "Will the Harbor Gulls win the Coast League?", 0.31),
        _Leg("Foundry Nine", "Will Foundry Nine win the Coast League?", 0.22),
        _Leg("Delta Kings", "Will the Delta Kings win the Coast League?", 0.15),
        _Leg("Bay Lanterns", "Will the Bay Lanterns win the Coast League?", 0.10),
        _Leg("Team A", "Will Team A win the Coast League?", 0.05, placeholder=True),
        _Leg("Team B", "Will Team B win the Coast League?", 0.04, placeholder=True),
        _Leg("Other", "Will another team win the Coast League?", 0.13)), augmented=True),
    _GroupRow("ceasefire-by", "Ceasefire in the delta region by...?", "geopolitics", "by_date", CENT, 0,
     0.006, (
         _Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.30),
         _Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.335),
         _Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.37),
         _Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.41))),
    _GroupRow("bitcoin-above", "Bitcoin above ___ on {date}?", "crypto", "above", CENT, 3, 0.008, (
        _Leg("110,000", "Will the price of Bitcoin be above $110,000 on {date}?", 0.6),
        _Leg("110,500", "Will the price of Bitcoin be above $110,500 on {date}?", 0.55),
        _Leg("111,000", "Will the price of Bitcoin be above $111,000 on {date}?", 0.5),
        _Leg("111,500", "Will the price of Bitcoin be above $111,500 on {date}?", 0.45),
        _Leg("112,000", "Will the price of Bitcoin be above $112,000 on {date}?", 0.4))),
)

BY_DATE_STEP_DAYS: Final = 7
UPDOWN_SECONDS: Final = 300
_SINGLE_VOLATILITY: Final = {
    "crypto": 0.008, "sports": 0.010, "politics": 0.004, "economics": 0.004, "geopolitics": 0.004,
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
        events = [self._single(*row) for row in _SINGLES]
        events += [self._group(row) for row in _GROUPS]
        return tuple(events)

    def updown(self, window_start_ns: int) -> EventSpec:
        """The timed market of one five-minute window."""
        seconds = window_start_ns // 1_000_000_000
        end_ns = window_start_ns + UPDOWN_SECONDS * 1_000_000_000
        slug = f"btc-updown-5m-{seconds}"
        market = self._market(
            slug=slug, question=f"Bitcoin Up or Down - five minutes from {seconds}",
            category="crypto", fair=0.5, tick=CENT, end_ns=end_ns, outcomes=("Up", "Down"),
        )
        return self._event(slug, market.question, "crypto", "single", (market,), 0.03)

    def _single(
        self, slug: str, question: str, category: str, fair: float, tick: Price, days: int,
        outcomes: tuple[str, str],
    ) -> EventSpec:
        end_ns = self._day_ns + days * NS_PER_DAY + NS_PER_DAY // 2
        market = self._market(
            slug=slug, question=question, category=category, fair=fair, tick=tick, end_ns=end_ns,
            outcomes=outcomes, game_start_ns=end_ns if outcomes != _OUTCOMES_YES_NO else 0,
        )
        return self._event(
            slug, question, category, "single", (market,), _SINGLE_VOLATILITY[category]
        )

    def _group(self, row: _GroupRow) -> EventSpec:
        """An outcome set or a ladder."""
        is_set = row.kind == "set"
        neg_risk_id = "0x" + derived_hex(self._seed, f"neg-risk:{row.slug}")[:62] + "00"
        markets = []
        for index, leg in enumerate(row.legs):
            days = (index + 1) * BY_DATE_STEP_DAYS if row.kind == "by_date" else row.days
            end_ns = self._day_ns + days * NS_PER_DAY + NS_PER_DAY // 2
            date = date_text(end_ns)
            markets.append(self._market(
                slug=f"{row.slug}-{index}", question=leg.question.format(date=date),
                category=row.category, fair=leg.fair, tick=row.tick, end_ns=end_ns,
                outcomes=_OUTCOMES_YES_NO, group_item_title=leg.title or date,
                group_item_threshold=str(index), neg_risk=is_set, placeholder=leg.placeholder,
                neg_risk_other=row.augmented and leg.title == "Other",
                question_id=f"{neg_risk_id[:-2]}{index:02x}" if is_set else "",
            ))
        return self._event(
            row.slug, row.title.format(date=date_text(markets[-1].end_ns)), row.category, row.kind,
            tuple(markets), row.volatility, neg_risk_market_id=neg_risk_id if is_set else "",
            augmented=row.augmented, tight=True,
        )

    def _event(
        self, slug: str, title: str, category: str, kind: GroupKind,
        markets: tuple[MarketSpec, ...], volatility: float, *, neg_risk_market_id: str = "",
        augmented: bool = False, tight: bool = False,
    ) -> EventSpec:
        self._next_event += 1
        return EventSpec(
            id=str(self._next_event - 1), slug=slug, title=title, category=category, kind=kind,
            markets=markets, start_ns=self._start_ns, end_ns=max(m.end_ns for m in markets),
            volatility=volatility, neg_risk_market_id=neg_risk_market_id, augmented=augmented,
            tight=tight,
        )

    def _market(
        self, *, slug: str, question: str, category: str, fair: float, tick: Price, end_ns: int,
        outcomes: tuple[str, str], group_item_title: str = "", group_item_threshold: str = "0",
        neg_risk: bool = False, neg_risk_other: bool = False, placeholder: bool = False,
        question_id: str = "", game_start_ns: int = 0,
    ) -> MarketSpec:
        self._next_market += 1
        seed = self._seed
        return MarketSpec(
            id=str(self._next_market - 1), condition_id="0x" + derived_hex(seed, f"cond:{slug}"),
            question_id=question_id or "0x" + derived_hex(seed, f"question:{slug}"),
            tokens=(derived_token(seed, f"{slug}:0"), derived_token(seed, f"{slug}:1")),
            slug=slug, question=question, outcomes=outcomes, category=category, tick=tick,
            fair=fair, group_item_title=group_item_title,
            group_item_threshold=group_item_threshold, start_ns=self._start_ns, end_ns=end_ns,
            neg_risk=neg_risk, neg_risk_other=neg_risk_other, placeholder=placeholder,
            game_start_ns=game_start_ns,
        )
