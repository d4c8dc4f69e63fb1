"""Measure an order flow: what one token's frames say about spread, depth, rates and sizes.

Pure. The same measurement runs over recorded frames and over the simulator's own, so the two can
be compared quantile by quantile (``scripts/fit_sandbox.py``, ``tests/replay/test_sandbox_fit.py``).
Both wire shapes are read: the 2025 one-asset ``changes`` and today's ``price_changes``.

Must not be used on the trading path: it works in floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

GAP_MS: Final = 60_000
"""Longer silences are gaps of the recording, not inter-arrival times."""
MOVE_WINDOW_MS: Final = 10_000

Samples = dict[str, list[float]]

QUANTITIES: Final = (
    "spread",  # dollars, after every message
    "levels",  # price levels on one side
    "touch_size",  # shares at the best price, either side
    "interarrival_ms",  # between price_change messages of one token
    "changes",  # level changes in one price_change message
    "change_size",  # shares, absolute change of a level
    "change_distance",  # dollars from the own side's best; negative improves it
    "trade_size",  # shares missing in the book frame that follows a trade
    "move_10s",  # dollars the mid moved in ten seconds, absolute
)
KINDS: Final = ("add", "remove", "up", "down")


def quantile(samples: Sequence[float], at: float) -> float:
    """The ``at``-quantile (0..1) of *sorted* samples, nearest rank. Raises on an empty sequence."""
    if not samples:
        raise ValueError("no samples")
    return samples[min(len(samples) - 1, int(at * len(samples)))]


@dataclass(slots=True, kw_only=True)
class FlowStats:
    """Samples of one or more tokens' flows; ``add`` one token's frames at a time."""

    samples: Samples = field(default_factory=lambda: {name: [] for name in QUANTITIES})
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    book_frames: int = 0
    change_frames: int = 0

    @property
    def book_share(self) -> float:
        """Share of ``book`` among ``book`` and ``price_change`` frames of a token."""
        return self.book_frames / max(1, self.book_frames + self.change_frames)

    def kind_share(self, kind: str) -> float:
        """Share of level changes that are ``add``, ``remove``, ``up`` or ``down``."""
        return self.kinds[kind] / max(1, sum(self.kinds.values()))

    def quantiles(self, name: str, at: Iterable[float]) -> list[float]:
        """Quantiles of one measured quantity."""
        ordered = sorted(self.samples[name])
        return [quantile(ordered, a) for a in at]

    def add(self, token: str, frames: Iterable[Mapping[str, Any]]) -> None:
        """Fold the ``book`` and ``price_change`` frames of ``token``, in order of time."""
        _TokenFold(self, token).run(frames)


class _TokenFold:
    """Rebuild one token's book and sample it after each message."""

    def __init__(self, stats: FlowStats, token: str) -> None:
        self._stats = stats
        self._token = token
        self._levels: dict[str, dict[float, float]] = {"BUY": {}, "SELL": {}}
        self._last_change_ms: int | None = None
        self._mids: list[tuple[int, float]] = []

    def run(self, frames: Iterable[Mapping[str, Any]]) -> None:
        for frame in frames:
            at_ms = int(frame["timestamp"])
            if frame["event_type"] == "book":
                if frame["asset_id"] != self._token:
                    continue
                self._snapshot(frame)
            elif frame["event_type"] == "price_change":
                changes = self._changes_of(frame)
                if not changes:
                    continue
                self._change(changes, at_ms)
            else:
                continue
            self._sample(at_ms)
        self._sample_moves()

    def _changes_of(self, frame: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        if "price_changes" in frame:
            return [c for c in frame["price_changes"] if c["asset_id"] == self._token]
        return list(frame["changes"]) if frame["asset_id"] == self._token else []

    def _snapshot(self, frame: Mapping[str, Any]) -> None:
        fresh = {
            "BUY": {round(float(x["price"]), 4): float(x["size"]) for x in frame["bids"]},
            "SELL": {round(float(x["price"]), 4): float(x["size"]) for x in frame["asks"]},
        }
        stats = self._stats
        stats.book_frames += 1
        taken = 0.0
        for side, levels in self._levels.items():
            for price, size in levels.items():
                taken += max(0.0, size - fresh[side].get(price, 0.0))
        if taken > 0:
            stats.samples["trade_size"].append(taken)
        self._levels = fresh

    def _change(self, changes: Sequence[Mapping[str, Any]], at_ms: int) -> None:
        stats, samples = self._stats, self._stats.samples
        stats.change_frames += 1
        samples["changes"].append(len(changes))
        if self._last_change_ms is not None and 0 <= at_ms - self._last_change_ms < GAP_MS:
            samples["interarrival_ms"].append(at_ms - self._last_change_ms)
        self._last_change_ms = at_ms
        for change in changes:
            price, size = round(float(change["price"]), 4), float(change["size"])
            levels = self._levels[change["side"]]
            if levels:
                best = max(levels) if change["side"] == "BUY" else min(levels)
                away = best - price if change["side"] == "BUY" else price - best
                samples["change_distance"].append(round(away, 4))
            old = levels.get(price, 0.0)
            samples["change_size"].append(abs(size - old))
            if size == old:
                continue
            kind = "add" if not old else "remove" if not size else "up" if size > old else "down"
            stats.kinds[kind] += 1
            if size:
                levels[price] = size
            else:
                levels.pop(price, None)

    def _sample(self, at_ms: int) -> None:
        bids, asks = self._levels["BUY"], self._levels["SELL"]
        if not bids or not asks:
            return
        samples = self._stats.samples
        bid, ask = max(bids), min(asks)
        samples["spread"].append(round(ask - bid, 4))
        samples["levels"] += [len(bids), len(asks)]
        samples["touch_size"] += [bids[bid], asks[ask]]
        self._mids.append((at_ms, (bid + ask) / 2))

    def _sample_moves(self) -> None:
        """Sample |mid(t + 10 s) - mid(t)| on a grid of ten seconds, leaving gaps out."""
        previous: tuple[int, float] | None = None
        for at_ms, mid in self._mids:
            if previous is None or at_ms - previous[0] > GAP_MS:
                previous = (at_ms, mid)
            elif at_ms - previous[0] >= MOVE_WINDOW_MS:
                self._stats.samples["move_10s"].append(round(abs(mid - previous[1]), 4))
                previous = (at_ms, mid)
