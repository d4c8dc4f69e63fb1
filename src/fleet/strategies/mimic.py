"""Copying leaders: what they buy is bought in part, and left when they leave.

``MimicTrader`` is one part of a bot's strategy. It proposes; whoever composes the strategy works
the bundles it opens (``fleet.strategies.working``). A copy is a bundle "COPY" of one BUY that
``answers`` to purchases of one leader in one token, and is held until the leader leaves
(``mimic_exits``) or the market is resolved. Small purchases wait for each other, and all wait while
an earlier copy of the same is under way, and are then copied together: a leader whose order fills
in a hundred pieces is copied in a few.

Each purchase is copied or refused, once, with a reason of a closed list (``CopyRefusal``), and both
are journalled: the copy in the decision that opens it, the refusal as ``CopyRefused``. The checks,
in order: the leader is copied; the market is known, open and not near its end; the purchase is
young; trading is on; the leader still has it and is not hedged; copied leaders together want this
side; the price has not run away; the limits leave room; the forecaster approves
(``mimic_approval``); size, depth and the venue's minimum. What may change in the next seconds
(trading, the book, an earlier copy, pieces still too small, the forecast) is waited for until the
purchase is old.

All it must know is in the view, so a restart goes on where the dead process was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from fleet.domain.commands import BundleId, Intent, LegPlan, OpenBundle, RequestForecast
from fleet.domain.events import (
    AnyEvent,
    CopyRefused,
    FillSettled,
    ForecastFailed,
    ForecastReceived,
    LeaderMoved,
    LeaderTraded,
    SightingUndone,
    TimerFired,
    TradingState,
    TradingStateChanged,
)
from fleet.domain.instruments import Instrument, InstrumentId, Market, MarketId, Side
from fleet.domain.knowledge import CopyRefusal
from fleet.domain.units import SCALE, Cash, Price, Qty, format_dollars, format_units, shares_for
from fleet.engine.leader_holding import Sighting
from fleet.engine.view import View
from fleet.strategies.correlation import Groups, cost_at
from fleet.strategies.legs import first_step
from fleet.strategies.mimic_approval import Answer, Approvals
from fleet.strategies.mimic_exits import Exits
from fleet.strategies.mimic_settings import MimicSettings
from fleet.strategies.mimic_stakes import IDEA, CopyStakes, affordable, key_of, under_way
from fleet.strategies.sizing import Offer, take

Wish = Intent | RequestForecast | CopyRefused
NextId = Callable[[], BundleId]
TICK = "tick"
Place = tuple[str, InstrumentId]


@dataclass(slots=True)
class MimicCounters:
    """Since the start of the process; what the journal knows is in ``View.leaders``."""

    seen: int = 0
    """Purchases and sales that were told of anybody who is followed, repetitions included."""
    watched: int = 0
    """Purchases of wallets that are only watched."""
    copied: int = 0
    """Copies opened; one may answer to several purchases."""


@dataclass(frozen=True, slots=True)
class _Why:
    """Why not: for good, or only not yet."""

    reason: CopyRefusal
    detail: str = ""
    yet: bool = False
    asks: bool = False
    """Whether a forecast would help."""


@dataclass(frozen=True, slots=True)
class _Want:
    """What is copied: purchases, what the leader has left of them, and on what terms."""

    place: Place
    market: Market
    instrument: Instrument
    group: Sequence[Sighting]
    left: Qty
    paid: Price
    """The leader's average price, rounded up."""
    limit: Price

    @property
    def key(self) -> str:
        return key_of(self.place[0], self.market.id, self.place[1])

    @property
    def cost(self) -> int:
        """The most a share may cost, fee in."""
        return self.limit + self.instrument.fees.per_share(self.limit)


class MimicTrader:
    """Copies, asks and leaves; see the module."""

    def __init__(self, settings: MimicSettings, view: View) -> None:
        """Trade the view's universe."""
        self.settings = settings
        self.counters = MimicCounters()
        self.approvals = Approvals(settings)
        self.exits = Exits(settings)
        self._groups = Groups(view.universe)
        self._placeholders = frozenset(m for one in view.universe.sets for m in one.placeholders)
        self._proposed: dict[BundleId, OpenBundle] = {}
        self._refusals: dict[str, int] = {}
        self._waits: dict[Place, _Why] = {}

    def propose(self, event: AnyEvent, view: View, next_id: NextId) -> Sequence[Wish]:
        """Requests, refusals, and bundles that open, each followed by its first orders."""
        if isinstance(event, ForecastReceived):
            self.approvals.received(event)
        elif isinstance(event, ForecastFailed):
            self.approvals.failed(event, view.now_ns)
        elif isinstance(event, LeaderTraded):
            self.counters.seen += 1
            bought = event.side is Side.BUY
            self.counters.watched += bought and not view.leaders.copies(event.wallet)
        refused = self._refused_by_risk(view)
        done = [(one.wallet, one.instrument_id) for one in refused]
        wishes: list[Wish] = list(refused)
        stakes: CopyStakes | None = None
        wishes += self._exits_due(event, view, next_id)
        for place in self._places_due(event, view):
            if place in done:
                continue  # It is in the view with the next event.
            if stakes is None:
                stakes = CopyStakes(view, self._groups)
            wishes += self._consider(place, event, view, stakes, next_id)
        return wishes

    def figures(self) -> Mapping[str, int]:
        """The counters by name; refusals as ``refused_`` and the reason."""
        refused = {f"refused_{name.lower()}": n for name, n in sorted(self._refusals.items())}
        return {
            **asdict(self.counters), "refused": sum(self._refusals.values()), **refused,
            **asdict(self.approvals.counters), **asdict(self.exits.counters),
        }  # fmt: skip

    def verdict(self) -> str:
        """What came of the leaders' purchases, in words."""
        counters, refused = self.counters, sum(self._refusals.values())
        if not counters.seen:
            return "copies: no leader was seen to trade yet"
        if not counters.copied and not refused:
            return f"copies: {counters.seen} trades seen, none of a wallet that is copied"
        most = max(self._refusals, key=lambda name: self._refusals[name], default="")
        why = f", most for {most}" if most else ""
        return f"copies: {counters.copied} opened, {refused} purchases refused{why}"

    # --- what is due --------------------------------------------------------------------------

    def _exits_due(self, event: AnyEvent, view: View, next_id: NextId) -> Sequence[Intent]:
        if isinstance(event, LeaderTraded):
            tokens: Sequence[InstrumentId] = (event.instrument_id,)
        elif isinstance(event, LeaderMoved):
            tokens = tuple(token for token, _ in event.changes)
        elif isinstance(event, SightingUndone | FillSettled | TradingStateChanged) or _tick(event):
            return self.exits.propose(view, next_id, None)
        else:
            return ()
        markets = frozenset(view.instrument(t).market_id for t in tokens if view.knows(t))
        return self.exits.propose(view, next_id, markets) if markets else ()

    def _places_due(self, event: AnyEvent, view: View) -> Sequence[Place]:
        if isinstance(event, LeaderTraded):
            place = event.wallet, event.instrument_id
            waits = self._waits.get(place)
            # Who waits for a forecast or a copy waits on, however many pieces come meanwhile.
            if (waits is not None and waits.asks) or _copied_now(place, view):
                return ()
            return (place,) if view.leaders.candidates(*place) else ()
        if isinstance(event, ForecastReceived):
            return [p for p in view.leaders.waiting() if _market_of(p, view) == event.market_id]
        if _tick(event):
            places = view.leaders.waiting()
            self._waits = {p: why for p, why in self._waits.items() if p in places}
            return places
        return ()

    def _refused_by_risk(self, view: View) -> Sequence[CopyRefused]:
        """The copies that were proposed and did not open."""
        refused = []
        for plan in self._proposed.values():
            if view.leaders.answered(plan.bundle_id):
                self.counters.copied += 1
                continue
            wallet, _, token = plan.key.split("|")
            why = _Why(CopyRefusal.RISK_REFUSED, plan.bundle_id)
            refused.append(self._refuse((wallet, InstrumentId(token)), plan.answers, why, view))
        self._proposed.clear()
        return refused

    def _refuse(self, place: Place, sightings: Sequence[str], why: _Why, view: View) -> CopyRefused:
        name = why.reason.value
        self._refusals[name] = self._refusals.get(name, 0) + len(sightings)
        return CopyRefused(
            ts_event=view.now_ns, ts_recv=view.now_ns, sightings=tuple(sightings),
            wallet=place[0], instrument_id=place[1], reason=why.reason, detail=why.detail,
        )  # fmt: skip

    # --- one leader's purchases of one token --------------------------------------------------

    def _consider(
        self, place: Place, event: AnyEvent, view: View, stakes: CopyStakes, next_id: NextId
    ) -> Sequence[Wish]:
        """Copy them, refuse them, or wait."""
        group = view.leaders.candidates(*place)
        old = [one for one in group if self._old(one, view)]
        group = [one for one in group if one not in old]
        wishes: list[Wish] = []
        if old:
            why = self._waits.get(place, _Why(CopyRefusal.SIGHTING_OLD))
            if any(self._late(one) for one in old):
                why = _Why(CopyRefusal.SIGHTING_OLD, "told too late")
            wishes.append(self._refuse(place, [one.id for one in old], why, view))
        if not group:
            self._waits.pop(place, None)
            return wishes
        final = not isinstance(event, ForecastReceived)
        found = self._judge(place, group, view, stakes, next_id, final=final)
        self._waits.pop(place, None)
        if isinstance(found, OpenBundle):
            self._proposed[found.bundle_id] = found
            return (*wishes, found, *first_step(found, view, self.settings.execution))
        if not found.yet:
            return (*wishes, self._refuse(place, [one.id for one in group], found, view))
        self._waits[place] = found
        if found.asks and final:
            market_id = view.instrument(place[1]).market_id
            request = self.approvals.request(market_id, view.now_ns)
            wishes += (request,) if request is not None else ()
        return wishes

    def _late(self, sighting: Sighting) -> bool:
        """Whether a purchase was too old when it was told."""
        told_ns = sighting.ts_recv - sighting.ts_event
        return sighting.ts_event > 0 and told_ns > self.settings.max_age_ns

    def _old(self, sighting: Sighting, view: View) -> bool:
        """Whether a purchase is copied no more."""
        settings = self.settings
        until_ns = (sighting.ts_event or sighting.ts_recv) + settings.max_age_ns
        if settings.min_ai_confidence:
            until_ns = max(until_ns, sighting.ts_recv + settings.approval_patience_ns)
        return self._late(sighting) or view.now_ns > until_ns

    def _judge(
        self,
        place: Place,
        group: Sequence[Sighting],
        view: View,
        stakes: CopyStakes,
        next_id: NextId,
        *,
        final: bool,
    ) -> OpenBundle | _Why:
        """All checks in order; the bundle if all of them hold."""
        want = self._wanted(place, group, view)
        if isinstance(want, _Why):
            return want
        if under_way(want.key, view):
            return _Why(CopyRefusal.COPY_UNDER_WAY, yet=True)
        token, instrument = place[1], want.instrument
        most = stakes.wanted(token, instrument.complement, self.settings.copy_ratio)
        shares = want.left * self.settings.copy_ratio // SCALE
        if most is not None:
            shares = min(shares, most - stakes.shares(token))
        if shares <= 0:
            return _Why(CopyRefusal.LEADERS_OPPOSED)
        book, least = view.book(token), instrument.least_qty(want.limit)
        if not book.usable:
            return _Why(CopyRefusal.BOOK_UNUSABLE, yet=True)
        if not book.ask_qty or book.ask > want.limit:
            asked = format_units(book.ask) if book.ask_qty else "nothing"
            return _Why(
                CopyRefusal.PRICE_RAN,
                f"asked {asked}, paid {format_units(want.paid)}, limit {format_units(want.limit)}",
            )
        room, bound = self._room(want, stakes)
        if shares_for(room, Price(want.cost)) < least:
            return _Why(bound, f"room for {format_dollars(room)}")
        if shares < least:
            return _Why(CopyRefusal.SIZE_SMALL, f"{format_units(shares)} shares", yet=True)
        depth = book.depth(Side.BUY, want.limit)
        if depth < least:
            return _Why(CopyRefusal.DEPTH_THIN, f"{format_units(depth)} shares")
        told_ns = min(one.ts_recv for one in group)
        opinion = self.approvals.opinion(
            want.market, token, want.cost, told_ns, view, final=final
        )  # fmt: skip
        if opinion.answer is not Answer.YES:
            waits = opinion.answer is Answer.WAIT
            return _Why(opinion.reason, opinion.detail, yet=waits, asks=waits)
        qty = affordable(instrument, want.limit, Qty(min(shares, depth)), room)
        return self._copy(want, qty, opinion.value, view, stakes, next_id)

    def _wanted(self, place: Place, group: Sequence[Sighting], view: View) -> _Want | _Why:
        """What the leader did, and whether the market, the leader and the moment are right."""
        (wallet, token), settings, leaders = place, self.settings, view.leaders
        if not leaders.copies(wallet):
            return _Why(CopyRefusal.NOT_COPIED)
        if not view.knows(token):
            return _Why(CopyRefusal.MARKET_UNKNOWN)
        instrument = view.instrument(token)
        market = view.universe.markets[instrument.market_id]
        if market.id in self._placeholders:
            return _Why(CopyRefusal.MARKET_UNKNOWN, "a placeholder")
        if token in view.resolved:
            return _Why(CopyRefusal.MARKET_RESOLVED)
        if market.end_ns and market.end_ns - view.now_ns < settings.min_left_ns:
            return _Why(CopyRefusal.MARKET_ENDING)
        if view.trading is not TradingState.ACTIVE or view.operator == "flatten":
            return _Why(CopyRefusal.TRADING_OFF, view.trading.value, yet=True)
        left = sum(leaders.left(one) for one in group)
        if left <= 0:
            return _Why(CopyRefusal.LEADER_LEFT)
        against = leaders.held(wallet, instrument.complement)
        if against * SCALE > leaders.held(wallet, token) * settings.hedge_ratio:
            return _Why(CopyRefusal.LEADER_HEDGED, f"holds {format_units(against)} against it")
        bought = sum(one.change for one in group)
        paid = Price(-(-sum(one.change * one.price for one in group) // bought))
        limit = min(paid + settings.max_slippage, settings.max_price)
        return _Want(
            place, market, instrument, group, Qty(left), paid,
            instrument.quantize_price(limit, Side.BUY),
        )  # fmt: skip

    def _room(self, want: _Want, stakes: CopyStakes) -> tuple[Cash, CopyRefusal]:
        """The dollars that may be spent, and what bounds them."""
        settings, wallet = self.settings, want.place[0]
        rooms = (
            (settings.max_copy - stakes.position(want.key), CopyRefusal.COPY_LIMIT),
            (settings.max_market - stakes.market(want.market.id), CopyRefusal.MARKET_LIMIT),
            (settings.max_leader - stakes.leader(wallet), CopyRefusal.LEADER_LIMIT),
            (settings.max_day - stakes.day, CopyRefusal.DAY_LIMIT),
            (int(stakes.free_cash), CopyRefusal.CASH_SHORT),
        )
        room, bound = min(rooms, key=lambda one: one[0])
        return Cash(max(0, room)), bound

    def _copy(
        self,
        want: _Want,
        qty: Qty,
        value: Price | None,
        view: View,
        stakes: CopyStakes,
        next_id: NextId,
    ) -> OpenBundle | _Why:
        """The bundle. A share is worth what the forecaster says, or else what the leader paid."""
        instrument, limit, token = want.instrument, want.limit, want.place[1]
        taken = take(Offer(instrument, Side.BUY, view.book(token)), qty) if qty > 0 else None
        if taken is None or qty < instrument.least_qty(limit):
            return _Why(CopyRefusal.SIZE_SMALL, f"{format_units(qty)} shares")
        budget = cost_at(limit, qty, instrument.fees.fee(limit, qty))
        worth = value if value is not None else want.paid
        stakes.add(want.key, want.market.id, budget, qty)
        leg = LegPlan(
            instrument_id=token, side=Side.BUY, qty=qty, limit=limit, unwind=view.book(token).tick
        )
        return OpenBundle(
            bundle_id=next_id(), idea=IDEA, key=want.key, legs=(leg,), start=None, finish=None,
            payoff=worth, budget=budget, edge=Cash(taken[0] + worth * qty // SCALE),
            answers=tuple(one.id for one in want.group),
        )  # fmt: skip


def _tick(event: AnyEvent) -> bool:
    return isinstance(event, TimerFired) and event.name == TICK


def _copied_now(place: Place, view: View) -> bool:
    market_id = _market_of(place, view)
    return market_id is not None and under_way(key_of(place[0], market_id, place[1]), view)


def _market_of(place: Place, view: View) -> MarketId | None:
    return view.instrument(place[1]).market_id if view.knows(place[1]) else None
