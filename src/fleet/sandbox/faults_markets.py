"""Faults of the markets themselves: ticks that become finer when nobody expects it.

Once a second each open market with a coarse tick has its chance. What is published is what any
tick change publishes: the message, then fresh books.
"""

from __future__ import annotations

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.faults import Faults
from fleet.sandbox.faults_catalogue import Fault
from fleet.sandbox.market_frames import Frame
from fleet.sandbox.questions import MILL
from fleet.sandbox.simulator import MarketSimulator


class FaultyMarkets:
    """The chances of a simulator's markets."""

    def __init__(self, faults: Faults, simulator: MarketSimulator) -> None:
        """Nothing happens before the first ``step``."""
        self._faults = faults
        self._simulator = simulator
        self._next_ns = 0

    def step(self, now_ns: int) -> list[Frame]:
        """Give each market its chance, once a second; what was published."""
        if now_ns < self._next_ns or not self._faults.active:
            return []
        self._next_ns = now_ns + NS_PER_SECOND
        frames: list[Frame] = []
        for market in self._simulator.listings.markets:
            if market.closed or market.tick <= MILL:
                continue
            name = market.spec.condition_id
            if self._faults.strike(Fault.TICK_CHANGE, name, now_ns) is not None:
                frames += self._simulator.refine(market, now_ns)
        return frames
