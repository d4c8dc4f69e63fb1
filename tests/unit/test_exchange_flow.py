"""Users' orders among the simulated flow: who trades with whom, and what everybody is told."""

import json
from typing import Any

import pytest

from fleet.domain.units import SCALE, Price, Qty, parse_price
from fleet.sandbox.exchange.contract import OrderUpdate, TradeUpdate
from fleet.sandbox.liquidity import Liquidity, Resting, Taken, first
from fleet.sandbox.listing import MarketState
from fleet.sandbox.market_book import MarketBook
from fleet.sandbox.market_frames import Frame, book_object
from fleet.sandbox.questions import CENT
from tests.exchange_world import BUY, FAK, FREE, SELL, TAXED, World, base, price


class Client:
    """Books as a client holds them that only reads frames."""

    def __init__(self, market: MarketState) -> None:
        self.market = market
        self.books: dict[tuple[str, str], dict[str, str]] = {}
        self.prints: list[dict[str, Any]] = []
        for outcome in (0, 1):
            self._snapshot(book_object(market, outcome))

    def _snapshot(self, book: dict[str, Any]) -> None:
        for side, key in (("BUY", "bids"), ("SELL", "asks")):
            levels = {level["price"]: level["size"] for level in book[key]}
            self.books[book["asset_id"], side] = levels

    def read(self, frames: list[Frame]) -> None:
        for frame in frames:
            message = json.loads(frame.payload)
            if not set(frame.assets) & set(self.market.spec.tokens):
                continue
            if message["event_type"] == "book":
                self._snapshot(message)
            elif message["event_type"] == "last_trade_price":
                self.prints.append(message)
            elif message["event_type"] == "price_change":
                for change in message["price_changes"]:
                    levels = self.books[change["asset_id"], change["side"]]
                    levels.pop(change["price"], None)
                    if change["size"] != "0":
                        levels[change["price"]] = change["size"]

    def check(self) -> None:
        for outcome, token in enumerate(self.market.spec.tokens):
            shown = book_object(self.market, outcome)
            for side, key in (("BUY", "bids"), ("SELL", "asks")):
                assert self.books[token, side] == {x["price"]: x["size"] for x in shown[key]}
            bids = [parse_price(p) for p in self.books[token, "BUY"]]
            asks = [parse_price(p) for p in self.books[token, "SELL"]]
            assert max(bids, default=0) < min(asks, default=SCALE)


def test_a_client_that_folds_the_frames_sees_users_orders_too() -> None:
    world = World()
    world.fund("ann", 1_000)
    world.split("ann", 200)
    market = world.book(bids={"0.30": 10, "0.28": 5}, asks={"0.40": 10, "0.41": 5})
    client = Client(market)
    ids = []
    for args in (
        (BUY, 10, "0.31"), (BUY, 5, "0.30"), (SELL, 20, "0.39"), (BUY, 24, "0.41"),
        (SELL, 40, "0.30"), (BUY, 100, "0.45"), (SELL, 5, "0.46"),
    ):  # fmt: skip
        ids.append(world.place("ann", *args).order_id)
        published = world.exchange.drain()
        client.read(list(published.frames))
        client.check()
    for order_id in ids:
        world.exchange.cancel("key-ann", [order_id], world.now_ns)
        client.read(list(world.exchange.drain().frames))
        client.check()
    # 20 at 0.39 (the makers' price) and 4 at 0.40 were told as prints of the taker's token.
    assert [(p["price"], p["size"], p["side"]) for p in client.prints[:2]] == [
        ("0.39", "20", "BUY"), ("0.4", "4", "BUY")
    ]  # fmt: skip
    assert {p["asset_id"] for p in client.prints} == {market.spec.tokens[0]}


def test_the_flow_s_takers_trade_with_users_orders() -> None:
    world = World(still=False, speed=100)
    world.fund("ann", 10_000)
    world.silence_but(TAXED)
    market = world.market(TAXED)
    client = Client(market)
    world.split("ann", 2_000, TAXED)
    world.exchange.drain()
    filled = 0
    for _ in range(200):
        bid, ask = market.best(0, buy=True), market.best(0, buy=False)
        world.exchange.cancel_all("key-ann", world.now_ns)
        if bid is not None and ask is not None:
            room = market.tick if ask - bid > 2 * market.tick else 0
            for side, at in ((BUY, bid + room), (SELL, ask - room)):
                world.place("ann", side, 10, f"{at / SCALE:.2f}", slug=TAXED)
        world.step(0.1)
        published = world.exchange.drain()
        client.read(list(published.frames))
        client.check()
        filled += sum(
            isinstance(u, OrderUpdate) and u.change.value == "UPDATE" for u in published.updates
        )
        world.check()
    assert filled > 10
    trades = world.exchange.trades("key-ann")
    assert len(trades) > 10
    assert {t.owner for t in trades} == {""}, "ann never took"
    assert sum(t.fee_amount for t in trades) == 0
    assert world.exchange.state.ledger.fees == 0
    world.settle()
    world.check()


def test_a_quote_of_the_flow_that_reaches_a_user_s_order_takes_it() -> None:
    """Fair is 0.35: a bid of 0.60 is filled by the first makers who would quote below it."""
    world = World(still=False)
    world.fund("ann", 1_000)
    market = world.book(bids={"0.30": 10})
    client = Client(market)
    order = world.place("ann", BUY, 100, "0.60").order_id
    client.read(list(world.exchange.drain().frames))
    for _ in range(600):
        world.step(0.1)
        client.read(list(world.exchange.drain().frames))
        client.check()
        if not world.exchange.orders("key-ann"):
            break
    assert world.exchange.orders("key-ann") == []
    trades = world.exchange.trades("key-ann")
    assert sum(f.size for t in trades for f in t.makers if f.order_id == order) == base(100)
    assert {f.price for t in trades for f in t.makers if f.order_id == order} == {price("0.60")}
    world.settle()
    assert world.exchange.cash("ann") == base(1_000 - 60)
    world.check()


def test_users_cannot_stop_the_flow() -> None:
    """Empty books, orders inside every spread, mispricings on: the makers go on."""
    world = World(still=False, speed=4, mispricing_every_s=1, timed_markets=True)
    world.fund("ann", 1_000_000)
    markets = [m for m in world.exchange.simulator.listings.markets if not m.spec.taker_delay_ms]
    for number in range(100):
        market = markets[number * 7 % len(markets)]
        slug, tick = market.spec.slug, market.tick
        bid, ask = market.best(0, buy=True), market.best(0, buy=False)
        if ask is not None and number % 3 == 0:
            top = Price(SCALE - tick)
            request = world.request("ann", BUY, 5_000, f"{top / SCALE:.4f}", slug=slug)
            world.exchange.place(request, world.now_ns)
        elif bid is not None and ask is not None and ask - bid > 2 * tick:
            at = bid + (ask - bid) // tick // 2 * tick
            world.place("ann", BUY, 50, f"{at / SCALE:.4f}", slug=slug)
        world.step(0.25)
        if number % 20 == 0:
            world.exchange.cancel_all("key-ann", world.now_ns)
            world.check()
    world.exchange.cancel_all("key-ann", world.now_ns)
    for _ in range(60):
        world.step(0.5)
    for market in markets:
        assert market.book.best_bid < market.book.best_ask
        assert market.book.best_bid > 0
        assert market.book.best_ask < market.book.top
    world.settle()
    world.check()


def test_the_flow_sells_what_it_bought_before_anything_is_minted() -> None:
    world = World()
    world.fund("ann", 1_000)
    world.split("ann", 100)
    condition = world.market().spec.condition_id
    locked = world.exchange.state.ledger.collateral
    world.book(bids={"0.30": 100})
    world.place("ann", SELL, 60, "0.30")
    assert [f.side for f in world.trade("ann").makers] == [BUY], "complementary: it buys YES"
    world.settle()
    assert locked[condition] == base(100)
    world.book(asks={"0.40": 50, "0.41": 50})
    world.place("ann", BUY, 100, "0.41")
    fills = world.trade("ann").makers
    assert [(f.side, f.size) for f in fills] == [(SELL, base(50)), (BUY, base(50))]
    world.settle()
    assert locked[condition] == base(150), "50 sold from stock, 50 minted"
    # Now the flow owns 10 YES and 50 NO: a seller of YES meets its NO, and the pair is merged.
    world.book(bids={"0.30": 100})
    world.place("ann", SELL, 50, "0.30")
    assert [(f.side, f.price) for f in world.trade("ann").makers] == [(SELL, price("0.70"))]
    world.settle()
    assert locked[condition] == base(100)
    world.check()


def test_a_trade_tells_every_party() -> None:
    world = World()
    for wallet in ("ann", "bob"):
        world.fund(wallet, 100)
    world.book(asks={"0.45": 10})
    world.place("bob", BUY, 10, "0.56", outcome=1)
    world.exchange.drain()
    world.place("ann", BUY, 20, "0.45", FAK)
    told = [u for u in world.exchange.drain().updates if isinstance(u, TradeUpdate)]
    assert len(told) == 1
    assert [fill.owner for fill in told[0].trade.makers] == ["key-bob", ""]
    assert [fill.outcome for fill in told[0].trade.makers] == ["No", "No"]
    assert (told[0].trade.size, told[0].trade.cash) == (base(20), base(4.4 + 4.5))


def resting(order_id: str, *, buy: bool, at: str, shares: int) -> Resting:
    return Resting(order_id=order_id, yes_buy=buy, yes_price=price(at), remaining=base(shares))


def test_a_pool_sweeps_both_kinds_by_price() -> None:
    book = MarketBook(CENT)
    for index, shares in ((40, 10), (42, 10)):
        book.set_level(buy=False, index=index, qty=Qty(shares * SCALE))
    pool = Liquidity(book)
    for at, shares in (("0.39", 1), ("0.41", 2), ("0.42", 3)):
        pool.add(resting(at, buy=False, at=at, shares=shares))
    swept = [
        (part.yes_price, part.size, part.order and part.order.order_id)
        for part in pool.sweep(buy=True, limit=price("0.42"))
    ]
    assert swept == [
        (price("0.39"), base(1), "0.39"),
        (price("0.40"), base(10), None),
        (price("0.41"), base(2), "0.41"),
        (price("0.42"), base(10), None),
        (price("0.42"), base(3), "0.42"),
    ]
    assert len(list(pool.sweep(buy=True, limit=price("0.40")))) == 2
    assert list(pool.sweep(buy=False, limit=price("0.01"))) == []
    assert pool.best(buy=True) is None
    assert pool.bests() == (None, price("0.39"))
    assert [shares for _, shares in pool.levels(buy=False)] == [n * SCALE for n in (1, 10, 2, 13)]


@pytest.mark.parametrize("size", [0, 1, 7, 10, 12])
def test_first_cuts_the_last_part(size: int) -> None:
    parts = [Taken(price("0.40"), 7, None), Taken(price("0.41"), 3, None)]
    taken = first(parts, size)
    assert sum(part.size for part in taken) == min(size, 10)


def test_a_finer_tick_leaves_users_orders_where_they_are() -> None:
    world = World()
    world.fund("ann", 100)
    market = world.book(FREE, bids={"0.30": 10}, asks={"0.40": 10})
    world.place("ann", BUY, 10, "0.35")
    world.exchange.drain()
    client = Client(market)
    client.read(world.exchange.simulator.refine(market, world.now_ns))
    client.check()
    world.place("ann", BUY, 10, "0.355")
    assert [p for p, _ in market.levels(0, buy=True)][:2] == [price("0.355"), price("0.35")]
    client.read(list(world.exchange.drain().frames))
    client.check()


def test_a_crossing_quote_loses_what_it_took() -> None:
    book = MarketBook(CENT)
    pool = Liquidity(book)
    pool.add(resting("low", buy=True, at="0.50", shares=5))
    pool.add(resting("high", buy=True, at="0.52", shares=4))
    book.set_level(buy=False, index=50, qty=Qty(30 * SCALE))
    crossed = pool.uncross()
    assert crossed is not None
    buy, taken = crossed
    assert not buy
    # The flow sells 4 at 0.52 and 5 at 0.50, the users' own prices; 21 are left and rest.
    assert [(part.yes_price, part.size) for part in taken] == [
        (price("0.52"), base(4)),
        (price("0.50"), base(5)),
    ]
    assert book.qty(buy=False, index=50) == 21 * SCALE
    assert pool.quiet
    assert pool.uncross() is None


def test_quotes_make_way_without_a_trade() -> None:
    book = MarketBook(CENT)
    pool = Liquidity(book)
    order = resting("a", buy=False, at="0.40", shares=5)
    for index in (39, 40, 45):
        book.set_level(buy=True, index=index, qty=Qty(SCALE))
    pool.add(order)
    assert [(c.index, c.qty) for c in pool.make_way()] == [(45, 0), (40, 0)]
    assert order.remaining == base(5)
    assert pool.bests() == (price("0.39"), price("0.40"))
