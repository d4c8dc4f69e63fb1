"""The closed list of faults the sandbox can make, and what a rule about one of them says.

Names, texts and defaults only; ``faults`` decides when they strike. The names are the words of the
control API, of the command line and of the documentation's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

ORDER_PLACES: Final = ("POST /clob/order", "POST /clob/orders")
ENGINE_PLACES: Final = (*ORDER_PLACES, "DELETE /clob/*")
BOOK_PLACES: Final = ("GET /clob/book", "POST /clob/books")
CHANNELS: Final = ("market", "user")


class Fault(Enum):
    """Everything that can be made to go wrong."""

    LOST_REQUEST = "lost_request"
    TIMEOUT_AFTER_ACCEPTANCE = "timeout_after_acceptance"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    GATEWAY_ERROR = "gateway_error"
    RATE_LIMITED = "rate_limited"
    ENGINE_RESTART = "engine_restart"
    SLOW_REQUEST = "slow_request"
    SLOW_ANSWER = "slow_answer"
    STALE_BOOK = "stale_book"
    FREEZE = "freeze"
    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    NO_REPLAY = "no_replay"
    TICK_CHANGE = "tick_change"
    DELAYED_ORDER = "delayed_order"
    SETTLEMENT_FAILED = "settlement_failed"
    SETTLEMENT_RETRYING = "settlement_retrying"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """What a fault is; ``chance`` says when it may strike, ``seconds`` how long it lasts."""

    text: str
    chance: str
    where: tuple[str, ...] = ("*",)
    seconds: float = 0.0


CATALOGUE: Final[Mapping[Fault, FaultSpec]] = {
    Fault.LOST_REQUEST: FaultSpec(
        text="the request never reaches the exchange; the connection ends after `seconds`",
        chance="request", where=ORDER_PLACES,
    ),
    Fault.TIMEOUT_AFTER_ACCEPTANCE: FaultSpec(
        text="the exchange acts, the answer never comes; the connection ends after `seconds`",
        chance="request", where=ORDER_PLACES, seconds=30.0,
    ),
    Fault.ERROR_BEFORE: FaultSpec(
        text="500 `order timed out`, and nothing was done", chance="request", where=ORDER_PLACES,
    ),
    Fault.ERROR_AFTER: FaultSpec(
        text="500 `order timed out`, although it was done", chance="request", where=ORDER_PLACES,
    ),
    Fault.GATEWAY_ERROR: FaultSpec(
        text="502 with a page of HTML, although it was done", chance="request", where=ORDER_PLACES,
    ),
    Fault.RATE_LIMITED: FaultSpec(
        text="429 with Retry-After `seconds`; nothing was done",
        chance="request", where=ENGINE_PLACES, seconds=1.0,
    ),
    Fault.ENGINE_RESTART: FaultSpec(
        text="425 with Retry-After for `seconds`, then 503 post_only_mode for `then_seconds`",
        chance="request", where=ENGINE_PLACES, seconds=5.0,
    ),
    Fault.SLOW_REQUEST: FaultSpec(
        text="the request reaches the exchange `seconds` late",
        chance="request", where=ORDER_PLACES, seconds=0.5,
    ),
    Fault.SLOW_ANSWER: FaultSpec(
        text="the answer comes `seconds` late", chance="request", seconds=0.5,
    ),
    Fault.STALE_BOOK: FaultSpec(
        text="REST books show 0.01 / 0.99 as when the market opened; /price stays right",
        chance="request", where=BOOK_PLACES,
    ),
    Fault.FREEZE: FaultSpec(
        text="a connection gets no data for `seconds` while PONG goes on; what it missed is gone",
        chance="frame", where=CHANNELS, seconds=60.0,
    ),
    Fault.DROP: FaultSpec(
        text="a connection is cut without a close frame", chance="frame", where=CHANNELS,
    ),
    Fault.DUPLICATE: FaultSpec(
        text="a frame is sent twice", chance="frame", where=CHANNELS,
    ),
    Fault.REORDER: FaultSpec(
        text="a frame comes `seconds` late, after those that followed it",
        chance="frame", where=CHANNELS, seconds=0.2,
    ),
    Fault.NO_REPLAY: FaultSpec(
        text="a subscription is answered with changes only, without snapshots",
        chance="subscription", where=("market",),
    ),
    Fault.TICK_CHANGE: FaultSpec(
        text="a market's tick becomes finer now", chance="market and second",
    ),
    Fault.DELAYED_ORDER: FaultSpec(
        text="an order that takes is answered `delayed` and matched `seconds` later",
        chance="order", seconds=1.0,
    ),
    Fault.SETTLEMENT_FAILED: FaultSpec(
        text="a matched trade fails on chain and is taken back", chance="trade",
    ),
    Fault.SETTLEMENT_RETRYING: FaultSpec(
        text="a matched trade is retried before it is mined", chance="trade",
    ),
}  # fmt: skip
"""What each fault does, when it may strike, where by default, and its default ``seconds``."""


DRAWN_BY_THE_EXCHANGE: Final = frozenset(
    {Fault.DELAYED_ORDER, Fault.SETTLEMENT_FAILED, Fault.SETTLEMENT_RETRYING}
)
"""Each order or trade has a chance of its own there, which outlives a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """How often a fault strikes. Raises ``ValueError`` for what makes no sense.

    ``rate`` is a share of the chances (0 to 1). ``times`` ends the rule after so many strikes (0:
    never). ``after_s`` and ``for_s`` bound it in time from when it is set (``for_s`` 0: no end).
    ``where`` are patterns (``*`` allowed) of subjects; empty means the fault's own. ``seconds``
    replaces the fault's own length; ``then_seconds`` is for ``engine_restart``.
    """

    fault: Fault
    rate: float = 1.0
    times: int = 0
    after_s: float = 0.0
    for_s: float = 0.0
    where: tuple[str, ...] = ()
    seconds: float | None = None
    then_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"rate {self.rate} of {self.fault.value} is outside 0..1")
        if self.times and self.fault in DRAWN_BY_THE_EXCHANGE:
            raise ValueError(f"{self.fault.value} takes a rate, not a number of times")
        lengths = (self.times, self.after_s, self.for_s, self.seconds or 0.0, self.then_seconds)
        if min(lengths) < 0:
            raise ValueError(f"{self.fault.value}: times and seconds must not be negative")

    @property
    def places(self) -> tuple[str, ...]:
        """The patterns of the subjects it may strike."""
        return self.where or CATALOGUE[self.fault].where

    @property
    def lasts_s(self) -> float:
        """How long one strike lasts."""
        return CATALOGUE[self.fault].seconds if self.seconds is None else self.seconds


def rule_object(rule: FaultRule) -> dict[str, Any]:
    """A rule as the control API shows it."""
    return {
        "name": rule.fault.value,
        "rate": rule.rate,
        "times": rule.times,
        "after_s": rule.after_s,
        "for_s": rule.for_s,
        "where": list(rule.places),
        "seconds": rule.lasts_s,
    }


def fault_named(name: str) -> Fault:
    """The fault of a name. Raises ``ValueError`` that lists them all."""
    try:
        return Fault(name)
    except ValueError:
        known = ", ".join(fault.value for fault in Fault)
        raise ValueError(f"no fault is called {name!r}; use one of: {known}") from None


def parse_rule(text: str) -> FaultRule:
    """``NAME=RATE`` of the command line. Raises ``ValueError`` with what is wrong."""
    name, _, share = text.partition("=")
    fault = fault_named(name)
    try:
        return FaultRule(fault=fault, rate=float(share))
    except ValueError as error:
        raise ValueError(f"{text!r}: write NAME=RATE with a rate in 0..1 ({error})") from None
