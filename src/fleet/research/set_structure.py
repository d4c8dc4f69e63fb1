"""What the names of a group of legs prove: exactly one winner, at most one, or nothing.

A group of markets may be summed only if its legs exclude each other (for selling every leg) or
cover every outcome (for buying every leg). Names are known before a trade, so every rule here can
be used live; none of them sees a price, a winner or a time. Whatever the names leave open stays
``UNPROVEN``: prices may make it plausible, they never prove it.

Must not grow a list of known events: the rules are about forms (brackets with both tails, bare
numbers, thresholds, dates, wording that allows several winners).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from typing import Final


class Standing(Enum):
    """How far a property of a group is known."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    REFUSED = "refused"


class Form(Enum):
    """The forms a group can have; the value is the code used in reports."""

    BRACKETS_CLOSED = "BRACKETS_CLOSED"
    BRACKETS_OPEN = "BRACKETS_OPEN"
    BRACKETS_OVERLAP = "BRACKETS_OVERLAP"
    NAMED_OUTCOMES = "NAMED_OUTCOMES"
    LEGS_FEW = "LEGS_FEW"
    QUESTIONS_MIXED = "QUESTIONS_MIXED"
    LEGS_NUMBERED = "LEGS_NUMBERED"
    LEGS_LADDER = "LEGS_LADDER"
    WORDING_SEVERAL = "WORDING_SEVERAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """The verdict of the names: ``exclusive`` is needed to sell the set, ``exhaustive`` to buy."""

    form: Form
    exclusive: Standing
    exhaustive: Standing
    why: str


@dataclass(frozen=True, slots=True)
class _Bracket:
    """A range of values; ``None`` is an open end."""

    low: Fraction | None
    high: Fraction | None


_NUMBER: Final = r"\d+(?:pt\d+)?"
_BRACKET: Final = re.compile(rf"(?:gte?({_NUMBER}))?(?:lte?({_NUMBER}))?([a-z]{{0,4}})")
_BARE_NUMBER: Final = re.compile(_NUMBER)
_THRESHOLD: Final = re.compile(rf"([a-z]*)({_NUMBER})([a-z]{{0,4}})")
_DATE: Final = re.compile(r"(?:by)?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\d+")

# Wording by which several legs of one group can win, or none: places in a next round, in a
# top group, or thresholds of a total. "Qualifying" alone (a pole position) has one winner.
_SEVERAL: Final = re.compile(
    r"qualifiers?\b|to qualify|\bfinalists?\b|\btop[ -]?\d+|\bto (?:make|reach|advance|finish)\b"
    r"|\badvanc|\bpodium|\bmedals?\b|\bmedall?ists?\b|relegat|promoted|nominees?\b|playoff teams"
    r"|more than|at least|or more|\bover/under\b|\bover \d|\bby when\b|\btotal\b",
    re.IGNORECASE,
)


def judge_structure(*, questions: Sequence[str], legs: Sequence[str]) -> Structure:
    """Judge one group by the texts of its questions and the leg part of its slugs.

    ``legs`` are what is left of each slug after the group's common prefix (``"gte74lt75f"``,
    ``"arg"``, ``"17"``). Legs are compared as a set; their order is irrelevant.
    """
    names = sorted({leg.lower() for leg in legs})
    if len(names) < 2 or len(names) != len(legs):
        return _refused(Form.LEGS_FEW, "fewer than two legs, or two legs of one name")
    if len(set(questions)) > 1:
        return _refused(Form.QUESTIONS_MIXED, "the legs do not share one question")
    if (brackets := _brackets(names)) is not None:
        return _judge_brackets(brackets)
    if all(_BARE_NUMBER.fullmatch(name) for name in names):
        return _refused(
            Form.LEGS_NUMBERED,
            "legs are bare numbers: dates of separate events, thresholds or counts, not outcomes",
        )
    if _is_ladder(names):
        return _refused(Form.LEGS_LADDER, "legs are thresholds or dates: one can imply the next")
    if any(_SEVERAL.search(question) for question in questions):
        return _refused(Form.WORDING_SEVERAL, "the question allows several winners, or none")
    return Structure(
        form=Form.NAMED_OUTCOMES,
        exclusive=Standing.UNPROVEN,
        exhaustive=Standing.UNPROVEN,
        why="named outcomes: neither exclusion nor completeness follows from the names",
    )


def _refused(form: Form, why: str) -> Structure:
    return Structure(form=form, exclusive=Standing.REFUSED, exhaustive=Standing.REFUSED, why=why)


def _number(text: str | None) -> Fraction | None:
    return None if text is None else Fraction(text.replace("pt", "."))


def _brackets(names: Sequence[str]) -> list[_Bracket] | None:
    """Read every name as a range of one unit, ordered from below; ``None`` if one is not."""
    found: list[_Bracket] = []
    units: set[str] = set()
    for name in names:
        match = _BRACKET.fullmatch(name)
        if match is None or (match[1] is None and match[2] is None):
            return None
        found.append(_Bracket(_number(match[1]), _number(match[2])))
        units.add(match[3])
    if len(units) != 1:
        return None
    # A range without a lower end comes first, whatever its upper end.
    return sorted(found, key=lambda b: (b.low is not None, b.low or 0))


def _judge_brackets(brackets: Sequence[_Bracket]) -> Structure:
    """Decide whether ordered ranges overlap, leave a gap, or cover everything exactly once.

    Two ways of writing neighbours exist and both are met: half-open (next low = this high) and
    whole numbers with both ends in (74-75, then 76-77: next low = this high + 1). The second
    reading is confirmed by prices, not by names, which is why the price rule applies here too.
    """
    gap = brackets[0].low is not None or brackets[-1].high is not None
    steps: set[Fraction] = set()
    for below, above in pairwise(brackets):
        if above.low is None or below.high is None or above.low < below.high:
            return _refused(Form.BRACKETS_OVERLAP, "ranges overlap: one can imply the next")
        step = above.low - below.high
        if below.low is None:
            gap = gap or step > 0
        else:
            steps.add(step)
            gap = gap or step > 1 or (step > 0 and above.low.denominator != 1)
    if gap or len(steps) > 1:
        return Structure(
            form=Form.BRACKETS_OPEN,
            exclusive=Standing.PROVEN,
            exhaustive=Standing.REFUSED,
            why="ranges exclude each other but leave values uncovered",
        )
    return Structure(
        form=Form.BRACKETS_CLOSED,
        exclusive=Standing.PROVEN,
        exhaustive=Standing.PROVEN,
        why="ranges without gap or overlap, open at both ends",
    )


def _is_ladder(names: Sequence[str]) -> bool:
    """Whether all legs are dates, or all numbers of one unit with a stem that recurs."""
    if all(_DATE.fullmatch(name) for name in names):
        return True
    matches = [_THRESHOLD.fullmatch(name) for name in names]
    found = [m for m in matches if m is not None]
    if len(found) < len(names):
        return False
    stems = [m[1] for m in found]
    return len({m[3] for m in found}) == 1 and len(set(stems)) < len(stems)
