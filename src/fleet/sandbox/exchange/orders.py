"""Users' orders: what was signed, read as price and size, and checked against the market's rules.

Everything here is exact. Sizes come in lots of 0.01 share and prices in steps of 1e-4 dollars, so
that price times size is always a whole number of base units: nothing in a match is ever rounded but
the fee. Pure: no ledger, no book.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price, format_units
from fleet.sandbox.exchange.contract import BASE_UNIT, OrderRequest, OrderView, Refused
from fleet.sandbox.liquidity import QTY_PER_BASE, Resting

LOT: Final = BASE_UNIT // 100
"""Sizes have two decimals (reference 4.5)."""
CENT: Final = BASE_UNIT // 100
MIN_SIZE: Final = 5 * BASE_UNIT
"""The market's minimum, in shares; for every order, as reference 4.5 and 9 have it."""
MIN_TAKING: Final = BASE_UNIT
"""An order that takes must be worth a dollar (reference 4.5)."""
GTD_LOST_S: Final = 60
"""The engine drops a GTD order so long before its expiration (reference 4.3)."""

LIVE: Final = "LIVE"
MATCHED: Final = "MATCHED"
DELAYED: Final = "DELAYED"
UNMATCHED: Final = "UNMATCHED"
CANCELED: Final = "CANCELED"
EXPIRED: Final = "CANCELED_EXPIRED_ORDER"
RESOLVED: Final = "CANCELED_MARKET_RESOLVED"
UNFUNDED: Final = "CANCELED_NOT_ENOUGH_BALANCE"

RESTS: Final = frozenset({TimeInForce.GTC, TimeInForce.GTD})


@dataclass(slots=True, kw_only=True, eq=False)
class Order(Resting):
    """A user's order that was accepted. Amounts in base units.

    ``spend`` is the pUSD a FOK or FAK BUY may spend (0 for every other order, which is counted in
    shares). ``held`` is what it holds now of its maker's pUSD (BUY) or tokens (SELL). ``sequence``
    is its place in the order of arrival.
    """

    owner: str
    maker: str
    condition_id: str
    token_id: str
    outcome: int
    outcome_name: str
    side: Side
    price: Price
    size: int
    spend: int
    tif: TimeInForce
    post_only: bool
    expiration_s: int
    created_ns: int
    sequence: int
    status: str = LIVE
    matched: int = 0
    held: int = 0
    due_ns: int = 0
    """When a delayed order is matched."""
    trade_ids: list[str] = field(default_factory=list)

    @property
    def asset(self) -> str:
        """What it pays with: "" for pUSD, or its token."""
        return "" if self.side is Side.BUY else self.token_id

    def resting_hold(self) -> int:
        """What its rest must hold while it waits in the book."""
        if self.side is Side.SELL:
            return self.remaining
        return cash_of(self.price, self.remaining)

    def view(self) -> OrderView:
        """What its owner is told. An order by money counts as large as it was or became."""
        return OrderView(
            order_id=self.order_id,
            status=self.status,
            owner=self.owner,
            maker=self.maker,
            condition_id=self.condition_id,
            token_id=self.token_id,
            outcome=self.outcome_name,
            side=self.side,
            price=self.price,
            original_size=max(self.size, self.matched),
            size_matched=self.matched,
            tif=self.tif,
            expiration_s=self.expiration_s,
            created_ns=self.created_ns,
            trade_ids=tuple(self.trade_ids),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the signed amounts mean: limit price of its own token, shares, money to spend."""

    price: Price
    size: int
    spend: int


def cash_of(price: Price, size: int) -> int:
    """Base units of pUSD for ``size`` base units of shares; exact for lots and ticks."""
    cash, off = divmod(price * size, SCALE)
    if off:
        raise ValueError(f"{size} base units at {price} are no whole base units of pUSD")
    return cash


def own_price(yes_price: Price, outcome: int) -> Price:
    """A YES price as the price of the token ``outcome``; and the other way round."""
    return yes_price if outcome == 0 else Price(SCALE - yes_price)


def base_text(amount: int) -> str:
    """Base units as the decimal text the venue writes."""
    return format_units(amount * QTY_PER_BASE)


def invalid(order_id: str, why: str) -> Refused:
    """The venue's way of naming what is wrong with an order."""
    return Refused(400, f"order {order_id} is invalid. {why}")


def read_terms(request: OrderRequest, tick: Price) -> Terms:
    """Read and check the amounts of an order. Raises ``Refused`` in the venue's words.

    Limit orders must be exact. The share amount of a FOK or FAK BUY was computed by the client and
    rounded to the tick's decimals: its price is the nearest tick, if that rounding explains it.
    """
    if request.maker_amount <= 0 or request.taker_amount <= 0:
        raise Refused(400, "Invalid order payload")
    buy, by_money = request.side is Side.BUY, request.tif not in RESTS
    cash, size = (
        (request.maker_amount, request.taker_amount)
        if buy
        else (request.taker_amount, request.maker_amount)
    )
    step = _amount_step(tick)
    _check_accuracy(request, cash=cash, size=size, step=step)
    exact, off = divmod(cash * SCALE, size)
    price = Price(exact)
    if buy and by_money:
        price = Price((exact + tick // 2) // tick * tick)
        off = int(abs(size * price - cash * SCALE) > step * price)
    if off or price % tick or not tick <= price <= SCALE - tick:
        told = format_units((exact + 50) // 100 * 100)
        raise invalid(
            request.order_id,
            f"Price ({told}) breaks minimum tick size rule: {format_units(tick)}",
        )
    if size < MIN_SIZE:
        told = base_text(size)
        raise invalid(
            request.order_id, f"Size ({told}) lower than the minimum: {base_text(MIN_SIZE)}"
        )
    return Terms(price=price, size=size, spend=cash if buy and by_money else 0)


def check_kind(request: OrderRequest, now_ns: int) -> None:
    """Refuse what an order's type does not allow."""
    if request.post_only and request.tif not in RESTS:
        raise Refused(400, "invalid post-only order: only GTC and GTD orders can be post-only")
    if request.tif is TimeInForce.GTD:
        if (request.expiration_s - GTD_LOST_S) * 1_000_000_000 <= now_ns:
            raise Refused(400, "invalid expiration")
    elif request.expiration_s:
        raise Refused(400, "invalid expiration")


def _amount_step(tick: Price) -> int:
    """The finest step of a money amount, in base units: the tick's decimals and two more."""
    decimals = len(format_units(tick).partition(".")[2]) + 2
    return int(10 ** (6 - decimals))


def _check_accuracy(request: OrderRequest, *, cash: int, size: int, step: int) -> None:
    """The decimals the venue allows (reference 4.5): sizes two, money by tick.

    A FOK or FAK BUY has it the other way round: it is money of two decimals that is spent.
    """
    buy, by_money = request.side is Side.BUY, request.tif not in RESTS
    money_step, size_step = (CENT, step) if buy and by_money else (step, LOT)
    if cash % money_step == 0 and size % size_step == 0:
        return
    places = {10**n: 6 - n for n in range(7)}
    money, shares = places[money_step], places[size_step]
    maker, taker = (money, shares) if buy else (shares, money)
    kind = f"{'market ' if by_money else ''}{'buy' if buy else 'sell'}"
    raise Refused(
        400,
        f"invalid amounts, the {kind} orders maker amount supports a max accuracy of {maker} "
        f"decimals, taker amount a max of {taker} decimals",
    )
