"""Requests out, durable forecasts back, outcomes learned; nothing of it holds up the loop."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import RequestForecast
from fleet.domain.instruments import MarketId
from fleet.domain.units import SCALE, parse_price
from fleet.engine.state import State
from fleet.forecasting.desk import Desk
from fleet.forecasting.port import (
    Forecast,
    Forecaster,
    ForecastFailed,
    Item,
    Kind,
    MemoryFailed,
    Neighbour,
    Question,
)
from fleet.forecasting.record import Blend, Resolved
from fleet.runtime.components import ComponentFailed
from fleet.runtime.forecast_part import INFLIGHT_MAX, ForecastPart, kpi_line
from tests.builders import NS, market_id, no, snapshot, universe, yes

START = 1_795_000_000 * NS


class Shelf:
    """A memory that is a dict; ``full`` makes it fail."""

    def __init__(self, rows: Sequence[Item] = ()) -> None:
        self.rows = {(item.kind, item.id): item for item in rows}
        self.full = False
        self.closed = False

    def add(self, items: Sequence[Item]) -> int:
        if self.full:
            raise MemoryFailed("the disk is full; free space")
        before = len(self.rows)
        self.rows |= {(item.kind, item.id): item for item in items}
        return len(self.rows) - before

    def search(
        self, text: str, *, before_ns: int, top: int = 3,
        kinds: Sequence[Kind] = (), exclude: Sequence[str] = (),
    ) -> Sequence[Neighbour]:  # fmt: skip
        return ()

    def get(self, kind: Kind, item_id: str) -> Item | None:
        return self.rows.get((kind, item_id))

    def items(self, kind: Kind | None = None) -> Sequence[Item]:
        return [item for item in self.rows.values() if kind in {None, item.kind}]

    def count(self) -> Mapping[Kind, int]:
        return {kind: len(self.items(kind)) for kind in Kind}

    def close(self) -> None:
        self.closed = True


class Says:
    """A forecaster that says one thing, or fails, after blocking its thread for a while."""

    def __init__(self, name: str, says: float | str, *, blocks_s: float = 0.0) -> None:
        self.name = name
        self._says = says
        self._blocks_s = blocks_s
        self.closed = False

    def attempts(self) -> tuple[int, int]:
        return 0, 0

    async def close(self) -> None:
        self.closed = True

    async def forecast(self, question: Question) -> Forecast:
        time.sleep(self._blocks_s)  # noqa: ASYNC251 - a forecaster may block; that is the point
        if isinstance(self._says, str):
            raise ForecastFailed(self._says, 0.25)
        return Forecast(
            question_id=question.id, forecaster=self.name, probability=self._says,
            as_of_ns=question.as_of_ns, cost_usd=0.5,
        )  # fmt: skip


class Weighs:
    """A calibrator that gives weights by name and remembers what it was fitted on."""

    def __init__(self, record: Sequence[Resolved], weights: Mapping[str, float]) -> None:
        self.record = record
        self._weights = weights

    def apply(
        self, forecaster: str, category: str, probability: float, price: float | None
    ) -> Blend:
        return Blend(probability=probability, weight=self._weights.get(forecaster, 0.0),
                     deviation=0.05, verdict="tested")  # fmt: skip


def desk(
    *forecasters: Forecaster, shelf: Shelf | None = None, weights: Mapping[str, float] | None = None
) -> Desk:
    return Desk(
        forecasters=forecasters, memory=shelf or Shelf(),
        fit=lambda record: Weighs(record, weights or {}), now_ns=START,
    )  # fmt: skip


class Place:
    """A part over one quoted market, and what it told."""

    def __init__(self, make: Callable[[], Desk]) -> None:
        self.state = State(universe(2))
        self.state.apply(snapshot(yes(1), at=START))
        self.told: list[ev.Event] = []
        self.part = ForecastPart(self.state, LiveClock(), self._take, make_desk=make)

    def _take(self, facts: Sequence[ev.Event]) -> None:
        self.told.extend(facts)
        for fact in facts:
            self.state.apply(fact)

    async def asked(self, number: int = 1, answers: int = 1) -> Sequence[ev.Event]:
        before = len(self.told)
        self.part.ask(RequestForecast(request_id="f1", market_id=market_id(number), ts=START))
        await until(lambda: len(self.told) >= before + answers)
        return self.told[before:]


async def until(what: Callable[[], object], seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.005)):
        if what():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


def test_the_one_with_the_most_weight_is_told_last_and_kept() -> None:
    async def story() -> None:
        place = Place(lambda: desk(Says("good", 0.8), Says("bad", 0.1), weights={"good": 0.4}))
        await place.part.start()
        told = await place.asked(answers=2)
        assert [f.forecaster for f in told if isinstance(f, ev.ForecastReceived)] == ["bad", "good"]
        kept = place.state.forecasts[market_id(1)]
        assert (kept.forecaster, kept.raw, kept.weight) == (
            "good", 80 * SCALE // 100, 40 * SCALE // 100,
        )  # fmt: skip
        assert kept.price == parse_price("0.50")
        assert kept.cost == SCALE // 2
        await place.part.stop()

    asyncio.run(story())


def test_without_a_price_nothing_may_be_staked() -> None:
    async def story() -> None:
        place = Place(lambda: desk(Says("good", 0.8), weights={"good": 0.4}))
        await place.part.start()
        (told,) = await place.asked(2)
        assert isinstance(told, ev.ForecastReceived)
        assert (told.price, told.weight) == (0, 0)
        await place.part.stop()

    asyncio.run(story())


def test_one_that_fails_does_not_silence_the_others_and_its_cost_is_told() -> None:
    async def story() -> None:
        place = Place(lambda: desk(Says("good", 0.8), Says("dear", "no answer in 5 s")))
        await place.part.start()
        failed, received = await place.asked(answers=2)
        assert isinstance(failed, ev.ForecastFailed)
        assert (failed.forecaster, failed.reason) == ("dear", "no answer in 5 s")
        assert failed.cost == SCALE // 4
        assert isinstance(received, ev.ForecastReceived)
        figures = place.part.figures()
        assert figures["error_rate"] == pytest.approx(0.5)
        assert "api_error_rate=50.0%" in kpi_line(figures)
        await place.part.stop()

    asyncio.run(story())


def test_if_nobody_answers_it_is_a_failure_and_no_guess() -> None:
    async def story() -> None:
        place = Place(lambda: desk(Says("a", "down"), Says("b", "down too")))
        await place.part.start()
        (told,) = await place.asked()
        assert isinstance(told, ev.ForecastFailed)
        assert "down too" in told.reason
        assert market_id(1) not in place.state.forecasts
        await place.part.stop()

    asyncio.run(story())


def test_a_forecaster_that_blocks_does_not_hold_up_the_loop() -> None:
    async def story() -> None:
        place = Place(lambda: desk(Says("slow", 0.6, blocks_s=0.5)))
        await place.part.start()
        place.part.ask(RequestForecast(request_id="f1", market_id=market_id(1), ts=START))
        beats = 0
        while not place.told:
            await asyncio.sleep(0.005)
            beats += 1
        assert beats > 20
        await place.part.stop()

    asyncio.run(story())


def test_more_questions_than_it_works_on_are_answered_at_once_with_a_failure() -> None:
    async def story() -> None:
        place = Place(lambda: desk(Says("slow", 0.6, blocks_s=0.05)))
        await place.part.start()
        for _ in range(INFLIGHT_MAX + 1):
            place.part.ask(RequestForecast(request_id="f", market_id=market_id(1), ts=START))
        (told,) = place.told
        assert isinstance(told, ev.ForecastFailed)
        await until(lambda: len(place.told) == INFLIGHT_MAX + 1)
        await place.part.stop()

    asyncio.run(story())


def test_a_memory_that_fails_is_told_and_makes_it_unhealthy() -> None:
    async def story() -> None:
        shelf = Shelf()
        shelf.full = True
        place = Place(lambda: desk(Says("good", 0.8), shelf=shelf))
        await place.part.start()
        (told,) = await place.asked()
        assert isinstance(told, ev.ForecastFailed)
        assert not place.part.health().ok
        assert "free space" in place.part.health().detail
        await place.part.stop()
        assert shelf.closed

    asyncio.run(story())


def test_a_memory_that_does_not_open_fails_the_start() -> None:
    def make() -> Desk:
        raise MemoryFailed("var/memory is not ours; move it away")

    async def story() -> None:
        with pytest.raises(ComponentFailed, match="move it away"):
            await Place(make).part.start()

    asyncio.run(story())


def test_outcomes_are_learned_once_and_survive_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.runtime.forecast_part.LEARN_S", 0.01)
    shelf = Shelf()

    async def story() -> None:
        place = Place(lambda: desk(Says("good", 0.8), shelf=shelf))
        await place.part.start()
        await place.asked()
        await until(lambda: place.part.waiting)
        place.state.apply(
            ev.MarketResolved(
                ts_event=START, ts_recv=START, market_id=market_id(1),
                payouts=((yes(1), parse_price("1")), (no(1), parse_price("0"))),
            )
        )  # fmt: skip
        await until(lambda: place.part.figures().get("resolved") == 1)
        figures = place.part.figures()
        assert figures["accuracy"] == 1.0
        assert figures["brier"] == pytest.approx(0.04)
        assert figures["brier_price"] == pytest.approx(0.25)
        assert not place.part.waiting
        await place.part.stop()

    asyncio.run(story())
    (said,) = shelf.items(Kind.FORECAST)
    (question,) = shelf.items(Kind.RESOLVED)
    assert (said.outcome, question.outcome, question.id) == (1.0, 1.0, "m1")
    again = desk(Says("good", 0.8), shelf=shelf)
    assert [r.outcome for r in again.record] == [1.0]
    assert not again.waiting


def test_an_unanswered_forecast_is_still_waited_for_after_a_restart() -> None:
    async def story() -> None:
        shelf = Shelf()
        place = Place(lambda: desk(Says("good", 0.8), shelf=shelf))
        await place.part.start()
        await place.asked()
        await place.asked()
        await place.part.stop()
        again = desk(Says("good", 0.8), shelf=shelf)
        assert again.waiting == ("m1",)
        assert len(shelf.items(Kind.FORECAST)) == 1, "two of one day are one opinion"
        assert again.learn("m1", 0.0, START) == 1
        assert again.learn("m1", 0.0, START) == 0
        assert again.judge(START + 10**15)
        assert not again.judge(START + 2 * 10**15), "nothing was learned since"

    asyncio.run(story())


def test_a_market_outside_the_universe_is_a_failure() -> None:
    async def story() -> None:
        place = Place(lambda: desk(Says("good", 0.8)))
        await place.part.start()
        place.part.ask(RequestForecast(request_id="f", market_id=MarketId("m9"), ts=START))
        (told,) = place.told
        assert isinstance(told, ev.ForecastFailed)
        await place.part.stop()

    asyncio.run(story())
