"""Episodes of a priced set: how long a mispricing stood, and what taking it would have paid.

Pure integer accounting over the polls of one set in time order; money at 1e-8, time in seconds.
A poll is a look at all legs at once, so between two polls nothing is known: an episode's length is
given as seen (first to last poll) with the neighbours as the bound, and an outage or an unusable
poll ends an episode as *unknown*, never as closed, and never adds to its length.

Must not decide which sets may be traded (``set_structure`` and ``sets`` do) and must not look at a
later poll except for the one-poll delay, at the pay-off, and at how an episode ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fleet.domain.units import SCALE

YEAR_S: Final = 365 * 86_400
SETTLEMENT_FLOOR_S: Final = 86_400
"""Capital is never counted as locked for less than a day: settlement and pay-out are not instant,
and a yearly return over minutes means nothing."""


class Trade(Enum):
    """The two ways to take a mispriced set."""

    BUY_ALL_YES = "buy every YES"
    BUY_ALL_NO = "buy every NO"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPoll:
    """One look at a set for one trade, one share a leg.

    ``usable`` says that all prices the trade needs were there at one moment; ``judged`` that the
    live rules allowed the set then. ``edge`` is the least pay-off minus ``outlay`` (cost and
    ``fee``), ``payout`` what the legs really paid, ``None`` if the recording does not say.
    """

    ts_s: int
    usable: bool
    judged: bool
    edge: int
    fee: int
    outlay: int
    payout: int | None


class Ended(Enum):
    """How an episode ended."""

    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Consecutive polls at which one trade of one set was open.

    ``bound_s`` is the length up to the neighbouring polls, ``None`` if either side is unknown.
    ``delayed`` is the next poll, whatever its edge; ``None`` if the trade could not be priced then.
    ``locked_s`` runs from the first poll to the last quote of the set: resolution comes later, so
    it is a lower bound and any yearly return from it an upper one.
    """

    set_id: str
    trade: Trade
    proven: bool
    polls: int
    seen_s: int
    bound_s: int | None
    ended: Ended
    edge_max: int
    first: SetPoll
    delayed: SetPoll | None
    locked_s: int

    @property
    def yearly_expected(self) -> int:
        """The first poll's edge as a simple yearly return of its outlay, at 1e-8."""
        return self.first.edge * YEAR_S * SCALE // (self.first.outlay * self.locked_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a list of takings paid, in sums over one share a leg each.

    ``locked`` is the sum of outlay x seconds, for the yearly return of the capital.
    """

    takings: int
    sets: int
    outlay: int
    profit: int
    losses: int
    edge_expected: int
    locked: int
    unknown: int

    @property
    def yearly_return(self) -> int | None:
        """Simple yearly return of the locked capital at 1e-8, rounded down; ``None`` if none."""
        return self.profit * YEAR_S * SCALE // self.locked if self.locked else None


def find_episodes(
    polls: Sequence[SetPoll],
    *,
    set_id: str,
    trade: Trade,
    proven: bool,
    min_edge: int,
    gap_s: int,
    end_s: int,
) -> list[Episode]:
    """Group the open polls of one set into episodes.

    ``polls`` are in time order; two polls more than ``gap_s`` apart are separated by an outage.
    A poll is open if usable, judged, and its edge is above zero and at least ``min_edge``.
    ``end_s`` is the time of the set's last quote.
    """

    def is_open(poll: SetPoll) -> bool:
        return poll.usable and poll.judged and _has_edge(poll, min_edge)

    found: list[Episode] = []
    start = 0
    while start < len(polls):
        if not is_open(polls[start]):
            start += 1
            continue
        stop = start + 1
        while (
            stop < len(polls)
            and is_open(polls[stop])
            and polls[stop].ts_s - polls[stop - 1].ts_s <= gap_s
        ):
            stop += 1
        before = _edge_gone(polls, start - 1, polls[start].ts_s, min_edge, gap_s)
        after = _edge_gone(polls, stop, polls[stop - 1].ts_s, min_edge, gap_s)
        found.append(
            Episode(
                set_id=set_id,
                trade=trade,
                proven=proven,
                polls=stop - start,
                seen_s=polls[stop - 1].ts_s - polls[start].ts_s,
                bound_s=None if before is None or after is None else after - before,
                ended=Ended.UNKNOWN if after is None else Ended.CLOSED,
                edge_max=max(poll.edge for poll in polls[start:stop]),
                first=polls[start],
                delayed=_delayed(polls, start, gap_s),
                locked_s=max(end_s - polls[start].ts_s, SETTLEMENT_FLOOR_S),
            )
        )
        start = stop
    return found


def _has_edge(poll: SetPoll, min_edge: int) -> bool:
    return poll.edge > 0 and poll.edge >= min_edge


def _edge_gone(
    polls: Sequence[SetPoll], index: int, ts_s: int, min_edge: int, gap_s: int
) -> int | None:
    """The time of a neighbouring poll that shows no edge, with no outage in between."""
    if not 0 <= index < len(polls):
        return None
    poll = polls[index]
    seen = poll.usable and abs(poll.ts_s - ts_s) <= gap_s
    return poll.ts_s if seen and not _has_edge(poll, min_edge) else None


def _delayed(polls: Sequence[SetPoll], start: int, gap_s: int) -> SetPoll | None:
    """The poll after the first of an episode, if the trade could be priced then."""
    if start + 1 >= len(polls):
        return None
    late = polls[start + 1]
    return late if late.usable and late.ts_s - polls[start].ts_s <= gap_s else None


def account(episodes: Iterable[Episode], *, delayed: bool) -> Account:
    """Take every episode once, one share a leg, at its first poll or one poll later.

    A delayed taking pays whatever the next poll asks, also when the edge is gone. Takings whose
    pay-off is not recorded, and delayed ones that could not be priced, are counted in ``unknown``.
    """
    takings = outlay = profit = losses = expected = locked = unknown = 0
    sets: set[str] = set()
    for episode in episodes:
        poll = episode.delayed if delayed else episode.first
        if poll is None or poll.payout is None:
            unknown += 1
            continue
        gain = poll.payout - poll.outlay
        takings += 1
        sets.add(episode.set_id)
        outlay += poll.outlay
        profit += gain
        losses += gain < 0
        expected += poll.edge
        locked += poll.outlay * episode.locked_s
    return Account(
        takings=takings,
        sets=len(sets),
        outlay=outlay,
        profit=profit,
        losses=losses,
        edge_expected=expected,
        locked=locked,
        unknown=unknown,
    )


def first_of_each_set(episodes: Iterable[Episode]) -> list[Episode]:
    """The earliest episode of each set and trade: repeats of one set are not independent."""
    earliest: dict[tuple[str, Trade], Episode] = {}
    for episode in episodes:
        key = (episode.set_id, episode.trade)
        if key not in earliest or episode.first.ts_s < earliest[key].first.ts_s:
            earliest[key] = episode
    return list(earliest.values())


def quantile(values: Sequence[int], share: float) -> int | None:
    """The nearest-rank quantile of ``values`` (an observed value); ``None`` of nothing."""
    if not values:
        return None
    rank = max(1, -(-len(values) * round(share * 100) // 100))
    return sorted(values)[rank - 1]
