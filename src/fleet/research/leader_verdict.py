"""Say in one closed word what an evaluation of leaders amounts to, from its numbers only.

No word says that a wallet will win. The best one is CANDIDATE_ON_PAPER: copy it on paper and see.
"""

from __future__ import annotations

from enum import Enum

from fleet.research.leader_evaluation import Evaluation
from fleet.research.leader_gate import FALSE_DISCOVERY_RATE


class Word(Enum):
    """The closed list of verdicts."""

    NONE_WORTH_COPYING = "no wallet passes the gate: none is worth copying"
    NOT_SEEN_LATER = "wallets pass the gate, but none of them made a settled trade later"
    LOST_LATER = "wallets pass the gate, and copying them later lost money after costs"
    NOT_PROVEN_LATER = "copying those who pass paid later, but luck explains it"
    NOT_BETTER_THAN_RANDOM = "copying those who pass paid later, but no better than blind choice"
    CANDIDATE_ON_PAPER = (
        "copying those who pass paid later, above luck and blind choice: try on paper"
    )


def word_of(evaluation: Evaluation) -> Word:
    """The word for the gate's list."""
    gate = evaluation.gate
    if not gate.wallets:
        return Word.NONE_WORTH_COPYING
    if gate.edge is None:
        return Word.NOT_SEEN_LATER
    if gate.edge.estimate <= 0:
        return Word.LOST_LATER
    if gate.edge.low <= 0 or gate.luck_p > FALSE_DISCOVERY_RATE:
        return Word.NOT_PROVEN_LATER
    if share_below(evaluation.random_edges, gate.edge.estimate) < 1 - FALSE_DISCOVERY_RATE:
        return Word.NOT_BETTER_THAN_RANDOM
    return Word.CANDIDATE_ON_PAPER


def share_below(values: tuple[float, ...], bound: float) -> float:
    """The share of ``values`` below ``bound``; 0 without any."""
    return sum(value < bound for value in values) / len(values) if values else 0.0
