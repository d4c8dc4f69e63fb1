"""The slow check: what the Data API says followed wallets did, against what the chain showed us.

``/v2/activity`` is up to 15 s old and a second opinion from another machine. A row whose
transaction nobody told is never copied from here: it is counted, logged once, and its block is read
again, which is tried again in the next round if no node could be asked.

Only trades and the moves of tokens are looked at; rewards and deposits are none of our business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.venues.port import VenueError
from fleet.venues.transport import JsonClient

EVERY_NS: Final = 60 * NS_PER_SECOND
SETTLED_NS: Final = 30 * NS_PER_SECOND
"""A younger row may be ahead of the chain, or of our reading of it."""
WINDOW_NS: Final = 600 * NS_PER_SECOND
PAGE: Final = 200
WATCHED: Final = frozenset({"TRADE", "SPLIT", "MERGE", "REDEEM", "CONVERSION"})
KEPT_MAX: Final = 4_096


class _Row(msgspec.Struct):
    type: str
    timestamp: int
    transaction_hash: str | None = None


class _Page(msgspec.Struct):
    data: list[_Row]


class ActivityCheck:
    """Asks about each wallet in turn and reports what the chain did not show."""

    def __init__(
        self,
        http: JsonClient,
        wallets: Iterable[str],
        *,
        told: Callable[[str], bool],
        missed: Callable[[str], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """``told`` knows transactions; ``missed`` has one's block read again."""
        self.missed = 0
        """Transactions the chain had not shown us."""
        self.failures = 0
        """Questions without a usable answer."""
        self._http, self._wallets = http, tuple(wallets)
        self._told, self._missed, self._clock = told, missed, clock
        self._began_ns = clock.now_ns()
        self._reported: dict[str, None] = {}
        self._reread: dict[str, None] = {}
        self._log = logs.get("leaders")

    async def round(self) -> None:
        """Look at every wallet once; a wallet that cannot be asked is counted, and asked again."""
        for wallet in self._wallets:
            try:
                await self._look(wallet)
            except VenueError as error:
                self.failures += 1
                self._log.warning("ACTIVITY not checked", wallet=wallet, reason=str(error))

    async def _look(self, wallet: str) -> None:
        now_ns = self._clock.now_ns()
        since_ns = max(self._began_ns, now_ns - WINDOW_NS)
        params = {
            "user": wallet, "start": str(since_ns // NS_PER_SECOND), "limit": str(PAGE),
            "sort_direction": "DESC", "exclude_deposits_withdrawals": "true",
        }  # fmt: skip
        page = await self._http.get("/v2/activity", _Page, params)
        for row in page.data:
            name = (row.transaction_hash or "").lower()
            at_ns = row.timestamp * NS_PER_SECOND
            young = at_ns > now_ns - SETTLED_NS or at_ns < since_ns
            if young or row.type not in WATCHED or not name or name in self._reread:
                continue
            if self._told(name):
                continue
            if name not in self._reported:
                self.missed += 1
                _keep(self._reported, name)
                self._log.warning(
                    "ACTIVITY the chain did not show",
                    wallet=wallet, transaction=name, kind=row.type,
                )  # fmt: skip
            await self._missed(name)
            _keep(self._reread, name)


def _keep(names: dict[str, None], name: str) -> None:
    names[name] = None
    while len(names) > KEPT_MAX:
        del names[next(iter(names))]
