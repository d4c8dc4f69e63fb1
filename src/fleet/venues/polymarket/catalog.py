"""What can be traded at Polymarket: Gamma's listings checked against the CLOB, as a ``Universe``.

Events are listed page by page (``/events/keyset``; with markets inside), most traded first, until
the limits are reached; then each market's trading rules are read from the CLOB (``/clob-markets``).
The CLOB's tick is the fresh one and wins; minimum sizes and fees that differ are taken at their
dearer value; anything else that differs, is missing or looks odd leaves that one market out, with a
counted reason, and never ends the load. Which ids trade is decided by ``version``: "v1" (or none)
``clobTokenIds``, "v2" ``positionIds``.

An outcome set names every market of its event. One that is left out becomes a *placeholder* of the
set, so that ``OutcomeSet.complete`` is true only if each outcome can be traded. Ladders: see
``ladders.py``.

Must not: read prices from here (they are cached and late), or guess a fee.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import msgspec

from fleet import logs
from fleet.domain.instruments import (
    FeeSchedule,
    Instrument,
    InstrumentError,
    InstrumentId,
    Ladder,
    Market,
    MarketId,
    OutcomeSet,
    SetId,
    Universe,
)
from fleet.domain.units import Price, Qty
from fleet.venues.polymarket.ladders import Candidate, find_ladders
from fleet.venues.polymarket.listings import (
    CATEGORIES,
    GammaEvent,
    GammaMarket,
    ListedMarket,
    MarketName,
    Oddity,
    decode_object,
    end_time_ns,
    exact_units,
    read_market,
)
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed, VenueError
from fleet.venues.transport import JsonClient

PAGE_LIMIT: Final = "100"
CRITERIA_MAX: Final = 4_000
"""Characters kept of a description; the longest seen on the venue have about 3,000."""


class CatalogError(VenueError):
    """Nothing tradable could be loaded; the text says why, with counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings:
    """What to load. Empty ``categories`` means all; ``liquidity_min`` is whole dollars a market."""

    markets_max: int = 400
    categories: tuple[str, ...] = ()
    liquidity_min: int = 0
    pages_max: int = 50
    clob_parallel: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """A loaded universe and what was left out of it: reason -> number of markets."""

    universe: Universe
    left_out: Mapping[str, int]
    unanswered: int = 0
    """Markets among those left out of which the CLOB did not say anything: it was busy or away."""


# --- wire shapes ----------------------------------------


class _EventsPage(msgspec.Struct):
    events: list[msgspec.Raw]
    next_cursor: str | None = None


class _ClobToken(msgspec.Struct):
    t: str
    o: str


class _ClobFees(msgspec.Struct):
    r: Decimal
    e: Decimal = Decimal(1)


class _ClobMarket(msgspec.Struct):
    c: str
    t: list[_ClobToken]
    mts: Decimal
    mos: Decimal
    nr: bool = False
    fd: _ClobFees | None = None


@dataclass(slots=True, kw_only=True)
class _Event:
    """An event with its readable markets and the ids of all its markets."""

    gamma: GammaEvent
    listed: list[ListedMarket]
    market_ids: list[MarketId]


@dataclass(slots=True)
class _Load:
    """One run of ``load_catalog``."""

    settings: CatalogSettings
    now_ns: int
    left_out: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    tokens: set[InstrumentId] = field(default_factory=set)
    events: set[str] = field(default_factory=set)

    def claim(self, tokens: tuple[InstrumentId, InstrumentId]) -> None:
        """Take two token ids for one market. Raises ``Oddity`` if another market has one."""
        if self.tokens.intersection(tokens):
            raise Oddity("token listed twice")
        self.tokens.update(tokens)

    def leave_out(self, reason: str, what: str) -> None:
        """Count a market that is not loaded; the first of each reason is logged with its name."""
        self.left_out[reason] += 1
        if self.left_out[reason] == 1:
            logs.get("catalog").info("market left out", reason=reason, market=what[:160])


async def load_catalog(
    gamma: JsonClient, clob: JsonClient, settings: CatalogSettings, *, now_ns: int
) -> Catalog:
    """Load the universe.

    Raises ``TransportFailed``, ``RequestRefused`` or ``AnswerInvalid`` if Gamma cannot be listed,
    and ``CatalogError`` if nothing tradable is left.
    """
    load = _Load(settings, now_ns)
    events = await _list_events(gamma, load)
    listed = [market for event in events for market in event.listed]
    gate = asyncio.Semaphore(settings.clob_parallel)
    checked = await asyncio.gather(*(_check(clob, gate, market, load) for market in listed))
    pairs = dict(pair for pair in checked if pair is not None)
    if not pairs:
        reasons = ", ".join(f"{n} {reason}" for reason, n in load.left_out.most_common()) or "none"
        raise CatalogError(f"no market to trade: {len(events)} events listed, left out: {reasons}")
    universe = _universe(events, pairs)
    return Catalog(universe=universe, left_out=dict(load.left_out), unanswered=load.unanswered)


# --- Gamma ------------------------------------------------------------------------------------


async def _list_events(gamma: JsonClient, load: _Load) -> list[_Event]:
    """Whole events, most traded first, while they fit the limit."""
    settings, events, count = load.settings, [], 0
    params = {"limit": PAGE_LIMIT, "closed": "false", "order": "volume24hr", "ascending": "false"}
    for _ in range(settings.pages_max):
        page = await gamma.get("/events/keyset", _EventsPage, params)
        for raw in page.events:
            event = _read_event(raw, load)
            if event is None or not event.listed:
                continue
            if count + len(event.listed) > settings.markets_max:
                load.left_out["over the limit of markets"] += len(event.listed)
                continue
            count += len(event.listed)
            events.append(event)
        if not page.next_cursor or count >= settings.markets_max:
            break
        params["after_cursor"] = page.next_cursor
    return events


def _read_event(raw: msgspec.Raw, load: _Load) -> _Event | None:
    try:
        gamma = decode_object(raw, GammaEvent)
    except Oddity as odd:
        load.leave_out(f"event unreadable: {odd}", "")
        return None
    if gamma.id in load.events:
        # The order by volume moves while we page through it.
        return None
    load.events.add(gamma.id)
    slugs = [(tag.slug or tag.label).lower() for tag in gamma.tags or ()]
    category = next((c for c in slugs if c in CATEGORIES), slugs[0] if slugs else "")
    wanted = load.settings.categories
    if wanted and not set(wanted) & {*slugs, category}:
        return None
    event = _Event(gamma=gamma, listed=[], market_ids=[])
    for item in gamma.markets:
        name = ""
        try:
            name = decode_object(item, MarketName).condition_id
            market = read_market(item, gamma, category, liquidity_min=load.settings.liquidity_min)
            load.claim(market.tokens)
            event.listed.append(market)
        except Oddity as odd:
            load.leave_out(str(odd), name)
        event.market_ids.append(MarketId(name))
    return event


# --- CLOB -------------------------------------------------------------------------------------


async def _check(
    clob: JsonClient, gate: asyncio.Semaphore, listed: ListedMarket, load: _Load
) -> tuple[MarketId, tuple[Market, Instrument, Instrument]] | None:
    """The market with the CLOB's rules, or nothing (counted)."""
    condition_id = listed.gamma.condition_id
    try:
        async with gate:
            rules = await clob.get(f"/clob-markets/{condition_id}", _ClobMarket)
        return MarketId(condition_id), _build(listed, rules, load.now_ns)
    except RequestRefused as error:
        # 404 for some minutes after Gamma lists a market (reference 4.2, "hydration").
        known = {404: "not yet in the CLOB (404)"}
        load.unanswered += error.status == 429 or error.status >= 500
        load.leave_out(known.get(error.status, f"CLOB refused (HTTP {error.status})"), condition_id)
    except TransportFailed:
        load.unanswered += 1
        load.leave_out("CLOB did not answer", condition_id)
    except AnswerInvalid:
        load.leave_out("CLOB answer unreadable", condition_id)
    except InstrumentError as error:
        load.leave_out("rules not tradable", f"{condition_id} ({error})")
    except Oddity as odd:
        load.leave_out(str(odd), condition_id)
    return None


def _build(
    listed: ListedMarket, rules: _ClobMarket, now_ns: int
) -> tuple[Market, Instrument, Instrument]:
    gamma = listed.gamma
    if {token.t: token.o for token in rules.t} != dict(
        zip(listed.tokens, listed.outcomes, strict=True)
    ):
        raise Oddity("CLOB and Gamma name different tokens")
    if rules.c.lower() != gamma.condition_id.lower() or rules.nr != bool(gamma.neg_risk):
        raise Oddity("CLOB and Gamma name different markets")
    tick = Price(exact_units(rules.mts, "tick"))
    min_qty = Qty(
        max(
            exact_units(rules.mos, "minimum"),
            exact_units(gamma.order_min_size or Decimal(0), "minimum"),
        )
    )
    fees = _dearer_fees(gamma, rules)
    market_id = MarketId(gamma.condition_id)
    yes, no = (
        Instrument(
            id=token,
            market_id=market_id,
            complement=other,
            outcome=outcome,
            tick=tick,
            min_qty=min_qty,
            fees=fees,
            neg_risk=rules.nr,
        )
        for token, other, outcome in zip(
            listed.tokens, reversed(listed.tokens), listed.outcomes, strict=True
        )
    )
    market = Market(
        id=market_id,
        question=gamma.question,
        yes=yes.id,
        no=no.id,
        slug=gamma.slug or "",
        category=listed.category,
        event_id=listed.event_id,
        end_ns=end_time_ns(gamma.end_date, now_ns),
        neg_risk=rules.nr,
        criteria=(gamma.description or "")[:CRITERIA_MAX],
    )
    return market, yes, no


def _dearer_fees(gamma: GammaMarket, rules: _ClobMarket) -> FeeSchedule:
    """The schedule that costs more where the two differ; a fee nobody states is not guessed."""
    stated = [(f.rate, f.exponent) for f in (gamma.fee_schedule,) if f is not None]
    stated += [(f.r, f.e) for f in (rules.fd,) if f is not None]
    if not stated:
        if gamma.fees_enabled:
            raise Oddity("fees enabled but no schedule")
        return FeeSchedule()
    # p(1-p) is at most 1/4, so the smaller exponent is the dearer one.
    rate, exponent = max(rate for rate, _ in stated), min(exponent for _, exponent in stated)
    if exponent != int(exponent):
        raise Oddity("fee exponent not whole")
    return FeeSchedule(rate=exact_units(rate, "fee rate"), exponent=int(exponent))


# --- the universe -----------------------------------------------------------------------------


def _universe(
    events: Sequence[_Event],
    pairs: Mapping[MarketId, tuple[Market, Instrument, Instrument]],
) -> Universe:
    sets: list[OutcomeSet] = []
    ladders: list[Ladder] = []
    for event in events:
        loaded = [m for m in event.market_ids if m in pairs]
        titles = {
            MarketId(m.gamma.condition_id): m.gamma.group_item_title or "" for m in event.listed
        }
        if event.gamma.neg_risk or event.gamma.enable_neg_risk:
            if len(loaded) >= 2:
                sets += _outcome_set(event, loaded, pairs)
            continue
        candidates = (
            Candidate(
                market_id=m,
                question=pairs[m][0].question,
                group_title=titles[m],
                end_ns=pairs[m][0].end_ns,
            )
            for m in loaded
        )
        ladders += find_ladders(event.gamma.id, event.gamma.title, candidates)
    instruments = {leg.id: leg for _, yes, no in pairs.values() for leg in (yes, no)}
    markets = {market_id: pair[0] for market_id, pair in pairs.items()}
    return Universe(
        instruments=instruments, markets=markets, sets=tuple(sets), ladders=tuple(ladders)
    )


def _outcome_set(
    event: _Event,
    loaded: Sequence[MarketId],
    pairs: Mapping[MarketId, tuple[Market, Instrument, Instrument]],
) -> list[OutcomeSet]:
    """The event's set, or none if its markets do not all belong to one neg-risk market."""
    ids = {m.gamma.neg_risk_market_id for m in event.listed if m.gamma.condition_id in loaded}
    set_id = next(iter(ids))
    if len(ids) != 1 or not set_id or not all(pairs[m][0].neg_risk for m in loaded):
        return []
    return [
        OutcomeSet(
            id=SetId(set_id),
            title=event.gamma.title,
            markets=tuple(loaded),
            augmented=bool(event.gamma.neg_risk_augmented),
            placeholders=frozenset(m for m in event.market_ids if m not in pairs),
        )
    ]
