"""``fleet evaluate leaders`` on recorded wallets, against sums made another way.

Nothing here names a recorded wallet or a number of one recording, so that a later recording of the
same kind is judged by the same tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import polars as pl
import pytest

from fleet.domain.units import SCALE, Price
from fleet.research.leader_evaluation import (
    Evaluation,
    Options,
    evaluate_leaders,
    later_copies,
)
from fleet.research.leader_gate import MARKETS_MIN, Reason, judge
from fleet.research.leader_history import market_results
from fleet.research.leader_records import fees_of, read_prints, read_wallets
from fleet.research.leader_report import render
from fleet.research.leader_scores import score
from fleet.research.leader_statistics import Bet, luck_p_value
from fleet.research.leader_verdict import Word, word_of

pytestmark = pytest.mark.realdata

STEP = Decimal("0.00001")


@pytest.fixture(scope="module")
def folder() -> Path:
    root = os.environ.get("FLEET_DATA")
    if not root:
        pytest.skip("FLEET_DATA is not set: no recorded data")
    found = Path(root) / "trades"
    assert found.is_dir(), f"FLEET_DATA is set but {found} is missing"
    return found


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return evaluate_leaders(folder, Options())


@pytest.fixture(scope="module")
def ledger(folder: Path) -> pl.DataFrame:
    frame = pl.read_parquet(folder / "wallet_verdict_ledger" / "audit_ledger.parquet")
    return frame.filter(pl.col("outcome_actual").is_in([0.0, 1.0]))


def test_profit_before_fees_is_what_the_author_of_the_ledger_found(
    folder: Path, ledger: pl.DataFrame
) -> None:
    """Their P&L a dollar, made by another program, times the stake, one row at a time."""
    records = read_wallets(folder / "wallet_verdict_ledger")
    ours = {
        (h.wallet, r.market_id): (r.pnl or 0) + r.fees
        for h in records.histories
        for r in market_results(h)
    }
    theirs: dict[tuple[str, str], float] = {}
    stakes: dict[tuple[str, str], float] = {}
    for row in ledger.iter_rows(named=True):
        key = row["wallet"].lower(), row["condition_id"]
        stake = row["size"] * row["avg_entry"]
        theirs[key] = theirs.get(key, 0.0) + stake * row["outcome_pnl_per_dollar"]
        stakes[key] = stakes.get(key, 0.0) + stake
    positions = folder / "wallet_verdict_ledger" / "wallet_recent_positions.parquet"
    mixed = {
        (row["wallet"].lower(), row["conditionId"])
        for row in pl.read_parquet(positions, columns=["wallet", "conditionId"]).to_dicts()
    }
    compared = 0
    for key, dollars in theirs.items():
        if key in mixed:
            continue  # Another outcome of that market may come from the positions.
        # They write six decimals a dollar.
        assert ours[key] / SCALE == pytest.approx(dollars, abs=0.001 + 1e-6 * stakes[key])
        compared += 1
    assert compared > 0.9 * len(theirs)


def test_the_copies_agree_with_decimal_sums_over_the_raw_ledger(
    evaluation: Evaluation, ledger: pl.DataFrame
) -> None:
    """Half the size, a cent more, at most 500 dollars, today's fee: again, in decimals."""
    categories = {
        market: facts.category
        for history in evaluation.records.histories
        for market, facts in history.markets.items()
    }
    split_s = evaluation.split_ns // 10**9
    early = {
        (r["wallet"], r["condition_id"])
        for r in ledger.iter_rows(named=True)
        if r["picked_at_unix"] <= split_s
    }
    mine = later_copies(evaluation.records.histories, evaluation.split_ns, Price(SCALE // 100))
    single = ledger.filter(pl.len().over("wallet", "condition_id") == 1)
    compared = 0
    for row in single.iter_rows(named=True):
        key = row["wallet"], row["condition_id"]
        found = [r for r in mine.get(row["wallet"], []) if r.market_id == row["condition_id"]]
        if row["picked_at_unix"] <= split_s or key in early or not found:
            continue
        price = Decimal(str(row["avg_entry"]))
        qty = Decimal(str(row["size"])) / 2
        qty = min(qty, Decimal(500) / price)
        paid = price + Decimal("0.01")
        rate = Decimal(fees_of(categories[row["condition_id"]]).rate) / SCALE
        fee = (qty * rate * paid * (1 - paid)).quantize(STEP, ROUND_CEILING)
        profit = qty * Decimal(row["outcome_actual"]) - qty * paid - fee
        if len(found) == 1 and found[0].trades == 1:
            assert Decimal(found[0].pnl or 0) / SCALE == pytest.approx(profit, abs=Decimal("0.001"))
            compared += 1
    assert compared >= 30


def test_choosing_saw_nothing_but_the_earlier_part(
    folder: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    """Cut the files themselves at the split, outcomes too: the same scores, the same verdicts."""
    inner = tmp_path / "wallet_verdict_ledger"
    inner.mkdir()
    split_s = evaluation.split_ns // 10**9
    source = folder / "wallet_verdict_ledger"
    table = pl.read_parquet(source / "audit_ledger.parquet")
    turned = pl.when(pl.col("resolved_at_unix") > split_s).then(1 - pl.col("outcome_actual"))
    # Rows of one market must not contradict each other, or it is left out: all of it is turned.
    whole = pl.col("resolved_at_unix").min().over("condition_id") > split_s
    table.filter(pl.col("picked_at_unix") <= split_s).with_columns(
        outcome_actual=pl.when(whole).then(turned).otherwise(pl.col("outcome_actual"))
    ).write_parquet(inner / "audit_ledger.parquet")
    # The positions tell categories, and so fees; their outcomes have no time.
    positions = "wallet_recent_positions.parquet"
    (inner / positions).write_bytes((source / positions).read_bytes())
    cut = {h.wallet: score(h, evaluation.split_ns) for h in read_wallets(inner).histories}
    compared = 0
    for one in evaluation.scores:
        if one.resolved_markets and one.wallet in cut:
            other = cut[one.wallet]
            assert (other.resolved_markets, other.pnl, other.p_value, other.recent_copy_edge) == (
                one.resolved_markets, one.pnl, one.p_value, one.recent_copy_edge,
            )  # fmt: skip
            compared += 1
    assert compared >= 5


def test_the_gate_says_no_for_reasons_that_hold(
    evaluation: Evaluation, ledger: pl.DataFrame
) -> None:
    split_s = evaluation.split_ns // 10**9
    timed = ledger.filter(
        (pl.col("picked_at_unix") <= split_s)
        & (pl.col("resolved_at_unix") > pl.col("picked_at_unix"))
        & (pl.col("resolved_at_unix") <= split_s)
    )
    counts = dict(
        timed.group_by(pl.col("wallet").str.to_lowercase())
        .agg(pl.col("condition_id").n_unique())
        .iter_rows()
    )
    for one, verdict in zip(evaluation.scores, evaluation.verdicts, strict=True):
        # Another wallet's row may tell when a market ended, never hide it.
        assert one.resolved_markets >= 0.8 * counts.get(one.wallet, 0)
        few = Reason.MARKETS_FEW in verdict.reasons
        assert few is (one.resolved_markets < MARKETS_MIN)
        assert verdict.copied is (not verdict.reasons)


def test_the_test_against_luck_changes_who_is_copied(evaluation: Evaluation) -> None:
    """Without it some would be copied whose bets at their prices prove nothing."""
    verdicts = judge(evaluation.scores)
    without = judge(evaluation.scores, rate=1.0)
    assert sum(v.copied for v in without) >= sum(v.copied for v in verdicts)
    only_luck = [v.wallet for v in verdicts if v.reasons == (Reason.LUCK_NOT_EXCLUDED,)]
    assert {v.wallet for v in without if v.copied} - {v.wallet for v in verdicts if v.copied} == (
        set(only_luck)
    )
    for one in evaluation.scores:
        if one.wallet in only_luck:
            assert one.recent_copy_edge is not None
            assert one.recent_copy_edge.low > 0
            assert one.p_value > 0.05


def test_fair_coins_at_the_recorded_prices_find_no_skill(evaluation: Evaluation) -> None:
    """Every recorded bet played again at its price: p-values of luck are not small too often."""
    from random import Random

    random = Random(9)
    found = []
    for history in evaluation.records.histories:
        if len(history.trades) < 10:
            continue
        for _ in range(20):
            bets = []
            drawn: dict[str, float] = {}
            for trade in history.trades:
                event = history.facts(trade.market_id).event_id
                price, qty = trade.price / SCALE, trade.qty / SCALE
                won = drawn.setdefault(event, random.random()) < price
                bets.append(
                    Bet(event=event, stake=price * qty, pnl=(qty if won else 0) - price * qty,
                        held=((price * qty, qty), (0.0, 0.0)), exited=0.0)
                )  # fmt: skip
            found.append(luck_p_value(bets))
    assert len(found) >= 200
    assert sum(p <= 0.1 for p in found) / len(found) <= 0.14


def test_leaderboard_steps_agree_with_plain_differences(evaluation: Evaluation) -> None:
    board = evaluation.boards
    assert board is not None
    everybody = board.lists[-1]
    assert everybody.chosen > 20
    assert 0 < everybody.unknown < everybody.chosen, "some left the board, some stayed"
    assert everybody.margin is not None
    assert everybody.margin.low < everybody.margin.estimate < everybody.margin.high
    assert board.steps > 5 * board.steps_unusable
    assert -1 <= board.persistence <= 1
    assert board.start_ns < board.split_ns < board.stop_ns


def test_a_longer_delay_leaves_less_to_buy(folder: Path, evaluation: Evaluation) -> None:
    ratios = [d.fill_ratio for d in evaluation.delays]
    assert len(ratios) == 4
    assert ratios[-1] < ratios[0] <= 1
    prints, histories, _ = read_prints(folder / "nobel_2025_negrisk_trades" / "trades.parquet")
    assert sum(len(p) for p in prints.values()) == sum(len(h.trades) for h in histories)


def test_the_command_says_it_in_words(folder: Path, evaluation: Evaluation, tmp_path: Path) -> None:
    target = tmp_path / "leaders.json"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fleet.cli.main", "evaluate", "leaders",
         "--data", str(folder), "--json", str(target)],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == render(evaluation)
    document = json.loads(target.read_text())
    assert document["word"] == word_of(evaluation).name
    assert document["lists"][0]["wallets"] == list(evaluation.copied)
    if not evaluation.copied:
        assert document["word"] == Word.NONE_WORTH_COPYING.name
