"""The bot's side of what people ask: standing orders, cancel-all, flatten, over a real inbox."""

from pathlib import Path

import pytest

from fleet.clock import ManualClock
from fleet.domain import events as ev
from fleet.domain.commands import (
    BundleId,
    CancelOrder,
    ClientOrderId,
    CloseBundle,
    TimeInForce,
)
from fleet.engine.state import Payout, fold
from fleet.journal.fleet import FleetState
from fleet.journal.inbox import AnswerState, OperatorInbox
from fleet.runtime.operator import PATIENCE_NS, OperatorPart, holdings
from fleet.runtime.runner import Runner
from tests.builders import (
    MINED,
    NS,
    Rig,
    c,
    canceled,
    filled,
    leg,
    market_id,
    no,
    p,
    plan,
    settled,
    submit,
    trading,
    universe,
    yes,
)

SEAT = "ArbHunter paper sandbox"
DONE, FAILED, UNDER_WAY = AnswerState.DONE, AnswerState.FAILED, AnswerState.UNDER_WAY
TS = ev.TradingState


class Stage:
    """A bot's ear over a scripted engine, with a real ``fleet.db`` and a clock by hand."""

    def __init__(self, path: Path) -> None:
        self.rig = Rig(universe(3))
        self.rig.open_market(at=100 * NS)
        self.clock = ManualClock(100 * NS)
        self.fleet = FleetState(path)
        self.inbox = OperatorInbox(self.fleet)
        self.ready = True
        self.resumed = 0
        self.runner = Runner(self.rig.engine, self.clock, lambda: None)
        self.cancels: list[ClientOrderId] = []
        self.runner.execution = self  # type: ignore[assignment]
        self.part = OperatorPart(
            self.fleet, self.runner, self.clock, bot="ArbHunter", seat=SEAT,
            ready=lambda: self.ready, on_resumed=self._resumed,
        )  # fmt: skip

    def _resumed(self) -> None:
        self.resumed += 1

    def cancel(self, order_id: ClientOrderId) -> None:
        """The venue's side of a cancel."""
        self.cancels.append(order_id)

    def ask(self, action: str, target: str = "ArbHunter") -> int:
        return self.inbox.post(target, action, by="ann", ts=1)

    def look(self, seconds: int = 0) -> None:
        self.clock.advance(seconds * NS)
        self.part.beat()

    def said(self, number: int) -> tuple[AnswerState, str]:
        [answer] = self.inbox.answers(number)
        return answer.state, answer.detail

    def rest(self, name: str = "o1") -> None:
        order = submit(name, tif=TimeInForce.GTC)
        number = self.rig.state.decisions + 1
        opened = (plan(leg(yes())),) if number == 1 else ()
        self.rig.state.apply(ev.DecisionMade(decision=number, opened=opened, orders=(order,)))

    def hold(self, qty: str, number: int = 1) -> None:
        name = f"h{number}"
        self.rig.state.portfolio.fill(filled("old", qty, "0.5", trade=name, token=yes(number)))
        self.rig.state.portfolio.settle(settled(name, MINED))

    def trading(self) -> ev.TradingState:
        return self.rig.state.trading


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "fleet.db")


@pytest.mark.parametrize(
    ("action", "state"), [("pause", TS.HALTED), ("reduce", TS.REDUCING), ("resume", TS.ACTIVE)]
)
def test_standing_orders_switch_trading_and_are_journalled(
    stage: Stage, action: str, state: ev.TradingState
) -> None:
    number = stage.ask(action, "*")
    stage.look()
    assert stage.trading() is state
    assert stage.said(number) == (DONE, f"trading is {state.value}")
    assert fold(stage.rig.entries).operator == action
    assert stage.resumed == (action == "resume")
    before = len(stage.rig.entries)
    stage.look()
    assert len(stage.rig.entries) == before, "once"


def test_what_is_asked_of_another_bot_is_its_business(stage: Stage) -> None:
    stage.ask("pause", "PolyAI")
    stage.look()
    assert stage.trading() is TS.ACTIVE


def test_a_bot_that_starts_writes_the_order_down_and_switches_later(stage: Stage) -> None:
    stage.ready = False
    stage.rig.say(trading(TS.HALTED, reason="started, not reconciled yet"))
    number = stage.ask("reduce")
    stage.look()
    assert stage.trading() is TS.HALTED
    assert stage.rig.state.operator == "reduce"
    assert "when it is ready" in stage.said(number)[1]


def test_of_several_standing_orders_the_newest_counts(stage: Stage) -> None:
    first, second = stage.ask("flatten"), stage.ask("reduce")
    stage.look()
    assert stage.said(first) == (FAILED, "a newer order took its place")
    assert stage.said(second)[0] is DONE
    assert stage.trading() is TS.REDUCING


def test_cancel_all_halts_until_nothing_is_open_and_goes_back(stage: Stage) -> None:
    stage.rest("o1")
    stage.rest("o2")
    number = stage.ask("cancel-all")
    stage.look()
    assert stage.cancels == ["o1", "o2"]
    assert stage.trading() is TS.HALTED
    assert stage.said(number) == (UNDER_WAY, "waiting for the venue to answer for 2 orders")
    stage.rig.say(canceled("o1"))
    stage.look(1)
    assert stage.said(number)[1].endswith("1 orders")
    stage.rig.say(canceled("o2"))
    stage.look(1)
    assert stage.said(number) == (DONE, "no order is open any more; trading is ACTIVE")
    assert stage.trading() is TS.ACTIVE
    assert stage.rig.state.operator == "resume", "it is no standing order"


def test_cancels_that_go_unanswered_leave_it_halted_and_say_so(stage: Stage) -> None:
    stage.rest()
    number = stage.ask("cancel-all")
    stage.look()
    stage.look(PATIENCE_NS // NS)
    state, detail = stage.said(number)
    assert state is FAILED
    assert "o1" in detail
    assert "--direct" in detail
    assert stage.trading() is TS.HALTED
    stage.look(60)
    assert stage.trading() is TS.HALTED


def test_who_halts_meanwhile_is_not_overruled(stage: Stage) -> None:
    stage.rest()
    stage.ask("cancel-all")
    stage.look()
    stage.rig.say(trading(TS.HALTED, reason="kill latch"))
    stage.rig.say(canceled("o1"))
    stage.look(1)
    assert (stage.trading(), stage.rig.state.trading_reason) == (TS.HALTED, "kill latch")


def test_a_second_cancel_all_is_the_first(stage: Stage) -> None:
    stage.rest()
    stage.ask("cancel-all")
    stage.look()
    second = stage.ask("cancel-all")
    stage.look()
    assert stage.said(second) == (DONE, "all is being cancelled already")


def test_a_cancel_all_while_a_flatten_sells_is_refused(stage: Stage) -> None:
    stage.hold("10")
    stage.ask("flatten")
    stage.look()
    number = stage.ask("cancel-all")
    stage.look()
    assert stage.said(number)[0] is FAILED
    assert stage.trading() is TS.REDUCING
    pause = stage.ask("pause")
    stage.look()
    assert stage.said(pause)[0] is DONE
    assert stage.trading() is TS.HALTED


def test_flatten_cancels_then_reduces_until_nothing_can_be_sold(stage: Stage) -> None:
    stage.hold("10", 2)
    stage.hold("4.99", 3)
    stage.rest()
    number = stage.ask("flatten")
    stage.look()
    assert stage.trading() is TS.HALTED
    stage.rig.say(canceled("o1"))
    stage.look(1)
    assert stage.trading() is TS.REDUCING
    assert stage.rig.state.operator == "flatten"
    state, detail = stage.said(number)
    assert state is UNDER_WAY
    assert detail.startswith("1 tokens left, $5.00 at cost; 1 tokens stay")
    stage.rig.state.portfolio.positions.pop(yes(2))
    stage.rig.state.bundles.close(CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED"))
    stage.look(1)
    assert stage.said(number) == (
        DONE, "nothing is held that can be sold; 1 tokens stay (too few, or resolved)",
    )  # fmt: skip


def test_a_flatten_that_somebody_halts_says_why_it_stands_still(stage: Stage) -> None:
    stage.hold("10")
    number = stage.ask("flatten")
    stage.look()
    stage.rig.say(trading(TS.HALTED, reason="STALE_FEED"))
    stage.look(1)
    assert stage.said(number)[1].endswith("but trading is halted: STALE_FEED")


def test_resume_overtakes_a_flatten(stage: Stage) -> None:
    stage.hold("10")
    flatten = stage.ask("flatten")
    stage.look()
    resume = stage.ask("resume")
    stage.look()
    assert stage.said(flatten)[0] is FAILED
    assert stage.said(resume) == (DONE, "trading is ACTIVE")
    assert stage.trading() is TS.ACTIVE


def test_a_flatten_is_taken_up_again_by_the_next_process(stage: Stage) -> None:
    stage.hold("10")
    number = stage.ask("flatten")
    stage.look()
    reborn = OperatorPart(
        stage.fleet, stage.runner, stage.clock, bot="ArbHunter", seat=SEAT, ready=lambda: True
    )
    stage.rig.state.portfolio.positions.clear()
    reborn.beat()
    assert stage.said(number)[0] is DONE


def test_by_hand_goes_through_the_same_inbox(stage: Stage) -> None:
    told = stage.part.by_hand("reduce", None)
    assert told == {
        "trading": "REDUCING",
        "reason": "an operator asked to reduce",
        "outcome": "DONE: trading is REDUCING",
    }
    assert [answer.bot for answer in stage.inbox.answers(1)] == ["ArbHunter"]


def test_by_hand_works_without_the_inbox(stage: Stage) -> None:
    stage.fleet.db.execute("DROP TABLE answer")
    stage.fleet.db.execute("DROP TABLE command")
    told = stage.part.by_hand("pause", "disk")
    assert stage.trading() is TS.HALTED
    assert "not written into the inbox" in str(told["outcome"])
    stage.look()
    assert not stage.part.health().ok


def test_halt_by_hand_sets_the_latch(stage: Stage) -> None:
    assert stage.part.halt_fleet("looks wrong")["halted"] is True
    latch = stage.fleet.latched()
    assert latch is not None
    assert (latch.reason, latch.by) == ("looks wrong", "pm2 trigger")


def test_halt_by_hand_that_cannot_be_written_halts_this_bot(stage: Stage) -> None:
    stage.fleet.db.execute("DROP TABLE latch")
    assert stage.part.halt_fleet(None)["halted"] is False
    assert stage.trading() is TS.HALTED


def test_a_bot_that_is_ending_says_so(stage: Stage) -> None:
    stage.runner.crashed("the disk is gone")
    number = stage.ask("resume")
    stage.look()
    assert stage.said(number) == (FAILED, "it is ending: the disk is gone")


def test_what_counts_as_held(stage: Stage) -> None:
    state = stage.rig.state
    assert holdings(state) == (0, 0, 0)
    stage.hold("4.99", 1)
    assert holdings(state) == (0, 0, 1)
    state.portfolio.fill(filled("old", "1", "0.5", trade="n", token=no(1)))
    assert holdings(state) == (2, c("2.995"), 0), "a pair can be merged, however small"
    stage.hold("10", 2)
    state.resolved[yes(2)] = Payout(market_id(2), p("0"), NS)
    assert holdings(state) == (2, c("2.995"), 1)


def test_a_cancel_is_a_command_of_the_engine(stage: Stage) -> None:
    stage.rest()
    stage.ask("pause")
    stage.look()
    cancels = [e for e in stage.rig.entries if isinstance(e, ev.DecisionMade) and e.cancels]
    assert [one.cancels for one in cancels] == [(CancelOrder(client_order_id=ClientOrderId("o1")),)]
