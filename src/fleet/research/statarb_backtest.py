"""Recorded quotes through the engine, risk, paper venue and the very ``StatArb`` that trades.

Each poll becomes the books of both tokens (the NO book mirrored, a stated size at the touch) and
one sample of all two-sided quotes. What happens between polls is not known, so orders meet either
the books they were decided on (``later`` false) or, by a latency longer than the time between two
polls, those of the poll after: the pessimistic way, and the one that is judged.

What the recording cannot say is left to it: depth behind the touch, the NO side's own book, and how
the market would have answered. Nothing here chooses a setting or reads an outcome before its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, Intent
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, ZERO_CASH, Cash, Price, Qty, notional_down
from fleet.engine.bundle import Bundle
from fleet.engine.risk import RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.research.statarb_quotes import NS, Poll, Quote, QuoteRecording
from fleet.runtime.replay import Replay, ReplayReport, ReplaySettings
from fleet.strategies.legs import ExecutionSettings, next_step
from fleet.strategies.redemption import Redemptions
from fleet.strategies.sizing import Offer, take
from fleet.strategies.statarb import StatArb, StatArbSettings
from fleet.strategies.statarb_positions import IDEA
from fleet.strategies.statarb_relations import Kind, Relations
from fleet.venues.paper import PaperSettings

TOUCH: Final = Qty(200 * SCALE)
"""Shares assumed at each best price; the recordings have none."""
CASH: Final = Cash(10_000 * SCALE)
_MARKET: Final = (ev.BookSnapshot, ev.BookChanged, ev.TradePrinted, ev.PricesSampled)


@dataclass(frozen=True, slots=True)
class _PollFrame:
    """A poll as a frame of a replay: its number."""

    ts_recv: int
    payload: bytes
    kind: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadTrade:
    """One position from entry to end. Cash at 1e-8; times are seconds; ``legs`` the tokens bought.

    ``closed_s`` is when it was given up, or the end of the recording for what is still ``open``
    (then counted at its bids after fees, at nothing without one).
    """

    kind: Kind
    key: str
    groups: tuple[str, ...]
    legs: tuple[InstrumentId, ...]
    qty: Qty
    opened_s: int
    closed_s: int
    cost: Cash
    net: Cash
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """One run of one setting over the whole recording."""

    settings: StatArbSettings
    later: bool
    trades: tuple[SpreadTrade, ...]
    report: ReplayReport

    @property
    def figures(self) -> Mapping[str, int]:
        """The strategy's own counters."""
        return self.report.figures


class SpreadTrader:
    """``StatArb`` alone: what it proposes, and the work on what it opened."""

    def __init__(self, settings: StatArbSettings, view: View) -> None:
        """Trade by ``settings`` over the universe of ``view``."""
        self.idea = StatArb(settings, view)
        self._execution = settings.execution
        self._redemptions = Redemptions(write_off_ns=0)

    def on_event(self, event: ev.AnyEvent, view: View) -> Sequence[Intent]:
        """React to one event."""
        if isinstance(event, ev.PricesSampled):
            ids = (view.next_bundle_id(number) for number in range(1_000))
            return self.idea.propose(event, view, lambda: next(ids))
        if isinstance(event, _MARKET) or view.trading is not ev.TradingState.ACTIVE:
            return ()
        wishes: list[Intent] = []
        for bundle in tuple(view.open_bundles.values()):
            wishes.extend(next_step(bundle, view, self._execution))
        if isinstance(event, ev.TimerFired):
            wishes.extend(self._redemptions.wishes(view))
        return wishes

    def figures(self) -> Mapping[str, int]:
        """The strategy's own counters."""
        return self.idea.figures()


def run_backtest(
    recording: QuoteRecording, settings: StatArbSettings, *, later: bool, touch: Qty = TOUCH
) -> Backtest:
    """Trade the whole recording with one setting; all legs are sent at once.

    ``later`` lets orders meet the books of the poll after the decision.
    """
    spacing_ns = recording.spacing_s * NS
    paper = PaperSettings(cash=CASH, consumed_ns=spacing_ns)
    if later:
        # Longer than one poll, shorter than two.
        paper = PaperSettings(cash=CASH, consumed_ns=spacing_ns, latency_ns=spacing_ns * 5 // 4)
    source = _Source(recording, touch)
    replay = Replay(
        recording.universe,
        ReplaySettings(
            limits=RiskLimits(
                max_wallet_exposure=CASH,
                max_day_loss=CASH,
                max_market_exposure=settings.max_group,
                max_order_notional=settings.max_position,
                # Books are as old as the last poll that changed any of them.
                stale_ns=3_600 * NS,
            ),
            paper=paper,
            watchdog_ns=0,
        ),
        source.decode,
        lambda view: SpreadTrader(settings, view),
    )
    report = replay.run(source.frames())
    return Backtest(
        settings=settings,
        later=later,
        trades=tuple(_trades(replay.state, recording, settings)),
        report=report,
    )


def backtest_settings(settings: StatArbSettings) -> StatArbSettings:
    """The settings as a backtest needs them: every kind may stake, all legs go at once."""
    return replace(settings, stake_unproven=True, execution=ExecutionSettings(together=True))


class _Source:
    """The polls of a recording as events, made when their frame comes."""

    def __init__(self, recording: QuoteRecording, touch: Qty) -> None:
        self._polls = recording.polls
        self._markets = recording.universe.markets
        self._instruments = recording.universe.instruments
        self._touch = touch
        self._ends = sorted(
            (at_s, market, payout) for market, (at_s, payout) in recording.outcomes.items()
        )
        self._ended = 0

    def frames(self) -> Iterator[_PollFrame]:
        for number, poll in enumerate(self._polls):
            yield _PollFrame(poll.at_s * NS, str(number).encode())

    def decode(self, payload: bytes, ts_recv: int) -> Sequence[ev.AnyEvent]:
        poll = self._polls[int(payload)]
        events: list[ev.AnyEvent] = []
        for market in poll.gone:
            events += self._books((market, Price(0), Price(0)), ts_recv)
        for quote in poll.changed:
            events += self._books(quote, ts_recv)
        events += self._resolved(poll, ts_recv)
        events.append(ev.PricesSampled(ts_recv, ts_recv, poll.quotes, poll.references))
        return events

    def _books(self, quote: Quote, at_ns: int) -> tuple[ev.BookSnapshot, ev.BookSnapshot]:
        market_id, bid, ask = quote
        market = self._markets[market_id]
        tick = self._instruments[market.yes].tick
        bids = [(bid, self._touch)] if bid else []
        asks = [(ask, self._touch)] if ask else []
        no_bids = [(Price(SCALE - price), qty) for price, qty in asks]
        no_asks = [(Price(SCALE - price), qty) for price, qty in bids]
        return (
            ev.BookSnapshot(at_ns, at_ns, market.yes, bids, asks, tick),
            ev.BookSnapshot(at_ns, at_ns, market.no, no_bids, no_asks, tick),
        )

    def _resolved(self, poll: Poll, at_ns: int) -> Iterator[ev.MarketResolved]:
        """Markets whose last quote lies behind this poll pay what they paid."""
        while self._ended < len(self._ends) and self._ends[self._ended][0] < poll.at_s:
            _, market_id, payout = self._ends[self._ended]
            self._ended += 1
            market = self._markets[market_id]
            yield ev.MarketResolved(
                ts_event=at_ns,
                ts_recv=at_ns,
                market_id=market_id,
                payouts=((market.yes, payout), (market.no, Price(SCALE - payout))),
            )


# --- what came of it --------------------------------------------------------------------------


def _trades(
    state: State, recording: QuoteRecording, settings: StatArbSettings
) -> Iterator[SpreadTrade]:
    """Every position that bought anything, oldest first."""
    relations = Relations(recording.universe, max_legs=settings.max_legs)
    bundles = [b for b in state.bundles.image().bundles if b.plan.idea == IDEA]
    exits: dict[BundleId, list[Bundle]] = {}
    for bundle in bundles:
        if bundle.plan.exits:
            exits.setdefault(bundle.plan.exits, []).append(bundle)
    for bundle in bundles:
        relation = relations.named(bundle.plan.key)
        if bundle.plan.exits or not bundle.any_filled or relation is None:
            continue
        sold = exits.get(bundle.id, [])
        left, worth = _left(bundle, sold, state)
        ends = [one.opened_ns for one in sold if one.any_filled]
        # Unwound at once, or sold by later bundles, or resolved, or still held.
        closed_ns = max(ends) if ends else state.now_ns if left else bundle.opened_ns
        yield SpreadTrade(
            kind=relation.kind,
            key=bundle.plan.key,
            groups=relations.groups(relation),
            legs=tuple(leg.instrument_id for leg in bundle.plan.legs),
            qty=Qty(max(leg.filled for leg in bundle.legs)),
            opened_s=bundle.opened_ns // NS,
            closed_s=closed_ns // NS,
            cost=bundle.spent,
            net=Cash(bundle.cash + sum(one.cash for one in sold) + worth),
            open=left,
        )


def _left(bundle: Bundle, sold: Sequence[Bundle], state: State) -> tuple[bool, Cash]:
    """Whether anything of a position was not sold, and what that paid or would bring now."""
    worth, left = 0, False
    for plan, leg in zip(bundle.plan.legs, bundle.legs, strict=True):
        rest = leg.filled - leg.unwound
        for one in sold:
            for sale, state_of in zip(one.plan.legs, one.legs, strict=True):
                if sale.instrument_id == plan.instrument_id:
                    rest -= state_of.filled + state_of.unwound
        if rest <= 0:
            continue
        paid = state.resolved.get(plan.instrument_id)
        if paid is not None:
            worth += notional_down(paid.price, Qty(rest))
            continue
        left = True
        offer = Offer(
            state.universe.instruments[plan.instrument_id],
            Side.SELL,
            state.books[plan.instrument_id],
        )
        worth += (take(offer, Qty(rest)) or (ZERO_CASH, Price(0)))[0]
    return left, Cash(worth)
