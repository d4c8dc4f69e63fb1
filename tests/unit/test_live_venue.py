"""The live venue against a CLOB that misbehaves, on real sockets: nothing twice, nothing lost.

What a sound exchange does with these orders is asked in ``tests/contract/test_live_venue.py``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import structs

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    BundleId,
    ClientOrderId,
    OperationId,
    OperationKind,
    Purpose,
    RunOperation,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import FeeSchedule, Instrument, InstrumentId, MarketId, Side
from fleet.domain.units import ZERO_CASH
from fleet.venues.account import AccountQuery
from fleet.venues.polymarket import live_orders
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.clob_http import ClientSettings
from fleet.venues.polymarket.guard import SigningGuard
from fleet.venues.polymarket.live import EarlierOrder, LiveSettings, LiveVenue
from fleet.venues.polymarket.live_account import Account
from fleet.venues.polymarket.user_feed import UserFeed
from fleet.venues.port import AnswerInvalid
from tests.builders import NS, p, q
from tests.odd_clob import CREDENTIALS, DROP, KEY, OddClob, order_row, trade_row

TOKEN, OTHER = InstrumentId("11"), InstrumentId("22")
RATE = FeeSchedule(rate=4_000_000)
WORLD = {
    TOKEN: Instrument(id=TOKEN, market_id=MarketId("0xm"), complement=OTHER, outcome="Yes",
                      tick=p("0.01"), fees=RATE),
    OTHER: Instrument(id=OTHER, market_id=MarketId("0xm"), complement=TOKEN, outcome="No",
                      tick=p("0.01"), fees=RATE),
}  # fmt: skip
NOBODY = AccountQuery(
    open_orders=frozenset(), known_trades=frozenset(), unsettled_trades=frozenset(),
    pending_operations=frozenset(),
)  # fmt: skip
QUICK = LiveSettings(heartbeat_s=0, look_s=0.05, check_s=0.2, idle_s=5, tick_s=0.01)
NOW = LiveClock().now_ns()
IDS = SigningGuard(KEY, instruments=WORLD, lease_alive=lambda: True)
"""Tells the ids that orders have."""


def order(number: int = 1, **changes: Any) -> SubmitOrder:
    made = SubmitOrder(
        client_order_id=ClientOrderId(f"o{number}"), bundle_id=BundleId("b"), leg=0,
        purpose=Purpose.LEG, instrument_id=TOKEN, side=Side.BUY, price=p("0.52"), qty=q("10"),
        tif=TimeInForce.GTC, ts=NOW,
    )  # fmt: skip
    return structs.replace(made, **changes)


@dataclass
class Rig:
    """A venue on a CLOB; what it journalled and what it told, in order."""

    clob: OddClob
    earlier: Sequence[EarlierOrder] = ()
    settings: LiveSettings = QUICK
    durable: bool = True
    journalled: list[ev.Event] = field(default_factory=list)
    told: list[ev.Event] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.guard = SigningGuard(KEY, instruments=WORLD, lease_alive=lambda: True)
        for number in range(1, 40):
            for made in (order(number), order(number, tif=TimeInForce.FAK)):
                self.clob.ids[self._salt(made)] = self.guard.venue_order_id(made)
        client = ClobClient(
            self.clob.hosts, CREDENTIALS, settings=ClientSettings(answer_s=2, tries=2)
        )
        self.venue = LiveVenue(
            client=client, guard=self.guard, instruments=WORLD, earlier=self.earlier,
            stream=lambda seen, gap: UserFeed(
                self.clob.hosts.user_ws_url, CREDENTIALS, on_sightings=seen, on_gap=gap
            ),
            journal=self._journal, sink=self.told.extend, on_failure=self.failures.append,
            settings=self.settings, account=Account(client, self.guard.wallet),
        )  # fmt: skip

    def _salt(self, made: SubmitOrder) -> str:
        return str(self.guard._build(made).salt)

    def _journal(self, events: Sequence[ev.Event]) -> bool:
        self.journalled += events if self.durable else ()
        return self.durable

    def id(self, number: int = 1) -> str:
        return self.guard.venue_order_id(order(number))

    def submit(self, *orders: SubmitOrder) -> None:
        for one in orders:
            self.venue.submit(Approved(one))

    def kinds(self) -> list[str]:
        return [fact.KIND for fact in self.told]

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done``; fails after twenty seconds, saying what was told."""
        for _ in range(2_000):
            if done():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"told {self.told}, asked {self.clob.paths('')}")

    async def says(self, *kinds: str) -> None:
        """Wait until exactly these kinds were told."""
        await self.until(lambda: self.kinds() == list(kinds))


Story = Callable[[Rig], Awaitable[None]]


def play(story: Story, *, start: bool = True, **settings: Any) -> Rig:
    async def main() -> Rig:
        async with OddClob() as clob:
            rig = Rig(clob, **settings)
            try:
                if start:
                    await rig.venue.start()
                    # The first survey and the stream are up before the story begins.
                    await rig.until(lambda: bool(rig.clob.paths("WS")) and not rig.venue._gapped)
                await story(rig)
            finally:
                await rig.venue.stop()
            return rig

    rig = asyncio.run(main())
    assert rig.failures == []
    return rig


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absence is proven in tenths of seconds instead of tens."""
    for name, seconds in (("SILENT_NS", 0.3), ("ANSWERED_NS", 0.1), ("SECOND_LOOK_NS", 0.1)):
        monkeypatch.setattr(live_orders, name, int(seconds * NS))


# --- out --------------------------------------------------------------------------------------


def test_the_id_is_journalled_before_anything_is_sent() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order())
        assert rig.journalled == []  # Nothing happens in the caller's turn.
        await rig.says("OrderAccepted")

    rig = play(story)
    (signed,) = rig.journalled
    assert isinstance(signed, ev.OrderSigned)
    assert signed.venue_order_id == rig.id() == rig.clob.posted[0][0]


def test_what_cannot_be_journalled_is_not_sent() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order(), order(2))
        await asyncio.sleep(0.3)

    rig = play(story, durable=False)
    assert rig.clob.posted == []
    assert rig.told == []


def test_the_orders_of_one_turn_go_in_one_request_and_no_more_than_fifteen() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(*(order(n) for n in range(1, 18)))
        await rig.says(*["OrderAccepted"] * 17)
        rig.submit(order(18))
        await rig.says(*["OrderAccepted"] * 18)

    rig = play(story)
    assert sorted(len(ids) for ids in rig.clob.posted) == [1, 2, 15]
    assert len({o for ids in rig.clob.posted for o in ids}) == 18


def test_an_order_approved_twice_is_sent_once() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order(), order())
        await rig.says("OrderAccepted")
        rig.submit(order())
        await asyncio.sleep(0.1)

    rig = play(story)
    assert rig.clob.posted == [[rig.id()]]


def test_what_the_guard_refuses_is_rejected_and_the_rest_goes() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order(1, price=p("0.525")), order(2))
        await rig.says("OrderRejected", "OrderAccepted")

    rig = play(story)
    assert "PRICE_OFF_GRID" in str(rig.told[0])
    assert rig.clob.posted == [[rig.id(2)]]


def test_orders_beyond_the_rate_budget_are_refused_before_they_are_signed() -> None:
    async def story(rig: Rig) -> None:
        limits = rig.venue._client.http.limits
        limits.orders.lower(LiveClock().now_ns(), 0)
        rig.submit(*(order(n) for n in range(1, 16)))
        await rig.says(*["OrderRejected"] * 15)

    rig = play(story)
    assert rig.journalled == []
    assert "rate limit" in str(rig.told[0])


# --- silence ----------------------------------------------------------------------------------


def test_an_order_whose_answer_was_lost_is_adopted_and_never_sent_again() -> None:
    async def story(rig: Rig) -> None:
        rig.clob.next_answers = [DROP]
        rig.submit(order())
        await rig.says("SubmitUnknown", "OrderAccepted")

    rig = play(story)
    assert rig.clob.posted == [[rig.id()]]


def test_a_lost_fak_buy_is_cancelled_and_ends(impatient: None) -> None:
    async def story(rig: Rig) -> None:
        rig.clob.next_answers = [DROP]
        rig.submit(order(tif=TimeInForce.FAK))
        await rig.until(lambda: "OrderCanceled" in rig.kinds())

    rig = play(story)
    assert rig.kinds() == ["SubmitUnknown", "OrderAccepted", "OrderCanceled"]
    assert rig.clob.resting == {}
    assert len(rig.clob.posted) == 1


@pytest.mark.parametrize("answer", [(500, {"error": "order timed out"}), (425, "Too Early"),
                                    (429, "slow"), (400, {"error": "new words"}), (200, "{")])  # fmt: skip
def test_an_odd_answer_is_unknown_until_two_looks_prove_absence(
    impatient: None, answer: Any
) -> None:
    async def story(rig: Rig) -> None:
        rig.clob.next_answers = [answer]
        rig.submit(order())
        await rig.says("SubmitUnknown", "OrderRejected")

    rig = play(story)
    assert len(rig.clob.posted) == 1
    assert rig.clob.paths(f"GET /data/order/{rig.id()}")  # Asked for by its id, not only listed.


def test_an_order_that_filled_behind_a_timeout_is_found_in_the_trades() -> None:
    async def story(rig: Rig) -> None:
        rig.clob.next_answers = [(500, {"error": "order timed out"})]
        rig.clob.trades = [trade_row("t1", rig.id(), TOKEN, status="TRADE_STATUS_MINED")]
        rig.submit(order())
        await rig.says("SubmitUnknown", "OrderAccepted", "OrderFilled", "FillSettled")

    rig = play(story)
    fill = rig.told[2]
    assert isinstance(fill, ev.OrderFilled)
    assert (fill.qty, fill.price, fill.maker) == (q("10"), p("0.52"), False)
    assert fill.fee == RATE.fee(p("0.52"), q("10"))


def test_a_duplicate_is_not_a_rejection() -> None:
    async def story(rig: Rig) -> None:
        rig.clob.next_answers = [(400, {"error": "order 0x is invalid. Duplicated."})]
        rig.clob.trades = [trade_row("t1", rig.id(), TOKEN)]
        rig.submit(order())
        await rig.says("OrderAccepted", "OrderFilled")

    play(story)


def test_a_rejection_is_told_with_the_venues_words() -> None:
    async def story(rig: Rig) -> None:
        rig.clob.next_answers = [(400, {"error": "not enough balance / allowance"})]
        rig.submit(order())
        await rig.says("OrderRejected")

    assert "not enough balance" in str(play(story).told[0])


# --- the stream -------------------------------------------------------------------------------


def frame(row: dict[str, Any]) -> dict[str, Any]:
    status = row["status"].removeprefix("TRADE_STATUS_")
    return row | {"event_type": "trade", "type": "TRADE", "status": status,
                  "timestamp": "1760000000000"}  # fmt: skip


def test_fills_and_settlements_come_from_the_stream_once() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order())
        await rig.says("OrderAccepted")
        matched = trade_row("t1", rig.id(), TOKEN)
        mined = matched | {"status": "TRADE_STATUS_MINED"}
        rig.clob.trades = [mined]
        for _ in range(2):
            await rig.clob.tell([frame(matched), frame(mined)])
        await rig.says("OrderAccepted", "OrderFilled", "FillSettled")
        await rig.venue.survey()
        assert len(rig.told) == 3

    play(story)


def test_a_lost_stream_and_an_unreadable_frame_lead_to_a_look() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order())
        await rig.says("OrderAccepted")
        rig.clob.trades = [trade_row("t1", rig.id(), TOKEN)]
        await rig.clob.tell('{"event_type": "trade", "id": ')
        await rig.says("OrderAccepted", "OrderFilled")
        rig.clob.trades.append(trade_row("t1", rig.id(), TOKEN, status="TRADE_STATUS_CONFIRMED"))
        del rig.clob.trades[0]
        await rig.clob.sockets[0].close()
        await rig.says("OrderAccepted", "OrderFilled", "FillSettled")

    # Neither comes from the regular looks: they are a minute apart.
    slow = LiveSettings(heartbeat_s=0, look_s=60, check_s=60, idle_s=60, tick_s=0.01)
    rig = play(story, settings=slow)
    assert len(rig.clob.paths("WS")) == 2


def test_a_frozen_stream_is_made_up_for_by_regular_looks() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order())
        await rig.says("OrderAccepted")
        rig.clob.trades = [trade_row("t1", rig.id(), TOKEN)]
        await rig.says("OrderAccepted", "OrderFilled")

    play(story)


# --- cancels ----------------------------------------------------------------------------------


def test_cancels_of_one_turn_go_together_and_end_the_orders(impatient: None) -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order(1), order(2))
        await rig.says("OrderAccepted", "OrderAccepted")
        rig.venue.cancel(ClientOrderId("o1"))
        rig.venue.cancel(ClientOrderId("o2"))
        await rig.until(lambda: rig.kinds().count("OrderCanceled") == 2)

    rig = play(story)
    assert rig.clob.paths("DELETE") == ["DELETE /orders"]
    assert rig.clob.resting == {}


def test_a_cancel_is_repeated_until_it_is_answered(impatient: None) -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order(1))
        await rig.says("OrderAccepted")
        rig.clob.next_answers = [(500, "no")] * 2
        rig.venue.cancel(ClientOrderId("o1"))
        await rig.until(lambda: "OrderCanceled" in rig.kinds())

    assert len(play(story).clob.paths("DELETE")) == 3


def test_cancelling_a_stranger_is_refused() -> None:
    async def story(rig: Rig) -> None:
        rig.venue.cancel(ClientOrderId("nobody"))
        await rig.says("CancelRejected")

    play(story)


# --- the account and restarts -----------------------------------------------------------------


def test_the_books_count_what_is_matched_and_not_mined() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order())
        await rig.says("OrderAccepted")
        del rig.clob.resting[rig.id()]
        rig.clob.trades = [trade_row("t1", rig.id(), TOKEN)]
        query = structs_query(open_orders=frozenset({ClientOrderId("o1")}))
        truth = await rig.venue.account(query)
        fee = RATE.fee(p("0.52"), q("10"))
        assert truth.cash == 1_000 * 10**8 - 520_000_000 - fee
        assert truth.tokens == {TOKEN: q("10")}
        assert [f.KIND for f in truth.facts] == ["CashDeposited", "OrderAccepted", "OrderFilled"]
        # Mined: the chain has moved, and the books say the same.
        rig.clob.trades[0]["status"] = "TRADE_STATUS_MINED"
        rig.clob.cash -= (520_000_000 + fee) // 100
        rig.clob.tokens[TOKEN] = 10_000_000
        again = await rig.venue.account(query)
        assert (again.cash, again.tokens) == (truth.cash, truth.tokens)
        assert [f.KIND for f in again.facts][-2:] == ["OrderFilled", "FillSettled"]

    play(story)


def structs_query(**changes: Any) -> AccountQuery:
    fields = {name: getattr(NOBODY, name) for name in NOBODY.__dataclass_fields__}
    return AccountQuery(**{**fields, **changes})


def test_a_fill_nobody_here_ordered_is_told_as_a_strangers() -> None:
    async def story(rig: Rig) -> None:
        row = trade_row("t9", "0xstranger", TOKEN, status="TRADE_STATUS_CONFIRMED")
        rig.clob.trades = [row]
        truth = await rig.venue.account(NOBODY)
        stranger = truth.facts[-1]
        assert isinstance(stranger, ev.OrderFilled)
        assert stranger.client_order_id.startswith("unknown-")
        rig.clob.trades[0]["status"] = "TRADE_STATUS_MATCHED"
        with pytest.raises(AnswerInvalid, match="who else trades"):
            await rig.venue.account(NOBODY)

    play(story)


def earlier(number: int, *, signed: bool = True, accepted: bool = False) -> EarlierOrder:
    return EarlierOrder(
        request=order(number), venue_order_id=IDS.venue_order_id(order(number)) if signed else None,
        accepted=accepted, open=True,
    )  # fmt: skip


def test_a_restart_adopts_rejects_or_ends_what_was_left_open(impatient: None) -> None:
    async def story(rig: Rig) -> None:
        made = {"makerAmount": "5200000", "takerAmount": "10000000", "side": "BUY",
                "tokenId": TOKEN, "maker": "0x1"}  # fmt: skip
        rig.clob.resting[rig.id(2)] = order_row(rig.id(2), made)
        rig.clob.trades = [trade_row("t3", rig.id(3), TOKEN, size="4")]
        query = structs_query(open_orders=frozenset(ClientOrderId(f"o{n}") for n in range(1, 5)))
        truth = await rig.venue.account(query)
        assert truth.absent_orders == ("o1",)  # It was never signed, so it was never sent.
        await rig.venue.start()
        await rig.until(lambda: {"OrderRejected", "OrderCanceled"} <= set(rig.kinds()))
        truth = await rig.venue.account(query)
        said = {(f.KIND, getattr(f, "client_order_id", "")) for f in truth.facts
                if not isinstance(f, ev.CashDeposited)}  # fmt: skip
        assert said == {
            ("OrderAccepted", "o2"),
            ("OrderAccepted", "o3"), ("OrderFilled", "o3"), ("OrderCanceled", "o3"),
            ("OrderRejected", "o4"),
        }  # fmt: skip

    rig = play(story, start=False,
               earlier=[earlier(1, signed=False), earlier(2), earlier(3), earlier(4)])  # fmt: skip
    assert rig.clob.posted == []


def test_unsettled_trades_of_an_earlier_run_are_followed_to_their_end() -> None:
    async def story(rig: Rig) -> None:
        row = trade_row("t1", rig.id(1), TOKEN, match_time=1_700_000_000)
        rig.clob.trades = [row]
        (known,) = [f.trade_id for f in (await rig.venue.account(NOBODY)).facts
                    if isinstance(f, ev.OrderFilled)]  # fmt: skip
        query = structs_query(known_trades=frozenset({known}), unsettled_trades=frozenset({known}))
        row["status"] = "TRADE_STATUS_FAILED"
        truth = await rig.venue.account(query)
        (settled,) = [f for f in truth.facts if isinstance(f, ev.FillSettled)]
        assert (settled.trade_id, settled.status) == (known, ev.SettlementStatus.FAILED)
        assert truth.tokens == {}

    closed = EarlierOrder(
        request=order(1), venue_order_id=IDS.venue_order_id(order(1)), accepted=True, open=False
    )
    play(story, earlier=[closed])


def test_the_heartbeat_goes_on() -> None:
    async def story(rig: Rig) -> None:
        await rig.until(lambda: len(rig.clob.paths("POST /v1/heartbeats")) >= 3)

    beating = LiveSettings(heartbeat_s=0.02, look_s=0.05, check_s=0.2, idle_s=5, tick_s=0.01)
    rig = play(story, settings=beating)
    bodies = [body for _, path, body in rig.clob.requests if path.endswith("heartbeats")]
    assert bodies[:2] == [b'{"heartbeat_id":""}', b'{"heartbeat_id":"next"}']


def test_an_operation_without_a_chain_is_rejected() -> None:
    async def story(rig: Rig) -> None:
        rig.venue.submit(Approved(RunOperation(
            operation_id=OperationId("p1"), bundle_id=BundleId("b"), kind=OperationKind.MERGE,
            subject="m", burn=(), mint=(), cash=ZERO_CASH)))  # fmt: skip
        await rig.says("OperationRejected")

    play(story)


def test_after_close_nothing_is_sent_or_told() -> None:
    async def story(rig: Rig) -> None:
        rig.submit(order())
        rig.venue.close()
        await asyncio.sleep(0.1)

    rig = play(story)
    assert rig.clob.posted == []
    assert rig.told == []
