"""What was asked of models and what it cost: durable, shared by processes, never forgotten.

Every attempt to reach a model is a row, written with the most it may cost *before* it is sent
(``hold``) and with what it did cost once that is known (``settle``). An attempt that was never
settled, because its process died, keeps its worst case: the endpoint may have charged it. So the
sum of a day can be told too high, never too low, and two processes can never spend the same dollar.

Beside that: one row a forecast, and every prompt once, compressed, by its hash, for 90 days.
Must not: hold a key or a header; whoever writes a note has taken those out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from fleet.clock import NS_PER_DAY
from fleet.domain.units import SCALE, Cash
from fleet.forecasting.ledger_file import FileKind, LedgerFile

PROMPTS_KEPT_NS: Final = 90 * NS_PER_DAY
NOTE_MAX: Final = 2_000

KIND: Final = FileKind(
    application_id=0x464C5553,  # FLUS
    version=1,
    ddl="""
CREATE TABLE attempt(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    day INTEGER NOT NULL,
    made_ns INTEGER NOT NULL,
    question TEXT NOT NULL,
    forecaster TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    outcome TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    read INTEGER NOT NULL DEFAULT 0,
    written INTEGER NOT NULL DEFAULT 0,
    cached INTEGER NOT NULL DEFAULT 0,
    latency_ns INTEGER NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX attempt_of_day ON attempt(day, question, amount);
CREATE TABLE forecast(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    day INTEGER NOT NULL,
    made_ns INTEGER NOT NULL,
    question TEXT NOT NULL,
    forecaster TEXT NOT NULL,
    prompt TEXT NOT NULL,
    probability REAL,
    samples INTEGER NOT NULL,
    cost INTEGER NOT NULL
) STRICT;
CREATE INDEX forecast_of_day ON forecast(day);
CREATE TABLE prompt(
    hash TEXT PRIMARY KEY,
    made_ns INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
""",
)


class Outcome(Enum):
    """What became of an attempt."""

    OPEN = "OPEN"
    """On its way, or its process died; it keeps its worst case."""
    GOOD = "GOOD"
    INVALID = "INVALID"
    """An answer that is not what was asked for: not JSON, another shape, outside [0, 1]."""
    REFUSED = "REFUSED"
    TRUNCATED = "TRUNCATED"
    RATE_LIMITED = "RATE_LIMITED"
    REJECTED = "REJECTED"
    """The endpoint took the request for wrong (4xx): a key, a model, a parameter."""
    SERVER_ERROR = "SERVER_ERROR"
    UNREACHABLE = "UNREACHABLE"
    """No connection was made: nothing was asked."""
    CUT = "CUT"
    TIMEOUT = "TIMEOUT"
    TOO_LARGE = "TOO_LARGE"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """An attempt about to be made. ``worst`` is the most it may cost."""

    question: str
    forecaster: str
    model: str
    prompt: str
    worst: Cash


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of one. ``cost`` ``None`` means not known: the worst case stands."""

    outcome: Outcome
    cost: Cash | None
    read: int = 0
    written: int = 0
    cached: int = 0
    latency_ns: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The KPIs of some days. ``cost`` includes what is open."""

    attempts: int
    errors: int
    forecasts: int
    failed: int
    cost: Cash

    @property
    def error_rate(self) -> float:
        """The share of attempts that brought no sample."""
        return self.errors / self.attempts if self.attempts else 0.0

    @property
    def cost_per_forecast_usd(self) -> float:
        """Everything spent by the forecasts that were made; 0 without one."""
        return self.cost / SCALE / self.forecasts if self.forecasts else 0.0


class UsageLedger(LedgerFile):
    """The file ``usage.sqlite``; every method raises ``JournalError``."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet; the thread that first uses it owns it."""
        super().__init__(path, KIND)

    def hold(
        self, asks: Sequence[Ask], *, now_ns: int, day_max: Cash, question_max: Cash
    ) -> list[int] | str:
        """Write all ``asks`` with their worst case, or none, and say which limit is in the way.

        All of ``asks`` are about one question. Limits hold for the UTC day of ``now_ns``.
        """
        day, question = day_of(now_ns), asks[0].question
        need = sum(ask.worst for ask in asks)
        with self.transaction("reserve"):
            today, here = self._spent(day), self._spent(day, question)
            if today + need > day_max:
                return _over("the day's", today, need, day_max, "POLYAI_LLM_DAY_BUDGET_USD")
            if here + need > question_max:
                return _over(
                    "the question's", here, need, question_max, "POLYAI_LLM_QUESTION_BUDGET_USD"
                )
            return [
                self.change(
                    "INSERT INTO attempt(day, made_ns, question, forecaster, model, prompt,"
                    " outcome, amount) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    day, now_ns, ask.question, ask.forecaster, ask.model, ask.prompt,
                    Outcome.OPEN.value, ask.worst,
                )
                for ask in asks
            ]  # fmt: skip

    def settle(self, attempt: int, settled: Settled) -> None:
        """Write what became of an attempt; the first word on it stands."""
        with self.transaction("settle"):
            self.change(
                "UPDATE attempt SET outcome = ?, amount = coalesce(?, amount), read = ?,"
                " written = ?, cached = ?, latency_ns = ?, note = ? WHERE id = ? AND outcome = ?",
                settled.outcome.value, settled.cost, settled.read, settled.written,
                settled.cached, settled.latency_ns, settled.note[:NOTE_MAX], attempt,
                Outcome.OPEN.value,
            )  # fmt: skip

    def amounts(self, attempts: Sequence[int]) -> Cash:
        """What these attempts cost, worst cases included."""
        total = 0
        for attempt in attempts:
            total += self.rows("SELECT amount FROM attempt WHERE id = ?", attempt)[0][0]
        return Cash(total)

    def keep_prompt(self, digest: str, body: bytes, now_ns: int) -> None:
        """Keep the exact words asked, once; those of 90 days ago go."""
        with self.transaction("keep a prompt"):
            self.change(
                "INSERT OR IGNORE INTO prompt(hash, made_ns, body) VALUES (?, ?, ?)",
                digest, now_ns, zlib.compress(body),
            )  # fmt: skip
            self.change("DELETE FROM prompt WHERE made_ns < ?", now_ns - PROMPTS_KEPT_NS)

    def prompt(self, digest: str) -> bytes | None:
        """The words behind a hash, if they are still kept."""
        found = self.rows("SELECT body FROM prompt WHERE hash = ?", digest)
        return zlib.decompress(found[0][0]) if found else None

    def note_forecast(
        self,
        *,
        question: str,
        forecaster: str,
        prompt: str,
        probability: float | None,
        samples: int,
        cost: Cash,
        now_ns: int,
    ) -> None:
        """One forecast, or with ``probability`` ``None`` one that could not be made."""
        with self.transaction("write"):
            self.change(
                "INSERT INTO forecast(day, made_ns, question, forecaster, prompt, probability,"
                " samples, cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                day_of(now_ns), now_ns, question, forecaster, prompt, probability, samples, cost,
            )  # fmt: skip

    def spent(self, now_ns: int, question: str | None = None) -> Cash:
        """Dollars of the UTC day of ``now_ns`` (on one question), worst cases included."""
        return self._spent(day_of(now_ns), question)

    def figures(self, *, since_ns: int = 0, until_ns: int = 1 << 62) -> Figures:
        """The KPIs of the UTC days from ``since_ns`` to ``until_ns``."""
        days = (day_of(since_ns), day_of(until_ns))
        attempts, good, cost = self.rows(
            "SELECT count(*), coalesce(sum(outcome = 'GOOD'), 0), coalesce(sum(amount), 0)"
            " FROM attempt WHERE day BETWEEN ? AND ?",
            *days,
        )[0]
        tried, made = self.rows(
            "SELECT count(*), count(probability) FROM forecast WHERE day BETWEEN ? AND ?", *days
        )[0]
        return Figures(
            attempts=attempts,
            errors=attempts - good,
            forecasts=made,
            failed=tried - made,
            cost=Cash(cost),
        )

    def _spent(self, day: int, question: str | None = None) -> Cash:
        query = "SELECT coalesce(sum(amount), 0) FROM attempt WHERE day = ?"
        if question is None:
            return Cash(self.rows(query, day)[0][0])
        return Cash(self.rows(f"{query} AND question = ?", day, question)[0][0])


def day_of(now_ns: int) -> int:
    """The UTC day, counted from the epoch."""
    return now_ns // NS_PER_DAY


def _over(whose: str, spent: int, need: int, most: int, key: str) -> str:
    return (
        f"{whose} model budget: {_usd(spent)} of {_usd(most)} are spent or held and this needs up"
        f" to {_usd(need)}; wait for the next UTC day or raise {key}"
    )


def _usd(amount: int) -> str:
    return f"${amount / SCALE:.4f}"
