"""The exchange's file: what comes back after a death between any two calls."""

import random
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.domain.events import SettlementStatus
from fleet.sandbox.exchange.contract import Refused
from fleet.sandbox.exchange.exchange import Exchange
from fleet.sandbox.exchange.store import StoreError
from fleet.sandbox.simulator import SimulatorSettings
from tests.exchange_world import (
    BUY,
    DELAYED,
    FAK,
    GTC,
    GTD,
    SELL,
    START_NS,
    World,
    base,
    price,
    updates,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path / "state" / "exchange.db")
    for wallet in ("ann", "bob"):
        found.fund(wallet, 1_000)
    return found


def seen(world: World) -> dict[str, Any]:
    """Everything a client could ask for."""
    exchange = world.exchange
    return {
        "cash": {w: exchange.cash(w) for w in ("ann", "bob")},
        "tokens": {w: exchange.tokens(w) for w in ("ann", "bob", "")},
        "held": dict(exchange.state.ledger._held),
        "orders": {k: exchange.orders(f"key-{k}") for k in ("ann", "bob")},
        "trades": {k: exchange.trades(f"key-{k}") for k in ("ann", "bob")},
        "operations": {w: exchange.operations(w) for w in ("ann", "bob")},
        "collateral": {k: v for k, v in exchange.state.ledger.collateral.items() if v},
        "fees": exchange.state.ledger.fees,
        "owners": exchange.state.owners,
    }


def test_a_restart_changes_nothing_that_anyone_can_see(world: World) -> None:
    world.book(bids={"0.30": 10}, asks={"0.50": 100})
    world.split("bob", 100)
    world.place("ann", BUY, 20, "0.50")
    world.settle()
    world.place("ann", BUY, 20, "0.51", FAK)
    world.place("bob", SELL, 10, "0.60")
    world.place("ann", BUY, 7, "0.20", outcome=1)
    before = seen(world)
    world.restart()
    assert seen(world) == before
    world.check()
    assert world.exchange.drain().updates == []
    with pytest.raises(Refused, match="Duplicated"):
        world.place("ann", BUY, 20, "0.50", order_id="0x0001")


def test_ids_of_the_universe_and_its_dates_stay(world: World) -> None:
    listed = {m.spec.slug: m.spec for m in world.exchange.simulator.listings.markets}
    world.restart(after_s=40 * 86_400)
    again = {m.spec.slug: m.spec for m in world.exchange.simulator.listings.markets}
    assert again == listed


def test_resting_orders_rest_again_in_their_order(world: World) -> None:
    world.book()
    ids = [world.place(w, BUY, 10, "0.21").order_id for w in ("ann", "bob", "ann")]
    world.restart()
    market = world.book()
    assert market.levels(0, buy=True) == [(price("0.21"), 30 * 100_000_000)]
    world.split("bob", 100)
    world.place("bob", SELL, 25, "0.21")
    assert [f.order_id for f in world.trade("bob").makers] == ids


def test_a_fresh_flow_steps_back_from_restored_orders(world: World) -> None:
    """The markets begin anew at 0.35; the order at 0.60 was there first and is not traded with."""
    world.book(bids={"0.60": 10}, asks={"0.70": 10})
    order = world.place("ann", BUY, 10, "0.60").order_id
    world.restart()
    market = world.market()
    assert market.best(0, buy=True) == price("0.60")
    assert market.best(0, buy=False) is None or market.best(0, buy=False) > price("0.60")  # type: ignore[operator]
    assert market.book.best_bid < market.book.best_ask
    assert world.exchange.trades("key-ann") == []
    assert world.exchange.order("key-ann", order) is not None


def test_settlement_goes_on(world: World) -> None:
    world.book(asks={"0.50": 100})
    world.place("ann", BUY, 20, "0.50")
    due_ns = world.exchange.state.trades[world.trade("ann").trade_id].due_ns
    world.restart(after_s=0.1)
    assert world.held("ann") == base(10)
    world.step(0.1)
    assert world.trade("ann").status is SettlementStatus.MATCHED
    world.step(3.5)
    assert world.trade("ann").status is SettlementStatus.MINED
    assert world.trade("ann").updated_ns == due_ns, "its time is not drawn again"
    world.restart(after_s=3_600)
    world.step(0.1)
    assert world.trade("ann").status is SettlementStatus.CONFIRMED
    assert (world.owns("ann"), world.held("ann")) == (base(20), 0)
    world.check()


def test_what_ended_meanwhile_ends_at_the_start(world: World) -> None:
    world.book(DELAYED, asks={"0.50": 100})
    at_s = START_NS // NS_PER_SECOND
    gone = world.place("ann", BUY, 10, "0.01", GTD, expiration_s=at_s + 200).order_id
    delayed = world.place("ann", BUY, 10, "0.50", GTC, slug=DELAYED).order_id
    world.restart(after_s=600)
    world.book(DELAYED, asks={"0.45": 100})
    world.step(0.01)
    told = updates(world.exchange.drain())
    assert f"{gone} CANCELLATION CANCELED_EXPIRED_ORDER" in told
    assert f"{delayed} UPDATE MATCHED" in told
    assert world.trade("ann").price == price("0.45")
    world.settle()
    world.check()


def test_a_timed_market_that_ended_meanwhile_is_resolved(tmp_path: Path) -> None:
    world = World(tmp_path / "x.db", timed_markets=True)
    world.fund("ann", 100)
    slug = next(
        m.spec.slug for m in world.exchange.simulator.listings.markets if "updown" in m.spec.slug
    )
    spec = world.market(slug).spec
    world.split("ann", 20, slug)
    order = world.place("ann", BUY, 5, "0.01", slug=slug).order_id
    world.restart()
    assert world.market(slug).spec == spec, "within the window it is the same market"
    assert world.exchange.order("key-ann", order) is not None
    world.restart(after_s=900)
    assert spec.tokens[0] not in world.exchange.simulator.listings.by_token
    assert updates(world.exchange.drain()) == [f"{order} CANCELLATION CANCELED_MARKET_RESOLVED"]
    from fleet.domain.commands import OperationKind
    from fleet.sandbox.exchange.contract import OperationRequest

    request = OperationRequest(
        wallet="ann", kind=OperationKind.REDEEM, condition_id=spec.condition_id
    )
    world.exchange.operate(request, world.now_ns)
    assert world.exchange.cash("ann") == base(100)
    world.check()


def test_resolutions_and_finer_ticks_stay(tmp_path: Path) -> None:
    world = World(tmp_path / "x.db")
    world.fund("ann", 100)
    world.split("ann", 10)
    closed = world.market().spec.condition_id
    world.exchange.resolve(closed, 1, world.now_ns)
    fine = world.market("budget-signed")
    world.exchange.simulator.refine(fine, world.now_ns)
    order = world.place("ann", BUY, 10, "0.123", slug="budget-signed").order_id
    world.restart()
    assert world.exchange.simulator.listings.by_condition[closed].winner == 1
    assert world.market("budget-signed").tick == 100_000
    assert world.exchange.order("key-ann", order) is not None
    assert (price("0.123"), 10 * 100_000_000) in world.market("budget-signed").levels(0, buy=True)
    with pytest.raises(Refused, match="No orderbook"):
        world.place("ann", BUY, 10, "0.10")


def test_another_seed_and_a_second_process_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    world = World(path)
    with pytest.raises(StoreError, match="end the sandbox that has it open"):
        Exchange(world.settings, START_NS, path=path)
    world.exchange.close()
    with pytest.raises(StoreError, match="of seed 7, not 8: start with seed 7"):
        Exchange(SimulatorSettings(seed=8), START_NS, path=path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE fact SET value = 99 WHERE name = 'version'")
    db.close()
    with pytest.raises(StoreError, match="version 99"):
        Exchange(world.settings, START_NS, path=path)


def test_a_file_that_cannot_be_written_stops_the_exchange(world: World) -> None:
    world.exchange._store._db.execute("PRAGMA query_only=1")
    for _ in range(2):
        with pytest.raises(StoreError, match="make room, then start the sandbox again"):
            world.place("ann", BUY, 10, "0.01")
    world.restart()
    assert world.exchange.orders("key-ann") == []
    assert world.held("ann") == 0


KILLED = """
    import os, sys
    from pathlib import Path
    from tests.exchange_world import BUY, World
    world = World(Path(sys.argv[1]), still=False)
    world.fund("ann", 100_000)
    for number in range(10_000):
        world.place("ann", BUY, 10, "0.30", order_id=f"0x{number}")
        print(number, flush=True)
        world.step(0.05)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_that_was_answered_is_lost_by_kill_9(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "x.db"
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
        cwd=root,
        env={"PYTHONPATH": f"{root / 'src'}:{root}", "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last >= random.Random(seed).randint(20, 60):
            process.kill()
            break
    last = max([last, *(int(line) for line in process.stdout)])
    process.wait()
    process.stdout.close()
    world = World(path)
    accepted = len(world.exchange.state.owners)
    assert accepted in {last + 1, last + 2}, "all that were answered, and perhaps one more"
    for number in range(accepted):
        with pytest.raises(Refused, match="Duplicated"):
            world.place("ann", BUY, 10, "0.30", order_id=f"0x{number}")
    world.settle()
    world.check()
    assert world.owns("ann") == sum(
        fill.size
        for trade in world.exchange.trades("key-ann")
        for fill in trade.makers
        if fill.owner
    ) + sum(t.size for t in world.exchange.trades("key-ann") if t.owner)
