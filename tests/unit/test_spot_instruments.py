"""Shares and coins: no ceiling, fees in proportion, one market that names the instrument twice."""

import dataclasses

import pytest

from fleet.domain import events as ev
from fleet.domain.instruments import (
    Instrument,
    InstrumentError,
    InstrumentId,
    Market,
    MarketId,
    ProportionalFees,
    Side,
    Universe,
)
from fleet.domain.units import Cash, Price, Qty, parse_cash, parse_price, parse_qty
from fleet.engine.exposure import market_exposure
from fleet.engine.sparse_book import SparseBook
from fleet.engine.state import State

p, q, c = parse_price, parse_qty, parse_cash
COIN = InstrumentId("BINANCE:ETHUSDT")
ETH = Instrument(
    id=COIN, market_id=MarketId(COIN), complement=InstrumentId(""), outcome="ETHUSDT",
    tick=p("0.01"), lot=q("0.0001"), min_qty=q("0.0001"), min_notional=c("5"),
    fees=ProportionalFees(rate=p("0.001")), ceiling=Price(0),
)  # fmt: skip
UNIVERSE = Universe(
    instruments={COIN: ETH},
    markets={ETH.market_id: Market(id=ETH.market_id, question="ETHUSDT", yes=COIN, no=COIN)},
)


@pytest.mark.parametrize(
    ("price", "side", "quantized"),
    [
        ("3000.019", Side.BUY, "3000.01"),
        ("3000.011", Side.SELL, "3000.02"),
        ("0.001", Side.BUY, "0.01"),
        ("100000", Side.SELL, "100000"),
    ],
)
def test_prices_have_a_grid_and_no_ceiling(price: str, side: Side, quantized: str) -> None:
    assert ETH.quantize_price(p(price), side) == p(quantized)
    assert ETH.prices(p(price)) and not ETH.prices(0)


def test_an_outcome_token_keeps_its_ceiling() -> None:
    token = dataclasses.replace(ETH, ceiling=p("1"))
    assert token.quantize_price(p("3000"), Side.SELL) == p("0.99")
    assert token.prices(p("0.995")) and not token.prices(p("1"))


@pytest.mark.parametrize(("ceiling", "tick"), [("0", "0"), ("2", "0.01"), ("1", "0.03")])
def test_a_ceiling_or_a_tick_that_makes_no_sense_is_refused(ceiling: str, tick: str) -> None:
    with pytest.raises(InstrumentError):
        dataclasses.replace(ETH, ceiling=p(ceiling), tick=p(tick))


def test_fees_are_a_share_of_the_notional_rounded_up() -> None:
    assert ETH.fees.fee(p("3000"), q("2")) == c("6")
    assert ETH.fees.fee(Price(1), Qty(1)) == Cash(1)
    assert ETH.fees.per_share(p("3000.01")) == p("3.00001")


def test_the_state_keeps_a_sparse_book_and_counts_a_position_once() -> None:
    state = State(UNIVERSE)
    assert isinstance(state.books[COIN], SparseBook)
    state.portfolio.position(COIN)
    state.portfolio.fill(
        ev.OrderFilled(
            trade_id=ev.TradeId("t"), client_order_id="o1", instrument_id=COIN,  # type: ignore[arg-type]
            side=Side.BUY, price=p("3000"), qty=q("2"), fee=c("6"), maker=False,
        )
    )  # fmt: skip
    assert market_exposure(ETH.market_id, state) == c("6006")


def test_a_closed_bar_is_market_data_and_no_fact() -> None:
    state = State(UNIVERSE)
    price = p("3000")
    state.apply(ev.BarClosed(50, 60, COIN, 60, price, price, price, price, q("1")))
    assert (state.now_ns, state.moment_ns, state.last_market_ns) == (60, 50, 60)
    assert "BarClosed" not in ev.DURABLE
