"""A process of a chaos run that can be killed or stopped between any two steps, and what it holds.

The parts are the bot's own. What stands around them here is what ends them: at a named ``Point`` the
``Mortal`` dies (``Killed`` is raised, and nothing this process does has any effect any more) or
stands still, as by SIGSTOP, in the middle of its own code while everybody else goes on. No part
knows. Whatever the kernel takes from a dead process is taken: files, locks, connections.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from fleet.domain import events as ev
from fleet.journal import database
from fleet.journal.fleet import FleetState, Lease
from fleet.journal.locks import Lock
from fleet.journal.store import JournalStore
from fleet.runtime.cast import Cast, build
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.polymarket.guard import GuardRefused, SigningGuard
from fleet.venues.polymarket.live import LiveVenue
from tests.chaos_loop import VirtualLoop


class Killed(BaseException):
    """The process ends here, as by kill -9."""


class Point(Enum):
    """Where a bot can be killed or stopped."""

    BEFORE_SIGN = "before sign"
    BEFORE_JOURNAL = "before the id is journalled"
    AFTER_JOURNAL = "after the id is journalled"
    BEFORE_POST = "before POST"
    AFTER_POST = "after POST"
    BEFORE_ANSWER = "before the answer"
    AT_FILL = "before a fill is journalled"
    BETWEEN_LEGS = "after a fill is journalled"
    AT_SETTLEMENT = "between match and settlement"
    BEFORE_CANCEL = "before a cancel"
    AT_OPERATION = "before an operation's hash is journalled"
    BEFORE_SEND = "before a transaction is sent"
    AFTER_SEND = "after a transaction is sent"
    AT_WRITE = "before any write"
    AFTER_WRITE = "after any write"
    AT_RECOVERY = "while the account is read"
    AT_LEASE = "after the lease was taken"


class Witness(Protocol):
    """Told what a process does that others could object to."""

    def opened(self, life: Mortal) -> None:
        """It writes its journal from now on."""

    def wrote(self, life: Mortal, events: Sequence[ev.Event]) -> None:
        """These are in its journal."""

    def signed(self, life: Mortal) -> None:
        """It made a signature."""


class Mortal:
    """A process that can be killed, and what it has to do with once it is."""

    def __init__(
        self, name: str, number: int, loop: VirtualLoop, witness: Witness,
        on_death: Callable[[Mortal], None],
    ) -> None:  # fmt: skip
        self.name, self.number = name, number
        self.dead = False
        self.armed: Point | None = None
        self.stop_s = 0.0
        """How long it stands still where it is armed; 0 means that it dies there."""
        self.down_s = 0.0
        """How long nobody starts it again after it died; 0 for soon."""
        self.orphan = False
        """Its PM2 daemon is dead: nobody starts it again."""
        self.passed: dict[Point, int] = {}
        self.lease: Lease | None = None
        self.lock: Lock | None = None
        self.cast: Cast | None = None
        self.files: list[sqlite3.Connection] = []
        self.percent = 100
        """The stage its limits are of, by the gate's file."""
        self.stopped_s = float("-inf")
        """When it last stood still until."""
        self.witness = witness
        self.loop = loop
        self._on_death = on_death

    def at(self, *points: Point) -> None:
        """These places are passed: die or stand still here, if that was planned."""
        for point in points:
            self.passed[point] = self.passed.get(point, 0) + 1
        if self.armed in points and not self.dead:
            if self.stop_s:
                self._stand_still()
            else:
                self.kill()
        if self.dead:
            raise Killed(self.name)

    def _stand_still(self) -> None:
        seconds, self.stop_s, self.armed = self.stop_s, 0.0, None
        self.loop.stand_still(self.name, seconds)
        self.stopped_s = self.loop.time()

    def kill(self) -> None:
        """It is dead from now on."""
        if not self.dead:
            self.end()
            self._on_death(self)

    def end(self) -> None:
        """What the kernel does when a process is gone, however it went."""
        self.dead = True
        for file in self.files:
            file.close()
        if self.lock is not None:
            self.lock.release()


LIFE: ContextVar[Mortal | None] = ContextVar("life", default=None)
"""The process whose code runs."""
_connect = database.connect


def this_life() -> Mortal:
    """The process whose code runs; there must be one."""
    life = LIFE.get()
    assert life is not None, "code of the bot runs outside of any process"
    return life


def connect(path: Path, **options: Any) -> sqlite3.Connection:
    """``database.connect`` whose files are closed when their process ends."""
    db = _connect(path, **options)
    life = LIFE.get()
    if life is not None:
        life.files.append(db)
        if life.dead:
            db.close()
            raise Killed(life.name)
    return db


def staged(*arguments: Any) -> Cast:
    """``runtime.cast.build``, remembered."""
    life = this_life()
    life.cast = build(*arguments)
    return life.cast


class MortalJournal(JournalStore):
    """A journal file whose writer may die just before or just after a write."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.life = this_life()
        self.life.witness.opened(self.life)

    def write(self, events: Sequence[Any]) -> int:
        """Append, if the process lives."""
        life, kinds = self.life, {type(event) for event in events}
        signed, filled = ev.OrderSigned in kinds, ev.OrderFilled in kinds
        before = [Point.AT_WRITE]
        before += [Point.BEFORE_JOURNAL] if signed else []
        before += [Point.AT_FILL] if filled else []
        before += [Point.AT_SETTLEMENT] if ev.FillSettled in kinds else []
        before += [Point.AT_OPERATION] if ev.OperationSigned in kinds else []
        life.at(*before)
        seq = super().write(events)
        life.witness.wrote(life, events)
        after = [Point.AFTER_WRITE]
        after += [Point.AFTER_JOURNAL] if signed else []
        after += [Point.BETWEEN_LEGS] if filled else []
        life.at(*after)
        return seq


class MortalGuard(SigningGuard):
    """The signing guard of a process that may die before it signs."""

    def sign_orders(self, *arguments: Any, **options: Any) -> Any:
        """Sign, if the process lives."""
        life = this_life()
        life.at(Point.BEFORE_SIGN)
        wires = super().sign_orders(*arguments, **options)
        if any(not isinstance(wire, GuardRefused) for wire in wires):
            life.witness.signed(life)
        return wires


class MortalVenue(LiveVenue):
    """The live venue of a process that may die while it recovers."""

    async def account(self, query: AccountQuery) -> AccountTruth:
        """Ask; a start may end here."""
        truth = await super().account(query)
        this_life().at(Point.AT_RECOVERY)
        return truth


class MortalFleet(FleetState):
    """The fleet's file, and who took a lease of it."""

    def acquire(self, *arguments: Any, **options: Any) -> Lease:
        """Take the lease; a start may end right after."""
        lease = super().acquire(*arguments, **options)
        life = this_life()
        life.lease = lease
        life.at(Point.AT_LEASE)
        return lease


async def checked(_ground: object, _access: object) -> None:
    """The gate's checks were made: most lives have another subject."""


async def smoked(*_: object) -> None:
    """The smoke order was placed and ended: see ``checked``."""
