"""Token operations of the live venue: split, merge, convert and redeem through the chain.

The chain itself is behind ``OperationsPort``. An operation's transaction is prepared (signed, so
that its hash is known), the hash is journalled, and only then is it sent; whatever happens to the
answer, the hash tells the outcome later. Operations share the wallet's nonce: one is prepared and
sent at a time.

An operation that could not be prepared never existed and is rejected. One that was prepared stays
pending until the chain says confirmed or reverted, however long that takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from fleet import logs
from fleet.clock import Clock
from fleet.domain import events as ev
from fleet.domain.commands import OperationId, RunOperation
from fleet.venues.polymarket.guard import GuardRefused
from fleet.venues.polymarket.keys import SigningError
from fleet.venues.port import VenueError

LOOK_S: Final = 1.0
NO_CHAIN: Final = "no chain is configured for token operations"
ChainOutcome = Literal["confirmed", "reverted", "pending", "unknown"]


class PreparedOperation(Protocol):
    """A signed transaction, not sent yet."""

    @property
    def transaction_hash(self) -> str:
        """0x and 64 hex digits; known before it is sent."""
        ...


class OperationsPort(Protocol):
    """The chain, as far as token operations need it."""

    async def prepare(self, request: RunOperation) -> PreparedOperation:
        """Sign the operation's transaction; nothing is sent. Raises ``VenueError``."""
        ...

    async def send(self, prepared: Any) -> None:
        """Hand it to the network. Raises ``VenueError``; it may have been taken even so."""
        ...

    async def outcome(self, transaction_hash: str) -> ChainOutcome:
        """What the chain says of it now. Raises ``VenueError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierOperation:
    """A pending operation of the journal; ``transaction_hash`` is empty if it was never signed."""

    request: RunOperation
    transaction_hash: str = ""


class Operations:
    """Runs operations and watches those that are under way."""

    def __init__(
        self,
        port: OperationsPort | None,
        journal: Callable[[Sequence[ev.Event]], bool],
        emit: Callable[[Sequence[ev.Event]], None],
        clock: Clock,
        earlier: Iterable[EarlierOperation] = (),
    ) -> None:
        """``journal`` makes a fact durable (false: it cannot); ``emit`` tells the engine."""
        self._port, self._journal, self._emit, self._clock = port, journal, emit, clock
        self._log = logs.get("operations")
        self._chain_lock = asyncio.Lock()
        self._started: set[OperationId] = set()
        self._never: set[OperationId] = set()
        self._hashes: dict[OperationId, tuple[RunOperation, str]] = {}
        self._earlier: list[EarlierOperation] = []
        for operation in earlier:
            operation_id = operation.request.operation_id
            if operation.transaction_hash:
                self._hashes[operation_id] = (operation.request, operation.transaction_hash)
                self._earlier.append(operation)
            else:
                self._never.add(operation_id)

    @property
    def resumed(self) -> Sequence[EarlierOperation]:
        """The operations of an earlier run whose outcome must be watched for."""
        return tuple(self._earlier)

    async def run(self, request: RunOperation) -> None:
        """Prepare, journal, send and watch one operation."""
        self._started.add(request.operation_id)
        self._never.discard(request.operation_id)
        if self._port is None:
            self._reject(request, NO_CHAIN)
            return
        async with self._chain_lock:
            try:
                prepared = await self._port.prepare(request)
            except (VenueError, GuardRefused, SigningError) as error:
                self._reject(request, f"not prepared: {error}")
                return
            transaction_hash = prepared.transaction_hash
            now_ns = self._clock.now_ns()
            signed = ev.OperationSigned(
                ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
                transaction_hash=transaction_hash,
            )  # fmt: skip
            if not self._journal([signed]):
                return
            self._hashes[request.operation_id] = (request, transaction_hash)
            try:
                await self._port.send(prepared)
            except VenueError as error:
                self._log.warning("OPERATION sent, unanswered", operation=request.operation_id,
                                  transaction=transaction_hash, reason=str(error))  # fmt: skip
        await self.watch(request, transaction_hash)

    async def watch(self, request: RunOperation, transaction_hash: str) -> None:
        """Look until the chain has decided, and tell it."""
        while (fact := await self._look(request, transaction_hash)) is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        self._emit([fact])

    async def settle(
        self, pending: Iterable[OperationId]
    ) -> tuple[list[ev.Event], tuple[OperationId, ...]]:
        """The ends of pending operations, as far as known, and those that were never signed."""
        facts: list[ev.Event] = []
        absent: list[OperationId] = []
        for operation_id in sorted(pending):
            known = self._hashes.get(operation_id)
            if known is not None:
                fact = await self._look(*known)
                facts += [fact] if fact is not None else []
            elif operation_id in self._never and operation_id not in self._started:
                absent.append(operation_id)
        return facts, tuple(absent)

    async def _look(self, request: RunOperation, transaction_hash: str) -> ev.Event | None:
        if self._port is None:
            return None
        try:
            outcome = await self._port.outcome(transaction_hash)
        except VenueError as error:
            self._log.warning("OPERATION not found out", operation=request.operation_id,
                              transaction=transaction_hash, reason=str(error))  # fmt: skip
            return None
        now_ns = self._clock.now_ns()
        if outcome == "reverted":
            return ev.OperationRejected(
                ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
                reason=f"reverted on chain: {transaction_hash}",
            )  # fmt: skip
        if outcome != "confirmed":
            return None
        return ev.OperationConfirmed(
            ts_event=now_ns,
            ts_recv=now_ns,
            operation_id=request.operation_id,
            kind=request.kind,
            burn=request.burn,
            mint=request.mint,
            cash=request.cash,
        )

    def _reject(self, request: RunOperation, reason: str) -> None:
        now_ns = self._clock.now_ns()
        self._emit([ev.OperationRejected(
            ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
            reason=reason)])  # fmt: skip
