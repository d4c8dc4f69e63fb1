"""Between the engine and the forecasters: requests out, durable forecasts back, outcomes learned.

Forecasters wait for models and search memories; none of that may hold up the loop that trades or
its heartbeat. So they live in a thread of their own with a loop of its own, and answers come back
as facts. At most ``INFLIGHT_MAX`` questions are worked on; what comes on top is answered with a
``ForecastFailed`` at once, and the strategy asks again at its own pace.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.domain import events as ev
from fleet.domain.commands import RequestForecast
from fleet.domain.instruments import Market, MarketId
from fleet.domain.units import SCALE, Cash, Price
from fleet.engine.state import State
from fleet.forecasting.desk import Answer, Desk, Made
from fleet.forecasting.port import ForecastFailed, MemoryFailed, Question
from fleet.runtime import memory
from fleet.runtime.components import ComponentFailed, Health
from fleet.runtime.execution import FactSink

INFLIGHT_MAX: Final = 16
LEARN_S: Final = 5.0
SWEEP_EVERY: Final = 50
"""Answers between two sweeps of memory: the model clients leave some 80 kB of circles behind each
answer of five samples (measured with openai 3.52), which the rare collections of a settled process
would let grow for days."""
START_S: Final = 60.0
STOP_S: Final = 3.0


class ForecastPart:
    """A component: ``ask`` takes requests, facts go to ``sink``."""

    name = "forecasts"

    def __init__(
        self,
        state: State,
        clock: Clock,
        sink: FactSink,
        *,
        make_desk: Callable[[], Desk],
        history: Callable[[MarketId], Sequence[tuple[int, float]]] = lambda _: (),
        source: str = "polymarket",
    ) -> None:
        """``make_desk`` is called in the thread; ``history`` gives a market's sampled prices."""
        self._state = state
        self._clock = clock
        self._sink = sink
        self._make_desk = make_desk
        self._history = history
        self._source = source
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._desk: Desk | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._ready = asyncio.Event()
        self._failure = ""
        self._problem = ""
        self._inflight = self._answered = 0
        self._learning: asyncio.Task[None] | None = None
        self._figures: Mapping[str, float] = {}
        self._waiting: Sequence[str] = ()
        self._log = logs.get("forecasts")

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open memory and forecasters in their thread. Raises ``ComponentFailed``."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._home = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._failure = ""
        self._thread = threading.Thread(target=self._live, name="forecasts", daemon=True)
        self._thread.start()
        try:
            async with asyncio.timeout(START_S):
                await self._ready.wait()
        except TimeoutError as error:
            raise ComponentFailed(f"the memory did not open within {START_S:.0f} s") from error
        if self._failure:
            raise ComponentFailed(self._failure)
        self._learning = asyncio.create_task(self._learn())

    def _live(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        try:
            self._desk = self._make_desk()
            self._note()
        except (MemoryFailed, ForecastFailed, OSError, ValueError) as error:
            self._failure = str(error)
        self._tell(self._ready.set)
        if not self._failure:
            loop.run_forever()
        if self._desk is not None:
            loop.run_until_complete(self._desk.close())
        loop.close()

    def _tell(self, action: Callable[[], None]) -> None:
        home = self._home
        if home is not None and not home.is_closed():
            home.call_soon_threadsafe(action)

    async def stop(self) -> None:
        """End the thread; an answer that is still awaited is lost, and asked for again later."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
            self._learning = None
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive() and not loop.is_closed():
            loop.call_soon_threadsafe(self._end)
            await asyncio.to_thread(thread.join, STOP_S)
        self._thread = None

    def _end(self) -> None:
        loop = self._loop
        if loop is None:
            return
        waiting = asyncio.all_tasks(loop)
        for task in waiting:
            task.cancel()
        ended = asyncio.gather(*waiting, return_exceptions=True)
        ended.add_done_callback(lambda _: loop.stop())

    def health(self) -> Health:
        """Unhealthy when the thread has died or the memory cannot be used."""
        if self._thread is None or not self._thread.is_alive():
            return Health(ok=False, detail=self._failure or "its thread has ended")
        return Health(ok=not self._problem, detail=self._problem)

    def figures(self) -> Mapping[str, float]:
        """The desk's KPIs as they were last told."""
        return self._figures

    @property
    def waiting(self) -> Sequence[MarketId]:
        """Markets that were forecast and are not answered yet."""
        return tuple(MarketId(question) for question in self._waiting)

    # --- asking -------------------------------------------------------------------------------

    def ask(self, request: RequestForecast) -> None:
        """Take a request; never waits."""
        market = self._state.universe.markets.get(request.market_id)
        loop = self._loop
        if market is None or loop is None or not self.health().ok:
            self._fail(request, "nobody", "the forecasters are not there", 0.0)
        elif self._inflight >= INFLIGHT_MAX:
            self._fail(request, "nobody", f"{INFLIGHT_MAX} questions are being worked on", 0.0)
        else:
            self._inflight += 1
            question = self._question(market)
            asyncio.run_coroutine_threadsafe(self._work(request, question), loop)

    def _question(self, market: Market) -> Question:
        book = self._state.books[market.yes]
        price = (book.bid + book.ask) / 2 / SCALE if book.usable and book.best_bid else None
        return Question(
            id=market.id,
            text=market.question,
            criteria=market.criteria,
            as_of_ns=self._clock.now_ns(),
            category=market.category,
            source=self._source,
            event_id=market.event_id,
            closes_ns=market.end_ns,
            price=price,
            path=tuple(self._history(market.id)),
        )

    async def _work(self, request: RequestForecast, question: Question) -> None:
        """In the forecasters' thread: the answer, or what prevented it, told at home."""
        desk = self._desk
        facts: list[ev.Event]
        problem = ""
        if desk is None:
            return
        try:
            answer = await desk.answer(question)
            facts = self._facts(request, answer)
        except ForecastFailed as error:
            facts = [self._failed(request, "all", str(error), error.cost_usd)]
        except MemoryFailed as error:
            problem = str(error)
            facts = [self._failed(request, "all", problem, 0.0)]
        self._note()

        def told() -> None:
            self._inflight -= 1
            self._answered += 1
            if self._answered % SWEEP_EVERY == 0:
                memory.sweep()
            self._problem = problem
            self._sink(facts)

        self._tell(told)

    def _note(self) -> None:
        if self._desk is not None:
            self._figures, self._waiting = self._desk.figures(), self._desk.waiting

    # --- telling ------------------------------------------------------------------------------

    def _facts(self, request: RequestForecast, answer: Answer) -> list[ev.Event]:
        failed = [
            self._failed(request, name, str(error), error.cost_usd)
            for name, error in answer.failures.items()
        ]
        return [*failed, *(self._received(request, answer.question, made) for made in answer.made)]

    def _received(self, request: RequestForecast, question: Question, made: Made) -> ev.Event:
        now_ns = self._clock.now_ns()
        forecast, blend = made.forecast, made.blend
        return ev.ForecastReceived(
            ts_event=now_ns, ts_recv=now_ns,
            request_id=request.request_id,
            market_id=request.market_id,
            forecaster=forecast.forecaster,
            model=forecast.model,
            as_of_ns=forecast.as_of_ns,
            raw=_scaled(forecast.probability),
            blend=_scaled(blend.probability),
            weight=_scaled(blend.weight) if question.price is not None else 0,
            deviation=_scaled(blend.deviation),
            price=Price(_scaled(question.price) if question.price is not None else 0),
            verdict=blend.verdict,
            samples=tuple(_scaled(sample) for sample in forecast.samples),
            evidence=forecast.evidence,
            prompt_hash=forecast.prompt_hash,
            cost=Cash(round(forecast.cost_usd * SCALE)),
        )  # fmt: skip

    def _failed(self, request: RequestForecast, who: str, reason: str, cost: float) -> ev.Event:
        now_ns = self._clock.now_ns()
        return ev.ForecastFailed(
            ts_event=now_ns, ts_recv=now_ns, request_id=request.request_id,
            market_id=request.market_id, forecaster=who, reason=reason[:500],
            cost=Cash(round(cost * SCALE)),
        )  # fmt: skip

    def _fail(self, request: RequestForecast, who: str, reason: str, cost: float) -> None:
        self._sink([self._failed(request, who, reason, cost)])

    # --- learning -----------------------------------------------------------------------------

    async def _learn(self) -> None:
        """Hand over the outcomes of forecast questions as they become known."""
        while True:
            await asyncio.sleep(LEARN_S)
            known = list(self._known())
            loop, desk = self._loop, self._desk
            if loop is None or desk is None:
                continue
            told = asyncio.run_coroutine_threadsafe(self._teach(desk, known), loop)
            await asyncio.wrap_future(told)

    def _known(self) -> Sequence[tuple[str, float, int]]:
        """(question, outcome, when) of the forecast markets whose answer is known."""
        known = []
        for market_id in self.waiting:
            market = self._state.universe.markets.get(market_id)
            payout = self._state.resolved.get(market.yes) if market is not None else None
            if payout is not None:
                known.append((str(market_id), payout.price / SCALE, payout.told_ns))
        return known

    async def _teach(self, desk: Desk, known: Sequence[tuple[str, float, int]]) -> None:
        try:
            for question, outcome, told_ns in known:
                count = desk.learn(question, outcome, told_ns)
                self._log.info("FORECAST ANSWERED", market=question, outcome=outcome,
                               forecasts=count)  # fmt: skip
            if desk.judge(self._clock.now_ns()):
                self._log.info("FORECASTERS judged anew", resolved=len(desk.record))
        except MemoryFailed as error:
            self._problem = str(error)
        if known:
            self._note()


def _scaled(value: float) -> int:
    return round(value * SCALE)


def kpi_line(figures: Mapping[str, float]) -> str:
    """The KPIs as one line a person can grep for."""
    if not figures:
        return "KPI forecasts=0"
    shown = {
        "forecasts": f"{figures.get('forecasts', 0):.0f}",
        "resolved": f"{figures.get('resolved', 0):.0f}",
        "accuracy": _share(figures.get("accuracy")),
        "brier": _four(figures.get("brier")),
        "brier_price": _four(figures.get("brier_price")),
        "cost_per_forecast": f"${figures.get('cost_per_forecast_usd', 0.0):.4f}",
        "cost": f"${figures.get('cost_usd', 0.0):.4f}",
        "api_error_rate": _share(figures.get("error_rate")),
    }
    return "KPI " + " ".join(f"{name}={value}" for name, value in shown.items())


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value * 100:.1f}%"


def _four(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
