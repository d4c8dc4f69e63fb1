"""Limits over all bots: grants never add up to more than the cap, in real processes too."""

import multiprocessing
from pathlib import Path

import pytest

from fleet.journal.allowances import PRESENT_EVERY_NS, SEEN_NS, AllowanceBoard, Scope
from fleet.journal.claims import ClaimBoard
from fleet.journal.fleet import FleetState

SECOND = 1_000_000_000
PLACE = "live:polymarket"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


def board(file: FleetState, bot: str, place: str = PLACE) -> AllowanceBoard:
    return AllowanceBoard(file, place=place, bot=bot, wallet=f"w-{bot}")


def scope(cap: int, used: int = 0, want: int = 10**12) -> Scope:
    return Scope(cap=cap, used=used, want=want)


def test_alone_a_bot_gets_all_and_a_second_one_its_share_as_the_first_asks_again(
    path: Path,
) -> None:
    with FleetState(path) as mine, FleetState(path) as theirs:
        arb, poly = board(mine, "ArbHunter"), board(theirs, "PolyAI")
        assert arb.refresh({"fleet": scope(1000)}, SECOND) == {"fleet": 1000}
        assert poly.refresh({"fleet": scope(1000)}, 2 * SECOND) == {}
        assert arb.refresh({"fleet": scope(1000, used=100)}, 3 * SECOND) == {"fleet": 500}
        assert poly.refresh({"fleet": scope(1000)}, 4 * SECOND) == {"fleet": 500}


def test_what_is_used_is_never_taken_away(path: Path) -> None:
    with FleetState(path) as file:
        arb, poly = board(file, "ArbHunter"), board(file, "PolyAI")
        arb.refresh({"fleet": scope(1000)}, SECOND)
        assert poly.refresh({"fleet": scope(1000)}, 2 * SECOND) == {}
        assert arb.refresh({"fleet": scope(1000, used=900)}, 3 * SECOND) == {"fleet": 900}
        assert poly.refresh({"fleet": scope(1000)}, 4 * SECOND) == {"fleet": 100}
        # The cap is lowered below what is in use: it stays, and nobody gets more.
        assert arb.refresh({"fleet": scope(300, used=900)}, 5 * SECOND) == {"fleet": 900}
        assert poly.refresh({"fleet": scope(300, used=50)}, 6 * SECOND) == {"fleet": 50}


def test_a_killed_bot_counts_in_full_until_it_comes_back(path: Path) -> None:
    with FleetState(path) as file:
        board(file, "ArbHunter").refresh({"fleet": scope(1000, used=10)}, SECOND)
        later = SECOND + 10 * SEEN_NS
        assert board(file, "PolyAI").refresh({"fleet": scope(1000)}, later) == {}
        reborn = board(file, "ArbHunter")
        assert reborn.refresh({"fleet": scope(1000, used=700)}, later) == {"fleet": 700}
        assert board(file, "PolyAI").refresh({"fleet": scope(1000)}, later) == {"fleet": 300}


def test_an_orderly_stop_gives_back_what_is_not_used(path: Path) -> None:
    with FleetState(path) as file:
        arb = board(file, "ArbHunter")
        arb.refresh({"fleet": scope(1000), "market:m1": scope(100)}, SECOND)
        arb.give_back({"fleet": 40})
        assert [(u.scope, u.granted, u.used) for u in arb.usage()] == [("fleet", 40, 40)]
        poly = board(file, "PolyAI")
        assert poly.refresh({"fleet": scope(1000), "market:m1": scope(100)}, 2 * SECOND) == {
            "fleet": 960,
            "market:m1": 100,
        }


def test_places_are_apart(path: Path) -> None:
    with FleetState(path) as file:
        assert board(file, "ArbHunter").refresh({"fleet": scope(10)}, 1) == {"fleet": 10}
        paper = board(file, "PolyAI", "paper:sandbox")
        assert paper.refresh({"fleet": scope(10)}, 1) == {"fleet": 10}


def test_days_end_and_markets_that_left_keep_what_is_in_use(path: Path) -> None:
    with FleetState(path) as file:
        arb = board(file, "ArbHunter")
        arb.refresh({"turnover:2026-11-20": scope(50, used=20), "market:m1": scope(9, used=4)}, 1)
        granted = arb.refresh({"turnover:2026-11-21": scope(50)}, 10 * SECOND)
        assert granted == {"turnover:2026-11-21": 50, "market:m1": 4}


def test_what_is_held_where_nobody_knows_keeps_all_that_was_granted(path: Path) -> None:
    """Chaos seed 67: killed right after it had bought, so no use of the market was written yet."""
    with FleetState(path) as file:
        arb, poly = board(file, "ArbHunter"), board(file, "PolyAI")
        arb.refresh({"fleet": scope(50), "market:m1": scope(9)}, 1)
        after = board(file, "ArbHunter")
        assert after.refresh({"fleet": scope(50)}, 2, keep=True) == {"fleet": 50, "market:m1": 9}
        assert poly.refresh({"market:m1": scope(9)}, 3) == {}
        after.give_back({"fleet": 5}, keep=True)
        assert poly.refresh({"fleet": scope(50), "market:m1": scope(9)}, 4) == {"fleet": 45}
        assert after.refresh({"fleet": scope(50, used=5)}, 5) == {"fleet": 5}
        assert poly.refresh({"market:m1": scope(9)}, 10 * SECOND) == {"market:m1": 4}  # Its share.


def test_nothing_is_written_while_nothing_changes(path: Path) -> None:
    with FleetState(path) as file, FleetState(path) as other:
        arb = board(file, "ArbHunter")
        arb.refresh({"fleet": scope(1000, used=1)}, SECOND)
        before = other.rows("PRAGMA data_version")
        arb.refresh({"fleet": scope(1000, used=2)}, 2 * SECOND)
        assert other.rows("PRAGMA data_version") == before
        arb.refresh({"fleet": scope(1000, used=2)}, SECOND + PRESENT_EVERY_NS)
        assert other.rows("PRAGMA data_version") != before
        assert [u.used for u in arb.usage()] == [2]


def _grab(path: Path, bot: str, rounds: int, told: "multiprocessing.Queue[int]") -> None:
    """Spend whatever is granted, always ask for more: the true use at the end."""
    used = 0
    with FleetState(path) as file:
        mine = AllowanceBoard(file, place=PLACE, bot=bot, wallet=bot)
        for turn in range(rounds):
            granted = mine.refresh({"fleet": scope(10_000, used=used)}, turn * SECOND)
            used = max(used, min(granted.get("fleet", 0), used + 137))
    told.put(used)


def test_processes_that_race_never_pass_the_cap_together(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[int] = spawn.Queue()
    FleetState(path).close()
    racers = [spawn.Process(target=_grab, args=(path, f"Bot{n}", 60, told)) for n in "ABCD"]
    for racer in racers:
        racer.start()
    used = [told.get(timeout=120) for _ in racers]
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert 0 < sum(used) <= 10_000
    with FleetState(path) as file:
        usage = board(file, "Nobody").usage()
    assert sum(one.granted for one in usage) <= 10_000


def test_an_instrument_of_a_shared_wallet_is_one_bots(path: Path) -> None:
    with FleetState(path) as file:
        arb = ClaimBoard(file, wallet="w", bot="ArbHunter")
        poly = ClaimBoard(file, wallet="w", bot="PolyAI")
        mine = arb.claim(["t1", "t2"])
        assert (dict(mine.held), dict(mine.refused)) == ({"t1": 1, "t2": 1}, {})
        assert arb.claim(["t1"]).held == {"t1": 1}
        theirs = poly.claim(["t2", "t3"])
        assert (dict(theirs.held), dict(theirs.refused)) == ({"t3": 1}, {"t2": "ArbHunter"})
        poly.release(["t1", "t2"])
        assert poly.claim(["t2"]).refused == {"t2": "ArbHunter"}
        arb.release(["t2"])
        assert poly.claim(["t2"]).held == {"t2": 2}
        assert ClaimBoard(file, wallet="other", bot="PolyAI").claim(["t1"]).held == {"t1": 1}


def test_a_retired_bot_that_only_slept_finds_out(path: Path) -> None:
    with FleetState(path) as file:
        arb = ClaimBoard(file, wallet="w", bot="ArbHunter")
        poly = ClaimBoard(file, wallet="w", bot="PolyAI")
        mine = arb.claim(["t1", "t2"]).held
        assert arb.lost(mine) == []
        assert poly.release_all("ArbHunter") == 2
        assert arb.lost(mine) == ["t1", "t2"]
        poly.claim(["t1"])
        again = arb.claim(["t1", "t2"])
        assert (dict(again.held), dict(again.refused)) == ({"t2": 2}, {"t1": "PolyAI"})
        assert arb.lost(mine) == ["t1", "t2"]
