"""Token operations as Polygon transactions of an EOA: prepared, journalled by the caller, sent.

Theory of operation. An operation becomes one signed transaction in ``prepare``; its hash is known
then, and the caller writes it to the journal (``OperationSigned``) before ``send``. What became of
it is asked of the chain by that hash, for as long as it takes.

*Never twice.* A chain mines at most one transaction of an address per nonce. At most one
transaction of this wallet is open at a time: ``prepare`` refuses (``WalletBusy``) while one has no
proven end, here or in a journal (``restore``), or waits in the node's pool. So an operation that
was sent twice is the same bytes twice, which the chain takes as one; and an operation with an
unknown end blocks the next one instead of being repeated.

*Unknown stays unknown.* The ends that are proof:

    CONFIRMED  a receipt of success, ``confirmations`` blocks deep; what it moved is read from logs
    REVERTED   a receipt of failure, as deep: it changed nothing, and never will
    DEAD       no receipt, and its nonce was used by another transaction, as deep

PENDING is a transaction the node has (in its pool, or not deep enough); UNKNOWN one it does not
know: perhaps never sent, perhaps still under way to it. A timeout of ``send`` proves nothing.

*Ending the unknown.* ``void`` signs an empty transaction to ourselves with the wallet's next nonce.
Once that is confirmed, nothing signed before it can be mined any more: an older hash without a
receipt is DEAD. (An older nonce is not above the one the chain accepted for the void, because only
one transaction is ever open.) ``resolve`` is ``outcome`` and does what can be done about UNKNOWN:
it sends bytes it has again, and voids a journalled hash that stays unknown for ``PATIENCE_NS`` or
an operation that waits in the pool for ``STUCK_NS`` (its fees are too low by now).

It needs the wallet for itself: a key that also signs elsewhere (a browser, a second fleet) can use
a nonce up. Then a prepared transaction ends as DEAD, which is the truth; but nothing is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.domain.commands import OperationId, OperationKind, RunOperation
from fleet.domain.instruments import InstrumentId, MarketId, Universe
from fleet.venues.polymarket.chain_contracts import ChainCall, encode
from fleet.venues.polymarket.chain_logs import moves_in
from fleet.venues.polymarket.chain_node import ChainNode, NodeRefused
from fleet.venues.polymarket.chain_planning import (
    Moves,
    OperationUnfit,
    plan,
    redeem_of,
    set_of,
)
from fleet.venues.polymarket.chain_transactions import Transaction, TransactionSigner
from fleet.venues.polymarket.resolutions import MarketStanding
from fleet.venues.port import TransportFailed, VenueError

CONFIRMATIONS: Final = 3
"""Blocks until an end counts as final (about six seconds). Our choice: Polygon has had
reorganisations of one or two blocks."""
GAS_MARGIN_PERCENT: Final = 30
VOID_GAS: Final = 21_000
STUCK_NS: Final = 180 * NS_PER_SECOND
AGAIN_NS: Final = 10 * NS_PER_SECOND
"""How often bytes the node does not know are sent again."""
PATIENCE_NS: Final = 20 * NS_PER_SECOND
"""How long a journalled hash may be unknown before its nonce is used up: ten blocks, in which a
transaction that reached any node would have been mined."""
_PROOFS_OF_REFUSAL: Final = (
    "insufficient funds", "intrinsic gas too low", "underpriced", "exceeds block gas limit",
    "fee cap less than block base fee", "max fee per gas less than block base fee",
    "higher than max fee per gas", "invalid sender", "gas limit reached",
)  # fmt: skip
"""What a node's pool says of a transaction it does not take and does not pass on (geth's words)."""


Lookup = Callable[[InstrumentId], Awaitable[MarketStanding]]
"""The market of a token as the venue knows it. Raises ``VenueError``."""


class WalletBusy(VenueError):  # noqa: N818 - named for what was found
    """Another transaction of this wallet has no proven end yet; nothing was signed."""


class OperationFutile(VenueError):  # noqa: N818 - named for what was found
    """The chain would revert the operation, or not take it; nothing was signed."""


class SendStatus(Enum):
    """What handing a transaction over has proven."""

    ACCEPTED = "ACCEPTED"
    """The node has it."""
    REFUSED = "REFUSED"
    """The node did not take it, at the first try: nobody has it, it will never be mined."""
    UNSENT = "UNSENT"
    """It did not leave this machine: send it again, or let it be."""
    UNKNOWN = "UNKNOWN"
    """No proof: ask for its outcome."""


class ChainStatus(Enum):
    """Where a transaction stands; see the module's text for what is proof."""

    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    CONFIRMED = "CONFIRMED"
    REVERTED = "REVERTED"
    DEAD = "DEAD"

    @property
    def final(self) -> bool:
        """Whether nothing about it can change any more."""
        return self not in {ChainStatus.PENDING, ChainStatus.UNKNOWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedOperation:
    """A signed transaction. ``raw`` (0x hex) may be published by whoever has it; it is no key."""

    operation_id: OperationId
    transaction_hash: str
    nonce: int
    raw: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The answer of ``send``."""

    status: SendStatus
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOutcome:
    """What became of a transaction; ``moves`` is there once it is CONFIRMED."""

    status: ChainStatus
    reason: str = ""
    block: int = 0
    moves: Moves | None = None
    fee_wei: int = 0


class ChainOperations:
    """Operations of one EOA through one node."""

    def __init__(
        self,
        signer: TransactionSigner,
        node: ChainNode,
        universe: Universe,
        *,
        confirmations: int = CONFIRMATIONS,
        lookup: Lookup | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """``universe`` may be replaced when the catalogue is; the node must be open to be used.

        ``lookup`` finds the market of a token to redeem that the catalogue does not have any more.
        """
        if confirmations < 1:
            raise ValueError("a transaction counts as final after one block at least")
        self.universe = universe
        self.address: Final = signer.address
        self._signer, self._node, self._lookup = signer, node, lookup
        self._confirmations = confirmations
        self._open: dict[str, int | None] = {}
        """Hash -> nonce (``None``: of a journal, not known) of what has no proven end."""
        self._tried: set[str] = set()
        self._voids: list[str] = []
        self._signed: dict[str, PreparedOperation] = {}
        """What was signed in this process and has no proven end."""
        self._since: dict[str, int] = {}
        """Hash -> since when it is unknown, or was sent again."""
        self._now_ns = monotonic_ns
        self._indices: dict[str, dict[MarketId, int]] = {}
        self._lock = asyncio.Lock()

    # --- making ------------------------------------------------------------------------------

    async def prepare(self, operation: RunOperation) -> PreparedOperation:
        """Sign the transaction of an operation; nothing is sent.

        Raises ``OperationUnfit`` or ``OperationFutile`` (it cannot work: proven), ``WalletBusy``
        (ask again later), or what the node and the signer raise.
        """
        indices = None
        if self._lookup is not None and operation.kind is OperationKind.REDEEM:
            first, _ = operation.burn[0]
            if first not in self.universe.instruments:
                redeem = redeem_of(operation, await self._lookup(first))
                return await self.prepare_call(redeem, operation.operation_id)
        if operation.kind is OperationKind.CONVERT:
            indices = await self._question_indices(set_of(operation, self.universe).id)
        call = plan(operation, self.universe, indices)
        return await self.prepare_call(call, operation.operation_id)

    async def prepare_call(self, call: ChainCall, name: OperationId) -> PreparedOperation:
        """Sign a contract call under the same rules. Raises like ``prepare``."""
        to, call_data = encode(call)
        async with self._lock:
            nonce = await self._free_nonce()
            try:
                gas = await self._node.estimate_gas(self.address, to, call_data)
            except NodeRefused as refusal:
                if refusal.revert is None:
                    raise
                raise OperationFutile(
                    f"the chain would revert {type(call).__name__.lower()} {name}: {refusal.reason}"
                ) from refusal
            gas += gas * GAS_MARGIN_PERCENT // 100
            return await self._sign(name, nonce, to=to, call_data=call_data, gas=gas)

    async def void(self) -> PreparedOperation:
        """Sign the empty transaction that ends whatever is unknown or stuck, once confirmed.

        Send it and ask for its outcome like any other; then ask again for the others'.
        """
        async with self._lock:
            nonce = await self._node.nonce(self.address)
            stuck = [await self._node.transaction(known) for known in self._open]
            offers = [int(tx["maxFeePerGas"]) for tx in stuck if tx and "maxFeePerGas" in tx]
            tips = [int(tx["maxPriorityFeePerGas"]) for tx in stuck if tx]
            # A replacement must outbid by a tenth; a quarter leaves room for rounding.
            prepared = await self._sign(
                OperationId("void"), nonce, to=self.address, call_data=b"", gas=VOID_GAS,
                fee_floor=max(offers, default=0) * 5 // 4, tip_floor=max(tips, default=0) * 5 // 4,
            )  # fmt: skip
            self._voids.append(prepared.transaction_hash)
            return prepared

    def restore(self, transaction_hash: str, nonce: int | None = None) -> None:
        """Take note of a journalled transaction without an end; ``nonce`` if it is known."""
        self._open.setdefault(transaction_hash, nonce)
        self._tried.add(transaction_hash)

    def forget(self, prepared: PreparedOperation) -> None:
        """Drop a transaction that was never handed over. Raises ``ValueError`` if it was."""
        if prepared.transaction_hash in self._tried:
            raise ValueError(f"{prepared.transaction_hash} was sent; only the chain can end it")
        self._end(prepared.transaction_hash)

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Hashes without a proven end."""
        return tuple(self._open)

    # --- sending and asking ------------------------------------------------------------------

    async def send(self, prepared: PreparedOperation) -> Sent:
        """Hand a prepared transaction to the node; harmless again. Raises like the permit."""
        self._signer.permit()
        first = prepared.transaction_hash not in self._tried
        self._open.setdefault(prepared.transaction_hash, prepared.nonce)
        self._tried.add(prepared.transaction_hash)
        try:
            await self._node.send(prepared.raw)
        except NodeRefused as refusal:
            words = str(refusal).lower()
            if "already known" in words or "already imported" in words:
                return Sent(status=SendStatus.ACCEPTED, reason=str(refusal))
            refused = "replacement" not in words and any(p in words for p in _PROOFS_OF_REFUSAL)
            if first and refused:
                self._end(prepared.transaction_hash)
                return Sent(status=SendStatus.REFUSED, reason=str(refusal))
            return Sent(status=SendStatus.UNKNOWN, reason=str(refusal))
        except TransportFailed as failure:
            if first and not failure.sent:
                self._tried.discard(prepared.transaction_hash)
                return Sent(status=SendStatus.UNSENT, reason=str(failure))
            return Sent(status=SendStatus.UNKNOWN, reason=str(failure))
        return Sent(status=SendStatus.ACCEPTED)

    async def outcome(self, transaction_hash: str) -> ChainOutcome:
        """What is proven of a transaction. Raises ``VenueError`` if the node does not answer."""
        receipt = await self._node.receipt(transaction_hash)
        if receipt is None:
            found = await self._without_receipt(transaction_hash)
        else:
            found = await self._with_receipt(receipt)
        if found.status.final:
            self._end(transaction_hash)
        return found

    async def resolve(self, transaction_hash: str) -> ChainOutcome:
        """``outcome``, and a step out of UNKNOWN; to be called every second or so.

        Raises what ``outcome`` and the signer raise; asking again is always right.
        """
        found = await self.outcome(transaction_hash)
        if found.status.final or found.block:
            self._since.pop(transaction_hash, None)
            return found
        waited_ns = self._now_ns() - self._since.setdefault(transaction_hash, self._now_ns())
        signed = self._signed.get(transaction_hash)
        void = next((v for v in reversed(self._voids) if v in self._signed), transaction_hash)
        if found.status is ChainStatus.PENDING:
            if waited_ns >= STUCK_NS:
                self._since[transaction_hash] = self._now_ns()
                await self.send(await self.void())
        elif void != transaction_hash:
            # The newest void decides about everything before it.
            await self.resolve(void)
        elif signed is not None:
            if waited_ns >= AGAIN_NS:
                self._since[transaction_hash] = self._now_ns()
                await self.send(signed)
        elif waited_ns >= PATIENCE_NS:
            await self.send(await self.void())
        return found

    async def _with_receipt(self, receipt: dict[str, Any]) -> ChainOutcome:
        block = int(receipt["blockNumber"])
        depth = await self._node.height() - block + 1
        if depth < self._confirmations:
            reason = f"{depth} of {self._confirmations} blocks deep"
            return ChainOutcome(status=ChainStatus.PENDING, reason=reason, block=block)
        fee = int(receipt["gasUsed"]) * int(receipt["effectiveGasPrice"])
        if int(receipt["status"]) == 1:
            moves = moves_in(receipt["logs"], self.address)
            return ChainOutcome(status=ChainStatus.CONFIRMED, block=block, moves=moves, fee_wei=fee)
        reason = await self._node.why_reverted(receipt)
        return ChainOutcome(status=ChainStatus.REVERTED, reason=reason, block=block, fee_wei=fee)

    async def _without_receipt(self, transaction_hash: str) -> ChainOutcome:
        if await self._node.transaction(transaction_hash) is not None:
            return ChainOutcome(status=ChainStatus.PENDING, reason="in the node's pool")
        deep = await self._node.height() - self._confirmations + 1
        nonce = self._open.get(transaction_hash)
        if nonce is not None:
            used = await self._node.nonce(self.address, deep) > nonce
        else:
            voids = [await self._node.receipt(void) for void in self._voids]
            used = any(v is not None and int(v["blockNumber"]) <= deep for v in voids)
        # Asked again last: had it been mined itself, its receipt is as old as that proof.
        if used and await self._node.receipt(transaction_hash) is None:
            reason = "its nonce was used by another transaction"
            return ChainOutcome(status=ChainStatus.DEAD, reason=reason)
        return ChainOutcome(status=ChainStatus.UNKNOWN, reason="the node does not know it")

    # --- inside ------------------------------------------------------------------------------

    def _end(self, transaction_hash: str) -> None:
        for kept in (self._open, self._signed, self._since):
            kept.pop(transaction_hash, None)

    async def _free_nonce(self) -> int:
        """The wallet's next nonce, if nothing of it is open. Raises ``WalletBusy``."""
        for void in [one for one in self._voids if one in self._open]:
            await self.outcome(void)
        if self._open:
            raise WalletBusy(
                f"transaction {next(iter(self._open))} of {self.address} has no proven end yet"
            )
        nonce = await self._node.nonce(self.address)
        if await self._node.nonce(self.address, "pending") != nonce:
            raise WalletBusy(
                f"a transaction of {self.address} that is not ours to know waits in the pool; does "
                "the key sign elsewhere?"
            )
        return nonce

    async def _sign(
        self, name: OperationId, nonce: int, *, to: str, call_data: bytes, gas: int,
        fee_floor: int = 0, tip_floor: int = 0,
    ) -> PreparedOperation:  # fmt: skip
        fees = await self._node.fees()
        tip = max(fees.tip, tip_floor)
        fee_cap = max(2 * fees.base + tip, fee_floor)
        balance = await self._node.gas_wei(self.address)
        if balance < gas * fee_cap:
            raise OperationFutile(
                f"{self.address} has {balance} wei for gas and may need {gas * fee_cap}: send POL"
            )
        signed = self._signer.sign(
            Transaction(
                chain_id=self._signer.chain_id, nonce=nonce, priority_fee=tip, fee_cap=fee_cap,
                gas=gas, to=to, call_data=call_data,
            )
        )  # fmt: skip
        prepared = PreparedOperation(
            operation_id=name, transaction_hash=signed.transaction_hash, nonce=nonce, raw=signed.raw
        )
        self._open[signed.transaction_hash] = nonce
        self._signed[signed.transaction_hash] = prepared
        return prepared

    async def _question_indices(self, event_market_id: str) -> dict[MarketId, int]:
        """The place of every question of a neg-risk market, as the chain counts them."""
        if event_market_id not in self._indices:
            found = await self._node.questions(event_market_id)
            if not found:
                raise OperationUnfit(f"the chain knows no neg-risk market {event_market_id}")
            self._indices[event_market_id] = {MarketId(one): i for i, one in enumerate(found)}
        return self._indices[event_market_id]
