"""When the market trades: the venue's calendar as moments in UTC. Pure.

Sessions are the regular one (usually 09:30 to 16:00 in New York, sometimes until 13:00) and the
extended one around it (04:00 to 20:00). Where the calendar ends nothing is known, and the market is
taken as closed. Half-open: a session ends at its close.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from fleet.clock import NS_PER_SECOND
from fleet.venues.port import AnswerInvalid
from fleet.venues.stocks.wire import CalendarRow, iso

ZONE: Final = "America/New_York"


@dataclass(frozen=True, slots=True, order=True)
class Session:
    """One trading day, in nanoseconds since the epoch."""

    early_ns: int
    open_ns: int
    close_ns: int
    late_ns: int


class TradingHours:
    """The sessions of some weeks; ``extended`` counts those around the regular one as open too."""

    def __init__(self, rows: Iterable[CalendarRow], *, extended: bool = False) -> None:
        """Read a calendar. Raises ``AnswerInvalid``."""
        self.extended = extended
        self._sessions = sorted(_session(row) for row in rows)
        self._begins = [self._span(one)[0] for one in self._sessions]

    @property
    def known_until_ns(self) -> int:
        """The end of the last session of the calendar; 0 if there is none."""
        return self._span(self._sessions[-1])[1] if self._sessions else 0

    def is_open(self, now_ns: int) -> bool:
        """Whether orders may go out."""
        session = self._current(now_ns)
        return session is not None and now_ns < self._span(session)[1]

    def is_regular(self, now_ns: int) -> bool:
        """Whether the regular session is on."""
        session = self._current(now_ns)
        return session is not None and session.open_ns <= now_ns < session.close_ns

    def next_open_ns(self, now_ns: int) -> int:
        """When a session begins after ``now_ns``; 0 if the calendar does not say."""
        place = bisect_right(self._begins, now_ns)
        return self._begins[place] if place < len(self._begins) else 0

    def holds(self, begin_ns: int, end_ns: int) -> bool:
        """Whether a bar of this span lies within one session."""
        session = self._current(begin_ns)
        return session is not None and end_ns <= self._span(session)[1]

    def next_open_words(self, now_ns: int) -> str:
        """``closed until ...``, for a person."""
        next_ns = self.next_open_ns(now_ns)
        return f"closed until {iso(next_ns)}" if next_ns else "closed; the calendar ends here"

    def _span(self, session: Session) -> tuple[int, int]:
        if self.extended:
            return session.early_ns, session.late_ns
        return session.open_ns, session.close_ns

    def _current(self, now_ns: int) -> Session | None:
        place = bisect_right(self._begins, now_ns) - 1
        return self._sessions[place] if place >= 0 else None


def _session(row: CalendarRow) -> Session:
    begin, end = row.open.replace(":", ""), row.close.replace(":", "")
    times = (row.session_open or begin, begin, end, row.session_close or end)
    early, opens, closes, late = (_moment(row.date, text) for text in times)
    if not early <= opens < closes <= late:
        raise AnswerInvalid(f"the calendar's day {row.date} does not run forward")
    return Session(early, opens, closes, late)


def _moment(day: str, hhmm: str) -> int:
    try:
        date, time = dt.date.fromisoformat(day), dt.time.fromisoformat(hhmm)
    except ValueError:
        raise AnswerInvalid(f"the calendar says {day} {hhmm}, which is no time") from None
    # A calendar cannot write 24:00: what runs to its last minute runs through it.
    last = 60 if time == dt.time(23, 59) else 0
    return (int(dt.datetime.combine(date, time, ZoneInfo(ZONE)).timestamp()) + last) * NS_PER_SECOND
