"""Closed bars of one share, each once and in order, out of answers that overlap. Pure.

Theory of operation. ``due_ns`` is when the next bar to tell begins. Bars before it were told, or
given up; bars that are not over, or not within one session, are not told. A minute in which nothing
traded has no bar, and a bar may be late: a hole before a bar is waited for until ``late_ns`` after
the missing bar's end, then it counts as empty. What turns up later still is dropped: it would come
after its successors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

from fleet.domain.instruments import InstrumentId
from fleet.domain.market import BarClosed
from fleet.domain.units import Price, Qty
from fleet.venues.port import AnswerInvalid
from fleet.venues.stocks.hours import TradingHours
from fleet.venues.stocks.wire import BarRow, nanoseconds, rounded


class BarSequence:
    """One share's bars of one length."""

    __slots__ = ("_late_ns", "due_ns", "empty", "instrument_id", "problem", "step_ns")

    def __init__(
        self, instrument_id: InstrumentId, *, step_ns: int, due_ns: int, late_ns: int
    ) -> None:
        """``due_ns`` is brought up to the next begin of a bar."""
        self.instrument_id, self.step_ns, self._late_ns = instrument_id, step_ns, late_ns
        self.due_ns = -(-due_ns // step_ns) * step_ns
        self.empty = 0
        """Bars of a session in which nothing traded."""
        self.problem = ""
        """The last row that was no candle."""

    def wanting(self, now_ns: int, hours: TradingHours) -> bool:
        """Whether a bar is over that was neither told nor given up."""
        return next(self._holes(now_ns - self.step_ns + 1, hours), 0) > 0

    def offer(self, rows: Iterable[BarRow], now_ns: int, hours: TradingHours) -> list[BarClosed]:
        """Take an answer; what can be told now, in order. What is no candle counts as missing."""
        told: list[BarClosed] = []
        bars = {bar.ts_event: bar for bar in map(self._read, rows, repeat(now_ns)) if bar}
        for end_ns, bar in sorted(bars.items()):
            begin_ns = end_ns - self.step_ns
            if begin_ns < self.due_ns:
                continue
            if end_ns > now_ns or not hours.holds(begin_ns, end_ns):
                continue
            holes = list(self._holes(begin_ns, hours))
            if holes and holes[-1] + self.step_ns + self._late_ns > now_ns:
                return told
            self.empty += len(holes)
            told.append(bar)
            self.due_ns = end_ns
        self._give_up(now_ns, hours)
        return told

    def _give_up(self, now_ns: int, hours: TradingHours) -> None:
        """Take what is missing for too long as empty."""
        reach_ns = now_ns - self._late_ns - self.step_ns + 1
        missing = list(self._holes(reach_ns, hours))
        self.empty += len(missing)
        if missing:
            self.due_ns = missing[-1] + self.step_ns

    def _holes(self, until_ns: int, hours: TradingHours) -> Iterator[int]:
        """The begins of bars from ``due_ns`` to before ``until_ns`` that a session should have."""
        at_ns = self.due_ns
        while at_ns < until_ns:
            if hours.holds(at_ns, at_ns + self.step_ns):
                yield at_ns
                at_ns += self.step_ns
                continue
            # Over nights and weekends in one step.
            next_ns = hours.next_open_ns(at_ns)
            at_ns = max(-(-next_ns // self.step_ns), at_ns // self.step_ns + 1) * self.step_ns
            if not next_ns:
                return

    def _read(self, row: BarRow, now_ns: int) -> BarClosed | None:
        """A row as a bar; ``None``, and remembered, if it is none."""
        try:
            return self._bar(row, now_ns)
        except AnswerInvalid as error:
            self.problem = str(error)
            return None

    def _bar(self, row: BarRow, now_ns: int) -> BarClosed:
        begin_ns = nanoseconds(row.t, "bar")
        opened, high, low, closed = (
            rounded(price, "bar") for price in (row.o, row.h, row.l, row.c)
        )
        if not 0 < low <= min(opened, closed) <= max(opened, closed) <= high or row.v < 0:
            raise AnswerInvalid(f"{self.instrument_id}: the bar {row} is no candle")
        return BarClosed(
            ts_event=begin_ns + self.step_ns, ts_recv=now_ns, instrument_id=self.instrument_id,
            interval_ns=self.step_ns, open=Price(opened), high=Price(high), low=Price(low),
            close=Price(closed), volume=Qty(rounded(row.v, "volume")),
        )  # fmt: skip
