"""Could chance have made this profit? Two seeded permutation tests over finished trades.

*Shift*: the same positions, held as long, entered at other times. Every draw moves all entries by
one and the same number of polls around the circle of the report part, so that what happened at one
time stays together. It asks whether the **moments** were good, on middle prices, before any cost.

*Sign*: the profits after all costs, group by group (markets of one event or underlying move
together), each with a random sign. It asks whether the **profit** differs from nothing.

A p value is (1 + draws at least as good) / (1 + draws), so it is never 0 (Davison and Hinkley 1997,
section 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from fleet.domain.units import SCALE
from fleet.research.statarb_backtest import SpreadTrade
from fleet.research.statarb_quotes import GONE_S, QuoteRecording

DRAWS: Final = 2_000
SEED: Final = 20_260_711

Floats = npt.NDArray[np.float64]


class MiddlePrices:
    """The middle of every market at every poll, in dollars; ``nan`` where it is not known."""

    def __init__(self, recording: QuoteRecording) -> None:
        """Carry each two-sided quote on for as long as a market counts as quoted."""
        self.times = np.array([poll.at_s for poll in recording.polls], dtype=np.int64)
        self._column = {market: i for i, market in enumerate(recording.universe.markets)}
        self._markets = recording.universe.instruments
        self._table = np.full((len(recording.polls), len(self._column)), np.nan)
        since = np.full(len(self._column), -1, dtype=np.int64)
        for row, poll in enumerate(recording.polls):
            if row:
                fresh = poll.at_s - since <= GONE_S
                self._table[row] = np.where(fresh, self._table[row - 1], np.nan)
            for market, bid, ask in poll.changed:
                if not (bid and ask):
                    self._table[row, self._column[market]] = np.nan
            if poll.quotes:
                columns = [self._column[market] for market, _, _ in poll.quotes]
                sums = [bid + ask for _, bid, ask in poll.quotes]
                self._table[row, columns] = np.array(sums, dtype=np.float64) / (2 * SCALE)
                since[columns] = poll.at_s

    def row(self, at_s: int) -> int:
        """The newest poll at ``at_s`` or before it."""
        return max(0, int(np.searchsorted(self.times, at_s, side="right")) - 1)

    def value(self, trade: SpreadTrade) -> Floats:
        """The middle value of one share of each leg of a trade, poll by poll."""
        total = np.zeros(len(self.times))
        for token in trade.legs:
            instrument = self._markets[token]
            middle = self._table[:, self._column[instrument.market_id]]
            total = total + (middle if instrument.outcome == "Yes" else 1.0 - middle)
        return total


def gross_profits(trades: Sequence[SpreadTrade], prices: MiddlePrices) -> Floats:
    """What each trade's legs gained between entry and end at middle prices, in dollars.

    Steps over which a price is not known count as nothing.
    """
    found = np.zeros(len(trades))
    for index, trade in enumerate(trades):
        value = prices.value(trade)[prices.row(trade.opened_s) : prices.row(trade.closed_s) + 1]
        found[index] = trade.qty / SCALE * np.nan_to_num(np.diff(value)).sum()
    return found


def shift_p_value(
    trades: Sequence[SpreadTrade], prices: MiddlePrices, start_s: int, *, seed: int = SEED
) -> float | None:
    """How often the same positions at other times of the report part gained as much."""
    first = prices.row(start_s)
    steps = len(prices.times) - 1 - first
    if not trades or steps < 2:
        return None
    shifts = np.random.default_rng(seed).integers(1, steps, size=DRAWS)
    drawn, made = np.zeros(DRAWS), 0.0
    for trade in trades:
        change = np.nan_to_num(np.diff(prices.value(trade)[first:])) * (trade.qty / SCALE)
        total = np.concatenate([[0.0], np.cumsum(change)])
        begin = max(0, prices.row(trade.opened_s) - first)
        length = min(steps, prices.row(trade.closed_s) - first - begin)
        made += total[begin + length] - total[begin]
        begins = (begin + shifts) % steps
        ends = begins + length
        wrapped = total[steps] - total[begins] + total[ends % steps]
        drawn += np.where(ends <= steps, total[np.minimum(ends, steps)] - total[begins], wrapped)
    return float((1 + (drawn >= made - 1e-12).sum()) / (1 + DRAWS))


def sign_p_value(trades: Sequence[SpreadTrade], *, seed: int = SEED) -> float | None:
    """How often random signs on the groups' net profits make as much."""
    nets: dict[str, int] = {}
    for trade in trades:
        nets[trade.groups[0]] = nets.get(trade.groups[0], 0) + trade.net
    if not nets:
        return None
    profits = np.array([*nets.values()], dtype=np.float64) / SCALE
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(DRAWS, len(profits)))
    return float((1 + (signs @ profits >= profits.sum() - 1e-12).sum()) / (1 + DRAWS))
