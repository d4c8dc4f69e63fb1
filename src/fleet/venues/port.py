"""The ports of the outside world and the errors that cross them.

A ``Feed`` turns a venue's market data into facts and hands them to a sink; it never calls the
engine. Errors say whose fault it was and whether the request may have taken effect, because the
most expensive mistake here is to read silence as "no".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet.domain.events import AnyEvent

EventSink = Callable[[Sequence[AnyEvent]], None]
"""Where a feed puts facts, in order. Called on the event loop; must not block or raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedHealth:
    """How a feed is doing; ``failure`` is non-empty once it stopped because of a defect."""

    connections: int
    """Connections the feed should have."""
    connected: int
    """Connections that are up."""
    awaiting: int
    """Instruments whose book is void until a snapshot comes."""
    data_age_ns: int
    """Time since the last market data on the quietest connection; 0 before the first."""
    reconnects: int
    """Connections opened after a loss; planned changes of connection are not counted."""
    rotations: int
    """Planned changes of connection that were completed."""
    frames: int
    rejected: int
    failure: str = ""

    @property
    def healthy(self) -> bool:
        """Whether every connection is up and the feed has not failed."""
        return not self.failure and self.connected == self.connections


class Feed(Protocol):
    """A source of market facts."""

    async def start(self) -> None:
        """Begin to connect; returns at once. Facts go to the sink given at construction."""
        ...

    async def stop(self) -> None:
        """Close every connection; no fact is emitted afterwards."""
        ...

    def health(self) -> FeedHealth:
        """How the feed is doing, now."""
        ...


class VenueError(Exception):
    """A venue did not do what was asked."""


class TransportFailed(VenueError):  # noqa: N818 - named for what happened, like the events
    """No usable answer came back.

    ``sent`` is false only if the request provably never left: then it did not take effect.
    Otherwise the venue may have acted on it, and nobody may conclude that it has not.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        """Say what happened and whether the request may have reached the venue."""
        super().__init__(message)
        self.sent = sent


class RequestRefused(VenueError):  # noqa: N818 - see above
    """The venue answered with an error ``status``; ``body`` is the start of what it said."""

    def __init__(self, message: str, *, status: int, body: str) -> None:
        """Keep the HTTP status and the answer's text."""
        super().__init__(message)
        self.status = status
        self.body = body


class AnswerInvalid(VenueError):  # noqa: N818 - see above
    """The venue answered with success, but not in a shape this program knows."""
