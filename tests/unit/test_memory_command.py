"""``fleet memory`` and ``python -m fleet.forecasting.memory`` as a person uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from fleet.cli.main import main
from fleet.config import Paths
from fleet.forecasting.embedded_memory import EmbeddedMemory
from fleet.forecasting.memory import open_memory, report
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.research.memory_quality import measure, read_subjects
from tests.unit.test_embedding_cache import Counting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    for key in ("DATABASE_URL", "POLYAI_EMBEDDER", "OPENAI_API_KEY", "POLYAI_EMBEDDING_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    return tmp_path


@pytest.fixture
def news(tmp_path: Path) -> Path:
    path = tmp_path / "news.jsonl"
    rows = [
        {"title": "Central bank raises rates", "publishedAt": "2026-01-01T00:00:00Z"},
        {"title": "Central bank cuts rates", "publishedAt": "2026-03-01T00:00:00Z"},
        {"title": "Rain in London", "publishedAt": "2026-01-05T00:00:00Z"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_load_search_stats_export(
    home: Path, news: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", "load", str(news)]) == 0
    said = capsys.readouterr().out
    assert "news: 3 rows, 3 new" in said and "3 articles" in said
    assert main(["memory", "load", str(news)]) == 0
    assert "3 rows, 0 new" in capsys.readouterr().out

    assert main(["memory", "search", "rates of the central bank", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("NEWS" in line and "Central bank" in line for line in lines)
    assert main(["memory", "search", "rates cut", "--before", "2026-02-01"]) == 0
    assert "cuts" not in capsys.readouterr().out
    assert main(["memory", "search", "rates", "--before", "2025-01-01"]) == 1
    assert "nothing was known before 2025-01-01" in capsys.readouterr().err
    assert main(["memory", "search", "rates", "--kind", "resolved"]) == 1

    capsys.readouterr()
    assert main(["memory", "stats"]) == 0
    said = capsys.readouterr().out
    assert "hashed-ngrams-v1" in said and "3 articles" in said and "embedded" in said

    target = home / "export.jsonl"
    assert main(["memory", "export", str(target)]) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["text"] for row in rows][:1] == ["Central bank raises rates."]
    assert main(["memory", "load", str(target)]) == 0
    assert "an export: 3 rows, 0 new" in capsys.readouterr().out
    assert main(["memory", "export", str(home / "no" / "x.jsonl")]) == 2


@pytest.mark.parametrize("action", [["search", "x"], ["stats"], ["export", "e.jsonl"]])
def test_an_empty_memory_names_the_command_that_fills_it(
    home: Path, action: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", *action]) == 1
    assert "fleet memory load FILE" in capsys.readouterr().err
    assert not (home / "var").exists()


def test_wrong_input_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "load", str(home / "none.parquet")]) == 2
    assert "correct the path" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["memory", "search", "x", "--before", "yesterday"])
    assert "ISO 8601" in capsys.readouterr().err
    (home / ".env").write_text("POLYAI_EMBEDDER=word2vec\n")
    (home / ".env").chmod(0o600)
    assert main(["memory", "stats"]) == 2
    assert "hashed, minilm, openai" in capsys.readouterr().err


def test_the_report_of_the_module(home: Path, news: Path) -> None:
    def module() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fleet.forecasting.memory"],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, said = module()
    assert code == 1 and "fleet memory load FILE" in said
    assert main(["memory", "load", str(news)]) == 0
    assert module() == (0, "the memory holds 0 resolved questions, 0 forecasts, 3 articles\n")
    paths = Paths(root=home)
    assert report(paths, {"POLYAI_EMBEDDER": "x"})[0] == 1
    (home / "var" / "memory" / "memory.db").write_bytes(b"broken")
    code, said = report(paths, {})
    assert code == 1 and "restore" in said
    code, said = report(paths, {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"})
    assert code == 1 and "check DATABASE_URL" in said and "hunter2" not in said


def test_the_factory_takes_an_embedder(home: Path) -> None:
    with open_memory(MemoryEnv(), Paths(root=home), embedder=Counting()) as memory:
        assert isinstance(memory, EmbeddedMemory)
        assert memory.embedder.name == "counting"
        assert memory.directory == home / "var" / "memory"


# --- quality --------------------------------------------------------------------------------------


def _questions(path: Path) -> Path:
    """Two outcomes that their words tell: of gold YES, of tin NO; each asked when others are known."""
    rows = []
    for number in range(120):
        metal, outcome = ("gold", 1.0) if number % 3 else ("tin", 0.0)
        rows.append(
            {
                "question": f"Will the price of {metal} rise on day {number}?",
                "background": f"Exchange trading in the metal {metal} sets its price daily."
                f" This concerns session {number} of the {metal} contract and nothing else.",
                "event_slug": metal,
                "freeze_datetime": f"2026-{1 + number // 28:02}-{1 + number % 28:02}",
                "resolved": True,
                "resolution_date": f"2026-{1 + number // 28:02}-{1 + number % 28:02}",
                "resolved_to": outcome,
            }
        )
    pl.DataFrame(rows).write_parquet(path)
    return path


def test_the_measures_tell_an_embedder_that_finds(tmp_path: Path) -> None:
    found = measure(read_subjects(_questions(tmp_path / "q.parquet")), Counting())
    assert found.questions == found.prose_count == found.event_count == 120
    assert found.prose is not None and found.prose > 0.5
    assert found.event is not None and found.event > 0.95
    assert found.brier is not None and found.brier_base is not None
    assert found.brier < 0.05 < found.brier_base
    assert found.difference is not None and found.difference[1] < 0
    # Fifty outcomes must be known before the first is forecast, and none from its own day on.
    assert found.brier_count == 120 - 51


def test_evaluate_reports_what_it_cannot_measure(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", "evaluate", "--data", str(_questions(tmp_path / "q.parquet"))]) == 0
    said = capsys.readouterr().out
    assert "better than the base rate" in said
    assert "openai: not measured" in said and "minilm: not measured" in said
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "x.parquet")
    assert main(["memory", "evaluate", "--data", str(tmp_path / "x.parquet")]) == 2
    assert main(["memory", "evaluate", "--data", str(tmp_path / "none.parquet")]) == 2


@pytest.mark.realdata
def test_the_default_embedder_finds_real_questions(fleet_data: Path) -> None:
    from fleet.forecasting.hashed_ngrams import HashedNgrams

    path = fleet_data / "resolved" / "forecastbench" / "market_questions_joined.parquet"
    found = measure(read_subjects(path), HashedNgrams())
    assert found.prose is not None and found.prose > 0.6
    events = fleet_data / "resolved" / "gamma_elections_2024" / "top_election_markets.csv.gz"
    found = measure(read_subjects(events), HashedNgrams())
    assert found.event is not None and found.event > 0.55
