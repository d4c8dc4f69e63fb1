"""The catalogue kept beside a tape: written whole, read back equal, refused when damaged."""

from pathlib import Path

import pytest

from fleet.domain.instruments import (
    FeeSchedule,
    Instrument,
    InstrumentId,
    Ladder,
    Market,
    MarketId,
    OutcomeSet,
    SetId,
    Universe,
)
from fleet.domain.units import parse_price
from fleet.venues.polymarket.universe_file import (
    NAME,
    UniverseFileError,
    find_universe,
    save_universe,
)


def universe() -> Universe:
    instruments: dict[InstrumentId, Instrument] = {}
    markets: dict[MarketId, Market] = {}
    for number in range(3):
        yes, no, market = (
            InstrumentId(f"{number}1"),
            InstrumentId(f"{number}2"),
            MarketId(f"0x{number}"),
        )
        for token, other in ((yes, no), (no, yes)):
            instruments[token] = Instrument(
                id=token, market_id=market, complement=other, outcome="Yes",
                tick=parse_price("0.001"), fees=FeeSchedule(rate=7_000_000), neg_risk=True,
            )  # fmt: skip
        markets[market] = Market(id=market, question="Will it?", yes=yes, no=no, end_ns=5)
    ids = tuple(markets)
    return Universe(
        instruments=instruments,
        markets=markets,
        sets=(
            OutcomeSet(id=SetId("s"), title="Who?", markets=ids, placeholders=frozenset(ids[:1])),
        ),
        ladders=(Ladder(id="l", title="When?", rungs=ids[:2]),),
    )


def test_what_is_saved_is_found_beside_any_recording_of_the_folder(tmp_path: Path) -> None:
    assert save_universe(tmp_path / "tape", universe()) == tmp_path / "tape" / NAME
    assert find_universe(tmp_path / "tape" / "20261120-22.tape.zst") == universe()
    assert [p.name for p in (tmp_path / "tape").iterdir()] == [NAME]


def test_a_recording_alone_has_none(tmp_path: Path) -> None:
    assert find_universe(tmp_path / "game.jsonl.gz") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"instruments":{},"markets":{"a":1}}'])
def test_a_damaged_one_is_refused_with_the_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UniverseFileError, match="move it away"):
        find_universe(tmp_path / "x.tape.zst")


def test_a_set_of_unknown_markets_is_refused(tmp_path: Path) -> None:
    file = save_universe(tmp_path, universe())
    file.write_bytes(file.read_bytes().replace(b'"rungs":["0x0"', b'"rungs":["0x9"'))
    with pytest.raises(UniverseFileError, match="unknown markets"):
        find_universe(tmp_path / "x.tape.zst")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "tape").write_text("a file")
    with pytest.raises(UniverseFileError, match="choose another folder"):
        save_universe(tmp_path / "tape", universe())
