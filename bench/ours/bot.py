"""The engine as ArbHunter runs it, over the one market of ``bench/frames.py``."""

from __future__ import annotations

from collections.abc import Sequence

from frames import MARKET, NO, YES

from fleet.domain.events import CashDeposited, Event, Reconciled, TradingState, TradingStateChanged
from fleet.domain.instruments import (
    FeeSchedule,
    Instrument,
    InstrumentId,
    Market,
    MarketId,
    Universe,
)
from fleet.domain.units import SCALE, Cash, parse_price
from fleet.engine.engine import Engine, Journal
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.legs import ExecutionSettings

START_NS = 1_760_000_000_000_000_000


class MemoryJournal:
    """Keeps what it is given; what the durable journal is compared with."""

    def __init__(self) -> None:
        """Empty."""
        self.events: list[Event] = []

    def write(self, events: Sequence[Event]) -> int:
        """Append and count."""
        self.events.extend(events)
        return len(self.events)


def universe() -> Universe:
    """One binary market with a cent tick and the fee of a politics market."""
    pair = ((YES, NO, "Yes"), (NO, YES, "No"))
    instruments = {
        InstrumentId(token): Instrument(
            id=InstrumentId(token),
            market_id=MarketId(MARKET),
            complement=InstrumentId(other),
            outcome=outcome,
            tick=parse_price("0.01"),
            fees=FeeSchedule(rate=4_000_000),
        )
        for token, other, outcome in pair
    }
    market = Market(
        id=MarketId(MARKET), question="Will it?", yes=InstrumentId(YES), no=InstrumentId(NO)
    )
    return Universe(instruments=instruments, markets={market.id: market})


def active_engine(journal: Journal) -> Engine:
    """State, ArbHunter's strategy and risk, funded and allowed to trade; legs go out together."""
    state = State(universe())
    # No pause between tries: the bench refuses every order and wants the next one at once.
    settings = ArbSettings(cooldown_ns=0, execution=ExecutionSettings(together=True))
    engine = Engine(
        state=state, strategy=Arbitrage(settings, View(state)), risk=Risk(RiskLimits()),
        journal=journal,
    )  # fmt: skip
    stamp = {"ts_event": START_NS, "ts_recv": START_NS}
    engine.handle(CashDeposited(**stamp, deposit_id="bench", amount=Cash(10_000 * SCALE)))
    engine.handle(Reconciled(**stamp, venue="bench", adopted=0))
    engine.handle(
        TradingStateChanged(**stamp, state=TradingState.ACTIVE, reason="bench", by="bench")
    )
    return engine
