"""What the fleet allows one bot: its part of the limits that hold over all bots.

An allowance is what the bot may *reach* in a scope, all it holds and all that is under way counted,
not what it may add. A scope that is not named allows nothing. It is made outside the engine
(``fleet.runtime.limits``) and exchanged as a whole between two events; here it is only compared
with the state. Allowances of all bots add up to no more than the fleet's caps, so a bot that keeps
to its own needs to ask nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fleet.domain.commands import OpenBundle, RefusalCode
from fleet.domain.instruments import InstrumentId, MarketId, SetId
from fleet.domain.units import ZERO_CASH, Cash, format_dollars
from fleet.engine.exposure import market_exposure
from fleet.engine.portfolio import NS_PER_DAY
from fleet.engine.state import State

EVERYTHING: Final[frozenset[InstrumentId] | None] = None
"""The wallet is this bot's own: it may trade whatever it knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Dollars at 1e-8. ``turnover`` is for the UTC day ``day`` (days since the epoch) alone.

    ``set_of`` names the outcome set of each market that is in one.
    """

    fleet: Cash = ZERO_CASH
    wallet: Cash = ZERO_CASH
    turnover: Cash = ZERO_CASH
    day: int = 0
    markets: Mapping[MarketId, Cash] = field(default_factory=dict)
    sets: Mapping[SetId, Cash] = field(default_factory=dict)
    set_of: Mapping[MarketId, SetId] = field(default_factory=dict)
    instruments: frozenset[InstrumentId] | None = EVERYTHING

    def claims(self, instrument_id: InstrumentId) -> bool:
        """Whether the instrument is this bot's to trade."""
        return self.instruments is None or instrument_id in self.instruments

    def objection(
        self,
        plan: OpenBundle,
        cost: int,
        wanted: Mapping[MarketId, int],
        *,
        reserved: int,
        opened: Mapping[MarketId, int],
        state: State,
    ) -> tuple[RefusalCode, str] | None:
        """Why a bundle that can cost ``wanted`` by market, ``cost`` in all, may not open.

        ``reserved`` is what everything open may still cost, ``opened`` what the bundles of the same
        decision cost by market.
        """
        for leg in plan.legs:
            if not self.claims(leg.instrument_id):
                return RefusalCode.INSTRUMENT_UNCLAIMED, leg.instrument_id
        held = state.portfolio.cost + reserved
        if held + cost > self.fleet:
            return RefusalCode.FLEET_EXPOSURE_REACHED, _over(held, cost, self.fleet)
        if held + cost > self.wallet:
            return RefusalCode.WALLET_EXPOSURE_REACHED, _over(held, cost, self.wallet)
        turnover = state.portfolio.turnover(state.now_ns) + reserved
        today = self.turnover if state.now_ns // NS_PER_DAY == self.day else 0
        if turnover + cost > today:
            return RefusalCode.DAY_TURNOVER_REACHED, _over(turnover, cost, today)
        for market_id, amount in wanted.items():
            held = market_exposure(market_id, state) + opened.get(market_id, 0)
            allowed = self.markets.get(market_id, 0)
            if held + amount > allowed:
                return RefusalCode.MARKET_EXPOSURE_REACHED, _over(held, amount, allowed)
        return self._sets(wanted, opened, state)

    def _sets(
        self, wanted: Mapping[MarketId, int], opened: Mapping[MarketId, int], state: State
    ) -> tuple[RefusalCode, str] | None:
        by_set = by_outcome_set(wanted, self.set_of)
        if not by_set:
            return None
        held_by_set = by_outcome_set(exposure_by_market(state), self.set_of)
        opened_by_set = by_outcome_set(opened, self.set_of)
        for set_id, amount in by_set.items():
            held = held_by_set.get(set_id, 0) + opened_by_set.get(set_id, 0)
            allowed = self.sets.get(set_id, 0)
            if held + amount > allowed:
                return RefusalCode.SET_EXPOSURE_REACHED, _over(held, amount, allowed)
        return None


def _over(held: int, more: int, allowed: int) -> str:
    return (
        f"{format_dollars(Cash(held))} + {format_dollars(Cash(more))},"
        f" the fleet allows {format_dollars(Cash(allowed))}"
    )


def exposure_by_market(state: State) -> dict[MarketId, int]:
    """Cost of positions plus what may still be spent, of every market that has any.

    A token that left the catalogue belongs to no market here; it still counts in the wallet.
    """
    touched: dict[MarketId, None] = {}
    for instrument_id in _touched(state):
        instrument = state.universe.instruments.get(instrument_id)
        if instrument is not None:
            touched[instrument.market_id] = None
    exposures = {market_id: market_exposure(market_id, state) for market_id in touched}
    return {market_id: amount for market_id, amount in exposures.items() if amount}


def _touched(state: State) -> Iterable[InstrumentId]:
    yield from state.portfolio.positions
    for bundle in state.bundles.open.values():
        for leg in bundle.plan.legs:
            yield leg.instrument_id
    for order in state.orders.open.values():
        yield order.instrument_id
    for operation in state.bundles.pending.values():
        for token, _ in operation.mint:
            yield token


def by_outcome_set(
    by_market: Mapping[MarketId, int], set_of: Mapping[MarketId, SetId]
) -> dict[SetId, int]:
    """Amounts by market added up by outcome set; markets in no set are left out."""
    total: dict[SetId, int] = {}
    for market_id, amount in by_market.items():
        set_id = set_of.get(market_id)
        if set_id is not None:
            total[set_id] = total.get(set_id, 0) + amount
    return total
