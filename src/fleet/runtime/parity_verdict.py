"""May this bot go live, by what its orders promised and what was kept? ALLOW, NOT YET or REFUSE.

Theory of operation. A paper fill is a promise of the simulated venue; the live quotes at the time
the order would have arrived say whether it would have been kept. A live session is judged the other
way round: the quotes promise, the real fills keep. In both, only falling short counts: paper that
was too pessimistic harms nobody.

What is counted is the *idea* (bundle), because an arbitrage with one leg missing is no arbitrage:
an idea is kept if every one of its orders was. The share of ideas kept has an exact one-sided 95 %
bound; the mean worsening of the price has one by resampling ideas. A test *passes* when its bound
proves it good, *fails* when its bound proves it bad, and is *open* in between: any failure REFUSES,
all passes ALLOW, anything else is NOT YET. So few days can refuse, but only enough days allow.

Judged are the newest ``days`` UTC days that count (enough judged orders), with everything in
between and since: no day can be left out because it went badly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from itertools import groupby
from typing import Final

from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Cash, Qty
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.parity_statistics import mean_bounds, percentile, share_bounds
from fleet.runtime.parity_store import Shadow

DUST: Final = SCALE // 100
"""Fills may differ from the order by up to 0.01 share (reference 4.5)."""


class Standing(Enum):
    """How parity stands."""

    ALLOW = "ALLOW"
    NOT_YET = "NOT YET"
    REFUSE = "REFUSE"


class Promise(Enum):
    """Who promised: the fills of the simulated venue (paper), or the quotes (live)."""

    FILLS = "fills"
    QUOTES = "quotes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What parity has to reach. Shares are at 1e-8."""

    days: int
    orders: int
    age_days: int
    kept: int
    slippage_bps: int
    slippage_tail_bps: int
    phantom: int
    unknown: int


def paper_thresholds(env: LiveEnv) -> Thresholds:
    """What paper has to show before the first live start."""
    return Thresholds(
        days=env.parity_days, orders=env.parity_orders, age_days=env.parity_age_days,
        kept=env.parity_kept, slippage_bps=env.parity_slippage_bps,
        slippage_tail_bps=env.parity_slippage_tail_bps, phantom=env.parity_phantom,
        unknown=env.parity_unknown,
    )  # fmt: skip


def live_thresholds(env: LiveEnv) -> Thresholds:
    """What live days have to show before the limits grow."""
    return Thresholds(
        days=env.stage_days, orders=env.stage_orders, age_days=env.parity_age_days,
        kept=env.parity_kept, slippage_bps=env.parity_slippage_bps,
        slippage_tail_bps=env.parity_slippage_tail_bps, phantom=SCALE,
        unknown=env.parity_unknown,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the rows of a day, or of all judged days, come to. Shares are 0 to 1."""

    orders: int
    """Orders whose end and whose quotes are known."""
    unknown: int
    """Orders where one of them is not."""
    promised: int
    """Judged orders with a promise to keep."""
    ideas: int
    ideas_kept: int
    fill_rate: float
    """Shares filled of shares ordered, by the venue (paper or live)."""
    quote_rate: float
    """The same by the live quotes at arrival."""
    slippage_bps: float
    slippage_ticks: float
    slippage_p95_bps: float
    phantom: float
    """Of the shares quoted to us, how many were gone untraded when the watch ended."""

    def as_json(self) -> dict[str, object]:
        """The figures as `fleet parity --json` shows them."""
        return {name: _rounded(getattr(self, name)) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityVerdict:
    """How parity stands, and why. Bounds are one-sided, 95 %."""

    standing: Standing
    reasons: tuple[str, ...]
    days: int
    """UTC days that count, of those judged."""
    figures: Figures
    kept_bounds: tuple[float, float]
    slippage_bounds: tuple[float, float]
    by_day: Mapping[str, Figures] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """All reasons in one line."""
        return "; ".join(self.reasons)


def judge(
    rows: Iterable[Shadow], promise: Promise, thresholds: Thresholds, *, today: str
) -> ParityVerdict:
    """The verdict on ``rows`` (in any order) as of the UTC day ``today``."""
    by_day = {
        day: list(group)
        for day, group in groupby(sorted(rows, key=lambda row: row.sent_ns), lambda row: row.day)
    }
    all_figures = {day: figures(day_rows, promise) for day, day_rows in by_day.items()}
    counting = [day for day, f in all_figures.items() if f.promised >= thresholds.orders]
    first = counting[-thresholds.days] if len(counting) >= thresholds.days > 0 else ""
    judged = [row for day, day_rows in by_day.items() if day >= first for row in day_rows]
    total = figures(judged, promise)
    days = sum(day >= first for day in counting)
    newest = counting[-1] if counting else ""
    kept = share_bounds(total.ideas_kept, total.ideas)
    slippage = mean_bounds(_slippage_by_idea(judged, promise))[1:]
    tests = [
        _days_test(days, newest, thresholds, today),
        _unknown_test(total, thresholds),
        _kept_test(total, kept, thresholds),
        *_price_tests(total, slippage, thresholds, enough=days >= thresholds.days),
    ]
    said = [standing for standing, _ in tests]
    worst = Standing.ALLOW
    if Standing.REFUSE in said:
        worst = Standing.REFUSE
    elif Standing.NOT_YET in said:
        worst = Standing.NOT_YET
    return ParityVerdict(
        standing=worst,
        reasons=tuple(why for standing, why in tests if standing is worst),
        days=days,
        figures=total,
        kept_bounds=kept,
        slippage_bounds=slippage,
        by_day=all_figures,
    )


Test = tuple[Standing, str]


def _days_test(days: int, newest: str, thresholds: Thresholds, today: str) -> Test:
    if days < thresholds.days:
        return Standing.NOT_YET, (
            f"{days} of {thresholds.days} days with {thresholds.orders} judged orders or more"
        )
    if newest:
        age = (date.fromisoformat(today) - date.fromisoformat(newest)).days
        if age > thresholds.age_days:
            return Standing.NOT_YET, (
                f"the newest day that counts is {newest}, {age} days ago, more than"
                f" {thresholds.age_days}"
            )
    return Standing.ALLOW, f"{days} days count"


def _unknown_test(total: Figures, thresholds: Thresholds) -> Test:
    all_orders = total.orders + total.unknown
    if total.unknown * SCALE > thresholds.unknown * all_orders:
        return Standing.NOT_YET, f"{total.unknown} of {all_orders} orders could not be judged"
    return Standing.ALLOW, f"{total.unknown} of {all_orders} orders not judged"


def _kept_test(total: Figures, bounds: tuple[float, float], thresholds: Thresholds) -> Test:
    least = thresholds.kept / SCALE
    why = (
        f"{total.ideas_kept} of {total.ideas} ideas kept, with 95 % confidence between"
        f" {bounds[0]:.1%} and {bounds[1]:.1%}, wanted {least:.1%}"
    )
    if bounds[0] >= least:
        return Standing.ALLOW, why
    return (Standing.REFUSE if bounds[1] < least else Standing.NOT_YET), why


def _price_tests(
    total: Figures, bounds: tuple[float, float], thresholds: Thresholds, *, enough: bool
) -> list[Test]:
    most = thresholds.slippage_bps
    why = (
        f"prices {total.slippage_bps:+.1f} bps worse in the mean, with 95 % confidence between"
        f" {bounds[0]:+.1f} and {bounds[1]:+.1f}, limit {most}"
    )
    mean = Standing.ALLOW if bounds[1] <= most else Standing.NOT_YET
    if bounds[0] > most:
        mean = Standing.REFUSE
    bad = Standing.REFUSE if enough else Standing.NOT_YET
    tail = (
        f"prices up to {total.slippage_p95_bps:+.1f} bps worse for 95 of 100 orders, limit"
        f" {thresholds.slippage_tail_bps}"
    )
    phantom = (
        f"{total.phantom:.1%} of the quotes withdrawn untraded, limit"
        f" {thresholds.phantom / SCALE:.1%}"
    )
    tail_ok = total.slippage_p95_bps <= thresholds.slippage_tail_bps
    phantom_ok = total.phantom * SCALE <= thresholds.phantom
    return [
        (mean, why),
        (Standing.ALLOW if tail_ok else bad, tail),
        (Standing.ALLOW if phantom_ok else bad, phantom),
    ]


def figures(rows: Sequence[Shadow], promise: Promise) -> Figures:
    """What ``rows`` come to."""
    judged = [row for row in rows if row.ended and row.quote_qty is not None]
    ordered = sum(row.qty for row in judged)
    owed = [row for row in judged if _promised(row, promise)[0] > DUST]
    ideas: dict[str, bool] = {}
    for row in owed:
        kept = _delivered(row, promise)[0] + DUST >= _promised(row, promise)[0]
        ideas[row.bundle_id] = ideas.get(row.bundle_id, True) and kept
    worse = sorted(bps for row in owed for bps in _slippage_bps(row, promise))
    ticks = [t for row in owed for t in _slippage_ticks(row, promise)]
    watched = [row for row in judged if row.quote_qty and row.firm_qty is not None]
    quoted = sum(row.quote_qty or 0 for row in watched)
    firm = sum(row.firm_qty or 0 for row in watched)
    return Figures(
        orders=len(judged),
        unknown=len(rows) - len(judged),
        promised=len(owed),
        ideas=len(ideas),
        ideas_kept=sum(ideas.values()),
        fill_rate=_share(sum(row.fill_qty for row in judged), ordered),
        quote_rate=_share(sum(row.quote_qty or 0 for row in judged), ordered),
        slippage_bps=_share(sum(worse), len(worse)),
        slippage_ticks=_share(sum(ticks), len(ticks)),
        slippage_p95_bps=percentile(worse, 95),
        phantom=_share(quoted - firm, quoted),
    )


def _promised(row: Shadow, promise: Promise) -> tuple[Qty, Cash]:
    fills = (row.fill_qty, row.fill_cash)
    return fills if promise is Promise.FILLS else _quoted(row)


def _delivered(row: Shadow, promise: Promise) -> tuple[Qty, Cash]:
    fills = (row.fill_qty, row.fill_cash)
    return _quoted(row) if promise is Promise.FILLS else fills


def _quoted(row: Shadow) -> tuple[Qty, Cash]:
    return (row.quote_qty or Qty(0), row.quote_cash or Cash(0))


def _worsening(row: Shadow, promise: Promise) -> tuple[float, float] | None:
    """(how much worse the delivered price is in dollars at 1e-8, the promised price)."""
    promised_qty, promised_cash = _promised(row, promise)
    delivered_qty, delivered_cash = _delivered(row, promise)
    if promised_qty <= DUST or delivered_qty <= DUST or not promised_cash:
        return None
    promised = promised_cash * SCALE / promised_qty
    delivered = delivered_cash * SCALE / delivered_qty
    worse = delivered - promised if row.side is Side.BUY else promised - delivered
    return worse, promised


def _slippage_bps(row: Shadow, promise: Promise) -> list[float]:
    pair = _worsening(row, promise)
    return [] if pair is None else [pair[0] * 10_000 / pair[1]]


def _slippage_ticks(row: Shadow, promise: Promise) -> list[float]:
    pair = _worsening(row, promise)
    return [] if pair is None else [pair[0] / row.tick]


def _slippage_by_idea(rows: Iterable[Shadow], promise: Promise) -> list[list[float]]:
    ideas: dict[str, list[float]] = {}
    for row in rows:
        if row.ended and row.quote_qty is not None:
            ideas.setdefault(row.bundle_id, []).extend(_slippage_bps(row, promise))
    return [values for values in ideas.values() if values]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _rounded(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
