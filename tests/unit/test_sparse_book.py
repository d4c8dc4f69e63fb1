"""The book without a ceiling: what a coin's book must do, and that it agrees with the flat one."""

import random

import pytest

from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Price, Qty
from fleet.engine.book import Book
from fleet.engine.sparse_book import SparseBook
from tests.builders import Levels, levels, p, q

BUY, SELL = Side.BUY, Side.SELL
COIN = InstrumentId("BINANCE:ETHUSDT")


def book(
    bids: Levels = (("3000.01", "2"), ("2999.5", "1")),
    asks: Levels = (("3000.02", "3"), ("3001", "4")),
) -> SparseBook:
    made = SparseBook(COIN, p("0.01"))
    assert made.replace(levels(bids), levels(asks), 7)
    return made


def test_it_is_ready_only_after_a_snapshot() -> None:
    one = SparseBook(COIN, p("0.01"))
    assert (one.ready, one.usable, one.bid, one.bid_qty, one.ask_qty) == (False, False, 0, 0, 0)
    assert book().usable


def test_no_ask_is_above_every_price_and_fits_64_bits() -> None:
    one = book(asks=[])
    assert one.ask > p("10000000000") and one.ask < 2**63 and one.ask_qty == 0
    assert one.usable and list(one.levels(BUY)) == []


def test_the_top_moves_with_its_levels() -> None:
    one = book()
    one.apply(BUY, p("3000.01"), Qty(0))
    one.apply(SELL, p("3000.5"), q("9"))
    one.apply(SELL, p("3000.02"), Qty(0))
    assert (one.bid, one.bid_qty) == (p("2999.5"), q("1"))
    assert (one.ask, one.ask_qty) == (p("3000.5"), q("9"))
    assert one.next_price(BUY) == p("3001") and one.next_price(SELL) is None


@pytest.mark.parametrize("price", ["0.005", "0", "-1"])
def test_a_price_off_the_grid_voids_it(price: str) -> None:
    one = book()
    one.apply(BUY, p(price), q("1"))
    assert not one.ready and one.bid == 0
    assert not book().replace(levels([(price, "1")]), [], 9)


def test_a_new_tick_is_a_new_epoch() -> None:
    one = book()
    one.void(p("0.1"))
    assert (one.epoch, one.ready, one.tick) == (1, False, p("0.1"))


def test_below_a_dollar_it_agrees_with_the_flat_book() -> None:
    """Ten thousand random changes: same tops, same levels, same depth, same next price."""
    chance = random.Random(11)
    tick = p("0.01")
    flat, sparse = Book(COIN, tick), SparseBook(COIN, tick)
    for one in (flat, sparse):
        one.replace([], [], 1)
    for _ in range(10_000):
        side = chance.choice([BUY, SELL])
        cents = chance.randrange(1, 60) if side is BUY else chance.randrange(40, 100)
        qty = Qty(chance.choice([0, 0, SCALE, 3 * SCALE]))
        for one in (flat, sparse):
            one.apply(side, Price(cents * tick), qty)
        assert (flat.bid, flat.bid_qty, flat.ask_qty) == (
            sparse.bid,
            sparse.bid_qty,
            sparse.ask_qty,
        )
        assert flat.usable == sparse.usable
        for taker in (BUY, SELL):
            assert list(flat.levels(taker)) == list(sparse.levels(taker))
            assert flat.next_price(taker) == sparse.next_price(taker)
            limit = Price(chance.randrange(1, 100) * tick)
            assert flat.depth(taker, limit) == sparse.depth(taker, limit)
