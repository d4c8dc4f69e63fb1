"""Faults of the markets: ticks that become finer unannounced, trades that fail to settle.

Once a second each open market with a coarse tick has its chance. What is published is what any
tick change publishes: the message, then fresh books. Settlements and delays draw their own chances,
one stream a trade or order; here they are told the rates in force.
"""

from __future__ import annotations

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.exchange.exchange import Exchange
from fleet.sandbox.faults import Faults
from fleet.sandbox.faults_catalogue import Fault
from fleet.sandbox.market_frames import Frame
from fleet.sandbox.questions import MILL


class FaultyMarkets:
    """The chances of an exchange's markets and trades."""

    def __init__(self, faults: Faults, exchange: Exchange) -> None:
        """Nothing happens before the first ``step``."""
        self._faults = faults
        self._exchange = exchange
        self._simulator = exchange.simulator
        self._next_ns = 0
        self._told = False

    def step(self, now_ns: int) -> list[Frame]:
        """Give each market its chance, once a second; what was published."""
        if now_ns < self._next_ns or not (self._faults.active or self._told):
            return []
        settlement = self._exchange.faults
        settlement.fail_rate = self._faults.share(Fault.SETTLEMENT_FAILED, now_ns)
        settlement.retry_rate = self._faults.share(Fault.SETTLEMENT_RETRYING, now_ns)
        delay = self._faults.standing(Fault.DELAYED_ORDER, now_ns)
        settlement.delay_rate = 0.0 if delay is None else delay.rate
        settlement.delay_s = settlement.delay_s if delay is None else delay.lasts_s
        rates = (settlement.fail_rate, settlement.retry_rate, settlement.delay_rate)
        self._told = sum(rates) > 0
        self._next_ns = now_ns + NS_PER_SECOND
        frames: list[Frame] = []
        for market in self._simulator.listings.markets:
            if market.closed or market.tick <= MILL:
                continue
            name = market.spec.condition_id
            if self._faults.strike(Fault.TICK_CHANGE, name, now_ns) is not None:
                frames += self._simulator.refine(market, now_ns)
        return frames
