"""What the sandbox does wrong, when told to: decided here, done elsewhere. No IO, no clock.

Theory of operation. A ``FaultRule`` names a fault of the closed list (``faults_catalogue``) and how
often it strikes. Whoever serves something asks ``Faults`` at each *chance* (a request, a frame, a
trade) and does what it is told: ``faults_http`` for requests, ``faults_channels`` for websocket
frames, ``faults_markets`` for the exchange. A fault has at most one standing rule; rules with
``times`` (one-shots) queue before it. Each pair of fault and subject (``POST /clob/order``,
``market#3``) has a stream of chance of its own, made from the seed: the same chances in the same
order bring the same faults, whatever else goes on beside them.

Must not: touch ``/sandbox`` (the way to heal must stay open), or change what the exchange keeps
as true.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from math import ceil
from typing import Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.faults_catalogue import ORDER_PLACES, Fault, FaultRule, rule_object

STRIKES_KEPT: Final = 1_000
"""The last strikes are told by name, time and subject; older ones are only counted."""
TIMED_OUT: Final = "order timed out"


class Outcome(Enum):
    """What becomes of a request."""

    HANDLED = "handled"
    REFUSED = "refused"
    """Answered with ``refusal`` instead of being handled."""
    LOST = "lost"
    """Not handled, not answered."""
    UNANSWERED = "unanswered"
    """Handled, not answered."""
    MISREPORTED = "misreported"
    """Handled, and answered with ``refusal`` all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer: ``html`` replaces the JSON; ``unless_post_only`` spares post-only orders."""

    status: int
    text: str
    code: str = ""
    retry_after_s: int = 0
    html: bool = False
    unless_post_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFate:
    """What to do with one request. ``hold_s``: how long an unanswered connection stays open."""

    outcome: Outcome = Outcome.HANDLED
    refusal: Refusal | None = None
    hold_s: float = 0.0
    before_s: float = 0.0
    after_s: float = 0.0
    stale_book: bool = False


UNDISTURBED: Final = RequestFate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One thing that was made to go wrong."""

    at_ns: int
    fault: Fault
    subject: str
    rule: FaultRule


@dataclass(slots=True)
class _Standing:
    """A rule in force."""

    rule: FaultRule
    from_ns: int
    until_ns: int | None
    left: int | None


@dataclass(slots=True)
class _Restart:
    """The phases of an engine restart under way."""

    ready_ns: int = 0
    open_ns: int = 0
    places: tuple[str, ...] = field(default_factory=tuple)


class Faults:
    """The rules in force and the chances they had."""

    def __init__(self, seed: int = 0) -> None:
        """No rule is in force; ``seed`` decides when the later ones strike."""
        self.seed = seed
        self.heals = 0
        """How often something was cleared."""
        self.struck: dict[Fault, int] = {}
        self.chances: dict[Fault, int] = {}
        self.strikes: deque[Strike] = deque(maxlen=STRIKES_KEPT)
        self._rules: dict[Fault, list[_Standing]] = {}
        self._streams: dict[tuple[Fault, str], random.Random] = {}
        self._restart = _Restart()

    @property
    def active(self) -> bool:
        """Whether anything may go wrong at all; asked before every other question."""
        return bool(self._rules) or bool(self._restart.open_ns)

    def reseed(self, seed: int) -> None:
        """Begin all streams of chance anew."""
        self.seed = seed
        self._streams.clear()

    def put(self, rule: FaultRule, now_ns: int) -> None:
        """Bring a rule into force; one without ``times`` replaces the fault's standing one."""
        from_ns = now_ns + int(rule.after_s * NS_PER_SECOND)
        until_ns = from_ns + int(rule.for_s * NS_PER_SECOND) if rule.for_s else None
        entry = _Standing(rule, from_ns, until_ns, rule.times or None)
        kept = self._rules.get(rule.fault, [])
        if entry.left is None:
            self._rules[rule.fault] = [*(e for e in kept if e.left is not None), entry]
        else:
            shots = [e for e in kept if e.left is not None]
            self._rules[rule.fault] = [*shots, entry, *(e for e in kept if e.left is None)]

    def clear(self, fault: Fault | None = None) -> None:
        """Heal everything, or one fault; the counters stay."""
        self.heals += 1
        if fault is None:
            self._rules.clear()
        else:
            self._rules.pop(fault, None)
        if fault in {None, Fault.ENGINE_RESTART}:
            self._restart = _Restart()

    def rules(self) -> list[FaultRule]:
        """The rules in force, also those whose time has not come or is over."""
        return [entry.rule for entries in self._rules.values() for entry in entries]

    def strike(self, fault: Fault, subject: str, now_ns: int, place: str = "") -> Strike | None:
        """One chance of a fault: the strike, or nothing.

        ``place`` is what ``where`` is matched with, if it is not the subject itself.
        """
        entries = self._rules.get(fault)
        if not entries:
            return None
        counted = False
        for entry in entries:
            over = entry.until_ns is not None and now_ns >= entry.until_ns
            if now_ns < entry.from_ns or over or not _matches(entry.rule.places, place or subject):
                continue
            if not counted:
                counted = True
                self.chances[fault] = self.chances.get(fault, 0) + 1
            if entry.rule.rate < 1.0 and self._draw(fault, subject) >= entry.rule.rate:
                continue
            self._spend(fault, entry)
            return self._note(Strike(at_ns=now_ns, fault=fault, subject=subject, rule=entry.rule))
        return None

    def share(self, fault: Fault, now_ns: int) -> float:
        """A fault's standing rate now, for those who draw by themselves."""
        rule = self.standing(fault, now_ns)
        return 0.0 if rule is None else rule.rate

    def standing(self, fault: Fault, now_ns: int) -> FaultRule | None:
        """A fault's standing rule, if its window is open; one-shots are not asked for here."""
        for entry in self._rules.get(fault, ()):
            over = entry.until_ns is not None and now_ns >= entry.until_ns
            if entry.left is None and now_ns >= entry.from_ns and not over:
                return entry.rule
        return None

    def _spend(self, fault: Fault, entry: _Standing) -> None:
        if entry.left is None:
            return
        entry.left -= 1
        if not entry.left:
            self._rules[fault].remove(entry)
            if not self._rules[fault]:
                del self._rules[fault]

    def _note(self, strike: Strike) -> Strike:
        self.struck[strike.fault] = self.struck.get(strike.fault, 0) + 1
        self.strikes.append(strike)
        return strike

    def _draw(self, fault: Fault, subject: str) -> float:
        stream = self._streams.get((fault, subject))
        if stream is None:
            name = f"{self.seed}:{fault.value}:{subject}"
            stream = self._streams[fault, subject] = random.Random(name)  # noqa: S311 - no secret
        return stream.random()

    # --- requests -----------------------------------------------------------------------------

    def request(self, place: str, now_ns: int) -> RequestFate:
        """The fate of a request at ``place`` (``POST /clob/order``). One thing goes wrong at most,
        but slowness comes on top.
        """
        before = self.strike(Fault.SLOW_REQUEST, place, now_ns)
        after = self.strike(Fault.SLOW_ANSWER, place, now_ns)
        refusal = self._restarting(place, now_ns)
        outcome, hold_s = Outcome.HANDLED, 0.0
        if refusal is not None:
            outcome = Outcome.REFUSED
        else:
            for fault, its_outcome in _REQUEST_FAULTS:
                strike = self.strike(fault, place, now_ns)
                if strike is not None:
                    outcome, hold_s = its_outcome, strike.rule.lasts_s
                    refusal = _refusal(strike)
                    break
        stale = self.strike(Fault.STALE_BOOK, place, now_ns) is not None
        if outcome is Outcome.HANDLED and not (before or after or stale):
            return UNDISTURBED
        return RequestFate(
            outcome=outcome,
            refusal=refusal,
            hold_s=hold_s,
            before_s=before.rule.lasts_s if before else 0.0,
            after_s=after.rule.lasts_s if after else 0.0,
            stale_book=stale,
        )

    def _restarting(self, place: str, now_ns: int) -> Refusal | None:
        restart = self._restart
        if now_ns >= restart.open_ns:
            restart.ready_ns = restart.open_ns = 0
            strike = self.strike(Fault.ENGINE_RESTART, place, now_ns)
            if strike is None:
                return None
            rule = strike.rule
            restart.ready_ns = now_ns + int(rule.lasts_s * NS_PER_SECOND)
            restart.open_ns = restart.ready_ns + int(rule.then_seconds * NS_PER_SECOND)
            restart.places = rule.places
        if not _matches(restart.places, place):
            return None
        if now_ns < restart.ready_ns:
            wait_s = _whole_seconds(restart.ready_ns - now_ns)
            return Refusal(
                status=425, text="the matching engine is restarting", retry_after_s=wait_s
            )
        if place not in ORDER_PLACES:
            return None
        return Refusal(
            status=503,
            text="the market is in post-only mode",
            code="post_only_mode",
            retry_after_s=_whole_seconds(restart.open_ns - now_ns),
            unless_post_only=True,
        )

    def report(self) -> dict[str, Any]:
        """Rules, counters and the last strikes, for the control API."""
        return {
            "seed": self.seed,
            "rules": [
                rule_object(entry.rule) | {"times_left": entry.left}
                for entries in self._rules.values()
                for entry in entries
            ],
            "struck": {fault.value: count for fault, count in self.struck.items()},
            "chances": {fault.value: count for fault, count in self.chances.items()},
            "strikes": [
                {"at_ns": s.at_ns, "name": s.fault.value, "subject": s.subject}
                for s in self.strikes
            ],
        }


_REQUEST_FAULTS: Final = (
    (Fault.RATE_LIMITED, Outcome.REFUSED),
    (Fault.LOST_REQUEST, Outcome.LOST),
    (Fault.ERROR_BEFORE, Outcome.REFUSED),
    (Fault.TIMEOUT_AFTER_ACCEPTANCE, Outcome.UNANSWERED),
    (Fault.ERROR_AFTER, Outcome.MISREPORTED),
    (Fault.GATEWAY_ERROR, Outcome.MISREPORTED),
)


def _refusal(strike: Strike) -> Refusal | None:
    if strike.fault is Fault.RATE_LIMITED:
        wait_s = max(1, ceil(strike.rule.lasts_s))
        return Refusal(status=429, text="Too Many Requests", retry_after_s=wait_s)
    if strike.fault is Fault.GATEWAY_ERROR:
        return Refusal(status=502, text="Bad gateway", html=True)
    if strike.fault in {Fault.ERROR_BEFORE, Fault.ERROR_AFTER}:
        return Refusal(status=500, text=TIMED_OUT)
    return None


def _matches(patterns: Iterable[str], place: str) -> bool:
    return any(fnmatchcase(place, pattern) for pattern in patterns)


def _whole_seconds(span_ns: int) -> int:
    return max(1, ceil(span_ns / NS_PER_SECOND))
