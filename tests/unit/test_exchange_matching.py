"""Order types and kinds of match, with numbers worked out by hand."""

from decimal import Decimal
from typing import Any

import pytest

from fleet.domain.instruments import FeeSchedule
from fleet.domain.units import SCALE, Price, Qty
from fleet.sandbox.exchange.contract import PlacementStatus, Refused
from fleet.sandbox.exchange.matching import fee_on
from tests.exchange_world import (
    BUY,
    FAK,
    FOK,
    FREE,
    GTC,
    SELL,
    TAXED,
    World,
    base,
    price,
    updates,
)


@pytest.fixture
def world() -> World:
    found = World()
    for wallet in ("ann", "bob"):
        found.fund(wallet, 1_000)
    found.exchange.drain()
    return found


def test_a_limit_buy_takes_what_crosses_at_the_makers_prices_and_rests_the_rest(
    world: World,
) -> None:
    market = world.book(bids={"0.30": 50}, asks={"0.35": 10, "0.36": 20, "0.38": 99})
    placed = world.place("ann", BUY, 50, "0.37")
    # 10 at 0.35 and 20 at 0.36, though 0.37 was offered.
    assert placed.status is PlacementStatus.MATCHED
    assert (placed.making_amount, placed.taking_amount) == (base(3.5 + 7.2), base(30))
    order = world.exchange.order("key-ann", placed.order_id)
    assert order is not None
    assert (order.status, order.original_size, order.size_matched) == ("LIVE", base(50), base(30))
    assert market.levels(0, buy=True)[0] == (price("0.37"), 20 * SCALE)
    assert market.levels(1, buy=False)[0] == (price("0.63"), 20 * SCALE), "mirrored"
    assert world.held("ann") == base(3.5 + 7.2 + 20 * 0.37)


def test_a_limit_sell_of_no_takes_the_yes_asks(world: World) -> None:
    world.split("ann", 100)
    world.book(bids={"0.30": 50}, asks={"0.40": 10, "0.42": 10})
    placed = world.place("ann", SELL, 20, "0.55", outcome=1)
    # Selling NO at 0.55 and above is buying YES at 0.45 and below: 0.60 and 0.58 are paid.
    assert (placed.making_amount, placed.taking_amount) == (base(20), base(6 + 5.8))
    assert world.exchange.orders("key-ann") == []
    world.settle()
    assert (world.owns("ann", 0), world.owns("ann", 1)) == (base(100), base(80))
    assert world.exchange.cash("ann") == base(900 + 11.8)


def test_a_fak_buy_spends_money_and_gets_more_shares_at_a_better_price(world: World) -> None:
    world.book(asks={"0.50": 1_000})
    placed = world.place("ann", BUY, 192.3076, "0.52", FAK, spend=100)
    assert (placed.making_amount, placed.taking_amount) == (base(100), base(200))
    assert world.trade("ann").price == price("0.50")
    update = [u for u in updates(world.exchange.drain()) if "PLACEMENT" in u]
    assert update == [f"{placed.order_id} PLACEMENT MATCHED"]


def test_a_fak_buy_gets_whole_lots_only_and_keeps_the_change(world: World) -> None:
    world.book(asks={"0.37": 1_000})
    # The client's own rounding: 33.33 / 0.37 = 90.081081..., sent as 90.081.
    placed = world.place("ann", BUY, 90.081, "0.37", FAK, spend=33.33)
    assert (placed.making_amount, placed.taking_amount) == (base(33.3296), base(90.08))
    assert world.held("ann") == base(33.3296)


def test_a_fak_kills_what_does_not_cross(world: World) -> None:
    market = world.book(asks={"0.50": 10, "0.51": 5, "0.53": 99})
    placed = world.place("ann", BUY, 100, "0.52", FAK)
    assert (placed.making_amount, placed.taking_amount) == (base(5 + 2.55), base(15))
    assert world.exchange.orders("key-ann") == []
    assert market.best(0, buy=False) == price("0.53")
    assert world.held("ann") == base(7.55), "nothing is held for what was killed"


def test_a_fok_fills_whole_or_not_at_all(world: World) -> None:
    market = world.book(asks={"0.50": 10, "0.51": 5})
    with pytest.raises(Refused, match="FOK orders are fully filled or killed"):
        world.place("ann", BUY, 20, "0.52", FOK)
    assert world.held("ann") == 0
    assert market.levels(0, buy=False)[0][1] == 10 * SCALE, "nothing was touched"
    # 7.55 at 0.51 are 14.8039 shares; the book has 15 for it.
    placed = world.place("ann", BUY, 14.8039, "0.51", FOK, spend=7.55)
    assert (placed.making_amount, placed.taking_amount) == (base(7.55), base(15))


def test_a_fok_sell_counts_shares(world: World) -> None:
    world.split("ann", 50)
    world.book(bids={"0.50": 10, "0.45": 30})
    with pytest.raises(Refused, match="FOK"):
        world.place("ann", SELL, 41, "0.45", FOK)
    placed = world.place("ann", SELL, 40, "0.45", FOK)
    assert (placed.making_amount, placed.taking_amount) == (base(40), base(5 + 13.5))


def test_a_fak_without_a_match_is_refused_and_its_id_stays_free(world: World) -> None:
    world.book(asks={"0.60": 10})
    with pytest.raises(Refused, match="no orders found to match with FAK order") as refused:
        world.place("ann", BUY, 10, "0.52", FAK, order_id="0xaa")
    assert refused.value.status == 400
    world.book(asks={"0.52": 10})
    assert world.place("ann", BUY, 10, "0.52", FAK, order_id="0xaa").taking_amount == base(10)
    with pytest.raises(Refused, match=r"0xaa is invalid\. Duplicated\."):
        world.place("ann", BUY, 10, "0.52", FAK, order_id="0xaa")


def test_post_only_rests_or_is_refused(world: World) -> None:
    world.book(bids={"0.50": 10}, asks={"0.52": 10})
    with pytest.raises(Refused, match="invalid post-only order: order crosses book"):
        world.place("ann", BUY, 10, "0.52", post_only=True)
    assert world.place("ann", BUY, 10, "0.51", post_only=True).status is PlacementStatus.LIVE
    with pytest.raises(Refused, match="invalid post-only order"):
        world.place("ann", BUY, 10, "0.52", FAK, post_only=True)


@pytest.mark.parametrize(
    ("maker", "taker", "kind"),
    [
        # What bob rests, what ann does: outcome, side, price; and what the match is on chain.
        ((0, SELL, "0.40"), (0, BUY, "0.42"), "complementary"),
        ((1, BUY, "0.60"), (0, BUY, "0.42"), "mint"),
        ((0, BUY, "0.40"), (1, BUY, "0.62"), "mint"),
        ((1, SELL, "0.60"), (0, SELL, "0.38"), "merge"),
        ((0, BUY, "0.40"), (0, SELL, "0.38"), "complementary"),
        ((0, SELL, "0.40"), (1, SELL, "0.55"), "merge"),
    ],
)
def test_users_match_at_the_makers_price_whatever_the_tokens(
    world: World, maker: Any, taker: Any, kind: str
) -> None:
    world.book()
    for wallet in ("ann", "bob"):
        world.split(wallet, 100)
    locked = world.exchange.state.ledger.collateral[world.market().spec.condition_id]
    rested = world.place("bob", maker[1], 20, maker[2], outcome=maker[0])
    placed = world.place("ann", taker[1], 20, taker[2], outcome=taker[0])
    assert rested.status is PlacementStatus.LIVE
    assert placed.status is PlacementStatus.MATCHED
    paid = price(maker[2]) if maker[0] == taker[0] else Price(SCALE - price(maker[2]))
    trade = world.trade("ann")
    assert (trade.price, trade.size, trade.cash) == (paid, base(20), 20 * paid // 100)
    assert [(f.owner, f.price, f.side, f.size) for f in trade.makers] == [
        ("key-bob", price(maker[2]), maker[1], base(20))
    ]
    assert world.exchange.trades("key-bob") == [trade]
    world.settle()
    for wallet, (outcome, side, _), at in (("bob", maker, price(maker[2])), ("ann", taker, paid)):
        sign = 1 if side is BUY else -1
        assert world.owns(wallet, outcome) == base(100 + sign * 20)
        assert world.owns(wallet, 1 - outcome) == base(100)
        assert world.exchange.cash(wallet) == base(900) - sign * 20 * at // 100
    change = {"complementary": 0, "mint": base(20), "merge": -base(20)}[kind]
    after = world.exchange.state.ledger.collateral[world.market().spec.condition_id]
    assert after - locked == change
    world.check()


def test_price_then_time_and_the_flow_that_was_there_first_is_first(world: World) -> None:
    market = world.book(bids={"0.40": 30}, asks={"0.60": 10})
    first = world.place("ann", BUY, 10, "0.40").order_id
    second = world.place("bob", BUY, 10, "0.40").order_id
    better = world.place("bob", BUY, 5, "0.41").order_id
    late = market.book.set_level(
        buy=True, index=40, qty=Qty(2 * market.book.qty(buy=True, index=40))
    )
    market.pool.note(late)
    world.fund("cat", 100)
    world.split("cat", 100)
    world.place("cat", SELL, 5 + 30 + 10 + 4, "0.40")
    filled = [fill.order_id for fill in world.trade("cat").makers]
    assert filled[0] == better
    assert filled[2:] == [first, second]
    assert [fill.size for fill in world.trade("cat").makers] == [
        base(5), base(30), base(10), base(4)
    ]  # fmt: skip
    assert market.book.qty(buy=True, index=40) == 30 * SCALE, "what came later is untouched"
    open_order = world.exchange.order("key-bob", second)
    assert open_order is not None
    assert open_order.size_matched == base(4)


def test_a_flow_that_shrinks_eats_the_queue_from_behind(world: World) -> None:
    market = world.book(bids={"0.40": 30})
    placed = world.place("ann", BUY, 10, "0.40")
    order = world.exchange.state.active[placed.order_id]
    for shares, ahead in ((25, 25), (60, 25), (12, 12), (40, 12), (0, 0), (9, 0)):
        change = market.book.set_level(buy=True, index=40, qty=Qty(shares * SCALE))
        market.pool.note(change)
        assert order.ahead == base(ahead)


def test_a_wallet_may_trade_with_itself(world: World) -> None:
    """No self-trade prevention on the venue (reference 7.2): only the fee is lost."""
    world.book(TAXED)
    world.split("ann", 50, TAXED)
    world.place("ann", SELL, 20, "0.50", slug=TAXED)
    world.place("ann", BUY, 20, "0.50", slug=TAXED)
    world.settle()
    assert world.owns("ann", 0, TAXED) == base(50)
    assert world.exchange.cash("ann") == base(950) - base(0.2)
    world.check()


@pytest.mark.parametrize(
    ("at", "shares", "rate", "fee"),
    [
        ("0.50", 100, 4, "1"),  # 100 x 0.04 x 0.25
        ("0.05", 10, 7, "0.03325"),  # 10 x 0.07 x 0.0475
        ("0.98", 33.33, 5, "0.03266"),  # 0.03266340
        ("0.37", 90.08, 4, "0.83991"),  # 0.83990592
        ("0.01", 0.01, 4, "0"),  # 0.00000396: below a step
        ("0.02", 0.02, 4, "0.00002"),  # 0.00001568, halves and more go up
        ("0.50", 100, 0, "0"),
    ],
)
def test_fees_have_five_decimals(at: str, shares: float, rate: int, fee: str) -> None:
    schedule = FeeSchedule(rate=rate * SCALE // 100)
    expected = int(Decimal(fee) * 1_000_000)
    assert fee_on([(price(at), base(shares))], schedule) == expected
    mirrored = Price(SCALE - price(at))
    assert fee_on([(mirrored, base(shares))], schedule) == expected


def test_takers_pay_fees_on_top_or_from_proceeds_and_makers_none(world: World) -> None:
    world.book(TAXED, bids={"0.60": 100}, asks={"0.64": 100})
    world.split("bob", 100, TAXED)
    world.place("ann", BUY, 50, "0.64", slug=TAXED)  # 32.00 and 50 x 0.04 x 0.2304 = 0.4608
    world.place("bob", SELL, 50, "0.60", slug=TAXED)  # 30.00 less 50 x 0.04 x 0.24 = 0.48
    assert world.trade("ann").fee_amount == base(0.4608)
    assert world.trade("ann").fee_rate_bps == 400
    assert world.held("ann") == base(32.4608)
    world.settle()
    assert world.exchange.cash("ann") == base(1_000 - 32.4608)
    assert world.exchange.cash("bob") == base(900 + 30 - 0.48)
    assert world.exchange.state.ledger.fees == base(0.4608 + 0.48)
    # Bob rests, ann takes: bob pays nothing.
    world.book(TAXED)
    world.place("bob", SELL, 10, "0.63", slug=TAXED)
    world.place("ann", BUY, 10, "0.63", slug=TAXED)
    world.settle()
    assert world.exchange.cash("bob") == base(900 + 30 - 0.48 + 6.3)
    world.check()


def test_cancelling_frees_what_was_held_and_the_level(world: World) -> None:
    market = world.book(bids={"0.40": 30})
    ids = [world.place("ann", BUY, 10, at).order_id for at in ("0.40", "0.41")]
    other = world.place("bob", BUY, 10, "0.39").order_id
    done = world.exchange.cancel("key-ann", [ids[1], other, "0xnone", ids[1]], world.now_ns)
    assert done.canceled == (ids[1],)
    assert done.not_canceled == {other: "order not found", "0xnone": "order not found"}
    assert world.held("ann") == base(4)
    assert market.best(0, buy=True) == price("0.40")
    again = world.exchange.cancel("key-ann", [ids[1]], world.now_ns)
    assert "already canceled or matched" in again.not_canceled[ids[1]]
    assert world.exchange.cancel_all("key-ann", world.now_ns).canceled == (ids[0],)
    assert world.held("ann") == 0


def test_cancelling_a_market_or_a_token(world: World) -> None:
    world.book(bids={"0.10": 1})
    world.book(TAXED, bids={"0.10": 1})
    yes = world.place("ann", BUY, 10, "0.20").order_id
    no = world.place("ann", BUY, 10, "0.20", outcome=1).order_id
    far = world.place("ann", BUY, 10, "0.20", GTC, slug=TAXED).order_id
    spec = world.market(FREE).spec
    cancel = world.exchange.cancel_market
    assert cancel("key-ann", world.now_ns, token_id=spec.tokens[1]).canceled == (no,)
    assert cancel("key-ann", world.now_ns, condition_id=spec.condition_id).canceled == (yes,)
    assert [o.order_id for o in world.exchange.orders("key-ann")] == [far]
