"""Nothing is embedded twice, by whomever."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.port import MemoryFailed


class Counting(HashedNgrams):
    """Writes down what it was asked; fails on the word `broken`."""

    def __init__(self, name: str = "counting", record: Path | None = None) -> None:
        self.name = name
        self.asked: list[str] = []
        self.record = record

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if "broken" in texts:
            raise MemoryFailed("no vectors today; try tomorrow")
        self.asked += texts
        if self.record is not None:
            with self.record.open("a") as file:
                file.writelines(f"{text}\n" for text in texts)
        return super().embed(texts)


def test_a_text_is_asked_for_once_and_never_again(tmp_path: Path) -> None:
    inner = Counting()
    cache = CachedEmbedder(inner, tmp_path / "c.db")
    rows = cache.embed(["a b", "c d", "a b", ""])
    assert inner.asked == ["a b", "c d", ""]
    assert (rows == HashedNgrams().embed(["a b", "c d", "a b", ""])).all()
    assert (cache.embed(["c d"])[0] == rows[1]).all()
    cache.close()
    cache.close()
    again = CachedEmbedder(Counting(), tmp_path / "c.db")
    assert (again.embed(["a b", "c d"]) == rows[:2]).all()
    assert (again.hits, again.misses) == (2, 0)
    assert again.totals() == (3, 3)
    assert again.size()[0] == 3
    again.close()
    assert (tmp_path / "c.db").stat().st_mode & 0o777 == 0o600


@settings(max_examples=30)
@given(st.lists(st.lists(st.text(max_size=3), max_size=5), max_size=6))
def test_whatever_is_asked_the_answer_is_the_embedders_own(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[str]]
) -> None:
    inner = Counting()
    cache = CachedEmbedder(inner, tmp_path_factory.mktemp("cache") / "c.db")
    for texts in calls:
        assert (cache.embed(texts) == HashedNgrams().embed(texts)).all()
    assert sorted(inner.asked) == sorted({text for texts in calls for text in texts})
    cache.close()


def test_names_are_kept_apart(tmp_path: Path) -> None:
    first = CachedEmbedder(Counting("one"), tmp_path / "c.db")
    other = CachedEmbedder(Counting("two"), tmp_path / "c.db")
    first.embed(["x"])
    other.embed(["x"])
    assert (first.misses, other.misses) == (1, 1)
    first.close()
    other.close()


def _work(path: Path, record: Path, number: int) -> None:
    cache = CachedEmbedder(Counting(record=record), path)
    for start in range(0, 60, 10):
        cache.embed([f"text {(n + number) % 60}" for n in range(start, start + 20)])
    cache.close()


def test_processes_and_threads_share_it(tmp_path: Path) -> None:
    path, record = tmp_path / "c.db", tmp_path / "asked"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(path, record, n * 7)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    asked = record.read_text().splitlines()
    assert sorted(asked) == sorted({f"text {n}" for n in range(60)})
    inner = Counting()
    cache = CachedEmbedder(inner, path)
    threads = [
        threading.Thread(target=cache.embed, args=([f"new {n}" for n in range(30)],))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(inner.asked) == 30
    assert cache.totals()[1] == 90
    cache.close()


def test_what_was_embedded_before_a_failure_is_kept(tmp_path: Path) -> None:
    inner = Counting()
    cache = CachedEmbedder(inner, tmp_path / "c.db")
    texts = [f"text {n}" for n in range(300)]
    with pytest.raises(MemoryFailed, match="try tomorrow"):
        cache.embed([*texts, "broken"])
    kept = len(inner.asked)
    assert kept == 256
    cache.embed(texts)
    assert len(inner.asked) == 300
    cache.close()


def test_a_damaged_cache_says_that_it_may_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    cache = CachedEmbedder(Counting(), path)
    cache.embed([f"text {n}" for n in range(200)])
    cache.close()
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(MemoryFailed, match="remove it"):
        CachedEmbedder(Counting(), path)


def test_a_vector_of_another_length_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    cache = CachedEmbedder(Counting(), path)
    cache.embed(["x"])
    cache.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE embedding SET vector = x'00'")
    db.close()
    cache = CachedEmbedder(Counting(), path)
    assert (cache.embed(["x"]) == HashedNgrams().embed(["x"])).all()
    cache.close()


def test_a_path_that_is_no_file_is_told_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "c.db").mkdir()
    with pytest.raises(MemoryFailed, match="check the name"):
        CachedEmbedder(Counting(), tmp_path / "c.db")


def test_a_process_that_holds_the_lock_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.forecasting.embedding_cache.LOCK_WAIT_S", 0.05)
    first = CachedEmbedder(Counting(), tmp_path / "c.db")
    other = CachedEmbedder(Counting(), tmp_path / "c.db")
    with first._alone(), pytest.raises(MemoryFailed, match="fuser"):
        other.embed(["x"])
    assert other.embed(["x"]).any()
    first.close()
    other.close()
