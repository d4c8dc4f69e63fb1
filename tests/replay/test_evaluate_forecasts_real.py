"""`fleet evaluate forecasts` on the recorded questions, against sums made another way.

Nothing here names a recorded question or a number of one recording, so that a later recording of
the same kind is judged by the same tests.
"""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
import pytest

from fleet.cli.main import main
from fleet.forecasting.logistic import expit, fit, logit
from fleet.forecasting.scoring import brier, holm, paired
from fleet.research.forecast_questions import Questions, part, read_questions

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def data(fleet_data: Path) -> Path:
    return fleet_data / "resolved" / "forecastbench" / "market_questions_joined.parquet"


@pytest.fixture(scope="module")
def report(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("report")
    words = ["evaluate", "forecasts", "--data", str(data), "--json", str(folder / "n.json")]
    assert main([*words, "--png", str(folder / "p.png")]) == 0
    assert (folder / "p.png").read_bytes().startswith(b"\x89PNG")
    held: dict[str, Any] = json.loads((folder / "n.json").read_text())
    return held


@pytest.fixture(scope="module")
def questions(data: Path) -> Questions:
    return read_questions(data)


def _later(data: Path, report: dict[str, Any]) -> pl.DataFrame:
    """The later part from the raw file: asked from the split on, not due before it."""
    frame = pl.read_parquet(data).filter(
        pl.col("resolved") & pl.col("resolved_to").is_in([0.0, 1.0])
    )
    asked, split = pl.col("freeze_datetime").str.slice(0, 10), report["split"]
    close = pl.col("close").str.slice(0, 10).fill_null("")
    due = (pl.col("resolution_date") < split) & ((close < split) | (close == "N/A"))
    learned = frame.filter((asked < split) & due).select("source", "id").unique()
    return frame.filter(asked >= split).join(learned, on=["source", "id"], how="anti")


def test_the_prices_score_is_the_one_of_the_raw_file(data: Path, report: dict[str, Any]) -> None:
    later = _later(data, report)
    for name in later["source"].unique():
        rows = later.filter(pl.col("source") == name).rows(named=True)
        by_question: dict[str, list[float]] = {}
        for row in rows:
            error = (row["freeze_value"] - row["resolved_to"]) ** 2
            by_question.setdefault(row["id"], []).append(error)
        told = next(one for one in report["sources"] if one["name"] == name)
        assert told["price"] == pytest.approx(fmean(map(fmean, by_question.values())))
        assert told["questions"] == pytest.approx(len(by_question))
    assert sum(one["questions"] for one in report["sources"]) == report["later"]["questions"]


def test_the_blend_is_no_worse_than_the_price_and_bets_where_it_was_shown(
    report: dict[str, Any],
) -> None:
    found = report["scores"]["blend"]["against_price"]
    assert found["mean"] <= 0.0
    assert found["low"] <= found["mean"] <= found["high"]
    for one in report["sources"]:
        confirmed = one["difference"]["high"] < 0.0 and one["p_adjusted"] < 0.05
        assert (one["name"] in report["may_bet"]) == (one["weight"] > 0.0 and confirmed)
    for one in report["earned"]:
        if one["weight"] > 0.0:
            assert one["high"] < 0.0 and one["p_adjusted"] < 0.05 and one["priced"] >= 50
        else:
            assert one["verdict"].startswith("no edge found")


def test_the_price_beats_the_base_rate_beyond_doubt(report: dict[str, Any]) -> None:
    """Or the columns are mixed up: on every published set of questions it does."""
    price = report["scores"]["price"]
    assert price["against_base_rate"]["high"] < 0.0
    assert price["skill_base_rate"] > 0.2
    assert report["scores"]["forecast"]["skill_base_rate"] > 0.2


def test_the_forecast_stays_near_the_price_it_starts_from(report: dict[str, Any]) -> None:
    """Shrinkage: it may be wrong about how prices err, but not by much."""
    assert abs(report["scores"]["forecast"]["against_price"]["mean"]) < 0.01


def test_calibration_tables_hold_every_question_once(report: dict[str, Any]) -> None:
    for bins in report["calibration"].values():
        count = sum(one["questions"] for one in bins)
        assert count == pytest.approx(report["later"]["questions"])
        sizes = [one["questions"] for one in bins]
        assert all(first["high"] < second["low"] for first, second in itertools.pairwise(bins))
        assert max(sizes) < 0.4 * count


def test_parts_share_no_question_and_the_earlier_one_was_due(questions: Questions) -> None:
    parts = part(questions)
    earlier, later = ({one.question.id for one in p} for p in (parts.earlier, parts.later))
    assert earlier and later and not earlier & later
    assert all(one.due_ns <= parts.split_ns for one in parts.earlier)
    split = datetime.fromtimestamp(parts.split_ns / 1e9, UTC)
    assert all(
        datetime.fromtimestamp(one.question.as_of_ns / 1e9, UTC) >= split for one in parts.later
    )


def test_later_outcomes_change_no_forecast(
    data: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    """Flip every outcome known from the split on: what was earned stays to the last digit."""
    frame = pl.read_parquet(data)
    flipped = frame.with_columns(
        pl.when(pl.col("resolution_date") >= report["split"])
        .then(1.0 - pl.col("resolved_to"))
        .otherwise(pl.col("resolved_to"))
        .alias("resolved_to")
    )
    flipped.write_parquet(tmp_path / "flipped.parquet")
    words = ["evaluate", "forecasts", "--data", str(tmp_path / "flipped.parquet")]
    assert main([*words, "--split", report["split"], "--json", str(tmp_path / "n.json")]) == 0
    other = json.loads((tmp_path / "n.json").read_text())
    assert other["earned"] == report["earned"]
    said, before = ([one["said"] for one in r["calibration"]["price"]] for r in (other, report))
    assert said == before


def test_outcomes_drawn_from_the_price_earn_nothing(
    data: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    """The gate itself on real questions: where the price is right, there is nothing to find."""
    frame = pl.read_parquet(data)
    # One draw for a question, by the price of the last time it was asked.
    last = frame.sort("freeze_datetime").unique("id", keep="last", maintain_order=True)
    earned = 0
    for seed in range(3):
        chances = random.Random(seed)
        drawn = [float(chances.random() < price) for price in last["freeze_value"]]
        fair = frame.join(
            last.select("id").with_columns(pl.Series("drawn", drawn)),
            on="id",
            maintain_order="left",
        ).with_columns(
            pl.when("resolved").then("drawn").otherwise("resolved_to").alias("resolved_to")
        )
        path = tmp_path / f"{seed}.parquet"
        fair.drop("drawn").write_parquet(path)
        words = ["evaluate", "forecasts", "--data", str(path), "--split", report["split"]]
        assert main([*words, "--json", str(tmp_path / "n.json")]) == 0
        held = json.loads((tmp_path / "n.json").read_text())
        assert held["may_bet"] == []
        earned += any(one["weight"] > 0.0 for one in held["earned"])
    assert earned <= 1


# --- does the path of the price add anything? ------------------------------------------------------

PAIRS = ((1, 6), (1, 24), (6, 12), (6, 24), (12, 24), (24, 72))
"""(hours before the last quote of the price, of the price it is compared with)."""


def test_the_drift_of_the_price_adds_nothing_to_the_price(fleet_data: Path) -> None:
    """Why the path's coefficients are shrunk hard: on recorded quotes they gain nothing.

    Fitted on the earlier half, scored on events of the later half only. If this fails, drift has
    begun to pay, and ``statistical.OTHER_DEVIATION`` deserves another look.
    """
    frame = pl.read_parquet(fleet_data / "resolved" / "dinesh_us" / "resolved_with_prices.parquet")
    frame = frame.filter(pl.col("y").is_not_null()).with_columns(
        *(
            ((pl.col(f"bid_{h}h") + pl.col(f"ask_{h}h")) / 2).alias(f"{h}")
            for h in (1, 6, 12, 24, 72)
        ),
        pl.col("slug")
        .str.extract(r"^(.*?\d{4}-\d{2}-\d{2})")
        .fill_null(pl.col("slug"))
        .alias("event"),
    )
    found = []
    for now, back in PAIRS:
        rows = frame.drop_nulls([f"{now}", f"{back}"]).sort("last_ts", "slug")
        odds = logit(rows[f"{now}"].to_numpy())
        drift = odds - logit(rows[f"{back}"].to_numpy())
        outcome = rows["y"].to_numpy().astype(np.float64)
        events = rows["event"].to_list()
        half = rows.height // 2
        learned = set(events[:half])
        later = np.array([i for i in range(half, rows.height) if events[i] not in learned])
        scores = []
        for features in (
            np.stack([np.ones(rows.height), odds / 2.0], axis=1),
            np.stack([np.ones(rows.height), odds / 2.0, drift], axis=1),
        ):
            size = features.shape[1]
            learnt = fit(
                features[:half], outcome[:half], offset=odds[:half],
                penalty=np.full(size, 0.25**-2), centre=np.zeros(size),
            ).coefficients  # fmt: skip
            scores.append(brier(expit(odds + features @ learnt), outcome))
        gain = (scores[1] - scores[0])[later]
        found.append(paired(gain, np.ones(later.size), [events[i] for i in later]))
        one = found[-1]
        print(f"{now} h against {back} h: {one.questions:.0f} markets of {one.events} events,"
              f" drift changes Brier by {one.mean:+.5f} [{one.low:+.5f}, {one.high:+.5f}]")  # fmt: skip
    adjusted = holm([one.p_value for one in found])
    assert not [one for one, p in zip(found, adjusted, strict=True) if one.high < 0 and p < 0.05]
