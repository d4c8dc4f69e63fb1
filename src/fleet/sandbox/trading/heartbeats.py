"""Heartbeats: a key that began them and stops loses all its resting orders (reference 4.4).

Opt-in by the first beat. Each beat must quote the id the last one was answered with. That a key has
begun is kept over a restart (its ids are not): it then has the full time to send the next beat, is
told the right id, or loses its orders.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.trading.accounts import Accounts

LIMIT_NS: Final = 15 * NS_PER_SECOND
"""10 s, and a buffer of 5 s (reference 4.4)."""


@dataclass(slots=True)
class Beat:
    """The last beat of a key."""

    id: str
    until_ns: int


class Heartbeats:
    """Who promised to stay alive, and until when it is believed."""

    def __init__(self, accounts: Accounts, now_ns: Callable[[], int]) -> None:
        """Give everybody who had begun before a restart the full time."""
        self._accounts = accounts
        self._now_ns = now_ns
        until_ns = now_ns() + LIMIT_NS
        self._beats = {owner: Beat(_fresh(), until_ns) for owner in accounts.expecting_heartbeats()}

    def beat(self, owner: str, heartbeat_id: str) -> tuple[bool, str]:
        """Whether the id was the right one, and the id to send next (empty: begin anew)."""
        last = self._beats.get(owner)
        wanted = last.id if last is not None else ""
        if heartbeat_id != wanted:
            return False, wanted
        if last is None:
            self._accounts.expect_heartbeats(owner, expected=True)
        beat = self._beats[owner] = Beat(_fresh(), self._now_ns() + LIMIT_NS)
        return True, beat.id

    def lapsed(self, now_ns: int) -> list[str]:
        """The keys whose time is over: cancel their orders, then ``end`` each."""
        return [owner for owner, beat in self._beats.items() if beat.until_ns < now_ns]

    def end(self, owner: str) -> None:
        """Expect nothing more of a key until it begins anew."""
        if self._beats.pop(owner, None) is not None:
            self._accounts.expect_heartbeats(owner, expected=False)


def _fresh() -> str:
    return str(uuid.uuid4())
