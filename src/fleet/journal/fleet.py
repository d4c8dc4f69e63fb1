"""The state all bots share: kill latch, wallet leases, and the day's loss of every bot.

``var/fleet.db`` is the one file with several writers (``fleet_file``). Time is passed in, as
wall-clock nanoseconds, never asked for.

*Kill latch.* ``halt`` sets it, with a reason of the closed list ``halts`` beside the words; only
``resume`` clears it; both are kept for ever. A file that cannot be read reads as LATCHED: a latch
that might be set is set.

*Wallet lease.* Whoever holds the lease of a wallet may sign for it, until it expires or is
released. Each grant has a higher fencing number (``token``) than every one before it, so a holder
that slept through its lease finds out at its next ``renew``. An expired lease that nobody took may
be renewed: its number is still the highest.

*Day board.* Each bot publishes its P&L of the UTC day, so a loss limit covers the whole fleet and
survives restarts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet.domain.units import Cash
from fleet.journal import database
from fleet.journal.database import JournalDamaged, JournalError
from fleet.journal.fleet_file import FleetFile
from fleet.journal.halts import HaltCode, code_of


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
    ``code`` is the reason of the closed list, ``reason`` the words.
    """

    reason: str
    by: str
    ts: int
    readable: bool = True
    newest: int = 0
    code: HaltCode = HaltCode.OPERATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchEntry:
    """One line of the latch's history; ``action`` is HALT or RESUME."""

    action: str
    reason: str
    by: str
    ts: int
    code: HaltCode = HaltCode.OPERATOR


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


class FleetState(FleetFile):
    """An open ``fleet.db``: latch, leases, and the day."""

    # -- kill latch ----------------------------------------------------------------------------

    def halt(self, reason: str, by: str, ts: int, *, code: HaltCode = HaltCode.OPERATOR) -> None:
        """Set the latch. Setting it again adds a line and changes nothing else."""
        with self.transaction("halt"):
            self._insert_latch("HALT", reason, by, ts, code)

    def resume(self, by: str, ts: int, reason: str = "", *, seen: Latch | None = None) -> bool:
        """Clear the latch; False if it was not set (nothing is written then).

        With ``seen``, what was shown is what is cleared: raises ``LatchChanged`` if it is not that.
        """
        with self.transaction("resume"):
            latch = self._latch()
            if latch is None:
                return False
            if seen is not None and latch != seen:
                raise LatchChanged("the fleet was halted again meanwhile; look again, then resume")
            self._insert_latch("RESUME", reason, by, ts, HaltCode.OPERATOR)
        return True

    def latched(self) -> Latch | None:
        """The halt in force, or ``None``. A file that cannot be read answers with a latch."""
        try:
            return self._latch()
        except database.DRIVER_ERRORS as error:
            return unreadable(database.translate(error, self.path, "read"))

    def history(self) -> list[LatchEntry]:
        """Every halt and resume, oldest first."""
        rows = self.rows("SELECT action, reason, by, ts, code FROM latch ORDER BY id")
        return [
            LatchEntry(action=a, reason=r, by=b, ts=t, code=code_of(c)) for a, r, b, t, c in rows
        ]

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
        with self.transaction("lease"):
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
        with self.transaction("renew"):
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
        with self.transaction("release"):
            self.db.execute(
                "UPDATE lease SET expires_ns = 0 WHERE wallet = ? AND token = ?",
                (lease.wallet, lease.token),
            )

    def leases(self) -> list[Lease]:
        """Every lease there ever was, released ones with ``expires_ns`` 0, by wallet."""
        rows = self.rows("SELECT wallet, owner, pid, token, expires_ns FROM lease ORDER BY wallet")
        return [Lease(wallet=w, owner=o, pid=p, token=t, expires_ns=e) for w, o, p, t, e in rows]

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
        with self.transaction("publish"):
            self.db.execute(
                "INSERT OR REPLACE INTO day_pnl(mode, day, bot, wallet, pnl)"
                " VALUES (?, ?, ?, ?, ?)",
                (mode, day, bot, wallet, pnl),
            )

    def day_pnl(self, mode: str, day: str) -> Cash:
        """What all bots of ``mode`` made together on ``day``, dollars at 1e-8."""
        rows = self.rows(
            "SELECT coalesce(sum(pnl), 0) FROM day_pnl WHERE mode = ? AND day = ?", mode, day
        )
        return Cash(rows[0][0])

    # -- inside --------------------------------------------------------------------------------

    def _insert_latch(self, action: str, reason: str, by: str, ts: int, code: HaltCode) -> None:
        self.db.execute(
            "INSERT INTO latch(action, reason, by, ts, code) VALUES (?, ?, ?, ?, ?)",
            (action, reason, by, ts, code.value),
        )

    def _latch(self) -> Latch | None:
        row = self.db.execute(
            "SELECT reason, by, ts, (SELECT max(id) FROM latch), code FROM latch"
            " WHERE action = 'HALT'"
            " AND id > (SELECT coalesce(max(id), 0) FROM latch WHERE action = 'RESUME')"
            " ORDER BY id LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        return Latch(reason=row[0], by=row[1], ts=row[2], newest=row[3], code=code_of(row[4]))

    def _lease_row(self, wallet: str) -> Lease | None:
        row = self.db.execute(
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
        self.db.execute(
            "INSERT OR REPLACE INTO lease(wallet, owner, pid, token, expires_ns)"
            " VALUES (?, ?, ?, ?, ?)",
            (lease.wallet, lease.owner, lease.pid, lease.token, lease.expires_ns),
        )


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
