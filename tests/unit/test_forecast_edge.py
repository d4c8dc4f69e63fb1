"""What a forecast allows on a book: depth, fee, slippage, confidence, caps and minimums."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.commands import BundleId
from fleet.domain.instruments import Instrument, InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_up
from fleet.engine.book import Book
from fleet.strategies.forecast_edge import (
    EXIT,
    IDEA,
    Funds,
    Trade,
    bundle_of,
    find_bet,
    find_sale,
    has_edge,
    value_of,
)
from fleet.strategies.forecast_settings import ForecastSettings
from fleet.strategies.sizing import Offer
from tests.builders import Levels, c, instrument, levels, market_id, no, p, q, universe, yes
from tests.forecast_bot import forecast

SETTINGS = replace(ForecastSettings(), slippage=Price(0))
RICH = Funds(c("1000"), Cash(0), c("1000"))


def offer(
    asks: Levels = (("0.5", "1000"),), bids: Levels = (("0.48", "1000"),), *,
    side: Side = Side.BUY, rate: str = "0", tick: str = "0.01",
) -> Offer:  # fmt: skip
    token: Instrument = instrument(yes(), no(), market_id(), rate=rate)
    book = Book(yes(), p(tick))
    book.replace(levels(bids), levels(asks), 1)
    return Offer(token, side, book)


def bet(
    value: str = "0.6", *, where: Offer | None = None, deviation: str = "0.02",
    funds: Funds = RICH, settings: ForecastSettings = SETTINGS,
) -> Trade | None:  # fmt: skip
    return find_bet(where or offer(), p(value), p(deviation), funds, settings)


def test_a_quarter_of_kelly_is_bought_at_the_ask() -> None:
    # f* = (0.6 - 0.5) / 0.5 = 0.2; a quarter of it of $1000 is $50, 100 shares.
    found = bet()
    assert found is not None
    assert (found.qty, found.limit, found.cash, found.budget) == (
        q("100"), p("0.5"), c("-50"), c("50")
    )  # fmt: skip


def test_what_is_staked_already_is_taken_off() -> None:
    found = bet(funds=Funds(c("1000"), c("30"), c("1000")))
    assert found is not None
    assert found.budget == c("20")
    assert bet(funds=Funds(c("1000"), c("50"), c("1000"))) is None


def test_room_caps_the_bet() -> None:
    found = bet(funds=Funds(c("1000"), Cash(0), c("7.013")))
    assert found is not None
    assert (found.qty, found.budget) == (q("14.02"), c("7.01"))
    assert bet(funds=Funds(c("1000"), Cash(0), Cash(0))) is None


def test_depth_is_walked_while_the_last_share_still_has_its_edge() -> None:
    deep = offer([("0.5", "20"), ("0.51", "30"), ("0.58", "1000")])
    found = bet(where=deep)
    assert found is not None
    assert (found.qty, found.limit) == (q("50"), p("0.51"))
    assert (found.cash, found.budget) == (c("-25.3"), c("25.5"))


def test_a_deeper_level_allows_less_and_ends_the_walk() -> None:
    # At 0.56 Kelly allows (0.6 - 0.56) / 0.44 / 4 = 2.27 % of $1000: fewer shares than at 0.5.
    deep = offer([("0.5", "60"), ("0.56", "1000")])
    found = bet(where=deep)
    assert found is not None
    assert (found.qty, found.limit) == (q("60"), p("0.5"))


def test_fee_and_slippage_are_paid_by_the_edge() -> None:
    dear = offer(rate="0.05")
    found = bet(where=dear)
    assert found is not None
    # 0.0125 of fee a share: f* = (0.6 - 0.5125) / 0.4875, and the fee is in what is staked.
    assert (found.qty, found.budget) == (q("87.55"), c("44.86938"))
    assert bet("0.54", where=dear) is None
    slack = bet(settings=replace(SETTINGS, slippage=p("0.02")))
    assert slack is not None
    assert (slack.limit, slack.qty) == (p("0.52"), q("80.12"))
    assert slack.cash == c("-40.06")
    assert bet("0.54", settings=replace(SETTINGS, slippage=p("0.02"))) is None


def test_a_fee_that_rounds_up_past_the_stake_costs_a_lot() -> None:
    # 10.01 shares at 0.5125 are 5.130125 dollars, but their fee of 0.125125 is charged as 0.12513.
    found = bet(where=offer(rate="0.05"), funds=Funds(c("1000"), Cash(0), c("5.130125")))
    assert found is not None
    assert (found.qty, found.budget) == (q("10"), c("5.125"))


def test_the_limit_is_on_the_books_own_grid() -> None:
    fine = offer([("0.502", "1000")], tick="0.001")
    found = bet(where=fine)
    assert found is not None
    assert found.limit == p("0.502")
    slack = bet(where=fine, settings=replace(SETTINGS, slippage=p("0.01")))
    assert slack is not None
    assert slack.limit == p("0.51")


@pytest.mark.parametrize(
    ("value", "deviation", "percent", "bets"),
    [("0.529", "0.001", 50, False), ("0.53", "0.001", 50, True), ("0.6", "0.1", 80, True),
     ("0.6", "0.12", 80, False), ("0.6", "0.12", 75, True), ("0.6", "0", 50, False)],
)  # fmt: skip
def test_an_edge_must_be_large_and_certain_enough(
    value: str, deviation: str, percent: int, bets: bool
) -> None:
    found = bet(value, deviation=deviation, settings=replace(SETTINGS, min_confidence=percent))
    assert (found is not None) is bets


def test_less_than_the_venues_minimum_is_not_bet() -> None:
    assert bet(funds=Funds(c("1000"), Cash(0), c("2.49"))) is None
    assert bet(where=offer([("0.5", "4.99")])) is None
    assert bet(where=offer([])) is None


PRICES = st.integers(1, 99).map(lambda cents: cents * SCALE // 100)


@given(
    asks=st.dictionaries(PRICES, st.integers(1, 500 * SCALE), max_size=6),
    value=PRICES, deviation=st.integers(1, SCALE // 10), bankroll=st.integers(0, 2_000 * SCALE),
    staked=st.integers(0, 100 * SCALE), room=st.integers(0, 200 * SCALE),
    rate=st.integers(0, SCALE // 10), slippage=st.integers(0, SCALE // 50),
)  # fmt: skip
def test_a_bet_never_passes_its_caps_and_always_keeps_its_edge(
    asks: dict[int, int], value: int, deviation: int, bankroll: int, staked: int, room: int,
    rate: int, slippage: int,
) -> None:  # fmt: skip
    token = instrument(yes(), no(), market_id())
    token = replace(token, fees=replace(token.fees, rate=rate))
    book = Book(yes(), p("0.01"))
    book.replace([], [(Price(price), Qty(qty)) for price, qty in asks.items()], 1)
    settings = replace(SETTINGS, slippage=Price(slippage))
    funds = Funds(Cash(bankroll), Cash(staked), Cash(room))
    found = find_bet(Offer(token, Side.BUY, book), Price(value), deviation, funds, settings)
    if found is None:
        return
    worst = notional_up(found.limit, found.qty) + token.fees.fee(found.limit, found.qty)
    assert found.budget == worst <= room
    assert staked + worst <= bankroll * settings.kelly_fraction // SCALE
    assert value - found.limit - token.fees.per_share(found.limit) >= settings.min_edge
    assert -found.cash <= worst
    assert found.qty % token.lot == 0
    assert found.qty >= token.least_qty(found.limit)
    assert found.limit % book.tick == 0
    assert found.qty <= book.depth(Side.BUY, found.limit)


# --- sales --------------------------------------------------------------------------------------


def sale(
    qty: str = "100", *, worth: str = "0", floor: str = "0.01", rate: str = "0",
    bids: Levels = (("0.5", "40"), ("0.49", "40"), ("0.4", "500")),
) -> Trade | None:  # fmt: skip
    where = offer([("0.9", "1")], bids, side=Side.SELL, rate=rate)
    return find_sale(where, q(qty), worth=p(worth), floor=p(floor))


def test_a_holding_is_sold_into_the_bids() -> None:
    found = sale()
    assert found is not None
    assert (found.side, found.qty, found.limit) == (Side.SELL, q("100"), p("0.4"))
    assert (found.cash, found.budget) == (c("47.6"), 0)


@pytest.mark.parametrize(
    ("worth", "floor", "rate"),
    [("0.41", "0.01", "0"), ("0", "0.45", "0"), ("0.47", "0.01", "0.05")],
)
def test_no_share_is_sold_below_worth_or_floor(worth: str, floor: str, rate: str) -> None:
    found = sale(worth=worth, floor=floor, rate=rate)
    assert found is not None
    assert (found.qty, found.limit) == (q("80"), p("0.49"))


def test_what_is_too_little_to_sell_is_kept() -> None:
    assert sale("4.99") is None
    assert sale(worth="0.6") is None
    assert sale(bids=()) is None
    assert sale("20", bids=(("0.03", "500"),)) is None  # 60 cents.


# --- forecasts and bundles ----------------------------------------------------------------------


def test_a_token_is_worth_its_chance() -> None:
    market = universe().markets[market_id()]
    assert value_of(forecast(blend="0.7"), yes(), market) == p("0.7")
    assert value_of(forecast(blend="0.7"), no(), market) == p("0.3")


@pytest.mark.parametrize(
    ("weight", "deviation", "blend", "known"),
    [("0.5", "0.02", "0.6", True), ("1", "0.02", "0.6", True), ("0", "0.02", "0.6", False),
     ("-0.1", "0.02", "0.6", False), ("1.1", "0.02", "0.6", False), ("0.5", "0", "0.6", False),
     ("0.5", "0.02", "0", False), ("0.5", "0.02", "1", False)],
)  # fmt: skip
def test_an_edge_is_shown_and_measured_or_it_is_none(
    weight: str, deviation: str, blend: str, known: bool
) -> None:
    assert has_edge(forecast(blend=blend, weight=weight, deviation=deviation)) is known


def test_a_trade_becomes_a_bundle_of_one_leg() -> None:
    bought = Trade(InstrumentId("y1"), Side.BUY, q("10"), p("0.5"), c("-4.9"), c("5"))
    made = bundle_of(bought, BundleId("b1"), market_id=market_id(), value=p("0.6"), tick=p("0.01"))
    assert (made.idea, made.key, made.payoff, made.budget) == (IDEA, "m1", p("0.6"), c("5"))
    assert (made.edge, made.exits, made.start, made.finish) == (c("1.1"), "", None, None)
    sold = Trade(InstrumentId("y1"), Side.SELL, q("10"), p("0.5"), c("5.1"), Cash(0))
    left = bundle_of(sold, BundleId("b2"), market_id=market_id(), value=Price(p("0.4") + 1),
                     tick=p("0.01"), exits=BundleId("b1"))  # fmt: skip
    assert (left.idea, left.exits, left.budget) == (EXIT, "b1", 0)
    assert left.edge == c("1.0999999")
