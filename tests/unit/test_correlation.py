"""Which markets share one limit, and what is at stake in them."""

from __future__ import annotations

from dataclasses import replace

from fleet.domain.commands import BundleId, CloseBundle, OperationIntent, OperationKind
from fleet.domain.instruments import Ladder, MarketId, OutcomeSet, SetId, Side, Universe
from fleet.engine.state import fold
from fleet.engine.view import View
from fleet.strategies.correlation import Groups, Stakes
from tests.builders import (
    Rig,
    c,
    confirmed,
    filled,
    leg,
    market_id,
    no,
    operations_of,
    order,
    orders_of,
    plan,
    q,
    universe,
    yes,
)


def merged() -> Universe:
    """1 and 2 by event, 2 and 3 by set, 4 and 5 by ladder, 6 alone."""
    world = universe(6)
    markets = {
        key: replace(market, event_id="e" if key in {"m1", "m2"} else "")
        for key, market in world.markets.items()
    }
    pair = OutcomeSet(id=SetId("s"), title="S", markets=(market_id(3), market_id(2)))
    chain = Ladder(id="l", title="L", rungs=(market_id(5), market_id(4)))
    return replace(world, markets=markets, sets=(pair,), ladders=(chain,))


def test_events_sets_and_ladders_are_merged() -> None:
    groups = Groups(merged())
    assert [groups.of(market_id(n)) for n in range(1, 7)] == ["m1", "m1", "m1", "m4", "m4", "m6"]
    assert groups.of(MarketId("gone")) == "gone"


def test_a_long_chain_is_one_group() -> None:
    world = universe(6)
    links = tuple(
        Ladder(id=f"l{n}", title="L", rungs=(market_id(n + 1), market_id(n)))
        for n in (5, 1, 4, 2, 3)
    )
    groups = Groups(replace(world, ladders=links))
    assert {groups.of(market_id(n)) for n in range(1, 7)} == {"m1"}


def stakes(rig: Rig) -> Stakes:
    view = View(rig.state)
    return Stakes(view, Groups(view.universe), "TEST")


def test_positions_bundles_and_wishes_count_in_market_and_group() -> None:
    rig = Rig(merged())
    rig.open_market()
    first = plan(leg(yes(1), "10", "0.52"), name="b1", finish=None)
    second = plan(leg(no(3), "10", "0.52"), name="b2", finish=None)
    (bought,) = orders_of(rig.wish(first, order(0, yes(1), "10", "0.52", name="b1")))
    rig.say(filled(bought, "4", "0.5"))
    rig.wish(second)
    found = stakes(rig)
    # 4 bought for 2.00, 6 more at most for 3.20 (the plan's cost less what was spent).
    assert found.market(market_id(1)) == c("5.2")
    assert found.market(market_id(3)) == c("5.2")
    assert found.group(market_id(2)) == c("10.4")
    assert found.group(market_id(4)) == 0
    assert (found.reserved, found.equity, found.by_idea) == (c("8.4"), c("1000"), c("10.4"))
    found.add(market_id(2), c("1"))
    assert (found.market(market_id(2)), found.group(market_id(3))) == (c("1"), c("11.4"))
    assert found.reserved == c("9.4")


def test_tokens_that_left_the_catalogue_are_in_no_market_but_in_the_equity() -> None:
    rig = Rig(merged())
    rig.open_market()
    split = OperationIntent(
        bundle_id=BundleId("b1"), kind=OperationKind.SPLIT, subject="m4", burn=(),
        mint=((yes(4), q("10")), (no(4), q("10"))), cash=c("-10"),
    )  # fmt: skip
    made = plan(leg(yes(4), "10", "0.6", side=Side.SELL), leg(no(4), "10", "0.5", side=Side.SELL),
                start=OperationKind.SPLIT, payoff="-1")  # fmt: skip
    held = plan(leg(yes(1), "10", "0.52"), name="b2", finish=None)
    (bought,) = orders_of(rig.wish(held, order(0, yes(1), "10", "0.52", name="b2")))
    rig.say(filled(bought, "10", "0.5"))
    rig.wish(made, split)
    rig.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="NOT_STARTED"))
    found = Stakes(View(fold(rig.entries, universe(0))), Groups(universe(0)))
    assert (found.equity, found.reserved, found.market(market_id(1))) == (c("1000"), 0, 0)


def test_what_outlives_its_bundle_counts() -> None:
    rig = Rig(merged())
    rig.open_market()
    made = plan(leg(yes(1), "10", "0.52"), name="b1", finish=None)
    rig.wish(made, order(0, yes(1), "10", "0.52", name="b1"))
    rig.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED"))
    assert stakes(rig).market(market_id(1)) == c("5.2")
    assert stakes(rig).by_idea == 0


def test_a_split_counts_until_it_is_made() -> None:
    rig = Rig(merged())
    rig.open_market()
    made = plan(leg(yes(4), "10", "0.6", side=Side.SELL), leg(no(4), "10", "0.5", side=Side.SELL),
                start=OperationKind.SPLIT, payoff="-1")  # fmt: skip
    split = OperationIntent(
        bundle_id=made.bundle_id, kind=OperationKind.SPLIT, subject="m4", burn=(),
        mint=((yes(4), q("10")), (no(4), q("10"))), cash=c("-10"),
    )  # fmt: skip
    (operation,) = operations_of(rig.wish(made, split))
    assert (stakes(rig).group(market_id(5)), stakes(rig).reserved) == (c("10"), c("10"))
    rig.say(confirmed(operation))
    assert (stakes(rig).group(market_id(5)), stakes(rig).reserved) == (c("10"), 0)
    rig.wish(CloseBundle(bundle_id=made.bundle_id, outcome="HELD"))
    assert stakes(rig).group(market_id(5)) == c("10")


def test_a_split_that_outlives_its_bundle_counts() -> None:
    rig = Rig(merged())
    rig.open_market()
    made = plan(leg(yes(4), "10", "0.6", side=Side.SELL), leg(no(4), "10", "0.5", side=Side.SELL),
                start=OperationKind.SPLIT, payoff="-1")  # fmt: skip
    split = OperationIntent(
        bundle_id=made.bundle_id, kind=OperationKind.SPLIT, subject="m4", burn=(),
        mint=((yes(4), q("10")), (no(4), q("10"))), cash=c("-10"),
    )  # fmt: skip
    rig.wish(made, split)
    rig.wish(CloseBundle(bundle_id=made.bundle_id, outcome="NOT_STARTED"))
    assert stakes(rig).reserved == c("10")
