"""How far the chain was read, and what of it is kept for the next process.

Facts reach the journal a moment after they were told, so a process that dies in between must tell
them again. Therefore the safe block written down is one that was safe ``SETTLE_NS`` ago, and what
lies above it is read and told once more at the next start, under the same ids, which the engine
knows; what was told above it is written down too, so that it can be undone then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from fleet.clock import NS_PER_SECOND
from fleet.venues.polymarket.leader_blocks import Block, Told
from fleet.venues.polymarket.leader_tracker import LeaderTracker

SETTLE_NS: Final = 2 * NS_PER_SECOND
"""How long a fact may take from the sink to the journal; the runner's loop takes milliseconds."""
Row = tuple[int, str, str, int]
Sighting = tuple[str, str, int, str, str]


class CursorFile(Protocol):
    """Where the state is kept. Blocks are (number, hash, parent, time), sightings as ``Told``."""

    def load(self) -> tuple[int, Sequence[Row], Sequence[Sighting]] | None:
        """Safe block, blocks oldest first, sightings; ``None`` at the first start."""
        ...

    def save(
        self,
        safe: int,
        blocks: Sequence[Row],
        changed: Mapping[str, Sighting | None],
    ) -> None:
        """Replace safe block and blocks, and change these sightings, all or nothing."""
        ...


class Progress:
    """The safe block, and counters of what verification found."""

    def __init__(self, tracker: LeaderTracker, cursor: CursorFile) -> None:
        """Load what was kept into ``tracker``."""
        self.safe = -1
        """Everything up to this block was read and told; -1 before the first start."""
        self.omitted = 0
        """Logs a node kept from us and another, or a second reading, showed."""
        self.compared = 0
        self.uncompared = 0
        self._tracker, self._cursor = tracker, cursor
        self._past: deque[tuple[int, int]] = deque()
        self._written = -1
        self._saved_ns = 0
        kept = cursor.load()
        if kept is None:
            return
        self.safe, blocks, sightings = kept
        self._written = self.safe
        tracker.window.replace([Block(*row) for row in blocks])
        # What was before the first start is never told, whatever is read again.
        tracker.sightings.floor = min(tracker.window.low, self.safe) + 1
        for row in sightings:
            told = Told(*row)
            tracker.sightings.add(told)
            if told.block > self.safe:
                tracker.retell.add(told.sighting_id)

    def begin(self, head: Block) -> None:
        """The first start: nothing up to ``head`` is told."""
        self.safe = self._written = head.number
        self._tracker.window.replace([head])
        self._tracker.sightings.floor = head.number + 1

    def reached(self, low: int, safe: int) -> None:
        """Everything from ``low`` to ``safe`` was read and told."""
        if low <= self.safe + 1:
            self.safe = max(self.safe, safe)

    def save_if_due(self, now_ns: int, blocks: Sequence[Block], every_ns: int) -> None:
        """Save if something changed and the last time is long enough ago."""
        due = bool(self._tracker.changed) or self.safe > self._written
        if due and now_ns - self._saved_ns >= every_ns:
            self.save(now_ns, blocks)

    def save(self, now_ns: int, blocks: Sequence[Block]) -> None:
        """Write it down."""
        if self.safe < 0:
            return
        if not self._past or self._past[-1][1] != self.safe:
            self._past.append((now_ns, self.safe))
        while self._past and now_ns - self._past[0][0] >= SETTLE_NS:
            self._written = max(self._written, self._past.popleft()[1])
        self._cursor.save(self._written, list(blocks), dict(self._tracker.changed))
        self._tracker.changed.clear()
        self._saved_ns = now_ns
