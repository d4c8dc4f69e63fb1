"""Order amounts: the venue's documented check values, and the rules that protect us."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Cash, Price, Qty, parse_cash, parse_price, parse_qty
from fleet.venues.polymarket.amounts import (
    AmountError,
    OrderAmounts,
    limit_amounts,
    market_buy_amounts,
    market_sell_amounts,
    order_amounts,
    spend_for,
)

CENT = parse_price("0.01")
TICKS = [parse_price(t) for t in ("0.1", "0.01", "0.005", "0.0025", "0.001", "0.0001")]
AMOUNT_DECIMALS = dict(zip(TICKS, (3, 4, 5, 6, 5, 6), strict=True))


@st.composite
def grid_prices(draw: st.DrawFn) -> tuple[Price, Price]:
    tick = draw(st.sampled_from(TICKS))
    return Price(tick * draw(st.integers(1, SCALE // tick - 1))), tick


@pytest.mark.parametrize(
    ("side", "price", "qty", "maker", "taker"),
    [
        (Side.BUY, "0.52", "10", 5_200_000, 10_000_000),
        (Side.SELL, "0.37", "7.777", 7_770_000, 2_874_900),
        (Side.BUY, "0.34", "5.129", 1_740_800, 5_120_000),
    ],
)
def test_limit_amounts_are_the_documented_ones(
    side: Side, price: str, qty: str, maker: int, taker: int
) -> None:
    amounts = limit_amounts(side, parse_price(price), parse_qty(qty), CENT)
    assert amounts == OrderAmounts(maker, taker)


@pytest.mark.parametrize(
    ("price", "spend", "maker", "taker"),
    [
        ("0.52", "100", 100_000_000, 192_307_600),
        ("0.37", "33.33", 33_330_000, 90_081_000),
    ],
)
def test_market_buy_amounts_are_the_documented_ones(
    price: str, spend: str, maker: int, taker: int
) -> None:
    amounts = market_buy_amounts(parse_price(price), parse_cash(spend), CENT)
    assert amounts == OrderAmounts(maker, taker)


def test_market_sell_amounts_are_the_documented_ones() -> None:
    amounts = market_sell_amounts(parse_price("0.37"), parse_qty("12.345"), CENT)
    assert amounts == OrderAmounts(12_340_000, 4_565_800)


def test_a_size_the_float_client_loses_a_cent_of_is_kept_whole() -> None:
    # 1.15 * 100 is 114.99999999999999 in a double; the official client sells 1.14.
    amounts = limit_amounts(Side.SELL, parse_price("0.50"), parse_qty("1.15"), CENT)
    assert amounts == OrderAmounts(1_150_000, 575_000)


@pytest.mark.parametrize("price", ["0.335", "0.005", "0", "1", "0.995", "1.01", "-0.01"])
def test_a_price_off_the_grid_is_refused_not_rounded(price: str) -> None:
    with pytest.raises(AmountError, match="quantize it first"):
        limit_amounts(Side.BUY, parse_price(price), parse_qty("10"), CENT)


def test_a_price_right_for_its_decimals_but_off_a_half_cent_tick_is_refused() -> None:
    with pytest.raises(AmountError, match=r"grid of tick 0\.005"):
        limit_amounts(Side.BUY, parse_price("0.523"), parse_qty("10"), parse_price("0.005"))


def test_a_tick_the_venue_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(AmountError, match=r"0\.02 is no tick.*0\.0025"):
        limit_amounts(Side.BUY, parse_price("0.5"), parse_qty("10"), parse_price("0.02"))


@pytest.mark.parametrize("qty", ["0", "0.009", "-5"])
def test_a_size_that_rounds_to_nothing_is_refused(qty: str) -> None:
    with pytest.raises(AmountError, match=r"below 0\.01"):
        limit_amounts(Side.SELL, parse_price("0.5"), parse_qty(qty), CENT)


def test_less_than_a_cent_cannot_be_spent() -> None:
    with pytest.raises(AmountError, match="below one cent"):
        market_buy_amounts(parse_price("0.01"), parse_cash("0.0099"), CENT)


@given(grid_prices(), st.integers(1, 10**9), st.sampled_from(Side))
def test_a_limit_order_states_its_price_exactly(
    priced: tuple[Price, Price], cents: int, side: Side
) -> None:
    price, tick = priced
    qty = Qty(cents * 10**6)
    amounts = limit_amounts(side, price, qty, tick)
    dollars, shares = amounts if side is Side.BUY else (amounts.taker, amounts.maker)
    assert Fraction(dollars, shares) == Fraction(price, SCALE)
    assert shares * 100 == qty


@given(grid_prices(), st.integers(1, 10**9))
def test_a_market_buy_keeps_the_decimals_and_the_price_the_venue_allows(
    priced: tuple[Price, Price], cents: int
) -> None:
    price, tick = priced
    maker, taker = market_buy_amounts(price, Cash(cents * 10**6), tick)
    step = 10 ** (6 - AMOUNT_DECIMALS[tick])
    exact = Fraction(maker * SCALE, price)
    assert maker == cents * 10_000
    assert taker % step == 0
    assert exact - step < taker <= exact + Fraction(step, 10**4)


@given(grid_prices(), st.integers(100, 10**8), st.sampled_from([TimeInForce.FAK, TimeInForce.FOK]))
def test_a_buy_that_takes_never_wants_more_than_asked(
    priced: tuple[Price, Price], cents: int, tif: TimeInForce
) -> None:
    price, tick = priced
    qty = Qty(cents * 10**6)
    spend = spend_for(price, qty)
    assert spend * SCALE <= price * qty
    if spend == 0:
        with pytest.raises(AmountError):
            order_amounts(Side.BUY, price, qty, tif, tick)
        return
    maker, taker = order_amounts(Side.BUY, price, qty, tif, tick)
    assert maker * 100 == spend
    assert taker * 100 <= qty


@pytest.mark.parametrize("tif", [TimeInForce.GTC, TimeInForce.GTD])
def test_an_order_that_rests_is_sized_in_shares(tif: TimeInForce) -> None:
    price, qty = parse_price("0.37"), parse_qty("7.77")
    assert order_amounts(Side.BUY, price, qty, tif, CENT) == OrderAmounts(2_874_900, 7_770_000)


def test_a_buy_that_takes_is_sized_in_whole_cents_of_dollars() -> None:
    price, qty = parse_price("0.37"), parse_qty("7.77")
    # 7.77 x 0.37 is 2.8749 dollars, so 2.87 are spent
    expected = OrderAmounts(2_870_000, 7_756_700)
    assert order_amounts(Side.BUY, price, qty, TimeInForce.FAK, CENT) == expected


def test_a_sell_that_takes_is_sized_in_shares() -> None:
    price, qty = parse_price("0.37"), parse_qty("7.77")
    expected = OrderAmounts(7_770_000, 2_874_900)
    assert order_amounts(Side.SELL, price, qty, TimeInForce.FOK, CENT) == expected
