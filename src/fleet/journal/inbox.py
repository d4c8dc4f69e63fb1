"""What people ask of bots, on disk: each order has an id, a target, and an answer by every bot.

A person (``fleet reduce``, ``pm2 trigger``) posts a command to one bot or to ``*``; each bot looks
for what it has not answered yet, carries it out, and answers under its *seat* (bot, mode and feed:
journals of different seats have nothing in common). A command outlives the process it was meant
for: a bot that was down finds it at its next start. Of the standing orders (pause, reduce, flatten,
resume) only the newest counts then; the older ones are answered as superseded.

Commands are never changed nor removed. An answer goes from UNDER_WAY to DONE or FAILED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fleet.journal.fleet_file import FleetFile

ALL: Final = "*"
STANDING: Final = frozenset({"pause", "reduce", "flatten", "resume"})
CANCEL_ALL: Final = "cancel-all"
ACTIONS: Final = ("pause", "reduce", "flatten", CANCEL_ALL, "resume")


class AnswerState(Enum):
    """How far a bot is with what it was asked."""

    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One command; ``target`` is a bot's name or ``*``, ``ts`` nanoseconds."""

    id: int
    target: str
    action: str
    argument: str
    by: str
    ts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one bot says to one command."""

    command_id: int
    seat: str
    bot: str
    state: AnswerState
    detail: str
    ts: int


class OperatorInbox:
    """The commands and answers of one ``fleet.db``."""

    def __init__(self, file: FleetFile) -> None:
        """Use ``file``'s connection."""
        self._file = file

    def post(self, target: str, action: str, *, by: str, ts: int, argument: str = "") -> int:
        """Ask ``target`` (a bot, or ``*``) for an action; the command's id, higher than all before.

        Raises ``ValueError`` for an action that is not in ``ACTIONS``.
        """
        if action not in ACTIONS:
            raise ValueError(f"no action {action!r}; ask for one of {', '.join(ACTIONS)}")
        with self._file.transaction("ask"):
            cursor = self._file.db.execute(
                "INSERT INTO command(target, action, argument, by, ts) VALUES (?, ?, ?, ?, ?)",
                (target, action, argument, by, ts),
            )
        return cursor.lastrowid or 0

    def waiting(self, bot: str, seat: str) -> list[Asked]:
        """What ``bot`` has not ended under ``seat``, oldest first; also what is under way."""
        rows = self._file.rows(
            "SELECT c.id, c.target, c.action, c.argument, c.by, c.ts FROM command c"
            " LEFT JOIN answer a ON a.command_id = c.id AND a.seat = ?"
            " WHERE c.target IN (?, '*') AND coalesce(a.state, 'UNDER_WAY') = 'UNDER_WAY'"
            " ORDER BY c.id",
            seat,
            bot,
        )
        return [
            Asked(id=i, target=t, action=a, argument=g, by=b, ts=ts) for i, t, a, g, b, ts in rows
        ]

    def answer(self, answer: Answer) -> None:
        """Say how far it is; a final answer is never overwritten."""
        with self._file.transaction("answer"):
            self._file.db.execute(
                "INSERT INTO answer(command_id, seat, bot, state, detail, ts)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (command_id, seat) DO UPDATE"
                " SET state = excluded.state, detail = excluded.detail, ts = excluded.ts"
                " WHERE answer.state = 'UNDER_WAY'",
                (answer.command_id, answer.seat, answer.bot, answer.state.value, answer.detail,
                 answer.ts),
            )  # fmt: skip

    def answers(self, command_id: int) -> list[Answer]:
        """What all bots said to one command, by seat."""
        rows = self._file.rows(
            "SELECT seat, bot, state, detail, ts FROM answer WHERE command_id = ? ORDER BY seat",
            command_id,
        )
        return [
            Answer(command_id=command_id, seat=s, bot=b, state=AnswerState(st), detail=d, ts=ts)
            for s, b, st, d, ts in rows
        ]


def superseded(asked: Sequence[Asked]) -> list[Asked]:
    """The standing orders among ``asked`` (oldest first) that a newer one has made void."""
    standing = [one for one in asked if one.action in STANDING]
    return standing[:-1]
