"""The sandbox's book under any sequence of changes: never crossed, always its own mirror."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.units import SCALE, Price, Qty
from fleet.sandbox.market_book import BookError, MarketBook
from fleet.sandbox.questions import CENT, MILL

CHANGE = st.tuples(st.booleans(), st.integers(1, 99), st.integers(0, 5))


def fold(changes: list[tuple[bool, int, int]]) -> MarketBook:
    book = MarketBook(CENT)
    for buy, index, shares in changes:
        crosses = index >= book.best_ask if buy else index <= book.best_bid
        if crosses and shares:
            with pytest.raises(BookError):
                book.set_level(buy=buy, index=index, qty=Qty(shares * SCALE))
        else:
            book.set_level(buy=buy, index=index, qty=Qty(shares * SCALE))
    return book


@given(st.lists(CHANGE, max_size=60))
def test_never_crossed_and_best_is_best(changes: list[tuple[bool, int, int]]) -> None:
    book = fold(changes)
    assert book.best_bid < book.best_ask
    bids, asks = book.levels(buy=True), book.levels(buy=False)
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert book.best_bid == (bids[0] if bids else 0)
    assert book.best_ask == (asks[0] if asks else book.top)


@given(st.lists(CHANGE, max_size=40), st.booleans(), st.integers(1, 30), st.integers(1, 99))
def test_a_taker_gets_the_best_prices_and_no_more_than_rests(
    changes: list[tuple[bool, int, int]], buy: bool, shares: int, limit: int
) -> None:
    book = fold(changes)
    before = {i: book.qty(buy=not buy, index=i) for i in range(1, 100)}
    within = sum(q for i, q in before.items() if (i <= limit if buy else i >= limit))
    matches = book.take(buy=buy, qty=Qty(shares * SCALE), limit=limit)
    taken = sum(m.qty for m in matches)
    assert taken == min(shares * SCALE, within)
    prices = [m.index for m in matches]
    assert prices == sorted(prices, reverse=not buy)
    for match in matches:
        rest = book.qty(buy=not buy, index=match.index)
        assert rest + match.qty == before[match.index]
        assert rest == 0 or match is matches[-1]


@given(st.lists(CHANGE, max_size=40))
def test_a_finer_grid_keeps_every_price_and_size(changes: list[tuple[bool, int, int]]) -> None:
    book = fold(changes)
    shown = {
        buy: [(i * book.tick, book.qty(buy=buy, index=i)) for i in book.levels(buy=buy)]
        for buy in (True, False)
    }
    book.refine(MILL)
    assert book.tick == MILL
    for buy, levels in shown.items():
        fine = [(i * book.tick, book.qty(buy=buy, index=i)) for i in book.levels(buy=buy)]
        assert fine == levels


def test_a_coarser_grid_is_refused() -> None:
    book = MarketBook(MILL)
    with pytest.raises(BookError, match="does not divide"):
        book.refine(Price(CENT))


@pytest.mark.parametrize("index", [0, 100, -1])
def test_off_the_grid_is_refused(index: int) -> None:
    with pytest.raises(BookError, match="off the grid"):
        MarketBook(CENT).set_level(buy=True, index=index, qty=Qty(SCALE))
