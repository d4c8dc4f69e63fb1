"""The guardian: how well kept processes do, what it writes, and whom it tells."""

import asyncio
import json
from pathlib import Path

import pytest

from fleet.clock import NS_PER_SECOND, ManualClock
from fleet.runtime.continuous import Ending, History, RestartPolicy, decide
from fleet.runtime.guardian import Guardian, GuardianSettings, Status, status_of, summary, worst
from fleet.runtime.kept_process import Command, KeptProcess, Standing

S = NS_PER_SECOND
START = 10**18
POLICY = RestartPolicy()


def running(failures: int = 0) -> Standing:
    return Standing(name="bot", pid=42, started_ns=START, history=History(failures=failures))


@pytest.mark.parametrize(
    ("standing", "pulse_s", "up_s", "expected"),
    [
        (running(), 1, 10, Status.HEALTHY),
        (running(), None, 10, Status.HEALTHY),
        (running(), 61, 100, Status.DEGRADED),
        (running(1), 1, 10, Status.DEGRADED),
        (running(1), 1, 600, Status.HEALTHY),
        (running(5), 1, 599, Status.CRITICAL),
        (running(9), 1, 600, Status.HEALTHY),
        (Standing(name="bot"), None, 0, Status.DEGRADED),
        (Standing(name="bot", history=History(failures=5)), None, 0, Status.CRITICAL),
        (Standing(name="bot", ended=True, code=78), None, 0, Status.CRITICAL),
        (Standing(name="bot", ended=True, code=0), None, 0, Status.HEALTHY),
    ],
)
def test_status(standing: Standing, pulse_s: int | None, up_s: int, expected: Status) -> None:
    pulse_ns = None if pulse_s is None else pulse_s * S
    assert status_of(standing, pulse_ns, START + up_s * S, 600 * S) is expected


def test_the_whole_does_as_well_as_the_worst() -> None:
    assert worst([]) is Status.HEALTHY
    assert worst([Status.HEALTHY, Status.CRITICAL, Status.DEGRADED]) is Status.CRITICAL


class House:
    """A guardian over one kept process that was never started."""

    def __init__(self, root: Path) -> None:
        self.clock = ManualClock(START)
        self.alerts: list[tuple[str, str, str]] = []
        self.notices: list[tuple[str, str]] = []
        self.told = asyncio.Event()
        self.file = root / "wrapper" / "w.json"
        self.guardian = Guardian(
            self.file, POLICY, self.clock, self._alert, self._notice,
            GuardianSettings(heartbeat_s=0.001, notice_s=3_600),
            lambda name: {"pnl": "1.50", "of": name},
        )  # fmt: skip
        command = Command(name="bot", words=["true"], environ={}, home=root)
        self.kept = KeptProcess(command, POLICY, self.clock, self.guardian.told)
        self.guardian.kept = [self.kept]

    def _alert(self, code: str, text: str, remedy: str = "") -> None:
        self.alerts.append((code, text, remedy))

    def _notice(self, code: str, text: str) -> None:
        self.notices.append((code, text))
        self.told.set()

    def ends(self, code: int, uptime_s: int, history: History) -> None:
        uptime_ns = uptime_s * S
        decision = decide(POLICY, history, Ending(code=code, uptime_ns=uptime_ns))
        standing = self.kept.standing
        standing.history, standing.reason = decision.history, decision.reason
        standing.ended, standing.code = not decision.restart, decision.code
        self.guardian.told(standing, decision, uptime_ns)


def test_a_restart_is_told_with_attempt_reason_uptime_and_delay(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.ends(-9, 90, History(restarts=2, failures=1))
    ((code, text, remedy),) = house.alerts
    assert code == "RESTART bot"
    assert text == (
        "attempt 3/1000: it was ended by SIGKILL; it ran for 90 s, 2 failures in a row;"
        " next start in 60 s"
    )
    assert remedy
    report = json.loads(house.file.read_text())
    assert report["status"] == "degraded"
    assert report["processes"][0]["last_reason"] == "it was ended by SIGKILL"


def test_a_process_that_stays_down_is_told_with_what_to_do(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.ends(1, 1, History(restarts=9, failures=9))
    ((code, text, remedy),) = house.alerts
    assert code == "DOWN bot"
    assert "10 failures in a row" in text
    assert "repair" in remedy
    assert json.loads(house.file.read_text())["status"] == "critical"


def test_a_manual_stop_alarms_nobody(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.ends(0, 5, History())
    assert not house.alerts


def test_people_are_told_every_hour_and_the_file_is_written_at_every_beat(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def two_hours() -> None:
        run = asyncio.create_task(house.guardian.run())
        for wanted in (1, 2):
            await asyncio.sleep(0.02)
            assert len(house.notices) == wanted - 1
            house.clock.advance(3_600 * S)
            await asyncio.wait_for(house.told.wait(), 10)
            house.told.clear()
        run.cancel()

    asyncio.run(two_hours())
    code, text = house.notices[0]
    assert code == "HEALTH degraded"
    assert text == "bot degraded, up 0 s, 0 restarts, pnl 1.50, of bot"
    assert json.loads(house.file.read_text())["uptime_s"] == 7_200


def test_a_disk_that_takes_no_heartbeat_is_not_fatal(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.file.parent.write_text("a file where the folder should be")
    house.guardian.beat()
    assert house.file.parent.is_file()


def test_a_summary_of_nothing_is_empty() -> None:
    assert summary([]) == ""
