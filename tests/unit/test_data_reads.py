"""Reads of the Data API: pages, legs, cut histories and what may not be believed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import Side
from fleet.domain.units import parse_price, parse_qty, parse_units
from fleet.venues.polymarket.data_reads import DataReads
from fleet.venues.port import AnswerInvalid, RequestRefused
from fleet.venues.transport import HttpSettings, JsonClient

WALLET = "0x" + "ab" * 20
FAST = HttpSettings(attempts=1, per_second=1_000, burst=1_000)
Answer = Callable[[dict[str, str]], Any]


def row(n: int, **fields: Any) -> dict[str, Any]:
    return {
        "proxy_wallet": WALLET, "token_id": "11", "condition_id": "0xc1", "side": "BUY",
        "size": 12.5, "price": 0.5301234567, "timestamp": 1_700_000_000 + n,
        "transaction_hash": f"0x{n:x}", "title": "T", "event_slug": "e", "outcome_index": 1,
        **fields,
    }  # fmt: skip


def page(rows: list[dict[str, Any]], cursor: str | None = None) -> dict[str, Any]:
    return {"data": rows, "pagination": {"has_more": cursor is not None, "next_cursor": cursor}}


def asked(answer: Answer, work: Callable[[DataReads], Awaitable[Any]], **settings: int) -> Any:
    """``work`` against a server that answers every path with what ``answer`` says."""

    async def handler(request: web.Request) -> web.Response:
        made = answer({**request.query, "path": request.path})
        return made if isinstance(made, web.Response) else web.json_response(made)

    async def main() -> Any:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        http = JsonClient(f"http://127.0.0.1:{runner.addresses[0][1]}", FAST)
        try:
            return await work(DataReads(http, **settings))
        finally:
            await http.close()
            await runner.cleanup()

    return asyncio.run(main())


def test_pages_are_walked_and_each_trade_has_its_leg() -> None:
    def answer(query: dict[str, str]) -> Any:
        assert query["user"] == WALLET
        assert query["start"] == "0"
        if query["taker_only"] == "true":
            return page([row(2)])
        return {"": page([row(3), row(2)], "p2"), "p2": page([row(1, side="SELL")])}[
            query.get("cursor", "")
        ]

    found = asked(answer, lambda reads: reads.trades(WALLET))
    assert [t.ts_ns // NS_PER_SECOND - 1_700_000_000 for t in found.trades] == [1, 2, 3]
    assert [t.taker for t in found.trades] == [False, True, False]
    assert found.complete_from_ns == 0
    first = found.trades[0]
    assert (first.side, first.outcome, first.event_slug) == (Side.SELL, 1, "e")
    assert first.price == parse_price("0.53012346"), "exact, then rounded to 1e-8"
    assert first.qty == parse_qty("12.5")


def test_a_history_beyond_the_bound_says_from_when_on_it_is_whole() -> None:
    def answer(query: dict[str, str]) -> Any:
        n = int(query.get("cursor", "100"))
        return page([row(n), row(n - 1)], str(n - 2))

    found = asked(answer, lambda reads: reads.trades(WALLET), pages_max=3)
    assert len(found.trades) == 6
    assert found.complete_from_ns == (1_700_000_095 + 1) * NS_PER_SECOND


def test_legs_behind_the_bound_of_takers_are_unknown_not_makers() -> None:
    def answer(query: dict[str, str]) -> Any:
        if query["taker_only"] == "true":
            return page([row(9)], "more")
        return page([row(9), row(8), row(3)])

    found = asked(answer, lambda reads: reads.trades(WALLET), pages_max=1)
    assert [t.taker for t in found.trades] == [None, None, None]


def test_a_server_that_repeats_its_last_page_is_left() -> None:
    calls = []

    def answer(query: dict[str, str]) -> Any:
        calls.append(query)
        return page([row(2), row(1)], f"c{len(calls)}")

    found = asked(answer, lambda reads: reads.trades(WALLET))
    assert len(found.trades) == 2
    assert len(calls) == 4, "twice each question, not for ever"
    assert found.complete_from_ns > 0


def test_two_alike_in_one_page_are_two_trades() -> None:
    found = asked(lambda _: page([row(1), row(1)]), lambda reads: reads.trades(WALLET))
    assert len(found.trades) == 2


@pytest.mark.parametrize(
    "odd",
    [
        {"data": [row(1)], "pagination": {"has_more": True, "next_cursor": None}},
        page([row(1, side="LEND")]),
        page([row(1, price=1.5)]),
        page([row(1, size=0)]),
        page([{"token_id": "1"}]),
        {"rows": []},
    ],
)
def test_an_answer_that_cannot_be_read_is_refused_whole(odd: Any) -> None:
    with pytest.raises(AnswerInvalid):
        asked(lambda _: odd, lambda reads: reads.trades(WALLET))


def test_an_unknown_outcome_is_no_outcome() -> None:
    found = asked(lambda _: page([row(1, outcome_index=999)]), lambda reads: reads.trades(WALLET))
    assert found.trades[0].outcome is None


def test_the_leaderboard_in_its_order() -> None:
    def answer(query: dict[str, str]) -> Any:
        assert (query["time_period"], query["sort_by"], query["limit"]) == ("week", "PNL", "2")
        return page(
            [
                {"user_id": WALLET, "pnl": 12.5, "volume": 100, "rank": 1, "user_name": None},
                {"user_id": "0x2", "pnl": -3, "volume": 7},
            ],
            "more",
        )

    found = asked(answer, lambda reads: reads.leaderboard(period="week", count=2))
    assert [(r.rank, r.wallet, r.pnl) for r in found] == [
        (1, WALLET, parse_units("12.5")), (2, "0x2", parse_units("-3")),
    ]  # fmt: skip


def test_positions_of_every_status() -> None:
    def answer(query: dict[str, str]) -> Any:
        assert query["status"] == "OPEN,REDEEMABLE,REDEEMABLE_LOST,CLOSED"
        return page(
            [
                {"token_id": "1", "condition_id": "0xc", "status": "CLOSED", "current_size": 0,
                 "avg_price": 0.25, "realized_pnl": -1.25, "total_pnl": -1.25}
            ]
        )  # fmt: skip

    (one,) = asked(answer, lambda reads: reads.positions(WALLET))
    assert (one.status, one.realized_pnl) == ("CLOSED", parse_units("-1.25"))


def test_a_refusal_is_a_refusal() -> None:
    refused = web.json_response({"error": "no such path"}, status=404)
    with pytest.raises(RequestRefused):
        asked(lambda _: refused, lambda reads: reads.leaderboard())
