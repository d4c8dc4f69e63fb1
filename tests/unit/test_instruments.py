"""Instruments, fee schedules, sets and the universe."""

import dataclasses

import pytest

from fleet.domain.instruments import (
    FeeSchedule,
    Instrument,
    InstrumentError,
    Ladder,
    MarketId,
    OutcomeSet,
    SetId,
    Side,
    Universe,
)
from fleet.domain.units import SCALE, Price, Qty, notional_up
from tests.builders import c, instrument, market_id, no, p, q, universe, yes


def make(**changes: object) -> Instrument:
    return dataclasses.replace(instrument(yes(), no(), market_id()), **changes)  # type: ignore[arg-type]


def test_the_other_side() -> None:
    assert Side.BUY.opposite is Side.SELL
    assert Side.SELL.opposite is Side.BUY


# The rates and the maximum a share are those of the venue's fee page (polymarket reference 7.5).
@pytest.mark.parametrize(
    ("rate", "price", "qty", "fee"),
    [
        ("0.07", "0.5", "1", "0.0175"),
        ("0.05", "0.5", "1", "0.0125"),
        ("0.04", "0.5", "100", "1"),
        ("0.05", "0.37", "10", "0.11655"),
        ("0.07", "0.05", "100", "0.3325"),
        ("0.05", "0.001", "5", "0.00025"),
        ("0.04", "0.33", "7.77", "0.06872"),
        ("0", "0.5", "100", "0"),
        ("0.05", "1", "100", "0"),
        ("0.05", "0", "100", "0"),
    ],
)
def test_fees_follow_the_schedule_and_round_up_to_five_decimals(
    rate: str, price: str, qty: str, fee: str
) -> None:
    assert FeeSchedule(rate=p(rate)).fee(p(price), q(qty)) == c(fee)


def test_a_fee_that_is_not_zero_is_never_estimated_as_zero() -> None:
    assert FeeSchedule(rate=p("0.04")).fee(p("0.01"), q("0.01")) == c("0.00001")


@pytest.mark.parametrize(
    ("rate", "exponent", "price", "fee"),
    [
        ("0.07", 1, "0.5", 1_750_000),
        ("0.07", 2, "0.5", 437_500),
        ("0.07", 0, "0.5", 7_000_000),
        ("0.05", 1, "0.001", 4_995),
        ("0.05", 1, "0.00000001", 1),
        ("0.05", 1, "0", 0),
        ("0.05", 1, "1", 0),
        ("0", 1, "0.5", 0),
    ],
)
def test_the_fee_a_share_is_rounded_up(rate: str, exponent: int, price: str, fee: int) -> None:
    assert FeeSchedule(rate=p(rate), exponent=exponent).per_share(p(price)) == fee


@pytest.mark.parametrize(
    ("rate", "exponent", "words"),
    [(-1, 1, "rate"), (SCALE + 1, 1, "rate"), (0, -1, "exponent"), (0, 5, "exponent")],
)
def test_an_impossible_schedule_is_refused(rate: int, exponent: int, words: str) -> None:
    with pytest.raises(InstrumentError, match=words):
        FeeSchedule(rate=rate, exponent=exponent)


@pytest.mark.parametrize(
    ("tick", "price", "side", "result"),
    [
        ("0.01", "0.527", Side.BUY, "0.52"),
        ("0.01", "0.521", Side.SELL, "0.53"),
        ("0.01", "0.52", Side.BUY, "0.52"),
        ("0.01", "0.52", Side.SELL, "0.52"),
        ("0.01", "0.001", Side.BUY, "0.01"),
        ("0.01", "-5", Side.BUY, "0.01"),
        ("0.01", "0.999", Side.SELL, "0.99"),
        ("0.01", "7", Side.SELL, "0.99"),
        ("0.0025", "0.0051", Side.SELL, "0.0075"),
        ("0.0001", "0.99995", Side.SELL, "0.9999"),
    ],
)
def test_a_proposed_price_goes_to_the_grid(tick: str, price: str, side: Side, result: str) -> None:
    assert make(tick=p(tick)).quantize_price(p(price), side) == p(result)


@pytest.mark.parametrize(
    ("qty", "result"), [("7.777", "7.77"), ("5", "5"), ("0.009", "0"), ("-3", "0")]
)
def test_a_proposed_quantity_goes_down_to_the_lot(qty: str, result: str) -> None:
    assert make().quantize_qty(q(qty)) == q(result)


@pytest.mark.parametrize(
    ("price", "least"),
    [
        ("0.5", "5"),
        ("0.2", "5"),
        ("0.19", "5.27"),
        ("0.03", "33.34"),
        ("0.01", "100"),
        ("0.99", "5"),
        ("0", "5"),
    ],
)
def test_the_least_quantity_obeys_both_minimums(price: str, least: str) -> None:
    one = make()
    assert one.least_qty(p(price)) == q(least)
    if price != "0":
        assert notional_up(p(price), q(least)) >= one.min_notional
        smaller = Qty(q(least) - one.lot)
        assert smaller < one.min_qty or notional_up(p(price), smaller) < one.min_notional


@pytest.mark.parametrize(
    "changes",
    [
        {"tick": Price(0)},
        {"tick": p("0.03")},
        {"tick": p("0.6")},
        {"tick": p("-0.01")},
        {"lot": q("0")},
        {"min_qty": q("-1")},
        {"min_notional": c("-1")},
    ],
)
def test_an_instrument_off_the_grid_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InstrumentError):
        make(**changes)


@pytest.mark.parametrize("tick", ["0.1", "0.01", "0.005", "0.0025", "0.001", "0.0001"])
def test_every_tick_of_the_venue_is_accepted(tick: str) -> None:
    assert make(tick=p(tick)).tick == p(tick)


@pytest.mark.parametrize(
    ("augmented", "placeholders", "count", "complete"),
    [
        (False, (), 2, True),
        (True, (), 2, False),
        (False, ("m2",), 2, False),
        (False, (), 1, False),
    ],
)
def test_only_a_plain_set_of_two_or_more_is_complete(
    *, augmented: bool, placeholders: tuple[str, ...], count: int, complete: bool
) -> None:
    group = OutcomeSet(
        id=SetId("s"),
        title="S",
        markets=tuple(market_id(n) for n in range(count)),
        augmented=augmented,
        placeholders=frozenset(MarketId(m) for m in placeholders),
    )
    assert group.complete is complete


def test_a_universe_refuses_what_it_does_not_know() -> None:
    good = universe(2)
    missing = {k: v for k, v in good.instruments.items() if k != no(2)}
    with pytest.raises(InstrumentError, match="unknown token n2"):
        Universe(instruments=missing, markets=good.markets)
    stranger = OutcomeSet(id=SetId("s"), title="S", markets=(market_id(1), market_id(9)))
    with pytest.raises(InstrumentError, match="m9"):
        Universe(instruments=good.instruments, markets=good.markets, sets=(stranger,))
    ladder = Ladder(id="l", title="L", rungs=(market_id(7), market_id(1)))
    with pytest.raises(InstrumentError, match="m7"):
        Universe(instruments=good.instruments, markets=good.markets, ladders=(ladder,))
