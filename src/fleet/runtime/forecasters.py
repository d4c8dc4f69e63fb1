"""From settings to the desk of forecasters: memory, news, statistics, language models.

Called in the forecasters' own thread, so that libraries which take their time to load, and a
Postgres that takes its time to answer, hold up nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.clock import Clock
from fleet.config import Paths
from fleet.forecasting.desk import Desk
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.forecasting.port import Forecaster


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskSettings:
    """What a desk is made of. ``directory`` keeps what models and news have cost."""

    memory: MemoryEnv
    llm: LlmEnv
    news: NewsEnv
    news_fresh_ns: int
    directory: Path


def open_desk(
    settings: DeskSettings, paths: Paths, clock: Clock, say: Callable[[str], None]
) -> Desk:
    """The desk of these settings; ``say`` is told what is left out and why.

    Raises ``MemoryFailed``.
    """
    from fleet.forecasting.calibration import Calibration
    from fleet.forecasting.llm_access import forecasters_from, news_from
    from fleet.forecasting.memory import open_memory
    from fleet.forecasting.statistical import StatisticalForecaster

    settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    memory = open_memory(settings.memory, paths, fallback_key=settings.llm.openai_key)
    news = news_from(
        settings.news, directory=settings.directory, clock=clock,
        fresh_ns=settings.news_fresh_ns, memory=memory, say=say,
    )  # fmt: skip
    models = forecasters_from(
        settings.llm, directory=settings.directory, clock=clock, news=news, memory=memory,
        say=say,
    )  # fmt: skip
    forecasters: tuple[Forecaster, ...] = (StatisticalForecaster(memory), *models)
    desk = Desk(forecasters=forecasters, memory=memory, fit=Calibration.fit, now_ns=clock.now_ns())
    say(
        f"forecasters: {', '.join(one.name for one in forecasters)};"
        f" {len(desk.record)} resolved forecasts on record"
    )
    return desk
