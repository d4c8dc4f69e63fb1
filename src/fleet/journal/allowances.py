"""Limits over all bots, counted in one place: what each bot may reach, granted in advance.

Theory of operation. A limit of the fleet (a *cap*) belongs to a *scope*: one market, one outcome
set, one wallet, the fleet, one day's turnover; for each *place* (mode and feed) apart. Every bot
holds an *allowance* in each scope: the exposure it may reach there without asking anybody. Its
risk rules compare with the allowance in memory, so a decision never waits for a disk; beside the
hot path, about once a second, the bot says what it uses and asks for what it wants, and gets at
most what the others leave.

Invariant: a grant never makes the allowances of one scope add up to more than its cap. A bot never
uses more than its allowance, hence all bots together never use more than the cap, whatever order
they run in. Grants are made in one IMMEDIATE transaction: of two bots that ask for the last
hundred dollars one gets them.

An allowance has no end. What a bot that was killed had used by then is not known to anybody else:
it may have spent all of its allowance in its last breath, so all of it counts until the bot comes
back, folds its journal and gives back what it does not need. An orderly stop gives it back at once.
Where a cap is lowered below what is in use, nobody loses what it uses, and nobody gets more.

*Fair share.* A bot asks for its share, the cap divided by the bots seen lately, or for what it uses
if that is more; so a bot that joins gets its part as the others ask again. ``presence`` says who
was seen; it only makes shares fair and is no part of the invariant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fleet.journal.fleet_file import FleetFile

SEEN_NS: Final = 15_000_000_000
"""How long a bot that says nothing still counts for fair shares."""
PRESENT_EVERY_NS: Final = 5_000_000_000
"""How often a bot that has nothing to change still says that it is there."""


TURNOVER: Final = "turnover:"
"""The scopes that end with their day; the UTC day follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One cap, what the bot uses of it now and the most it wants, all dollars at 1e-8.

    ``want`` may be above the cap; less than what is used counts as that. ``unsure`` says that more
    may be used than is known: then nothing of what was granted is given back.
    """

    cap: int
    used: int
    want: int
    unsure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One scope over all bots."""

    scope: str
    bot: str
    granted: int
    used: int


class AllowanceBoard:
    """The allowances of one bot at one place, in one ``fleet.db``."""

    def __init__(self, file: FleetFile, *, place: str, bot: str, wallet: str) -> None:
        """Speak for ``bot``, which trades on ``wallet`` at ``place`` (``live:polymarket``)."""
        self._file = file
        self._place = place
        self._bot = bot
        self._wallet = wallet
        self._seen_ns = -PRESENT_EVERY_NS  # Never: the first refresh says that it is there.
        self._written: dict[str, tuple[int, int]] | None = None
        self._asked: tuple[Mapping[str, Scope], bool, object] | None = None

    def refresh(
        self, scopes: Mapping[str, Scope], now_ns: int, *, keep: bool = False
    ) -> dict[str, int]:
        """Say what is used, ask for what is wanted; the allowance in every scope.

        A scope that is not named any more is given back, but for what was last known to be in use
        there. With ``keep`` it is kept whole: something is held whose market is not known any more
        (it left the catalogue), so nobody can say how much of it is in use. What is used is written
        at least every few seconds, allowances at once. Raises ``JournalError``: what is on disk is
        not known then, and the caller may use no more than it uses already.
        """
        if self._written is None:
            self._written = self._own()
        due = now_ns - self._seen_ns >= PRESENT_EVERY_NS
        # The first changes with every write of another connection, the second with those of ours.
        changes = (self._file.rows("PRAGMA data_version"), self._file.db.total_changes)
        asked = (scopes, keep, changes)
        if not due and asked == self._asked:
            return _granted(self._written)  # Neither wish nor file changed since the last look.
        self._asked = asked
        share = 1 + self._others(now_ns)
        new = _grants(scopes, self._written, self._granted_to_others(), share, keep=keep)
        if not due and _granted(new) == _granted(self._written):
            return _granted(new)
        with self._file.transaction("grant"):
            own = self._own()
            share = 1 + self._others(now_ns)
            new = _grants(scopes, own, self._granted_to_others(), share, keep=keep)
            self._store(own, new)
            self._file.db.execute(
                "INSERT OR REPLACE INTO presence(place, bot, wallet, seen_ns) VALUES (?, ?, ?, ?)",
                (self._place, self._bot, self._wallet, now_ns),
            )
        self._seen_ns, self._written = now_ns, new
        return _granted(new)

    def give_back(self, used: Mapping[str, int], *, keep: bool = False) -> None:
        """Keep only what is used (by scope, others nothing): the last act of an orderly stop.

        ``keep`` as in ``refresh``. May be called only when nothing is open any more that could
        raise what is used.
        """
        with self._file.transaction("give back"):
            own = self._own()
            new = {
                scope: before if keep and scope not in used else (in_use, in_use)
                for scope, before in own.items()
                for in_use in [min(before[0], used.get(scope, 0))]
            }
            self._store(own, new)
            self._file.db.execute(
                "DELETE FROM presence WHERE place = ? AND bot = ?", (self._place, self._bot)
            )
        self._written, self._seen_ns = None, -PRESENT_EVERY_NS

    def usage(self) -> list[Usage]:
        """Every allowance of every bot at this place, for a person."""
        rows = self._file.rows(
            "SELECT scope, bot, granted, used FROM allowance WHERE place = ? ORDER BY scope, bot",
            self._place,
        )
        return [Usage(scope=s, bot=b, granted=g, used=u) for s, b, g, u in rows]

    # -- inside --------------------------------------------------------------------------------

    def _others(self, now_ns: int) -> int:
        rows = self._file.rows(
            "SELECT count(*) FROM presence WHERE place = ? AND bot <> ? AND seen_ns > ?",
            self._place,
            self._bot,
            now_ns - SEEN_NS,
        )
        count: int = rows[0][0]
        return count

    def _own(self) -> dict[str, tuple[int, int]]:
        rows = self._file.rows(
            "SELECT scope, granted, used FROM allowance WHERE place = ? AND bot = ?",
            self._place,
            self._bot,
        )
        return {scope: (granted, used) for scope, granted, used in rows}

    def _granted_to_others(self) -> dict[str, int]:
        rows = self._file.rows(
            "SELECT scope, sum(granted) FROM allowance WHERE place = ? AND bot <> ? GROUP BY scope",
            self._place,
            self._bot,
        )
        return dict(rows)

    def _store(
        self, own: Mapping[str, tuple[int, int]], new: Mapping[str, tuple[int, int]]
    ) -> None:
        self._file.db.executemany(
            "INSERT OR REPLACE INTO allowance(place, scope, bot, granted, used)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (self._place, scope, self._bot, granted, used)
                for scope, (granted, used) in new.items()
                if own.get(scope) != (granted, used)
            ],
        )
        self._file.db.executemany(
            "DELETE FROM allowance WHERE place = ? AND scope = ? AND bot = ?",
            [
                (self._place, scope, self._bot)
                for scope in own
                if scope not in new or new[scope] == (0, 0)
            ],
        )


def _wish(scope: Scope, share: int) -> int:
    """What a bot asks for: its share, no more than it wants, no less than it uses."""
    return max(scope.used, min(scope.want, scope.cap // share))


def _grants(
    scopes: Mapping[str, Scope],
    own: Mapping[str, tuple[int, int]],
    others: Mapping[str, int],
    share: int,
    *,
    keep: bool = False,
) -> dict[str, tuple[int, int]]:
    """(granted, used) of every scope after this refresh.

    Growing is bounded by what the others leave; what was granted before and is in use stays, so a
    lowered cap takes nothing away that cannot be given back.
    """
    new: dict[str, tuple[int, int]] = {
        name: (granted if keep else min(granted, used), used)
        for name, (granted, used) in own.items()
        if (used or keep) and name not in scopes and not name.startswith(TURNOVER)
    }
    for name, scope in scopes.items():
        before = own.get(name, (0, 0))[0]
        room = max(0, scope.cap - others.get(name, 0))
        kept = before if scope.unsure else min(before, scope.used)
        new[name] = (max(kept, min(_wish(scope, share), room)), scope.used)
    return new


def _granted(allowances: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    return {scope: granted for scope, (granted, _) in allowances.items() if granted}
