"""``fleet reduce|flatten|cancel-all|halt --bot|resume`` against bots that answer, fail or are silent."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.cli.main import main
from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.journal.fleet import FleetState
from fleet.journal.halts import HaltCode
from fleet.journal.inbox import Answer, AnswerState, Asked, OperatorInbox

Reply = tuple[AnswerState, str]
DONE, FAILED, UNDER_WAY = AnswerState.DONE, AnswerState.FAILED, AnswerState.UNDER_WAY


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path


@pytest.fixture
def bots(root: Path) -> Iterator[Callable[..., list[Asked]]]:
    """Starts bots that hold a lease and give the replies they are told to give, in order."""
    path = root / "var" / "fleet.db"
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start(bot: str, *replies: Reply) -> list[Asked]:
        heard: list[Asked] = []
        with FleetState(path) as state:
            state.acquire(f"paper:{bot}", bot, 1, 600 * NS_PER_SECOND, LiveClock().now_ns())

        def listen() -> None:
            left = list(replies)
            with FleetState(path) as file:
                inbox = OperatorInbox(file)
                while not stopping.wait(0.02):
                    for asked in inbox.waiting(bot, f"{bot} paper sandbox"):
                        if asked not in heard:
                            heard.append(asked)
                        if left:
                            state_, detail = left.pop(0)
                            inbox.answer(
                                Answer(
                                    command_id=asked.id, seat=f"{bot} paper sandbox", bot=bot,
                                    state=state_, detail=detail, ts=1,
                                )
                            )  # fmt: skip

        thread = threading.Thread(target=listen)
        thread.start()
        threads.append(thread)
        return heard

    yield start
    stopping.set()
    for thread in threads:
        thread.join()


def test_every_bot_is_asked_and_says_what_it_did(
    bots: Callable[..., list[Asked]], capsys: pytest.CaptureFixture[str]
) -> None:
    arb = bots("ArbHunter", (DONE, "trading is REDUCING"))
    poly = bots("PolyAI", (UNDER_WAY, "a moment"), (DONE, "trading is REDUCING"))
    assert main(["reduce"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "ArbHunter paper sandbox: done: trading is REDUCING" in told
    assert told[-1].startswith(("PolyAI", "ArbHunter"))
    assert [one.action for one in arb] == [one.action for one in poly] == ["reduce"]


def test_one_bot_is_asked_by_any_spelling_of_its_name(
    bots: Callable[..., list[Asked]], capsys: pytest.CaptureFixture[str]
) -> None:
    arb = bots("ArbHunter", (DONE, "no order is open any more"))
    poly = bots("PolyAI")
    assert main(["cancel-all", "arbhunter"]) == 0
    assert [(one.action, one.target) for one in arb] == [("cancel-all", "ArbHunter")]
    assert poly == []
    assert "no order is open" in capsys.readouterr().out


def test_a_bot_that_fails_or_is_silent_is_told_and_the_code_says_so(
    bots: Callable[..., list[Asked]], capsys: pytest.CaptureFixture[str]
) -> None:
    bots("ArbHunter", (FAILED, "2 orders were not answered for"))
    bots("PolyAI")
    assert main(["cancel-all", "--wait", "0.5"]) == 1
    told = capsys.readouterr()
    assert "FAILED: 2 orders" in told.out
    assert "PolyAI: DID NOT ANSWER" in told.err


def test_what_is_still_under_way_is_not_done(
    bots: Callable[..., list[Asked]], capsys: pytest.CaptureFixture[str]
) -> None:
    bots("ArbHunter", (UNDER_WAY, "3 tokens left"))
    assert main(["flatten", "--yes", "--wait", "0.5"]) == 1
    assert "under way: 3 tokens left" in capsys.readouterr().out


def test_flatten_asks_before_it_sells(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["flatten"]) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt: "n")
    assert main(["flatten"]) == 1
    assert not (root / "var").exists()
    monkeypatch.setattr("builtins.input", lambda _prompt: "y")
    assert main(["flatten"]) == 0
    assert "no bot runs" in capsys.readouterr().out
    with FleetState(root / "var" / "fleet.db") as state:
        [asked] = OperatorInbox(state).waiting("Any", "Any paper sandbox")
        assert asked.action == "flatten"


def test_an_unknown_bot_is_refused_with_those_there_are(
    bots: Callable[..., list[Asked]], capsys: pytest.CaptureFixture[str]
) -> None:
    bots("ArbHunter")
    assert main(["reduce", "ArbHuntr"]) == 2
    assert "there are: ArbHunter" in capsys.readouterr().err


def test_a_bot_that_is_down_finds_it_at_its_next_start(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FleetState(root / "var" / "fleet.db") as state:
        state.release(state.acquire("paper:arbhunter", "ArbHunter", 1, 1, 1))
    assert main(["reduce", "ArbHunter"]) == 0
    assert "does not run; it is written down" in capsys.readouterr().out


def test_one_bot_is_halted_without_the_latch_and_resumed(
    root: Path, bots: Callable[..., list[Asked]]
) -> None:
    heard = bots("ArbHunter", (DONE, "trading is HALTED"), (DONE, "trading is ACTIVE"))
    assert main(["halt", "--bot", "ArbHunter", "spread", "looks", "wrong"]) == 0
    with FleetState(root / "var" / "fleet.db") as state:
        assert state.latched() is None
    assert main(["resume", "ArbHunter"]) == 0
    assert [(one.action, one.argument) for one in heard] == [
        ("pause", "spread looks wrong"),
        ("resume", ""),
    ]


def test_resume_without_a_latch_tells_every_bot(bots: Callable[..., list[Asked]]) -> None:
    heard = bots("ArbHunter", (DONE, "trading is ACTIVE"))
    assert main(["resume"]) == 0
    assert [one.action for one in heard] == ["resume"]


def test_clearing_the_latch_shows_the_remedy_and_leaves_the_bots_as_they_are(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FleetState(root / "var" / "fleet.db") as state:
        state.halt("fill t1", "ArbHunter", 1, code=HaltCode.UNKNOWN_FILL)
    assert main(["resume", "--yes"]) == 0
    assert "UNKNOWN_FILL: " in capsys.readouterr().out
    with FleetState(root / "var" / "fleet.db") as state:
        assert state.latched() is None
        assert OperatorInbox(state).waiting("ArbHunter", "seat") == []


def test_a_damaged_state_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "var" / "fleet.db"
    FleetState(path).close()
    path.write_bytes(path.read_bytes()[:5000])
    assert main(["reduce"]) == 1
    assert "fleet reduce: " in capsys.readouterr().err
