"""What makes one bot different from another, and its settings once they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fleet.config import pick
from fleet.engine.engine import Strategy
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View

if TYPE_CHECKING:
    from fleet.clock import Clock
    from fleet.config import Paths
    from fleet.engine.state import State
    from fleet.runtime.components import Node
    from fleet.runtime.runner import Runner
    from fleet.runtime.source_port import OpenSource
    from fleet.runtime.status import StatusBoard
    from fleet.venues.transport import JsonClient

T = TypeVar("T")
EXIT_OK: Final = 0
EXIT_RETRY: Final = 1
EXIT_TWIN: Final = 75
EXIT_STAY_DOWN: Final = 78
"""Why a bot ended: asked to, something a restart may heal, a twin runs, a person must repair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings of one start, all types together."""

    items: list[Any]
    feed: str = ""
    """Where it trades, once flags and settings are both read."""
    stage_percent: int = 100
    """The share of its sizes a bot may use (``staging``); 100 but in a live start's stages."""

    def of(self, kind: type[T]) -> T:
        """The settings of one type."""
        return pick(self.items, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Mode and market place of a start, in the words of the flags."""

    mode: str
    feed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What the components of one kind of bot may use; none of it can send an order."""

    loaded: Loaded
    paths: Paths
    feed: str
    clock: Clock
    state: State
    runner: Runner
    clob: Callable[[], JsonClient]
    """Opens a connection to the public side of the CLOB; who opens it closes it."""
    board: StatusBoard


def no_parts(_: Workplace) -> Sequence[Node]:
    """A bot without components of its own."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BotSpec:
    """What makes one bot different from another."""

    name: str
    """As PM2 shows it, ``ArbHunter``."""
    slug: str
    """As files are named, ``arbhunter``."""
    summary: str
    settings: tuple[type, ...]
    """The bot's own settings types; those in ``SHARED`` come with every bot."""
    known: tuple[type, ...]
    """The settings types of the whole fleet, to tell a misspelt key from another bot's."""
    strategy: Callable[[Loaded, View], Strategy]
    limits: Callable[[Loaded], RiskLimits]
    opportunity: str
    """The word a found idea is logged under."""
    start: Callable[[Loaded], Start]
    """How it starts when no flag says otherwise."""
    parts: Callable[[Workplace], Sequence[Node]] = no_parts
    """The components only this bot has, made when its accounts agree."""
    source: OpenSource | None = None
    """Where its market comes from; nothing is Polymarket or its sandbox."""
