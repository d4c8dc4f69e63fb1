"""Chaotic lives of the live bot on the sandbox: they hold, and broken parts are found out.

`make chaos SEEDS=1000` lives many more. The last part sabotages one piece at a time, as a bug would:
if the checks of a life passed all the same, they would be worth nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fleet.domain import events as ev
from fleet.engine.portfolio import Portfolio
from fleet.journal import locks
from fleet.journal.allowances import AllowanceBoard
from fleet.runtime import live_session, live_start, parts, resolutions
from fleet.sandbox.faults_catalogue import Fault, FaultRule
from fleet.sandbox.server import SandboxSettings
from fleet.venues.polymarket import guard, live_fills, live_orders
from fleet.venues.polymarket.client import ClobClient, Post
from fleet.venues.polymarket.live import LiveVenue
from fleet.venues.polymarket.live_orders import OrderDesk
from fleet.venues.polymarket.outcomes import Outcome, Verdict
from tests import chaos_bot, chaos_mortal, chaos_sandbox, chaos_world
from tests.chaos_bot import Conditions
from tests.chaos_mortal import Killed, Point
from tests.chaos_processes import Report
from tests.chaos_schedule import LEASE_S, STOPS, Schedule, Step, What, blackout
from tests.chaos_world import play

pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning"
)
SEEDS = range(1, 21)
TRIES = 15


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A life warns of everything that is done to it."""
    logger = logging.getLogger("fleet")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def test_twenty_lives_hold_and_see_what_there_is_to_see() -> None:
    struck: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for seed in SEEDS:
        report = play(seed)
        struck.update(report.struck)
        happened.update(report.happened)
        refused.update(report.seen.refused)
        seen.update(
            {
                "orders": report.seen.orders, "fills": report.seen.fills,
                "failed": report.seen.failed, "operations": report.seen.operations,
                "bot": report.bot_kills, "sandbox": report.sandbox_kills,
                "agreements": report.seen.reconciled, "redeemed": report.seen.redeemed,
                "lost": report.seen.lost,
            }
        )  # fmt: skip
    assert seen["agreements"] > len(SEEDS)
    assert min(seen.values()) > 0, seen
    assert len(struck) >= 12, struck
    assert sum(struck.values()) > 500
    wanted = {
        "daemon deaths", "stops", "halts", "resolved", "stage changed",
        "rivals that got the wallet", "exit 0", "exit 1", "exit 75", "exit 78",
    }  # fmt: skip
    assert not wanted - happened.keys(), happened
    assert refused["SET_EXPOSURE_REACHED"] + refused["FLEET_EXPOSURE_REACHED"] > 0, refused


def test_the_same_seed_is_the_same_life() -> None:
    first, again = play(4), play(4)
    assert str(first) == str(again)
    assert first.points == again.points
    assert Schedule.of(4) == Schedule.of(4) != Schedule.of(3)


# --- one thing at a time ----------------------------------------------------------------------


def quiet_life(
    *steps: Step, seed: int = 101, length_s: float = 20.0, neighbour: bool = False, **how: Any
) -> Schedule:
    """A life in which nothing goes wrong but these steps."""
    return Schedule(seed=seed, length_s=length_s, steps=steps, neighbour=neighbour,
                    conditions=Conditions(together=seed % 2 == 0, **how))  # fmt: skip


def first_that(came_by: Callable[[Report], object], lives: Iterable[Schedule]) -> Report:
    """Lives until one has seen it; each of them must hold."""
    for schedule in lives:
        report = play(schedule.seed, schedule)
        if came_by(report):
            return report
    pytest.fail("no life came by")


@pytest.mark.parametrize("point", list(Point), ids=lambda point: point.name.lower())
def test_a_kill_at_each_point_is_recovered_from(point: Point) -> None:
    """Nothing else goes wrong; the bot dies there up to three times a life, if it comes by."""
    steps = [Step(at_s, What.BOT, point=point) for at_s in (3.0, 9.0, 15.0)]
    lives = (quiet_life(*steps, seed=seed) for seed in range(101, 108))
    first_that(lambda report: report.points.get(point.value, 0), lives)


@pytest.mark.parametrize("point", [p for p in STOPS if p], ids=lambda point: point.name.lower())
def test_who_wakes_up_after_its_lease_sends_nothing(point: Point) -> None:
    """Stopped on its way to the exchange until another engine has the wallet."""
    stop = Step(4.0, What.STOP, point=point, seconds=LEASE_S + 6, rival=True)
    lives = (quiet_life(stop, seed=seed, length_s=55.0) for seed in range(201, 208))
    report = first_that(lambda found: found.happened.get("rivals that got the wallet"), lives)
    assert report.happened["exit 75"] > 0  # It came back, and found the wallet taken.


@pytest.mark.parametrize("resurrected_s", [0.0, 1.5, 6.0])
def test_a_daemon_that_dies_leaves_one_engine(resurrected_s: float) -> None:
    """What PM2 started winds down while ``resurrect`` starts its twin."""
    steps = [Step(at_s, What.DAEMON, seconds=resurrected_s) for at_s in (5.0, 14.0)]
    report = play(301, quiet_life(*steps, seed=301, length_s=28.0))
    assert report.happened["daemon deaths"] == 2
    assert report.seen.runs >= 3


def test_a_halt_holds_over_restarts_until_it_is_taken_back() -> None:
    steps = [Step(6.0, What.LATCH, seconds=15.0), Step(6.2, What.BOT), Step(7.5, What.BOT)]
    report = play(401, quiet_life(*steps, seed=401, length_s=30.0))
    assert report.happened["exit 78"] > 0
    assert report.seen.runs >= 2


def test_a_halt_in_the_middle_of_a_start_lets_nothing_out() -> None:
    """Chaos seed 28: the smoke order left 1.5 s after the halt."""
    for number in range(6):
        steps = [Step(0.3 + 0.5 * number, What.LATCH, seconds=3.0)]
        play(28, quiet_life(*steps, seed=28, length_s=8.0, whole_gate=True))


def test_a_bot_that_was_away_for_longer_than_surveys_look_back_learns_its_fills() -> None:
    """Chaos seed 260: its orders were over and settled; it refused to start, every time."""
    away = Step(3.0, What.BOT, point=Point.AT_FILL, seconds=80.0)
    lives = (quiet_life(away, seed=seed, length_s=90.0) for seed in range(501, 508))
    first_that(lambda report: report.points.get(Point.AT_FILL.value), lives)


def test_markets_that_are_resolved_are_redeemed_and_losers_written_off() -> None:
    steps = [Step(at_s, What.RESOLVE) for at_s in (8.0, 11.0, 14.0, 17.0)]
    steps += [Step(9.0, What.BOT), Step(15.0, What.BOT, point=Point.AT_OPERATION)]
    lives = (quiet_life(*steps, seed=seed, length_s=25.0) for seed in range(601, 608))
    first_that(lambda report: report.seen.redeemed > report.seen.lost > 0, lives)


def test_stages_bound_what_is_bought() -> None:
    steps = [Step(6.0, What.STAGE, percent=10), Step(6.1, What.BOT), Step(14.0, What.STAGE,
             percent=50), Step(14.1, What.BOT)]  # fmt: skip
    report = play(701, quiet_life(*steps, seed=701, length_s=25.0))
    assert report.happened["started at 10 % after 100 %"] > 0
    assert report.happened["started at 50 % after 100 %"] > 0


def test_two_bots_share_what_the_fleet_may_hold() -> None:
    report = play(801, quiet_life(seed=801, length_s=30.0, neighbour=True, fleet=500,
                                  fleet_market=150, fleet_set=500))  # fmt: skip
    assert report.fullest > 0.5
    assert sum(report.seen.refused.values()) > 0


# --- sabotage ---------------------------------------------------------------------------------


def found_out(lives: Iterable[Schedule] | None = None) -> str:
    """What the first life says that does not hold."""
    schedules = list(lives) if lives is not None else [Schedule.of(n + 1) for n in range(TRIES)]
    for schedule in schedules:
        try:
            play(schedule.seed, schedule)
        except (Exception, Killed) as error:  # noqa: BLE001 - any failure is a find
            return f"{schedule.seed}: {type(error).__name__} {error}"
    pytest.fail(f"{len(schedules)} lives held with a broken part")


def faulty(fault: Fault, rate: float, seconds: float | None = None) -> list[Schedule]:
    """Lives with one fault at orders."""
    rule = FaultRule(fault=fault, rate=rate, seconds=seconds, where=("*/clob/order*",))
    return [
        quiet_life(Step(2.0, What.FAULT, rule=rule), seed=seed) for seed in range(901, 901 + TRIES)
    ]


def test_a_timeout_that_is_read_as_a_rejection_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream and the lists tell of such an order all the same, and in the end all is level: it
    must be caught in the act, while they are silent.
    """
    real = OrderDesk.answered

    def answered(self: OrderDesk, name: Any, outcome: Outcome, now_ns: int) -> None:
        if outcome.silent:
            outcome = msgspec.structs.replace(outcome, verdict=Verdict.REJECTED)
        real(self, name, outcome, now_ns)

    monkeypatch.setattr(OrderDesk, "answered", answered)
    steps = blackout(6.0, 14.0)
    said = found_out(quiet_life(*steps, seed=seed, length_s=30.0) for seed in range(901, 906))
    assert "is rejected in the journal" in said and "the exchange has it" in said


def test_an_order_that_is_posted_before_it_is_journalled_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No kill has to fall between the two: the bytes leave, and their id is in no journal."""
    real = LiveVenue._dispatch

    def dispatch(self: LiveVenue, requests: Sequence[Any]) -> None:
        journal, late = self._journal, list[Sequence[ev.Event]]()

        def later(events: Sequence[ev.Event]) -> bool:
            late.append(events)
            return True

        self._journal = later
        real(self, requests)
        self._journal = journal
        for events in late:
            journal(events)

    monkeypatch.setattr(LiveVenue, "_dispatch", dispatch)
    assert "leaves and is in no journal" in found_out()


def test_an_order_that_is_sent_again_under_a_new_salt_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a client does that takes a silence for a reason to try again."""
    real = LiveVenue._answered
    salts = itertools.count(1)

    async def answered(
        self: LiveVenue, requests: Sequence[Any], posting: Coroutine[Any, Any, list[Outcome]]
    ) -> None:
        outcomes = await posting
        if any(outcome.verdict is Verdict.UNKNOWN for outcome in outcomes):
            with monkeypatch.context() as patch:
                patch.setattr(guard, "salt_of", lambda *_: next(salts))
                wires = self._guard.sign_orders(list(requests), self._client.owner)
            posts = [
                Post(wire.venue_order_id, wire.body, is_buy=True)
                for wire in wires
                if not isinstance(wire, guard.GuardRefused)
            ]
            await self._client.begin(posts)

        async def known() -> list[Outcome]:
            return outcomes

        await real(self, requests, known())

    monkeypatch.setattr(LiveVenue, "_answered", answered)
    assert "leaves and is in no journal" in found_out(faulty(Fault.ERROR_AFTER, 0.4))


def test_a_salt_that_is_drawn_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journalled and sent once, and yet the next process could sign the same order anew."""
    salts = itertools.count(1)
    monkeypatch.setattr(guard, "salt_of", lambda *_: next(salts))
    assert "is of no order that was decided" in found_out()


def test_a_fill_that_counts_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the portfolio of the bot, and in that of the checks, which is the same class."""
    real, fills = Portfolio.fill, itertools.count(1)

    def twice(self: Portfolio, event: ev.OrderFilled) -> bool:
        if next(fills) % 3 == 0:
            again = ev.TradeId(f"{event.trade_id}-again")
            real(self, msgspec.structs.replace(event, trade_id=again))
        return real(self, event)

    monkeypatch.setattr(Portfolio, "fill", twice)
    assert found_out()


def test_a_fill_told_under_a_new_name_each_time_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, sightings = live_fills.fills_of, itertools.count()

    def fills_of(*arguments: Any) -> list[ev.OrderFilled]:
        number = next(sightings)
        return [
            msgspec.structs.replace(fill, trade_id=ev.TradeId(f"{fill.trade_id}-{number}"))
            for fill in real(*arguments)
        ]

    monkeypatch.setattr(live_orders, "fills_of", fills_of)
    assert "Disproved" in found_out()


def test_a_survey_that_shows_no_trades_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer that is believed: the fills a dead stream did not tell are never learnt."""

    async def trades(_: ClobClient, **__: object) -> list[object]:
        return []

    monkeypatch.setattr(ClobClient, "trades", trades)
    assert found_out()


def test_an_id_that_is_not_journalled_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = chaos_mortal.MortalJournal.write

    def write(self: chaos_mortal.MortalJournal, events: Sequence[ev.Event]) -> int:
        kept = [event for event in events if not isinstance(event, ev.OrderSigned)]
        return real(self, kept) if kept else 0

    monkeypatch.setattr(chaos_mortal.MortalJournal, "write", write)
    assert "leaves and is in no journal" in found_out()


def test_an_exchange_that_forgets_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(**settings: Any) -> SandboxSettings:
        return replace(SandboxSettings(**settings), state=None)

    monkeypatch.setattr(chaos_sandbox, "SandboxSettings", forgetful)
    dies = Step(12.0, What.SANDBOX, after=True)
    assert found_out(quiet_life(dies, seed=seed) for seed in range(901, 904))


def test_a_guard_that_asks_for_no_lease_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard.SigningGuard, "_require_lease", lambda _: None)
    monkeypatch.setattr(ClobClient, "_may_send", lambda _: True, raising=False)
    stop = Step(4.0, What.STOP, point=Point.BEFORE_SIGN, seconds=LEASE_S + 6, rival=True)
    said = found_out(quiet_life(stop, seed=seed, length_s=55.0) for seed in range(201, 208))
    assert "Rival holds" in said


def test_an_order_that_leaves_without_asking_again_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = ClobClient.__init__

    def careless(self: ClobClient, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **{**options, "may_send": lambda: True})

    monkeypatch.setattr(ClobClient, "__init__", careless)
    stop = Step(4.0, What.STOP, point=Point.AFTER_JOURNAL, seconds=LEASE_S + 6, rival=True)
    said = found_out(quiet_life(stop, seed=seed, length_s=55.0) for seed in range(201, 208))
    assert "sends an order under lease" in said


def test_a_lock_that_keeps_nobody_out_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin takes the lease over: it may, because it holds the lock, and it does not."""
    numbers = itertools.count()
    real = locks.acquire
    monkeypatch.setattr(
        locks, "acquire", lambda path, _wait_s=0.0: real(path.with_suffix(f".{next(numbers)}"))
    )
    steps = [Step(at_s, What.DAEMON, seconds=0.0) for at_s in (5.0, 9.0, 14.0)]
    said = found_out(quiet_life(*steps, seed=seed, length_s=28.0) for seed in range(301, 306))
    assert "has it open" in said or "under lease" in said


def test_a_latch_nobody_looks_at_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.LatchWatch, "beat", lambda _: None)
    halts = [Step(at_s, What.LATCH, seconds=3.0) for at_s in (6.0, 12.0)]
    said = found_out(quiet_life(*halts, seed=seed) for seed in range(401, 406))
    assert "after the fleet was halted" in said


def test_a_smoke_order_in_spite_of_a_halt_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_session, "_require_unlatched", lambda _: None)
    halts = (Step(0.2 + 0.2 * number, What.LATCH, seconds=3.0) for number in range(12))
    said = found_out(quiet_life(one, seed=28, length_s=8.0, whole_gate=True) for one in halts)
    assert "after the fleet was halted" in said


def test_a_stage_that_bounds_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_start, "staged", lambda limits, _stage: limits)
    monkeypatch.setattr(live_start, "replace", lambda loaded, **_: loaded)
    said = found_out(quiet_life(seed=seed, percent=10) for seed in range(701, 706))
    assert "at a stage of 10 %" in said


def test_grants_that_ask_nobody_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = AllowanceBoard._granted_to_others
    monkeypatch.setattr(
        AllowanceBoard, "_granted_to_others",
        lambda self: {} if self._bot == chaos_bot.BOT else real(self),
    )  # fmt: skip
    lives = (
        quiet_life(seed=seed, length_s=30.0, neighbour=True, fleet=500, fleet_market=150)
        for seed in range(801, 806)
    )
    assert "above its cap" in found_out(lives)


def test_a_survey_that_looks_back_a_minute_only_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = LiveVenue.survey

    async def survey(self: LiveVenue, _since_ns: Sequence[int] = ()) -> list[Any]:
        return await real(self)

    monkeypatch.setattr(LiveVenue, "survey", survey)
    away = Step(3.0, What.BOT, point=Point.AT_FILL, seconds=80.0)
    said = found_out(quiet_life(away, seed=seed, length_s=90.0) for seed in range(501, 508))
    assert "reconciliation failed" in said


def test_resolutions_that_nobody_asks_for_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed tells of a resolution once: what was not heard is held for ever."""

    async def look(_: resolutions.ResolutionWatch) -> int:
        return 0

    monkeypatch.setattr(resolutions.ResolutionWatch, "look", look)
    monkeypatch.setattr(chaos_world, "REST_S_MAX", 60.0)
    steps = [Step(10.0, What.BOT, seconds=4.0)]
    steps += [Step(11.0 + number, What.RESOLVE) for number in range(3)]
    said = found_out(quiet_life(*steps, seed=seed) for seed in range(601, 608))
    assert "never came to rest" in said
