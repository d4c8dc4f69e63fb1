"""The state all bots share: kill latch, wallet leases, and the day's loss of every bot.

``var/fleet.db`` is the one file with several writers. Every change is one short IMMEDIATE
transaction; a reader never waits. Time is passed in (wall-clock nanoseconds), never asked for.

*Kill latch.* ``halt`` sets it, only ``resume`` clears it, both are kept for ever. A file that
cannot be read reads as LATCHED: a latch that might be set is set.

*Wallet lease.* Whoever holds the lease of a wallet may sign for it, until it expires or is
released. Each grant has a higher fencing number (``token``) than every one before it, so a holder
that slept through its lease finds out at its next ``renew``. An expired lease that nobody took may
be renewed: its number is still the highest.

*Day board.* Each bot publishes its P&L of the UTC day, so a loss limit covers the whole fleet and
survives restarts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from fleet.domain.units import Cash
from fleet.journal import database
from fleet.journal.database import JournalDamaged, JournalError

APPLICATION_ID: Final = 0x464C4653
"""``FLFS`` in the file header."""
SCHEMA_VERSION: Final = 1

_DDL: Final = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE latch(
    id INTEGER PRIMARY KEY,
    action TEXT NOT NULL CHECK (action IN ('HALT', 'RESUME')),
    reason TEXT NOT NULL,
    by TEXT NOT NULL,
    ts INTEGER NOT NULL
) STRICT;
CREATE TRIGGER latch_never_changes BEFORE UPDATE ON latch
BEGIN SELECT raise(ABORT, 'the history of halts never changes'); END;
CREATE TRIGGER latch_never_goes BEFORE DELETE ON latch
BEGIN SELECT raise(ABORT, 'the history of halts is never removed'); END;
CREATE TABLE lease(
    wallet TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    pid INTEGER NOT NULL,
    token INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE day_pnl(
    mode TEXT NOT NULL,
    day TEXT NOT NULL,
    bot TEXT NOT NULL,
    wallet TEXT NOT NULL,
    pnl INTEGER NOT NULL,
    PRIMARY KEY (mode, day, bot, wallet)
) STRICT, WITHOUT ROWID;
"""


class LeaseError(Exception):
    """A wallet may not be signed for by the caller; the text names the cure."""


class LeaseHeld(LeaseError):  # noqa: N818 - named for what was found
    """Another engine holds the wallet's lease. ``pid`` and ``expires_ns`` are the holder's."""

    def __init__(self, wallet: str, owner: str, pid: int, expires_ns: int) -> None:
        super().__init__(
            f"wallet {wallet} is leased to {owner} (process {pid}); stop that one, or wait until"
            " its lease runs out"
        )
        self.owner = owner
        self.pid = pid
        self.expires_ns = expires_ns


class LeaseLost(LeaseError):  # noqa: N818 - named for what was found
    """The lease was superseded or released: stop signing at once."""


class LatchChanged(JournalError):  # noqa: N818 - named for what was found
    """Somebody halted again since the latch was looked at: look again before resuming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """The halt in force: the first since the last resume, which is the cause of standing still.

    ``ts`` is nanoseconds, 0 if unknown. ``readable`` is False if the state could not be read and
    therefore counts as latched. ``newest`` numbers the latest halt that stands beside the first.
    """

    reason: str
    by: str
    ts: int
    readable: bool = True
    newest: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchEntry:
    """One line of the latch's history; ``action`` is HALT or RESUME."""

    action: str
    reason: str
    by: str
    ts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to sign for a wallet until ``expires_ns``; ``token`` is the fencing number."""

    wallet: str
    owner: str
    pid: int
    token: int
    expires_ns: int

    def alive(self, now_ns: int) -> bool:
        """Whether it has not run out, as far as the holder itself can know."""
        return now_ns < self.expires_ns


class FleetState:
    """An open ``fleet.db``, made if there is none."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises ``JournalDamaged``, ``JournalForeign`` or ``JournalUnavailable``."""
        self.path = path
        database.create(path, application_id=APPLICATION_ID, version=SCHEMA_VERSION, ddl=_DDL)
        self._db = database.connect(path, read_only=False)
        try:
            database.require_identity(
                self._db, path, application_id=APPLICATION_ID, version=SCHEMA_VERSION
            )
            database.integrity(self._db, path)
        except database.DRIVER_ERRORS as error:
            self._db.close()
            raise database.translate(error, path, "open") from error
        except JournalError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- kill latch ----------------------------------------------------------------------------

    def halt(self, reason: str, by: str, ts: int) -> None:
        """Set the latch. Setting it again adds a line and changes nothing else."""
        self._append("HALT", reason, by, ts)

    def resume(self, by: str, ts: int, reason: str = "", *, seen: Latch | None = None) -> bool:
        """Clear the latch; False if it was not set (nothing is written then).

        With ``seen``, what was shown is what is cleared: raises ``LatchChanged`` if it is not that.
        """
        with self._transaction("resume"):
            latch = self._latch()
            if latch is None:
                return False
            if seen is not None and latch != seen:
                raise LatchChanged("the fleet was halted again meanwhile; look again, then resume")
            self._insert_latch("RESUME", reason, by, ts)
        return True

    def latched(self) -> Latch | None:
        """The halt in force, or ``None``. A file that cannot be read answers with a latch."""
        try:
            return self._latch()
        except database.DRIVER_ERRORS as error:
            return unreadable(database.translate(error, self.path, "read"))

    def history(self) -> list[LatchEntry]:
        """Every halt and resume, oldest first."""
        rows = self._all("SELECT action, reason, by, ts FROM latch ORDER BY id")
        return [LatchEntry(action=a, reason=r, by=b, ts=t) for a, r, b, t in rows]

    # -- wallet leases -------------------------------------------------------------------------

    def acquire(
        self,
        wallet: str,
        owner: str,
        pid: int,
        ttl_ns: int,
        now_ns: int,
        *,
        predecessor_dead: bool = False,
    ) -> Lease:
        """Lease ``wallet`` to ``owner`` (a bot) for ``ttl_ns``. Raises ``LeaseHeld``.

        ``predecessor_dead`` may be said only by a bot that holds its own lock: a living lease of
        the *same* owner then belongs to a killed process, and a restart need not wait for it.
        """
        with self._transaction("lease"):
            row = self._lease_row(wallet)
            own_dead = predecessor_dead and row is not None and row.owner == owner
            if row is not None and row.alive(now_ns) and not own_dead:
                raise LeaseHeld(wallet, row.owner, row.pid, row.expires_ns)
            lease = Lease(
                wallet=wallet,
                owner=owner,
                pid=pid,
                token=(row.token if row else 0) + 1,
                expires_ns=now_ns + ttl_ns,
            )
            self._store_lease(lease)
        return lease

    def renew(self, lease: Lease, ttl_ns: int, now_ns: int) -> Lease:
        """Extend a lease to ``now_ns + ttl_ns``. Raises ``LeaseLost`` if it is not the newest."""
        with self._transaction("renew"):
            self._require_newest(lease)
            renewed = Lease(
                wallet=lease.wallet,
                owner=lease.owner,
                pid=lease.pid,
                token=lease.token,
                expires_ns=max(lease.expires_ns, now_ns + ttl_ns),
            )
            self._store_lease(renewed)
        return renewed

    def release(self, lease: Lease) -> None:
        """Give a lease back; one that was lost already is left to its new holder."""
        with self._transaction("release"):
            self._db.execute(
                "UPDATE lease SET expires_ns = 0 WHERE wallet = ? AND token = ?",
                (lease.wallet, lease.token),
            )

    def holds(self, lease: Lease, now_ns: int) -> bool:
        """Whether ``lease`` is the newest of its wallet and runs at ``now_ns``."""
        try:
            row = self._lease_row(lease.wallet)
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, "read") from error
        return row is not None and row.token == lease.token and row.alive(now_ns)

    # -- the day's loss ------------------------------------------------------------------------

    def publish_day_pnl(self, bot: str, mode: str, wallet: str, day: str, pnl: Cash) -> None:
        """Say what ``bot`` made on ``wallet`` on the UTC ``day`` (``YYYY-MM-DD``) so far."""
        with self._transaction("publish"):
            self._db.execute(
                "INSERT OR REPLACE INTO day_pnl(mode, day, bot, wallet, pnl)"
                " VALUES (?, ?, ?, ?, ?)",
                (mode, day, bot, wallet, pnl),
            )

    def day_pnl(self, mode: str, day: str) -> Cash:
        """What all bots of ``mode`` made together on ``day``, dollars at 1e-8."""
        rows = self._all(
            "SELECT coalesce(sum(pnl), 0) FROM day_pnl WHERE mode = ? AND day = ?", mode, day
        )
        return Cash(rows[0][0])

    # -- inside --------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, doing) from error

    def _append(self, action: str, reason: str, by: str, ts: int) -> None:
        with self._transaction(action.lower()):
            self._insert_latch(action, reason, by, ts)

    def _insert_latch(self, action: str, reason: str, by: str, ts: int) -> None:
        self._db.execute(
            "INSERT INTO latch(action, reason, by, ts) VALUES (?, ?, ?, ?)",
            (action, reason, by, ts),
        )

    def _latch(self) -> Latch | None:
        row = self._db.execute(
            "SELECT reason, by, ts, (SELECT max(id) FROM latch) FROM latch WHERE action = 'HALT'"
            " AND id > (SELECT coalesce(max(id), 0) FROM latch WHERE action = 'RESUME')"
            " ORDER BY id LIMIT 1"
        ).fetchone()
        return Latch(reason=row[0], by=row[1], ts=row[2], newest=row[3]) if row else None

    def _lease_row(self, wallet: str) -> Lease | None:
        row = self._db.execute(
            "SELECT owner, pid, token, expires_ns FROM lease WHERE wallet = ?", (wallet,)
        ).fetchone()
        if row is None:
            return None
        return Lease(wallet=wallet, owner=row[0], pid=row[1], token=row[2], expires_ns=row[3])

    def _require_newest(self, lease: Lease) -> None:
        row = self._lease_row(lease.wallet)
        if row is None or row.token != lease.token:
            holder = f"{row.owner} (process {row.pid})" if row else "nobody"
            raise LeaseLost(
                f"the lease {lease.token} of wallet {lease.wallet} was superseded, it is now held"
                f" by {holder}; stop this bot, it may not sign any more"
            )
        if row.expires_ns == 0:
            raise LeaseLost(f"the lease of wallet {lease.wallet} was released; acquire it again")

    def _store_lease(self, lease: Lease) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO lease(wallet, owner, pid, token, expires_ns)"
            " VALUES (?, ?, ?, ?, ?)",
            (lease.wallet, lease.owner, lease.pid, lease.token, lease.expires_ns),
        )

    def _all(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, "read") from error


def read_latch(path: Path) -> Latch | None:
    """The halt in force according to ``path``, without making the file or raising.

    No file means that the fleet never ran here: not latched. Anything that cannot be read counts
    as latched, and the reason says what to do.
    """
    try:
        if not path.exists():
            return None
        with FleetState(path) as state:
            return state.latched()
    except (JournalError, OSError) as error:
        return unreadable(error)


def unreadable(error: Exception) -> Latch:
    """The latch that a fleet state which cannot be read counts as."""
    cure = (
        "" if isinstance(error, JournalDamaged) else " (trading stays stopped until it can be read)"
    )
    return Latch(reason=f"fleet state unreadable: {error}{cure}", by="fleet", ts=0, readable=False)
