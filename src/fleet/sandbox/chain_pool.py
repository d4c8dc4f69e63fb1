"""The sandbox's chain: a pool of transactions, and blocks every two seconds that mine them.

The rules of a node of Polygon (bor, a fork of geth), in geth's words:

- the pool takes a transaction with its sender's next nonce, or a later one that waits for the gap;
- the same bytes again are ``already known``; a nonce that was mined is ``nonce too low``;
- another transaction of a waiting nonce replaces it only for a tenth more of both fees;
- a block mines what waits, in the order of nonces, if its fee cap reaches the base fee. Whatever it
  calls, a mined transaction uses its nonce up; one that is reverted changes nothing else.

Time is passed in. Blocks are a function of time since the genesis; empty ones are not kept. There
is no reorganisation, and every address has ``FAUCET_WEI`` to burn for gas; POL is not moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.chain_execution import ChainExecution, Reverted
from fleet.sandbox.chain_state import POOLED, ChainState, ChainTx, Mined
from fleet.venues.polymarket.chain_contracts import CallUnknown, ChainCall, Contract, decode
from fleet.venues.polymarket.chain_transactions import (
    Transaction,
    TransactionInvalid,
    read_transaction,
)
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.keys import keccak

BLOCK_NS: Final = 2 * NS_PER_SECOND
"""Polygon's block time."""
FIRST_BLOCK: Final = 80_000_000
"""Where a fresh chain begins to count: near Polygon's height in 2026."""
BLOCK_GAS: Final = 45_000_000
GWEI: Final = 10**9
BASE_FEE_WEI: Final = 30 * GWEI
TIP_MIN_WEI: Final = 25 * GWEI
"""Bor's default: a transaction with a smaller tip is not taken."""
FAUCET_WEI: Final = 100 * 10**18
BUMP_PERCENT: Final = 10
"""By how much both fees must rise to replace a waiting transaction (geth's default)."""
_CALL_DATA_GAS: Final = (4, 16)
"""Of a zero byte and of another one (EIP-2028)."""
_INTRINSIC_GAS: Final = 21_000


class PoolRefused(Exception):  # noqa: N818 - named for what happened
    """The pool does not take a transaction, in geth's words."""


class Chain:
    """One chain over one exchange's ledger. ``base_fee_wei`` may be changed while it runs."""

    def __init__(
        self,
        state: ChainState,
        execution: ChainExecution,
        *,
        chain_id: int = POLYGON,
        block_ns: int = BLOCK_NS,
        on_mined: Callable[[], None] = lambda: None,
    ) -> None:
        """Continue the chain of ``state``; ``on_mined`` is called after transactions were."""
        self.state: Final = state
        self.execution: Final = execution
        self.chain_id: Final = chain_id
        self.block_ns: Final = block_ns
        self.base_fee_wei = BASE_FEE_WEI
        self._on_mined = on_mined

    # --- blocks ------------------------------------------------------------------------------

    def height(self, now_ns: int) -> int:
        """The number of the newest block."""
        return FIRST_BLOCK + max(0, now_ns - self.state.genesis_ns) // self.block_ns

    def block_time_ns(self, number: int) -> int:
        """When a block was (or will be) made."""
        return self.state.genesis_ns + (number - FIRST_BLOCK) * self.block_ns

    def block_hash(self, number: int) -> str:
        """A block's hash: stable over restarts, different for chains of different genesis."""
        return "0x" + keccak(f"sandbox block {self.state.genesis_ns} {number}".encode()).hex()

    # --- accounts ----------------------------------------------------------------------------

    def nonce(self, address: str, *, pending: bool) -> int:
        """The next nonce of an address, counting those that wait without a gap if ``pending``."""
        nonce = self.state.nonce(address)
        if pending:
            for tx in self.state.pooled_of(address):
                if tx.nonce != nonce:
                    break
                nonce += 1
        return nonce

    def balance_wei(self, address: str) -> int:
        """POL for gas."""
        return max(0, FAUCET_WEI - self.state.spent_wei(address))

    # --- the pool ----------------------------------------------------------------------------

    def send(self, raw: str, now_ns: int) -> str:
        """Take a signed transaction and return its hash. Raises ``PoolRefused``."""
        try:
            signed = read_transaction(raw)
        except TransactionInvalid as error:
            raise PoolRefused(str(error)) from error
        known = self.state.transaction(signed.transaction_hash)
        if known is not None and known.status == POOLED:
            raise PoolRefused("already known")
        self._check(signed.transaction, signed.sender)
        waiting = self.state.pooled_of(signed.sender)
        rival = next((tx for tx in waiting if tx.nonce == signed.transaction.nonce), None)
        if rival is not None and not _outbids(signed.transaction, rival):
            raise PoolRefused("replacement transaction underpriced")
        # Half a block to travel, then the next block: one to three seconds.
        first = self.height(now_ns + self.block_ns // 2) + 1
        tx = ChainTx(
            transaction_hash=signed.transaction_hash, sender=signed.sender,
            nonce=signed.transaction.nonce, raw=signed.raw, due_ns=self.block_time_ns(first),
            status=POOLED, block=0, succeeded=False, gas_used=0, gas_price=0, revert="", logs=(),
        )  # fmt: skip
        self.state.pool(tx, instead_of=rival)
        return signed.transaction_hash

    def step(self, now_ns: int) -> int:
        """Mine what is due by ``now_ns``; how many transactions that were."""
        mined = 0
        progress = True
        while progress:
            progress = False
            for tx in self.state.due(now_ns):
                transaction = read_transaction(tx.raw).transaction
                ready = tx.nonce == self.state.nonce(tx.sender)
                if ready and transaction.fee_cap >= self.base_fee_wei:
                    self._mine(tx, transaction, now_ns)
                    mined += 1
                    progress = True
        if mined:
            self._on_mined()
        return mined

    def _check(self, transaction: Transaction, sender: str) -> None:
        """What geth's pool checks, in its order."""
        if transaction.gas > BLOCK_GAS:
            raise PoolRefused("exceeds block gas limit")
        if transaction.priority_fee > transaction.fee_cap:
            raise PoolRefused("max priority fee per gas higher than max fee per gas")
        if transaction.chain_id != self.chain_id:
            raise PoolRefused(
                f"invalid sender: invalid chain id for signer: have {transaction.chain_id} "
                f"want {self.chain_id}"
            )
        next_nonce = self.state.nonce(sender)
        if transaction.nonce < next_nonce:
            raise PoolRefused(
                f"nonce too low: next nonce {next_nonce}, tx nonce {transaction.nonce}"
            )
        needed = intrinsic_gas(transaction.call_data)
        if transaction.gas < needed:
            raise PoolRefused(
                f"intrinsic gas too low: gas {transaction.gas}, minimum needed {needed}"
            )
        if transaction.priority_fee < TIP_MIN_WEI:
            raise PoolRefused(
                f"transaction underpriced: gas tip cap {transaction.priority_fee}, "
                f"minimum needed {TIP_MIN_WEI}"
            )
        if transaction.value or transaction.access_list:
            raise PoolRefused(
                "the sandbox's chain takes no value and no access list: leave them out"
            )
        balance, cost = self.balance_wei(sender), transaction.gas * transaction.fee_cap
        if balance < cost:
            raise PoolRefused(
                f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, "
                f"overshot {cost - balance}"
            )

    def _mine(self, tx: ChainTx, transaction: Transaction, now_ns: int) -> None:
        # A transaction that waited for a gap or for a lower fee is mined later than it was due.
        on_time = now_ns - tx.due_ns < self.block_ns
        block = self.height(tx.due_ns if on_time else now_ns)
        gas_price = min(transaction.fee_cap, self.base_fee_wei + transaction.priority_fee)
        try:
            call = call_of(transaction.to, transaction.call_data)
            gas = max(self.execution.gas(call), intrinsic_gas(transaction.call_data))
            if transaction.gas < gas:
                mined = Mined(
                    block=block, succeeded=False, gas_used=transaction.gas, gas_price=gas_price
                )
                self.state.mine(tx, mined)
                return
            logs = self.execution.execute(tx.sender, call, tx.transaction_hash, now_ns)
            mined = Mined(block=block, succeeded=True, gas_used=gas, gas_price=gas_price, logs=logs)
        except Reverted as undone:
            mined = Mined(
                block=block, succeeded=False, gas_used=transaction.gas // 2, gas_price=gas_price,
                revert="0x" + undone.payload.hex(),
            )  # fmt: skip
        self.state.mine(tx, mined)


def call_of(to: str, call_data: bytes) -> ChainCall | None:
    """The call a transaction makes; ``None`` for none, or to an address without code.

    Raises ``Reverted``, without words, for a call the contract at ``to`` does not have.
    """
    if not call_data or not is_contract(to):
        return None
    try:
        return decode(to, call_data)
    except CallUnknown:
        raise Reverted(b"") from None


def is_contract(address: str) -> bool:
    """Whether there is code at an address."""
    return any(contract.address == address for contract in Contract)


def intrinsic_gas(call_data: bytes) -> int:
    """What a transaction burns before anything runs."""
    zeros = call_data.count(0)
    zero, other = _CALL_DATA_GAS
    return _INTRINSIC_GAS + zero * zeros + other * (len(call_data) - zeros)


def _outbids(transaction: Transaction, rival: ChainTx) -> bool:
    before = read_transaction(rival.raw).transaction
    return transaction.fee_cap * 100 >= before.fee_cap * (
        100 + BUMP_PERCENT
    ) and transaction.priority_fee * 100 >= before.priority_fee * (100 + BUMP_PERCENT)
