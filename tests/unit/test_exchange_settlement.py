"""From match to chain: times, retries, failures that reverse, delays, resolution."""

from collections import Counter
from typing import Any

import pytest

from fleet.domain.events import SettlementStatus
from fleet.sandbox.exchange.contract import PlacementStatus, Refused, TradeUpdate
from tests.exchange_world import (
    BUY,
    DELAYED,
    FAK,
    FOK,
    FREE,
    GTC,
    SELL,
    World,
    base,
    updates,
)

MATCHED, MINED, CONFIRMED, RETRYING, FAILED = (
    SettlementStatus[name] for name in ("MATCHED", "MINED", "CONFIRMED", "RETRYING", "FAILED")
)


@pytest.fixture
def world() -> World:
    found = World()
    for wallet in ("ann", "bob"):
        found.fund(wallet, 1_000)
    found.exchange.drain()
    return found


def statuses(world: World) -> list[SettlementStatus]:
    return [u.trade.status for u in world.exchange.drain().updates if isinstance(u, TradeUpdate)]


def test_a_trade_is_matched_mined_and_confirmed(world: World) -> None:
    world.book(asks={"0.50": 100})
    world.place("ann", BUY, 10, "0.50")
    assert world.trade("ann").status is MATCHED
    assert (world.owns("ann"), world.exchange.cash("ann")) == (0, base(1_000))
    for _ in range(400):
        world.step(0.05)
    assert statuses(world) == [MATCHED, MINED, CONFIRMED]
    assert (world.owns("ann"), world.exchange.cash("ann")) == (base(10), base(995))
    trade = world.trade("ann")
    assert trade.transaction_hash.startswith("0x")
    assert len(trade.transaction_hash) == 66
    assert (
        trade.updated_ns
        > trade.matched_ns
        == world.exchange.state.trades[trade.trade_id].view.matched_ns
    )
    assert world.held("ann") == 0
    world.check()


def test_about_two_seconds_to_the_chain(world: World) -> None:
    world.fund("ann", 100_000)
    waits = []
    for _ in range(400):
        world.book(asks={"0.50": 100})
        world.place("ann", BUY, 10, "0.50")
        trade = world.exchange.state.trades[world.trade("ann").trade_id]
        waits.append((trade.due_ns - trade.view.matched_ns) / 1e9)
    waits.sort()
    assert 0.9 <= waits[40] <= 1.5
    assert 1.8 <= waits[200] <= 2.2
    assert 2.8 <= waits[360] <= 4.0


def test_a_failed_trade_moves_nothing(world: World) -> None:
    world.exchange.faults.fail_rate = 1.0
    world.book()
    world.split("bob", 50)
    world.place("bob", SELL, 20, "0.50")
    world.place("ann", BUY, 20, "0.50")
    with pytest.raises(Refused, match="not enough balance"):
        world.place("bob", SELL, 31, "0.50")
    world.settle()
    assert world.trade("ann").status is FAILED
    assert world.trade("bob").status is FAILED
    assert world.trade("ann").transaction_hash == ""
    assert (world.exchange.cash("ann"), world.owns("ann")) == (base(1_000), 0)
    assert (world.exchange.cash("bob"), world.owns("bob")) == (base(950), base(50))
    assert world.held("ann") == world.held("bob", world.market().spec.tokens[0]) == 0
    assert statuses(world)[-1] is FAILED
    assert world.place("bob", SELL, 50, "0.55").status is PlacementStatus.LIVE
    world.check()


def test_the_shares_of_retries_and_failures_are_the_faults(world: World) -> None:
    faults = world.exchange.faults
    faults.retry_rate, faults.fail_rate = 0.3, 0.2
    world.fund("ann", 100_000)
    for _ in range(600):
        world.book(asks={"0.50": 100})
        world.place("ann", BUY, 5, "0.50")
    world.exchange.drain()
    world.settle()
    paths: dict[str, list[SettlementStatus]] = {}
    for update in world.exchange.drain().updates:
        if isinstance(update, TradeUpdate):
            paths.setdefault(update.trade.trade_id, []).append(update.trade.status)
    ends: Counter[Any] = Counter(tuple(path) for path in paths.values())
    assert set(ends) == {
        (MINED, CONFIRMED), (RETRYING, MINED, CONFIRMED), (FAILED,), (RETRYING, FAILED)
    }  # fmt: skip
    assert 140 <= ends[RETRYING, MINED, CONFIRMED] <= 220
    assert 90 <= ends[FAILED,] + ends[RETRYING, FAILED] <= 150
    done = ends[MINED, CONFIRMED] + ends[RETRYING, MINED, CONFIRMED]
    assert world.owns("ann") == done * base(5)
    world.check()


def test_who_moves_money_away_makes_the_trade_fail(world: World) -> None:
    """The chain knows no holds: the ghost fills of reference 9."""
    world.book(asks={"0.50": 100})
    world.place("ann", BUY, 100, "0.50")
    world.fund("ann", -990)
    world.settle()
    assert world.trade("ann").status is FAILED
    assert world.exchange.cash("ann") == base(10)
    with pytest.raises(Refused):
        world.fund("ann", -11)
    world.check()


def test_orders_that_a_wallet_no_longer_covers_are_cancelled_youngest_first(world: World) -> None:
    world.book(bids={"0.10": 1})
    ids = [world.place("ann", BUY, 1_000, at).order_id for at in ("0.20", "0.30", "0.40")]
    world.exchange.drain()
    world.fund("ann", -350)
    told = updates(world.exchange.drain())
    assert told == [f"{ids[2]} CANCELLATION CANCELED_NOT_ENOUGH_BALANCE"]
    assert world.held("ann") == base(500)


def test_a_delayed_order_is_matched_against_what_is_there_later(world: World) -> None:
    world.book(DELAYED, asks={"0.50": 10, "0.51": 50})
    world.split("bob", 100, DELAYED)
    resting = world.place("bob", SELL, 10, "0.49", slug=DELAYED).order_id
    world.exchange.drain()
    placed = world.place("ann", BUY, 20, "0.50", slug=DELAYED)
    assert placed.status is PlacementStatus.DELAYED
    assert placed.trade_ids == ()
    view = world.exchange.order("key-ann", placed.order_id)
    assert view is not None
    assert view.status == "DELAYED"
    # 10 for the shares and 10 x 0.05 x 0.2499 + 10 x 0.05 x 0.25 for the fee now planned.
    assert world.held("ann") == base(10 + 0.24995)
    done = world.exchange.cancel("key-ann", [placed.order_id], world.now_ns)
    assert "pending/delayed status" in done.not_canceled[placed.order_id]
    assert world.exchange.cancel_all("key-ann", world.now_ns).canceled == ()
    assert world.exchange.cancel("key-bob", [resting], world.now_ns).canceled == (resting,)
    world.step(0.9)
    assert world.exchange.trades("key-ann") == []
    world.step(0.2)
    # The maker stepped away: 10 at 0.50 matched, the rest now rests.
    assert world.trade("ann").size == base(10)
    view = world.exchange.order("key-ann", placed.order_id)
    assert view is not None
    assert (view.status, view.size_matched) == ("LIVE", base(10))
    told = [u for u in updates(world.exchange.drain()) if u.startswith(placed.order_id)]
    assert told == [f"{placed.order_id} PLACEMENT DELAYED", f"{placed.order_id} UPDATE LIVE"]
    world.settle()
    world.check()


@pytest.mark.parametrize("tif", [FOK, FAK])
def test_a_delayed_taker_whose_makers_left_is_unmatched(world: World, tif: Any) -> None:
    world.book(DELAYED)
    world.split("bob", 100, DELAYED)
    resting = world.place("bob", SELL, 20, "0.50", slug=DELAYED).order_id
    placed = world.place("ann", BUY, 20, "0.50", tif, slug=DELAYED)
    world.exchange.cancel("key-bob", [resting], world.now_ns)
    world.exchange.drain()
    world.step(1.1)
    assert updates(world.exchange.drain()) == [f"{placed.order_id} CANCELLATION UNMATCHED"]
    assert world.held("ann") == 0
    assert world.exchange.orders("key-ann") == []
    with pytest.raises(Refused, match="Duplicated"):
        world.place("ann", BUY, 20, "0.50", slug=DELAYED, order_id=placed.order_id)


def test_only_takers_are_delayed(world: World) -> None:
    world.book(DELAYED, asks={"0.50": 10})
    assert world.place("ann", BUY, 20, "0.49", slug=DELAYED).status is PlacementStatus.LIVE
    with pytest.raises(Refused, match="FAK"):
        world.place("ann", BUY, 20, "0.49", FAK, slug=DELAYED)


def test_a_delayed_order_whose_money_went_elsewhere_is_cancelled(world: World) -> None:
    world.book(DELAYED, asks={"0.50": 100})
    placed = world.place("ann", BUY, 20, "0.50", GTC, slug=DELAYED)
    world.fund("ann", -995)
    world.exchange.drain()
    world.step(1.1)
    assert updates(world.exchange.drain()) == [
        f"{placed.order_id} CANCELLATION CANCELED_NOT_ENOUGH_BALANCE"
    ]


def test_a_resolution_ends_orders_and_trading_but_not_settlement(world: World) -> None:
    market = world.book(asks={"0.50": 100})
    spec = market.spec
    world.place("ann", BUY, 20, "0.50")
    resting = world.place("ann", BUY, 20, "0.40").order_id
    world.exchange.drain()
    world.exchange.resolve(spec.condition_id, 0, world.now_ns)
    published = world.exchange.drain()
    assert updates(published) == [f"{resting} CANCELLATION CANCELED_MARKET_RESOLVED"]
    assert [f.event_type for f in published.frames] == ["market_resolved"]
    with pytest.raises(Refused, match="market not found"):
        world.exchange.resolve(spec.condition_id, 1, world.now_ns)
    world.settle()
    assert world.owns("ann") == base(20)
    assert world.held("ann") == 0
    world.check()


def test_a_timed_market_resolves_by_itself() -> None:
    world = World(still=False, timed_markets=True)
    world.fund("ann", 100)
    slug = next(
        m.spec.slug for m in world.exchange.simulator.listings.markets if "updown" in m.spec.slug
    )
    condition_id = world.market(slug).spec.condition_id
    world.split("ann", 50, slug)
    order = world.place("ann", BUY, 5, "0.01", slug=slug).order_id
    world.exchange.drain()
    for _ in range(301):
        world.step(1)
    told = updates(world.exchange.drain())
    assert [line for line in told if line.startswith(order)][-1].endswith("MARKET_RESOLVED")
    assert world.exchange.state.markets[condition_id].winner in {0, 1}
    world.check()


def test_settlement_does_not_depend_on_how_time_is_cut() -> None:
    ends = []
    for cut in (0.01, 0.7, 30.0):
        world = World()
        world.exchange.faults.retry_rate = 0.5
        world.fund("ann", 1_000)
        world.book(FREE, asks={"0.50": 1_000})
        for _ in range(5):
            world.place("ann", BUY, 10, "0.50")
        for _ in range(round(30 / cut)):
            world.step(cut)
        ends.append(
            [(t.trade_id, t.status, t.updated_ns) for t in world.exchange.trades("key-ann")]
        )
    assert ends[0] == ends[1] == ends[2]
