"""Journal and exchange compared while a life is lived, entry by entry and request by request.

``tests.chaos_checks`` compares them at the end, when everything has settled; by then a lie may have
healed (an order that was held for refused is found by its fills, and the books are level again).
Here it is caught in the act. The exchange lives in the same process and is always ahead of whatever
the bot can know, so each thing the journal takes for proven must be true of it at that moment:

- an order that is rejected does not rest, nothing of it was matched, and it never comes later;
- an order that is over does not rest, and all that was matched of it has come as fills;
- a fill is a trade the exchange has, of that order;
- what is posted was journalled before, under the one id its client order id can have.

Only the ids' arithmetic is shared with what is checked, and it has its own proof (py-clob-client-v2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from fleet.domain import events as ev
from fleet.sandbox.exchange.state import ExchangeState
from fleet.sandbox.trading.posted_orders import PostedOrder, _order, read_orders
from fleet.venues.polymarket.contracts import POLYGON, Exchange
from fleet.venues.polymarket.keys import keccak
from fleet.venues.polymarket.signing import order_digest
from tests.chaos_checks import PER_BASE_UNIT
from tests.proof import Disproved

MAX_SALT = 2**53


class ExchangeWatch:
    """Told of each entry that is written and each request that leaves, in the order of both."""

    def __init__(self, wallet: str, exchange: Callable[[], ExchangeState | None]) -> None:
        """``exchange`` tells the ledger; nothing while it is down."""
        self._wallet, self._exchange = wallet, exchange
        self.signed: dict[str, str] = {}
        """Client order id -> the id that is journalled for it."""
        self.others: set[str] = set()
        """Ids that were written down elsewhere before they were sent (smoke orders)."""
        self._salts: set[int] = set()
        self._rejected: dict[str, str] = {}
        self._absent: dict[str, str] = {}
        """Rejected, and the exchange had never had it then."""
        self._filled: dict[str, int] = {}
        self._trades: set[str] = set()
        self._waiting: list[ev.Event] = []

    # --- the journal --------------------------------------------------------------------------

    def take(self, events: Iterable[ev.Event]) -> None:
        """These were written. Raises ``Disproved``; while the exchange is down they wait."""
        for event in events:
            if isinstance(event, ev.OrderSigned):
                self.signed[event.client_order_id] = event.venue_order_id
            elif isinstance(event, ev.DecisionMade):
                self._salts |= {self.salt_of(order.client_order_id) for order in event.orders}
            elif isinstance(
                event, ev.OrderRejected | ev.OrderCanceled | ev.OrderExpired | ev.OrderFilled
            ):
                self._waiting.append(event)
        state = self._exchange()
        if state is not None:
            waiting, self._waiting = self._waiting, []
            for event in waiting:
                self._compare(event, state)

    def salt_of(self, client_order_id: str) -> int:
        """The only salt an order may have: of its wallet and its own name."""
        digest = keccak(f"{self._wallet.lower()}:{client_order_id}".encode())
        return int.from_bytes(digest[:8], "big") % MAX_SALT

    def _compare(self, event: ev.Event, state: ExchangeState) -> None:
        match event:
            case ev.OrderRejected():
                self._reject(event, state)
            case ev.OrderFilled():
                self._fill(event, state)
            case ev.OrderCanceled() | ev.OrderExpired():
                self._end(event.client_order_id, state)
            case _:
                pass

    def _reject(self, event: ev.OrderRejected, state: ExchangeState) -> None:
        digest = self.signed.get(event.client_order_id)
        if digest is None:
            return  # It was never signed, so nobody can have it.
        # One that rested and was cancelled by the dead man's switch cannot be told from one that
        # never came: neither is in any list. Both are over, and nothing of them was matched.
        if digest in state.active or self._matched(digest, state):
            raise Disproved(
                f"order {event.client_order_id} is rejected in the journal ({event.reason}), and"
                " the exchange has it"
            )
        if digest not in state.owners:
            self._absent[digest] = event.client_order_id
        self._rejected[digest] = event.client_order_id

    def _fill(self, event: ev.OrderFilled, state: ExchangeState) -> None:
        digest = self.signed.get(event.client_order_id, "")
        if event.trade_id in self._trades:
            return
        self._trades.add(event.trade_id)
        trade = state.trades.get(event.trade_id.partition("/")[0])
        if trade is None:
            raise Disproved(f"fill {event.trade_id} is no trade of the exchange")
        total = self._filled[digest] = self._filled.get(digest, 0) + event.qty
        matched = self._matched(digest, state)
        if total > matched:
            raise Disproved(
                f"order {event.client_order_id} has fills of {total}, the exchange of {matched}"
            )

    def _end(self, client_order_id: str, state: ExchangeState) -> None:
        digest = self.signed.get(client_order_id, "")
        if digest in state.active:
            raise Disproved(f"order {client_order_id} is over in the journal and still rests")
        filled, matched = self._filled.get(digest, 0), self._matched(digest, state)
        if filled != matched:
            raise Disproved(
                f"order {client_order_id} is over with fills of {filled}, the exchange has {matched}"
            )

    def _matched(self, digest: str, state: ExchangeState) -> int:
        """How much of an order was ever matched, at 1e-8; what failed to settle included."""
        owner = state.owners.get(digest, "")
        total = 0
        for trade_id in state.trades_of.get(owner, []):
            view = state.trades[trade_id].view
            if view.taker_order_id == digest:
                total += view.size
            total += sum(fill.size for fill in view.makers if fill.order_id == digest)
        return total * PER_BASE_UNIT

    # --- the wire -----------------------------------------------------------------------------

    def posted(self, body: bytes) -> None:
        """A body of POST /order or /orders is about to leave. Raises ``Disproved``."""
        known = self.others.union(self.signed.values())
        for posted in _orders_in(body):
            ids = _ids_of(posted)
            if not known & ids:
                raise Disproved(f"order {min(ids)} leaves and is in no journal")
            if posted.order.salt not in self._salts and not self.others & ids:
                raise Disproved(f"salt {posted.order.salt} is of no order that was decided")

    def accepted(self, digests: Iterable[str]) -> None:
        """The exchange took these. Raises ``Disproved``."""
        for digest in digests:
            if digest in self._absent:
                raise Disproved(
                    f"order {self._absent[digest]} was rejected in the journal before the"
                    " exchange took it"
                )

    def at_the_end(self) -> None:
        """Nothing came of what is rejected here, and nobody sent what is not written down."""
        state = self._exchange()
        assert state is not None
        self.take(())
        self.accepted(state.owners)
        for digest, name in self._rejected.items():
            if digest in state.active or self._matched(digest, state):
                raise Disproved(
                    f"order {name} is rejected in the journal, and something came of it"
                )
        strangers = set(state.owners) - set(self.signed.values()) - self.others
        if strangers:
            raise Disproved(f"the exchange has orders that no journal knows: {strangers}")


def _orders_in(body: bytes) -> Sequence[PostedOrder]:
    return read_orders(body if body.lstrip().startswith(b"[") else b"[" + body + b"]")


def _ids_of(posted: PostedOrder) -> set[str]:
    """The ids an order has, whichever contract it was signed for."""
    order = _order(posted)
    return {
        "0x" + order_digest(msgspec.structs.replace(order, exchange=exchange), POLYGON).hex()
        for exchange in Exchange
    }
