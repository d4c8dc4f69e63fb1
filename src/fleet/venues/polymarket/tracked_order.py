"""One order of ours at the venue and what is proven of it; ``live_orders`` moves it along."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from fleet.domain import events as ev
from fleet.domain.commands import TimeInForce
from fleet.domain.events import TradeId
from fleet.domain.instruments import Side
from fleet.venues.polymarket.live_fills import Ours


class Phase(Enum):
    """Where an order stands with the venue; see the table in ``live_orders``."""

    SENT = "SENT"
    UNKNOWN = "UNKNOWN"
    WORKING = "WORKING"
    ENDING = "ENDING"
    CLOSED = "CLOSED"


@dataclass(slots=True, kw_only=True)
class Tracked:
    """One order and what is proven of it. Quantities are shares at 1e-8."""

    ours: Ours
    phase: Phase = Phase.SENT
    told: bool = False
    """Whether ``OrderAccepted`` was said, that is: the venue is known to have had it."""
    told_ns: int = 0
    """When that was; a look that began before it proves no absence. 0 in an earlier run."""
    filled: int = 0
    matched: int = 0
    """What the venue counts as matched; ``filled`` must come level with it."""
    trades: set[TradeId] = field(default_factory=set)
    """Trades the venue named."""
    seen: set[TradeId] = field(default_factory=set)
    """Trades that came."""
    lost_ns: int = 0
    silent: bool = True
    absent_ns: int = 0
    end: str = ""
    proven: bool = False
    calm_ns: int = 0
    last: ev.Event | None = None
    """The fact that closed it, where one did."""
    asked: bool = False
    """Whether the engine asked for a cancel."""
    cancel_due_ns: int = 0
    """When to ask the venue to cancel it; 0 for not."""
    gone: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether its rest is ours to cancel."""
        return self.ours.tif is TimeInForce.FAK and self.ours.side is Side.BUY

    @property
    def rests(self) -> bool:
        """Whether the venue keeps what is left of it (a FAK BUY too: it went out as GTC)."""
        return self.by_hand or self.ours.tif in {TimeInForce.GTC, TimeInForce.GTD}

    @property
    def urgent(self) -> bool:
        """Whether only a look at the venue can bring it on."""
        return self.phase in {Phase.UNKNOWN, Phase.ENDING} or (
            self.phase is Phase.WORKING and (self.gone or self.ours.tif is not TimeInForce.GTC)
        )
