"""The export of fills."""

import csv
from pathlib import Path

import pytest

from fleet.config import LEDGER_MODE
from fleet.domain.commands import (
    BundleId,
    ClientOrderId,
    Purpose,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.events import (
    CashDeposited,
    DecisionMade,
    Event,
    FillSettled,
    OrderAccepted,
    OrderFilled,
    OrderSigned,
    SettlementStatus,
    TradeId,
    VenueOrderId,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Cash, parse_cash, parse_price, parse_qty
from fleet.journal.store import JournalReader, JournalStore, MemoryJournal
from fleet.ops.trades import HEADER, count_trades, export_trades, iso_utc, trade_rows

T0 = 1_795_000_000_123_456_789


def order(client: str, bundle: str) -> SubmitOrder:
    return SubmitOrder(
        client_order_id=ClientOrderId(client),
        bundle_id=BundleId(bundle),
        leg=0,
        purpose=Purpose.LEG,
        instrument_id=InstrumentId("777"),
        side=Side.BUY,
        price=parse_price("0.52"),
        qty=parse_qty("10"),
        tif=TimeInForce.FAK,
        ts=T0,
    )


def fill(trade: str, client: str, qty: str = "10", *, side: Side = Side.BUY) -> OrderFilled:
    return OrderFilled(
        ts_event=T0,
        ts_recv=T0 + 5,
        trade_id=TradeId(trade),
        client_order_id=ClientOrderId(client),
        instrument_id=InstrumentId("777"),
        side=side,
        price=parse_price("0.5237"),
        qty=parse_qty(qty),
        fee=parse_cash("0.01702"),
    )


STORY: list[Event] = [
    CashDeposited(deposit_id="d", amount=Cash(10**11)),
    DecisionMade(decision=1, orders=(order("c1", "b1"), order("c2", "b1"))),
    OrderSigned(client_order_id=ClientOrderId("c1"), venue_order_id=VenueOrderId("0xaa")),
    fill("t1", "c1"),
    OrderAccepted(client_order_id=ClientOrderId("c1"), venue_order_id=VenueOrderId("0xaa")),
    fill("t2", "c2", "0.00000001"),
    FillSettled(trade_id=TradeId("t1"), status=SettlementStatus.MINED),
    fill("t1", "c1"),
    FillSettled(trade_id=TradeId("t2"), status=SettlementStatus.FAILED),
    FillSettled(trade_id=TradeId("t1"), status=SettlementStatus.CONFIRMED),
    fill("t3", "lost", "3.5", side=Side.SELL),
]


def journal(path: Path, bot: str, mode: str, events: list[Event]) -> JournalReader:
    with JournalStore(path, bot=bot, mode=mode, run_id="r") as store:
        store.write(events)
    return JournalReader(path)


def test_one_row_a_fill_in_order_with_all_that_is_known() -> None:
    memory = MemoryJournal()
    memory.write(STORY)
    rows = [
        dict(zip(HEADER, row.cells("bot", "paper"), strict=True))
        for row in trade_rows(memory.read())
    ]
    assert [row["trade_id"] for row in rows] == ["t1", "t2", "t3"]
    assert rows[0] == {
        "time": "2026-11-18T11:06:40.123456789Z",
        "bot": "bot",
        "mode": "paper",
        "instrument": "777",
        "side": "BUY",
        "price": "0.5237",
        "qty": "10",
        "fee": "0.01702",
        "notional": "5.237",
        "order_id": "c1",
        "venue_order_id": "0xaa",
        "trade_id": "t1",
        "bundle_id": "b1",
        "settlement": "CONFIRMED",
        "seq": "4",
    }
    assert (rows[1]["qty"], rows[1]["notional"]) == ("0.00000001", "0.00000001")
    assert (rows[1]["settlement"], rows[1]["venue_order_id"]) == ("FAILED", "")
    assert (rows[2]["bundle_id"], rows[2]["settlement"]) == ("", "MATCHED")
    assert rows[2]["notional"] == "1.83295"


def test_buys_round_up_and_sells_down() -> None:
    memory = MemoryJournal()
    memory.write([fill("a", "c", "0.00000003"), fill("b", "c", "0.00000003", side=Side.SELL)])
    buy, sell = (row.cells("b", "m")[8] for row in trade_rows(memory.read()))
    assert (buy, sell) == ("0.00000002", "0.00000001")


def test_export_spans_journals_and_counts_them(tmp_path: Path) -> None:
    first = journal(tmp_path / "a.db", "arbhunter", "paper", STORY)
    second = journal(tmp_path / "b.db", "polyai", "live", [fill("x", "c9")])
    empty = journal(tmp_path / "c.db", "trader", "paper", STORY[:1])
    out = tmp_path / "trades.csv"
    with first, second, empty:
        assert export_trades([first, second, empty], out) == 4
    assert count_trades(out) == {("arbhunter", "paper"): 3, ("polyai", "live"): 1}
    with out.open(newline="") as file:
        lines = list(csv.reader(file))
    assert tuple(lines[0]) == HEADER
    assert [line[1] for line in lines[1:]] == ["arbhunter"] * 3 + ["polyai"]


def test_the_other_side_of_a_trade_is_not_a_second_trade(tmp_path: Path) -> None:
    bot = journal(tmp_path / "bot.db", "ArbHunter", "paper", STORY)
    venue = journal(tmp_path / "venue.db", "ArbHunter", LEDGER_MODE, STORY)
    with bot, venue:
        count = export_trades([bot, venue], tmp_path / "trades.csv")
    assert dict(count_trades(tmp_path / "trades.csv")) == {("ArbHunter", "paper"): count}


def test_text_from_the_venue_cannot_break_the_table(tmp_path: Path) -> None:
    nasty = fill('t",\n"', "c,1")
    with journal(tmp_path / "a.db", "b", "paper", [nasty]) as reader:
        export_trades([reader], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["trade_id"], row["order_id"]) == ('t",\n"', "c,1")


@pytest.mark.parametrize(
    ("ts", "text"),
    [(0, ""), (1, "1970-01-01T00:00:00.000000001Z"), (T0, "2026-11-18T11:06:40.123456789Z")],
)
def test_iso_keeps_every_nanosecond(ts: int, text: str) -> None:
    assert iso_utc(ts) == text
