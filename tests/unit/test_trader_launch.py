"""The Trader's launcher: which work a mode is, and how it ends. Research is the real one in e2e."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.bots.trader import main
from fleet.runtime.trader_research import Job, Moves, ResearchFailed, Told, Validation
from fleet.runtime.trader_tokens import Token
from fleet.strategies.candles import Scorer
from fleet.strategies.rules import Rule


class Recorded:
    """A research that answers what it was made with, and keeps what it was asked."""

    def __init__(self, answer: Validation | None = None) -> None:
        self.answer = answer
        self.jobs: list[tuple[str, Job]] = []

    def _found(self, what: str, job: Job, told: Told) -> Validation:
        self.jobs.append((what, job))
        told("candles", 1, 1)
        if self.answer is None:
            raise ResearchFailed("no candles: give a file with --data")
        return self.answer

    def blank(self, job: Job, told: Told) -> Validation:
        return self._found("blank", job, told)

    def backtest(self, job: Job, told: Told) -> Validation:
        return self._found("backtest", job, told)

    def fresh(self, job: Job, age_ns: int, now_ns: int) -> Validation | None:
        self.jobs.append(("fresh", job))
        return None

    def acting(self, root: Path, name: str, token: Token) -> tuple[Rule, Scorer, int]:
        self.acted = name
        raise ResearchFailed(f"the model {name} is not asked for in these tests")

    def moves(self, jobs: Sequence[Job]) -> Moves:
        return Moves(volatilities={str(job.token): 0.0 for job in jobs}, correlations={})

    def compare(self, root: Path) -> Sequence[str]:
        return [f"models of {root.name}"]


def validation(*, passed: bool = True, synthetic: bool = False) -> Validation:
    return Validation(
        token="BINANCE:ETHUSDT", interval="1h", passed=passed, reason="" if passed else "no edge",
        model="abc", synthetic=synthetic, volatility=0.5, lines=("a line",), files=("r.html",),
    )  # fmt: skip


FAILING = f"""
import json, sys
answer = sys.argv[sys.argv.index("--answer") + 1]
json.dump({validation(passed=False).plain()!r}, open(answer, "w"))
"""
"""Stands in the place of the script that validates in a process of its own."""


def run(words: str, home: Path, research: Recorded, **environ: str) -> int:
    return main(words.split(), {"FLEET_HOME": str(home), **environ}, home, research)


@pytest.mark.parametrize("words", ["gui", "paper --gui", "gui --mode paper", "live --gui"])
def test_the_dashboard_is_not_there_yet(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words, tmp_path, Recorded()) == 69
    assert "the dashboard is not built yet" in capsys.readouterr().err


def test_blank_is_small_and_may_use_made_up_candles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    research = Recorded(validation(synthetic=True, passed=False))
    assert run("blank --symbol BTCUSDT", tmp_path, research) == 0
    ((what, job),) = research.jobs
    assert (what, job.trials, job.synthetic, str(job.token)) == (
        "blank", 4, True, "BINANCE:BTCUSDT",
    )  # fmt: skip
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "a line",
        "SYNTHETIC model abc: did not pass the gate: it will not trade",
        "SYNTHETIC wrote r.html",
    ]


def test_a_backtest_has_the_trials_of_the_settings_and_no_made_up_candles(tmp_path: Path) -> None:
    research = Recorded(validation())
    assert run("backtest", tmp_path, research, TRADER_TRIALS="7", TRADER_BARS="900") == 0
    ((what, job),) = research.jobs
    assert (what, job.trials, job.bars, job.synthetic) == ("backtest", 7, 900, False)
    run("backtest --trials 3", tmp_path, research)
    assert research.jobs[1][1].trials == 3


def test_what_research_cannot_do_is_told_with_its_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backtest", tmp_path, Recorded()) == 1
    assert "give a file with --data" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(Recorded):
        def backtest(self, job: Job, told: Told) -> Validation:
            raise KeyboardInterrupt

    assert run("backtest", tmp_path, Interrupted()) == 130
    assert "interrupted before the end" in capsys.readouterr().err


def test_research_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("research", tmp_path, Recorded()) == 0
    assert capsys.readouterr().out == f"models of {tmp_path.name}\n"


def test_wrong_settings_stay_down_and_name_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("backtest", tmp_path, Recorded(), SUPPORTED_TOKENS="ETHUSDT", TRADER_TRIAL="4")
    assert code == 78
    told = capsys.readouterr().err
    assert "write EXCHANGE:SYMBOL" in told
    assert "did you mean TRADER_TRIALS?" in told


def test_a_wrong_command_line_is_told_before_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        run("nonsense", tmp_path, Recorded(), TRADER_TRIALS="many")
    assert ended.value.code == 2


def test_a_dry_run_makes_the_checks_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    research = Recorded()
    assert run("blank --dry-run", tmp_path, research) == 0
    told = capsys.readouterr().out
    assert "packages" in told
    assert told.endswith("Trader blank: all checks passed\n")
    assert not research.jobs
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_did_not_pass_is_not_traded_not_even_on_paper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    research = Recorded()
    (tmp_path / "run_trader.py").write_text(FAILING)
    assert run("paper", tmp_path, research) == 78
    assert [what for what, _ in research.jobs] == ["fresh"]
    told = capsys.readouterr()
    assert "did not pass: no edge" in told.err
    assert "--unproven trades it all the same" in told.err
    assert not (tmp_path / "var" / "journal").exists()


def test_a_model_that_did_not_pass_is_traded_with_play_money_if_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    research = Recorded()
    (tmp_path / "run_trader.py").write_text(FAILING)
    assert run("paper --unproven", tmp_path, research) == 1
    assert research.acted == "abc"
    assert "UNPROVEN BINANCE:ETHUSDT: a model that did not pass" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("paper --symbol AAPL --exchange ALPACA", "ALPACA has no running feed here yet"),
        ("live", "orders on BINANCE do not pass the gate of docs/live.md yet"),
    ],
)
def test_what_is_not_wired_is_refused_with_honest_words(
    words: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words, tmp_path, Recorded()) == 69
    assert why in capsys.readouterr().err


def test_a_validation_survives_being_written() -> None:
    found = validation()
    assert Validation.of(found.plain()) == found
