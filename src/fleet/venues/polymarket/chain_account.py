"""A wallet as the chain has it: dollars, tokens, gas, and what it has allowed whom.

The chain is the truth the venue's own answers (which are cached) are late copies of. Every read
raises ``VenueError`` when the node does not answer; an empty answer is never made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.domain.commands import OperationId
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import Cash, Qty
from fleet.venues.polymarket.amounts import BASE_UNIT
from fleet.venues.polymarket.chain import ChainOperations, ChainStatus, SendStatus
from fleet.venues.polymarket.chain_contracts import (
    Approval,
    Approve,
    Contract,
    required_approvals,
)
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.contracts import SignatureType
from fleet.venues.port import AnswerInvalid, VenueError

ALLOWANCE_MIN: Final = 10**12
"""An allowance of less (a million pUSD, in base units) counts as missing: it will run out."""
BALANCES_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalState:
    """One approval and whether the wallet has given it."""

    approval: Approval
    given: bool


class ApprovalFailed(VenueError):  # noqa: N818 - named for what happened
    """An approval did not come to be, or it is not known whether it did; run it again."""


def wallet_problem(signature_type: SignatureType) -> str:
    """Why a wallet cannot operate on its tokens here, with the cure; empty if it can."""
    if signature_type is SignatureType.EOA:
        return ""
    return (
        f"a wallet of signature type {int(signature_type)} ({signature_type.name}) operates "
        "through the venue's relayer, which this fleet does not speak: use an EOA wallet "
        "(signature type 0), or switch off the ideas that split, merge or convert and redeem by "
        "hand"
    )


class ChainAccount:
    """Reads about wallets through one open node."""

    def __init__(self, node: ChainNode) -> None:
        """Ask ``node``."""
        self._node = node

    async def collateral_allowance(self, owner: str, spender: str) -> int:
        """How much pUSD ``spender`` may take from ``owner``, in base units."""
        arguments = [("address", owner), ("address", spender)]
        return int(await self._node.read(Contract.PUSD, "allowance", arguments, "uint256"))

    async def tokens_approved(
        self, owner: str, operator: str, ledger: Contract = Contract.CTF
    ) -> bool:
        """Whether ``operator`` may move the outcome tokens ``owner`` has in ``ledger``."""
        arguments = [("address", owner), ("address", operator)]
        return bool(await self._node.read(ledger, "isApprovedForAll", arguments, "bool"))

    async def approvals(self, owner: str) -> tuple[ApprovalState, ...]:
        """Every approval an EOA needs here, given or not."""
        found = []
        for approval in required_approvals(self._node.chain_id):
            call = approval.call
            if isinstance(call, Approve):
                given = await self.collateral_allowance(owner, call.spender) >= ALLOWANCE_MIN
            else:
                given = await self.tokens_approved(owner, call.operator, call.ledger)
            found.append(ApprovalState(approval=approval, given=given))
        return tuple(found)

    async def cash(self, owner: str) -> Cash:
        """A wallet's pUSD."""
        amount = await self._node.read(Contract.PUSD, "balanceOf", [("address", owner)], "uint256")
        return Cash(int(amount) * BASE_UNIT)

    async def tokens(
        self, owner: str, tokens: Sequence[InstrumentId]
    ) -> Mapping[InstrumentId, Qty]:
        """What a wallet holds of each of ``tokens`` in the CTF; zeros included."""
        held: dict[InstrumentId, Qty] = {}
        for start in range(0, len(tokens), BALANCES_AT_ONCE):
            some = tokens[start : start + BALANCES_AT_ONCE]
            arguments = [
                ("address[]", [owner] * len(some)),
                ("uint256[]", [int(token) for token in some]),
            ]
            amounts = await self._node.read(Contract.CTF, "balanceOfBatch", arguments, "uint256[]")
            if len(amounts) != len(some):
                raise AnswerInvalid(f"asked for {len(some)} balances, got {len(amounts)}")
            held.update((t, Qty(n * BASE_UNIT)) for t, n in zip(some, amounts, strict=True))
        return held

    async def gas_wei(self, owner: str) -> int:
        """POL for gas, in wei."""
        return await self._node.gas_wei(owner)


async def approve_missing(
    operations: ChainOperations,
    account: ChainAccount,
    *,
    polls: int = 120,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Approval]:
    """Give every approval that is missing, one transaction after the other; yields each when final.

    Raises ``ApprovalFailed`` when one is not confirmed within ``polls`` seconds, or what
    ``ChainOperations`` raises. Running it again continues where it stopped.
    """
    for state in await account.approvals(operations.address):
        if state.given:
            continue
        name = OperationId(f"approve to {state.approval.purpose}")
        prepared = await operations.prepare_call(state.approval.call, name)
        sent = await operations.send(prepared)
        if sent.status in {SendStatus.REFUSED, SendStatus.UNSENT}:
            raise ApprovalFailed(f"{name}: {sent.reason}")
        for _ in range(polls):
            outcome = await operations.outcome(prepared.transaction_hash)
            if outcome.status.final:
                break
            await sleep(1.0)
        else:
            raise ApprovalFailed(f"{name}: {prepared.transaction_hash} is not confirmed yet")
        if outcome.status is not ChainStatus.CONFIRMED:
            raise ApprovalFailed(f"{name}: {outcome.status.value}, {outcome.reason}")
        yield state.approval
