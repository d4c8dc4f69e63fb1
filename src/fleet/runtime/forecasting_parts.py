"""The components of a bot that forecasts: price samples, prices of coins, the forecasters, KPIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fleet import logs
from fleet.config import SANDBOX
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.journal.price_history import PriceHistory
from fleet.runtime.components import Node
from fleet.runtime.forecast_part import ForecastPart, kpi_line
from fleet.runtime.forecasters import DeskSettings, open_desk
from fleet.runtime.price_sampler import PriceSampler
from fleet.runtime.reference_prices import ReferencePrices
from fleet.runtime.settings import SandboxEnv
from fleet.runtime.spec import Workplace
from fleet.venues.transport import HttpSettings, JsonClient


@runtime_checkable
class Judged(Protocol):
    """A strategy that says in words what its parts have shown."""

    def verdicts(self) -> Sequence[str]:
        """One line each."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastingPlan:
    """What a bot wants of it, as in its settings."""

    slug: str
    sample_ns: int
    news_ns: int
    forecasts: bool
    reference_url: str | None
    """Where prices of coins are asked for outside the sandbox; nowhere if ``None``."""


def forecasting_parts(place: Workplace, plan: ForecastingPlan) -> Sequence[Node]:
    """The components, hooked into the runner and the status board of ``place``. All optional: a
    bot without forecasts still looks after what it holds.
    """
    paths, clock = place.paths, place.clock
    url = plan.reference_url
    references = None if url is None else ReferencePrices(lambda: _prices_of(place, url), clock)
    sampler = PriceSampler(
        place.state,
        lambda: PriceHistory(paths.prices(plan.slug, place.feed), bot=plan.slug, feed=place.feed),
        clock,
        place.runner.put_market,
        every_ns=plan.sample_ns,
        references=tuple if references is None else references.fresh,
    )
    nodes = [Node(component=sampler, required=False)]
    if references is not None:
        nodes.insert(0, Node(component=references, required=False))
    forecasts = _forecasts(place, plan, sampler) if plan.forecasts else None
    if forecasts is not None:
        place.runner.forecasts = forecasts.ask
        place.board.kpis = forecasts.figures
        nodes.append(Node(component=forecasts, required=False))
    place.board.kpi_lines = lambda: _kpis(place, forecasts)
    return nodes


def _forecasts(place: Workplace, plan: ForecastingPlan, sampler: PriceSampler) -> ForecastPart:
    log = logs.get("forecasts")
    desk = DeskSettings(
        memory=place.loaded.of(MemoryEnv),
        llm=place.loaded.of(LlmEnv),
        news=place.loaded.of(NewsEnv),
        news_fresh_ns=plan.news_ns,
        directory=place.paths.forecasting(plan.slug),
    )
    return ForecastPart(
        place.state, place.clock, place.runner.put_facts,
        make_desk=lambda: open_desk(desk, place.paths, place.clock, log.info),
        history=sampler.path, source=place.feed,
    )  # fmt: skip


def _kpis(place: Workplace, forecasts: ForecastPart | None) -> Sequence[str]:
    lines = [kpi_line(forecasts.figures())] if forecasts is not None else []
    strategy = place.runner.engine.strategy
    verdicts = strategy.verdicts() if isinstance(strategy, Judged) else ()
    return [*lines, *(f"KPI {verdict}" for verdict in verdicts)]


def _prices_of(place: Workplace, url: str) -> JsonClient:
    if place.feed == SANDBOX:
        port = place.loaded.of(SandboxEnv).port
        return JsonClient(f"http://127.0.0.1:{port}/reference", HttpSettings(attempts=1))
    return JsonClient(url, HttpSettings(attempts=2))
