"""What a candle rule is and on what terms it trades, checked, and as the array ``decision`` takes.

A ``Rule`` is what research searches over and a registry stores; ``Terms`` are the instrument's and
the market's. All rates and thresholds are integers at 1e-8, so that a rule written down and read
again is the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fleet.domain.instruments import Instrument, ProportionalFees
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.strategies import decision as d

KINDS: Final = {
    "sma_cross": d.SMA_CROSS,
    "breakout": d.BREAKOUT,
    "mean_reversion": d.MEAN_REVERSION,
    "model_threshold": d.MODEL,
    "buy_and_hold": d.HOLD,
}
WINDOW_MAX: Final = 10_000
"""Bars; within it every sum of a window stays within 64 bits."""
_WINDOWED: Final = ("sma_cross", "breakout", "mean_reversion")


class RuleError(ValueError):
    """A rule or terms that make no sense; the text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When to hold and how much.

    - ``sma_cross``: long while the mean of ``fast`` closes is above that of ``slow``.
    - ``breakout`` (Donchian): in above the highest high of the ``slow`` bars before, out below the
      lowest low of the ``fast`` bars before.
    - ``mean_reversion``: in when the z-score of the close within ``slow`` bars is below ``-enter``,
      out when it is above ``-leave``.
    - ``model_threshold``: in at a probability of ``enter`` or more, out below ``leave``.
    - ``buy_and_hold``: in at the first bar.

    ``fraction`` is the share of equity an entry takes; with ``vol_window`` it is scaled down so
    that the position varies by ``vol_target`` a bar (root mean square of simple returns).
    ``stop_loss`` and ``take_profit`` are shares of the entry price, looked for in a bar's low and
    high and carried out at the next open; 0 is none.
    """

    kind: str
    fast: int = 0
    slow: int = 0
    enter: int = 0
    leave: int = 0
    stop_loss: int = 0
    take_profit: int = 0
    fraction: int = 95 * SCALE // 100
    vol_window: int = 0
    vol_target: int = 0

    def __post_init__(self) -> None:
        """Refuse what could never trade or would not mean what it says."""
        if self.kind not in KINDS:
            raise RuleError(f"no rule is called {self.kind!r}; choose from {', '.join(KINDS)}")
        if self.kind in _WINDOWED and not 2 <= self.slow <= WINDOW_MAX:
            raise RuleError(f"slow is {self.slow} bars: give 2 to {WINDOW_MAX}")
        if self.kind == "sma_cross" and not 1 <= self.fast < self.slow:
            raise RuleError(f"fast is {self.fast} bars: give 1 to slow - 1 = {self.slow - 1}")
        if self.kind == "breakout" and not 1 <= self.fast <= WINDOW_MAX:
            raise RuleError(f"fast is {self.fast} bars: give 1 to {WINDOW_MAX}")
        if self.kind == "mean_reversion" and not self.leave < self.enter:
            raise RuleError("leave must be below enter: out at a smaller distance than in")
        if self.kind == "model_threshold" and not 0 <= self.leave <= self.enter <= SCALE:
            raise RuleError("thresholds must be 0 <= leave <= enter <= 1, at 1e-8")
        if not 0 < self.fraction <= SCALE:
            raise RuleError(f"fraction {self.fraction} is outside (0, 1] at 1e-8")
        if not 0 <= self.stop_loss < SCALE or self.take_profit < 0:
            raise RuleError("stop_loss must be in [0, 1) and take_profit not negative, at 1e-8")
        if not 0 <= self.vol_window <= WINDOW_MAX or bool(self.vol_window) != (self.vol_target > 0):
            raise RuleError("vol_window and vol_target come together, or neither does")

    @property
    def extremes(self) -> bool:
        """Whether highs and lows matter, or closes alone."""
        return self.kind == "breakout" or self.stop_loss > 0 or self.take_profit > 0

    @property
    def warm_up(self) -> int:
        """After how many bars the rule knows all it will ever know."""
        windows = {"breakout": max(self.fast, self.slow) + 1}
        window = windows.get(self.kind, self.slow if self.kind in _WINDOWED else 0)
        return max(window, self.vol_window + 1 if self.vol_window else 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an order must obey and costs. Rates at 1e-8 of the price.

    ``slippage`` worsens the open an order is filled at; ``collar`` is how far from the close an
    order may be filled at all; ``notional_max`` (0: none) caps an entry.
    """

    tick: Price
    lot: Qty
    fee_rate: int = 0
    slippage: int = 0
    collar: int = SCALE // 100
    min_qty: Qty = Qty(0)
    min_notional: Cash = Cash(0)
    notional_max: Cash = Cash(0)

    def __post_init__(self) -> None:
        """Refuse steps that are not positive and rates outside [0, 1)."""
        if self.tick <= 0 or self.lot <= 0:
            raise RuleError("tick and lot must be positive")
        if not all(0 <= rate < SCALE for rate in (self.fee_rate, self.slippage, self.collar)):
            raise RuleError("fee_rate, slippage and collar must be in [0, 1) at 1e-8")

    @classmethod
    def of(
        cls,
        instrument: Instrument,
        *,
        slippage: int = 0,
        collar: int = SCALE // 100,
        notional_max: Cash = Cash(0),
    ) -> Terms:
        """The terms of a share or a coin. Raises ``RuleError`` for an outcome token."""
        if instrument.ceiling or not isinstance(instrument.fees, ProportionalFees):
            raise RuleError(f"{instrument.id} is no share or coin: no ceiling, proportional fees")
        return cls(
            tick=instrument.tick, lot=instrument.lot, fee_rate=instrument.fees.rate,
            slippage=slippage, collar=collar, min_qty=instrument.min_qty,
            min_notional=instrument.min_notional, notional_max=notional_max,
        )  # fmt: skip


def parameters(rule: Rule, terms: Terms) -> d.Integers:
    """Both as the array that ``decision`` takes, int64[``decision.PARAMETERS``]."""
    array = np.zeros(d.PARAMETERS, np.int64)
    hysteresis = {"mean_reversion", "model_threshold"}
    for index, value in (
        (d.RULE, KINDS[rule.kind]),
        (d.FAST, rule.fast if rule.kind in _WINDOWED else 0),
        (d.SLOW, rule.slow if rule.kind in _WINDOWED else 0),
        (d.ENTER, rule.enter if rule.kind in hysteresis else 0),
        (d.LEAVE, rule.leave if rule.kind in hysteresis else 0),
        (d.STOP, rule.stop_loss), (d.PROFIT, rule.take_profit),
        (d.VOL_WINDOW, rule.vol_window), (d.VOL_TARGET, rule.vol_target),
        (d.FRACTION, rule.fraction), (d.TICK, terms.tick), (d.LOT, terms.lot),
        (d.FEE, terms.fee_rate), (d.SLIP, terms.slippage), (d.COLLAR, terms.collar),
        (d.MIN_QTY, terms.min_qty), (d.MIN_NOTIONAL, terms.min_notional),
        (d.NOTIONAL_MAX, terms.notional_max),
    ):  # fmt: skip
        array[index] = value
    return array


def memory_of(params: d.Integers) -> d.Integers:
    """An empty memory for a rule."""
    return np.zeros(d.memory_size(params), np.int64)
