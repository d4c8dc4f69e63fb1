"""The dated phrase: a person says, on this very UTC day, that this bot may trade real money.

The phrase is ``ENABLE LIVE <BOT> <YYYY-MM-DD>``. It is no secret; what it guards against is a
machine that goes live by a forgotten flag, an old environment or a restart at night. So it holds
for one bot and one UTC day, and a start on the next day, by PM2 or by hand, asks anew. It comes
from ``LIVE_CONFIRM`` (for PM2, which has no terminal) or is typed at a prompt; the bot's name may
be written in any case, the rest must be exact.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fleet.clock import NS_PER_SECOND, Clock

VARIABLE: Final = "LIVE_CONFIRM"
Ask = Callable[[str], str]
"""Shows a prompt and returns the line that was typed; raises ``EOFError`` when there is none."""


class PhraseRefused(Exception):  # noqa: N818 - named for what happened
    """The phrase was not given: stay down (78). The text says which one is expected."""


def expected_phrase(bot: str, now_ns: int) -> str:
    """The phrase for ``bot`` on the UTC day of ``now_ns``."""
    day = datetime.fromtimestamp(now_ns // NS_PER_SECOND, UTC).date()
    return f"ENABLE LIVE {bot} {day.isoformat()}"


def terminal() -> Ask | None:
    """How to ask on a terminal; nothing when there is nobody to ask."""
    return input if sys.stdin.isatty() and sys.stdout.isatty() else None


def require_phrase(bot: str, clock: Clock, *, given: str, ask: Ask | None) -> None:
    """Return if the phrase of ``bot`` and this UTC day was given, or is given now.

    ``given`` is the value of ``LIVE_CONFIRM``. Only when it is empty is a terminal asked, once: a
    wrong one must be repaired where it was written. Raises ``PhraseRefused``.
    """
    source = VARIABLE
    said = given
    if not said.strip():
        if ask is None:
            expected = expected_phrase(bot, clock.now_ns())
            raise PhraseRefused(
                f"live trading was not confirmed: set {VARIABLE}={expected!r} for this UTC day, or"
                " start on a terminal and type it"
            )
        source = "the answer"
        prompt = (
            f"{bot} is about to trade REAL MONEY. To allow it for this UTC day, type\n"
            f"  {expected_phrase(bot, clock.now_ns())}\n> "
        )
        try:
            said = ask(prompt)
        except EOFError:
            said = ""
    # Asked again: the day may have ended while the prompt waited.
    expected = expected_phrase(bot, clock.now_ns())
    if _words(said) != _words(expected):
        raise PhraseRefused(
            f"live trading was not confirmed: {source} is {said.strip()[:80]!r}, expected is"
            f" {expected!r} (the day is UTC)"
        )


def _words(phrase: str) -> list[str]:
    words = phrase.split()
    return [word.casefold() if place == 2 else word for place, word in enumerate(words)]
