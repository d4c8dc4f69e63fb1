"""Made-up quotes for statistical arbitrage: spreads that come back, and prices that only wander.

Times are seconds, prices floats that are put on the tick grid. Everything is seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleet.domain.instruments import MarketId, Universe
from fleet.domain.units import SCALE, Price
from fleet.research.statarb_quotes import NS, Poll, Quote, QuoteRecording
from fleet.strategies.statarb import StatArbSettings
from tests.builders import market_id, universe

Paths = npt.NDArray[np.float64]

STEP_S = 180
START_S = 10_000 * STEP_S


def reverting_pairs(
    pairs: int, length: int, *, seed: int, life: float = 2.0, width: float = 0.04
) -> Paths:
    """Markets 1 and 2, 3 and 4, ...: the second is the first plus an Ornstein-Uhlenbeck spread."""
    rng = np.random.default_rng(seed)
    keep = 0.5 ** (1 / life)
    paths = np.empty((length, 2 * pairs))
    for one in range(pairs):
        spread = np.empty(length)
        spread[0] = 0.0
        for t in range(1, length):
            spread[t] = keep * spread[t - 1] + rng.normal() * width * math.sqrt(1 - keep * keep)
        paths[:, 2 * one] = wander(1, length, rng=rng, step=0.006)[:, 0]
        paths[:, 2 * one + 1] = paths[:, 2 * one] + spread
    return np.clip(paths, 0.03, 0.97)


def wander(count: int, length: int, *, rng: np.random.Generator, step: float = 0.008) -> Paths:
    """Random walks that turn at 0.2 and 0.8, so that prices stay prices."""
    paths = 0.5 + np.cumsum(rng.normal(size=(length, count)) * step, axis=0)
    folded = np.mod(paths - 0.2, 1.2)
    return 0.2 + np.minimum(folded, 1.2 - folded)


def together(count: int, length: int, *, seed: int) -> Paths:
    """Random walks that share most of their changes, so that they look like pairs and are none."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(length, 1))
    own = rng.normal(size=(length, count))
    paths = 0.5 + np.cumsum((0.8 * shared + 0.6 * own) * 0.006, axis=0)
    return np.clip(paths, 0.03, 0.97)


def recording(
    paths: Paths,
    world: Universe | None = None,
    *,
    half_spread: float = 0.002,
    tick: int = SCALE // 1_000,
    references: Sequence[tuple[tuple[str, int], ...]] = (),
) -> QuoteRecording:
    """One poll a step of ``STEP_S``: every market two-sided around its path."""
    length, count = paths.shape
    known = world or one_event(count)
    ids = list(known.markets)
    grid = SCALE // tick
    bids = np.clip(np.round((paths - half_spread) * grid), 1, grid - 2).astype(np.int64) * tick
    asks = np.clip(np.round((paths + half_spread) * grid), 2, grid - 1).astype(np.int64) * tick
    asks = np.maximum(asks, bids + tick)
    last: dict[MarketId, tuple[int, int]] = {}
    polls = []
    for t in range(length):
        quotes: list[Quote] = [
            (market, Price(int(bids[t, i])), Price(int(asks[t, i]))) for i, market in enumerate(ids)
        ]
        changed = tuple(q for q in quotes if last.get(q[0]) != q[1:])
        last |= {market: (bid, ask) for market, bid, ask in changed}
        told = references[t] if references else ()
        polls.append(Poll(START_S + t * STEP_S, tuple(quotes), changed, (), told))
    return QuoteRecording(
        name="made up", universe=known, polls=polls, outcomes={}, rows=length * count,
        spacing_s=STEP_S, listed=count,
    )  # fmt: skip


def one_event(count: int, *, rate: str = "0", size: int = 2, tick: str = "0.001") -> Universe:
    """Markets of which each ``size`` belong to one event."""
    from dataclasses import replace

    made = universe(count, tick=tick, rate=rate)
    markets = {
        market_id(n): replace(made.markets[market_id(n)], event_id=f"e{(n - 1) // size}")
        for n in range(1, count + 1)
    }
    return Universe(instruments=made.instruments, markets=markets)


def quick(**changes: object) -> StatArbSettings:
    """Settings for made-up quotes: one step a poll, everything may stake."""
    from dataclasses import replace

    base = StatArbSettings(
        step_ns=STEP_S * NS, scan_ns=STEP_S * NS, refit_ns=10 * STEP_S * NS, stake_unproven=True
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # the caller's words are fields
