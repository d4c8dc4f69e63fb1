"""Snapshots: a shortcut that is used only where nothing speaks against it, and never missed."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import OperationKind
from fleet.domain.units import SCALE, Cash
from fleet.engine import portfolio
from fleet.engine.image import StateImage, image_of
from fleet.engine.state import State, fold
from fleet.journal import snapshot
from fleet.journal.database import JournalDamaged
from fleet.journal.snapshot import SnapshotUnusableError
from fleet.journal.store import JournalReader, JournalStore
from fleet.runtime import snapshots
from fleet.runtime.snapshots import recover, refresh, snapshot_path, stamp
from tests.builders import Rig, c, durable, filled, leg, order, orders_of, plan, universe, yes

ROOT = Path(__file__).resolve().parents[2]
WORLD = universe()
NAME = "arbhunter-paper"


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five entries are worth a snapshot here."""
    monkeypatch.setattr(snapshots, "WORTH", 5)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="fleet"):
        yield caplog


def opened(path: Path, *, bot: str = "ArbHunter") -> JournalStore:
    return JournalStore(path, bot=bot, mode="paper", run_id="r")


def deposits(first: int, count: int) -> list[ev.Event]:
    return [
        ev.CashDeposited(ts_event=n, ts_recv=n, deposit_id=f"d{n}", amount=Cash(n * SCALE))
        for n in range(first, first + count)
    ]


def written(path: Path, first: int = 1, count: int = 10) -> Path:
    with opened(path) as store:
        store.write(deposits(first, count))
    return path


def recovered(path: Path) -> State:
    with opened(path) as store:
        return recover(store, WORLD)


def whole(path: Path) -> State:
    with JournalReader(path) as reader:
        return fold((entry.event for entry in reader.read()), WORLD)


def skipped(told: pytest.LogCaptureFixture) -> list[int]:
    """How many entries each recovery took from a snapshot."""
    lines = [r.getMessage() for r in told.records if "FOLDED" in r.getMessage()]
    return [int(line.split("from_snapshot=")[1].split()[0]) for line in lines]


def the_same(one: State, other: State) -> bool:
    return image_of(one) == image_of(other) and durable(one) == durable(other)


def test_many_entries_leave_a_snapshot_and_the_next_start_uses_it(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / f"{NAME}.db")
    first = recovered(path)
    kept = snapshot_path(path)
    assert kept == tmp_path / f"{NAME}.snapshot"
    assert kept.stat().st_mode & 0o777 == 0o600
    written(path, 11, 3)
    second = recovered(path)
    assert skipped(told) == [0, 10]
    assert the_same(second, whole(path))
    assert not the_same(second, first)
    assert second.universe is WORLD
    assert set(second.books) == set(WORLD.instruments)


def test_few_entries_leave_none(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db", count=5)
    recovered(path)
    assert not snapshot_path(path).exists()
    written(path, 6, 1)
    recovered(path)
    assert snapshot_path(path).exists()


def test_a_new_one_comes_only_when_it_is_worth_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db")
    recovered(path)
    before = snapshot_path(path).read_bytes()
    written(path, 11, 5)
    recovered(path)
    assert snapshot_path(path).read_bytes() == before
    written(path, 16, 1)
    recovered(path)
    head = snapshot.read_head(snapshot_path(path))
    assert head is not None
    assert head.seq == 16


def spoil(path: Path, seq: int) -> None:
    """Change the amount in one entry behind the store's back."""
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER entry_never_changes")
        (body,) = db.execute("SELECT body FROM entry WHERE seq = ?", (seq,)).fetchone()
        changed = body.replace(b"00000000", b"00000001")
        assert changed != body
        db.execute("UPDATE entry SET body = ? WHERE seq = ?", (changed, seq))
    db.close()


def test_only_later_entries_are_read_and_a_full_check_reads_all(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    recovered(path)
    expected = whole(path)
    spoil(path, 3)
    assert the_same(recovered(path), expected)
    assert skipped(told) == [0, 10]
    with JournalReader(path) as reader, pytest.raises(JournalDamaged, match="entry 3 was changed"):
        reader.check()


def test_a_damaged_later_entry_is_told_all_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "a.db")
    recovered(path)
    written(path, 11, 3)
    spoil(path, 12)
    with pytest.raises(JournalDamaged, match="entry 12 was changed"):
        recovered(path)


def ignored(path: Path, told: pytest.LogCaptureFixture, because: str) -> None:
    """The journal is folded whole, rightly, and the log says why."""
    told.clear()
    state = recovered(path)
    assert the_same(state, whole(path))
    assert skipped(told) == [0]
    warning = next(r for r in told.records if "SNAPSHOT not used" in r.getMessage())
    assert warning.levelno == logging.WARNING
    assert because in warning.getMessage()


def test_every_flipped_byte_and_every_cut_is_seen(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    recovered(path)
    sound = snapshot_path(path).read_bytes()
    for place in range(len(sound)):
        content = bytearray(sound)
        content[place] ^= 1 << place % 8
        snapshot_path(path).write_bytes(content)
        with pytest.raises(SnapshotUnusableError):
            snapshot.read(snapshot_path(path))
        snapshot_path(path).write_bytes(sound[:place])
        with pytest.raises(SnapshotUnusableError):
            snapshot.read(snapshot_path(path))
    ignored(path, told, "cut off")
    assert snapshot.read(snapshot_path(path)) is not None, "it was made anew"
    snapshot_path(path).write_bytes(sound[:-9] + b"damage...")
    ignored(path, told, "damaged")
    snapshot_path(path).write_bytes(b"SQLite format 3\0" + sound)
    ignored(path, told, "no snapshot")


def test_another_bots_and_other_codes_are_not_used(
    tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = written(tmp_path / "a.db"), tmp_path / "b.db"
    recovered(path)
    with opened(other, bot="Other") as store:
        store.write(deposits(1, 10))
        recover(store)
    shutil.copy(snapshot_path(other), snapshot_path(path))
    ignored(path, told, "it is Other's of paper")
    monkeypatch.setattr(snapshots, "_FOLDING", (portfolio,))
    ignored(path, told, "other code folded it")


def test_an_image_of_another_shape_is_not_used(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    recovered(path)
    found = snapshot.read(snapshot_path(path))
    assert found is not None
    snapshot.write(snapshot_path(path), found.head, found.head)
    ignored(path, told, "image cannot be read")


def test_an_image_that_contradicts_itself_is_not_used(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    recovered(path)
    found = snapshot.read(snapshot_path(path))
    assert found is not None
    image = found.image(StateImage)
    image.orders.open.append(orders_of(busy().commands)[0].client_order_id)
    snapshot.write(snapshot_path(path), found.head, image)
    ignored(path, told, "contradicts itself")


def test_an_older_copy_of_the_journal_is_noticed(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    shutil.copy(path, tmp_path / "older.db")
    written(path, 11, 10)
    recovered(path)
    newest = snapshot_path(path).read_bytes()
    shutil.copy(tmp_path / "older.db", path)
    ignored(path, told, "an older copy was put in its place")
    # And grown past the snapshot's entry with other facts.
    snapshot_path(path).write_bytes(newest)
    written(path, 31, 15)
    ignored(path, told, "entry 20 of the journal is another one")


KILLED = """
import os, signal
from pathlib import Path
from fleet.journal.snapshot import read, write
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
Path.replace = die
path = Path({path!r})
found = read(path)
write(path, found.head, found.head)
"""


def test_a_kill_between_write_and_rename_leaves_the_old_one(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    recovered(path)
    kept = snapshot_path(path)
    before = kept.read_bytes()
    child = subprocess.run(
        [sys.executable, "-c", KILLED.format(path=str(kept))],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL
    draft = tmp_path / ".a.snapshot.new"
    assert draft.exists()
    assert kept.read_bytes() == before
    written(path, 11, 9)
    assert the_same(recovered(path), whole(path))
    assert skipped(told) == [0, 10]
    assert not draft.exists(), "the next one took its place"


def test_what_cannot_be_written_costs_nothing_else(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    snapshot_path(path).mkdir()
    assert the_same(recovered(path), whole(path))
    assert "SNAPSHOT not written" in told.text
    assert "SNAPSHOT not used" in told.text
    with opened(path) as store:
        store.write([ev.CashDeposited(deposit_id=f"x{n}", amount=Cash(2**62)) for n in range(5)])
    snapshot_path(path).rmdir()
    assert recovered(path).portfolio.cash > 2**64
    assert "cannot be encoded" in told.text
    assert not snapshot_path(path).exists()


def test_the_stamp_is_of_the_code_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    assert len(stamp(now)) == 64
    assert stamp(now) == stamp(now)
    assert stamp(0) == "", "the files were changed after this process began"
    copy = tmp_path / "portfolio.py"
    shutil.copy(portfolio.__file__, copy)
    same = stamp(time.time_ns())
    monkeypatch.setattr(portfolio, "__file__", str(copy))
    assert stamp(time.time_ns()) == same
    copy.write_text(copy.read_text() + "# another comment\n")
    assert stamp(time.time_ns()) not in {"", same}
    copy.unlink()
    assert stamp(time.time_ns()) == ""


def test_without_a_stamp_nothing_is_used_or_written(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.db")
    with opened(path) as store:
        recover(store, loaded_ns=0)
    assert not snapshot_path(path).exists()
    recovered(path)
    told.clear()
    with opened(path) as store:
        assert the_same(recover(store, WORLD, loaded_ns=0), whole(path))
    assert "not the code that runs" in told.text


def test_at_the_end_it_is_brought_up_to_date_if_worth_it(
    tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"

    def ended() -> int:
        refresh(path, bot="ArbHunter", mode="paper", loaded_ns=time.time_ns())
        head = snapshot.read_head(snapshot_path(path))
        return head.seq if head is not None else 0

    assert ended() == 0, "there is no journal yet"
    written(path, 1, 5)
    assert ended() == 0
    written(path, 6, 5)
    assert ended() == 10
    written(path, 11, 5)
    assert ended() == 10
    monkeypatch.setattr(snapshots, "MOST_AT_THE_END", 5)
    written(path, 16, 5)
    assert ended() == 10, "too much for an end; the next start does it"
    monkeypatch.setattr(snapshots, "MOST_AT_THE_END", 19)
    monkeypatch.setattr(snapshots, "_FOLDING", (portfolio,))
    assert ended() == 10, "nor is all of it folded for what is there but does not fit"
    told.clear()
    refresh(path, bot="ArbHunter", mode="paper", loaded_ns=0)
    assert not told.records, "with other code on the disk nothing is read"
    monkeypatch.undo()
    told.clear()
    refresh(path, bot="Other", mode="paper", loaded_ns=time.time_ns())
    assert "SNAPSHOT not written" in told.text


def test_the_first_time_in_a_journal_needs_no_fold(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as store:
        assert store.began_ns == 0
        store.write([ev.CashDeposited(deposit_id="d", amount=c("1")), *deposits(7, 2)])
        assert store.began_ns == 7


def busy() -> Rig:
    """A rig with an open bundle, an order, a fill in doubt and an operation under way."""
    rig = Rig(universe())
    rig.open_market()
    rig.wish(plan(leg(yes())), order(qty="5"))
    rig.say(filled(orders_of(rig.commands)[0], "5", "0.50"))
    return rig


DURABLE_FIELDS = {
    "portfolio", "orders", "bundles", "trading", "trading_reason", "trading_by", "reconciled",
    "operator", "resolved", "forecasts", "leaders", "now_ns", "decisions", "anomaly", "unsettled",
}  # fmt: skip
FROM_THE_MARKET = {
    "universe", "books", "moment_ns", "last_market_ns", "crossed_frames", "rejected_frames",
    "_handlers",
}  # fmt: skip


def test_every_field_of_a_state_is_in_the_image_or_known_not_to_be_durable() -> None:
    """A new field of the fold must be put into the image, or named here as not durable."""
    state = busy().state
    assert set(vars(state)) == DURABLE_FIELDS | FROM_THE_MARKET
    image = image_of(state)
    assert set(image.__struct_fields__) == DURABLE_FIELDS
    held = {name.lstrip("_") for name in state.portfolio.__slots__}
    assert held == set(image.portfolio.__struct_fields__)
    assert {name.lstrip("_") for name in state.orders.__slots__} == set(
        image.orders.__struct_fields__
    )
    # The newest bundle of each idea follows from the bundles.
    assert {name.lstrip("_") for name in state.bundles.__slots__} - {"newest"} | {"loose"} == set(
        image.bundles.__struct_fields__
    )
    assert image.unsettled
    assert OperationKind.MERGE in {b.plan.finish for b in image.bundles.bundles}
