"""What a key's owner is notified of: cancels (type 1), fills (2), fills that failed (8).

The last hundred of a key, in memory: the venue keeps them for a day or two, and nobody may rely on
them. The other types of reference 4.4 do not occur here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.domain.events import SettlementStatus
from fleet.sandbox.exchange.contract import OrderChange, OrderUpdate, UserUpdate
from fleet.sandbox.trading.account_frames import order_object, owners_in, trade_object

KEPT: Final = 100
CANCEL, FILL, FILL_FAILED = 1, 2, 8
_OF_STATUS: Final = {SettlementStatus.MATCHED: FILL, SettlementStatus.FAILED: FILL_FAILED}


class Notifications:
    """The notifications of every key."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._last_id = 0
        self._kept: dict[str, deque[dict[str, Any]]] = {}

    def record(self, updates: Iterable[UserUpdate]) -> None:
        """Note what owners would want to know."""
        for update in updates:
            if isinstance(update, OrderUpdate):
                if update.change is OrderChange.CANCELLATION:
                    order = update.order
                    self._add(order.owner, CANCEL, order_object(order), update.at_ns)
                continue
            kind = _OF_STATUS.get(update.trade.status)
            if kind is not None:
                for owner in owners_in(update.trade):
                    self._add(owner, kind, trade_object(update.trade, owner), update.at_ns)

    def _add(self, owner: str, kind: int, payload: dict[str, Any], at_ns: int) -> None:
        self._last_id += 1
        self._kept.setdefault(owner, deque(maxlen=KEPT)).append(
            {
                "id": self._last_id,
                "type": kind,
                "owner": owner,
                "payload": payload,
                "timestamp": at_ns // NS_PER_SECOND,
            }
        )

    def of(self, owner: str) -> list[dict[str, Any]]:
        """A key's notifications, oldest first."""
        return list(self._kept.get(owner, ()))

    def drop(self, owner: str, ids: Iterable[str]) -> None:
        """Forget some of them."""
        gone = set(ids)
        kept = [n for n in self._kept.get(owner, ()) if str(n["id"]) not in gone]
        self._kept[owner] = deque(kept, maxlen=KEPT)
