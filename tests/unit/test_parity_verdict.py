"""Bounds, figures, verdicts and stages: pure functions over rows made by hand."""

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.clock import NS_PER_DAY, NS_PER_SECOND
from fleet.domain.commands import BundleId, ClientOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.risk import RiskLimits
from fleet.runtime.gate_store import StageRecord
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.parity_statistics import mean_bounds, percentile, share_bounds
from fleet.runtime.parity_store import Shadow
from fleet.runtime.parity_verdict import (
    ParityVerdict,
    Promise,
    Standing,
    Thresholds,
    figures,
    judge,
    live_thresholds,
    paper_thresholds,
)
from fleet.runtime.staging import Stage, next_stage, stage_problem, staged, staged_cash

START_NS = 1_794_787_200 * NS_PER_SECOND  # 2026-11-16 00:00:00 UTC
CENT = SCALE // 100
LIMITS = Thresholds(
    days=3, orders=10, age_days=7, kept=SCALE * 9 // 10, slippage_bps=20, slippage_tail_bps=200,
    phantom=SCALE // 2, unknown=SCALE // 10,
)  # fmt: skip


def row(
    number: int,
    *,
    day: int = 0,
    idea: str = "",
    side: Side = Side.BUY,
    filled: int = 10,
    at: int = 50,
    quoted: int | None = 10,
    quoted_at: int = 50,
    firm: int | None = None,
    ended: bool = True,
) -> Shadow:
    """An order of 10 shares; quantities in shares, prices in cents."""
    return Shadow(
        order_id=ClientOrderId(f"o{number}"),
        bundle_id=BundleId(idea or f"b{number}"),
        sent_ns=START_NS + day * NS_PER_DAY + number * NS_PER_SECOND,
        latency_ns=1, lag_ns=1, instrument_id=InstrumentId("y1"), side=side,
        price=Price(60 * CENT), tick=Price(CENT), qty=Qty(10 * SCALE),
        fill_qty=Qty(filled * SCALE), fill_cash=Cash(filled * at * CENT), ended=ended,
        quote_qty=None if quoted is None else Qty(quoted * SCALE),
        quote_cash=None if quoted is None else Cash(quoted * quoted_at * CENT),
        firm_qty=None if quoted is None else Qty((quoted if firm is None else firm) * SCALE),
    )  # fmt: skip


def days(count: int, orders: int = 20, **fields: object) -> list[Shadow]:
    return [
        row(day * 1_000 + n, day=day, **fields)  # type: ignore[arg-type]
        for day in range(count)
        for n in range(orders)
    ]


def verdict(
    rows: Iterable[Shadow], promise: Promise = Promise.FILLS, *, today: str = "2026-11-20",
    limits: Thresholds = LIMITS,
) -> ParityVerdict:  # fmt: skip
    return judge(rows, promise, limits, today=today)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "trials", "lower", "upper"),
    [
        # Known values of the Clopper-Pearson 90 % interval (one-sided 95 %).
        (10, 10, 0.741134, 1.0), (0, 10, 0.0, 0.258866), (5, 10, 0.222441, 0.777559),
        (0, 0, 0.0, 1.0),
    ],
)  # fmt: skip
def test_share_bounds_are_exact(hits: int, trials: int, lower: float, upper: float) -> None:
    assert share_bounds(hits, trials) == pytest.approx((lower, upper), abs=2e-6)


@pytest.mark.parametrize(("hits", "trials"), [(95, 100), (1, 7), (199, 200)])
def test_share_bounds_are_where_the_tails_hold_five_percent(hits: int, trials: int) -> None:
    lower, upper = (Fraction(bound) for bound in share_bounds(hits, trials))

    def chance(counts: range, share: Fraction) -> float:
        return float(
            sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in counts)
        )

    assert chance(range(hits, trials + 1), lower) == pytest.approx(0.05, abs=1e-9)
    assert chance(range(hits + 1), upper) == pytest.approx(0.05, abs=1e-9)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_bounds_hold_the_share_and_mirror(pair: tuple[int, int]) -> None:
    hits, trials = pair
    lower, upper = share_bounds(hits, trials)
    assert 0 <= lower <= hits / trials <= upper <= 1
    mirrored = share_bounds(trials - hits, trials)
    assert (1 - upper, 1 - lower) == pytest.approx(mirrored, abs=1e-9)


def test_share_bounds_of_many_trials_do_not_vanish() -> None:
    lower, upper = share_bounds(9_500, 10_000)
    assert 0.946 < lower < 0.95 < upper < 0.954


@pytest.mark.parametrize("counts", [(-1, 3), (4, 3)])
def test_counts_that_cannot_be(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no share"):
        share_bounds(*counts)


def test_the_mean_is_bounded_by_resampling_whole_clusters() -> None:
    assert mean_bounds([]) == (0.0, 0.0, 0.0)
    assert mean_bounds([[1.0, 2.0, 6.0]]) == (3.0, -math.inf, math.inf)
    same = mean_bounds([[3.0]] * 12)
    assert same == (3.0, 3.0, 3.0)
    loose = [[0.0] * 10] * 10 + [[10.0] * 10] * 10
    mean, low, high = mean_bounds(loose)
    assert mean == 5.0 and 2.5 < low < 4.5 and 5.5 < high < 7.5
    single = mean_bounds([[value] for cluster in loose for value in cluster])
    assert single[1] > low and single[2] < high
    assert mean_bounds(loose) == (mean, low, high)


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert percentile([], 95) == 0.0
    assert percentile([1.0], 95) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 95) == 95.0
    assert percentile([1.0, 2.0], 0) == 1.0


# --- figures --------------------------------------------------------------------------------------


def test_what_rows_come_to() -> None:
    rows = [
        row(1, quoted_at=51),  # Promised 0.50, kept at 0.51: 200 bps and one tick worse.
        row(2, quoted=5),  # Half of the promise is not there.
        row(3, filled=0, quoted=10, firm=2),  # Nothing promised; eight shares were withdrawn.
        row(4, quoted=None),  # No book.
        row(5, ended=False),  # No end.
    ]
    f = figures(rows, Promise.FILLS)
    assert (f.orders, f.unknown, f.promised, f.ideas, f.ideas_kept) == (3, 2, 2, 2, 1)
    assert f.fill_rate == pytest.approx(20 / 30) and f.quote_rate == pytest.approx(25 / 30)
    assert f.slippage_bps == pytest.approx(100) and f.slippage_ticks == pytest.approx(0.5)
    assert f.slippage_p95_bps == pytest.approx(200)
    assert f.phantom == pytest.approx(8 / 25)


def test_live_is_judged_the_other_way_round() -> None:
    rows = [row(1, filled=5, at=51), row(2, filled=10, quoted=0)]
    f = figures(rows, Promise.QUOTES)
    # The quotes promised the first order ten shares at 0.50; the second promised nothing.
    assert (f.promised, f.ideas_kept) == (1, 0)
    assert f.slippage_bps == pytest.approx(200)
    assert figures(rows, Promise.FILLS).ideas_kept == 1


def test_a_seller_is_worse_off_below_the_promise() -> None:
    f = figures([row(1, side=Side.SELL, quoted_at=49)], Promise.FILLS)
    assert f.slippage_bps == pytest.approx(200) and f.slippage_ticks == pytest.approx(1)


def test_an_idea_is_kept_only_with_all_its_legs() -> None:
    legs = [row(1, idea="a"), row(2, idea="a", quoted=3), row(3, idea="b"), row(4, idea="b")]
    f = figures(legs, Promise.FILLS)
    assert (f.ideas, f.ideas_kept) == (2, 1)


def test_a_hundredth_of_a_share_is_dust() -> None:
    nearly = replace(row(1), quote_qty=Qty(10 * SCALE - SCALE // 100))
    assert figures([nearly], Promise.FILLS).ideas_kept == 1
    short = replace(row(1), quote_qty=Qty(10 * SCALE - SCALE // 50))
    assert figures([short], Promise.FILLS).ideas_kept == 0


# --- verdicts -------------------------------------------------------------------------------------


def test_enough_good_days_allow() -> None:
    found = verdict(days(3))
    assert found.standing is Standing.ALLOW and found.days == 3
    assert found.kept_bounds[0] > 0.9 and found.figures.ideas == 60
    assert list(found.by_day) == ["2026-11-16", "2026-11-17", "2026-11-18"]


def test_too_few_days_too_few_orders_or_nothing_at_all_is_not_yet() -> None:
    for rows in ([], days(2), days(3, orders=9)):
        found = verdict(rows)
        assert found.standing is Standing.NOT_YET
        assert "of 3 days with 10 judged orders" in found.reason


def test_old_days_have_to_be_shown_anew() -> None:
    assert verdict(days(3), today="2026-11-25").standing is Standing.ALLOW
    found = verdict(days(3), today="2026-11-26")
    assert found.standing is Standing.NOT_YET and "8 days ago" in found.reason


def test_promises_that_are_not_kept_refuse_even_before_the_days_are_over() -> None:
    found = verdict(days(1, quoted=0))
    assert found.standing is Standing.REFUSE and "0 of 20 ideas kept" in found.reason


def test_what_the_bounds_cannot_tell_is_not_yet() -> None:
    rows = days(3, orders=10)
    rows[0] = row(0, quoted=0)
    found = verdict(rows)
    assert found.kept_bounds[0] < 0.9 < found.kept_bounds[1]
    assert found.standing is Standing.NOT_YET and "29 of 30 ideas kept" in found.reason


def test_prices_that_got_worse_refuse() -> None:
    found = verdict(days(3, quoted_at=51))
    assert found.standing is Standing.REFUSE and "+200.0 bps worse in the mean" in found.reason
    better = verdict(days(3, quoted_at=40))
    assert better.standing is Standing.ALLOW


def test_a_long_tail_and_phantom_quotes_refuse_once_the_days_are_there() -> None:
    def tailed(count: int) -> list[Shadow]:
        return [replace(r, quote_cash=Cash(10 * 53 * CENT)) if n % 10 == 0 else r
                for n, r in enumerate(days(count))]  # fmt: skip

    loose = replace(LIMITS, slippage_bps=100)
    assert verdict(tailed(3), limits=loose).standing is Standing.REFUSE
    assert verdict(tailed(2), limits=loose).standing is Standing.NOT_YET
    assert verdict(days(3, firm=4)).standing is Standing.REFUSE
    assert verdict(days(3, firm=5)).standing is Standing.ALLOW


def test_orders_nobody_can_judge_are_not_left_out_silently() -> None:
    rows = [*days(3), *(row(n, quoted=None) for n in range(5_000, 5_010))]
    found = verdict(rows)
    assert found.standing is Standing.NOT_YET and "10 of 70 orders" in found.reason


def test_only_the_newest_days_count_but_none_of_them_can_be_left_out() -> None:
    old = [row(n, day=-9, quoted=0) for n in range(20)]
    assert verdict([*old, *days(3)]).standing is Standing.ALLOW
    # A bad day with too few orders to count, in between, is judged all the same.
    thin = [row(n, day=1, quoted=0) for n in range(5_000, 5_009)]
    gone = [r for r in days(4) if r.day != "2026-11-17"]
    assert verdict(gone).standing is Standing.ALLOW
    assert verdict([*gone, *thin]).standing is not Standing.ALLOW


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 4)), max_size=60))
def test_a_worse_delivery_never_makes_a_better_verdict(
    orders: list[tuple[int, int, int]],
) -> None:
    rank = {Standing.REFUSE: 0, Standing.NOT_YET: 1, Standing.ALLOW: 2}
    rows = [row(n, day=d, filled=f, quoted=q) for n, (f, q, d) in enumerate(orders)]
    worse = [row(n, day=d, filled=f, quoted=0) for n, (f, q, d) in enumerate(orders)]
    few = replace(LIMITS, orders=1, days=1)
    assert rank[verdict(worse, limits=few).standing] <= rank[verdict(rows, limits=few).standing]


def test_thresholds_come_from_the_settings() -> None:
    env = LiveEnv()
    assert paper_thresholds(env).days == env.parity_days
    assert live_thresholds(env).days == env.stage_days
    assert live_thresholds(env).orders == env.stage_orders


# --- stages ---------------------------------------------------------------------------------------

ALLOW = verdict(days(3))
NOT_YET = verdict([])
REFUSE = verdict(days(1, quoted=0))


def at(stage: Stage) -> StageRecord:
    return StageRecord(ts=1, day="2026-11-16", percent=int(stage), reason="because")


def decided(current: Stage | None, paper: ParityVerdict, live: ParityVerdict) -> tuple[Stage, bool]:
    record = None if current is None else at(current)
    decision = next_stage(record, paper=paper, live=live, stage_days=3)
    assert decision.reason
    return decision.stage, decision.changed


@pytest.mark.parametrize(
    ("current", "paper", "live", "expected"),
    [
        (None, NOT_YET, NOT_YET, (Stage.NONE, False)),
        (None, REFUSE, NOT_YET, (Stage.NONE, False)),
        (None, ALLOW, NOT_YET, (Stage.TENTH, True)),
        (Stage.TENTH, ALLOW, NOT_YET, (Stage.TENTH, False)),
        (Stage.TENTH, ALLOW, ALLOW, (Stage.HALF, True)),
        (Stage.HALF, NOT_YET, ALLOW, (Stage.FULL, True)),
        (Stage.FULL, NOT_YET, ALLOW, (Stage.FULL, False)),
        # Paper grows old while the bot is live; live days in parity are ground enough.
        (Stage.HALF, NOT_YET, NOT_YET, (Stage.NONE, False)),
        (Stage.FULL, ALLOW, REFUSE, (Stage.HALF, True)),
        (Stage.HALF, ALLOW, REFUSE, (Stage.TENTH, True)),
        (Stage.TENTH, ALLOW, REFUSE, (Stage.NONE, True)),
        (Stage.NONE, NOT_YET, NOT_YET, (Stage.NONE, False)),
        (Stage.NONE, ALLOW, NOT_YET, (Stage.TENTH, True)),
    ],
)
def test_the_next_stage(
    current: Stage | None, paper: ParityVerdict, live: ParityVerdict, expected: tuple[Stage, bool]
) -> None:
    assert decided(current, paper, live) == expected


def test_a_stage_never_rises_on_too_few_live_days() -> None:
    decision = next_stage(at(Stage.TENTH), paper=ALLOW, live=ALLOW, stage_days=4)
    assert decision.stage is Stage.TENTH


@given(st.sampled_from([None, *Stage]), st.sampled_from([ALLOW, NOT_YET, REFUSE]),
       st.sampled_from([ALLOW, NOT_YET, REFUSE]))  # fmt: skip
def test_one_stage_up_at_most_and_never_up_against_a_refusal(
    current: Stage | None, paper: ParityVerdict, live: ParityVerdict
) -> None:
    ladder = list(Stage)
    stage, _ = decided(current, paper, live)
    before = Stage.NONE if current is None else current
    assert ladder.index(stage) <= ladder.index(before) + 1
    if live.standing is Standing.REFUSE and before is not Stage.NONE:
        assert stage < before


def test_every_limit_in_dollars_is_scaled_and_nothing_else() -> None:
    limits = RiskLimits()
    tenth = staged(limits, Stage.TENTH)
    assert tenth.max_order_notional * 10 == limits.max_order_notional
    assert tenth.max_day_loss * 10 == limits.max_day_loss
    assert tenth.max_day_turnover * 10 == limits.max_day_turnover
    assert (tenth.max_orders_in_flight, tenth.stale_ns) == (
        limits.max_orders_in_flight, limits.stale_ns
    )  # fmt: skip
    assert staged(limits, Stage.FULL) == limits
    assert staged(limits, Stage.NONE).max_wallet_exposure == 0
    assert staged_cash(Cash(19), Stage.TENTH) == 1


def test_a_stage_that_leaves_no_room_for_an_order_is_told() -> None:
    limits = replace(RiskLimits(), max_order_notional=Cash(49 * SCALE))
    assert "raise the bot's limit" in stage_problem(limits, Stage.TENTH)
    assert stage_problem(limits, Stage.HALF) == ""
    assert stage_problem(limits, Stage.NONE) == ""


def test_days_are_utc_days() -> None:
    assert row(0).day == "2026-11-16"
    assert date.fromisoformat(row(0, day=3).day) - date.fromisoformat(row(0).day) == timedelta(3)
