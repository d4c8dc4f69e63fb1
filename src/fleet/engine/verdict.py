"""What risk says of the wishes of one decision: what passed, what did not, and why not."""

from __future__ import annotations

from msgspec import Struct

from fleet.domain.commands import (
    CloseBundle,
    Intent,
    OpenBundle,
    OperationIntent,
    OrderIntent,
    RefusalCode,
    Refused,
)
from fleet.domain.instruments import MarketId
from fleet.domain.units import format_dollars, format_units


class Verdict(Struct):
    """What passed and what did not, in the order it was wished."""

    opened: list[OpenBundle] = []
    orders: list[OrderIntent] = []
    operations: list[OperationIntent] = []
    closed: list[CloseBundle] = []
    refused: list[Refused] = []
    opened_cost: int = 0
    """What the bundles of ``opened`` can cost, in all and by market."""
    opened_by_market: dict[MarketId, int] = {}

    def copy(self) -> Verdict:
        """Another one with the same content."""
        return Verdict(
            opened=list(self.opened),
            orders=list(self.orders),
            operations=list(self.operations),
            closed=list(self.closed),
            refused=list(self.refused),
            opened_cost=self.opened_cost,
            opened_by_market=dict(self.opened_by_market),
        )

    def add(self, intent: Intent) -> None:
        """Let an intent pass."""
        kind = type(intent)
        if kind is OrderIntent:
            self.orders.append(intent)  # type: ignore[arg-type]  # mypy does not narrow by `kind`
        elif kind is OpenBundle:
            self.opened.append(intent)  # type: ignore[arg-type]
        elif kind is OperationIntent:
            self.operations.append(intent)  # type: ignore[arg-type]
        else:
            self.closed.append(intent)  # type: ignore[arg-type]


def describe(intent: Intent) -> str:
    """An intent in a few words."""
    match intent:
        case OrderIntent():
            return (
                f"{intent.purpose.value} {intent.leg} {intent.side.value} "
                f"{format_units(intent.qty)} @ {format_units(intent.price)} {intent.instrument_id}"
            )
        case OpenBundle():
            return f"{intent.idea} {intent.key} budget {format_dollars(intent.budget)}"
        case OperationIntent():
            return f"{intent.kind.value} {intent.subject}"
        case CloseBundle():
            return f"close {intent.outcome}"


def refusal(intent: Intent, code: RefusalCode, detail: str) -> Refused:
    """The answer to an intent that may not pass."""
    return Refused(bundle_id=intent.bundle_id, subject=describe(intent), code=code, detail=detail)
