"""Whatever bytes come, the decoders answer with facts or one rejection, and never raise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.events import BookChanged, BookSnapshot, FrameRejected, TradePrinted
from fleet.domain.units import SCALE, format_units
from fleet.venues.polymarket.wire import Decoder
from fleet.venues.polymarket.wire_user import UserDecoder

FRAMES = [
    path.read_text()
    for path in sorted((Path(__file__).parents[1] / "data" / "polymarket").glob("*.json"))
]
MARKET, USER = Decoder(), UserDecoder()
ODD_VALUES: list[Any] = [
    None, True, 0, -1, 1e308, 2**70, "", "0", "-0", "-1", "2", "0.5", ".5", "5.", "+0.5", " 0.5",
    "0.123456789", "1e-2", "NaN", "Infinity", "\u0661", "\ud800", "\x00", "BUY", "SELL", "buy", [], {},
    [[]], [None], "9" * 40,
]  # fmt: skip


def decode_all(data: bytes) -> None:
    """Both decoders, as bytes and as a view: sound facts or a rejection."""
    for frame in (data, memoryview(data)):
        for event in MARKET.decode(frame, 7):
            assert event.ts_recv == 7
            if isinstance(event, FrameRejected):
                assert event.reason.isascii() and 0 < len(event.reason) <= 160
            elif isinstance(event, BookChanged):
                assert all(0 <= p <= SCALE and 0 <= q < 2**63 for _, _, p, q in event.changes)
            elif isinstance(event, BookSnapshot):
                assert all(
                    0 <= p <= SCALE and 0 <= q < 2**63 for p, q in [*event.bids, *event.asks]
                )
            elif isinstance(event, TradePrinted):
                assert 0 <= event.price <= SCALE and 0 <= event.qty < 2**63
        for told in USER.decode(frame, 7):
            assert told.ts_recv == 7


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    decode_all(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json(value: object) -> None:
    decode_all(json.dumps(value).encode())


@given(st.sampled_from(FRAMES), st.data())
def test_real_frames_cut_and_overwritten(text: str, data: st.DataObject) -> None:
    frame = bytearray(text.encode())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(frame) - 1))
        frame[at] = data.draw(st.integers(0, 255))
    decode_all(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [here] if here else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict | list):
        for key, item in items:
            found += _paths(item, (*here, key)) if isinstance(item, dict | list) else [(*here, key)]
    return found


@given(st.sampled_from(FRAMES), st.data())
def test_real_frames_with_one_odd_value(text: str, data: st.DataObject) -> None:
    frame = json.loads(text)
    *way, last = data.draw(st.sampled_from(_paths(frame)))
    parent = frame
    for step in way:
        parent = parent[step]
    if isinstance(parent, dict) and data.draw(st.booleans()):
        del parent[last]
    else:
        parent[last] = data.draw(st.sampled_from(ODD_VALUES))
    decode_all(json.dumps(frame).encode())


ticks = st.integers(0, 10_000).map(lambda n: n * (SCALE // 10_000))
sizes = st.integers(0, 10**17)
spellings: list[Callable[[int], str]] = [
    format_units,
    lambda value: format_units(value, places=2),
    lambda value: format_units(value, places=8),
]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["BUY", "SELL"]), ticks, sizes), max_size=8
    ),
    st.sampled_from(spellings),
    st.integers(0, 2**63 // 10**6 - 1),
)
def test_what_is_written_is_what_is_read(
    changes: list[tuple[str, str, int, int]], write: Callable[[int], str], stamp_ms: int
) -> None:
    frame = {
        "market": "m",
        "price_changes": [
            {"asset_id": a, "price": write(p), "size": write(q), "side": s}
            for a, s, p, q in changes
        ],
        "timestamp": str(stamp_ms),
        "event_type": "price_change",
    }
    (event,) = MARKET.decode(json.dumps(frame).encode(), 7)
    assert isinstance(event, BookChanged)
    assert event.ts_event == stamp_ms * 1_000_000
    assert [(a, s.value, p, q) for a, s, p, q in event.changes] == changes


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_deep_nesting(depth: int) -> None:
    for opening in (b"[", b'{"x":', b'[{"x":'):
        decode_all(opening * depth)
