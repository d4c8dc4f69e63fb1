"""What every fact that is not a market tuple shares."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """What all other facts share."""

    KIND: ClassVar[str] = "Event"
    VERSION: ClassVar[int] = 1

    ts_event: int = 0
    ts_recv: int = 0
