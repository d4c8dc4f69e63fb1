"""Markets are resolved at the real sandbox, over real sockets: who notices, and what it is worth."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    BundleId,
    OperationId,
    OperationKind,
    RunOperation,
    TimeInForce,
)
from fleet.domain.instruments import InstrumentId, Market, Side
from fleet.domain.units import SCALE, Price
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.runtime.recovery import query_of
from fleet.runtime.resolutions import ResolutionWatch
from fleet.strategies.redemption import Redemptions
from fleet.venues.polymarket.departed import departed_instruments
from fleet.venues.polymarket.resolutions import MarketStanding, standing_of_token
from fleet.venues.port import AnswerInvalid, RequestRefused
from fleet.venues.transport import JsonClient
from tests.builders import filled
from tests.contract.live_bench import LOCAL, LiveBench, play

BUY, SELL, GTC = Side.BUY, Side.SELL, TimeInForce.GTC
SPLIT, REDEEM = OperationKind.SPLIT, OperationKind.REDEEM


def watch(bench: LiveBench) -> ResolutionWatch:
    return ResolutionWatch(
        bench.state, lambda: JsonClient(bench.hosts.clob_url, LOCAL), bench._sink, bench.clock,
        every_s=60,
    )  # fmt: skip


async def look(bench: LiveBench) -> int:
    """One round of a watch: how many markets it found resolved."""
    watching = watch(bench)
    try:
        return await watching.look()
    finally:
        await watching.stop()


def redeem(bench: LiveBench) -> list[RunOperation]:
    """What the strategy wishes, handed to the venue as the runner would."""
    number, made = next(bench.numbers), []
    for wish in Redemptions(write_off_ns=0).wishes(View(bench.state)):
        operation = RunOperation(
            operation_id=OperationId(f"x{next(bench.numbers)}"), bundle_id=BundleId("redeem"),
            kind=wish.kind, subject=wish.subject, burn=wish.burn, mint=wish.mint, cash=wish.cash,
        )  # fmt: skip
        made.append(operation)
    bench.state.apply(ev.DecisionMade(ts_event=1, decision=number, operations=tuple(made)))
    for operation in made:
        bench.venue.submit(Approved(operation))
    return made


async def split(bench: LiveBench, market: Market, qty: str = "20") -> None:
    bench.operate(SPLIT, market, qty)
    await bench.until(lambda: not bench.state.bundles.pending)


@pytest.mark.parametrize("neg_risk", [False, True])
def test_both_tokens_are_redeemed_at_once_though_the_catalogue_forgot_them(neg_risk: bool) -> None:
    async def story(bench: LiveBench) -> None:
        token = next(i for i in bench.liquid() if i.neg_risk is neg_risk)
        market = bench.universe.markets[token.market_id]
        await split(bench, market)
        bought = bench.submit(token, BUY, Price(SCALE - token.tick), "10")
        await bench.ended(bought)
        await bench.quiet()
        assert await look(bench) == 0, "an open market pays nothing"
        await bench.venue.stop()
        await bench.control("resolve", market=market.id, winner=0 if token.id == market.yes else 1)
        bench.leave_catalogue(market)
        bench.state.universe = bench.universe
        await bench.connect()
        assert await bench.reconcile() == ""
        cash = bench.state.portfolio.cash
        assert await look(bench) == 1
        assert await look(bench) == 0
        (operation,) = redeem(bench)
        assert {t for t, _ in operation.burn} == {market.yes, market.no}
        assert redeem(bench) == [], "one is enough"
        await bench.until(lambda: not bench.state.bundles.pending)
        assert bench.state.portfolio.cash == cash + 30 * SCALE
        assert bench.state.portfolio.positions == {}
        assert bench.state.bundles.totals.redeemed == 30 * SCALE
        assert await bench.reconcile() == ""
        bench.agree()

    play(story)


def test_worthless_tokens_alone_are_redeemed_for_nothing() -> None:
    async def story(bench: LiveBench) -> None:
        token = next(i for i in bench.liquid() if not i.neg_risk)
        market = bench.universe.markets[token.market_id]
        await bench.ended(bench.submit(token, BUY, Price(SCALE - token.tick), "10"))
        await bench.quiet()
        await bench.control("resolve", market=market.id, winner=1 if token.id == market.yes else 0)
        assert await look(bench) == 1
        (operation,) = redeem(bench)
        assert operation.cash == 0
        await bench.until(lambda: not bench.state.bundles.pending)
        book = bench.state.portfolio
        assert (book.positions, book.cost) == ({}, 0)
        assert book.realised == book.cash - book.deposited < 0
        assert await bench.reconcile() == ""
        bench.agree()

    play(story)


def test_what_rests_is_cancelled_by_the_venue_and_ends_in_the_journal() -> None:
    async def story(bench: LiveBench) -> None:
        token = bench.liquid()[0]
        market = bench.universe.markets[token.market_id]
        order = bench.submit(token, BUY, token.tick, "100", GTC)
        await bench.until(lambda: bench.kinds(order) == ["OrderAccepted"])
        await bench.control("resolve", market=market.id, winner=0)
        await bench.ended(order)
        ended = next(f for f in bench.told if isinstance(f, ev.OrderCanceled))
        assert "MARKET_RESOLVED" in ended.reason
        late = bench.submit(token, BUY, token.tick, "100", GTC)
        await bench.ended(late)
        assert bench.kinds(late) == ["OrderRejected"]
        assert await bench.reconcile() == ""
        bench.agree()

    play(story)


def test_a_fill_the_journal_missed_keeps_its_fee_though_its_market_is_over() -> None:
    async def story(bench: LiveBench) -> None:
        token = next(i for i in bench.liquid() if i.fees.rate)
        market = bench.universe.markets[token.market_id]
        # Killed after the POST: the journal has the signed order and nothing of what became of it.
        bench.venue._sink = lambda events: None
        bench.submit(token, BUY, Price(SCALE - token.tick), "20")
        await bench.until(lambda: bool(bench.server.exchange.trades(bench.owner)))
        await bench.venue.stop()
        await bench.control("resolve", market=market.id, winner=0)
        bench.leave_catalogue(market)
        bench.state.universe = bench.universe
        query = query_of(bench.state)
        assert query.open_orders, "the journal does not know its end"
        clob = JsonClient(bench.hosts.clob_url, LOCAL)
        bench.opened.append(clob)
        bench.departed = await departed_instruments(clob, [token.id, InstrumentId("12345")])
        assert {t: i.fees for t, i in bench.departed.items()} == {token.id: token.fees}
        await bench.connect()
        assert await bench.reconcile() == ""
        assert bench.state.portfolio.fees > 0
        await bench.quiet()
        bench.agree()

    play(story)


# --- answers that prove nothing -------------------------------------------------------------------


def answer(**fields: Any) -> dict[str, Any]:
    tokens = [{"token_id": "11", "winner": True}, {"token_id": "12", "winner": False}]
    return {"condition_id": "0xab", "closed": True, "tokens": tokens, **fields}


def tokens(first: bool, second: bool, *, other: str = "12") -> list[dict[str, Any]]:
    return [{"token_id": "11", "winner": first}, {"token_id": other, "winner": second}]


def standing(body: dict[str, Any], token: str = "11") -> MarketStanding:
    """What is read of a CLOB that answers ``body``."""

    async def by_token(_: web.Request) -> web.Response:
        return web.json_response({"condition_id": "0xab"})

    async def market(_: web.Request) -> web.Response:
        return web.json_response(body)

    async def main() -> MarketStanding:
        app = web.Application()
        app.router.add_get("/markets-by-token/{token}", by_token)
        app.router.add_get("/markets/0xab", market)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        clob = JsonClient(f"http://127.0.0.1:{runner.addresses[0][1]}", LOCAL)
        try:
            return await standing_of_token(clob, InstrumentId(token))
        finally:
            await clob.close()
            await runner.cleanup()

    return asyncio.run(main())


def test_what_the_clob_proves_and_what_it_does_not() -> None:
    half = SCALE // 2
    proven = [
        (answer(), [SCALE, 0]),
        (answer(tokens=tokens(False, True)), [0, SCALE]),
        (answer(tokens=tokens(False, False), is_50_50_outcome=True), [half, half]),
        (answer(closed=False), []),
        (answer(tokens=tokens(False, False)), []),
        (answer(tokens=tokens(True, True)), []),
        (answer(closed=False, tokens=tokens(False, False), is_50_50_outcome=True), []),
    ]
    for body, prices in proven:
        assert [price for _, price in standing(body).payouts] == prices, body
    assert standing(answer(neg_risk=True)).neg_risk


def test_odd_answers_are_no_answers() -> None:
    odd = [
        answer(condition_id="0xcd"),
        answer(tokens=tokens(True, False, other="11")),
        answer(tokens=[]),
    ]
    for body in odd:
        with pytest.raises(AnswerInvalid):
            standing(body)
    with pytest.raises(AnswerInvalid, match="led to"):
        standing(answer(), token="13")


def test_a_venue_that_does_not_know_the_token_is_asked_again() -> None:
    async def story(bench: LiveBench) -> None:
        unknown = InstrumentId("12345")
        state = State(bench.universe)
        state.portfolio.fill(filled("o1", "1", "0.5", token=unknown))
        told: list[ev.Event] = []
        watching = ResolutionWatch(
            state, lambda: JsonClient(bench.hosts.clob_url, LOCAL), told.extend, bench.clock,
            every_s=60,
        )  # fmt: skip
        await watching.start()
        await bench.until(lambda: bool(watching.health().detail))
        assert watching.health().ok
        assert "404" in watching.health().detail
        assert told == []
        await watching.stop()
        clob = JsonClient(bench.hosts.clob_url, LOCAL)
        bench.opened.append(clob)
        with pytest.raises(RequestRefused):
            await standing_of_token(clob, unknown)

    play(story)
