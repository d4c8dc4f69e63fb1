"""What wallets allow the exchanges to take: as the sandbox's chain says, or everything."""

from __future__ import annotations

from typing import Final, Protocol

from fleet.sandbox.chain_state import ChainState
from fleet.venues.polymarket.chain_contracts import Contract
from fleet.venues.polymarket.contracts import POLYGON, Exchange, exchange_address

UNLIMITED: Final = (1 << 256) - 1


class Approvals(Protocol):
    """What wallets allow contracts to take, as the chain says. Addresses are checksummed."""

    def allowance(self, wallet: str, spender: str) -> int:
        """How much pUSD, in base units."""
        ...

    def approved(self, wallet: str, operator: str) -> bool:
        """Whether ``operator`` may move the wallet's outcome tokens."""
        ...

    def grant(self, wallet: str) -> None:
        """Give every approval trading needs."""
        ...


class ChainApprovals:
    """The approvals of a chain's state."""

    def __init__(self, state: ChainState) -> None:
        """Read and grant in ``state``."""
        self._state = state

    def allowance(self, wallet: str, spender: str) -> int:
        """See ``Approvals``."""
        return self._state.allowance(wallet, spender)

    def approved(self, wallet: str, operator: str) -> bool:
        """See ``Approvals``. ExchangeV3 settles position ids, which have a ledger of their own."""
        third = operator == exchange_address(POLYGON, Exchange.V3)
        ledger = Contract.POSITION_MANAGER if third else Contract.CTF
        return self._state.approved(wallet, operator, ledger)

    def grant(self, wallet: str) -> None:
        """See ``Approvals``."""
        self._state.grant(wallet)
