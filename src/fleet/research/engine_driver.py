"""The engine driver: the bot's own engine, strategy, risk and paper venue over candles.

Theory of operation. Each candle becomes the ``BarClosed`` a feed would have sent at its close; what
was ordered meets, at the next candle's open, a book made of that open and the slippage: one deep
level each side, the side the order takes exactly where ``decision.fill_ticks`` says, so the paper
venue fills it there or, beyond its limit, not at all. Decisions, refusals, fills and settlements go
through the same state, journal and leg ledger as in paper and live trading.

The outcome has the shape of ``sweep.run``'s, and on the same candles the same content; that it has
is what makes the fast one worth believing. Unless ``limits`` say otherwise risk lets any size pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final

import numpy as np

from fleet.domain import events as ev
from fleet.domain.commands import Approved, Command, SubmitOrder
from fleet.domain.instruments import Instrument, InstrumentError, Market, Universe
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.engine import Engine, Journal
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.research.metrics import performance
from fleet.research.series import Candles
from fleet.research.sweep import Bars, Outcome
from fleet.runtime.memory import uncollected
from fleet.strategies import decision as d
from fleet.strategies.candles import EXIT, IDEA, STOPPED, CandleStrategy
from fleet.strategies.rules import Rule, Terms, parameters
from fleet.venues.paper import PaperSettings, PaperVenue

CHUNK: Final = 65_536
"""Candles turned into events at a time: memory stays flat over any length."""
_BOUNDLESS: Final = Cash(1 << 60)
UNLIMITED: Final = RiskLimits(
    max_order_notional=_BOUNDLESS, max_market_exposure=_BOUNDLESS, max_wallet_exposure=_BOUNDLESS,
    max_day_turnover=_BOUNDLESS, max_day_loss=_BOUNDLESS, stale_ns=1 << 62,
)  # fmt: skip
_DEEP: Final = Qty(1 << 60)
_AT_ONCE: Final = {
    "latency_ns": 0, "answer_ns": 0, "mined_ns": 0, "confirmed_ns": 0, "consumed_ns": 0,
}  # fmt: skip


class Forgetful:
    """A journal that counts refusals and keeps nothing else."""

    def __init__(self) -> None:
        """Nothing written yet."""
        self.written = 0
        self.refused: Counter[str] = Counter()

    def write(self, events: Sequence[ev.Event]) -> int:
        """Count the events and the refusal codes among them."""
        self.written += len(events)
        for event in events:
            if type(event) is ev.DecisionMade and event.refused:
                self.refused.update(refusal.code.value for refusal in event.refused)
        return self.written


def universe_of(instrument: Instrument) -> Universe:
    """A universe of one coin or share."""
    if instrument.ceiling:
        raise InstrumentError(f"{instrument.id} is an outcome token; candles are for coins, shares")
    market = Market(
        id=instrument.market_id, question=instrument.outcome, yes=instrument.id, no=instrument.id
    )
    return Universe(instruments={instrument.id: instrument}, markets={market.id: market})


class EngineDriver:
    """One engine with its paper venue, fed by candles."""

    def __init__(
        self,
        candles: Candles,
        rule: Rule,
        instrument: Instrument,
        terms: Terms,
        cash: Cash,
        *,
        scores: d.Floats | None = None,
        limits: RiskLimits = UNLIMITED,
        journal: Journal | None = None,
        ledger: Journal | None = None,
        bars_per_year: float | None = None,
    ) -> None:
        """Deposit ``cash`` and switch trading on. Raises ``ValueError`` as ``sweep.run`` does."""
        if rule.kind == "model_threshold" and (scores is None or len(scores) != len(candles)):
            raise ValueError("a model_threshold rule needs one score a bar")
        if not len(candles) or cash <= 0:
            raise ValueError("a run needs at least one bar, and cash")
        self.bars = Bars.of(candles, instrument.tick, bars_per_year=bars_per_year)
        self.journal = journal or Forgetful()
        self._candles = candles
        self._params = parameters(rule, terms)
        self._instrument = instrument
        self._start = cash
        self._scores = scores
        self._index = 0
        self._fills: list[tuple[int, int, int, int, int]] = []
        self._marks: list[tuple[int, int, int]] = [(0, int(cash), 0)]
        """From which bar on there is how much cash and how much held."""
        self._missed = 0
        self._order: SubmitOrder | None = None
        self.state = State(universe_of(instrument))
        self.strategy = CandleStrategy(instrument, rule, terms, self._score)
        self.engine = Engine(
            state=self.state, strategy=self.strategy, risk=Risk(limits), journal=self.journal
        )
        now_ns = int(candles.ts[0])
        self._venue = PaperVenue(
            settings=PaperSettings(cash=cash, **_AT_ONCE),
            instruments=self.state.universe.instruments,
            books=self.state.books,
            ledger=ledger or Forgetful(),
            now_ns=now_ns,
        )
        self._begin(now_ns)

    def _begin(self, now_ns: int) -> None:
        stamp = {"ts_event": now_ns, "ts_recv": now_ns}
        for fact in (
            ev.CashDeposited(**stamp, deposit_id="paper-start", amount=self._start),
            ev.Reconciled(**stamp, venue="paper", adopted=0),
            ev.TradingStateChanged(
                **stamp, state=ev.TradingState.ACTIVE, reason="candles begin", by="candles"
            ),
            self._quote(int(self.bars.open[0]), now_ns, buying=True),
        ):
            self.engine.handle(fact)

    def _score(self, _bar: ev.BarClosed) -> float:
        return float(self._scores[self._index]) if self._scores is not None else np.nan

    # --- the loop -----------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Feed all candles and report."""
        with uncollected():  # As the bots run: what a trade makes stays, and in no circle.
            self.feed(len(self.bars))
        return self.outcome()

    def feed(self, until: int) -> None:
        """Feed the candles up to before the index ``until``."""
        handle, interval_ns = self.engine.handle, self._candles.interval_ns
        token, bar, make = self._instrument.id, ev.BarClosed, tuple.__new__
        while self._index < until:
            first = self._index
            for row in islice(self._rows(first), until - first):
                opened_ns, opening, high, low, close, volume = row
                if self._order is not None:
                    self._meet(opening, opened_ns)
                closed_ns = opened_ns + interval_ns
                # What BarClosed(...) does, without its wrapper.
                values = (
                    closed_ns, closed_ns, token, interval_ns, opening, high, low, close, volume
                )  # fmt: skip
                commands = handle(make(bar, values))
                if commands:
                    self._carry_out(commands, closed_ns)
                self._index += 1

    def _rows(self, first: int) -> zip[tuple[int, Price, Price, Price, Price, Qty]]:
        """A chunk of candles as integers at 1e-8."""
        bars, part = self.bars, slice(first, first + CHUNK)
        columns = [
            (column[part].astype(np.int64) * bars.tick).tolist()
            for column in (bars.open, bars.high, bars.low, bars.close)
        ]
        volume = np.rint(self._candles.volume[part] * SCALE).astype(np.int64).tolist()
        return zip(self._candles.ts[part].tolist(), *columns, volume, strict=True)

    def _carry_out(self, commands: Sequence[Command], now_ns: int) -> None:
        for command in commands:
            if isinstance(command, Approved):
                if isinstance(command.request, SubmitOrder):
                    self._order = command.request
                self._venue.submit(command.request, now_ns)

    def _meet(self, opening: Price, now_ns: int) -> None:
        """The order in flight meets the open of the next candle."""
        order = self._order
        if order is None:
            return
        self._order = None
        buying = order.side is ev.Side.BUY
        handle = self.engine.handle
        handle(self._quote(opening // self.bars.tick, now_ns, buying=buying))
        for fact in self._venue.advance(now_ns):
            if type(fact) is ev.OrderFilled:
                self._note(order, fact)
            elif type(fact) is ev.OrderRejected:
                self._missed += 1
            commands = handle(fact)
            if commands:
                self._carry_out(commands, now_ns)
        portfolio = self.state.portfolio
        self._marks.append(
            (self._index, portfolio.cash, portfolio.position(self._instrument.id).qty)
        )

    def _quote(self, opening: int, now_ns: int, *, buying: bool) -> ev.BookSnapshot:
        """A book around an open: exact on the side the order takes, one tick off on the other."""
        at, tick = d.fill_ticks(self._params, opening, int(buying)), self.bars.tick
        bid, ask = (at - 1, at) if buying else (at, at + 1)
        bids = [(Price(bid * tick), _DEEP)] if bid > 0 else []
        return ev.BookSnapshot(
            now_ns, now_ns, self._instrument.id, bids, [(Price(ask * tick), _DEEP)]
        )

    def _note(self, order: SubmitOrder, fact: ev.OrderFilled) -> None:
        bundle = self.state.bundles.get(order.bundle_id)
        idea = bundle.plan.idea if bundle is not None else IDEA
        qty = fact.qty if fact.side is ev.Side.BUY else -fact.qty
        self._fills.append((self._index, qty, fact.price, fact.fee, _REASONS[idea]))

    # --- the outcome --------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """What happened to the candles fed so far."""
        fills = np.array(self._fills, np.int64).reshape(-1, d.COLUMNS)
        equity = self._equity()
        portfolio = self.state.portfolio
        return Outcome(
            fills=fills,
            equity=equity,
            cash=int(portfolio.cash),
            held=int(portfolio.position(self._instrument.id).qty),
            missed=self._missed,
            performance=performance(equity, fills, self._start, self.bars.bars_per_year),
        )

    def _equity(self) -> d.Integers:
        """Cash and holding at each close, exactly as the portfolio had them."""
        equity = np.empty(self._index, np.int64)
        closes = self.bars.close
        ends = [first for first, _, _ in self._marks[1:]] + [self._index]
        for (first, cash, qty), end in zip(self._marks, ends, strict=True):
            # Price x quantity in Python's own integers for one tick, then 64 bits suffice.
            whole, part = divmod(self.bars.tick * qty, SCALE)
            ticks = closes[first:end].astype(np.int64)
            equity[first:end] = cash + ticks * whole + ticks * part // SCALE
        return equity


_REASONS: Final = {IDEA: d.BUY, EXIT: d.SELL, STOPPED: d.SELL_STOP}


def drive(
    candles: Candles,
    rule: Rule,
    instrument: Instrument,
    terms: Terms,
    cash: Cash,
    *,
    scores: d.Floats | None = None,
    limits: RiskLimits = UNLIMITED,
) -> Outcome:
    """Trade all candles by one rule through the engine, from ``cash`` on."""
    driver = EngineDriver(candles, rule, instrument, terms, cash, scores=scores, limits=limits)
    return driver.run()
