"""The record of one match: who took, who made, in which tokens, at which prices, for what fee.

COMPLEMENTARY, MINT and MERGE need no cases: each party keeps the token and side it came with, and
two buyers of YES and NO (or two sellers) are what the chain splits (or merges) pUSD for. Only the
anonymous flow must be given a token and a side: it sells what it owns, else it buys the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price
from fleet.sandbox.exchange.accounts import FLOW
from fleet.sandbox.exchange.contract import MakerFill, TradeView
from fleet.sandbox.exchange.matching import cash_for, fee_for, size_of
from fleet.sandbox.exchange.orders import Order, own_price
from fleet.sandbox.exchange.settlement import Trade
from fleet.sandbox.exchange.state import ExchangeState
from fleet.sandbox.liquidity import Taken
from fleet.sandbox.listing import MarketState


def make_trade(
    state: ExchangeState,
    market: MarketState,
    taker: Order | None,
    *,
    yes_buy: bool,
    parts: Sequence[Taken],
    now_ns: int,
) -> Trade:
    """The trade of a match; ``taker`` is None for the flow, which pays no fee."""
    spec, size = market.spec, size_of(parts)
    number, trade_id = state.name_trade()
    outcome, side = (
        (taker.outcome, taker.side)
        if taker is not None
        else _flow_takes_as(state, market, size, yes_buy=yes_buy)
    )
    cash = cash_for(parts, outcome)
    view = TradeView(
        trade_id=trade_id,
        taker_order_id=taker.order_id if taker else f"0x{state.digest(f'taker:{trade_id}')}",
        condition_id=spec.condition_id,
        token_id=spec.tokens[outcome],
        outcome=spec.outcomes[outcome],
        side=side,
        size=size,
        cash=cash,
        price=Price((cash * SCALE + size // 2) // size),
        fee_amount=fee_for(parts, spec.fees) if taker is not None else 0,
        fee_rate_bps=spec.fees.rate * 10_000 // SCALE,
        status=SettlementStatus.MATCHED,
        matched_ns=now_ns,
        updated_ns=now_ns,
        owner=taker.owner if taker else "",
        maker=taker.maker if taker else FLOW,
        transaction_hash="",
        makers=_makers(state, market, parts, outcome, side),
    )
    return Trade(number=number, view=view, due_ns=now_ns)


def _flow_takes_as(
    state: ExchangeState, market: MarketState, size: int, *, yes_buy: bool
) -> tuple[int, Side]:
    """The flow's token and side as a taker."""
    other = 1 if yes_buy else 0
    if state.ledger.free(FLOW, market.spec.tokens[other]) >= size:
        return other, Side.SELL
    return 1 - other, Side.BUY


def _makers(
    state: ExchangeState, market: MarketState, parts: Sequence[Taken], outcome: int, side: Side
) -> tuple[MakerFill, ...]:
    # Against a BUY the flow sells the same token, against a SELL it sells the other.
    sold = outcome if side is Side.BUY else 1 - outcome
    stock = state.ledger.free(FLOW, market.spec.tokens[sold])
    fills = []
    for number, part in enumerate(parts):
        if isinstance(part.order, Order):
            fills.append(_user_fill(part.order, part.size))
            continue
        sells = stock >= part.size
        stock -= part.size if sells else 0
        token = sold if sells else 1 - sold
        name = f"maker:{market.spec.condition_id}:{state.trade_count}:{number}"
        fills.append(
            MakerFill(
                order_id=f"0x{state.digest(name)}",
                owner="",
                maker=FLOW,
                token_id=market.spec.tokens[token],
                outcome=market.spec.outcomes[token],
                side=Side.SELL if sells else Side.BUY,
                price=own_price(part.yes_price, token),
                size=part.size,
            )
        )
    return tuple(fills)


def _user_fill(order: Order, size: int) -> MakerFill:
    return MakerFill(
        order_id=order.order_id,
        owner=order.owner,
        maker=order.maker,
        token_id=order.token_id,
        outcome=order.outcome_name,
        side=order.side,
        price=order.price,
        size=size,
    )
