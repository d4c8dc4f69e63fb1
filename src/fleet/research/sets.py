"""Evaluate outcome sets on a recording: what looked mispriced, how long, and what holding paid.

Theory of operation. A set passes three sieves, and everything is counted at each:

1. names (``set_structure``, usable live): is the group exclusive, exhaustive, or neither;
2. prices (``set_quotes``, usable live): the trailing median of the sum of mids agrees with
   "exactly one winner"; only polls before the one judged are used;
3. labels (hindsight, data quality): without labels the pay-off is unknown and left out of the
   accounts. The number of winners refuses nothing: a set that passed 1 and 2 and then had no
   winner is a loss that has to be shown.

Buying every YES needs an exhaustive set and an ask on each leg. Buying every NO needs an exclusive
set; legs without a bid are left out, since any subset of an exclusive set keeps the bound.

Nothing is fitted here. The two parts of the recording are reported apart so that a reader who
changes an option by looking at the earlier part can see what the later part says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from fleet.domain.units import SCALE
from fleet.research.set_episodes import Episode, SetPoll, Trade, find_episodes
from fleet.research.set_quotes import JUDGE_POLLS, Recording, SetInfo, read_recording
from fleet.research.set_structure import Standing

DEFAULT_MIN_EDGE: Final = 500_000
"""Half a cent a set, the fleet's default profit threshold."""
DEFAULT_MIN_YEARLY_RETURN: Final = 10_000_000
"""Ten per cent a year on locked capital: a listed market's holding reward pays four for nothing."""

NOT_QUOTED: Final = "NOT_QUOTED"
LEGS_UNQUOTED: Final = "LEGS_UNQUOTED"
PRICES_TOO_FEW: Final = "PRICES_TOO_FEW"
PRICES_ABOVE_ONE: Final = "PRICES_ABOVE_ONE"
PRICES_BELOW_ONE: Final = "PRICES_BELOW_ONE"

REFUSALS: Final = {
    NOT_QUOTED: "no leg has a quote in the asked time (not counted as seen)",
    LEGS_UNQUOTED: "a listed leg never had a quote, so no poll is complete",
    PRICES_TOO_FEW: f"fewer than {JUDGE_POLLS} complete polls with every ask in one stretch",
    PRICES_ABOVE_ONE: "trailing sum of mids never near 1, mostly above: several winners possible,"
    " or spreads too wide to tell",
    PRICES_BELOW_ONE: "trailing sum of mids never near 1, mostly below: an outcome is not listed",
}
"""What refuses a whole set besides its names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user may choose, at 1e-8; ``fee_rate`` replaces the rate of every category."""

    min_edge: int = DEFAULT_MIN_EDGE
    min_yearly_return: int = DEFAULT_MIN_YEARLY_RETURN
    fee_rate: int | None = None
    after: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Polls of one trade and one tier, by what they show.

    ``gross`` and ``net`` have an edge before and after fees, ``taken`` also reaches the least edge;
    ``still`` of those show the very sums of the poll before (nobody moved, or nothing was read).
    """

    polls: int
    sets: int
    gross: int
    net: int
    taken: int
    taken_sets: int
    still: int


TIERS: Final = ("refused", "unjudged", "unproven", "proven")
"""Names refuse the set; the price rule does not hold (yet); prices agree only; names prove it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All numbers of one run; ``set_report`` turns them into text, JSON and a verdict.

    ``refusals`` maps a set's id to its code, ``moments`` is keyed by trade and tier, ``partial``
    counts polls that look below 1 after fees only because a leg is missing from them.
    """

    folder: str
    options: Options
    recording: Recording
    refusals: dict[str, str]
    moments: dict[tuple[Trade, str], Moments]
    episodes: tuple[Episode, ...]
    partial: int
    split_s: int


def evaluate_sets(folder: Path, options: Options) -> Evaluation:
    """Read the recording in ``folder`` and evaluate every set in it.

    Raises ``RecordingError`` if the folder does not hold such a recording.
    """
    recording = read_recording(
        folder, after=options.after, until=options.until, fee_rate=options.fee_rate
    )
    tiers = pl.DataFrame(
        [
            {"set": info.index, **{t.name: _standing(info, t).value for t in Trade}}
            for info in recording.sets
        ],
        schema={"set": pl.UInt32} | {t.name: pl.String for t in Trade},
    )
    polls = recording.polls.join(tiers, on="set", maintain_order="left")
    sums = ("rows", "asks", "bids", "buy_cost", "sell_proceeds")
    same = [(pl.col(name) == pl.col(name).shift(1)).over("set") for name in sums]
    polls = polls.with_columns(
        pl.all_horizontal(same).fill_null(value=False).alias("still"),
        (SCALE - pl.col("buy_cost")).alias("BUY_ALL_YES_gross"),
        (pl.col("sell_proceeds") - SCALE).alias("BUY_ALL_NO_gross"),
    ).with_columns(
        (pl.col("BUY_ALL_YES_gross") - pl.col("buy_fee")).alias("BUY_ALL_YES_net"),
        (pl.col("BUY_ALL_NO_gross") - pl.col("sell_fee")).alias("BUY_ALL_NO_net"),
    )
    looks_whole = (pl.col("rows") >= 2) & (pl.col("asks") == pl.col("rows")) & ~pl.col("complete")
    named = pl.col(Trade.BUY_ALL_YES.name) != Standing.REFUSED.value
    partial = polls.filter(looks_whole & named & (pl.col("BUY_ALL_YES_net") > 0)).height
    return Evaluation(
        folder=str(folder),
        options=options,
        recording=recording,
        refusals=_refusals(recording),
        moments={
            (trade, tier): _count(polls, trade, tier, options.min_edge)
            for trade in Trade
            for tier in TIERS
        },
        episodes=tuple(_episodes(polls, recording, options)),
        partial=partial,
        split_s=(recording.start_s + recording.stop_s) // 2,
    )


def _standing(info: SetInfo, trade: Trade) -> Standing:
    """Whether names allow ``trade`` on the set."""
    structure = info.structure
    return structure.exhaustive if trade is Trade.BUY_ALL_YES else structure.exclusive


def _usable(trade: Trade) -> pl.Expr:
    return pl.col("buyable" if trade is Trade.BUY_ALL_YES else "sellable")


def _count(polls: pl.DataFrame, trade: Trade, tier: str, min_edge: int) -> Moments:
    standing = pl.col(trade.name)
    allowed = standing != Standing.REFUSED.value
    within = {
        "refused": ~allowed,
        "unjudged": allowed & ~pl.col("judged"),
        "unproven": (standing == Standing.UNPROVEN.value) & pl.col("judged"),
        "proven": (standing == Standing.PROVEN.value) & pl.col("judged"),
    }[tier]
    seen = polls.filter(_usable(trade) & within)
    net = pl.col(f"{trade.name}_net")
    taken = seen.filter((net > 0) & (net >= min_edge))
    return Moments(
        polls=seen.height,
        sets=seen["set"].n_unique(),
        gross=seen.filter(pl.col(f"{trade.name}_gross") > 0).height,
        net=seen.filter(net > 0).height,
        taken=taken.height,
        taken_sets=taken["set"].n_unique(),
        still=taken.filter("still").height,
    )


def _refusals(recording: Recording) -> dict[str, str]:
    """The code of every set that is never allowed for either trade, by the first rule it fails."""
    by_set = {
        key[0]: frame for key, frame in recording.polls.partition_by("set", as_dict=True).items()
    }
    found: dict[str, str] = {}
    for info in recording.sets:
        polls = by_set.get(info.index)
        if polls is None:
            found[info.set_id] = NOT_QUOTED
        elif info.structure.exclusive is info.structure.exhaustive is Standing.REFUSED:
            found[info.set_id] = info.structure.form.value
        elif info.quoted_legs < info.legs:
            found[info.set_id] = LEGS_UNQUOTED
        elif not polls["judged"].any():
            middle = polls["trail"].median()
            if not isinstance(middle, float):
                found[info.set_id] = PRICES_TOO_FEW
            else:
                found[info.set_id] = PRICES_ABOVE_ONE if middle > SCALE else PRICES_BELOW_ONE
    return found


def _episodes(polls: pl.DataFrame, recording: Recording, options: Options) -> Iterator[Episode]:
    by_set = polls.partition_by("set", as_dict=True)
    for info in recording.sets:
        frame = by_set.get((info.index,))
        if frame is None:
            continue
        for trade in Trade:
            standing = _standing(info, trade)
            if standing is Standing.REFUSED:
                continue
            yield from find_episodes(
                _set_polls(frame, info, trade),
                set_id=info.set_id,
                trade=trade,
                proven=standing is Standing.PROVEN,
                min_edge=options.min_edge,
                gap_s=recording.gap_s,
                end_s=info.end_s,
            )


def _set_polls(frame: pl.DataFrame, info: SetInfo, trade: Trade) -> list[SetPoll]:
    """The polls of one set as one trade sees them: cost, fee and pay-off of one share a leg."""
    if trade is Trade.BUY_ALL_YES:
        columns = frame.select(
            "ts_s",
            "buyable",
            "judged",
            "BUY_ALL_YES_net",
            fee="buy_fee",
            outlay=pl.col("buy_cost") + pl.col("buy_fee"),
            payout=pl.lit(info.payout),
        )
    else:
        shares = pl.col("bids").cast(pl.Int64) * SCALE
        columns = frame.select(
            "ts_s",
            "sellable",
            "judged",
            "BUY_ALL_NO_net",
            fee="sell_fee",
            outlay=shares - pl.col("sell_proceeds") + pl.col("sell_fee"),
            payout=shares - pl.col("bid_winners"),
        )
    known = info.payoff_known
    return [
        SetPoll(
            ts_s=ts_s,
            usable=usable,
            judged=judged,
            edge=edge,
            fee=fee,
            outlay=outlay,
            payout=payout if known else None,
        )
        for ts_s, usable, judged, edge, fee, outlay, payout in columns.iter_rows()
    ]


def winners_by_count(recording: Recording) -> dict[int, int]:
    """How many seen sets have how many labelled winners: picking sets by winner shows here."""
    seen = set(recording.polls["set"].unique().to_list())
    return dict(sorted(Counter(s.winners for s in recording.sets if s.index in seen).items()))
