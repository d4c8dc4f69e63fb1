"""How much is worth doing: exact quantities, limits and edges."""

import pytest

from fleet.domain.instruments import Side
from fleet.domain.units import SCALE
from fleet.engine.book import Book
from fleet.strategies.sizing import Offer, Sizing, size_bundle, take
from tests.builders import Levels, c, instrument, levels, market_id, no, p, q, yes

BUY, SELL = Side.BUY, Side.SELL


def offer(
    pairs: Levels, side: Side = BUY, *, rate: str = "0", number: int = 1, minimums: bool = True
) -> Offer:
    """A leg whose book offers these levels to a taker of ``side``."""
    token = yes(number)
    book = Book(token, p("0.01"))
    found = levels(pairs)
    book.replace(found if side is SELL else [], found if side is BUY else [], 1)
    least = {} if minimums else {"min_qty": "0", "min_notional": "0"}
    rules = instrument(token, no(number), market_id(number), rate=rate, **least)
    return Offer(rules, side, book)


def size(
    *offers: Offer, payoff: int = SCALE, trade_size: str = "100", min_profit: str = "0.005"
) -> Sizing | None:
    return size_bundle(offers, payoff, trade_size=c(trade_size), min_profit=p(min_profit))


def test_a_share_costs_its_price_and_fee_and_brings_its_price_less_fee() -> None:
    bought, sold = offer([("0.5", "1")], rate="0.04"), offer([("0.5", "1")], SELL, rate="0.04")
    assert bought.unit_cost(p("0.5")) == p("0.51")
    assert sold.unit_cost(p("0.5")) == -p("0.49")


def test_taking_walks_the_levels_and_pays_each_levels_fee() -> None:
    one = offer([("0.5", "10"), ("0.6", "10")], rate="0.05")
    assert take(one, q("10")) == (c("-5.125"), p("0.5"))
    # 5.125 and, for 5 more at 0.6, 3 and 0.06 of fee.
    assert take(one, q("15")) == (c("-8.185"), p("0.6"))
    assert take(one, q("20.01")) is None
    other = offer([("0.5", "10"), ("0.4", "10")], SELL, rate="0.05")
    assert take(other, q("15")) == (c("6.815"), p("0.4"))


def test_two_deep_legs_fill_the_trade_size() -> None:
    found = size(offer([("0.40", "1000")]), offer([("0.50", "1000")], number=2))
    assert found == Sizing(
        qty=q("200"),
        limits=(p("0.40"), p("0.50")),
        depths=(q("1000"), q("1000")),
        outlay=c("180"),
        edge=c("20"),
    )


def test_the_thinnest_leg_bounds_the_rest() -> None:
    found = size(offer([("0.40", "7.777")]), offer([("0.50", "1000")], number=2))
    assert found is not None
    assert found.qty == q("7.77")
    assert found.depths == (q("7.777"), q("1000"))


def test_the_walk_goes_on_while_one_more_share_pays() -> None:
    first = offer([("0.40", "10"), ("0.45", "10"), ("0.50", "10")])
    found = size(first, offer([("0.50", "25")], number=2))
    assert found is not None
    # 10 at 0.90, 10 at 0.95; the third level makes nothing.
    assert (found.qty, found.limits, found.edge) == (q("20"), (p("0.45"), p("0.50")), c("1.5"))
    assert found.depths == (q("20"), q("25"))
    assert found.outlay == c("19")


@pytest.mark.parametrize(
    ("rate", "edge"), [("0", "0.40"), ("0.01", "0.30050"), ("0.0397", "0.00500"), ("0.05", None)]
)
def test_fees_eat_the_edge(rate: str, edge: str | None) -> None:
    found = size(
        offer([("0.48", "20")], rate=rate),
        offer([("0.50", "20")], rate=rate, number=2),
        min_profit="0",
    )
    if edge is None:
        assert found is None
    else:
        assert found is not None
        fees = [x.fee(p(v), q("20")) for x, v in
                ((offer([], rate=rate).instrument.fees, "0.48"),
                 (offer([], rate=rate).instrument.fees, "0.50"))]  # fmt: skip
        assert found.edge == c("0.40") - sum(fees)
        assert found.edge <= c(edge)


def test_the_margin_is_wanted_on_the_money_put_in() -> None:
    legs = (offer([("0.49", "20")]), offer([("0.50", "20")], number=2))
    # One cent on 99: 1.0101 %.
    assert size(*legs, min_profit="0.0101") is not None
    assert size(*legs, min_profit="0.0102") is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([("0.40", "4.99")], [("0.50", "100")]),
        ([("0.02", "40")], [("0.50", "100")]),
        ([], [("0.50", "100")]),
        ([("0.50", "100")], [("0.50", "100")]),
        ([("0.40", "0.009")], [("0.50", "100")]),
    ],
    ids=["shares", "dollars", "empty", "even", "less than a lot"],
)
def test_what_may_not_or_need_not_be_traded_is_nothing(first: Levels, second: Levels) -> None:
    assert size(offer(first), offer(second, number=2)) is None


def test_the_least_order_is_judged_at_the_limit_of_each_leg() -> None:
    legs = (offer([("0.02", "50")]), offer([("0.50", "100")], number=2))
    found = size(*legs)
    assert found is not None
    assert found.qty == q("50")


def test_a_pair_is_sold_above_a_dollar() -> None:
    legs = (offer([("0.60", "30")], SELL), offer([("0.50", "20")], SELL, number=2))
    found = size(*legs, payoff=-SCALE)
    assert found == Sizing(
        qty=q("20"),
        limits=(p("0.60"), p("0.50")),
        depths=(q("30"), q("20")),
        outlay=c("20"),
        edge=c("2"),
    )


def test_the_trade_size_bounds_every_leg() -> None:
    legs = (offer([("0.10", "5000")]), offer([("0.80", "5000")], number=2))
    found = size(*legs, trade_size="10")
    assert found is not None
    assert (found.qty, found.outlay) == (q("12.5"), c("11.25"))


def test_a_margin_that_only_the_first_level_has_is_not_stretched() -> None:
    legs = (offer([("0.40", "10"), ("0.495", "10")]), offer([("0.50", "20")], number=2))
    legs[0].book.void(p("0.001"))
    legs[0].book.replace([], levels([("0.40", "10"), ("0.495", "10")]), 1)
    found = size(*legs, min_profit="0.01")
    assert found is not None
    assert (found.qty, found.limits[0]) == (q("10"), p("0.40"))
    wider = size(*legs, min_profit="0.005")
    assert wider is not None
    assert wider.qty == q("20")


def test_rounding_up_the_fees_can_eat_a_hair_of_edge() -> None:
    """0.01 share at 0.99 leaves 0.0001; each fee is 0.000045 and charged as 0.00005."""
    legs = [
        offer([(price, "0.01")], rate="0.018", minimums=False, number=n)
        for n, price in ((1, "0.49"), (2, "0.50"))
    ]
    assert size(*legs, min_profit="0") is None
    cheaper = [
        offer([(price, "0.01")], rate="0.014", minimums=False, number=n)
        for n, price in ((1, "0.49"), (2, "0.50"))
    ]
    found = size(*cheaper, min_profit="0")
    assert found is not None
    assert found.edge == c("0.00002")
