"""Settlements and subscriptions of the sandbox's chain, as one who copies trades listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from eth_abi.abi import decode as abi_decode
from web3 import AsyncWeb3, WebSocketProvider

from fleet.domain.commands import OperationKind, TimeInForce
from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.sandbox.chain_pool import BLOCK_NS, FIRST_BLOCK
from fleet.sandbox.chain_stream import ChainStream
from fleet.sandbox.chain_trades import FLOW_ADDRESS, ORDER_FILLED, ORDERS_MATCHED, TradeWitness
from fleet.sandbox.exchange.contract import OperationRequest, OrderRequest, TradeUpdate
from fleet.venues.polymarket.contracts import POLYGON, Exchange, exchange_address
from fleet.venues.polymarket.keys import checksum_address, keccak
from tests.chain_world import ChainWorld
from tests.unit.test_chain_sandbox import ask, signed

MAKER = checksum_address("0x" + "a1" * 20)
TAKER = checksum_address("0x" + "b2" * 20)
STANDARD = exchange_address(POLYGON, Exchange.STANDARD_V2)
SHARES = 10 * 10**6


def word(address: str) -> str:
    return "0x" + address[2:].lower().rjust(64, "0")


def test_the_topics_are_the_events_names() -> None:
    filled = (
        "OrderFilled(bytes32,address,address,uint8,uint256,uint256,uint256,uint256,bytes32,bytes32)"
    )
    matched = "OrdersMatched(bytes32,address,uint8,uint256,uint256,uint256)"
    assert "0x" + keccak(filled.encode()).hex() == ORDER_FILLED
    assert "0x" + keccak(matched.encode()).hex() == ORDERS_MATCHED


def crossed(world: ChainWorld) -> TradeUpdate:
    """A SELL of one wallet taken by a BUY of another, inside the spread, and settled."""
    market = next(
        m for m in world.markets
        if not m.spec.neg_risk and (m.best(0, buy=False) or 0) - (m.best(0, buy=True) or 0)
        >= 2 * m.tick
    )  # fmt: skip
    exchange, spec = world.exchange, market.spec
    bid = market.best(0, buy=True)
    assert bid is not None
    price = bid + market.tick
    cash = price * SHARES // 10**8
    for wallet in (MAKER, TAKER):
        world.give(wallet, 1_000)
    exchange.operate(
        OperationRequest(
            wallet=MAKER, kind=OperationKind.SPLIT, amount=SHARES, condition_id=spec.condition_id
        ),
        world.now_ns,
    )
    for number, wallet, side in ((1, MAKER, Side.SELL), (2, TAKER, Side.BUY)):
        exchange.place(
            OrderRequest(
                order_id=f"0x{number:064x}", owner=f"key{number}", address=wallet, maker=wallet,
                token_id=spec.tokens[0], side=side,
                maker_amount=SHARES if side is Side.SELL else cash,
                taker_amount=cash if side is Side.SELL else SHARES, tif=TimeInForce.GTC,
            ),
            world.now_ns,
        )  # fmt: skip
    witness = TradeWitness(world.chain, world.chain.execution._directory)
    for _ in range(120):
        world.now_ns += 10**9
        exchange.step(world.now_ns)
        world.chain.step(world.now_ns)
        published = exchange.drain()
        witness.observe(published.updates)
        for update in published.updates:
            if (
                isinstance(update, TradeUpdate)
                and update.trade.taker_order_id == f"0x{2:064x}"
                and update.trade.status is SettlementStatus.CONFIRMED
            ):
                world.blocks(1)
                return update
    raise AssertionError("the trade was not confirmed")


def test_a_settled_trade_is_a_transaction_of_logs() -> None:
    world = ChainWorld.make()
    trade = crossed(world).trade
    receipt = ask(world, "eth_getTransactionReceipt", trade.transaction_hash)
    assert (receipt["status"], receipt["to"]) == ("0x1", STANDARD)
    logs = receipt["logs"]
    assert [log["topics"][0] for log in logs] == [ORDER_FILLED, ORDER_FILLED, ORDERS_MATCHED]
    maker, taker, matched = logs
    assert maker["topics"][1:] == [f"0x{1:064x}", word(MAKER), word(TAKER)]
    assert taker["topics"][1:] == [f"0x{2:064x}", word(TAKER), word(STANDARD)]
    assert matched["topics"][1:] == [f"0x{2:064x}", word(TAKER)]
    types = ["uint8", "uint256", "uint256", "uint256", "uint256", "bytes32", "bytes32"]
    made = abi_decode(types, bytes.fromhex(maker["data"][2:]))
    took = abi_decode(types, bytes.fromhex(taker["data"][2:]))
    token = int(trade.token_id)
    assert made[:5] == (1, token, SHARES, trade.cash, 0)
    assert took[:5] == (0, token, trade.cash, SHARES, trade.fee_amount)
    told = ask(world, "eth_getTransactionByHash", trade.transaction_hash)
    assert told["blockNumber"] == receipt["blockNumber"]

    # A copier's filter: what one wallet filled, resting or not.
    both: dict[str, Any] = {
        "fromBlock": hex(FIRST_BLOCK), "address": [STANDARD],
        "topics": [ORDER_FILLED, None, [word(MAKER), word(TAKER)]],
    }  # fmt: skip
    assert ask(world, "eth_getLogs", both) == [maker, taker]
    both["topics"][2] = word(FLOW_ADDRESS)
    assert maker not in ask(world, "eth_getLogs", both)
    world.close()


def test_a_block_that_was_read_does_not_change() -> None:
    world = ChainWorld.make()
    world.chain.state.settle("0x" + "77" * 32, FIRST_BLOCK + 1, [{
        "address": STANDARD, "topics": [ORDER_FILLED], "data": "0x"}])  # fmt: skip
    wanted = {"fromBlock": hex(FIRST_BLOCK), "toBlock": hex(FIRST_BLOCK + 5)}
    assert ask(world, "eth_getLogs", wanted) == []
    assert ask(world, "eth_getTransactionReceipt", "0x" + "77" * 32) is None
    world.now_ns += BLOCK_NS
    assert len(ask(world, "eth_getLogs", wanted)) == 1
    assert ask(world, "eth_getTransactionReceipt", "0x" + "77" * 32)["status"] == "0x1"
    world.close()


@asynccontextmanager
async def streaming(world: ChainWorld) -> AsyncIterator[str]:
    """The websocket's address."""
    app = web.Application()
    ChainStream(world.rpc, world.chain, lambda: world.now_ns).add_to(app.router)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/rpc"
    finally:
        await runner.cleanup()


def test_unmodified_web3_subscribes_to_logs_and_heads() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        async with (
            streaming(world) as url,
            AsyncWeb3(WebSocketProvider(url, websocket_kwargs={"proxy": None})) as connected,
        ):
            web3: Any = connected
            assert await web3.eth.chain_id == POLYGON
            heads = await web3.eth.subscribe("newHeads")
            logs = await web3.eth.subscribe("logs", {"address": STANDARD})
            world.chain.state.settle("0x" + "77" * 32, FIRST_BLOCK + 1, [{
                "address": STANDARD, "topics": [ORDER_FILLED], "data": "0x"}])  # fmt: skip
            sent = signed(None)
            world.chain.send(sent.raw, world.now_ns)
            world.now_ns += BLOCK_NS
            got: dict[str, Any] = {}
            async with asyncio.timeout(30):
                async for frame in web3.socket.process_subscriptions():
                    got[frame["subscription"]] = frame["result"]
                    if len(got) == 2:
                        break
            assert got[heads]["number"] == FIRST_BLOCK + 1
            assert len(got[heads]["transactions"]) == 2
            assert got[logs]["address"] == STANDARD
            assert await web3.eth.unsubscribe(logs)
        world.close()

    asyncio.run(scene())


def test_a_subscription_that_is_not_offered_is_refused() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        async with (
            streaming(world) as url,
            aiohttp.ClientSession() as session,
            session.ws_connect(url) as socket,
        ):
            for text, code in (
                ('{"id":1,"method":"eth_subscribe","params":["syncing"]}', -32602),
                ('{"id":1,"method":"eth_subscribe"}', -32602),
                ("{", -32700),
                ("[]x", -32700),
                ('{"id":1,"method":"eth_mine"}', -32601),
            ):
                await socket.send_str(text)
                message = await socket.receive(timeout=20)
                answer = message.json()
                assert answer["error"]["code"] == code, text
        world.close()

    asyncio.run(scene())
