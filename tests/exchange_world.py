"""A small exchange for tests: still markets whose books are written by hand, and short orders."""

from pathlib import Path
from typing import Any

from fleet.clock import NS_PER_SECOND
from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price, Qty, parse_price
from fleet.sandbox.exchange.contract import (
    BASE_UNIT,
    OrderRequest,
    OrderUpdate,
    Placement,
    Published,
    TradeUpdate,
    TradeView,
)
from fleet.sandbox.exchange.exchange import Exchange
from fleet.sandbox.listing import MarketState
from fleet.sandbox.simulator import SimulatorSettings

START_NS = 1_795_000_000 * NS_PER_SECOND
DAY_NS = 86_400 * NS_PER_SECOND
FREE = "strait-reopens"
"""A geopolitics market: no fees, tick 0.01, no delay."""
TAXED = "senate-bill-passes"
"""A politics market: rate 0.04."""
DELAYED = "harbor-vs-comets"
"""A game whose takers wait a second; rate 0.05."""
BUY, SELL = Side.BUY, Side.SELL
GTC, GTD, FOK, FAK = TimeInForce.GTC, TimeInForce.GTD, TimeInForce.FOK, TimeInForce.FAK


def base(amount: float) -> int:
    """Dollars or shares in base units."""
    return round(amount * BASE_UNIT)


class World:
    """An exchange, its time, and the markets' books at a stroke."""

    def __init__(self, path: Path | None = None, *, still: bool = True, **settings: Any) -> None:
        self.path, self.still = path, still
        self.settings = SimulatorSettings(
            **{"mispricing_every_s": 0, "timed_markets": False, **settings}
        )
        self.now_ns = START_NS
        self.count = 0
        self.exchange = self._open()

    def _open(self) -> Exchange:
        exchange = Exchange(self.settings, self.now_ns, path=self.path)
        if self.still:
            # What the exchange itself has under way after a restart stays; the flow does not run.
            simulator = exchange.simulator
            own = [item for item in simulator._due if "simulator" not in item[2].__module__]
            simulator._due[:] = sorted(own, key=lambda item: item[:2])
            simulator.at(self.now_ns + 1_000 * DAY_NS, lambda _: [])
        return exchange

    def silence_but(self, slug: str) -> None:
        """Let the flow of one market run and no other: many trades in little time."""
        market = self.market(slug)
        group = self.exchange.simulator.listings.groups[market.event.id]
        simulator = self.exchange.simulator
        kept = [
            item
            for item in simulator._due
            if any(
                cell.cell_contents is market or cell.cell_contents is group
                for cell in item[2].__closure__ or ()
            )
        ]
        simulator._due[:] = sorted(kept, key=lambda item: item[:2])

    def restart(self, *, after_s: float = 0) -> None:
        """The process dies between two calls and another one starts."""
        self.exchange.close()
        self.now_ns += int(after_s * NS_PER_SECOND)
        self.exchange = self._open()

    def market(self, slug: str = FREE) -> MarketState:
        return next(m for m in self.exchange.simulator.listings.markets if m.spec.slug == slug)

    def book(
        self, slug: str = FREE, *, bids: dict[str, float] | None = None, asks: Any = None
    ) -> MarketState:
        """Write the flow's quotes of a market: YES price -> shares."""
        market = self.market(slug)
        book = market.book
        for buy in (True, False):
            for index in book.levels(buy=buy):
                book.set_level(buy=buy, index=index, qty=Qty(0))
        for buy, side in ((True, bids), (False, asks)):
            for price, shares in (side or {}).items():
                index = parse_price(price) // book.tick
                book.set_level(buy=buy, index=index, qty=Qty(round(shares * SCALE)))
        return market

    def fund(self, wallet: str, dollars: float) -> None:
        self.exchange.deposit(wallet, base(dollars), self.now_ns)

    def request(
        self,
        wallet: str,
        side: Side,
        size: float,
        price: str,
        tif: TimeInForce = GTC,
        *,
        slug: str = FREE,
        outcome: int = 0,
        spend: float = 0.0,
        order_id: str = "",
        **more: Any,
    ) -> OrderRequest:
        """An order; ``spend`` is the money of a FOK or FAK BUY (else price times size)."""
        self.count += 1
        shares, at = base(size), parse_price(price)
        cash = base(spend) if spend else at * shares // SCALE
        maker, taker = (cash, shares) if side is BUY else (shares, cash)
        return OrderRequest(
            order_id=order_id or f"0x{self.count:04d}",
            owner=f"key-{wallet}",
            address=f"eoa-{wallet}",
            maker=wallet,
            token_id=self.market(slug).spec.tokens[outcome],
            side=side,
            maker_amount=maker,
            taker_amount=taker,
            tif=tif,
            **more,
        )

    def place(self, *args: Any, **kwargs: Any) -> Placement:
        return self.exchange.place(self.request(*args, **kwargs), self.now_ns)

    def split(self, wallet: str, shares: float, slug: str = FREE) -> None:
        from fleet.domain.commands import OperationKind
        from fleet.sandbox.exchange.contract import OperationRequest

        self.exchange.operate(
            OperationRequest(
                wallet=wallet,
                kind=OperationKind.SPLIT,
                amount=base(shares),
                condition_id=self.market(slug).spec.condition_id,
            ),
            self.now_ns,
        )

    def step(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS_PER_SECOND)
        self.exchange.step(self.now_ns)

    def settle(self) -> None:
        """Long enough for every trade to end."""
        self.step(120)

    def trade(self, wallet: str) -> TradeView:
        """The latest trade of a wallet's key."""
        return self.exchange.trades(f"key-{wallet}")[0]

    def held(self, wallet: str, asset: str = "") -> int:
        return self.exchange.state.ledger.held(wallet, asset)

    def owns(self, wallet: str, outcome: int = 0, slug: str = FREE) -> int:
        """A wallet's mined tokens of a market."""
        return self.exchange.tokens(wallet).get(self.market(slug).spec.tokens[outcome], 0)

    def check(self) -> None:
        """The money is all there, and the tokens of each market are backed."""
        ledger = self.exchange.state.ledger
        assert ledger.total() == ledger.deposited
        supply: dict[str, int] = {}
        for wallet, asset, amount in ledger.wallets():
            assert amount >= 0 or (wallet, asset) == ("", ""), (wallet, asset, amount)
            if asset:
                supply[asset] = supply.get(asset, 0) + amount
        self._check_backing(supply)

    def _check_backing(self, supply: dict[str, int]) -> None:
        """However the open questions end, the collateral pays exactly what it must."""
        state = self.exchange.state
        pools: dict[str, list[Any]] = {}
        for known in state.markets.values():
            pools.setdefault(known.pool, []).append(known)
        for pool, legs in pools.items():
            yes = [supply.get(leg.tokens[0], 0) for leg in legs]
            no = [supply.get(leg.tokens[1], 0) for leg in legs]
            locked = state.ledger.collateral.get(pool, 0)
            if len(legs) == 1 and legs[0].pool == legs[0].condition_id:
                ends = [yes[0], no[0]]
                winner = legs[0].winner
                assert locked == ends[winner] if winner is not None else ends == [locked, locked]
                continue
            won = [at for at, leg in enumerate(legs) if leg.winner == 0]
            # A set of which not every market is known yet may be won by an unknown one.
            open_ends = won or [at for at, leg in enumerate(legs) if leg.winner is None]
            for at in open_ends:
                assert locked == yes[at] + sum(n for i, n in enumerate(no) if i != at), pool


def updates(published: Published) -> list[str]:
    """The user channel's news, shortly."""
    told = []
    for update in published.updates:
        if isinstance(update, OrderUpdate):
            told.append(f"{update.order.order_id} {update.change.value} {update.order.status}")
        elif isinstance(update, TradeUpdate):
            told.append(f"trade {update.trade.status.value}")
    return told


def price(text: str) -> Price:
    return parse_price(text)
