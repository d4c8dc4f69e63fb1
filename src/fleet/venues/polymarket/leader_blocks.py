"""Which blocks are the chain, and what was told of each. Pure bookkeeping, no socket, no clock.

``BlockWindow`` keeps number, hash and parent of the newest blocks, always one linked run; a head
that does not link says so and is not taken in. ``Sightings`` keeps what was told, by id, until it
is too old to be undone or repeated. Whether a told block is gone is decided by hashes of numbers
alone: that a node does not know a block is no proof that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from fleet.venues.polymarket.leader_logs import NS, quantity

WINDOW_BLOCKS: Final = 128
"""Blocks whose hashes are kept; a reorganisation must end within them. Polygon's were at most a few
blocks deep since its milestones (2023); 64 were asked for."""
KEPT_BLOCKS: Final = 4_096
"""Blocks for which ids are kept: over two hours. An older log is too old to be told."""


class Block(NamedTuple):
    """A block's place in the chain."""

    number: int
    hash: str
    parent: str
    time_ns: int


class Head(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A header as nodes give it."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str

    def block(self) -> Block:
        """Its numbers read. Raises ``LogMalformed``."""
        return Block(
            quantity(self.number), self.hash.lower(), self.parent_hash.lower(),
            quantity(self.timestamp) * NS,
        )  # fmt: skip


class Link(Enum):
    """How a head lies to the window."""

    NEXT = "NEXT"
    KNOWN = "KNOWN"
    GAP = "GAP"
    FORK = "FORK"
    OLD = "OLD"


class BlockWindow:
    """The newest blocks of the chain as we know it, linked by their parents."""

    def __init__(self, limit: int = WINDOW_BLOCKS) -> None:
        """Keep ``limit`` blocks."""
        self._limit = limit
        self._blocks: dict[int, Block] = {}
        self.tip = -1
        """The newest number; -1 while there is none."""
        self.low = 0

    def __len__(self) -> int:
        """How many blocks it holds."""
        return len(self._blocks)

    def at(self, number: int) -> Block | None:
        """The block with a number, if it is in the window."""
        return self._blocks.get(number)

    def tail(self) -> Sequence[Block]:
        """All blocks, oldest first."""
        return [self._blocks[number] for number in range(self.low, self.tip + 1)]

    def add(self, block: Block) -> Link:
        """Take a head in if it is the next one; say how it lies in any case."""
        if self.tip < 0:
            self._put(block)
            return Link.NEXT
        known = self._blocks.get(block.number)
        if known is not None:
            return Link.KNOWN if known.hash == block.hash else Link.FORK
        if block.number < self.low:
            return Link.OLD
        if block.number > self.tip + 1:
            return Link.GAP
        if block.parent != self._blocks[self.tip].hash:
            return Link.FORK
        self._put(block)
        return Link.NEXT

    def fits(self, run: Sequence[Block]) -> bool:
        """Whether a linked run begins on a block of the window, or where the window knows none."""
        if not run:
            return True
        before = self._blocks.get(run[0].number - 1)
        return before is None or before.hash == run[0].parent

    def replace(self, run: Sequence[Block]) -> None:
        """Let ``run`` (linked, oldest first) be the chain; later blocks stay if they link to it."""
        if not run:
            return
        later = [self._blocks[n] for n in range(run[-1].number + 1, self.tip + 1)]
        for number in range(max(self.low, run[0].number), self.tip + 1):
            del self._blocks[number]
        if run[0].number - 1 not in self._blocks:
            self._blocks.clear()
            self.low = run[0].number
        self.tip = run[0].number - 1
        for block in run:
            self._put(block)
        for block in later:
            if self.add(block) is not Link.NEXT:
                break

    def _put(self, block: Block) -> None:
        if not self._blocks:
            self.low = block.number
        self._blocks[block.number] = block
        self.tip = block.number
        while len(self._blocks) > self._limit:
            del self._blocks[self.low]
            self.low += 1


class Told(NamedTuple):
    """A sighting that was told. ``digest`` says what it was, to know it again in another block."""

    sighting_id: str
    wallet: str
    block: int
    block_hash: str
    digest: str

    @property
    def transaction(self) -> str:
        """The hash of its transaction."""
        return self.sighting_id.partition(":")[0]


class Sightings:
    """What was told, by id, by block and by transaction."""

    def __init__(self) -> None:
        """Nothing told yet."""
        self._told: dict[str, Told] = {}
        self._at: dict[int, dict[str, Told]] = {}
        self._block_of: dict[str, tuple[int, str]] = {}
        self.floor = 0
        """Blocks below it are forgotten."""

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._told)

    def get(self, sighting_id: str) -> Told | None:
        """What was told under an id."""
        return self._told.get(sighting_id)

    def block_of(self, transaction: str) -> tuple[int, str] | None:
        """Number and hash of the block a transaction was told in."""
        return self._block_of.get(transaction)

    def add(self, told: Told) -> None:
        """Remember it; a told one that is in another block now is moved there."""
        self.remove(told.sighting_id)
        self._told[told.sighting_id] = told
        self._at.setdefault(told.block, {})[told.sighting_id] = told
        self._block_of[told.transaction] = (told.block, told.block_hash)

    def remove(self, sighting_id: str) -> None:
        """Forget one; nothing happens if there is none."""
        told = self._told.pop(sighting_id, None)
        if told is not None:
            self._at[told.block].pop(sighting_id)
            self._block_of.pop(told.transaction, None)

    def since(self, number: int) -> Iterator[Told]:
        """All told in a block or after it."""
        for block in [n for n in self._at if n >= number]:
            yield from list(self._at[block].values())

    def elsewhere(self, block: Block) -> bool:
        """Whether something was told in another block of the same number."""
        return any(
            told.block_hash != block.hash for told in self._at.get(block.number, {}).values()
        )

    def prune(self, floor: int) -> Iterable[str]:
        """Forget what lies below a block; gives the ids."""
        self.floor = max(self.floor, floor)
        gone = [told.sighting_id for n in self._at if n < floor for told in self._at[n].values()]
        for sighting_id in gone:
            self.remove(sighting_id)
        for number in [n for n in self._at if n < floor]:
            del self._at[number]
        return gone
