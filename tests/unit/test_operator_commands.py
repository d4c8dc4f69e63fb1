"""``fleet halt``, ``fleet resume`` and ``fleet journal``, as an operator uses them."""

import io
from pathlib import Path

import pytest

from fleet.cli.main import main
from fleet.journal.fleet import FleetState, read_latch
from fleet.journal.store import JournalStore
from tests.unit.test_trades import STORY


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path


@pytest.fixture
def journal(root: Path) -> Path:
    path = root / "var" / "journal" / "arbhunter-paper.db"
    with JournalStore(path, bot="arbhunter", mode="paper", run_id="r1") as store:
        store.write(STORY)
    return path


def test_halt_then_resume(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["halt", "losing", "money"]) == 0
    latch = read_latch(root / "var" / "fleet.db")
    assert latch is not None
    assert latch.reason == "losing money"
    assert latch.ts > 0
    assert main(["halt", "again"]) == 0
    assert "halted already: losing money" in capsys.readouterr().out
    assert main(["resume"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert read_latch(root / "var" / "fleet.db") is not None
    assert main(["resume", "--yes"]) == 0
    assert read_latch(root / "var" / "fleet.db") is None
    assert main(["resume"]) == 0
    assert "not halted" in capsys.readouterr().out
    with FleetState(root / "var" / "fleet.db") as state:
        assert [entry.action for entry in state.history()] == ["HALT", "HALT", "RESUME"]


def test_a_halt_needs_a_reason(root: Path) -> None:
    with pytest.raises(SystemExit):
        main(["halt"])
    assert not (root / "var").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_resume_asks_on_a_terminal(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    main(["halt", "drill"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt: answer)
    assert main(["resume"]) == code
    assert (read_latch(root / "var" / "fleet.db") is None) == (code == 0)


def test_a_damaged_state_stays_halted_and_says_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "var" / "fleet.db"
    FleetState(path).close()
    path.write_bytes(path.read_bytes()[:5000])
    assert main(["resume", "--yes"]) == 1
    assert "restore" in capsys.readouterr().err
    assert main(["halt", "now"]) == 1
    assert "counts as halted all the same" in capsys.readouterr().err


def test_journal_by_bot_by_file_by_kind_and_tail(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", "ArbHunter"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [str(n) for n in range(1, len(STORY) + 1)]
    assert main(["journal", str(journal), "--kind", "OrderFilled", "--tail", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["8", "11"]
    assert all('"trade_id"' in line for line in lines)
    assert main(["journal", "arbhunter", "--fold"]) == 0
    assert f"{len(STORY)} entries, 3 fills" in capsys.readouterr().out


def test_journal_names_what_there_is(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "nobody"]) == 2
    assert journal.name in capsys.readouterr().err
    assert main(["journal", "no/such/file"]) == 2


def test_a_damaged_journal_is_told(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal.write_bytes(journal.read_bytes()[:4096])
    assert main(["journal", "arbhunter", "--fold"]) == 1
    assert "--restore" in capsys.readouterr().err
