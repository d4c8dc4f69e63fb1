"""What is told of the chain, and what is taken back. Synchronous; no socket, no clock.

Theory of operation. A log is told the moment it comes, if nothing speaks against it. What does:

    its block is not the one the window has for that number          it is held: a fork, somewhere
    its transaction was told in another block                        it is held: mined a second time
    its block's time is not known yet (old nodes, logs before heads) it waits for its head
    it was told                                                      counted as a repetition

"Held" means that the range is in doubt from that block on: ``doubt`` says so, the listener reads
headers and logs of the range and hands them to ``commit``. There the truth of that range is
compared with what was told: a sighting whose block is not on the chain is undone, what is there and
was not told is told, in one batch and in that order. A transaction that was mined again as it was
stays told. Heads that fork, or leave a gap, and ``removed`` logs put a range in doubt likewise; so
nodes that send removed logs and nodes that do not are the same here.

A missing log undoes nothing: nodes leave logs out. Only another block at its number does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.domain.events import Event, LeaderMoved, LeaderTraded, SightingUndone
from fleet.venues.polymarket.leader_blocks import (
    KEPT_BLOCKS,
    Block,
    BlockWindow,
    Link,
    Sightings,
    Told,
)
from fleet.venues.polymarket.leader_logs import ChainLog, LeaderLogs, LogMalformed

Sighting = LeaderTraded | LeaderMoved
FactSink = Callable[[Sequence[Event]], None]
PARKED_MAX: Final = 50_000
READ_MAX: Final = 8_192
"""Receipts remembered as read."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """What the listener has seen; every number only grows."""

    logs: int = 0
    heads: int = 0
    trades: int = 0
    moves: int = 0
    undone: int = 0
    duplicates: int = 0
    removed: int = 0
    """Logs a node took back by itself."""
    malformed: int = 0
    foreign: int = 0
    """Logs nobody asked for."""
    settlements: int = 0
    """Transfers that settle a match, told by the match's own log."""
    stale: int = 0
    """Logs too old to be told."""
    forks: int = 0
    deep: int = 0
    """Forks that began before the oldest block we know."""
    remined: int = 0
    """Sightings whose transaction was mined again in another block and stays told."""
    reread: int = 0
    """Sightings found by reading a range: after a connection, a fork, an omission."""


class LeaderTracker:
    """Turns logs and heads into facts for ``sink``."""

    def __init__(
        self,
        reader: LeaderLogs,
        sink: FactSink,
        *,
        window: BlockWindow | None = None,
        sightings: Sightings | None = None,
    ) -> None:
        """Begin with nothing, or with what was kept."""
        self.reader: Final = reader
        self.window: Final = window or BlockWindow()
        self.sightings: Final = sightings or Sightings()
        self.counts: Final = Counts()
        self.synced = False
        """Whether logs may be told at once: everything before them was."""
        self.doubt: int | None = None
        """The lowest block that must be read again."""
        self.moves: dict[str, tuple[int, str]] = {}
        """Transactions whose receipts must be read: block and its hash."""
        self.read: OrderedDict[str, str] = OrderedDict()
        """Transactions whose receipts were read, and the hash of the block they were in."""
        self.retell: set[str] = set()
        """Kept from an earlier process, which may have ended before anybody heard of them."""
        self.changed: dict[str, Told | None] = {}
        """What was told or forgotten since somebody took note."""
        self._sink = sink
        self._parked: dict[str, list[ChainLog]] = {}
        self._parked_count = 0

    # --- what a node tells by itself ---------------------------------------------------------

    def log(self, log: ChainLog, now_ns: int) -> None:
        """Take one log of a subscription."""
        self.counts.logs += 1
        try:
            self._take(log, now_ns)
        except LogMalformed:
            self.counts.malformed += 1

    def _take(self, log: ChainLog, now_ns: int) -> None:
        number, block_hash, name = log.number, log.block_hash.lower(), log.sighting_id
        if not self.synced:
            self.put_in_doubt(number)
        elif log.removed:
            self._removed(log, number, block_hash, name)
        elif number < self.sightings.floor:
            self.counts.stale += 1
        elif self._held(log, number, block_hash):
            pass
        elif self.sightings.get(name) is not None:
            self.counts.duplicates += 1
        elif not self.reader.is_fill(log):
            self._transfer(log, number, block_hash)
        else:
            known = self.window.at(number)
            time_ns = log.time_ns or (known.time_ns if known is not None else 0)
            if not time_ns:
                self._park(log, block_hash)
                return
            trade = self.reader.trade(log, ts_event=time_ns, ts_recv=now_ns)
            if trade is None:
                self.counts.foreign += 1
            else:
                self._tell([], [trade])

    def _removed(self, log: ChainLog, number: int, block_hash: str, name: str) -> None:
        self.counts.removed += 1
        self.moves.pop(log.transaction_hash.lower(), None)
        parked = self._parked.pop(block_hash, [])
        self._parked_count -= len(parked)
        told = self.sightings.get(name)
        if told is not None and told.block_hash == block_hash:
            self.put_in_doubt(number)

    def _held(self, log: ChainLog, number: int, block_hash: str) -> bool:
        """Whether something speaks against telling it now; the range is in doubt then."""
        known = self.window.at(number)
        if known is None and number <= self.window.tip:
            self.put_in_doubt(number)
            return self.sightings.get(log.sighting_id) is None
        before = self.sightings.block_of(log.transaction_hash.lower())
        if known is not None and known.hash != block_hash:
            self.put_in_doubt(number)
            return True
        if before is not None and before[1] != block_hash:
            self.put_in_doubt(min(number, before[0]))
            return True
        return False

    def _transfer(self, log: ChainLog, number: int, block_hash: str) -> None:
        transfer = self.reader.transfer(log)
        transaction = log.transaction_hash.lower()
        if transfer is None:
            self.counts.foreign += 1
        elif self.reader.is_settlement(transfer):
            self.counts.settlements += 1
        elif self.read.get(transaction) == block_hash:
            self.counts.duplicates += 1
        else:
            self.moves[transaction] = (number, block_hash)

    def _park(self, log: ChainLog, block_hash: str) -> None:
        if self._parked_count >= PARKED_MAX:
            self.put_in_doubt(log.number)
            return
        self._parked.setdefault(block_hash, []).append(log)
        self._parked_count += 1

    def head(self, block: Block, now_ns: int) -> None:
        """Take one head of a subscription."""
        self.counts.heads += 1
        if not self.synced:
            return
        link = self.window.add(block)
        if link is Link.NEXT:
            self._release(block, now_ns)
            if self.sightings.elsewhere(block):
                self.put_in_doubt(block.number)
        elif link is Link.GAP:
            self.put_in_doubt(self.window.tip + 1)
        elif link is Link.FORK:
            self.put_in_doubt(min(block.number, self.window.tip))

    def _release(self, block: Block, now_ns: int) -> None:
        """Logs that came before their block; those of another block of this number are void."""
        ready = self._parked.pop(block.hash, [])
        for other in [h for h, logs in self._parked.items() if logs[0].number <= block.number]:
            ready += self._parked.pop(other)
        self._parked_count -= len(ready)
        for log in ready:
            self._take(log, now_ns)

    def put_in_doubt(self, number: int) -> None:
        """Everything from a block on must be read again."""
        self.doubt = number if self.doubt is None else min(self.doubt, number)

    # --- what was read -----------------------------------------------------------------------

    def commit(
        self,
        run: Sequence[Block],
        found: Iterable[Sighting],
        now_ns: int,
        receipts: Mapping[str, str],
    ) -> int | None:
        """``run`` is the chain from its first block on, ``found`` all that is to be seen in it.

        ``receipts`` are the transactions read for it and the hashes of their blocks. Gives how many
        were told that had not been; ``None`` if the run does not fit what is known by now, and
        nothing was done: read again.
        """
        if not self.window.fits(run):
            return None
        gone = self._gone(run)
        fresh: list[Sighting] = []
        for one in found:
            told = self.sightings.get(one.sighting_id)
            if one.block < self.sightings.floor:
                self.counts.stale += 1
            elif told is not None and told.sighting_id in gone and told.digest == digest_of(one):
                del gone[told.sighting_id]
                self.counts.remined += 1
                self._remember(one)
            elif told is None or told.sighting_id in gone or told.sighting_id in self.retell:
                fresh.append(one)
        self.window.replace(run)
        self._tell(list(gone.values()), fresh, now_ns)
        self.counts.reread += len(fresh)
        for name, block_hash in receipts.items():
            self.note_read(name, block_hash)
        if run:
            self._release(run[-1], now_ns)
        hashes = {block.number: block.hash for block in run}
        for name, (number, block_hash) in list(self.moves.items()):
            elsewhere = hashes.get(number, block_hash) != block_hash
            if elsewhere or self.read.get(name) == block_hash:
                del self.moves[name]
        return len(fresh)

    def commit_moves(self, transaction: str, block_hash: str, found: Sequence[LeaderMoved]) -> None:
        """A receipt was read in its block."""
        number, wanted = self.moves.pop(transaction, (0, ""))
        known = self.window.at(number)
        if block_hash != wanted or (known is not None and known.hash != block_hash):
            self.put_in_doubt(number)
            return
        self.note_read(transaction, block_hash)
        self._tell([], [one for one in found if self.sightings.get(one.sighting_id) is None])

    def note_read(self, transaction: str, block_hash: str) -> None:
        """A receipt need not be read again while its block stands."""
        self.read[transaction] = block_hash
        while len(self.read) > READ_MAX:
            self.read.popitem(last=False)

    def _gone(self, run: Sequence[Block]) -> dict[str, Told]:
        """What was told of blocks that the run proves not to be on the chain."""
        if not run:
            return {}
        hashes = {block.number: block.hash for block in run}
        forked = any(
            known.hash != block.hash
            for block in run
            if (known := self.window.at(block.number)) is not None
        )
        self.counts.forks += forked
        gone: dict[str, Told] = {}
        for told in self.sightings.since(run[0].number):
            now = hashes.get(told.block)
            known = self.window.at(told.block)
            if now is not None and now != told.block_hash:
                gone[told.sighting_id] = told
            elif now is None and forked and known is not None and known.hash == told.block_hash:
                # Its block was built on one that was replaced.
                gone[told.sighting_id] = told
        return gone

    def _tell(self, gone: Sequence[Told], fresh: Sequence[Sighting], now_ns: int = 0) -> None:
        facts: list[Event] = [
            SightingUndone(
                ts_event=now_ns, ts_recv=now_ns, sighting_id=t.sighting_id, wallet=t.wallet
            )
            for t in sorted(gone, key=lambda t: -t.block)
        ]
        for told in gone:
            self.sightings.remove(told.sighting_id)
            # Should its block come back, the receipt must be read again.
            self.read.pop(told.transaction, None)
            self.retell.discard(told.sighting_id)
            self.changed[told.sighting_id] = None
        self.counts.undone += len(gone)
        for one in fresh:
            self._remember(one)
            self.retell.discard(one.sighting_id)
            if isinstance(one, LeaderTraded):
                self.counts.trades += 1
            else:
                self.counts.moves += 1
        facts += fresh
        if facts:
            self._sink(facts)

    def _remember(self, one: Sighting) -> None:
        told = Told(one.sighting_id, one.wallet, one.block, one.block_hash, digest_of(one))
        if one.block >= self.sightings.floor:
            self.sightings.add(told)
            self.changed[told.sighting_id] = told

    def forget_old(self) -> None:
        """Forget what lies too far below the tip to be undone or repeated."""
        for name in self.sightings.prune(self.window.tip - KEPT_BLOCKS):
            self.changed[name] = None
            self.retell.discard(name)


def digest_of(one: Sighting) -> str:
    """What was seen, whichever block it is in."""
    if isinstance(one, LeaderTraded):
        return f"{one.instrument_id} {one.side.value} {one.price} {one.qty} {one.maker}"
    return f"{one.kind.value} {one.changes}"
