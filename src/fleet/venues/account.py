"""What a venue can be asked about our account, and how it answers: the venue's half of recovery.

``AccountQuery`` names what the journal leaves open; ``AccountTruth`` is the venue's answer. Facts
carry the same ids as the original ones, so applying them twice changes nothing. *Not mentioned* is
proof only where the field says so; an empty answer is never read as "flat".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.domain.commands import ClientOrderId, OperationId
from fleet.domain.events import Event, TradeId
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import Cash, Qty


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountQuery:
    """What the journal does not know the end of."""

    open_orders: frozenset[ClientOrderId]
    known_trades: frozenset[TradeId]
    unsettled_trades: frozenset[TradeId]
    pending_operations: frozenset[OperationId]
    tokens: frozenset[InstrumentId] = frozenset()
    """Tokens the journal holds: a venue that is asked token by token must be asked about these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountTruth:
    """The venue's books: totals now, and the facts that answer a query, oldest first.

    ``absent_orders`` and ``absent_operations`` are those of the query the venue *proves* never to
    have had, and never will.
    """

    cash: Cash
    tokens: Mapping[InstrumentId, Qty]
    facts: tuple[Event, ...]
    absent_orders: tuple[ClientOrderId, ...] = ()
    absent_operations: tuple[OperationId, ...] = ()
