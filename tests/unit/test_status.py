import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.clock import ManualClock
from fleet.domain import events as ev
from fleet.engine.engine import Engine
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.journal.store import MemoryJournal
from fleet.runtime.components import Node, Phase, Supervisor
from fleet.runtime.reporting import Reporter
from fleet.runtime.runner import Runner
from fleet.runtime.status import Identity, StatusBoard, write_status
from tests.builders import (
    NS,
    Scripted,
    c,
    changed,
    deposit,
    filled,
    leg,
    no,
    order,
    orders_of,
    plan,
    snapshot,
    trading,
    universe,
    yes,
)
from tests.unit.test_components import Part

START = 1_795_000_000 * NS


class Desk:
    """A status board over a real engine that has bought ten shares."""

    def __init__(self, disk: Path) -> None:
        self.clock = ManualClock(START)
        self.state = State(universe(1))
        strategy = Scripted()
        engine = Engine(state=self.state, strategy=strategy, risk=Risk(RiskLimits()),
                        journal=MemoryJournal())  # fmt: skip
        self.runner = Runner(engine, self.clock, lambda: None)
        self.supervisor = Supervisor(
            [Node(component=Part("feed", [])), Node(component=Part("extra", []), required=False)],
            self.clock, lambda _why: None,
        )  # fmt: skip
        self.reporter = Reporter(self.state, opportunity="ARB OPPORTUNITY")
        self.board = StatusBoard(
            Identity(bot="Bot", mode="paper", feed="sandbox", started_ns=START),
            engine=engine, runner=self.runner, reporter=self.reporter,
            supervisor=self.supervisor, disk=disk,
        )  # fmt: skip
        for event in (deposit("1000"), snapshot(yes(), at=START), snapshot(no(), at=START),
                      trading(ev.TradingState.ACTIVE, at=START)):  # fmt: skip
            self.runner.handle(event)
        strategy.next = [plan(leg(yes(), limit="0.52"), leg(no())), order(0, price="0.52")]
        (sent,) = orders_of(engine.handle(changed(START)))
        self.runner.handle(filled(sent, "10", "0.52", fee="0.10", at=START))

    def healthy(self) -> None:
        for record in self.supervisor.records.values():
            record.phase = Phase.HEALTHY


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_snapshot_is_plain_data_that_reads_itself(desk: Desk) -> None:
    desk.healthy()
    desk.board.ready = True
    status = json.loads(json.dumps(desk.board.snapshot(START + 5 * NS), allow_nan=False))
    assert (status["bot"], status["mode"], status["feed"]) == ("Bot", "paper", "sandbox")
    assert status["pid"] == os.getpid()
    assert (status["trading"], status["trading_reason"]) == ("ACTIVE", "test")
    assert status["ready"] is True
    assert status["healthy"] is True
    assert status["ts_ns"] - status["started_ns"] == 5 * NS
    assert status["components"] == {"feed": "healthy", "extra": "healthy"}
    assert (status["cash"], status["day_pnl"]) == ("994.70", "0.00")
    assert status["legs"]["tried"] == 1
    assert status["rss_mb"] > 5
    assert (status["latency_us_p50"], status["backlog"]) == (None, 0)


def test_profit_is_marked_at_the_bid_or_at_cost_when_there_is_no_usable_book(desk: Desk) -> None:
    assert desk.board.pnl == c("994.7") + c("4.8") - c("1000")
    desk.runner.handle(ev.FeedDisconnected(connection="1", instruments=(yes(),), reason="x"))
    assert desk.board.pnl == 0


def test_unhealthy_is_what_a_required_component_or_the_runner_says(desk: Desk) -> None:
    assert desk.board.snapshot(START)["healthy"] is False
    desk.healthy()
    desk.supervisor.records["extra"].phase = Phase.GAVE_UP
    assert desk.board.snapshot(START)["healthy"] is True
    desk.runner.crashed("the disk is full")
    assert desk.board.snapshot(START)["healthy"] is False


def test_errors_of_runner_and_supervisor_are_added(desk: Desk) -> None:
    desk.healthy()
    desk.runner.handle(ev.FrameRejected(reason="not JSON"))
    desk.supervisor.failed("feed", "lost")
    assert desk.board.errors == 2


def test_the_metrics_are_four_short_texts_without_nan(desk: Desk) -> None:
    assert desk.board.metrics() == {
        "opps": 0, "P&L": "-0.50 USD", "p99": "no data", "mode": "paper/sandbox",
    }  # fmt: skip
    desk.runner.latency.add(5_000)
    assert desk.board.metrics()["p99"] == "5 us"


def test_the_table_has_every_row_the_log_promises(desk: Desk) -> None:
    desk.healthy()
    desk.runner.latency.add(5_000)
    table = desk.board.table(START + (3600 + 62) * NS)
    assert table[0] == "STATUS Bot on paper, feed sandbox"
    assert all(line.startswith("STATUS") for line in table)
    rows = {line[9:31].strip(): line[32:] for line in table[1:]}
    assert rows["uptime"] == "1h 1m 2s"
    assert rows["trading"] == "ACTIVE (test)"
    assert rows["opportunities"] == "opportunities=0"
    assert rows["trades"] == "0 executed, 0 fills"
    assert rows["legs"].startswith("tried=1 complete=0")
    assert rows["P&L"] == "$-0.50 total, $0.00 today, cash $994.70"
    assert rows["errors"] == "0 handled"
    assert rows["latency"] == "p50 5 us, p99 5 us"
    for word in ("CPU", "memory", "MB", "disk", "GB free"):
        assert word in rows["process"]
    assert rows["component feed"] == "healthy"


def test_the_file_is_replaced_in_one_step_and_private(tmp_path: Path) -> None:
    file = tmp_path / "status" / "bot.json"
    write_status(file, {"a": 1})
    before = file.stat().st_ino
    write_status(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 2}
    assert file.stat().st_ino != before
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert names(file.parent) == ["bot.json"]


def names(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_json_cannot_say_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "bot.json"
    write_status(file, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_status(file, {"a": float("nan")})
    assert json.loads(file.read_text()) == {"a": 1}


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("in the way")
    with pytest.raises(OSError, match="status"):
        write_status(tmp_path / "status" / "bot.json", {})
