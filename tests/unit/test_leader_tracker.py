"""The tracker's own rules, block by block, and the small parts around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.config import ConfigError, load
from fleet.domain.events import LeaderMoved, LeaderTraded, MoveKind
from fleet.journal.chain_cursor import ChainCursor
from fleet.runtime.listener_settings import ListenerEnv, listening_urls
from fleet.venues.polymarket.leader_blocks import Block, BlockWindow, Link
from fleet.venues.polymarket.leader_logs import ORDER_FILLED, ChainLog, LeaderLogs
from fleet.venues.polymarket.leader_state import SETTLE_NS, Progress
from fleet.venues.polymarket.leader_tracker import LeaderTracker
from fleet.venues.polymarket.rpc_pool import RpcPool
from tests.leader_world import Heard, Memory, topic
from tests.unit.test_leader_logs import ALICE, AT, BOB, filled


def block(number: int, name: str = "a", parent: str | None = None) -> Block:
    before = f"{name}{number - 1}" if parent is None else parent
    return Block(number, f"{name}{number}", before, number * NS_PER_SECOND)


def fill(number: int, name: str = "a", *, tx: str = "0x1", index: int = 0, cash: int = 4,
         time: str | None = "0x5") -> ChainLog:  # fmt: skip
    made = filled(0, 9, cash, 10)
    return ChainLog(
        address=made.address, topics=made.topics, data=made.data, block_number=hex(number),
        block_hash=f"{name}{number}", transaction_hash=tx, log_index=hex(index),
        block_timestamp=time,
    )  # fmt: skip


def begun(*blocks: Block) -> tuple[LeaderTracker, Heard]:
    heard = Heard()
    tracker = LeaderTracker(LeaderLogs([ALICE]), heard)
    tracker.window.replace(blocks or (block(1), block(2)))
    tracker.synced = True
    return tracker, heard


def trade_of(tracker: LeaderTracker, log: ChainLog) -> LeaderTraded:
    made = tracker.reader.trade(log, ts_event=1, ts_recv=1)
    assert made is not None
    return made


def test_a_log_before_its_head_is_told_if_its_time_is_known() -> None:
    tracker, heard = begun()
    tracker.log(fill(3), 7)
    assert [one.ts_event for one in heard.trades] == [5 * NS_PER_SECOND]
    tracker.log(fill(3, tx="0x2", index=1, time=None), 8)
    assert len(heard.trades) == 1
    tracker.head(block(3), 9)
    assert [one.ts_event for one in heard.trades] == [5 * NS_PER_SECOND, 3 * NS_PER_SECOND]
    assert tracker.doubt is None


def test_a_log_that_contradicts_the_window_is_held() -> None:
    tracker, heard = begun()
    tracker.log(fill(2, "b"), 7)
    assert not heard.facts
    assert tracker.doubt == 2


def test_a_second_mining_of_a_told_transaction_is_held() -> None:
    tracker, heard = begun()
    tracker.log(fill(2), 7)
    tracker.log(fill(4, "b", index=5), 8)
    assert len(heard.facts) == 1
    assert tracker.doubt == 2


def test_a_removed_log_is_a_doubt_and_no_verdict() -> None:
    tracker, heard = begun()
    log = fill(2)
    tracker.log(log, 7)
    taken = ChainLog(**{name: getattr(log, name) for name in log.__struct_fields__}
                     | {"removed": True})  # fmt: skip
    tracker.log(taken, 8)
    assert tracker.doubt == 2
    # The block is still there: the node was wrong to take the log back.
    tracker.commit([block(2)], [], 9, {})
    assert len(heard.told) == 1
    assert not heard.wrong


def test_a_missing_log_undoes_nothing_and_another_block_does() -> None:
    tracker, heard = begun()
    tracker.log(fill(2), 7)
    tracker.commit([block(1), block(2)], [], 8, {})
    assert len(heard.told) == 1
    again = fill(3, "b", index=4)
    run = [block(2, "b", "a1"), block(3, "b")]
    tracker.commit(run, [trade_of(tracker, again)], 9, {})
    assert list(heard.told) == ["0x1:4"]
    # Undone first, and in one batch: nobody sees both.
    assert [type(fact).__name__ for fact in heard.facts] == [
        "LeaderTraded", "SightingUndone", "LeaderTraded",
    ]  # fmt: skip


def test_the_same_log_mined_again_stays_told() -> None:
    tracker, heard = begun()
    tracker.log(fill(2), 7)
    same, changed = fill(3, "b"), fill(3, "b", cash=5)
    run = [block(2, "b", "a1"), block(3, "b")]
    tracker.commit(run, [trade_of(tracker, same)], 9, {})
    assert len(heard.facts) == 1
    assert tracker.counts.remined == 1
    run = [block(2, "c", "a1"), block(3, "c")]
    tracker.commit(run, [trade_of(tracker, changed)], 9, {})
    assert [type(fact).__name__ for fact in heard.facts[1:]] == ["SightingUndone", "LeaderTraded"]


def test_what_was_built_on_a_replaced_block_is_gone_too() -> None:
    tracker, heard = begun(block(1), block(2), block(3), block(4))
    tracker.log(fill(4), 7)
    tracker.commit([block(2, "b", "a1")], [], 9, {})
    assert not heard.told
    assert tracker.window.tip == 2


def test_a_run_that_does_not_fit_changes_nothing() -> None:
    tracker, heard = begun()
    tracker.log(fill(2), 7)
    assert tracker.commit([block(3, "z")], [], 9, {}) is None
    assert len(heard.told) == 1
    assert tracker.window.tip == 2


def test_the_window_says_how_a_head_lies() -> None:
    window = BlockWindow(limit=3)
    assert window.add(block(5)) is Link.NEXT
    assert [window.add(block(n)) for n in (6, 7, 8)] == [Link.NEXT] * 3
    assert (window.low, window.tip, len(window)) == (6, 8, 3)
    assert window.add(block(8)) is Link.KNOWN
    assert window.add(block(10)) is Link.GAP
    assert window.add(block(5)) is Link.OLD
    assert window.add(block(9, "b")) is Link.FORK
    assert window.add(block(7, "b")) is Link.FORK
    window.replace([block(7, "b", "a6")])
    # What was built on the old one is not the chain any more.
    assert [one.hash for one in window.tail()] == ["a6", "b7"]


def test_the_safe_block_is_written_down_when_facts_have_settled() -> None:
    kept, heard = Memory(), Heard()
    tracker = LeaderTracker(LeaderLogs([ALICE]), heard)
    progress = Progress(tracker, kept)
    progress.begin(block(10))
    tracker.synced = True
    progress.save(0, tracker.window.tail())
    tracker.window.add(block(11))
    tracker.log(fill(11), 7)
    progress.reached(11, 11)
    progress.save(1, tracker.window.tail())
    assert kept.kept is not None
    assert kept.kept[0] == 10
    # The process dies here: the next one tells it again, and undoes it if it is gone.
    again = LeaderTracker(LeaderLogs([ALICE]), heard)
    Progress(again, kept)
    assert again.retell == {"0x1:0"}
    again.commit([block(11)], [trade_of(again, fill(11))], 9, {})
    assert heard.repeated == ["0x1:0"]
    progress.save(1 + SETTLE_NS, tracker.window.tail())
    assert kept.kept[0] == 11
    settled = LeaderTracker(LeaderLogs([ALICE]), heard)
    Progress(settled, kept)
    assert settled.retell == set()


def test_the_cursor_file_keeps_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "cursor.db"
    rows = [(1, "0xa", "0x0", 5), (2, "0xb", "0xa", 6)]
    told = ("0x1:0", ALICE, 2, "0xb", "what")
    with ChainCursor(path, bot="m", mode="paper", feed="sandbox") as cursor:
        assert cursor.load() is None
        cursor.save(1, rows, {"0x1:0": told, "0x2:0": ("0x2:0", BOB, 2, "0xb", "x")})
        cursor.save(2, rows[1:], {"0x2:0": None})
    with ChainCursor(path, bot="m", mode="paper", feed="sandbox") as cursor:
        assert cursor.load() == (2, rows[1:], [told])


def test_the_pool_prefers_the_first_that_neither_rests_nor_hides() -> None:
    pool = RpcPool(["a", "b", "a"], jitter=lambda: 0.0)
    assert pool.pick(0) == ("a", 0)
    pause = pool.failed("a", 0)
    assert pool.pick(0) == ("b", 0)
    assert pool.pick(pause) == ("a", 0)
    assert pool.failed("a", 0) == 2 * pause
    pool.worked("a")
    assert pool.failed("a", 0) == pause
    pool.omitted("b")
    assert pool.other("b", pause) == "a"
    assert pool.other("b", 0) is None
    assert pool.pick(pause) == ("a", 0)
    assert pool.better("b", pause)
    pool.failed("b", 0)
    assert pool.pick(0)[1] > 0
    with pytest.raises(ValueError, match="at least one"):
        RpcPool([])


def test_settings_name_the_cure() -> None:
    assert listening_urls(load(ListenerEnv, {}), "sandbox", 8788) == ("ws://127.0.0.1:8788/rpc",)
    with pytest.raises(ValueError, match="ELITE_RPC_WS_URLS is empty"):
        listening_urls(load(ListenerEnv, {}), "polymarket", 8788)
    env = load(ListenerEnv, {"ELITE_RPC_WS_URLS": "wss://a/x, wss://b/y wss://a/x"})
    assert listening_urls(env, "polymarket", 1) == ("wss://a/x", "wss://b/y")
    for key, value in (
        ("ELITE_RPC_WS_URLS", "https://a"), ("ELITE_RPC_WS_URLS", "ws://a.example"),
        ("ELITE_VERIFY_BLOCKS", "0"), ("ELITE_HEAD_AGE_S", "1"), ("ELITE_HEAD_AGE_S", "x"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=key):
            load(ListenerEnv, {key: value})


def test_the_filter_is_by_owner() -> None:
    assert topic(ALICE) in LeaderLogs([ALICE]).filters()[0]["topics"][2]
    assert ORDER_FILLED in LeaderLogs([ALICE]).filters()[0]["topics"][0]
    assert AT in LeaderLogs([ALICE]).filters()[0]["address"]


@pytest.mark.parametrize(
    ("head", "doubt"),
    [
        (block(5), 3),
        (block(2, "b", "a1"), 2),
        (block(3, "b"), 2),
        (block(3), None),
        (block(2), None),
    ],
)
def test_a_head_that_does_not_follow_puts_the_range_in_doubt(
    head: Block, doubt: int | None
) -> None:
    tracker, _ = begun()
    tracker.head(head, 7)
    assert tracker.doubt == doubt


def test_a_log_of_a_block_that_did_not_become_the_chain_is_looked_at_again() -> None:
    tracker, heard = begun()
    tracker.log(fill(3, "b"), 7)
    assert len(heard.told) == 1
    tracker.head(block(3), 8)
    assert tracker.doubt == 3
    tracker.commit([block(3)], [], 9, {})
    assert not heard.told


def test_a_log_older_than_what_is_remembered_is_not_told() -> None:
    tracker, heard = begun()
    tracker.sightings.floor = 2
    tracker.log(fill(1), 7)
    tracker.commit([block(1), block(2)], [trade_of(tracker, fill(1))], 8, {})
    assert not heard.facts
    assert tracker.counts.stale == 2


def test_a_move_is_told_again_when_its_block_comes_back() -> None:
    tracker, heard = begun()
    move = LeaderMoved(
        sighting_id="0x7:0", wallet=ALICE, kind=MoveKind.TRANSFER, changes=(), block=3,
        block_hash="b3",
    )  # fmt: skip
    tracker.moves["0x7"] = (3, "b3")
    tracker.commit_moves("0x7", "b3", [move])
    assert list(heard.told) == ["0x7:0"]
    # A range that was read before the fork is committed after it.
    tracker.commit([block(3)], [], 9, {})
    assert not heard.told
    assert tracker.read.get("0x7") != "b3"
    tracker.commit([block(2, "b", "a1"), block(3, "b")], [move], 10, {"0x7": "b3"})
    assert list(heard.told) == ["0x7:0"]
