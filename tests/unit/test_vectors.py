"""The mapped matrix and the exact search over it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.forecasting import vectors
from fleet.forecasting.port import MemoryFailed
from fleet.forecasting.vectors import HEADER_BYTES, Matrix, checksum, nearest, unit_rows


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.standard_normal((count, dim))
    return unit_rows(rows, count=count, dim=dim, who="test")


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 70),
    top=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    copies=st.booleans(),
)
def test_nearest_is_sorting_everything(
    seed: int, count: int, top: int, share: float, copies: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = unit(rng, count, 8)
    if copies and count:
        rows = rows[rng.integers(0, max(1, count // 4), count)]
    query = unit(rng, 1, 8)[0]
    eligible = rng.random(count) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "CHUNK_ROWS", 16)
        slots, similarities = nearest(rows, query, eligible, top)
        with ThreadPoolExecutor(1) as helper:
            again, same = nearest(rows, query, eligible, top, helper)
    assert set(again.tolist()) == set(slots.tolist())
    assert same.tolist() == similarities.tolist()
    truth = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    best = sorted(truth[eligible], reverse=True)[:top]
    assert similarities[: len(best)].tolist() == best
    # All the ties of the last are there, so that the caller may choose among them by id.
    expected = {s for s in np.flatnonzero(eligible) if best and truth[s] >= best[-1]}
    assert set(slots.tolist()) == expected


def test_rows_nearer_than_float32_can_tell_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    query = unit(rng, 1, 384)[0]
    rows = np.repeat(query[None, :], 400, axis=0)
    for place in range(400):
        rows[place, place % 384] = np.nextafter(
            rows[place, place % 384], np.float32(0), dtype=np.float32
        )
    truth = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    slots, _ = nearest(rows, query, np.ones(400, dtype=np.bool_), 3)
    assert truth[slots[:3]].tolist() == sorted(truth, reverse=True)[:3]


def test_rows_are_there_when_written_and_after_opening_again(tmp_path: Path) -> None:
    rows = unit(np.random.default_rng(0), 5, 4)
    matrix = Matrix(tmp_path / "m", name="a", dim=4)
    assert matrix.rows(3).shape == (0, 4)
    matrix.write([0, 1], rows[:2])
    assert (matrix.rows(2) == rows[:2]).all()
    matrix.write([4, 2], rows[[4, 2]])
    assert (matrix.rows(5)[[0, 1, 2, 4]] == rows[[0, 1, 2, 4]]).all()
    assert not matrix.rows(5)[3].any()
    assert matrix.rows(5).flags.writeable is False
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o600
    matrix.close()
    assert (Matrix(tmp_path / "m", name="a", dim=4).rows(5)[4] == rows[4]).all()


@pytest.mark.parametrize("damage", ["cut", "gone", "foreign", "header"])
def test_what_is_not_ours_or_not_there_is_no_row(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m"
    rows = unit(np.random.default_rng(0), 5, 4)
    matrix = Matrix(path, name="a", dim=4)
    matrix.write(range(5), rows)
    before = matrix.rows(5)
    match damage:
        case "cut":
            # Another file in its place: cutting the one that is mapped would kill this process.
            (tmp_path / "cut").write_bytes(path.read_bytes()[: HEADER_BYTES + 3 * 16 + 7])
            (tmp_path / "cut").replace(path)
            assert len(matrix.rows(5)) == 3
        case "gone":
            path.unlink()
            assert len(matrix.rows(5)) == 0
        case "foreign":
            matrix = Matrix(path, name="b", dim=4)
            assert len(matrix.rows(5)) == 0
        case "header":
            (tmp_path / "cut").write_bytes(b"\0" * HEADER_BYTES + path.read_bytes()[HEADER_BYTES:])
            (tmp_path / "cut").replace(path)
            assert len(matrix.rows(5)) == 0
    matrix.write(range(5), rows)
    assert (matrix.rows(5) == rows).all()
    assert (before == rows).all()  # Whoever had the old file mapped keeps it.
    matrix.close()


def test_a_folder_that_refuses_writing_is_told_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(MemoryFailed, match="check the path"):
        Matrix(tmp_path / "no" / "m", name="a", dim=4).write([0], np.zeros((1, 4), np.float32))


def test_a_checksum_sees_every_bit() -> None:
    row = unit(np.random.default_rng(0), 1, 16)[0]
    sums = {checksum(row)}
    for place in range(16):
        other = row.copy()
        other[place] = np.nextafter(other[place], np.float32(9), dtype=np.float32)
        sums.add(checksum(other))
    assert len(sums) == 17


def test_vectors_of_another_shape_or_not_finite_are_refused() -> None:
    with pytest.raises(MemoryFailed, match="POLYAI_EMBEDDING_DIM"):
        unit_rows(np.zeros((2, 3)), count=2, dim=4, who="x")
    with pytest.raises(MemoryFailed, match="not finite"):
        unit_rows(np.full((1, 4), np.nan), count=1, dim=4, who="x")
    made = unit_rows(np.array([[0.0, 0, 0, 0], [3, 0, 4, 0]]), count=2, dim=4, who="x")
    assert made.tolist() == [[0, 0, 0, 0], [np.float32(0.6), 0, np.float32(0.8), 0]]
