"""Recorded leaderboards: do those on top go on winning, and would their margin pay a copier?

A board shows profit and volume since its window opened (a calendar month or week), for whoever is
on it. Two snapshots of one wallet within one window differ by what it won and traded in between;
when the volume fell, a window was closed and nothing is known of the step. Selection sees only
snapshots up to the split; a wallet that left the board afterwards is unknown, not a loss, and is
counted as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from fleet.clock import NS_PER_SECOND
from fleet.research.leader_records import RecordingError, read_table
from fleet.research.leader_statistics import (
    SEED,
    Interval,
    cluster_interval,
    permutation_p,
    spearman,
)

BOARDS_FOLDER: Final = "tsl_leaderboards"
BOARDS_FILE: Final = "leaderboard_snapshots_6h.parquet"
_COLUMNS: Final = ("timestamp_utc", "address", "pnl", "vol")
STEP_MAX_NS: Final = 36 * 3_600 * NS_PER_SECOND
"""Snapshots of a wallet further apart than this may have a closed window between them."""
VOLUME_GROWTH_MAX: Final = 1.0
"""A step that more than doubles the volume since the window opened is a change to a longer window:
the recording has weekly and monthly boards in one."""
VOLUME_MIN: Final = 10_000.0
"""Dollars traded in a part below which a return on volume is noise."""
TOP: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What one wallet won and traded in one part, over the steps that can be read; dollars."""

    wallet: str
    pnl: float
    volume: float
    steps: int
    shown_pnl: float
    """The P&L the board showed last in this part: what a list of top wallets is made of."""

    @property
    def margin(self) -> float:
        """Profit a dollar traded."""
        return self.pnl / self.volume if self.volume > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardList:
    """One way to choose wallets on the earlier part and what they did on the later one.

    ``unknown`` were chosen and cannot be followed. ``margin`` is their profit a dollar traded with
    an interval over wallets; None if nobody can be followed.
    """

    name: str
    chosen: int
    unknown: int
    winners: int
    pnl: float
    margin: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardEvaluation:
    """Both parts of a recording of leaderboards. ``persistence`` is the rank correlation of the
    margins of ``pairs`` wallets seen in both parts, ``persistence_p`` its one-sided p-value.
    ``random_margins`` are those of ``draws`` lists drawn from the board of the split.
    """

    start_ns: int
    split_ns: int
    stop_ns: int
    rows: int
    wallets: int
    steps: int
    steps_unusable: int
    lists: tuple[BoardList, ...]
    random_margins: tuple[float, ...]
    persistence: float
    persistence_p: float
    pairs: int
    median_margin: float


def read_boards(folder: Path) -> pl.DataFrame:
    """Snapshots by wallet and time, repeats removed. Raises ``RecordingError``."""
    frame = read_table(folder / BOARDS_FILE, _COLUMNS)
    if frame.is_empty() or not isinstance(frame.schema["timestamp_utc"], pl.Datetime):
        raise RecordingError(f"{folder / BOARDS_FILE} has no snapshot with a time; is it whole?")
    return (
        frame.drop_nulls()
        .with_columns(
            ts_ns=pl.col("timestamp_utc").dt.epoch("ns"),
            address=pl.col("address").str.to_lowercase(),
        )
        .unique(subset=["address", "ts_ns"], keep="first", maintain_order=True)
        .sort("address", "ts_ns")
        .select("address", "ts_ns", "pnl", "vol")
    )


def evaluate_boards(
    folder: Path, *, split_ns: int | None = None, draws: int = 1_000, seed: int = SEED
) -> BoardEvaluation:
    """Choose on the part before the split, follow on the part after it.

    The split is the middle of the recording's time unless one is given. Raises ``RecordingError``
    if it leaves nothing on one side.
    """
    frame = read_boards(folder)
    start, stop = min(frame["ts_ns"].to_list()), max(frame["ts_ns"].to_list())
    split = (start + stop) // 2 if split_ns is None else split_ns
    earlier, bad_before = stretches(frame.filter(pl.col("ts_ns") <= split))
    # The later part begins at each wallet's last snapshot before the split, or its first after it.
    later, bad_after = stretches(_later(frame, split))
    if not start < split < stop or not earlier:
        raise RecordingError(
            f"the split leaves nothing on one side in {folder / BOARDS_FILE};"
            " choose --split within the recording"
        )
    known = {w: s for w, s in later.items() if s.steps and s.volume >= VOLUME_MIN}
    rng = np.random.default_rng(seed)
    board = sorted(earlier)
    size = min(TOP, len(board))
    random = []
    for _ in range(draws):
        drawn = [board[i] for i in rng.choice(len(board), size=size, replace=False)]
        followed = [known[w] for w in drawn if w in known]
        if followed:
            random.append(_margin(followed))
    both = [w for w in board if w in known and earlier[w].volume >= VOLUME_MIN]
    pairs = [earlier[w].margin for w in both], [known[w].margin for w in both]
    margins = sorted(known[w].margin for w in known)
    return BoardEvaluation(
        start_ns=start,
        split_ns=split,
        stop_ns=stop,
        rows=frame.height,
        wallets=len({*earlier, *later}),
        steps=sum(s.steps for s in (*earlier.values(), *later.values())),
        steps_unusable=bad_before + bad_after,
        lists=tuple(_lists(earlier, known)),
        random_margins=tuple(sorted(random)),
        persistence=spearman(*pairs),
        persistence_p=permutation_p(*pairs),
        pairs=len(both),
        median_margin=margins[len(margins) // 2] if margins else 0.0,
    )


def _later(frame: pl.DataFrame, split: int) -> pl.DataFrame:
    last = (
        frame.filter(pl.col("ts_ns") <= split).group_by("address").agg(pl.col("ts_ns").max())
    ).rename({"ts_ns": "from_ns"})
    return (
        frame.join(last, on="address", how="left")
        .filter(pl.col("ts_ns") >= pl.col("from_ns").fill_null(split))
        .filter((pl.col("ts_ns") > split) | (pl.col("ts_ns") == pl.col("from_ns")))
    )


def stretches(frame: pl.DataFrame) -> tuple[dict[str, Stretch], int]:
    """What each wallet did over the steps of ``frame``, and how many steps cannot be read."""
    found: dict[str, Stretch] = {}
    unusable = 0
    for (wallet,), rows in frame.group_by(["address"], maintain_order=True):
        steps = pnl = volume = 0.0
        last: tuple[int, float, float] | None = None
        for ts_ns, shown, vol in rows.select("ts_ns", "pnl", "vol").iter_rows():
            if last is not None:
                if _same_window(last, (ts_ns, shown, vol)):
                    steps += 1
                    pnl += shown - last[1]
                    volume += vol - last[2]
                else:
                    unusable += 1
            last = (ts_ns, shown, vol)
        found[str(wallet)] = Stretch(
            wallet=str(wallet), pnl=pnl, volume=volume, steps=int(steps),
            shown_pnl=last[1] if last else 0.0,
        )  # fmt: skip
    return found, unusable


def _same_window(last: tuple[int, float, float], now: tuple[int, float, float]) -> bool:
    grown = now[2] - last[2]
    return (
        now[0] - last[0] <= STEP_MAX_NS
        and grown >= 0
        and grown <= max(VOLUME_GROWTH_MAX * last[2], VOLUME_MIN)
    )


def _margin(followed: Sequence[Stretch]) -> float:
    volume = sum(s.volume for s in followed)
    return sum(s.pnl for s in followed) / volume if volume else 0.0


def _lists(earlier: Mapping[str, Stretch], known: Mapping[str, Stretch]) -> list[BoardList]:
    by_shown = sorted(earlier.values(), key=lambda s: (-s.shown_pnl, s.wallet))[:TOP]
    traded = [s for s in earlier.values() if s.steps and s.volume >= VOLUME_MIN]
    by_won = sorted(traded, key=lambda s: (-s.pnl, s.wallet))[:TOP]
    by_margin = sorted(traded, key=lambda s: (-s.margin, s.wallet))[:TOP]
    return [
        _list(f"top {TOP} by the P&L the board showed", by_shown, known),
        _list(f"top {TOP} by what they won in the earlier part", by_won, known),
        _list(f"top {TOP} by margin in the earlier part", by_margin, known),
        _list("all who won in the earlier part", [s for s in traded if s.pnl > 0], known),
        _list("everybody on the boards", list(earlier.values()), known),
    ]


def _list(name: str, chosen: Sequence[Stretch], known: Mapping[str, Stretch]) -> BoardList:
    followed = [known[s.wallet] for s in chosen if s.wallet in known]
    return BoardList(
        name=name,
        chosen=len(chosen),
        unknown=len(chosen) - len(followed),
        winners=sum(s.pnl > 0 for s in followed),
        pnl=sum(s.pnl for s in followed),
        margin=cluster_interval(
            [s.wallet for s in followed],
            [s.volume for s in followed],
            [s.pnl for s in followed],
        ),
    )
