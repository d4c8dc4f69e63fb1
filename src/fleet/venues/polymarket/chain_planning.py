"""From an approved operation to the one contract call it is, exactly. Pure.

The domain counts in 1e-8, the chain in 1e-6; an amount that is not a whole number of base units is
refused, never rounded. What the operation says it burns, mints and pays must be what the call does:
a plan that disagrees with the contracts' arithmetic is refused before anything is signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.domain.commands import OperationKind, RunOperation
from fleet.domain.instruments import InstrumentId, Market, MarketId, OutcomeSet, Universe
from fleet.domain.units import Cash, Qty, format_units
from fleet.venues.polymarket.amounts import BASE_UNIT
from fleet.venues.polymarket.chain_contracts import Convert, Merge, Redeem, Split
from fleet.venues.polymarket.resolutions import MarketStanding

Leg = tuple[InstrumentId, Qty]
OperationCall = Split | Merge | Redeem | Convert


class OperationUnfit(ValueError):  # noqa: N818 - named for what was found
    """An operation no contract call can carry out as it stands; nothing was signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What an operation did to a wallet, as ``OperationConfirmed`` tells it."""

    burn: tuple[Leg, ...]
    mint: tuple[Leg, ...]
    cash: Cash


def base_units(value: int, what: str) -> int:
    """``value`` at 1e-8 as base units. Raises ``OperationUnfit`` for a remainder."""
    whole, rest = divmod(value, BASE_UNIT)
    if rest:
        raise OperationUnfit(
            f"{what} of {format_units(value)} is no whole number of base units (0.000001)"
        )
    return whole


def from_base_units(amount: int) -> int:
    """Base units at 1e-8."""
    return amount * BASE_UNIT


def set_of(operation: RunOperation, universe: Universe) -> OutcomeSet:
    """The outcome set a convert is about. Raises ``OperationUnfit``."""
    markets = {_instrument_market(token, universe) for token, _ in operation.burn}
    found = next((s for s in universe.sets if markets and markets <= set(s.markets)), None)
    if found is None:
        raise OperationUnfit(
            f"the tokens of operation {operation.operation_id} are not of one outcome set of the "
            "catalogue; nothing can be converted"
        )
    return found


def plan(
    operation: RunOperation, universe: Universe, indices: Mapping[MarketId, int] | None = None
) -> OperationCall:
    """The call that carries ``operation`` out.

    ``indices`` numbers *all* questions of the set, as the chain does; only a convert needs it.
    Raises ``OperationUnfit``.
    """
    match operation.kind:
        case OperationKind.SPLIT:
            market, amount = _pair(operation.mint, operation, universe)
            _agree(operation, cash=-amount, none=operation.burn)
            return Split(condition_id=market.id, amount=amount, neg_risk=market.neg_risk)
        case OperationKind.MERGE:
            market, amount = _pair(operation.burn, operation, universe)
            _agree(operation, cash=amount, none=operation.mint)
            return Merge(condition_id=market.id, amount=amount, neg_risk=market.neg_risk)
        case OperationKind.REDEEM:
            markets = {_instrument_market(token, universe) for token, _ in operation.burn}
            if len(markets) != 1 or operation.mint:
                raise OperationUnfit(
                    f"redeem {operation.operation_id} must burn tokens of one market and mint none"
                )
            market = universe.markets[markets.pop()]
            return Redeem(condition_id=market.id, neg_risk=market.neg_risk)
        case OperationKind.CONVERT:
            return _convert(operation, universe, indices or {})


def redeem_of(operation: RunOperation, standing: MarketStanding) -> Redeem:
    """The call of a redemption by what the venue says of its market. Raises ``OperationUnfit``."""
    if operation.mint or not {token for token, _ in operation.burn} <= set(standing.tokens):
        raise OperationUnfit(
            f"redeem {operation.operation_id} must burn tokens of market {standing.market_id} alone"
        )
    return Redeem(condition_id=standing.market_id, neg_risk=standing.neg_risk)


def moves_of(cash: int, tokens: Mapping[InstrumentId, int]) -> Moves:
    """A wallet's changes in base units as ``Moves``, in the order of ``tokens``."""
    changed = [(token, Qty(from_base_units(amount))) for token, amount in tokens.items()]
    return Moves(
        burn=tuple((t, Qty(-n)) for t, n in changed if n < 0),
        mint=tuple((t, n) for t, n in changed if n > 0),
        cash=Cash(from_base_units(cash)),
    )


# --- inside ------------------------------------------------------------------------------------


def _convert(
    operation: RunOperation, universe: Universe, indices: Mapping[MarketId, int]
) -> Convert:
    found = set_of(operation, universe)
    amounts = {qty for _, qty in operation.burn}
    if len(amounts) != 1 or len(operation.burn) < 2:
        raise OperationUnfit(
            f"convert {operation.operation_id} needs the same quantity of two NO tokens or more"
        )
    amount = base_units(amounts.pop(), "a quantity")
    index_set = 0
    burned: set[MarketId] = set()
    for token, _ in operation.burn:
        market = universe.markets[_instrument_market(token, universe)]
        if market.no != token or market.id not in indices:
            raise OperationUnfit(
                f"{token} is not the NO of a question that the chain counts to {found.id}"
            )
        burned.add(market.id)
        index_set |= 1 << indices[market.id]
    if len(burned) != len(operation.burn):
        raise OperationUnfit(f"convert {operation.operation_id} names a token twice")
    rest = [m for m in indices if m not in burned]
    unknown = [m for m in rest if m not in universe.markets]
    minted = tuple(
        (universe.markets[m].yes, Qty(from_base_units(amount))) for m in rest if m not in unknown
    )
    if unknown or set(operation.mint) != set(minted):
        raise OperationUnfit(
            f"convert {operation.operation_id} would mint the YES of {len(rest)} other questions "
            f"of {found.id}, the plan says {len(operation.mint)} tokens; is the catalogue complete?"
        )
    _agree(operation, cash=(len(burned) - 1) * amount)
    return Convert(event_market_id=found.id, index_set=index_set, amount=amount)


def _pair(legs: tuple[Leg, ...], operation: RunOperation, universe: Universe) -> tuple[Market, int]:
    """The market whose two tokens ``legs`` are, and their common quantity in base units."""
    markets = {_instrument_market(token, universe) for token, _ in legs}
    amounts = {qty for _, qty in legs}
    if len(legs) != 2 or len({t for t, _ in legs}) != 2 or len(markets) != 1 or len(amounts) != 1:
        raise OperationUnfit(
            f"{operation.kind.value.lower()} {operation.operation_id} needs the same quantity of "
            "both tokens of one market"
        )
    amount = base_units(amounts.pop(), "a quantity")
    if amount <= 0:
        raise OperationUnfit(f"operation {operation.operation_id} moves nothing")
    return universe.markets[markets.pop()], amount


def _agree(operation: RunOperation, *, cash: int, none: tuple[Leg, ...] = ()) -> None:
    planned = base_units(operation.cash, "cash")
    if none:
        raise OperationUnfit(
            f"{operation.kind.value.lower()} {operation.operation_id} cannot move {none[0][0]}"
        )
    if planned != cash:
        raise OperationUnfit(
            f"operation {operation.operation_id} plans {format_units(operation.cash)} dollars, the "
            f"contract gives {format_units(from_base_units(cash))}"
        )


def _instrument_market(token: InstrumentId, universe: Universe) -> MarketId:
    instrument = universe.instruments.get(token)
    if instrument is None:
        raise OperationUnfit(f"token {token} is not in the catalogue; load its market first")
    return instrument.market_id
