"""Operations against the sandbox's chain over a real socket, through web3.py."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from fleet.domain.commands import OperationId, OperationKind
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE, Qty, parse_cash
from fleet.venues.polymarket.chain import (
    PATIENCE_NS,
    STUCK_NS,
    ChainOperations,
    ChainStatus,
    OperationFutile,
    PreparedOperation,
    SendStatus,
    WalletBusy,
)
from fleet.venues.polymarket.chain_account import ChainAccount, approve_missing
from fleet.venues.polymarket.chain_contracts import Contract
from fleet.venues.polymarket.chain_transactions import TransactionSigner
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.guard import GuardCode, GuardRefused
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.live_operations import Operations
from fleet.venues.port import TransportFailed
from tests.chain_world import KEY, ChainWorld, legs, opened, operation, serving, signer

WALLET = signer().address


async def settle(
    world: ChainWorld, operations: ChainOperations, prepared: PreparedOperation
) -> ChainStatus:
    """Send, let blocks be made, and see the end."""
    assert (await operations.send(prepared)).status is SendStatus.ACCEPTED
    world.blocks(6)
    outcome = await operations.outcome(prepared.transaction_hash)
    assert outcome.status.final, outcome
    return outcome.status


def test_a_split_and_a_merge_move_what_they_say() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            prepared = await operations.prepare(split)
            assert list(operations.unresolved) == [prepared.transaction_hash]
            sent = await operations.send(prepared)
            assert sent.status is SendStatus.ACCEPTED
            waiting = await operations.outcome(prepared.transaction_hash)
            assert waiting.status is ChainStatus.PENDING
            world.blocks(2)
            shallow = await operations.outcome(prepared.transaction_hash)
            assert shallow.status is ChainStatus.PENDING
            assert "blocks deep" in shallow.reason
            world.blocks(2)
            outcome = await operations.outcome(prepared.transaction_hash)
            assert outcome.status is ChainStatus.CONFIRMED
            assert outcome.moves is not None
            assert outcome.moves.cash == parse_cash("-40")
            assert dict(outcome.moves.mint) == dict(split.mint)
            assert outcome.moves.burn == ()
            assert outcome.fee_wei > 0

            merge = operation(OperationKind.MERGE, burn=legs(market, 15), dollars="15", name="o2")
            assert await settle(world, operations, await operations.prepare(merge)) is (
                ChainStatus.CONFIRMED
            )
            account = ChainAccount(node)
            assert await account.cash(WALLET) == parse_cash("75")
            held = await account.tokens(WALLET, [t for t, _ in legs(market, 1)])
            assert list(held.values()) == [Qty(25 * SCALE)] * 2
        assert world.exchange.cash(WALLET) == 75_000_000
        world.close()

    asyncio.run(scene())


def test_what_would_revert_is_refused_before_it_is_signed() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100, approve=False)
        market = world.market(neg_risk=True)
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            with pytest.raises(OperationFutile, match="too small an allowance"):
                await operations.prepare(split)
            merge = operation(OperationKind.MERGE, burn=legs(market, 40), dollars="40")
            with pytest.raises(OperationFutile, match="need operator approval"):
                await operations.prepare(merge)
            assert list(operations.unresolved) == []
            world.state.grant(WALLET)
            with pytest.raises(OperationFutile, match="SafeMath: subtraction overflow"):
                await operations.prepare(merge)
            redeem = operation(OperationKind.REDEEM, burn=legs(market, 40), dollars="40")
            with pytest.raises(OperationFutile, match="result for condition not received yet"):
                await operations.prepare(redeem)
        world.close()

    asyncio.run(scene())


def test_missing_approvals_are_told_and_given() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100, approve=False)

        async def tick(_: float) -> None:
            world.blocks()

        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            account = ChainAccount(node)
            before = await account.approvals(WALLET)
            assert len(before) == 10
            assert not any(state.given for state in before)
            given = [a async for a in approve_missing(operations, account, sleep=tick)]
            assert given == [state.approval for state in before]
            assert all(state.given for state in await account.approvals(WALLET))
            assert [a async for a in approve_missing(operations, account, sleep=tick)] == []
            adapter = Contract.CTF_ADAPTER.address
            assert await account.collateral_allowance(WALLET, adapter) == 2**256 - 1
            assert await account.tokens_approved(WALLET, adapter)
            assert not await account.tokens_approved(WALLET, WALLET)
        world.close()

    asyncio.run(scene())


def test_a_set_is_converted_by_the_chains_own_numbering() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 1_000)
        group = next(
            g for g in world.exchange.simulator.listings.groups.values()
            if g.event.neg_risk_market_id
        )  # fmt: skip
        markets = group.markets
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            for number, market in enumerate(markets):
                split = operation(
                    OperationKind.SPLIT, mint=legs(market, 10), dollars="-10", name=f"s{number}"
                )
                prepared = await operations.prepare(split)
                assert await settle(world, operations, prepared) is ChainStatus.CONFIRMED
            burned = (markets[0], markets[2])
            rest = [m for m in markets if m not in burned]
            ten = Qty(10 * SCALE)
            convert = operation(
                OperationKind.CONVERT,
                burn=tuple((InstrumentId(m.spec.tokens[1]), ten) for m in burned),
                mint=tuple((InstrumentId(m.spec.tokens[0]), ten) for m in rest),
                dollars="10", name="c",
            )  # fmt: skip
            prepared = await operations.prepare(convert)
            assert (await operations.send(prepared)).status is SendStatus.ACCEPTED
            world.blocks(6)
            outcome = await operations.outcome(prepared.transaction_hash)
            assert outcome.moves is not None
            assert outcome.moves.cash == parse_cash("10")
            assert dict(outcome.moves.burn) == dict(convert.burn)
            assert dict(outcome.moves.mint) == dict(convert.mint)
        world.close()

    asyncio.run(scene())


def test_a_resolved_market_is_redeemed_whole() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            split = operation(OperationKind.SPLIT, mint=legs(market, 30), dollars="-30")
            await settle(world, operations, await operations.prepare(split))
            world.exchange.resolve(market.spec.condition_id, 1, world.now_ns)
            winner = legs(market, 30)[1:]
            redeem = operation(OperationKind.REDEEM, burn=winner, dollars="30", name="o2")
            prepared = await operations.prepare(redeem)
            await operations.send(prepared)
            world.blocks(6)
            outcome = await operations.outcome(prepared.transaction_hash)
            assert outcome.moves is not None
            # The contract takes both tokens, whatever was asked for.
            assert dict(outcome.moves.burn) == dict(legs(market, 30))
            assert outcome.moves.cash == parse_cash("30")
        assert world.exchange.cash(WALLET) == 100_000_000
        world.close()

    asyncio.run(scene())


def test_a_reverted_operation_tells_why_and_changes_nothing() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            prepared = await operations.prepare(split)
            await operations.send(prepared)
            world.exchange.deposit(WALLET, -90_000_000, world.now_ns)
            world.blocks(6)
            outcome = await operations.outcome(prepared.transaction_hash)
            assert outcome.status is ChainStatus.REVERTED
            assert "TransferFromFailed" in outcome.reason
            assert list(operations.unresolved) == []
        assert world.exchange.cash(WALLET) == 10_000_000
        world.close()

    asyncio.run(scene())


def test_after_a_crash_the_same_bytes_count_once() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        async with serving(world) as url, opened(url) as node:
            before = ChainOperations(signer(), node, world.universe())
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            prepared = await before.prepare(split)
            assert (await before.send(prepared)).status is SendStatus.ACCEPTED

            after = ChainOperations(signer(), node, world.universe())
            after.restore(prepared.transaction_hash)
            assert (await after.send(prepared)).status is SendStatus.ACCEPTED  # already known
            with pytest.raises(WalletBusy):
                await after.prepare(split)
            world.blocks(6)
            late = await after.send(prepared)  # it is mined by now: nonce too low
            assert late.status is SendStatus.UNKNOWN
            assert "nonce too low" in late.reason
            outcome = await after.outcome(prepared.transaction_hash)
            assert outcome.status is ChainStatus.CONFIRMED
        assert world.exchange.cash(WALLET) == 60_000_000
        world.close()

    asyncio.run(scene())


def test_a_hash_nobody_knows_blocks_until_a_void_proves_it_dead() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        async with serving(world) as url, opened(url) as node:
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            crashed = await ChainOperations(signer(), node, world.universe()).prepare(split)
            # The process died before it sent; the journal has the hash alone.
            operations = ChainOperations(signer(), node, world.universe())
            operations.restore(crashed.transaction_hash)
            world.blocks(20)
            unknown = await operations.outcome(crashed.transaction_hash)
            assert unknown.status is ChainStatus.UNKNOWN
            with pytest.raises(WalletBusy):
                await operations.prepare(split)

            void = await operations.void()
            assert (await operations.send(void)).status is SendStatus.ACCEPTED
            still = await operations.outcome(crashed.transaction_hash)
            assert still.status is ChainStatus.UNKNOWN
            world.blocks(6)
            dead = await operations.outcome(crashed.transaction_hash)
            assert dead.status is ChainStatus.DEAD
            assert (await operations.outcome(void.transaction_hash)).status is (
                ChainStatus.CONFIRMED
            )
            assert list(operations.unresolved) == []

            # What is dead stays dead, whoever sends it: its nonce is gone.
            late = await ChainOperations(signer(), node, world.universe()).send(crashed)
            assert late.status is SendStatus.UNKNOWN
            world.blocks(6)
            assert await node.receipt(crashed.transaction_hash) is None
            again = await operations.prepare(split)
            assert again.nonce == crashed.nonce + 1
            assert await settle(world, operations, again) is ChainStatus.CONFIRMED
        assert world.exchange.cash(WALLET) == 60_000_000
        world.close()

    asyncio.run(scene())


def test_an_unknown_hash_of_the_journal_is_resolved_in_time() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        time_ns = 0
        async with serving(world) as url, opened(url) as node:
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            crashed = await ChainOperations(signer(), node, world.universe()).prepare(split)
            operations = ChainOperations(
                signer(), node, world.universe(), monotonic_ns=lambda: time_ns
            )
            operations.restore(crashed.transaction_hash)
            seen: list[ChainStatus] = []
            while not seen or not seen[-1].final:
                assert len(seen) < 60
                seen.append((await operations.resolve(crashed.transaction_hash)).status)
                time_ns += 10**9
                world.now_ns += 10**9
            assert seen[-1] is ChainStatus.DEAD
            # Nothing was signed while it might still have been on its way.
            assert len(seen) > PATIENCE_NS // 10**9
            assert await node.nonce(WALLET) == 1
            # The void is no obstacle to the next operation.
            again = await operations.prepare(split)
            assert await settle(world, operations, again) is ChainStatus.CONFIRMED
            assert list(operations.unresolved) == []
        assert world.exchange.cash(WALLET) == 60_000_000
        world.close()

    asyncio.run(scene())


def test_bytes_that_got_lost_are_sent_again_and_count_once() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        time_ns = 0
        async with serving(world) as url, opened(url, timeout_s=1.0) as node:
            operations = ChainOperations(
                signer(), node, world.universe(), monotonic_ns=lambda: time_ns
            )
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            prepared = await operations.prepare(split)
            world.lose_requests = True
            assert (await operations.send(prepared)).status is SendStatus.UNKNOWN
            world.lose_requests = False
            world.blocks(6)
            found = await operations.resolve(prepared.transaction_hash)
            for _ in range(20):
                found = await operations.resolve(prepared.transaction_hash)
                time_ns += 10**9
                world.now_ns += 10**9
            assert found.status is ChainStatus.CONFIRMED
            assert await node.nonce(WALLET) == 1
        assert world.exchange.cash(WALLET) == 60_000_000
        world.close()

    asyncio.run(scene())


def test_a_transaction_that_is_stuck_is_outbid_by_a_void() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            stuck = await operations.prepare(split)
            await operations.send(stuck)
            world.chain.base_fee_wei *= 5
            world.blocks(20)
            assert (await operations.outcome(stuck.transaction_hash)).status is (
                ChainStatus.PENDING
            )
            void = await operations.void()
            assert void.nonce == stuck.nonce
            assert await settle(world, operations, void) is ChainStatus.CONFIRMED
            outcome = await operations.outcome(stuck.transaction_hash)
            assert outcome.status is ChainStatus.DEAD
        assert world.exchange.cash(WALLET) == 100_000_000
        world.close()

    asyncio.run(scene())


def test_what_waits_too_long_for_its_fees_is_given_up() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        time_ns = 0
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(
                signer(), node, world.universe(), monotonic_ns=lambda: time_ns
            )
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            stuck = await operations.prepare(split)
            await operations.send(stuck)
            world.chain.base_fee_wei *= 5
            world.blocks(6)
            for _ in range(5):
                found = await operations.resolve(stuck.transaction_hash)
                assert found.status is ChainStatus.PENDING
                assert await node.nonce(WALLET, "pending") == 1
                time_ns += STUCK_NS // 4
            # The void that took its place waits too long as well, and is outbid in its turn.
            world.chain.base_fee_wei *= 5
            for _ in range(6):
                found = await operations.resolve(stuck.transaction_hash)
                assert found.status is ChainStatus.UNKNOWN
                assert await node.nonce(WALLET, "pending") == 1
                world.blocks(1)
                time_ns += STUCK_NS // 4
            world.blocks(6)
            found = await operations.resolve(stuck.transaction_hash)
            assert found.status is ChainStatus.DEAD
            again = await operations.prepare(split)
            assert await settle(world, operations, again) is ChainStatus.CONFIRMED
            assert list(operations.unresolved) == []
        assert world.exchange.cash(WALLET) == 60_000_000
        world.close()

    asyncio.run(scene())


def test_what_never_left_is_told_apart() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(AsyncExitStack())
            url = await server.enter_async_context(serving(world))
            node = await stack.enter_async_context(opened(url))
            operations = ChainOperations(signer(), node, world.universe())
            prepared = await operations.prepare(split)
            await server.aclose()
            for _ in range(2):
                assert (await operations.send(prepared)).status is SendStatus.UNSENT
            with pytest.raises(TransportFailed):
                await operations.outcome(prepared.transaction_hash)
            assert list(operations.unresolved) == [prepared.transaction_hash]
            operations.forget(prepared)
            assert list(operations.unresolved) == []
        world.close()

    asyncio.run(scene())


def test_what_was_signed_under_a_lease_does_not_leave_without_it() -> None:
    """Chaos seed 10: stopped between the signature and the node, until another had the lease."""
    held = True

    def permit() -> None:
        if not held:
            raise GuardRefused(GuardCode.LEASE_LOST, "superseded")

    async def scene() -> None:
        nonlocal held
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
        async with serving(world) as url, opened(url) as node:
            guarded = TransactionSigner(SecretKey(KEY), chain_id=POLYGON, permit=permit)
            operations = ChainOperations(guarded, node, world.universe())
            prepared = await operations.prepare(split)
            held = False
            sent = await Operations._send(operations, prepared)
            assert (sent.status, "LEASE_LOST" in sent.reason) == (SendStatus.UNSENT, True)
            with pytest.raises(GuardRefused, match="LEASE_LOST"):
                await operations.send(prepared)
            world.blocks(6)
            found = await operations.outcome(prepared.transaction_hash)
            assert found.status is ChainStatus.UNKNOWN
            held = True
            assert await settle(world, operations, prepared) is ChainStatus.CONFIRMED
        world.close()

    asyncio.run(scene())


def test_a_refusal_at_the_first_try_is_proof() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            prepared = await operations.prepare(split)
            spent = (WALLET, 0, str(100 * 10**18))
            world.state._db.execute("INSERT INTO account VALUES (?, ?, ?)", spent)
            sent = await operations.send(prepared)
            assert sent.status is SendStatus.REFUSED
            assert "insufficient funds" in sent.reason
            assert list(operations.unresolved) == []
            # At a second try, or after a restart, the same words prove nothing.
            again = await operations.send(prepared)
            assert again.status is SendStatus.UNKNOWN
        world.close()

    asyncio.run(scene())


def test_a_key_that_signs_elsewhere_makes_the_wallet_busy() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
        async with serving(world) as url, opened(url) as node:
            stranger = ChainOperations(signer(), node, world.universe())
            await stranger.send(await stranger.void())
            operations = ChainOperations(signer(), node, world.universe())
            with pytest.raises(WalletBusy, match="does the key sign elsewhere"):
                await operations.prepare(split)
            world.blocks(3)
            assert (await operations.prepare(split)).nonce == 1
        world.close()

    asyncio.run(scene())


def test_a_lost_answer_is_no_proof_and_the_chain_tells_later() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
        async with serving(world) as url, opened(url, timeout_s=1.0) as node:
            operations = ChainOperations(signer(), node, world.universe())
            prepared = await operations.prepare(split)
            world.lose_answers = True
            assert (await operations.send(prepared)).status is SendStatus.UNKNOWN
            world.lose_answers = False
            with pytest.raises(ValueError, match="only the chain can end it"):
                operations.forget(prepared)
            with pytest.raises(WalletBusy):
                await operations.prepare(split)
            world.blocks(6)
            outcome = await operations.outcome(prepared.transaction_hash)
            assert outcome.status is ChainStatus.CONFIRMED
        world.close()

    asyncio.run(scene())


def test_a_wallet_without_gas_is_told_to_get_some() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100)
        market = world.market(neg_risk=False)
        async with serving(world) as url, opened(url) as node:
            operations = ChainOperations(signer(), node, world.universe())
            world.chain.base_fee_wei = 10**15
            split = operation(OperationKind.SPLIT, mint=legs(market, 40), dollars="-40")
            with pytest.raises(OperationFutile, match="send POL"):
                await operations.prepare(split)
            assert list(operations.unresolved) == []
            assert OperationId("o1") == split.operation_id
        world.close()

    asyncio.run(scene())
