"""What a bot stops itself for, whom it stops, and what it tells a person."""

from pathlib import Path

import pytest

from fleet.clock import ManualClock
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import Cash, Qty
from fleet.engine.portfolio import Position
from fleet.engine.state import fold
from fleet.journal.fleet import FleetState, Latch
from fleet.journal.halts import HALTS, HaltCode, Reach
from fleet.runtime.parts import DayBoard
from fleet.runtime.runner import Runner
from fleet.runtime.safety import Safety, SafetyWatch
from tests.builders import NS, Rig, c, deposit, filled, leg, plan, submit, trading, universe, yes

H = HaltCode


class Stage:
    """A bot's safety over a scripted engine, with a real ``fleet.db`` and a clock by hand."""

    def __init__(self, path: Path) -> None:
        self.rig = Rig(universe())
        self.rig.open_market(at=100 * NS)
        self.clock = ManualClock(100 * NS)
        self.fleet = FleetState(path)
        self.told: list[tuple[str, str, str]] = []
        self.errors = 0
        runner = Runner(self.rig.engine, self.clock, lambda: None)
        self.safety = Safety(self.fleet, runner, self.clock, self._tell, bot="ArbHunter")
        self.watch = SafetyWatch(
            self.rig.state, self.safety.trip, self.clock, errors=lambda: self.errors,
            errors_max=3, stale_ns=15 * NS,
        )  # fmt: skip

    def _tell(self, code: str, text: str, remedy: str = "") -> None:
        self.told.append((code, text, remedy))

    def rest(self, tif: TimeInForce = TimeInForce.GTC) -> None:
        """An order rests."""
        order = submit("o1", tif=tif)
        self.rig.state.apply(
            ev.DecisionMade(decision=1, opened=(plan(leg(yes())),), orders=(order,))
        )

    @property
    def latch(self) -> Latch | None:
        return self.fleet.latched()

    @property
    def halted(self) -> bool:
        return self.rig.state.trading is ev.TradingState.HALTED


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "fleet.db")


def test_all_well_stops_nothing(stage: Stage) -> None:
    stage.rest()
    for _ in range(10):
        stage.watch.beat()
        stage.clock.advance(NS)
    assert (stage.told, stage.latch, stage.halted) == ([], None, False)


@pytest.mark.parametrize(
    ("code", "latched"), [(code, HALTS[code].reach is Reach.FLEET) for code in HaltCode]
)
def test_each_reason_stops_whom_it_concerns(stage: Stage, code: HaltCode, latched: bool) -> None:
    stage.safety.trip(code, "for a test")
    assert stage.halted
    latch = stage.latch
    assert (latch is not None) is latched
    if latch is not None:
        assert (latch.code, latch.reason, latch.by) == (code, "for a test", "ArbHunter")
    paused = fold(stage.rig.entries).operator == "pause"
    assert paused is (not latched and HALTS[code].lasting)
    [(told, words, remedy)] = stage.told
    assert (told, words) == (code.value, "for a test")
    assert remedy
    assert "BOT" not in remedy


def test_a_reason_trips_once_until_a_person_allows_trading(stage: Stage) -> None:
    for _ in range(3):
        stage.safety.trip(H.STALE_FEED, "silent")
    assert len(stage.told) == 1
    stage.rig.say(trading(ev.TradingState.ACTIVE))
    stage.safety.allowed()
    stage.safety.trip(H.STALE_FEED, "silent again")
    assert len(stage.told) == 2
    assert stage.halted


def test_the_first_latch_stands(stage: Stage) -> None:
    stage.fleet.halt("by hand", "ann", 1)
    stage.safety.trip(H.DAY_LOSS, "lost")
    latch = stage.latch
    assert latch is not None
    assert latch.reason == "by hand"


def test_a_latch_that_cannot_be_written_still_halts_the_bot_and_tells(stage: Stage) -> None:
    stage.fleet.db.execute("DROP TABLE latch")
    stage.safety.trip(H.UNKNOWN_FILL, "strange")
    assert stage.halted
    assert [code for code, _, _ in stage.told] == ["UNKNOWN_FILL"]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (filled("nobodys", "5", "0.5"), H.UNKNOWN_FILL),
        (
            ev.FillSettled(trade_id=ev.TradeId("t9"), status=ev.SettlementStatus.MINED),
            H.UNKNOWN_FILL,
        ),
        (
            ev.OrderAccepted(
                client_order_id=ClientOrderId("o9"), venue_order_id=ev.VenueOrderId("v9")
            ),
            H.UNKNOWN_ORDER,
        ),
        (ev.SubmitUnknown(client_order_id=ClientOrderId("o9"), reason="x"), H.UNKNOWN_ORDER),
    ],
    ids=lambda value: value.value if isinstance(value, HaltCode) else type(value).__name__,
)
def test_what_the_venue_says_of_strangers(stage: Stage, event: ev.Event, code: HaltCode) -> None:
    stage.rig.say(event)
    stage.watch.beat()
    assert [told for told, _, _ in stage.told] == [code.value]
    assert stage.latch is not None


def test_another_contradiction_pauses_the_bot(stage: Stage) -> None:
    stage.rest()
    stage.rig.say(ev.OrderCanceled(client_order_id=ClientOrderId("o1"), reason="x"))
    stage.rig.say(ev.OrderRejected(client_order_id=ClientOrderId("o1"), reason="y"))
    stage.watch.beat()
    assert [told for told, _, _ in stage.told] == ["RECONCILIATION_DIFFERENCE"]
    assert stage.latch is None
    assert stage.rig.state.operator == "pause"


def test_less_than_nothing_latches(stage: Stage) -> None:
    stage.rig.say(deposit("-1000.01", "d2"))
    stage.watch.beat()
    assert stage.told[0][:2] == ("NEGATIVE_BALANCE", "cash -0.01")
    assert stage.latch is not None


def test_less_than_no_shares_latches(stage: Stage) -> None:
    stage.rig.state.portfolio.positions[yes()] = Position(qty=Qty(-1), cost=Cash(0))
    stage.watch.beat()
    assert stage.told[0][0] == "NEGATIVE_BALANCE"


def test_a_sale_of_more_than_is_held_latches(stage: Stage) -> None:
    stage.rest()
    stage.rig.say(filled("o1", "5", "0.5", side=Side.SELL))
    stage.watch.beat()
    assert stage.told[0][0] == "NEGATIVE_BALANCE"


def test_a_silent_feed_stops_only_a_bot_whose_orders_rest(stage: Stage) -> None:
    stage.rest(TimeInForce.FAK)
    stage.clock.advance(16 * NS)
    stage.watch.beat()
    assert stage.told == []


def test_a_silent_feed_while_orders_rest_pauses_the_bot(stage: Stage) -> None:
    stage.rest()
    stage.clock.advance(15 * NS)
    stage.watch.beat()
    assert stage.told == []
    stage.clock.advance(NS)
    stage.watch.beat()
    assert stage.told[0][:2] == ("STALE_FEED", "no market data for 16 s while 1 orders rest")
    assert stage.halted
    assert stage.rig.state.orders.open[ClientOrderId("o1")].status.value == "PENDING_CANCEL"


def test_errors_are_counted_over_a_minute(stage: Stage) -> None:
    for _ in range(20):  # One each half minute: never more than three within one.
        stage.errors += 1
        stage.clock.advance(30 * NS)
        stage.watch.beat()
    assert stage.told == []
    stage.errors += 3
    stage.watch.beat()
    assert stage.told[0][0] == "ERROR_RATE"
    assert stage.rig.state.operator == "pause"


def test_the_fleets_loss_of_a_day_trips_once(stage: Stage) -> None:
    day = DayBoard(
        stage.fleet, stage.clock, bot="ArbHunter", mode="paper", limit=c("100"),
        trip=stage.safety.trip,
    )  # fmt: skip
    stage.fleet.publish_day_pnl("PolyAI", "paper", "w", "1970-01-01", c("-60"))
    day(c("-39.99"))
    assert stage.told == []
    day(c("-40"))
    day(c("-41"))
    assert len(stage.told) == 1
    latch = stage.latch
    assert latch is not None
    assert latch.code is H.DAY_LOSS
    assert "lost $100" in latch.reason
