"""`fleet evaluate forecasts` on files made here: what it finds, what it refuses, what it writes."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fleet.cli.main import main
from fleet.research.forecast_questions import (
    QuestionFileError,
    items_of,
    part,
    read_questions,
    record_end_ns,
    text_of,
)
from fleet.sandbox.models.server import ModelServer
from tests.forecast_world import file_rows, write_file

Rows = list[dict[str, Any]]


def _run(path: Path, *more: str) -> int:
    return main(["evaluate", "forecasts", "--data", str(path), *more])


@pytest.fixture
def fair(tmp_path: Path) -> Path:
    return write_file(tmp_path / "fair.parquet", file_rows())


def test_against_a_fair_price_no_edge_is_found(
    fair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, picture = tmp_path / "n.json", tmp_path / "p.png"
    assert _run(fair, "--json", str(numbers), "--png", str(picture)) == 0
    told = capsys.readouterr().out
    held = json.loads(numbers.read_text())
    assert "Verdict: no edge found: the weight is 0, the blend is the price, no stake" in told
    assert held["may_bet"] == []
    assert held["verdict"] in told
    blend, price = held["scores"]["blend"], held["scores"]["price"]
    assert blend["brier"] == price["brier"]
    assert blend["against_price"]["mean"] == 0.0
    for part_name in ("earlier", "later"):
        assert f"asked {held[part_name]['asked_from']} to {held[part_name]['asked_to']}" in told
    assert held["earlier"]["asked_to"] < held["split"] <= held["later"]["asked_from"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [name.name for name in tmp_path.iterdir() if name.name.startswith(".")] == []


def test_where_prices_are_wrong_in_one_place_it_may_bet_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prices of one source are too high by a log odds of 1.6; the other's are fair."""
    wrong = [row for row in file_rows(1_000, shift=-1.6) if row["source"] == "poly"]
    fair = [row for row in file_rows(1_000, seed=2) if row["source"] == "mani"]
    path = write_file(tmp_path / "wrong.parquet", [*wrong, *fair])
    numbers = tmp_path / "n.json"
    assert _run(path, "--json", str(numbers)) == 0
    held = json.loads(numbers.read_text())
    assert held["may_bet"] == ["poly"]
    assert "edge found in poly: it may bet there and nowhere else" in capsys.readouterr().out
    weights = {one["name"]: one["weight"] for one in held["sources"]}
    assert weights["poly"] > 0.3 and weights["mani"] == 0.0
    assert held["scores"]["blend"]["against_price"]["high"] < 0.0


def test_a_second_run_says_the_same(fair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(fair) == 0
    first = capsys.readouterr().out
    assert _run(fair) == 0
    assert capsys.readouterr().out == first


def test_the_order_of_rows_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.parquet"
    for rows in (file_rows(), file_rows()[::-1]):
        write_file(path, rows)
        assert _run(path) == 0
    first, second = capsys.readouterr().out.split("Forecaster statistical on ")[1:]
    assert first == second


def test_outcomes_of_the_later_part_move_no_forecast_and_no_weight(tmp_path: Path) -> None:
    rows = file_rows()
    held = []
    split = part(read_questions(write_file(tmp_path / "a.parquet", rows))).split_ns
    for flip in (False, True):
        changed = [
            row | {"resolved_to": 1.0 - row["resolved_to"]}
            if flip and datetime.fromisoformat(row["freeze_datetime"]).timestamp() * 1e9 >= split
            else row
            for row in rows
        ]
        path = write_file(tmp_path / "b.parquet", changed)
        assert _run(path, "--split", text_of(split), "--json", str(tmp_path / "n.json")) == 0
        held.append(json.loads((tmp_path / "n.json").read_text()))
    assert held[0]["earned"] == held[1]["earned"]
    assert held[0]["scores"]["price"]["brier"] != held[1]["scores"]["price"]["brier"]


@pytest.mark.parametrize("model", ["market", "base-rate"])
def test_benchmarks_can_be_judged_too(
    fair: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(fair, "--model", model) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Forecaster {model} on")
    assert "Verdict: no edge found" in told


def test_a_language_model_without_a_key_names_the_setting(fair: Path, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "FLEET_HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", "fleet.cli.main", "evaluate", "forecasts", "--data", str(fair),
         "--model", "llm:gpt-5-mini"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "POLYAI_LLM_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_language_model_is_asked_and_judged_like_the_others(tmp_path: Path) -> None:
    """Over real HTTP against the local model server, whose answers are the price and noise."""
    path = write_file(tmp_path / "few.parquet", file_rows(48))
    words = ["-m", "fleet.cli.main", "evaluate", "forecasts", "--data", str(path),
             "--model", "llm:gpt-5-mini", "--json", str(tmp_path / "n.json")]  # fmt: skip

    async def story() -> tuple[int | None, str, str]:
        server = ModelServer(time.time_ns)
        port = await server.start()
        env = {
            "PATH": os.environ["PATH"], "FLEET_HOME": str(tmp_path), "LANG": "C.UTF-8",
            "POLYAI_LLM_API_KEY": "test-key", "POLYAI_LLM_SAMPLES": "1",
            "POLYAI_LLM_SAMPLES_MIN": "1", "POLYAI_LLM_DAY_BUDGET_USD": "50",
            "POLYAI_LLM_BASE_URL": f"http://127.0.0.1:{port}/models/v1",
        }  # fmt: skip
        try:
            done = await asyncio.create_subprocess_exec(
                sys.executable, *words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            out, err = await asyncio.wait_for(done.communicate(), 100)
            return done.returncode, out.decode(), err.decode()
        finally:
            await server.stop()

    code, out, err = asyncio.run(story())
    assert (code, err) == (0, "")
    assert out.startswith("Forecaster llm:gpt-5-mini on")
    held = json.loads((tmp_path / "n.json").read_text())
    assert held["failures"] == 0 and held["cost_usd"] > 0
    assert held["scores"]["forecast"]["brier"] != held["scores"]["price"]["brier"]
    assert "test-key" not in out


# --- parts ---------------------------------------------------------------------------------------


def test_no_question_is_on_both_sides_and_nothing_undue_teaches(tmp_path: Path) -> None:
    rows = file_rows()
    again = [
        row | {"freeze_datetime": asked, "freeze_value": 0.5}
        for row in rows[::3]
        for asked in ("2026-01-03T00:00:00+00:00", "2026-03-01T00:00:00+00:00")
        if asked < row["resolution_date"]
    ]
    questions = read_questions(write_file(tmp_path / "f.parquet", [*rows, *again]))
    moments = sorted({one.question.as_of_ns for one in questions.rows})
    checked = 0
    for split in moments[5:-3]:
        parts = part(questions, split)
        earlier, later = ({one.question.id for one in p} for p in (parts.earlier, parts.later))
        assert not earlier & later
        assert all(one.known_ns <= split for one in parts.earlier)
        assert all(one.question.closes_ns < split for one in parts.earlier)
        assert all(one.question.as_of_ns >= split for one in parts.later)
        assert len(parts.earlier) + len(parts.later) + parts.between == len(questions.rows)
        checked += parts.between > 0
    assert checked


def test_the_default_split_has_most_questions_on_the_smaller_side(fair: Path) -> None:
    questions = read_questions(fair)

    def smaller(split: int) -> int:
        parts = part(questions, split)
        return min(len({a.question.id for a in p}) for p in (parts.earlier, parts.later))

    chosen = part(questions).split_ns
    moments = sorted({one.question.as_of_ns for one in questions.rows})[3:-1]
    assert smaller(chosen) == max(map(smaller, moments))


def test_rows_that_cannot_count_are_left_out_and_said(tmp_path: Path) -> None:
    rows = file_rows()
    more = [
        rows[0] | {"id": "open", "resolved": False, "resolved_to": 0.4},
        rows[0] | {"id": "half", "resolved_to": 0.5},
        rows[0] | {"id": "late", "resolution_date": "2025-12-01"},
        rows[0] | {"freeze_value": 0.9},
    ]
    questions = read_questions(write_file(tmp_path / "f.parquet", [*rows, *more]))
    assert dict(questions.left_out) == {
        "not resolved": 1, "resolved to neither YES nor NO": 1, "resolved before it was asked": 1,
        "asked twice at one moment": 1,
    }  # fmt: skip
    assert len(questions.rows) == len(rows)


def test_an_outcome_is_known_the_day_after_and_a_future_one_not_yet(tmp_path: Path) -> None:
    rows = file_rows()
    rows[0] |= {"resolution_date": "2031-12-31", "close": "2031-12-31T00:00:00+00:00"}
    rows[1] |= {"resolution_date": "2026-06-20", "close": "2026-07-20T00:00:00+00:00"}
    questions = read_questions(write_file(tmp_path / "f.parquet", rows))
    first = next(one for one in questions.rows if one.question.id == "poly:n0")
    assert text_of(first.known_ns) == "2032-01-01"
    parts = part(questions)
    assert first not in parts.earlier + parts.later
    item = next(one for one in items_of(questions.rows) if one.id == "poly:n0")
    assert item.known_ns == first.known_ns
    # Dated by its close: the record was taken long before, when somebody last saw an early end.
    assert text_of(record_end_ns(questions.rows)) == "2026-06-21"


def test_events_are_found_by_their_words(tmp_path: Path) -> None:
    rows = file_rows()
    for n, name in enumerate(("Ann Lee", "Bo Hall", "Cy Orr")):
        rows[n * 2] |= {"question": f"Will {name} win the 2026 mayoral election of Springfield?"}
    rows[6] |= {"event_id": "given"}
    rows = [row | {"event_id": row.get("event_id")} for row in rows]
    questions = read_questions(write_file(tmp_path / "f.parquet", rows))
    event = {one.question.id: one.question.event_id for one in questions.rows}
    assert event["poly:n0"] == event["poly:n2"] == event["poly:n4"]
    assert event["poly:n6"] == "given"
    assert len({event["mani:n1"], event["poly:n0"], event["mani:n3"]}) == 3


# --- bad input -----------------------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "a column is missing": (
        lambda rows: [{k: v for k, v in row.items() if k != "freeze_value"} for row in rows],
        "has no column freeze_value; it needs source, id,",
    ),
    "nothing is resolved": (
        lambda rows: [row | {"resolved": False} for row in rows],
        "none of its 240 rows is resolved; give a file with outcomes",
    ),
    "one outcome only": (
        lambda rows: [row | {"resolved_to": 0.0} for row in rows],
        "all 240 the same way went YES or NO; both are needed",
    ),
    "a price is not a number": (
        lambda rows: [rows[0] | {"freeze_value": float("nan")}, *rows[1:]],
        "question 'n0' of 'poly' has the price nan in freeze_value, which is no probability; leave",
    ),
    "a price is missing": (
        lambda rows: [rows[0] | {"freeze_value": None}, *rows[1:]],
        "has the price None in freeze_value",
    ),
    "a price is in per cent": (
        lambda rows: [row | {"freeze_value": 100 * row["freeze_value"]} for row in rows],
        "which is no probability",
    ),
    "a price is a word": (
        lambda rows: [row | {"freeze_value": str(row["freeze_value"])} for row in rows],
        "column freeze_value holds no numbers; cast it to Float64",
    ),
    "resolved is a word": (
        lambda rows: [row | {"resolved": "yes"} for row in rows],
        "column resolved is not true or false; cast it to Boolean",
    ),
    "a date is none": (
        lambda rows: [rows[0] | {"freeze_datetime": "soon"}, *rows[1:]],
        "ISO 8601 knows; mend or leave out that row",
    ),
    "an answer contradicts itself": (
        lambda rows: [*rows, rows[0] | {"resolved_to": 1.0 - rows[0]["resolved_to"],
                                        "freeze_datetime": "2026-01-02T00:00:00+00:00"}],
        "question poly:n0 is YES in one row and NO in another; mend the outcome",
    ),
    "all asked at once": (
        lambda rows: [row | {"freeze_datetime": "2026-01-01T00:00:00+00:00"} for row in rows],
        "no usable question before 2026-01-01; give a --split between",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_with_its_cure(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = BAD[name]
    path = write_file(tmp_path / "f.parquet", change(file_rows()))
    assert _run(path) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("fleet evaluate: ")
    assert message in told.err


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.parquet"
    pl.DataFrame(file_rows()).clear().write_parquet(empty)
    text = tmp_path / "text.parquet"
    text.write_text("no parquet")
    for path, message in (
        (tmp_path / "nothere.parquet", "is no file; name a parquet file"),
        (tmp_path, "is no file; name a parquet file"),
        (text, "cannot be read as parquet"),
        (empty, "has no rows; give a file with resolved questions"),
    ):
        assert _run(path) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(QuestionFileError):
        read_questions(empty)


def test_a_split_outside_the_file_is_refused(
    fair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in ("2020-01-01", "2030-01-01"):
        assert _run(fair, "--split", day) == 2
        assert "give a --split between 2026-01-01 and" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said(
    fair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--json", "--png"):
        assert _run(fair, option, str(tmp_path / "no" / "such" / "file")) == 2
        assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--model", "oracle"), ("--model", "llm:"), ("--split", "May"), ("--seed", "x")]
)
def test_options_that_mean_nothing_are_refused(fair: Path, words: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        _run(fair, *words)
    assert stopped.value.code == 2
