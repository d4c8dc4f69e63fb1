"""The book: snapshots, changes, best pointers, depth, and when it may not be used."""

import pytest

from fleet.domain.instruments import Side
from fleet.domain.units import ONE
from fleet.engine.book import Book
from tests.builders import Levels, levels, p, q, yes

BUY, SELL = Side.BUY, Side.SELL


def book(
    bids: Levels = (("0.48", "100"), ("0.47", "50")),
    asks: Levels = (("0.52", "10"), ("0.55", "20")),
    tick: str = "0.01",
) -> Book:
    made = Book(yes(), p(tick))
    assert made.replace(levels(bids), levels(asks), 7)
    return made


def top(one: Book) -> tuple[int, int, int, int]:
    return one.bid, one.bid_qty, one.ask, one.ask_qty


EMPTY = (0, 0, ONE, 0)


def test_a_new_book_is_not_ready() -> None:
    one = Book(yes(), p("0.01"))
    assert (one.ready, one.usable, one.crossed) == (False, False, False)
    assert top(one) == EMPTY


def test_a_snapshot_makes_it_ready() -> None:
    one = book()
    assert one.ready and one.usable and one.ts_event == 7
    assert top(one) == (p("0.48"), q("100"), p("0.52"), q("10"))


def test_a_snapshot_replaces_everything_and_ignores_empty_levels() -> None:
    one = book()
    one.replace(levels([("0.30", "1"), ("0.40", "0")]), levels([("0.60", "0"), ("0.70", "2")]), 8)
    assert top(one) == (p("0.30"), q("1"), p("0.70"), q("2"))
    assert list(one.levels(BUY)) == levels([("0.70", "2")])


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("price", ["0.525", "0", "1", "1.01", "-0.01"])
def test_a_snapshot_off_the_grid_is_refused_and_voids(side: Side, price: str) -> None:
    one = book()
    bad, good = levels([(price, "1")]), levels([("0.5", "1")])
    assert not one.replace(bad if side is BUY else good, bad if side is SELL else [], 9)
    assert not one.ready
    assert top(one) == EMPTY


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("price", ["0.525", "0", "1", "1.01", "-0.01"])
def test_a_change_off_the_grid_voids(side: Side, price: str) -> None:
    one = book()
    one.apply(side, p(price), q("1"))
    assert not one.ready
    assert top(one) == EMPTY


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([(BUY, "0.49", "3")], ("0.49", "3", "0.52", "10")),
        ([(BUY, "0.40", "3")], ("0.48", "100", "0.52", "10")),
        ([(BUY, "0.48", "7")], ("0.48", "7", "0.52", "10")),
        ([(BUY, "0.48", "0")], ("0.47", "50", "0.52", "10")),
        ([(BUY, "0.47", "0")], ("0.48", "100", "0.52", "10")),
        ([(BUY, "0.48", "0"), (BUY, "0.47", "0")], ("0", "0", "0.52", "10")),
        ([(SELL, "0.51", "3")], ("0.48", "100", "0.51", "3")),
        ([(SELL, "0.60", "3")], ("0.48", "100", "0.52", "10")),
        ([(SELL, "0.52", "0")], ("0.48", "100", "0.55", "20")),
        ([(SELL, "0.55", "0")], ("0.48", "100", "0.52", "10")),
        ([(SELL, "0.52", "0"), (SELL, "0.55", "0")], ("0.48", "100", "1", "0")),
        ([(BUY, "0.99", "1"), (SELL, "0.01", "1")], ("0.99", "1", "0.01", "1")),
    ],
)
def test_changes_move_the_best_prices(
    changes: list[tuple[Side, str, str]], expected: tuple[str, str, str, str]
) -> None:
    one = book()
    for side, price, qty in changes:
        one.apply(side, p(price), q(qty))
    bid, bid_qty, ask, ask_qty = expected
    assert top(one) == (p(bid), q(bid_qty), p(ask), q(ask_qty))


@pytest.mark.parametrize("bid", ["0.52", "0.53"])
def test_a_locked_or_crossed_book_is_kept_but_not_usable(bid: str) -> None:
    one = book()
    one.apply(BUY, p(bid), q("1"))
    assert (one.ready, one.crossed, one.usable) == (True, True, False)
    one.apply(BUY, p(bid), q("0"))
    assert one.usable


def test_void_forgets_levels_but_not_the_grid() -> None:
    one = book()
    one.void()
    assert (one.ready, one.epoch, one.tick) == (False, 0, p("0.01"))
    assert top(one) == EMPTY
    one.void(p("0.01"))
    assert one.epoch == 0


def test_a_new_tick_is_a_new_grid_and_a_new_epoch() -> None:
    one = book()
    one.void(p("0.001"))
    assert (one.ready, one.epoch, one.size) == (False, 1, 1_000)
    assert one.replace(levels([("0.481", "5")]), levels([("0.482", "6")]), 9)
    assert top(one) == (p("0.481"), q("5"), p("0.482"), q("6"))


def test_a_taker_meets_the_best_level_first() -> None:
    one = book(asks=[("0.55", "20"), ("0.52", "10"), ("0.60", "1")])
    assert list(one.levels(BUY)) == levels([("0.52", "10"), ("0.55", "20"), ("0.60", "1")])
    assert list(one.levels(SELL)) == levels([("0.48", "100"), ("0.47", "50")])


@pytest.mark.parametrize(
    ("side", "limit", "depth"),
    [
        (BUY, "0.51", "0"),
        (BUY, "0.52", "10"),
        (BUY, "0.54", "10"),
        (BUY, "0.99", "30"),
        (SELL, "0.49", "0"),
        (SELL, "0.48", "100"),
        (SELL, "0.01", "150"),
    ],
)
def test_depth_to_a_limit(side: Side, limit: str, depth: str) -> None:
    assert book().depth(side, p(limit)) == q(depth)
