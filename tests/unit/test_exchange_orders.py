"""What the exchange refuses, in the venue's words; what signed amounts mean."""

from typing import Any

import pytest

from fleet.domain.instruments import Side
from fleet.domain.units import Price, parse_price
from fleet.sandbox.exchange.contract import OrderRequest, Refused
from fleet.sandbox.exchange.orders import Terms, read_terms
from tests.exchange_world import (
    BUY,
    DELAYED,
    FAK,
    FOK,
    GTC,
    GTD,
    SELL,
    START_NS,
    TAXED,
    World,
    base,
    price,
)


@pytest.fixture
def world() -> World:
    found = World()
    found.fund("ann", 100)
    return found


def signed(side: Side, maker: int, taker: int, tif: Any = GTC) -> OrderRequest:
    return OrderRequest(
        order_id="0x1",
        owner="k",
        address="a",
        maker="m",
        token_id="1",
        side=side,
        maker_amount=maker,
        taker_amount=taker,
        tif=tif,
    )


@pytest.mark.parametrize(
    ("request_", "tick", "terms"),
    [
        # The reference's own checks (4.5), as py-clob-client-v2 1.2.1 signs them.
        (signed(BUY, 5_200_000, 10_000_000), "0.01", ("0.52", 10_000_000, 0)),
        (signed(SELL, 7_770_000, 2_874_900), "0.01", ("0.37", 7_770_000, 0)),
        (signed(BUY, 1_740_800, 5_120_000), "0.01", ("0.34", 5_120_000, 0)),
        (signed(BUY, 100_000_000, 192_307_600, FAK), "0.01", ("0.52", 192_307_600, 100_000_000)),
        (signed(BUY, 33_330_000, 90_081_000, FOK), "0.01", ("0.37", 90_081_000, 33_330_000)),
        (signed(SELL, 12_340_000, 4_565_800, FAK), "0.01", ("0.37", 12_340_000, 0)),
        (signed(BUY, 5_230_000, 10_000_000), "0.001", ("0.523", 10_000_000, 0)),
        (signed(BUY, 100_000_000, 191_204_580, FAK), "0.001", ("0.523", 191_204_580, 100_000_000)),
        (signed(BUY, 52_310_00, 10_000_000), "0.0001", ("0.5231", 10_000_000, 0)),
        (signed(BUY, 52_250_00, 10_000_000), "0.0025", ("0.5225", 10_000_000, 0)),
    ],
)
def test_signed_amounts_say_price_and_size(
    request_: OrderRequest, tick: str, terms: tuple[str, int, int]
) -> None:
    found = read_terms(request_, parse_price(tick))
    assert found == Terms(price=price(terms[0]), size=terms[1], spend=terms[2])


@pytest.mark.parametrize(
    ("request_", "tick", "text"),
    [
        (signed(BUY, 0, 10_000_000), "0.01", "Invalid order payload"),
        (signed(BUY, 5_250_000, 10_000_000), "0.01",
         "order 0x1 is invalid. Price (0.525) breaks minimum tick size rule: 0.01"),
        (signed(BUY, 100_000_000, 190_476_100, FAK), "0.01",
         "order 0x1 is invalid. Price (0.525) breaks minimum tick size rule: 0.01"),
        (signed(BUY, 52_000, 10_000_000), "0.01",
         "order 0x1 is invalid. Price (0.0052) breaks minimum tick size rule: 0.01"),
        (signed(SELL, 10_000_000, 10_000_000), "0.01",
         "order 0x1 is invalid. Price (1) breaks minimum tick size rule: 0.01"),
        (signed(BUY, 2_600_000, 5_000_001), "0.01",
         ("invalid amounts, the buy orders maker amount supports a max accuracy of 4 decimals, "
         "taker amount a max of 2 decimals")),
        (signed(BUY, 2_874_900, 7_770_000, FAK), "0.01",
         ("invalid amounts, the market buy orders maker amount supports a max accuracy of "
         "2 decimals, taker amount a max of 4 decimals")),
        (signed(SELL, 7_771_000, 2_875_270, FAK), "0.01",
         ("invalid amounts, the market sell orders maker amount supports a max accuracy of "
         "2 decimals, taker amount a max of 4 decimals")),
        (signed(BUY, 2_594_800, 4_990_000), "0.01",
         "order 0x1 is invalid. Size (4.99) lower than the minimum: 5"),
    ],
)  # fmt: skip
def test_amounts_that_are_refused(request_: OrderRequest, tick: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_terms(request_, Price(parse_price(tick)))
    assert (refused.value.status, refused.value.text) == (400, text)


def test_a_taker_needs_a_dollar_and_a_maker_does_not(world: World) -> None:
    world.book(bids={"0.10": 100}, asks={"0.12": 100})
    with pytest.raises(Refused, match=r"invalid amount for a marketable BUY order \(\$0.72\), min"):
        world.place("ann", BUY, 6, "0.12")
    world.split("ann", 20)
    with pytest.raises(Refused, match=r"marketable SELL order \(\$0.9\), min size: \$1"):
        world.place("ann", SELL, 9, "0.01")
    assert world.place("ann", SELL, 10, "0.01").taking_amount == base(1)
    assert world.place("ann", BUY, 6, "0.11").trade_ids == ()


def test_orders_hold_money_and_tokens(world: World) -> None:
    world.book(bids={"0.10": 1}, asks={"0.90": 1_000})
    world.place("ann", BUY, 150, "0.40")
    with pytest.raises(Refused, match="not enough balance / allowance"):
        world.place("ann", BUY, 101, "0.40")
    with pytest.raises(Refused, match="not enough balance / allowance"):
        world.place("ann", SELL, 5, "0.95")
    placed = world.place("ann", BUY, 100, "0.40")
    assert world.held("ann") == base(100)
    world.exchange.cancel("key-ann", [placed.order_id], world.now_ns)
    world.split("ann", 30)
    world.place("ann", SELL, 20, "0.95")
    with pytest.raises(Refused, match="not enough balance"):
        world.place("ann", SELL, 11, "0.95")
    world.place("ann", SELL, 10, "0.95")


def test_the_fee_must_be_there_too(world: World) -> None:
    world.book(TAXED, asks={"0.50": 1_000})
    with pytest.raises(Refused, match="not enough balance"):
        world.place("ann", BUY, 200, "0.50", FAK, slug=TAXED)
    # 98.03 and 196.06 x 0.04 x 0.25 = 1.9606: together 99.9906.
    world.place("ann", BUY, 196.06, "0.50", FAK, slug=TAXED)
    assert world.held("ann") == base(99.9906)


def test_what_was_matched_cannot_be_used_before_it_is_mined(world: World) -> None:
    world.book(bids={"0.30": 100}, asks={"0.50": 100})
    world.place("ann", BUY, 100, "0.50", FAK)
    with pytest.raises(Refused, match="not enough balance"):
        world.place("ann", SELL, 50, "0.30", FAK)
    assert world.exchange.cash("ann") == base(100)
    with pytest.raises(Refused, match="not enough balance"):
        world.place("ann", BUY, 200, "0.30")
    world.settle()
    assert world.place("ann", SELL, 50, "0.30", FAK).taking_amount == base(15)
    with pytest.raises(Refused, match="not enough balance"):
        world.place("ann", BUY, 180, "0.29")


def test_unknown_and_closed_tokens_have_no_book(world: World) -> None:
    request = world.request("ann", BUY, 10, "0.40")
    spec = world.market().spec
    world.exchange.resolve(spec.condition_id, 0, world.now_ns)
    with pytest.raises(Refused, match="No orderbook exists for the requested token id") as refused:
        world.exchange.place(request, world.now_ns)
    assert refused.value.status == 404


def test_good_till_date_dies_a_minute_early(world: World) -> None:
    at_s = START_NS // 1_000_000_000
    for wrong in ({"tif": GTD, "expiration_s": at_s + 60}, {"tif": GTC, "expiration_s": at_s + 900},
                  {"tif": GTD, "expiration_s": 0}):  # fmt: skip
        with pytest.raises(Refused, match="invalid expiration"):
            world.place("ann", BUY, 10, "0.01", **wrong)
    order = world.place("ann", BUY, 10, "0.01", GTD, expiration_s=at_s + 180).order_id
    world.exchange.drain()
    world.step(119)
    assert world.exchange.order("key-ann", order) is not None
    world.step(1.5)
    assert world.exchange.order("key-ann", order) is None
    published = world.exchange.drain()
    (update,) = published.updates
    assert update.at_ns == (at_s + 120) * 1_000_000_000
    assert (update.change.value, update.order.status) == (  # type: ignore[union-attr]
        "CANCELLATION", "CANCELED_EXPIRED_ORDER"
    )  # fmt: skip
    assert world.held("ann") == 0


def test_a_twin_is_duplicated_for_ever(world: World) -> None:
    world.book(bids={"0.10": 1}, asks={"0.50": 100})
    twin = world.request("ann", BUY, 10, "0.20", order_id="0xdd")
    world.exchange.place(twin, world.now_ns)
    for _ in range(2):
        with pytest.raises(Refused, match=r"order 0xdd is invalid\. Duplicated\."):
            world.exchange.place(twin, world.now_ns)
        world.exchange.cancel_all("key-ann", world.now_ns)
    filled = world.request("ann", BUY, 10, "0.50", FOK)
    world.exchange.place(filled, world.now_ns)
    with pytest.raises(Refused, match="Duplicated"):
        world.exchange.place(filled, world.now_ns)


def test_a_key_sees_only_its_own_orders(world: World) -> None:
    mine = world.place("ann", BUY, 10, "0.01").order_id
    assert world.exchange.order("key-bob", mine) is None
    assert world.exchange.orders("key-bob") == []
    assert world.exchange.trades("key-bob") == []


def test_a_delayed_market_says_so(world: World) -> None:
    assert world.market(DELAYED).spec.taker_delay_ms == 1_000
