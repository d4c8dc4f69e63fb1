"""Why trading was stopped: a closed list, each reason with how far it reaches and what to do.

A reason reaches the *fleet* when money of other bots may be concerned as well: it sets the kill
latch, every bot stops and stays down until a person clears it. A reason that concerns one *bot*
halts that bot alone; it keeps running, cancels what rests and waits for a person.

The table in docs/runbook.md is made from ``HALTS``; a code is never renamed, because ``fleet.db``
keeps it for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class HaltCode(Enum):
    """Why trading stopped."""

    OPERATOR = "OPERATOR"
    DAY_LOSS = "DAY_LOSS"
    UNKNOWN_ORDER = "UNKNOWN_ORDER"
    UNKNOWN_FILL = "UNKNOWN_FILL"
    NEGATIVE_BALANCE = "NEGATIVE_BALANCE"
    RECONCILIATION_DIFFERENCE = "RECONCILIATION_DIFFERENCE"
    LEASE_LOST = "LEASE_LOST"
    STALE_FEED = "STALE_FEED"
    ERROR_RATE = "ERROR_RATE"


class Reach(Enum):
    """Whom a reason stops."""

    FLEET = "fleet"
    BOT = "bot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """What a code means, whom it stops, and the cure in a sentence."""

    meaning: str
    reach: Reach
    remedy: str
    lasting: bool = True
    """Whether a bot that is stopped for it stays stopped over restarts until a person resumes."""


HALTS: Final[Mapping[HaltCode, Halt]] = {
    HaltCode.OPERATOR: Halt(
        meaning="a person asked for it",
        reach=Reach.FLEET,
        remedy="read the reason that was given; when it no longer holds, `fleet resume`",
    ),
    HaltCode.DAY_LOSS: Halt(
        meaning="the bots of one mode lost `FLEET_MAX_DAY_LOSS_USD` within a UTC day",
        reach=Reach.FLEET,
        remedy="find the losing trades with `fleet journal BOT --kind OrderFilled`; if trading may"
        " go on, raise the limit or wait for the next UTC day, then `fleet resume`",
    ),
    HaltCode.UNKNOWN_ORDER: Halt(
        meaning="the venue reports on an order that no journal of ours ever sent",
        reach=Reach.FLEET,
        remedy="`fleet cancel-all --direct`; if nobody of you sent it, somebody else has the key:"
        " move the funds and rotate the key; if a journal was restored, reconcile, then"
        " `fleet resume`",
    ),
    HaltCode.UNKNOWN_FILL: Halt(
        meaning="the venue reports a fill of an order that no journal of ours ever sent",
        reach=Reach.FLEET,
        remedy="as for UNKNOWN_ORDER: compare with the venue's own list of trades, rotate the key"
        " if nobody of you traded, then `fleet resume`",
    ),
    HaltCode.NEGATIVE_BALANCE: Halt(
        meaning="a journal folds to less than no cash, or to less than no shares of a token",
        reach=Reach.FLEET,
        remedy="our books are wrong, so nothing they say may be traded on: compare them with the"
        " venue's balances, keep the journal for study, then `fleet resume`",
    ),
    HaltCode.RECONCILIATION_DIFFERENCE: Halt(
        meaning="a bot's journal and the venue contradict each other",
        reach=Reach.BOT,
        remedy="see 'Accounts differ' in docs/runbook.md; restart the bot, which reconciles anew;"
        " when it is healthy, `fleet resume BOT`",
    ),
    HaltCode.LEASE_LOST: Halt(
        meaning="another engine took the lease of this bot's wallet",
        reach=Reach.BOT,
        remedy="find the other engine with `make status` and stop one of the two; the lease lets"
        " the other one trade",
        lasting=False,
    ),
    HaltCode.STALE_FEED: Halt(
        meaning="no market data came for longer than `FLEET_STALE_FEED_S` while orders rested",
        reach=Reach.BOT,
        remedy="the resting orders were cancelled; see 'Not healthy: feed' in docs/runbook.md, and"
        " when data flows again `fleet resume BOT`",
    ),
    HaltCode.ERROR_RATE: Halt(
        meaning="more errors than `FLEET_MAX_ERRORS_PER_MINUTE` were handled within a minute",
        reach=Reach.BOT,
        remedy="read the last warnings and errors in the bot's log, cure what repeats, then"
        " `fleet resume BOT`",
    ),
}
"""Every code has its entry; the order is the one people read."""


def code_of(text: str) -> HaltCode:
    """The code of its text; what no version of this code wrote counts as a person's."""
    try:
        return HaltCode(text)
    except ValueError:
        return HaltCode.OPERATOR
