import json

import pytest

from fleet.domain.instruments import FeeSchedule
from fleet.venues.polymarket.recordings import RecordingError, infer_universe
from tests.builders import p

FEES = FeeSchedule(rate=p("0.05"))


def book(market: str, token: str, *prices: str, slug: str = "") -> bytes:
    message = {"event_type": "book", "market": market, "asset_id": token,
               "bids": [{"price": price, "size": "1"} for price in prices], "asks": []}  # fmt: skip
    return json.dumps(message | ({"market_slug": slug} if slug else {})).encode()


def change(market: str, *tokens: str, price: str = "0.5") -> bytes:
    entries = [{"asset_id": t, "price": price, "size": "1", "side": "BUY"} for t in tokens]
    return json.dumps(
        {"event_type": "price_change", "market": market, "price_changes": entries}
    ).encode()


def infer(*frames: bytes) -> list[tuple[str, str, str, str]]:
    """(market, yes, no, tick) of each market found."""
    found = infer_universe(frames, fees=FEES)
    return [
        (m.id, m.yes, m.no, f"{found.instruments[m.yes].tick / 1e8:g}")
        for m in found.markets.values()
    ]


def test_tokens_are_paired_by_market_in_the_order_they_are_seen() -> None:
    frames = [book("a", "2"), book("b", "3"), change("a", "1", "2"), change("b", "3", "4")]
    assert infer(*frames) == [("a", "2", "1", "0.01"), ("b", "3", "4", "0.01")]


def test_instruments_name_each_other_and_carry_the_callers_fees() -> None:
    found = infer_universe([book("a", "1"), book("a", "2")], fees=FEES)
    yes, no = found.instruments.values()
    assert (yes.complement, no.complement) == (no.id, yes.id)
    assert yes.fees is no.fees is FEES


def test_frames_may_come_as_arrays_and_in_the_older_shape() -> None:
    older = json.dumps({"event_type": "price_change", "market": "a", "asset_id": "2",
                        "changes": [{"price": "0.125", "size": "1", "side": "BUY"}]})  # fmt: skip
    array = b"[" + book("a", "1") + b"," + older.encode() + b"]"
    assert infer(array) == [("a", "1", "2", "0.001")]


@pytest.mark.parametrize(
    ("price", "tick"),
    [("0.5", "0.01"), ("0.50000", "0.01"), ("0.999", "0.001"), ("0.0001", "0.0001"),
     ("0.00001", "0.0001")],
)  # fmt: skip
def test_the_grid_is_the_finest_any_price_needs(price: str, tick: str) -> None:
    frames = [book("a", "1", "0.5"), change("a", "1", "2", price=price)]
    assert [row[3] for row in infer(*frames)] == [tick]


def test_what_is_no_frame_is_passed_over() -> None:
    frames = [b"", b"PONG", b"NO NEW ASSETS", b"{broken", b"[1,2]", b'{"market":5}', b"{}",
              b'{"market":"a"}', b"\xff\xfe"]  # fmt: skip
    assert infer(*frames, book("a", "1"), book("a", "2")) == [("a", "1", "2", "0.01")]


def test_what_cannot_be_paired_is_left_out() -> None:
    frames = [book("single", "1"), book("three", "2"), book("three", "3"), book("three", "4"),
              book("pair", "5"), book("pair", "6")]  # fmt: skip
    assert [row[0] for row in infer(*frames)] == ["pair"]


def test_one_market_under_two_names_is_one_market() -> None:
    frames = [book("552801", "1", slug="a-b"), change("552801", "1", "2"),
              book("552801", "2", slug="a-b")]  # fmt: skip
    rows = infer(*frames)
    assert len(rows) == 1
    assert set(rows[0][1:3]) == {"1", "2"}


@pytest.mark.parametrize("frames", [[], [b"PONG"], [book("a", "1")]])
def test_a_recording_of_no_market_is_an_error(frames: list[bytes]) -> None:
    with pytest.raises(RecordingError, match="is this a market-channel recording"):
        infer_universe(frames, fees=FEES)
