"""`fleet evaluate sets` on the recorded quotes, against sums made another way.

Nothing here names a recorded market or a number of one recording, so that a later recording of the
same kind is judged by the same tests.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fleet.domain.units import SCALE
from fleet.research.set_episodes import Trade, account
from fleet.research.set_quotes import JUDGE_POLLS, PRICE_BAND
from fleet.research.set_report import render
from fleet.research.set_structure import Standing
from fleet.research.sets import TIERS, Evaluation, Options, evaluate_sets

pytestmark = pytest.mark.realdata

STEP = Decimal("0.00001")

# Runs the command, then says the peak memory of its own process image (getrusage would include
# the parent's, inherited over fork).
MEASURED = """
import sys
from fleet.cli.main import main
code = main(sys.argv[1:])
with open("/proc/self/status", encoding="ascii") as file:
    peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
print(peak, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    root = os.environ.get("FLEET_DATA")
    if not root:
        pytest.skip("FLEET_DATA is not set: no recorded data")
    found = Path(root) / "orderbook" / "dinesh_us_quotes"
    assert found.is_dir(), f"FLEET_DATA is set but {found} is missing"
    return found


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return evaluate_sets(folder, Options())


@pytest.fixture(scope="module")
def quotes(folder: Path) -> pl.DataFrame:
    legs = pl.read_csv(folder / "multileg_legs.csv", infer_schema_length=None)
    return pl.read_parquet(folder / "multileg_quotes.parquet").join(
        legs.select("slug", "prefix", "y"), on="slug"
    )


def test_episodes_agree_with_decimal_sums_over_the_raw_quotes(
    evaluation: Evaluation, quotes: pl.DataFrame
) -> None:
    sets = {info.set_id: info for info in evaluation.recording.sets}
    sample = [*evaluation.episodes[::7], *evaluation.episodes[-1:]]
    assert sample
    for episode in sample:
        info = sets[episode.set_id]
        at = pl.from_epoch(pl.lit(episode.first.ts_s), time_unit="s")
        rows = quotes.filter((pl.col("prefix") == episode.set_id) & (pl.col("ts") == at))
        assert rows.height == info.legs
        buying = episode.trade is Trade.BUY_ALL_YES
        side = rows.drop_nulls("ask" if buying else "bid")
        prices = [Decimal(str(round(p, 6))) for p in side["ask" if buying else "bid"] if 0 < p < 1]
        rate = Decimal(info.fee_rate) / SCALE
        fee = sum((rate * p * (1 - p)).quantize(STEP, ROUND_CEILING) for p in prices)
        edge = (1 - sum(prices) if buying else sum(prices) - 1) - fee
        assert episode.first.edge == edge * SCALE
        assert episode.first.fee == fee * SCALE
        if episode.first.payout is not None:
            won = sum(side["y"].fill_null(0.0))
            assert episode.first.payout == (won if buying else len(prices) - won) * SCALE


def test_complete_polls_agree_with_the_recorders_own_table(
    folder: Path, evaluation: Evaluation
) -> None:
    recording = evaluation.recording
    by_set = recording.polls.partition_by("set", as_dict=True)
    sets = {info.set_id: info for info in recording.sets}
    compared = exact = 0
    with (folder / "multileg_events.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            info = sets[row["prefix"]]
            first, last = (pl.Series([row[k]]).str.to_datetime()[0] for k in ("first", "last"))
            start, stop = (int(pl.Series([t]).dt.epoch("s")[0]) for t in (first, last))
            # The table counts labelled legs and the whole life of a set.
            whole = recording.start_s <= start and stop < recording.stop_s
            if not whole or not row["polls"] or int(row["n"]) != info.legs:
                continue
            polls = by_set[(info.index,)].filter(pl.col("complete") & (pl.col("asks") == info.legs))
            # Another program made the table; it leaves out a poll or two in a few sets.
            missing = polls.height - int(float(row["polls"]))
            assert 0 <= missing <= 2
            exact += missing == 0
            assert polls["buy_cost"].min() == round(float(row["min_sumask"]) * SCALE)
            compared += 1
    assert compared >= 10
    assert exact >= 0.9 * compared


def test_no_episode_breaks_its_own_rules(evaluation: Evaluation) -> None:
    options, recording = evaluation.options, evaluation.recording
    sets = {info.set_id: info for info in recording.sets}
    polls = {
        (row["set"], row["ts_s"]): row
        for row in recording.polls.select("set", "ts_s", "trail", "complete", "crossed").iter_rows(
            named=True
        )
    }
    for episode in evaluation.episodes:
        info = sets[episode.set_id]
        assert episode.first.edge >= options.min_edge
        assert episode.seen_s <= (episode.polls - 1) * recording.gap_s
        structure = info.structure
        buying = episode.trade is Trade.BUY_ALL_YES
        standing = structure.exhaustive if buying else structure.exclusive
        assert standing is not Standing.REFUSED
        assert episode.proven == (standing is Standing.PROVEN)
        poll = polls[info.index, episode.first.ts_s]
        assert poll["complete"] and not poll["crossed"]
        assert abs(poll["trail"] - SCALE) <= PRICE_BAND


def test_tiers_add_up_and_episodes_hold_the_taken_moments(evaluation: Evaluation) -> None:
    polls = evaluation.recording.polls
    for trade, usable in ((Trade.BUY_ALL_YES, "buyable"), (Trade.BUY_ALL_NO, "sellable")):
        moments = [evaluation.moments[trade, tier] for tier in TIERS]
        assert sum(m.polls for m in moments) == polls[usable].sum()
        assert all(m.taken <= m.net <= m.gross <= m.polls for m in moments)
        for tier, proven in (("proven", True), ("unproven", False)):
            mine = [e for e in evaluation.episodes if e.trade is trade and e.proven is proven]
            assert sum(e.polls for e in mine) == evaluation.moments[trade, tier].taken


def test_holding_a_set_with_one_winner_pays_what_was_expected(evaluation: Evaluation) -> None:
    winners = {info.set_id: info.winners for info in evaluation.recording.sets}
    whole = [
        e
        for e in evaluation.episodes
        if e.trade is Trade.BUY_ALL_YES and winners[e.set_id] == 1 and e.first.payout is not None
    ]
    paid = account(whole, delayed=False)
    assert paid.profit == paid.edge_expected


def test_earlier_polls_are_judged_the_same_when_the_future_is_cut(
    folder: Path, evaluation: Evaluation
) -> None:
    whole = evaluation.recording.polls
    cut = evaluation.split_s
    until = pl.Series([cut * 1_000]).cast(pl.Datetime("ms", "UTC"))[0]
    part = evaluate_sets(folder, Options(until=until)).recording.polls
    columns = ["set", "ts_s", "buy_cost", "buy_fee", "sell_proceeds", "sell_fee", "trail", "judged"]
    assert part.select(columns).equals(whole.filter(pl.col("ts_s") < cut).select(columns))
    assert part["judged"].sum() > JUDGE_POLLS


def test_the_command_is_quick_small_and_ends_in_a_verdict(
    folder: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    target = tmp_path / "sets.json"
    call = ["evaluate", "sets", "--data", str(folder), "--json", str(target)]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURED, *call],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert int(done.stderr) < 1_000_000, "peak memory in kilobytes, and nothing else on stderr"
    assert done.stdout == render(evaluation)
    assert done.stdout.splitlines()[-1].startswith("  ")
    assert "\nVerdict\n" in done.stdout
    document: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    assert document["quotes"] == evaluation.recording.quotes
