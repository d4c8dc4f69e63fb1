"""The listener as a bot has it, on the sandbox's chain: a wallet trades, splits, and is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from fleet.clock import LiveClock, ManualClock
from fleet.domain.events import MoveKind
from fleet.domain.instruments import Side
from fleet.runtime.components import ComponentFailed
from fleet.runtime.leader_part import LeaderPart, LeaderPlace
from fleet.runtime.listener_settings import ListenerEnv
from fleet.sandbox.chain_trades import FLOW_ADDRESS
from fleet.venues.polymarket.chain_contracts import Split
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.leader_activity import ActivityCheck
from fleet.venues.port import TransportFailed
from fleet.venues.transport import HttpSettings, JsonClient
from tests.chain_world import ChainWorld, signer
from tests.leader_world import Heard, until
from tests.unit.test_chain_sandbox import signed
from tests.unit.test_chain_trades import MAKER, TAKER, crossed, streaming

ENV = ListenerEnv(verify_blocks=4)


def place_of(folder: Path, *urls: str, wallets: tuple[str, ...] = (MAKER, TAKER)) -> LeaderPlace:
    return LeaderPlace(
        wallets=wallets, urls=urls, chain_id=POLYGON, cursor=folder / "chain" / "mimic-paper.db",
        bot="elitemimic", mode="paper", feed="sandbox",
    )  # fmt: skip


def test_a_trade_on_the_sandbox_is_told_with_both_legs(tmp_path: Path) -> None:
    async def scene() -> None:
        world, heard = ChainWorld.make(), Heard()
        async with streaming(world) as url:
            part = LeaderPart(place_of(tmp_path, url), ENV, heard, LiveClock())
            await part.start()
            await until(lambda: part.hearing)
            trade = crossed(world).trade
            await until(lambda: len(heard.trades) == 2)
            told = {one.wallet: one for one in heard.trades}
            assert (told[MAKER].side, told[MAKER].maker) == (Side.SELL, True)
            assert (told[TAKER].side, told[TAKER].maker) == (Side.BUY, False)
            price = (trade.cash * 10**8 * 2 + trade.size) // (2 * trade.size)
            for one in told.values():
                assert one.instrument_id == trade.token_id
                assert (one.qty, one.price) == (trade.size * 100, price)
                assert one.sighting_id.startswith(trade.transaction_hash)
                assert one.ts_event == world.chain.block_time_ns(one.block)
            assert part.health().ok
            await part.stop()
            # What was told is not told again by the next process, once it is safe.
            world.blocks(10)
            again = LeaderPart(place_of(tmp_path, url), ENV, heard, LiveClock())
            await again.start()
            await until(lambda: again.hearing)
            assert set(heard.told) == {one.sighting_id for one in told.values()}
            assert again.figures()["undone"] == 0
            await again.stop()
        world.close()

    asyncio.run(scene())


def test_a_split_on_the_sandbox_is_told_as_a_move(tmp_path: Path) -> None:
    async def scene() -> None:
        world, heard = ChainWorld.make(), Heard()
        wallet = signer().address
        world.give(wallet, 100)
        async with streaming(world) as url:
            place = place_of(tmp_path, url, wallets=(wallet,))
            part = LeaderPart(place, ENV, heard, LiveClock())
            await part.start()
            await until(lambda: part.hearing)
            spec = world.market(neg_risk=False).spec
            call = Split(condition_id=spec.condition_id, amount=7_000_000, neg_risk=False)
            world.chain.send(signed(call).raw, world.now_ns)
            world.blocks(1)
            await until(lambda: heard.moves)
            (move,) = heard.moves
            assert (move.wallet, move.kind) == (wallet, MoveKind.SPLIT)
            assert dict(move.changes) == dict.fromkeys(spec.tokens, 7 * 10**8)
            assert FLOW_ADDRESS not in {one.wallet for one in heard.moves}
            await part.stop()
        world.close()

    asyncio.run(scene())


def test_nobody_to_follow_is_not_a_failure(tmp_path: Path) -> None:
    async def scene() -> None:
        part = LeaderPart(place_of(tmp_path, wallets=()), ENV, Heard(), LiveClock())
        await part.start()
        assert part.health().ok
        assert not part.hearing
        assert part.figures() == {}
        await part.stop()

    asyncio.run(scene())


def test_a_cursor_of_another_bot_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        place = place_of(tmp_path, "ws://127.0.0.1:1/")
        first = LeaderPart(place, ENV, Heard(), LiveClock())
        await first.start()
        await until(lambda: "cannot connect" in first.health().detail)
        await first.stop()
        other = LeaderPart(replace(place, bot="other"), ENV, Heard(), LiveClock())
        with pytest.raises(ComponentFailed, match="belongs to"):
            await other.start()

    asyncio.run(scene())


def test_the_slow_check_reports_and_never_copies() -> None:
    rows = [
        {"type": "TRADE", "timestamp": 1_000, "transaction_hash": "0xAA"},
        {"type": "TRADE", "timestamp": 1_000, "transaction_hash": "0xbb"},
        {"type": "REWARD", "timestamp": 1_000, "transaction_hash": "0xcc"},
        {"type": "TRADE", "timestamp": 1_095, "transaction_hash": "0xdd"},
        {"type": "TRADE", "timestamp": 10, "transaction_hash": "0xee"},
    ]
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if request.query["user"] == TAKER:
            return web.Response(status=400, text="no")
        return web.json_response({"data": rows, "pagination": {}})

    async def scene() -> None:
        app = web.Application()
        app.router.add_get("/v2/activity", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        clock = ManualClock(900 * 10**9)
        http = JsonClient(
            f"http://127.0.0.1:{runner.addresses[0][1]}", HttpSettings(attempts=1), clock=clock
        )
        found: list[str] = []

        async def missed(name: str) -> None:
            found.append(name)
            if len(found) == 1:
                raise TransportFailed("no node", sent=False)

        check = ActivityCheck(
            http, (MAKER, TAKER), told=lambda name: name == "0xaa", missed=missed, clock=clock
        )
        clock.advance_to(1_100 * 10**9)
        await check.round()
        await check.round()
        # Known, a reward, too young, from before the start: none of these is missing.
        # The first re-read found no node, the second did: counted once, tried until it worked.
        await check.round()
        assert found == ["0xbb", "0xbb"]
        assert (check.missed, check.failures) == (1, 4)
        assert asked[0]["start"] == "900"
        await http.close()
        await runner.cleanup()

    asyncio.run(scene())
