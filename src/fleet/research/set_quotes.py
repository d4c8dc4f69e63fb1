"""Read a recording of outcome sets and price every poll of every set, in integers.

Input is a folder with the best quotes of all legs polled together and a table of the legs with
their outcomes. Output is one row a set and poll: what buying every YES and buying every NO would
cost, the fees, and whether the poll can be used at all.

Invariants: quotes become integers at 1e-8 once, on reading; fees come from
``fleet.domain.instruments.FeeSchedule``; a leg without a row, a missing price or a leg crossed
with itself makes a poll unusable, never zero. Must not look at an outcome to judge a price.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from fleet.domain.instruments import FeeSchedule
from fleet.domain.units import SCALE, Price, Qty
from fleet.research.set_structure import Standing, Structure, judge_structure

QUOTES_FILE: Final = "multileg_quotes.parquet"
LEGS_FILE: Final = "multileg_legs.csv"

# Taker fee rates by category at 1e-8 (Polymarket fee page, read Oct-Nov 2026). "climate" is this
# recording's word for weather.
FEE_RATES: Final = {
    "crypto": 7_000_000,
    "sports": 5_000_000,
    "finance": 4_000_000,
    "politics": 4_000_000,
    "mentions": 4_000_000,
    "tech": 4_000_000,
    "economics": 5_000_000,
    "culture": 5_000_000,
    "weather": 5_000_000,
    "climate": 5_000_000,
    "other": 5_000_000,
    "geopolitics": 0,
}
UNKNOWN_FEE_RATE: Final = max(FEE_RATES.values())
"""A category nobody listed pays the highest known rate: unknown is not free."""

JUDGE_POLLS: Final = 30
"""Polls (about an hour) whose median sum of mids must agree with "exactly one winner"."""
PRICE_BAND: Final = 15 * SCALE // 100
"""How far that median may lie from 1. A group with one more likely winner, or without one likely
outcome, is further off; a complete set with usual spreads is not."""
GAP_SPACINGS: Final = 2.5
"""Polls further apart than this many usual spacings have an outage between them."""

_QUOTE_COLUMNS: Final = ("ts", "slug", "bid", "ask")
_LEG_COLUMNS: Final = ("slug", "prefix", "question", "category", "y", "last_ts")


class RecordingError(ValueError):
    """The folder is not a recording of outcome sets, or holds nothing in the asked time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetInfo:
    """One group of legs: what is known of it beside its quotes.

    ``winners``, ``unlabelled`` and ``payout`` (what one YES share of every leg paid, at 1e-8) are
    hindsight. ``end_s`` is the last quote of any leg, from the
    leg table too, which may reach past the quotes read.
    """

    index: int
    set_id: str
    question: str
    category: str
    legs: int
    quoted_legs: int
    structure: Structure
    fee_rate: int
    winners: int
    unlabelled: int
    payout: int
    end_s: int

    @property
    def payoff_known(self) -> bool:
        """Whether the labels tell the pay-off: all of them, or the one winner of a proven set."""
        alone = self.structure.exclusive is Standing.PROVEN and self.winners == 1
        return self.unlabelled == 0 or alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The sets and their priced polls, ordered by set and time.

    ``polls`` has: set, ts_s, rows, complete, crossed, buyable, sellable, buy_cost, buy_fee,
    sell_proceeds, sell_fee, bids, bid_winners (1e-8), trail (trailing median of the sum of mids at
    1e-8, null if fewer than ``JUDGE_POLLS`` were seen since the last outage), judged.
    """

    sets: tuple[SetInfo, ...]
    polls: pl.DataFrame
    quotes: int
    start_s: int
    stop_s: int
    spacing_s: int
    gap_s: int
    outages: int


def read_recording(
    folder: Path,
    *,
    after: datetime | None = None,
    until: datetime | None = None,
    fee_rate: int | None = None,
) -> Recording:
    """Read ``folder`` and price every poll from ``after`` (included) to ``until`` (excluded).

    Both are aware times; quotes are UTC. ``fee_rate`` at 1e-8 replaces the rate of every category.
    Raises ``RecordingError`` if the folder or its files are not as expected, or nothing is left.
    """
    legs = _read_legs(folder)
    window = pl.lit(value=True)
    if after is not None:
        window &= pl.col("ts").dt.epoch("ms") >= int(after.timestamp() * 1_000)
    if until is not None:
        window &= pl.col("ts").dt.epoch("ms") < int(until.timestamp() * 1_000)
    quotes = _read_quotes(folder, legs, window)
    if quotes.is_empty():
        raise RecordingError(
            f"no quote of a listed leg in {folder / QUOTES_FILE} in the asked time;"
            " widen --after/--until, or check that both files belong together"
        )
    times = quotes.select(pl.col("ts_s").unique().sort()).to_series()
    steps = times.diff().drop_nulls()
    spacing = int(steps.quantile(0.5, interpolation="nearest") or 0) if len(steps) else 0
    gap = int(spacing * GAP_SPACINGS)
    sets = _describe_sets(legs, quotes, fee_rate)
    polls = _judge(_price_polls(_with_fees(quotes, sets), sets), gap)
    return Recording(
        sets=sets,
        polls=polls,
        quotes=quotes.height,
        start_s=int(times[0]),
        stop_s=int(times[-1]),
        spacing_s=spacing,
        gap_s=gap,
        outages=int((steps > gap).sum()),
    )


def _path(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise RecordingError(
            f"{folder} holds no {name}; expected a folder with {QUOTES_FILE}"
            f" ({', '.join(_QUOTE_COLUMNS)}) and {LEGS_FILE} ({', '.join(_LEG_COLUMNS)}),"
            " such as $FLEET_DATA/orderbook/dinesh_us_quotes"
        )
    return folder / name


def _check_columns(frame: pl.DataFrame, wanted: tuple[str, ...], path: Path) -> None:
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise RecordingError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(frame.columns)}"
        )


def _read_legs(folder: Path) -> pl.DataFrame:
    """Legs with ``leg`` and ``set`` (indices by first appearance), ``y_e8`` and ``last_s``."""
    path = _path(folder, LEGS_FILE)
    try:
        legs = pl.read_csv(path, infer_schema_length=None)
        _check_columns(legs, _LEG_COLUMNS, path)
        legs = legs.with_columns(
            category=pl.col("category").cast(pl.String).fill_null("").str.to_lowercase(),
            question=pl.col("question").cast(pl.String).fill_null(""),
            y_e8=(pl.col("y").cast(pl.Float64) * SCALE).round().cast(pl.Int64),
            last_s=pl.col("last_ts").cast(pl.String).str.to_datetime(strict=False).dt.epoch("s"),
        )
    except pl.exceptions.PolarsError as error:
        raise RecordingError(f"{path} is not the expected table of legs: {error}") from error
    if legs["slug"].n_unique() != legs.height:
        raise RecordingError(f"{path} lists a slug twice")
    if legs.filter(~pl.col("y_e8").is_between(0, SCALE)).height:
        raise RecordingError(f"{path} has an outcome y outside 0..1")
    order = legs.select(pl.col("prefix").unique(maintain_order=True)).with_row_index("set")
    return legs.with_row_index("leg").join(order, on="prefix", maintain_order="left")


def _read_quotes(folder: Path, legs: pl.DataFrame, window: pl.Expr) -> pl.DataFrame:
    """Quotes of listed legs in ``window``: ts_s, leg, set, y_e8, bid and ask as integers at 1e-8.

    A bid of 0, an ask of 1 and anything outside (0, 1) is no quote.
    """
    path = _path(folder, QUOTES_FILE)
    known = legs.lazy().select("slug", "leg", "set", "y_e8")
    try:
        _check_columns(pl.read_parquet(path, n_rows=0), _QUOTE_COLUMNS, path)

        def units(name: str) -> pl.Expr:
            value = (pl.col(name).cast(pl.Float64).fill_nan(None) * SCALE).round()
            inside = (value > 0) & (value < SCALE)
            return pl.when(inside).then(value.cast(pl.Int64, strict=False)).alias(name)

        ts_s = pl.col("ts").dt.epoch("s").alias("ts_s")
        rows = pl.scan_parquet(path).filter(window).join(known, on="slug")
        wanted = rows.select(ts_s, "leg", "set", "y_e8", units("bid"), units("ask"))
        quotes = wanted.collect(engine="streaming").sort("set", "ts_s", "leg")
    except pl.exceptions.PolarsError as error:
        raise RecordingError(f"{path} is not the expected table of quotes: {error}") from error
    # A leg named twice in one poll: one quote stays, or its set would seem to have a leg too many.
    same = [pl.col(name) == pl.col(name).shift(1) for name in ("set", "ts_s", "leg")]
    return quotes.filter(~pl.all_horizontal(same).fill_null(value=False))


def _with_fees(quotes: pl.DataFrame, sets: tuple[SetInfo, ...]) -> pl.LazyFrame:
    """Add the taker fee of one share at ask and at bid, by the domain's own fee schedule."""
    rates = pl.DataFrame(
        {"set": [s.index for s in sets], "rate": [s.fee_rate for s in sets]},
        schema={"set": pl.UInt32, "rate": pl.Int64},
    )
    rated = quotes.lazy().join(rates.lazy(), on="set")
    sides = [rated.select("rate", pl.col(side).alias("price")).unique() for side in ("ask", "bid")]
    table = pl.concat(sides).drop_nulls().unique().collect(engine="streaming")
    fees = [
        FeeSchedule(rate=rate).fee(Price(price), Qty(SCALE)) for rate, price in table.iter_rows()
    ]
    table = table.with_columns(pl.Series("fee", fees, dtype=pl.Int64))
    for side in ("ask", "bid"):
        renamed = table.lazy().rename({"price": side, "fee": f"{side}_fee"})
        rated = rated.join(renamed, on=["rate", side], how="left")
    return rated


def _price_polls(quotes: pl.LazyFrame, sets: tuple[SetInfo, ...]) -> pl.DataFrame:
    """One row a set and poll: sums over its legs, and what the poll may be used for."""
    sizes = pl.DataFrame(
        {"set": [s.index for s in sets], "legs": [s.legs for s in sets]},
        schema={"set": pl.UInt32, "legs": pl.UInt32},
    )
    bid_seen = pl.col("bid").is_not_null()
    sums = quotes.group_by("set", "ts_s").agg(
        pl.len().alias("rows"),
        pl.col("ask").count().alias("asks"),
        pl.col("bid").count().alias("bids"),
        pl.col("ask").sum().alias("buy_cost"),
        pl.col("ask_fee").sum().alias("buy_fee"),
        pl.col("bid").sum().alias("sell_proceeds"),
        pl.col("bid_fee").sum().alias("sell_fee"),
        pl.col("y_e8").filter(bid_seen).sum().alias("bid_winners"),
        (pl.col("bid") >= pl.col("ask")).fill_null(value=False).any().alias("crossed"),
    )
    complete = pl.col("rows") == pl.col("legs")
    sound = complete & ~pl.col("crossed")
    return (
        sums.collect(engine="streaming")
        .join(sizes, on="set")
        .with_columns(
            complete.alias("complete"),
            (sound & (pl.col("asks") == pl.col("legs"))).alias("buyable"),
            (sound & (pl.col("bids") >= 2)).alias("sellable"),
        )
        .sort("set", "ts_s")
    )


def _judge(polls: pl.DataFrame, gap_s: int) -> pl.DataFrame:
    """Add ``trail`` and ``judged``: the price rule, from polls strictly before each poll.

    An outage starts the count again, so a set is never trusted for how it stood before one.
    """
    gaps = (pl.col("ts_s").diff().over("set") > gap_s).fill_null(value=False)
    polls = polls.with_columns(gaps.cum_sum().over("set").alias("part"))
    mids = (pl.col("buy_cost") + pl.col("sell_proceeds")) / 2
    window = mids.rolling_median(JUDGE_POLLS, min_samples=JUDGE_POLLS)
    trail = polls.filter("buyable").select(
        "set", "ts_s", window.over("set", "part").round().cast(pl.Int64).alias("trail")
    )
    polls = polls.join(trail, on=["set", "ts_s"], how="left", maintain_order="left")
    polls = polls.with_columns(pl.col("trail").forward_fill().shift(1).over("set", "part"))
    near = (pl.col("trail") - SCALE).abs() <= PRICE_BAND
    return polls.with_columns(near.fill_null(value=False).alias("judged"))


def _describe_sets(
    legs: pl.DataFrame, quotes: pl.DataFrame, fee_rate: int | None
) -> tuple[SetInfo, ...]:
    """Every listed group, also those without a quote in the asked time."""
    seen = quotes.group_by("leg").agg(pl.col("ts_s").max().alias("seen_s"))
    rows = legs.join(seen, on="leg", how="left", maintain_order="left")
    found = []
    for index, frame in enumerate(rows.partition_by("set", maintain_order=True)):
        set_id = str(frame["prefix"][0])
        category = str(frame["category"][0])
        ends = [*frame["last_s"].drop_nulls().to_list(), *frame["seen_s"].drop_nulls().to_list()]
        found.append(
            SetInfo(
                index=index,
                set_id=set_id,
                question=str(frame["question"][0]),
                category=category,
                legs=frame.height,
                quoted_legs=frame["seen_s"].count(),
                structure=judge_structure(
                    questions=frame["question"].to_list(),
                    legs=[slug.removeprefix(f"{set_id}-") for slug in frame["slug"]],
                ),
                fee_rate=FEE_RATES.get(category, UNKNOWN_FEE_RATE)
                if fee_rate is None
                else fee_rate,
                winners=int((frame["y_e8"] == SCALE).sum()),
                unlabelled=frame["y_e8"].null_count(),
                payout=int(frame["y_e8"].sum()),
                end_s=max(ends, default=0),
            )
        )
    return tuple(found)
