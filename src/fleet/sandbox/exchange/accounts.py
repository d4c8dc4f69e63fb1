"""Who owns what: pUSD and tokens on chain, and what orders and unsettled trades hold of it.

Base units everywhere. The anonymous flow is the wallet ``FLOW``: its purse is bottomless (its pUSD
may be negative), its tokens are not. Invariant: pUSD of all wallets, the fees and the collateral
locked behind outstanding tokens sum to what was deposited, always. Holding changes no balance; it
only says how much of one may still be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

FLOW: Final = ""
CASH: Final = ""
"""The asset that is not a token."""


class Ledger:
    """Balances, holds, collateral and fees. ``changed`` collects what a store must write."""

    def __init__(self) -> None:
        """Nobody owns anything."""
        self.deposited = 0
        self.fees = 0
        self.collateral: dict[str, int] = {}
        """By condition id, or by neg-risk market id for a whole outcome set."""
        self.changed: set[tuple[str, str]] = set()
        self._balances: dict[str, dict[str, int]] = {}
        self._held: dict[tuple[str, str], int] = {}

    def balance(self, wallet: str, asset: str) -> int:
        """What the chain says."""
        return self._balances.get(wallet, {}).get(asset, 0)

    def held(self, wallet: str, asset: str) -> int:
        """What orders and unsettled trades hold."""
        return self._held.get((wallet, asset), 0)

    def free(self, wallet: str, asset: str) -> int:
        """What can still be used; negative after a wallet moved away what was held."""
        return self.balance(wallet, asset) - self.held(wallet, asset)

    def tokens(self, wallet: str) -> dict[str, int]:
        """A wallet's tokens, zero balances left out."""
        owned = self._balances.get(wallet, {})
        return {asset: amount for asset, amount in owned.items() if asset != CASH and amount}

    def wallets(self) -> Iterator[tuple[str, str, int]]:
        """Every wallet, asset and balance."""
        for wallet, owned in self._balances.items():
            for asset, amount in owned.items():
                yield wallet, asset, amount

    def move(self, wallet: str, asset: str, delta: int) -> None:
        """Change a balance. Raises ``ValueError`` below zero, a bug of the caller."""
        owned = self._balances.setdefault(wallet, {})
        amount = owned.get(asset, 0) + delta
        if amount < 0 and (wallet != FLOW or asset != CASH):
            raise ValueError(f"{wallet or 'the flow'} would own {amount} of {asset or 'pUSD'}")
        owned[asset] = amount
        self.changed.add((wallet, asset))

    def hold(self, wallet: str, asset: str, amount: int) -> None:
        """Hold more of a balance; negative lets go. Raises ``ValueError`` below zero."""
        held = self.held(wallet, asset) + amount
        if held < 0:
            raise ValueError(f"{wallet or 'the flow'} would hold {held} of {asset or 'pUSD'}")
        if held:
            self._held[wallet, asset] = held
        else:
            self._held.pop((wallet, asset), None)

    def lock(self, pool: str, delta: int) -> None:
        """Change the collateral behind a market's or an outcome set's tokens."""
        locked = self.collateral.get(pool, 0) + delta
        if locked < 0:
            raise ValueError(f"the collateral of {pool} would be {locked}")
        self.collateral[pool] = locked

    def total(self) -> int:
        """All pUSD there is: equal to ``deposited``, or money was made or lost."""
        cash = sum(owned.get(CASH, 0) for owned in self._balances.values())
        return cash + self.fees + sum(self.collateral.values())
