"""Split, merge, redeem, convert: worked numbers, refusals, hashes."""

from typing import Any

import pytest

from fleet.domain.commands import OperationKind
from fleet.sandbox.exchange.contract import OperationRequest, Refused
from tests.exchange_world import BUY, FREE, SELL, World, base, updates

SPLIT, MERGE, REDEEM, CONVERT = (
    OperationKind[name] for name in ("SPLIT", "MERGE", "REDEEM", "CONVERT")
)
SET = "port-city-mayor"


@pytest.fixture
def world() -> World:
    found = World()
    found.fund("ann", 1_000)
    return found


def operate(world: World, kind: OperationKind, slug: str = FREE, **more: Any) -> str:
    named = {} if kind is CONVERT else {"condition_id": world.market(slug).spec.condition_id}
    return world.exchange.operate(
        OperationRequest(wallet="ann", kind=kind, **{**named, **more}), world.now_ns
    )


def test_split_and_merge(world: World) -> None:
    first = operate(world, SPLIT, amount=base(100))
    assert (world.exchange.cash("ann"), world.owns("ann", 0), world.owns("ann", 1)) == (
        base(900), base(100), base(100)
    )  # fmt: skip
    assert world.exchange.state.ledger.collateral[world.market().spec.condition_id] == base(100)
    second = operate(world, MERGE, amount=base(40.5))
    assert (world.exchange.cash("ann"), world.owns("ann", 1)) == (base(940.5), base(59.5))
    assert first != second
    for digest in (first, second):
        assert digest.startswith("0x")
        int(digest, 0)
        assert len(digest) == 66
    world.check()


@pytest.mark.parametrize(
    ("kind", "amount", "why"),
    [
        (SPLIT, base(1_000) + 1, "insufficient balance"),
        (MERGE, 1, "insufficient balance"),
        (SPLIT, 0, "amount must be positive"),
        (MERGE, -5, "amount must be positive"),
        (REDEEM, 0, "result for condition not received yet"),
    ],
)
def test_what_the_chain_refuses(world: World, kind: OperationKind, amount: int, why: str) -> None:
    with pytest.raises(Refused, match=f"execution reverted: .*{why}"):
        operate(world, kind, amount=amount)
    assert world.exchange.cash("ann") == base(1_000)
    with pytest.raises(Refused, match="not prepared"):
        operate(world, SPLIT, amount=1, condition_id="0xnone")


def test_redeeming_pays_the_winner_and_burns_both(world: World) -> None:
    operate(world, SPLIT, amount=base(100))
    world.book(bids={"0.30": 60})
    world.place("ann", SELL, 60, "0.30")
    world.settle()
    assert (world.owns("ann", 0), world.owns("ann", 1)) == (base(40), base(100))
    world.exchange.resolve(world.market().spec.condition_id, 1, world.now_ns)
    operate(world, REDEEM)
    assert world.exchange.cash("ann") == base(900 + 18 + 100)
    assert world.exchange.tokens("ann") == {}
    with pytest.raises(Refused, match="nothing to redeem"):
        operate(world, REDEEM)
    world.check()


def test_unsettled_tokens_cannot_be_merged_or_redeemed(world: World) -> None:
    world.book(bids={"0.30": 60}, asks={"0.40": 60})
    world.place("ann", BUY, 50, "0.40")
    world.place("ann", BUY, 50, "0.70", outcome=1)
    with pytest.raises(Refused, match="insufficient balance"):
        operate(world, MERGE, amount=base(50))
    world.settle()
    operate(world, MERGE, amount=base(50))
    assert world.exchange.cash("ann") == base(1_000 - 20 - 35 + 50)
    world.check()


def test_an_operation_that_uses_what_an_order_holds_cancels_the_order(world: World) -> None:
    operate(world, SPLIT, amount=base(100))
    order = world.place("ann", SELL, 80, "0.90").order_id
    world.exchange.drain()
    operate(world, MERGE, amount=base(20))
    assert world.exchange.order("key-ann", order) is not None
    operate(world, MERGE, amount=base(1))
    assert updates(world.exchange.drain()) == [f"{order} CANCELLATION CANCELED_NOT_ENOUGH_BALANCE"]


@pytest.mark.parametrize("given", [[0], [0, 1], [1, 3, 5], [0, 1, 2, 3, 4, 5]])
def test_convert_gives_pusd_and_yes_of_the_others(world: World, given: list[int]) -> None:
    """m NO of size A -> (m - 1) x A pUSD and A of each other YES (reference 7.4)."""
    for at in given:
        operate(world, SPLIT, f"{SET}-{at}", amount=base(50))
    before = world.exchange.cash("ann")
    market_id = world.market(f"{SET}-0").event.neg_risk_market_id
    operate(
        world,
        CONVERT,
        event_market_id=market_id,
        index_set=sum(1 << at for at in given),
        amount=base(30),
    )
    assert world.exchange.cash("ann") - before == (len(given) - 1) * base(30)
    for at in range(6):
        yes, no = (world.owns("ann", outcome, f"{SET}-{at}") for outcome in (0, 1))
        assert no == (base(20) if at in given else 0)
        assert yes == (base(50) if at in given else base(30))
    world.check()


@pytest.mark.parametrize("index_set", [0, 64, 65])
def test_convert_refuses_sets_out_of_range(world: World, index_set: int) -> None:
    operate(world, SPLIT, f"{SET}-0", amount=base(50))
    market_id = world.market(f"{SET}-0").event.neg_risk_market_id
    with pytest.raises(Refused, match="InvalidIndexSet"):
        operate(world, CONVERT, event_market_id=market_id, index_set=index_set, amount=1)
    with pytest.raises(Refused, match="MarketNotPrepared"):
        operate(world, CONVERT, event_market_id="", index_set=1, amount=1)
    with pytest.raises(Refused, match="insufficient balance"):
        operate(world, CONVERT, event_market_id=market_id, index_set=2, amount=1)


def test_a_converted_set_pays_whoever_wins(world: World) -> None:
    for at in (0, 1, 2):
        operate(world, SPLIT, f"{SET}-{at}", amount=base(50))
    market_id = world.market(f"{SET}-0").event.neg_risk_market_id
    operate(world, CONVERT, event_market_id=market_id, index_set=0b11, amount=base(50))
    for at in range(6):
        winner = 0 if at == 4 else 1
        condition_id = world.market(f"{SET}-{at}").spec.condition_id
        world.exchange.resolve(condition_id, winner, world.now_ns)
        world.check()
        if at in {0, 1}:
            # Of 0 and 1 only the YES is left, and it lost.
            before = world.exchange.cash("ann")
            operate(world, REDEEM, f"{SET}-{at}")
            assert world.exchange.cash("ann") == before
    operate(world, REDEEM, f"{SET}-4")
    operate(world, REDEEM, f"{SET}-2")
    # 150 went in; 50 came back at once, 50 from YES 4 and 50 from NO 2 (whose YES lost).
    assert world.exchange.cash("ann") == base(1_000)
    assert world.exchange.state.ledger.collateral[market_id] == 0
    with pytest.raises(Refused, match="AlreadyDetermined"):
        operate(world, CONVERT, event_market_id=market_id, index_set=4, amount=1)


def test_exactly_one_outcome_of_a_set_wins(world: World) -> None:
    ids = [world.market(f"{SET}-{at}").spec.condition_id for at in range(6)]
    world.exchange.resolve(ids[2], 0, world.now_ns)
    with pytest.raises(Refused, match="already won"):
        world.exchange.resolve(ids[3], 0, world.now_ns)
    others = [world.market(f"central-bank-decision-{at}").spec.condition_id for at in range(5)]
    for condition_id in others[:4]:
        world.exchange.resolve(condition_id, 1, world.now_ns)
    with pytest.raises(Refused, match="must win"):
        world.exchange.resolve(others[4], 1, world.now_ns)
    with pytest.raises(Refused, match="neither"):
        world.exchange.resolve(others[4], 2, world.now_ns)


def test_a_named_transaction_is_carried_out_once(world: World) -> None:
    name = "0x" + "ab" * 32
    assert operate(world, SPLIT, amount=base(10), transaction_hash=name) == name
    assert operate(world, SPLIT, amount=base(10), transaction_hash=name) == name
    assert world.exchange.cash("ann") == base(990)


def test_operations_and_deposits_are_told(world: World) -> None:
    digest = operate(world, SPLIT, amount=base(10))
    world.fund("ann", -5)
    deposit, split, withdrawal = world.exchange.operations("ann")
    assert (deposit.kind, deposit.cash) == (None, base(1_000))
    assert (split.kind, split.cash, split.transaction_hash) == (SPLIT, -base(10), digest)
    assert split.tokens == dict.fromkeys(world.market().spec.tokens, base(10))
    assert (withdrawal.kind, withdrawal.cash) == (None, -base(5))
    assert len({view.transaction_hash for view in (deposit, split, withdrawal)}) == 3
    assert world.exchange.operations("bob") == ()
