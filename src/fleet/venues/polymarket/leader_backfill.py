"""Reading a chain back over one socket: headers, receipts, and logs in ranges a node will answer.

How many blocks one ``eth_getLogs`` may span differs from provider to provider (500, 2,000, 10,000
blocks, or so many results) and is told only as an error. So a refused range is halved, down to one
block, and grows again by doubling. An answer with a log that cannot be read is no answer.

Must not guess: that a node does not know a block or receipt is ``NodeBehind``, never "there is
none".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from fleet.venues.polymarket.leader_blocks import Block, Head
from fleet.venues.polymarket.leader_logs import ChainLog, LogMalformed
from fleet.venues.polymarket.rpc_socket import RpcRefused, RpcSocket
from fleet.venues.port import AnswerInvalid, TransportFailed, VenueError

STEP_FIRST: Final = 500
STEP_MAX: Final = 2_000
AT_ONCE: Final = 32
"""Headers asked for together."""


class NodeBehind(VenueError):  # noqa: N818 - named for what was found
    """The node does not know a block that another, or it itself, has told of."""


class ChainMoved(VenueError):  # noqa: N818 - named for what was found
    """The chain changed while it was read; reading it again may help."""


class _Receipt(msgspec.Struct, rename="camel"):
    block_hash: str
    logs: list[msgspec.Raw]


class ReadState:
    """What reading has learnt of a provider; outlives a connection."""

    def __init__(self) -> None:
        """Begin with a cautious span."""
        self.step = STEP_FIRST
        self.halved = 0
        self.malformed = 0


class ChainReads:
    """Reads of one node. Every method raises ``VenueError``."""

    def __init__(
        self, socket: RpcSocket, filters: Sequence[dict[str, Any]], state: ReadState
    ) -> None:
        """Ask over an open ``socket`` for the logs of ``filters``."""
        self._socket, self._filters, self._state = socket, filters, state

    async def head(self) -> Block:
        """The newest block."""
        return await self._block("latest")

    async def block(self, number: int) -> Block:
        """The block of a number on this node's chain."""
        return await self._block(hex(number))

    async def run(self, low: int, head: Block) -> list[Block]:
        """Headers from ``low`` to ``head``, linked. Raises ``ChainMoved`` if they are not."""
        found: list[Block] = []
        for start in range(low, head.number, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, head.number))
            found += await asyncio.gather(*(self.block(number) for number in numbers))
        found.append(head)
        for before, after in pairwise(found):
            if before.hash != after.parent:
                raise ChainMoved(f"{self._socket.what}: block {after.number} has another parent")
        return found

    async def logs(self, low: int, high: int) -> list[ChainLog]:
        """All logs of the filters from block ``low`` to ``high``, each once, in chain order."""
        found: dict[str, ChainLog] = {}
        while low <= high:
            top = min(high, low + self._state.step - 1)
            try:
                answers = await asyncio.gather(*(self._logs(f, low, top) for f in self._filters))
            except RpcRefused:
                if top == low:
                    raise
                self._halve(low, top)
                continue
            except TransportFailed:
                # Too slow, or more than a frame may hold: less of it over the next connection.
                self._halve(low, top)
                raise
            for log in (log for answer in answers for log in answer):
                if low <= self._number(log) <= top:
                    found[log.sighting_id] = log
            low = top + 1
            self._state.step = min(STEP_MAX, self._state.step * 2)
        return sorted(found.values(), key=place)

    async def receipt(self, transaction: str) -> tuple[str, list[ChainLog]]:
        """The block's hash and the logs of a mined transaction. Raises ``NodeBehind``."""
        told: _Receipt | None = await self._socket.call(
            "eth_getTransactionReceipt", [transaction], _Receipt | None
        )
        if told is None:
            raise NodeBehind(f"{self._socket.what} has no receipt of {transaction}")
        return told.block_hash.lower(), self._read(told.logs)

    async def _logs(self, wanted: dict[str, Any], low: int, high: int) -> list[ChainLog]:
        asked = {**wanted, "fromBlock": hex(low), "toBlock": hex(high)}
        return self._read(await self._socket.call("eth_getLogs", [asked], list[msgspec.Raw]))

    def _read(self, raws: Sequence[msgspec.Raw]) -> list[ChainLog]:
        found = []
        for raw in raws:
            try:
                found.append(msgspec.json.decode(raw, type=ChainLog))
            except msgspec.MsgspecError as error:
                # Left out, it would be lost: the range is not read until a node can tell it whole.
                self._state.malformed += 1
                raise AnswerInvalid(f"{self._socket.what}: a log: {error}") from error
        return found

    def _halve(self, low: int, top: int) -> None:
        self._state.step = max(1, (top - low + 1) // 2)
        self._state.halved += 1

    def _number(self, log: ChainLog) -> int:
        try:
            log.sighting_id  # noqa: B018 - read for its check
            return log.number
        except LogMalformed as error:
            self._state.malformed += 1
            raise AnswerInvalid(f"{self._socket.what}: a log: {error}") from error

    async def _block(self, tag: str) -> Block:
        told: Head | None = await self._socket.call(
            "eth_getBlockByNumber", [tag, False], Head | None
        )
        if told is None:
            raise NodeBehind(f"{self._socket.what} has no block {tag}")
        try:
            block = told.block()
        except LogMalformed as error:
            raise AnswerInvalid(f"{self._socket.what}: block {tag}: {error}") from error
        return block


def place(log: ChainLog) -> tuple[int, int]:
    """Where a log lies in its chain."""
    return log.number, int(log.log_index, 16)
