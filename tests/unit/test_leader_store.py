"""The watch list: it remembers everything, can be asked for any instant, and is not another's."""

import sqlite3
from pathlib import Path

import pytest

from fleet.journal.database import JournalError, JournalForeign
from fleet.journal.leaders import SCORE_VALID_NS, Leader, LeaderStore, ScoreRecord, leaders_file

A, B, C = (f"0x{'abc'[n] * 40}" for n in range(3))


def record(wallet: str, at: int, *, copied: bool, p: float | None = 0.01) -> ScoreRecord:
    return ScoreRecord(
        wallet=wallet, scored_ns=at, as_of_ns=at, copied=copied,
        verdict="copied: yes" if copied else "watched: no", p_value=p, body='{"n": 1}',
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> LeaderStore:
    return LeaderStore(tmp_path / "leaders.sqlite", feed="sandbox")


def test_a_wallet_is_copied_only_on_a_score_that_passed(store: LeaderStore) -> None:
    store.record([record(A, 10, copied=True), record(B, 10, copied=False)])
    for wallet in (A, B, C):
        assert store.watch(wallet, 11, "me")
    found = {leader.wallet: leader for leader in store.followed(20)}
    assert [found[w].status for w in (A, B, C)] == ["copied", "watched", "watched"]
    assert found[C] == Leader.unscored(C)
    assert found[A].score_json == '{"n": 1}'


def test_the_list_is_asked_for_any_instant(store: LeaderStore) -> None:
    store.watch(A, 10, "me")
    store.record([record(A, 12, copied=True)])
    store.record([record(A, 14, copied=False)])
    store.drop(A, 16, "me")
    store.watch(A, 18, "me")
    seen = [[(one.status) for one in store.followed(at)] for at in (9, 11, 12, 13, 14, 15, 16, 18)]
    assert seen == [[], ["watched"], ["copied"], ["copied"], ["watched"], ["watched"], [],
                    ["watched"]]  # fmt: skip


def test_an_old_score_copies_nobody(store: LeaderStore) -> None:
    store.watch(A, 1, "me")
    store.record([record(A, 1, copied=True)])
    assert store.followed(1 + SCORE_VALID_NS)[0].status == "copied"
    (old,) = store.followed(2 + SCORE_VALID_NS)
    assert old.status == "watched"
    assert "too old" in old.verdict


def test_the_manual_list_is_added_and_judged_alike(store: LeaderStore) -> None:
    store.record([record(B, 5, copied=True)])
    store.watch(A, 1, "me")
    assert [(x.wallet, x.status) for x in store.followed(6, (B, A, C))] == [
        (A, "watched"), (B, "copied"), (C, "watched"),
    ]  # fmt: skip


def test_watching_twice_and_dropping_nobody_change_nothing(store: LeaderStore) -> None:
    assert store.watch(A, 1, "me")
    assert not store.watch(A, 2, "me")
    assert not store.drop(B, 3, "me")
    assert store.drop(A, 4, "me")
    assert not store.drop(A, 5, "me")
    assert store.rows("SELECT count(*) FROM listing") == [(2,)]


def test_history_cannot_be_changed(store: LeaderStore) -> None:
    store.watch(A, 1, "me")
    store.record([record(A, 1, copied=True)])
    for statement in (
        "DELETE FROM score", "UPDATE score SET copied = 0", "DELETE FROM listing",
        "UPDATE listing SET listed = 0",
    ):  # fmt: skip
        with pytest.raises(sqlite3.DatabaseError, match="never"):
            store.db.execute(statement)


def test_scores_made_together_are_kept_together(store: LeaderStore) -> None:
    odd = record(B, 2, copied=False)
    with pytest.raises((JournalError, sqlite3.Error, AttributeError, TypeError)):
        store.record([record(A, 2, copied=True), ScoreRecord(**{
            name: getattr(odd, name) for name in odd.__slots__ if name != "body"
        }, body=None)])  # type: ignore[arg-type]  # fmt: skip
    assert store.latest(99) == {}


def test_another_process_reads_while_one_writes(store: LeaderStore) -> None:
    store.watch(A, 1, "me")
    with LeaderStore(store.path, feed="sandbox", read_only=True) as reader:
        assert [leader.wallet for leader in reader.followed(2)] == [A]
        store.watch(B, 3, "me")
        assert [leader.wallet for leader in reader.followed(4)] == [A, B]


def test_a_real_markets_list_is_another_file(tmp_path: Path, store: LeaderStore) -> None:
    assert leaders_file(tmp_path, "sandbox").name == "leaders.sqlite"
    assert leaders_file(tmp_path, "polymarket").name == "leaders-polymarket.sqlite"
    with pytest.raises(JournalForeign):
        LeaderStore(store.path, feed="polymarket")
