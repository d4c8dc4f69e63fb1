"""Token operations of the live venue: split, merge, convert and redeem through the chain.

The chain itself is behind ``OperationsPort`` (``chain.ChainOperations``). An operation's
transaction is prepared (signed, so that its hash is known), the hash is journalled, and only then
is it sent; whatever happens to the answer, the hash tells the outcome later. One is open at a time.

An operation that could not be prepared never existed and is rejected, and so is one the chain
proves dead or reverted. Any other stays pending, however long that takes. What is booked is what
the chain says moved, not what was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fleet import logs
from fleet.clock import Clock
from fleet.domain import events as ev
from fleet.domain.commands import OperationId, RunOperation
from fleet.venues.polymarket.chain import (
    ChainOutcome,
    ChainStatus,
    PreparedOperation,
    SendStatus,
    Sent,
    WalletBusy,
)
from fleet.venues.polymarket.guard import GuardRefused
from fleet.venues.port import VenueError

LOOK_S: Final = 1.0
NO_CHAIN: Final = "no chain is configured for token operations"


class OperationsPort(Protocol):
    """The chain, as far as token operations need it."""

    async def prepare(self, operation: RunOperation) -> PreparedOperation:
        """Sign the operation's transaction; nothing is sent. ``WalletBusy``: ask again later."""
        ...

    async def send(self, prepared: PreparedOperation) -> Sent:
        """Hand it to the network, perhaps again. Raises ``GuardRefused`` without the lease."""
        ...

    async def outcome(self, transaction_hash: str) -> ChainOutcome:
        """What the chain proves of it now. Raises ``VenueError``."""
        ...

    async def resolve(self, transaction_hash: str) -> ChainOutcome:
        """``outcome``, and a step out of the unknown: sends again, or uses the nonce up."""
        ...

    def restore(self, transaction_hash: str) -> None:
        """Take note of a journalled transaction without an end."""
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
        self._ended: dict[OperationId, ev.Event] = {}
        for operation in earlier:
            operation_id = operation.request.operation_id
            if operation.transaction_hash:
                self._hashes[operation_id] = (operation.request, operation.transaction_hash)
                self._earlier.append(operation)
                if port is not None:
                    port.restore(operation.transaction_hash)
            else:
                self._never.add(operation_id)

    @property
    def resumed(self) -> Sequence[EarlierOperation]:
        """The operations of an earlier run whose outcome must be watched for."""
        return tuple(self._earlier)

    async def run(self, request: RunOperation) -> None:
        """Prepare, journal, send and watch one operation; the one before it ends first."""
        self._started.add(request.operation_id)
        self._never.discard(request.operation_id)
        async with self._chain_lock:
            prepared = await self._prepare(request)
            if prepared is None or self._port is None:
                return
            now_ns = self._clock.now_ns()
            signed = ev.OperationSigned(
                ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
                transaction_hash=prepared.transaction_hash,
            )  # fmt: skip
            if not self._journal([signed]):
                return
            self._hashes[request.operation_id] = (request, prepared.transaction_hash)
            while (sent := await self._send(self._port, prepared)).status is SendStatus.UNSENT:
                self._log.warning("OPERATION not sent yet", operation=request.operation_id,
                                  reason=sent.reason)  # fmt: skip
                await asyncio.sleep(LOOK_S)
            if sent.status is SendStatus.REFUSED:
                del self._hashes[request.operation_id]
                self._reject(request, f"refused by the chain: {sent.reason}")
                return
            await self.watch(request, prepared.transaction_hash)

    @staticmethod
    async def _send(port: OperationsPort, prepared: PreparedOperation) -> Sent:
        """Hand it over; without the wallet's lease it is unsent, however long ago it was signed."""
        try:
            return await port.send(prepared)
        except GuardRefused as refusal:
            return Sent(status=SendStatus.UNSENT, reason=str(refusal))

    async def _prepare(self, request: RunOperation) -> PreparedOperation | None:
        """The signed transaction; nothing if there is none, and the operation is rejected then."""
        if self._port is None:
            self._reject(request, NO_CHAIN)
            return None
        while True:
            try:
                return await self._port.prepare(request)
            except WalletBusy:
                await asyncio.sleep(LOOK_S)
            except (VenueError, GuardRefused, ValueError) as error:
                self._reject(request, f"not prepared: {error}")
                return None

    async def watch(self, request: RunOperation, transaction_hash: str) -> None:
        """Look until the chain has decided, and tell it."""
        while True:
            outcome = await self._look(transaction_hash)
            fact = self._end_of(request, outcome) if outcome is not None else None
            if fact is not None:
                self._hashes.pop(request.operation_id, None)
                self._ended[request.operation_id] = fact
                self._emit([fact])
                return
            await asyncio.sleep(LOOK_S)

    async def settle(
        self, pending: Iterable[OperationId]
    ) -> tuple[list[ev.Event], tuple[OperationId, ...], bool]:
        """The ends of pending operations as far as known, those that were never signed, and

        whether one is mined and not final yet: then the chain has moved and no fact says so.
        Raises ``VenueError`` if the chain cannot be asked.
        """
        wanted = set(pending)
        facts = [self._ended[operation] for operation in sorted(wanted & self._ended.keys())]
        moving = False
        for operation_id, (request, transaction_hash) in sorted(self._hashes.items()):
            if self._port is None:
                raise VenueError(f"{NO_CHAIN}, and {operation_id} is pending")
            outcome = await self._port.outcome(transaction_hash)
            fact = self._end_of(request, outcome)
            if fact is not None:
                facts.append(fact)
            else:
                moving = moving or outcome.block > 0
        never = wanted & (self._never - self._started)
        return facts, tuple(sorted(never)), moving

    async def _look(self, transaction_hash: str) -> ChainOutcome | None:
        if self._port is None:
            return None
        try:
            return await self._port.resolve(transaction_hash)
        except (VenueError, GuardRefused) as error:
            self._log.warning("OPERATION not found out", transaction=transaction_hash,
                              reason=str(error))  # fmt: skip
            return None

    def _end_of(self, request: RunOperation, outcome: ChainOutcome) -> ev.Event | None:
        """The fact a final outcome is; nothing while it is not."""
        now_ns = self._clock.now_ns()
        if outcome.status is ChainStatus.CONFIRMED and outcome.moves is not None:
            return ev.OperationConfirmed(
                ts_event=now_ns,
                ts_recv=now_ns,
                operation_id=request.operation_id,
                kind=request.kind,
                burn=outcome.moves.burn,
                mint=outcome.moves.mint,
                cash=outcome.moves.cash,
            )
        if outcome.status in {ChainStatus.REVERTED, ChainStatus.DEAD}:
            return ev.OperationRejected(
                ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
                reason=f"{outcome.status.value} on chain: {outcome.reason}",
            )  # fmt: skip
        return None

    def _reject(self, request: RunOperation, reason: str) -> None:
        now_ns = self._clock.now_ns()
        self._emit([ev.OperationRejected(
            ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
            reason=reason)])  # fmt: skip
