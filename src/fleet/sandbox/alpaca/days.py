"""The local Alpaca's clock and calendar, both at the operator's command.

``always`` trades every day from midnight to midnight in New York (written 23:59), so that a laptop
has a market at any hour; ``nyse`` trades on weekdays without the given holidays, 09:30 to 16:00,
with early closes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

from fleet.clock import NS_PER_SECOND, Clock

ZONE: Final = "America/New_York"
LOOK_AHEAD_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class Day:
    """One trading day; times as ``HH:MM`` in New York."""

    date: dt.date
    opens: str
    closes: str
    early: str
    late: str

    def moment_ns(self, hhmm: str) -> int:
        """A time of this day as nanoseconds since the epoch."""
        hour, minute = int(hhmm[:2]), int(hhmm[3:])
        local = dt.datetime.combine(self.date, dt.time(hour, minute), ZoneInfo(ZONE))
        # A calendar cannot write 24:00: a session to the last minute runs through it.
        last = 60 if hhmm == "23:59" else 0
        return (int(local.timestamp()) + last) * NS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Which days trade; ``early`` closes are by date."""

    always: bool = True
    holidays: frozenset[dt.date] = frozenset()
    early: Mapping[dt.date, str] = field(default_factory=dict)

    def day(self, date: dt.date) -> Day | None:
        """That day's sessions; ``None`` if it does not trade."""
        if self.always:
            return Day(date, "00:00", "23:59", "00:00", "23:59")
        if date.weekday() >= 5 or date in self.holidays:
            return None
        return Day(date, "09:30", self.early.get(date, "16:00"), "04:00", "20:00")

    def days(self, begin: dt.date, end: dt.date) -> Iterator[Day]:
        """The trading days from ``begin`` to ``end``, both included."""
        for number in range((end - begin).days + 1):
            day = self.day(begin + dt.timedelta(days=number))
            if day is not None:
                yield day


class MarketClock:
    """The time the server lives in, and what the calendar says of it."""

    def __init__(self, clock: Clock, calendar: Calendar) -> None:
        """As it is, until it is moved."""
        self._clock = clock
        self.calendar = calendar
        self.offset_ns = 0

    def now_ns(self) -> int:
        """The server's time."""
        return self._clock.now_ns() + self.offset_ns

    def set_ns(self, now_ns: int) -> None:
        """Make it that time; it runs on from there."""
        self.offset_ns = now_ns - self._clock.now_ns()

    def today(self) -> dt.date:
        """The date in New York."""
        return dt.datetime.fromtimestamp(self.now_ns() / NS_PER_SECOND, ZoneInfo(ZONE)).date()

    def is_open(self, *, extended: bool = False) -> bool:
        """Whether the session is on, or the extended one around it."""
        day = self.calendar.day(self.today())
        if day is None:
            return False
        begin, end = (day.early, day.late) if extended else (day.opens, day.closes)
        return day.moment_ns(begin) <= self.now_ns() < day.moment_ns(end)

    def next_times(self) -> tuple[int, int]:
        """When the regular session opens and closes next."""
        now_ns, today = self.now_ns(), self.today()
        days = list(self.calendar.days(today, today + dt.timedelta(days=LOOK_AHEAD_DAYS)))
        opens = [one for day in days if (one := day.moment_ns(day.opens)) > now_ns]
        closes = [one for day in days if (one := day.moment_ns(day.closes)) > now_ns]
        return min(opens, default=0), min(closes, default=0)
