"""Asking running bots for something and waiting for their answers: what several commands share.

A command is posted to the inbox in ``var/fleet.db``; bots look twice a second. Who has to answer is
known from the leases: a bot whose lease runs is there, or died a moment ago. Exit codes: 0 every
bot has done it (or none runs: it is done at the next start), 1 a bot failed, did not answer or is
still at it, 2 wrong words.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from fleet.cli.root import fleet_root, operator
from fleet.clock import LiveClock
from fleet.config import Paths
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState
from fleet.journal.inbox import ALL, Answer, AnswerState, OperatorInbox
from fleet.ops import health

WAIT_S: Final = 15.0
POLL_S: Final = 0.1
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
_WORDS: Final = {
    AnswerState.UNDER_WAY: "under way",
    AnswerState.DONE: "done",
    AnswerState.FAILED: "FAILED",
}


def add_bot(parser: argparse.ArgumentParser, *, wait_s: float = WAIT_S) -> None:
    """The arguments of a command to one bot or all."""
    parser.add_argument("bot", nargs="?", default="", help="the bot; without one, every bot")
    parser.add_argument("--wait", type=float, default=wait_s, metavar="SECONDS",
                        help=f"how long to wait for answers (default: {wait_s:g})")  # fmt: skip


def ask(name: str, action: str, bot: str, *, wait_s: float, reason: str = "") -> int:
    """Post ``action`` to ``bot`` (all, if empty), print the answers; the exit code.

    ``name`` is the command's, for messages.
    """
    try:
        with FleetState(Paths(root=fleet_root()).fleet_db) as state:
            target = _target(state, bot)
            if target is None:
                known = ", ".join(known_bots(state)) or "none has ever run here"
                print(f"fleet {name}: no bot is called {bot!r}; there are: {known}",
                      file=sys.stderr)  # fmt: skip
                return EXIT_USAGE
            now_ns = LiveClock().now_ns()
            inbox = OperatorInbox(state)
            expected = [b for b in running_bots(state, now_ns) if target in {ALL, b}]
            number = inbox.post(target, action, by=operator(), ts=now_ns, argument=reason)
            if not expected:
                told = "no bot runs" if target == ALL else f"{target} does not run"
                print(f"{told}; it is written down and done at the next start")
                return EXIT_OK
            return _wait(inbox, number, expected, wait_s)
    except JournalError as error:
        print(f"fleet {name}: {error}", file=sys.stderr)
        return EXIT_FAILED


def running_bots(state: FleetState, now_ns: int) -> list[str]:
    """The bots whose lease runs: they are there, or died within the lease."""
    return sorted({lease.owner for lease in state.leases() if lease.alive(now_ns)})


def known_bots(state: FleetState) -> list[str]:
    """Every bot that ever had a lease here, or says something of itself."""
    reported = (
        status.bot
        for status in health.read_all(Paths(root=fleet_root()).var / "status")
        if isinstance(status, health.BotStatus) and not status.mode.startswith("sandbox")
    )
    by_name = {name.lower(): name for name in reported}
    by_name |= {lease.owner.lower(): lease.owner for lease in state.leases()}
    return sorted(by_name.values())


def _target(state: FleetState, bot: str) -> str | None:
    if not bot or bot == ALL:
        return ALL
    return {name.lower(): name for name in known_bots(state)}.get(bot.lower())


def _wait(inbox: OperatorInbox, number: int, expected: Sequence[str], wait_s: float) -> int:
    """Print each answer as it changes, until every expected bot has ended or time is over."""
    deadline_s = time.monotonic() + wait_s
    shown: dict[str, str] = {}
    while True:
        latest = {answer.seat: answer for answer in inbox.answers(number)}
        for seat, answer in latest.items():
            line = f"{seat}: {_WORDS[answer.state]}: {answer.detail}"
            if shown.get(seat) != line:
                shown[seat] = line
                print(line, flush=True)
        ended = {a.bot for a in latest.values() if a.state is not AnswerState.UNDER_WAY}
        if ended >= set(expected) or time.monotonic() >= deadline_s:
            return _verdict(latest, expected)
        time.sleep(POLL_S)


def _verdict(latest: Mapping[str, Answer], expected: Sequence[str]) -> int:
    answered = {answer.bot for answer in latest.values()}
    for bot in expected:
        if bot not in answered:
            print(f"{bot}: DID NOT ANSWER; it runs or died a moment ago: look with `make status`."
                  " What was asked stays written down.", file=sys.stderr)  # fmt: skip
    done = {a.bot for a in latest.values() if a.state is AnswerState.DONE}
    return EXIT_OK if done >= set(expected) else EXIT_FAILED
