"""Say in one closed word what the numbers of an evaluation of outcome sets amount to.

The word follows from numbers only: edge before and after fees, the same trade one poll later, the
later part of the recording, the return on locked capital, and how many different sets stand
behind it. A strong word is never given: top-of-book quotes have no size, so the best that can be
said is CANDIDATE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fleet.research.set_episodes import Account, Episode, Trade, account, first_of_each_set
from fleet.research.sets import Evaluation

MIN_LATER_SETS: Final = 5
"""Fewer different sets than this in the later part are an anecdote. Episodes of one set repeat one
mispricing, so they do not count as separate evidence."""


class Word(Enum):
    """The closed list of findings for one trade and one tier."""

    NONE_BEFORE_FEES = "no moment with an edge even before fees"
    NONE_AFTER_FEES = "an edge before fees at times, never after fees"
    EDGE_TOO_SMALL = "an edge after fees at times, never above the least edge asked"
    NOT_IN_LATER_PART = "seen in the earlier part only"
    PAYOFF_UNKNOWN = "the later part has episodes, but no recorded pay-off"
    GONE_ONE_POLL_LATER = "taken one poll later it does not pay in the later part"
    RETURN_TOO_LOW = "pays in the later part, but less than the yearly return asked"
    SETS_TOO_FEW = f"pays in the later part, but in fewer than {MIN_LATER_SETS} sets"
    PRICED_ONLY = "pays in the later part, in groups whose completeness nothing proves"
    CANDIDATE = "survives fees, a delay of one poll and the later part; size unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the recording for one trade and tier.

    ``once`` holds the accounts of the earliest episode of each set only.
    """

    episodes: tuple[Episode, ...]
    prompt: Account
    delayed: Account
    once_prompt: Account
    once_delayed: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The word for one trade and tier, with the two parts it was read from."""

    trade: Trade
    proven: bool
    word: Word
    earlier: Part
    later: Part

    @property
    def tier(self) -> str:
        """The tier's name in ``sets.TIERS``."""
        return "proven" if self.proven else "unproven"


def _part(episodes: Sequence[Episode]) -> Part:
    once = first_of_each_set(episodes)
    return Part(
        episodes=tuple(episodes),
        prompt=account(episodes, delayed=False),
        delayed=account(episodes, delayed=True),
        once_prompt=account(once, delayed=False),
        once_delayed=account(once, delayed=True),
    )


def find(evaluation: Evaluation) -> list[Finding]:
    """The findings for both trades, proven sets first."""
    found = []
    for proven in (True, False):
        for trade in Trade:
            mine = [e for e in evaluation.episodes if e.trade is trade and e.proven is proven]
            earlier = _part([e for e in mine if e.first.ts_s < evaluation.split_s])
            later = _part([e for e in mine if e.first.ts_s >= evaluation.split_s])
            word = _word(evaluation, trade, proven=proven, earlier=earlier, later=later)
            found.append(
                Finding(trade=trade, proven=proven, word=word, earlier=earlier, later=later)
            )
    return found


def _word(
    evaluation: Evaluation, trade: Trade, *, proven: bool, earlier: Part, later: Part
) -> Word:
    moments = evaluation.moments[trade, "proven" if proven else "unproven"]
    late = (later.delayed, later.once_delayed)
    if not moments.gross:
        return Word.NONE_BEFORE_FEES
    if not moments.net:
        return Word.NONE_AFTER_FEES
    if not earlier.episodes and not later.episodes:
        return Word.EDGE_TOO_SMALL
    if not later.episodes:
        return Word.NOT_IN_LATER_PART
    if not later.prompt.takings:
        return Word.PAYOFF_UNKNOWN
    if any(a.profit <= 0 for a in late):
        return Word.GONE_ONE_POLL_LATER
    if any((a.yearly_return or 0) < evaluation.options.min_yearly_return for a in late):
        return Word.RETURN_TOO_LOW
    if later.delayed.sets < MIN_LATER_SETS:
        return Word.SETS_TOO_FEW
    return Word.CANDIDATE if proven else Word.PRICED_ONLY


def headline(findings: Sequence[Finding]) -> str:
    """The verdict in one sentence."""
    words = {finding.word for finding in findings}
    if Word.CANDIDATE in words:
        trades = " and ".join(f'"{f.trade.value}"' for f in findings if f.word is Word.CANDIDATE)
        return (
            f"{trades}: a candidate on proven sets, not a proven opportunity. The quotes have no"
            " size, the NO side is inferred, and the fees are the main venue's."
        )
    if Word.PRICED_ONLY in words:
        return (
            "no opportunity in sets proven exclusive or exhaustive; what is left sits in groups"
            " that nothing proves complete."
        )
    if words & {Word.SETS_TOO_FEW, Word.PAYOFF_UNKNOWN, Word.NOT_IN_LATER_PART}:
        return "no opportunity shown; the few apparent ones are too few, too early or unlabelled."
    if words <= {Word.NONE_BEFORE_FEES, Word.NONE_AFTER_FEES, Word.EDGE_TOO_SMALL}:
        return "no opportunity after fees."
    return "no opportunity after fees, a delay of one poll and the cost of locked capital."
