"""Market- and user-channel frames, one hand-made file per kind, and what must be refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fleet.domain.events import (
    AnyEvent,
    BookChanged,
    BookSnapshot,
    FrameRejected,
    MarketListed,
    MarketResolved,
    SettlementStatus,
    TickSizeChanged,
    TradePrinted,
)
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, parse_units
from fleet.venues.polymarket.frames import CACHE_LIMIT, UNKNOWN_TYPE, NumberCache
from fleet.venues.polymarket.wire import Decoder
from fleet.venues.polymarket.wire_user import UserDecoder, UserOrder, UserTrade

FRAMES = Path(__file__).parents[1] / "data" / "polymarket"
YES = "71000000000000000000000000000000000000000000000000000000000000000000000000001"
NO = "82000000000000000000000000000000000000000000000000000000000000000000000000002"
STAMP = 1_790_000_000_123_000_000
RECV = 1_790_000_000_200_000_000


def frame(name: str) -> bytes:
    """A frame as it comes over the wire: compact JSON."""
    return json.dumps(
        json.loads((FRAMES / f"{name}.json").read_text()), separators=(",", ":")
    ).encode()


def changed(name: str, **fields: Any) -> bytes:
    """A frame with some fields replaced; a value of ``...`` removes the field."""
    found = json.loads((FRAMES / f"{name}.json").read_text())
    for key, value in fields.items():
        if value is ...:
            del found[key]
        else:
            found[key] = value
    return json.dumps(found).encode()


def numbered(cases: Sequence[tuple[Any, str]]) -> list[str]:
    """Unique names for cases: their expected code and their place."""
    return [f"{code}-{number}" for number, (_, code) in enumerate(cases)]


def decode(data: bytes) -> list[AnyEvent]:
    return list(Decoder().decode(data, RECV))


def rejection(data: bytes) -> str:
    events = decode(data)
    assert len(events) == 1
    assert isinstance(events[0], FrameRejected), events
    assert events[0].ts_recv == RECV
    return events[0].reason


def levels(*pairs: tuple[str, str]) -> list[tuple[int, int]]:
    return [(parse_units(price), parse_units(size)) for price, size in pairs]


BIDS = levels(("0.01", "1500"), ("0.47", "219.217767"), ("0.48", "30"))
ASKS = levels(("0.99", "20"), ("0.52", "25.5"), ("0.5", "10"))


@pytest.mark.parametrize("view", [bytes, memoryview])
def test_book(view: Any) -> None:
    (event,) = Decoder().decode(view(frame("book")), RECV)
    assert event == BookSnapshot(STAMP, RECV, YES, BIDS, ASKS, SCALE // 100)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["book_2025", "book_buys_sells"])
def test_older_books_have_no_tick(name: str) -> None:
    assert decode(frame(name)) == [BookSnapshot(STAMP, RECV, YES, BIDS, ASKS, None)]  # type: ignore[arg-type]


def test_empty_book_is_a_book() -> None:
    (event,) = decode(frame("book_empty"))
    assert isinstance(event, BookSnapshot)
    assert (event.bids, event.asks) == ([], [])


def test_array_of_books() -> None:
    first, second = decode(frame("books_array"))
    assert isinstance(first, BookSnapshot) and isinstance(second, BookSnapshot)
    assert (first.instrument_id, second.instrument_id) == (YES, NO)


def test_price_change_keeps_the_wire_order_of_both_tokens() -> None:
    (event,) = decode(frame("price_change"))
    assert isinstance(event, BookChanged)
    assert (event.ts_event, event.ts_recv) == (STAMP, RECV)
    assert event.changes == [
        (YES, Side.BUY, 48_000_000, 50 * SCALE),
        (NO, Side.SELL, 52_000_000, 50 * SCALE),
        (YES, Side.SELL, 50_000_000, 0),
        (NO, Side.BUY, 50_000_000, 0),
    ]
    assert event == decode(frame("price_change"))[0], "a second time, from warm caches"


def test_price_change_of_one_asset() -> None:
    (event,) = decode(frame("price_change_one_asset"))
    assert event == BookChanged(
        STAMP,
        RECV,
        [(YES, Side.SELL, 38_000_000, 0), (YES, Side.BUY, 37_000_000, 633_350_000_000)],  # type: ignore[list-item]
    )


def test_trade() -> None:
    assert decode(frame("last_trade_price")) == [
        TradePrinted(STAMP, RECV, YES, Side.SELL, 49_000_000, 21_921_776_700)  # type: ignore[arg-type]
    ]


def test_tick_size() -> None:
    (event,) = decode(frame("tick_size_change"))
    assert isinstance(event, TickSizeChanged)
    assert (event.instrument_id, event.tick, event.ts_event) == (YES, SCALE // 1000, STAMP)


def test_resolution_pays_the_winner_one_dollar() -> None:
    (event,) = decode(frame("market_resolved"))
    assert isinstance(event, MarketResolved)
    assert event.payouts == ((YES, 0), (NO, SCALE))
    assert event.market_id == "0x" + "ab" * 32


def test_listing() -> None:
    (event,) = decode(frame("new_market"))
    assert isinstance(event, MarketListed)
    assert event.question == "Will the harbour freeze before March?"


def test_best_quotes_and_plain_text_are_counted_and_nothing_else() -> None:
    decoder = Decoder()
    for data in (frame("best_bid_ask"), b"PONG", b"PONG", b"NO NEW ASSETS", b"[]", b" PONG\n"):
        assert list(decoder.decode(data, RECV)) == []
    assert decoder.ignored == {"best_bid_ask": 1, "PONG": 3, "NO NEW ASSETS": 1, "[]": 1}
    assert not decoder.rejected


def test_unknown_fields_are_ignored() -> None:
    moon = {"phase": [1, {"x": None}], "name": "\u263e"}
    assert decode(changed("price_change", moon=moon)) == decode(frame("price_change"))


def test_unknown_type_is_reported_by_name_and_spares_its_neighbours() -> None:
    assert rejection(b'{"event_type":"eclipse","x":1}') == f"{UNKNOWN_TYPE}: 'eclipse'"
    both = b'[{"event_type":"eclipse"},' + frame("book") + b"]"
    first, second = decode(both)
    assert isinstance(first, FrameRejected) and isinstance(second, BookSnapshot)


def test_one_bad_message_spoils_its_array() -> None:
    bad = changed("book", timestamp="soon")
    assert "shape_invalid" in rejection(b"[" + frame("book") + b"," + bad + b"]")


def change_entry(**fields: Any) -> bytes:
    """``price_change`` with the last of its four entries altered."""
    found = json.loads(frame("price_change"))
    for key, value in fields.items():
        if value is ...:
            del found["price_changes"][3][key]
        else:
            found["price_changes"][3][key] = value
    return json.dumps(found).encode()


BAD_ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"side": "HOLD"}, "shape_invalid"),
    ({"side": "buy"}, "shape_invalid"),
    ({"side": ...}, "shape_invalid"),
    ({"price": "1.01"}, "price_out_of_range"),
    ({"price": "-0.01"}, "price_out_of_range"),
    ({"price": "0.123456789"}, "price_unreadable"),
    ({"price": ""}, "price_unreadable"),
    ({"price": "0,5"}, "price_unreadable"),
    ({"price": "5e-1"}, "price_unreadable"),
    ({"price": "NaN"}, "price_unreadable"),
    ({"price": "\u0661"}, "price_unreadable"),
    ({"price": 0.5}, "shape_invalid"),
    ({"price": None}, "shape_invalid"),
    ({"size": "-1"}, "size_out_of_range"),
    ({"size": "1" + "0" * 20}, "size_out_of_range"),
    ({"size": "9" * 5000}, "size_unreadable"),
    ({"size": "0.000000001"}, "size_unreadable"),
    ({"size": ...}, "shape_invalid"),
    ({"asset_id": ...}, "shape_invalid"),
]


@pytest.mark.parametrize(("fields", "code"), BAD_ENTRIES, ids=numbered(BAD_ENTRIES))
def test_one_bad_entry_rejects_the_whole_message(fields: dict[str, Any], code: str) -> None:
    assert rejection(change_entry(**fields)).startswith(code)


BAD_FRAMES: list[tuple[bytes, str]] = [
    (b"", "not_json"),
    (b"\x00\x01", "not_json"),
    (b"x" * 300, "not_json"),
    (b"{", "json_invalid"),
    (b"{}", "event_type_missing"),
    (b'{"event_type":7}', "shape_invalid"),
    (b'{"event_type":"book"', "json_invalid"),
    (b"[1]", "shape_invalid"),
    (b'["PONG"]', "shape_invalid"),
    (b"[[{}]]", "shape_invalid"),
    (b'{"event_type":"\xff"}', "json_invalid"),
    (b'{"a":' * 10_000, "json_too_deep"),
    (b"[" * 10_000, "json_too_deep"),
    (changed("price_change", timestamp=...), "timestamp_invalid"),
    (changed("price_change", timestamp="-5"), "timestamp_invalid"),
    (changed("price_change", timestamp="9" * 17), "timestamp_invalid"),
    (changed("price_change", timestamp="2026-11-20"), "shape_invalid"),
    (changed("price_change", price_changes=...), "changes_missing"),
    (changed("price_change_one_asset", asset_id=...), "changes_missing"),
    (changed("book", bids=...), "book_side_missing"),
    (changed("book", asset_id=...), "asset_id_missing"),
    (changed("book", bids=..., asks=...), "shape_invalid"),
    (changed("book", tick_size="0.03"), "tick_invalid"),
    (changed("book", tick_size="0"), "tick_invalid"),
    (changed("book", timestamp=...), "timestamp_invalid"),
    (changed("tick_size_change", new_tick_size="1"), "tick_invalid"),
    (changed("tick_size_change", asset_id=...), "shape_invalid"),
    (changed("last_trade_price", side="?"), "shape_invalid"),
    (changed("last_trade_price", size="x"), "size_unreadable"),
    (changed("market_resolved", winning_asset_id=""), "winner_unclear"),
    (changed("market_resolved", assets_ids=[YES]), "winner_unclear"),
    (changed("market_resolved", assets_ids=[YES, YES], winning_asset_id=YES), "winner_unclear"),
    (changed("new_market", question=...), "shape_invalid"),
]


@pytest.mark.parametrize(("data", "code"), BAD_FRAMES, ids=numbered(BAD_FRAMES))
def test_malformed_frames_are_rejected_by_a_short_code(data: bytes, code: str) -> None:
    reason = rejection(data)
    assert reason.partition(":")[0] == code
    assert len(reason) <= 160 and reason.isascii() and reason.isprintable()


def test_counters_are_bounded_whatever_the_frames_say() -> None:
    decoder = Decoder()
    for number in range(500):
        decoder.decode(f"TEXT {number}".encode(), RECV)
        decoder.decode(b'{"event_type":"%d"}' % number, RECV)
    assert len(decoder.ignored) <= 65 and sum(decoder.ignored.values()) == 500
    assert decoder.rejected == {UNKNOWN_TYPE: 500}


def test_number_cache_is_bounded_and_keeps_only_valid_texts() -> None:
    numbers = NumberCache()
    for number in range(CACHE_LIMIT + 10):
        assert numbers.size(str(number)) == number * SCALE
    assert len(numbers.sizes) <= CACHE_LIMIT
    with pytest.raises(ValueError, match="price_out_of_range"):
        numbers.price("2")
    assert numbers.prices == {}


# --- user channel -----------------------------------------------------------------------------


def decode_user(data: bytes) -> Any:
    (event,) = UserDecoder().decode(data, RECV)
    return event


def test_user_order_placement() -> None:
    order = decode_user(frame("user_order_placement"))
    assert isinstance(order, UserOrder)
    assert (order.order_id, order.action, order.status) == ("0x" + "11" * 32, "PLACEMENT", "LIVE")
    assert (order.side, order.price, order.original_qty, order.matched_qty) == (
        Side.BUY, 52_000_000, 10 * SCALE, 0,
    )  # fmt: skip
    assert order.ts_event == STAMP and order.trade_ids == ()


def test_user_order_cancellation_with_a_timestamp_in_seconds() -> None:
    order = decode_user(frame("user_order_cancellation"))
    assert isinstance(order, UserOrder)
    assert order.ts_event == 1_790_000_000_000_000_000
    assert (order.action, order.matched_qty, order.trade_ids) == (
        "CANCELLATION", parse_units("4.25"), ("trade-1",),
    )  # fmt: skip


def test_user_trade_names_the_makers_own_token_and_side() -> None:
    trade = decode_user(frame("user_trade_matched"))
    assert isinstance(trade, UserTrade)
    assert (trade.status, trade.trader_side) == (SettlementStatus.MATCHED, "TAKER")
    assert (trade.instrument_id, trade.side, trade.qty) == (YES, Side.BUY, 10 * SCALE)
    (maker,) = trade.maker_fills
    assert (maker.instrument_id, maker.side, maker.price) == (NO, Side.BUY, 48_000_000)
    assert trade.transaction_hash == ""


def test_user_trade_with_a_prefixed_status_and_no_timestamp() -> None:
    trade = decode_user(frame("user_trade_failed_maker"))
    assert isinstance(trade, UserTrade)
    assert (trade.status, trade.trader_side) == (SettlementStatus.FAILED, "MAKER")
    assert trade.ts_event == 1_790_000_000_000_000_000


BAD_USER_FRAMES: list[tuple[bytes, str]] = [
    (changed("user_trade_matched", status="DREAMT"), "trade_status_unknown"),
    (changed("user_trade_matched", side="UP"), "shape_invalid"),
    (changed("user_trade_matched", trader_side="SIDE"), "shape_invalid"),
    (changed("user_trade_matched", maker_orders=...), "shape_invalid"),
    (changed("user_trade_matched", timestamp=..., last_update=...), "timestamp_missing"),
    (changed("user_order_placement", type="WISH"), "shape_invalid"),
    (changed("user_order_placement", price="2"), "price_out_of_range"),
    (b'{"event_type":"balance"}', UNKNOWN_TYPE),
]


@pytest.mark.parametrize(("data", "code"), BAD_USER_FRAMES, ids=numbered(BAD_USER_FRAMES))
def test_malformed_user_frames_are_rejected(data: bytes, code: str) -> None:
    event = decode_user(data)
    assert isinstance(event, FrameRejected)
    assert event.reason.partition(":")[0] == code


def test_user_channel_plain_text() -> None:
    assert list(UserDecoder().decode(b"PONG", RECV)) == []
