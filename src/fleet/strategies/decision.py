"""The rule that turns bars into a position: one compiled step, and the loop that repeats it.

Theory of operation. ``step`` takes one closed bar and says whether to buy, to sell or to stay; the
engine's strategy (``candles``) calls it bar by bar, ``simulate`` calls it in a loop, and so does
every sweep: there is no second implementation to disagree with. Spot only, long or flat. A decision
is made when a bar has closed and is filled at the next bar's open, worsened by the slippage; the
order is limited (``collar`` from the close), so an open beyond the limit is a miss and the rule may
ask again. ``entry_qty``, ``exit_qty`` and ``fill_ticks`` say how much and at what price.

Invariants. Prices are whole ticks, quantities and cash integers at 1e-8, and every window is a sum
of integers: what a rule knows after a bar depends on the bars in its windows alone, to the last
bit, wherever it began to look. A restarted bot therefore needs as many bars as ``Rule.warm_up``
says and nothing else. Rules are told what is held; they remember no position. Floats appear in the
model's score, in the z-score and in a proposed size; cash is only ever compared and moved exactly.

The loop stands beside the step because the compiler's cache (``cache=True``) notices changes of the
file a function is in, and not of the files that function calls into. It trades nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fleet.domain.units import SCALE

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Ticks = NDArray[np.int32]
"""Prices in whole ticks: half the memory, and what a bar costs is mostly its way from there."""

SMA_CROSS, BREAKOUT, MEAN_REVERSION, MODEL, HOLD = range(5)
"""What decides; ``Rule.kind`` names them."""
STAY, BUY, SELL, SELL_STOP, SELL_PROFIT = range(5)
"""What ``step`` answers."""
(RULE, FAST, SLOW, ENTER, LEAVE, STOP, PROFIT, VOL_WINDOW, VOL_TARGET, FRACTION, TICK, LOT, FEE,
 SLIP, COLLAR, MIN_QTY, MIN_NOTIONAL, NOTIONAL_MAX, PARAMETERS) = range(19)  # fmt: skip
"""Where each parameter stands in the array ``step`` takes; rates are at 1e-8."""
(COUNT, POSITION, SUM_FAST, SUM_SLOW, SQUARES, LAST, VOL_POSITION, VOL_SQUARES, BLOCKED,
 CELLS) = range(10)  # fmt: skip
"""What the memory array begins with; the rings and queues follow."""
BAR, QTY, PRICE, PAID_FEE, REASON, COLUMNS = range(6)
"""The columns of the fills: bar index, signed quantity, price at 1e-8, fee, what decided."""
LIMIT_MOVE: Final = 3 * SCALE // 10
"""A bar's move beyond 30 % counts as 30 % in the volatility: sums stay within 64 bits."""

COMPILED: Final[dict[str, Any]] = {
    "cache": True, "nogil": True, "error_model": "numpy", "_nrt": False,
}  # fmt: skip
"""``_nrt``: nothing here makes an array, and counting references would double the time of a bar."""


def memory_size(params: Integers) -> int:
    """How long the memory array of a rule is: a ring or two queues, and a ring of returns."""
    window = int(max(params[FAST], params[SLOW], 1))
    queues = 2 * (2 + 2 * window) if params[RULE] == BREAKOUT else window
    return CELLS + queues + int(params[VOL_WINDOW])


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def _averages(p: Integers, m: Integers, close: int) -> int:
    """Both moving sums; 1 when the fast average is above the slow one, -1 if not, 0 unknown."""
    fast, slow, seen, at = p[FAST], p[SLOW], m[COUNT], m[POSITION]
    short, long = m[SUM_FAST] + close, m[SUM_SLOW] + close
    if seen >= fast:
        back = at - fast
        short -= m[CELLS + (back if back >= 0 else back + slow)]
    if seen >= slow:
        long -= m[CELLS + at]
    m[CELLS + at] = close
    m[SUM_FAST], m[SUM_SLOW] = short, long
    m[POSITION] = 0 if at + 1 == slow else at + 1
    if seen + 1 < slow:
        return 0
    return 1 if short * slow > long * fast else -1


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def _deviation(p: Integers, m: Integers, close: int) -> float:
    """The z-score of the close within its window; NaN while unknown or while nothing moved.

    The sum of squares may wrap around 64 bits: what is taken from it is the sum of squares about
    the mean, which is small and comes out exact.
    """
    window, seen, at = p[SLOW], m[COUNT], m[POSITION]
    total, squares = m[SUM_SLOW] + close, m[SQUARES] + close * close
    if seen >= window:
        old = m[CELLS + at]
        total -= old
        squares -= old * old
    m[CELLS + at] = close
    m[SUM_SLOW], m[SQUARES] = total, squares
    m[POSITION] = 0 if at + 1 == window else at + 1
    if seen + 1 < window:
        return np.nan
    middle = total // window
    rest = total - window * middle
    about = squares - 2 * middle * total + window * middle * middle
    variance = (about - rest * rest / window) / window
    if variance <= 0.0:
        return np.nan
    return float((close - total / window) / np.sqrt(variance))


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def _greatest(m: Integers, at: int, room: int, window: int) -> int:
    """The greatest value of the queue at ``at`` among the last ``window`` bars before this one."""
    head, tail, seen = m[at], m[at + 1], m[COUNT]
    while head < tail and m[at + 2 + 2 * (head % room)] < seen - window:
        head += 1
    m[at] = head
    return int(m[at + 3 + 2 * (head % room)])


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def _queue(m: Integers, at: int, room: int, value: int) -> None:
    """Add this bar's value; smaller ones before it can be the greatest no more."""
    head, tail = m[at], m[at + 1]
    while tail > head and m[at + 3 + 2 * ((tail - 1) % room)] <= value:
        tail -= 1
    if tail - head == room:
        head += 1
    slot = at + 2 + 2 * (tail % room)
    m[slot], m[slot + 1] = m[COUNT], value
    m[at], m[at + 1] = head, tail + 1


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def _channel(p: Integers, m: Integers, high: int, low: int, close: int) -> int:
    """1 above the highest high of ``SLOW`` bars before, -1 below the lowest low of ``FAST``."""
    room = max(p[FAST], p[SLOW])
    above, below = CELLS, CELLS + 2 + 2 * room
    answer = 0
    if m[COUNT] >= room:
        if close > _greatest(m, above, room, p[SLOW]):
            answer = 1
        elif close < -_greatest(m, below, room, p[FAST]):
            answer = -1
    _queue(m, above, room, high)
    _queue(m, below, room, -low)
    return answer


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def _volatility(p: Integers, m: Integers, close: int) -> None:
    """Keep the sum of squared simple returns (at 1e-8) of the last ``VOL_WINDOW`` bars."""
    window, last, at = p[VOL_WINDOW], m[LAST], m[VOL_POSITION]
    start = m.size - window
    if last > 0:
        move = (close - last) * SCALE // last
        move = min(max(move, -LIMIT_MOVE), LIMIT_MOVE)
        slot = start + at % window
        old = m[slot]
        m[VOL_SQUARES] += move * move - old * old
        m[slot] = move
        m[VOL_POSITION] = at + 1
    m[LAST] = close


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def step(
    p: Integers, m: Integers, high: int, low: int, close: int, score: float, held: int, entry: int
) -> int:
    """Take one closed bar (prices in ticks) into the memory and answer what to do.

    ``held`` is the quantity held, ``entry`` the price in ticks it was bought at (both 0 when flat);
    ``score`` the model's probability of a rise, NaN for no opinion. After a stop or a profit was
    taken the rule must have let go once before it buys again.
    """
    rule = p[RULE]
    if p[VOL_WINDOW] > 0:
        _volatility(p, m, close)
    if rule == SMA_CROSS:
        trend = _averages(p, m, close)
        enter, leave = trend > 0, trend < 0
    elif rule == MODEL:
        enter, leave = score >= p[ENTER] / SCALE, score < p[LEAVE] / SCALE
    elif rule == MEAN_REVERSION:
        z = _deviation(p, m, close)
        enter, leave = z < -p[ENTER] / SCALE, z > -p[LEAVE] / SCALE
    elif rule == BREAKOUT:
        beyond = _channel(p, m, high, low, close)
        enter, leave = beyond > 0, beyond < 0
    else:
        enter, leave = True, False
    m[COUNT] += 1
    if held > 0:
        m[BLOCKED] = 0
        if leave:
            return SELL
        if p[STOP] > 0 and low <= entry - entry * p[STOP] // SCALE:
            m[BLOCKED] = 1
            return SELL_STOP
        if p[PROFIT] > 0 and high >= entry + entry * p[PROFIT] // SCALE:
            m[BLOCKED] = 1
            return SELL_PROFIT
        return STAY
    if m[BLOCKED]:
        if not enter:
            m[BLOCKED] = 0
        return STAY
    warm = p[VOL_WINDOW] == 0 or m[VOL_POSITION] >= p[VOL_WINDOW]
    return BUY if enter and warm else STAY


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def notional(price: int, qty: int) -> int:
    """Price x quantity at 1e-8, rounded down, without leaving 64 bits (below 92 billion)."""
    whole, part = price // SCALE, price % SCALE
    lots, rest = qty // SCALE, qty % SCALE
    return int(whole * qty + part * lots + part * rest // SCALE)


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def notional_rounded_up(price: int, qty: int) -> int:
    """``fleet.domain.units.notional_up`` without leaving 64 bits."""
    part, rest = price % SCALE, qty % SCALE
    return int(notional(price, qty) + (1 if part * rest % SCALE else 0))


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def fee(p: Integers, price: int, qty: int) -> int:
    """``ProportionalFees.fee``: the rate of the notional, rounded up twice."""
    return int(notional_rounded_up(notional_rounded_up(price, qty), p[FEE]))


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def fill_ticks(p: Integers, opening: int, buying: int) -> int:
    """Where an order is filled (``buying`` 1 or 0): the open, worsened by slippage, in ticks."""
    slip = (opening * p[SLIP] + SCALE - 1) // SCALE
    return int(opening + slip if buying else max(1, opening - slip))


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def limit_ticks(p: Integers, close: int, buying: int) -> int:
    """The worst price an order accepts: the collar away from the close it was decided on."""
    away = close * p[COLLAR] // SCALE
    return int(close + away if buying else max(1, close - away))


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def entry_qty(p: Integers, m: Integers, close: int, cash: int, equity: int) -> int:
    """How much to buy: the fraction of equity, less when volatile; 0 if that is too little.

    With its fee it never costs more than ``cash``, nor more than ``NOTIONAL_MAX`` without it, at
    the worst price of the order.
    """
    weight = p[FRACTION] / SCALE
    if p[VOL_WINDOW] > 0 and m[VOL_SQUARES] > 0:
        realised = np.sqrt(m[VOL_SQUARES] / p[VOL_WINDOW])
        weight = min(weight, p[VOL_TARGET] / realised)
    limit = limit_ticks(p, close, 1) * p[TICK]
    wanted = weight * equity / (close * p[TICK])
    affordable = cash / (limit * (1.0 + p[FEE] / SCALE))
    if p[NOTIONAL_MAX] > 0:
        affordable = min(affordable, p[NOTIONAL_MAX] / limit)
    lot = p[LOT]
    qty = int(min(wanted, affordable) * SCALE) // lot * lot
    while qty > 0 and (
        notional_rounded_up(limit, qty) + fee(p, limit, qty) > cash
        or (p[NOTIONAL_MAX] > 0 and notional_rounded_up(limit, qty) > p[NOTIONAL_MAX])
    ):
        qty -= lot
    small = qty < p[MIN_QTY] or notional_rounded_up(limit, qty) < p[MIN_NOTIONAL]
    return 0 if small or qty <= 0 else qty


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def exit_qty(p: Integers, close: int, held: int) -> int:
    """How much of what is held can be sold; 0 if the venue takes no order that small."""
    qty = held // p[LOT] * p[LOT]
    limit = limit_ticks(p, close, 0) * p[TICK]
    small = qty < p[MIN_QTY] or notional_rounded_up(limit, qty) < p[MIN_NOTIONAL]
    return 0 if small else qty


@njit(**COMPILED)  # type: ignore[untyped-decorator]
def simulate(
    p: Integers,
    opens: Ticks,
    highs: Ticks,
    lows: Ticks,
    closes: Ticks,
    scores: Floats,
    cash: int,
    m: Integers,
    equity: Integers,
    fills: Integers,
) -> tuple[int, int, int, int]:
    """Trade all bars with ``cash``; how many fills, the cash and what is held then, misses.

    Prices are in ticks; ``scores`` has one row a bar, or a single one that stands for all. ``m`` is
    the memory, zeroed. ``equity`` is filled with cash plus what is held at each close, at 1e-8,
    ``fills`` (rows of ``COLUMNS``) as far as it reaches.
    """
    count = missed = held = entry = order = limit = reason = whole = part = 0
    stride = 1 if scores.size > 1 else 0
    tick = p[TICK]
    for i in range(closes.size):
        close = int(closes[i])
        if order != 0:
            at = fill_ticks(p, int(opens[i]), int(order > 0))
            if (order > 0 and at <= limit) or (order < 0 and at >= limit):
                price, size = at * tick, abs(order)
                paid = fee(p, price, size)
                if order > 0:
                    cash -= notional_rounded_up(price, size) + paid
                    entry = at
                else:
                    cash += notional(price, size) - paid
                held += order
                whole, part = notional(tick, held), tick % SCALE * (held % SCALE) % SCALE
                if count < fills.shape[0]:
                    fills[count, BAR], fills[count, QTY], fills[count, PRICE] = i, order, price
                    fills[count, PAID_FEE], fills[count, REASON] = paid, reason
                count += 1
            else:
                missed += 1
            order = 0
        worth = cash + close * whole
        if part != 0:
            worth += close * part // SCALE
        equity[i] = worth
        reason = step(p, m, int(highs[i]), int(lows[i]), close, scores[i * stride], held, entry)
        if reason == BUY:
            order = entry_qty(p, m, close, cash, worth)
            limit = limit_ticks(p, close, 1)
        elif reason != STAY:
            order = -exit_qty(p, close, held)
            limit = limit_ticks(p, close, 0)
    return count, cash, held, missed
