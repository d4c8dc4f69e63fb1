"""Reads a range of the chain and hands its truth to the tracker.

A range ends at the node's head and begins where the node and we still agree. Its newest blocks are
read with their headers and must link; what lies below the window can no longer be undone and is
read by logs alone, in pieces, each of them safe when it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.domain.events import LeaderMoved
from fleet.venues.polymarket.leader_backfill import ChainMoved, ChainReads, NodeBehind
from fleet.venues.polymarket.leader_blocks import WINDOW_BLOCKS, Block
from fleet.venues.polymarket.leader_logs import ChainLog, LogMalformed
from fleet.venues.polymarket.leader_moves import moves_of
from fleet.venues.polymarket.leader_state import Progress
from fleet.venues.polymarket.leader_tracker import LeaderTracker, Sighting
from fleet.venues.port import AnswerInvalid

LAG_BLOCKS: Final = 3
"""A block is safe so deep below the head: nodes index logs after they announce a block."""
PIECE_BLOCKS: Final = 2_000


class RangeReader:
    """Reads for one tracker."""

    def __init__(self, tracker: LeaderTracker, progress: Progress, clock: Clock) -> None:
        """Tell ``progress`` what became safe."""
        self._tracker, self._progress, self._clock = tracker, progress, clock
        self._log = logs.get("leaders")

    async def settle(self, reads: ChainReads, low: int) -> int:
        """Read from ``low`` to the head and commit; how many told lay ``LAG_BLOCKS`` deep.

        Raises ``ChainMoved`` or ``NodeBehind`` if it must be tried again, else ``VenueError``.
        """
        tracker = self._tracker
        head = await reads.head()
        if head.number < low - 1:
            raise NodeBehind(f"the node is at block {head.number}, before {low}")
        known = tracker.window.at(head.number)
        if head.number == low - 1 and known is not None and known.hash == head.hash:
            return 0
        low = await self._agreed(reads, min(low, head.number), head)
        newest = head.number - WINDOW_BLOCKS + 1
        while low < newest:
            # What we know of and may be gone is compared by headers, however old it is.
            known_top = min(tracker.window.tip, newest - 1)
            top = known_top if low <= known_top else min(newest - 1, low + PIECE_BLOCKS - 1)
            end = await reads.block(top) if low <= known_top else None
            await self._piece(reads, low, top, end)
            self._progress.reached(low, top)
            self._progress.save(self._clock.now_ns(), tracker.window.tail())
            low = top + 1
        late = await self._piece(reads, low, head.number, head)
        self._progress.reached(low, head.number - LAG_BLOCKS)
        return late

    async def _piece(self, reads: ChainReads, low: int, high: int, end: Block | None) -> int:
        """Read one piece and commit it, with its headers if ``end``, its last block, is given."""
        tracker = self._tracker
        run = [] if end is None else self._known_run(low, end) or await reads.run(low, end)
        blocks = {block.number: block for block in run}
        told = await reads.logs(low, high)
        if run:
            _on_chain(told, blocks)
        found, read = await self._sightings(reads, told, blocks)
        deep = [one for one in found if one.block <= high - LAG_BLOCKS]
        late = sum(tracker.sightings.get(one.sighting_id) is None for one in deep)
        if tracker.commit(run, found, self._clock.now_ns(), read) is None:
            raise ChainMoved(f"block {low} does not follow what is known")
        return late

    async def compare(self, reads: ChainReads, low: int, high: int) -> int:
        """Tell what another node shows in our own blocks and nobody told; how many there were."""
        tracker = self._tracker
        ours = {
            number: block
            for number in range(low, high + 1)
            if (block := tracker.window.at(number)) is not None
        }
        told = [
            log
            for log in await reads.logs(low, high)
            if (block := ours.get(log.number)) is not None and block.hash == log.block_hash.lower()
        ]
        seen, read = await self._sightings(reads, told, ours)
        found = [one for one in seen if tracker.sightings.get(one.sighting_id) is None]
        tracker.commit([], found, self._clock.now_ns(), read)
        return len(found)

    async def move(self, reads: ChainReads, transaction: str) -> None:
        """Read the receipt of a transaction that moved tokens, and tell. Raises ``NodeBehind``."""
        block_hash, receipt = await reads.receipt(transaction)
        times: dict[int, Block] = {}
        found = await self._moves(reads, receipt, times)
        self._tracker.commit_moves(transaction, block_hash, found)

    def _known_run(self, low: int, end: Block) -> list[Block]:
        """The run as the window has it, if it ends in ``end``: parents make the rest the same."""
        window = self._tracker.window
        last = window.at(end.number)
        if last is None or last.hash != end.hash or low < window.low:
            return []
        return [block for n in range(low, end.number + 1) if (block := window.at(n)) is not None]

    async def _agreed(self, reads: ChainReads, low: int, head: Block) -> int:
        """The first block to read: ``low``, or after the newest block the node has as we do."""
        window = self._tracker.window
        number = min(low - 1, window.tip, head.number)
        if not len(window) or number < window.low or self._known_run(low, head):
            return low
        while number >= window.low:
            known = window.at(number)
            block = head if number == head.number else await reads.block(number)
            if known is not None and known.hash == block.hash:
                return min(low, number + 1)
            number -= 1
        self._tracker.counts.deep += 1
        self._log.error("CHAIN forked before the oldest block known", block=window.low)
        return min(low, window.low)

    async def _sightings(
        self, reads: ChainReads, told: Sequence[ChainLog], blocks: Mapping[int, Block]
    ) -> tuple[list[Sighting], dict[str, str]]:
        """Trades of fills and moves of other transactions, in chain order; the receipts read."""
        tracker, now_ns = self._tracker, self._clock.now_ns()
        times = dict(blocks)
        found: list[Sighting] = []
        receipts: dict[str, str] = {}
        for log in told:
            try:
                if tracker.reader.is_fill(log):
                    time_ns = await _time_ns(reads, log, times)
                    trade = tracker.reader.trade(log, ts_event=time_ns, ts_recv=now_ns)
                    found += [trade] if trade is not None else []
                    continue
                transfer = tracker.reader.transfer(log)
            except LogMalformed:
                tracker.counts.malformed += 1
                continue
            if transfer is not None and not tracker.reader.is_settlement(transfer):
                receipts[log.transaction_hash.lower()] = log.block_hash.lower()
        receipts = {
            name: block_hash
            for name, block_hash in receipts.items()
            if tracker.read.get(name) != block_hash
        }
        for transaction, block_hash in receipts.items():
            at, receipt = await reads.receipt(transaction)
            if at != block_hash:
                raise ChainMoved(f"{transaction} is in another block now")
            found += await self._moves(reads, receipt, times)
        found.sort(key=lambda one: (one.block, int(one.sighting_id.split(":")[1])))
        return found, receipts

    async def _moves(
        self, reads: ChainReads, receipt: Sequence[ChainLog], times: dict[int, Block]
    ) -> Sequence[LeaderMoved]:
        if not receipt:
            return []
        try:
            time_ns = await _time_ns(reads, receipt[0], times)
            return moves_of(
                self._tracker.reader, receipt, ts_event=time_ns, ts_recv=self._clock.now_ns()
            )
        except LogMalformed:
            self._tracker.counts.malformed += 1
            return []


def _on_chain(told: Sequence[ChainLog], blocks: Mapping[int, Block]) -> None:
    """Raise ``ChainMoved`` if a log is of a block that is not in ``blocks``."""
    for log in told:
        block = blocks.get(log.number)
        if block is None or block.hash != log.block_hash.lower():
            raise ChainMoved(f"block {log.number} changed while it was read")


async def _time_ns(reads: ChainReads, log: ChainLog, times: dict[int, Block]) -> int:
    """The time of a log's block, from the log, from headers at hand, or asked for."""
    if log.time_ns:
        return log.time_ns
    number = log.number
    if number not in times:
        times[number] = await reads.block(number)
    if times[number].hash != log.block_hash.lower():
        raise ChainMoved(f"block {number} changed while it was read")
    if not times[number].time_ns:
        raise AnswerInvalid(f"block {number} has no time")
    return times[number].time_ns
