"""What a person asks of a real bot on a real market: done, answered, and remembered."""

import signal
from pathlib import Path

import pytest

from fleet.domain import events as ev
from fleet.engine.state import State, fold
from fleet.journal.fleet import FleetState, read_latch
from fleet.journal.halts import HaltCode
from fleet.journal.inbox import OperatorInbox
from tests.builders import q
from tests.e2e.fleet_home import FleetHome
from tests.e2e.pm2_home import private_pm2, until
from tests.proof import entries_of, prove_files

pytestmark = pytest.mark.slow


def folded(root: Path) -> State:
    _, journal = entries_of(root)
    return fold(entry.event for entry in journal)


def loose(root: Path) -> int:
    """Tokens that are held and belong to no open bundle."""
    state = folded(root)
    worked = {leg.instrument_id for b in state.bundles.open.values() for leg in b.plan.legs}
    positions = state.portfolio.positions
    return sum(positions[token].qty >= q("5") for token in positions.keys() - worked)


def trading(home: FleetHome, wanted: str) -> None:
    until(lambda: home.status()["trading"] == wanted, f"{wanted}\n{home.tail()}", 20)


def test_flatten_sells_all_holds_over_a_kill_and_ends_with_resume(tmp_path: Path) -> None:
    # Ladders and sets of YES are held to resolution: what only a flatten sells.
    home = FleetHome(tmp_path, ARB_COMPLEMENT="false", ARB_MIN_YEARLY_RETURN="0")
    with home.sandbox():
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            until(lambda: loose(tmp_path) > 0, f"something is held\n{home.tail()}", 60)
            asked = home.fleet("flatten", "ArbHunter", "--yes", "--wait", "0.2")
            assert asked.returncode in {0, 1}, asked.stderr
            until(lambda: folded(tmp_path).operator == "flatten", "it is in the journal")
            bot.send_signal(signal.SIGKILL)
            bot.wait(10)
        with home.bot() as again:
            home.ready(pid=again.pid)
            trading(home, "REDUCING")
            with FleetState(home.paths.fleet_db) as state:
                inbox = OperatorInbox(state)
                until(
                    lambda: {a.state.value for a in inbox.answers(1)} == {"DONE"},
                    f"all is sold\n{home.tail()}",
                    90,
                )
                [answer] = inbox.answers(1)
            assert "nothing is held that can be sold" in answer.detail
            decisions = home.log().count("ARB OPPORTUNITY")
            resumed = home.fleet("resume", "ArbHunter")
            assert resumed.returncode == 0, resumed.stderr
            trading(home, "ACTIVE")
            until(lambda: home.log().count("ARB OPPORTUNITY") > decisions, "it trades again", 60)
            again.send_signal(signal.SIGTERM)
            assert again.wait(15) == 0
    prove_files(tmp_path)
    sold = [
        entry.event
        for entry in entries_of(tmp_path)[1]
        if isinstance(entry.event, ev.DecisionMade)
        and any(order.bundle_id == "flatten" for order in entry.event.orders)
    ]
    assert sold, "flatten itself sold something"


def test_reduce_cancel_all_and_halt_are_answered_and_remembered(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    with home.sandbox():
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            home.filled()
            cancelled = home.fleet("cancel-all")
            assert cancelled.returncode == 0, cancelled.stdout + cancelled.stderr
            assert "no order is open any more; trading is ACTIVE" in cancelled.stdout
            home.filled()
            reduced = home.fleet("reduce")
            assert reduced.returncode == 0, reduced.stderr
            assert "trading is REDUCING" in reduced.stdout
            bot.send_signal(signal.SIGTERM)
            assert bot.wait(15) == 0
        with home.bot() as again:
            home.ready(pid=again.pid)
            trading(home, "REDUCING")
            halted = home.fleet("halt", "--bot", "ArbHunter", "a", "drill")
            assert halted.returncode == 0, halted.stderr
            trading(home, "HALTED")
            assert read_latch(home.paths.fleet_db) is None
            assert home.fleet("halt", "enough").returncode == 0
            assert again.wait(15) == 78
    latch = read_latch(home.paths.fleet_db)
    assert latch is not None
    assert latch.code is HaltCode.OPERATOR
    prove_files(tmp_path)


def test_limits_over_all_bots_bind_a_real_bot(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, FLEET_MAX_EXPOSURE_USD="1")
    with home.sandbox(), home.bot() as bot:
        home.ready(pid=bot.pid)
        until(
            lambda: "REFUSED code=FLEET_EXPOSURE_REACHED" in home.log(),
            f"a refusal\n{home.tail()}",
            60,
        )
        assert "FILLED" not in home.log()


def test_more_errors_than_allowed_pause_the_bot_until_a_person_resumes(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, FLEET_MAX_ERRORS_PER_MINUTE="0")
    with home.sandbox() as _, home.bot() as bot:
        home.ready(pid=bot.pid)
    # The market is gone, so the feed fails, is restarted, and each restart counts as an error.
    with home.bot() as bot:
        until(lambda: "CATALOGUE not loaded yet" in home.log(), "it waits", 20)
        with home.sandbox():
            home.ready(pid=bot.pid)
        until(lambda: "ALERT code=ERROR_RATE" in home.log(), f"an alert\n{home.tail()}", 60)
        assert "remedy=" in home.log().split("ALERT code=ERROR_RATE")[1].splitlines()[0]
        assert folded(tmp_path).operator == "pause"
        assert read_latch(home.paths.fleet_db) is None


def test_the_same_orders_through_pm2(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    with private_pm2() as pm2:
        pm2.run("start", str(home.applications(pm2)))
        home.ready(within_s=60)
        assert "REDUCING" in pm2.run("trigger", "ArbHunter", "reduce", timeout_s=20)
        trading(home, "REDUCING")
        assert "DONE" in pm2.run("trigger", "ArbHunter", "resume", timeout_s=20)
        cancelled = pm2.run("trigger", "ArbHunter", "cancel-all", timeout_s=20)
        assert "DONE" in cancelled or "UNDER_WAY" in cancelled
        assert "DONE" in pm2.run("trigger", "ArbHunter", "flatten", timeout_s=20) or (
            folded(tmp_path).operator == "flatten"
        )
        trading(home, "REDUCING")
        with FleetState(home.paths.fleet_db) as state:
            asked = state.rows("SELECT action, by FROM command ORDER BY id")
        assert asked == [
            (action, "pm2 trigger") for action in ("reduce", "resume", "cancel-all", "flatten")
        ]
        halted = pm2.run("trigger", "ArbHunter", "halt", "a drill", timeout_s=20)
        assert "a drill" in halted
        until(lambda: pm2.app("ArbHunter").gave_up, f"it stays down\n{home.tail()}", 30)
        latch = read_latch(home.paths.fleet_db)
        assert latch is not None
        assert (latch.reason, latch.by) == ("a drill", "pm2 trigger")
    prove_files(tmp_path)
