"""Finding ladders: groups of questions of which each answer implies the next. Pure text rules.

The rule, deliberately narrow, because a wrong ladder loses money and a missed one costs nothing:

- The markets belong to one event that is no outcome set, and their questions are the same text but
  for exactly one phrase. Texts are compared with the phrase cut out, case and spaces ignored.
- *By date*: the phrase is ``by`` or ``before`` and a date (``June 30``, ``June 30, 2026``). An
  earlier date implies a later one. A date without a year takes the year of the market's end date,
  which must be that day or the two days after it (ends are written in UTC). Ends must not run
  against the dates.
- *Threshold*: the phrase is ``above``, ``over``, ``at least``, ``more than``, ``greater than``,
  ``higher than``, ``exceed`` or ``reach`` and a number (a higher one implies a lower one), or
  ``below``, ``under``, ``less than``, ``lower than``, ``dip to`` (a lower one implies a higher
  one). All ends are equal. What "hit" means depends on where the price stands, so it is no such
  word.
- If the venue gives the market a group title with digits, these must be the phrase's own digits.
- A question with a word that can turn an implication round (not, remain, until, through,
  between...) is left out, and so is one with two such phrases.
- Two different rungs at least; two markets on one rung are a doubt, and the group is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import Ladder, MarketId

MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
END_SLACK: Final = timedelta(days=2)
_UP: Final = "above|over|at least|more than|greater than|higher than|exceed|reach"
_DOWN: Final = "below|under|less than|lower than|dip to"
_MONTH: Final = "|".join(f"{m}|{m[:3]}" for m in MONTHS)
_DATE: Final = re.compile(
    rf"\b(?P<word>by|before)\s+(?P<month>{_MONTH})\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b"
    rf"(?:,?\s+(?P<year>20\d\d)\b)?",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(
    rf"\b(?P<word>{_UP}|{_DOWN})\s+[$€£]?(?P<number>\d[\d,]*(?:\.\d+)?)"
    r"(?:\s?(?P<scale>k|m|b|t|thousand|million|billion|trillion)\b)?(?P<rest>%|\b)",
    re.IGNORECASE,
)
_SCALES: Final = {
    "": 1, "k": 10**3, "thousand": 10**3, "m": 10**6, "million": 10**6, "b": 10**9,
    "billion": 10**9, "t": 10**12, "trillion": 10**12,
}  # fmt: skip
_DOUBT: Final = re.compile(
    r"n't\b|\b(?:not|no|never|neither|without|fail|fails|avoid|still|remain|remains|stay|stays|"
    r"keep|keeps|last|lasts|survive|survives|until|till|through|throughout|between|exactly|only|"
    r"first|next|longer|continue|continues|or below|or less|or above|or more|unchanged"
    r"|lose|loses)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A market as far as ladders care. ``end`` is its UTC end date, if known."""

    market_id: MarketId
    question: str
    group_title: str
    end_ns: int

    @property
    def end(self) -> date | None:
        """The end as a UTC date."""
        return (
            datetime.fromtimestamp(self.end_ns // NS_PER_SECOND, UTC).date()
            if self.end_ns
            else None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    """``key`` rises from the implying market to the implied one."""

    template: str
    key: Decimal
    candidate: Candidate


def find_ladders(event_id: str, title: str, markets: Iterable[Candidate]) -> list[Ladder]:
    """The ladders among the markets of one event, by the rule above."""
    groups: dict[str, list[_Rung]] = {}
    for market in markets:
        rung = _read(market)
        if rung is not None:
            groups.setdefault(rung.template, []).append(rung)
    ladders: list[Ladder] = []
    for template, rungs in sorted(groups.items()):
        rungs.sort(key=lambda rung: rung.key)
        if len(rungs) >= 2 and len({rung.key for rung in rungs}) == len(rungs) and _ends_fit(rungs):
            ladder_id = f"{event_id}:{template.partition(':')[0]}:{len(ladders)}"
            ladders.append(
                Ladder(id=ladder_id, title=title, rungs=tuple(r.candidate.market_id for r in rungs))
            )
    return ladders


def _read(market: Candidate) -> _Rung | None:
    question = " ".join(market.question.split())
    if _DOUBT.search(question):
        return None
    dates, numbers = list(_DATE.finditer(question)), list(_NUMBER.finditer(question))
    if len(dates) + len(numbers) != 1:
        # A question with both ("above 100 by June 30") has two ways to differ: a doubt.
        return None
    return (
        _by_date(market, question, dates[0]) if dates else _threshold(market, question, numbers[0])
    )


def _by_date(market: Candidate, question: str, found: re.Match[str]) -> _Rung | None:
    month = next(i for i, m in enumerate(MONTHS, 1) if m.startswith(found["month"].lower()[:3]))
    end = market.end
    year = int(found["year"]) if found["year"] else end.year if end else 0
    try:
        day = date(year, month, int(found["day"]))
    except ValueError:
        return None
    if not found["year"] and (end is None or not timedelta(0) <= end - day <= END_SLACK):
        # An end on January 1 belongs to December 31 of the year before.
        day = day.replace(year=year - 1) if end and (month, end.month) == (12, 1) else day
        if end is None or not timedelta(0) <= end - day <= END_SLACK:
            return None
    if not _title_agrees(market.group_title, found["day"], found["year"] or ""):
        return None
    template = f"by_date:{found['word'].lower()}:{_cut(question, found)}"
    return _Rung(template=template, key=Decimal(day.toordinal()), candidate=market)


def _threshold(market: Candidate, question: str, found: re.Match[str]) -> _Rung | None:
    number = Decimal(found["number"].replace(",", "")) * _SCALES[(found["scale"] or "").lower()]
    if not _title_agrees(market.group_title, found["number"], ""):
        return None
    word = " ".join(found["word"].lower().split())
    key = -number if re.fullmatch(_UP, word) else number
    template = f"threshold:{word}{found['rest']}:{_cut(question, found)}"
    return _Rung(template=template, key=key, candidate=market)


def _cut(question: str, found: re.Match[str]) -> str:
    return f"{question[: found.start()]}|{question[found.end() :]}".lower()


def _title_agrees(title: str, main: str, extra: str) -> bool:
    """Whether the digits of the group title, if any, are those of the phrase."""
    digits = re.sub(r"\D", "", title)
    wanted = re.sub(r"\D", "", main)
    return digits in {"", wanted, wanted + re.sub(r"\D", "", extra)}


def _ends_fit(rungs: Sequence[_Rung]) -> bool:
    ends = [rung.candidate.end_ns for rung in rungs]
    if rungs[0].template.startswith("by_date"):
        known = [end for end in ends if end]
        return known == sorted(known)
    return len(set(ends)) == 1
