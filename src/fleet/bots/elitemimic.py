"""EliteMimic: how its settings become a strategy, limits, and the components only it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fleet.bots.elitemimic_settings import EliteEnv, LeadersEnv
from fleet.bots.known import KNOWN
from fleet.clock import NS_PER_SECOND
from fleet.config import SANDBOX
from fleet.domain.units import Cash, Price
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.runtime.components import Node
from fleet.runtime.copying_parts import follow_leaders
from fleet.runtime.forecasting_parts import ForecastingPlan, forecasting_parts
from fleet.runtime.listener_settings import ListenerEnv
from fleet.runtime.spec import BotSpec, Loaded, Start, Workplace
from fleet.strategies.composed import Composed
from fleet.strategies.mimic import MimicTrader
from fleet.strategies.mimic_settings import MimicSettings
from fleet.strategies.mimic_stakes import EXIT
from fleet.strategies.working import Worker

SLUG: Final = "elitemimic"
SAMPLE_NS: Final = 60 * NS_PER_SECOND
NEWS_NS: Final = 600 * NS_PER_SECOND
"""A forecast for an approval may rest on news this old."""


def mimic_settings(env: EliteEnv, *, play_money: bool, stage_percent: int = 100) -> MimicSettings:
    """The copy trader's settings, at the sizes of a stage.

    With ``play_money`` a forecaster that has shown no skill lets copies pass, so that they can be
    seen; with real money it does only if the settings say so.
    """
    chosen = env.chosen
    approves = play_money if env.unskilled_approves is None else env.unskilled_approves
    return MimicSettings(
        max_age_ns=env.max_age_ns,
        max_slippage=Price(env.max_slippage),
        copy_ratio=chosen.ratio * stage_percent // 100,
        max_copy=_staged(chosen.max_copy, stage_percent),
        max_market=_staged(env.max_market, stage_percent),
        max_leader=_staged(env.max_leader, stage_percent),
        max_day=_staged(env.max_day, stage_percent),
        min_ai_confidence=chosen.min_confidence,
        unskilled_approves=approves,
    )


def _staged(amount: Cash, percent: int) -> Cash:
    return Cash(amount * percent // 100)


def strategy(loaded: Loaded, view: View) -> Composed:
    """The copy trader over one view, at the sizes of the stage."""
    settings = mimic_settings(
        loaded.of(EliteEnv),
        play_money=loaded.feed == SANDBOX,
        stage_percent=loaded.stage_percent,
    )
    worker = Worker(settings.execution, by_idea={EXIT: settings.exit_execution})
    return Composed([MimicTrader(settings, view)], worker)


def limits(loaded: Loaded) -> RiskLimits:
    """The bot's hard limits."""
    env = loaded.of(EliteEnv)
    return RiskLimits(
        max_order_notional=env.max_order,
        max_market_exposure=env.max_market,
        max_wallet_exposure=env.max_wallet,
        max_day_turnover=env.max_turnover,
        max_day_loss=env.max_day_loss,
        max_orders_in_flight=env.max_orders,
    )


def start(loaded: Loaded) -> Start:
    """How it starts when no flag says otherwise."""
    env = loaded.of(EliteEnv)
    return Start(mode=env.mode, feed=env.feed)


def parts(place: Workplace) -> Sequence[Node]:
    """The leaders on the chain, and the forecasters who approve."""
    env = place.loaded.of(EliteEnv)
    plan = ForecastingPlan(
        slug=SLUG,
        sample_ns=SAMPLE_NS,
        news_ns=NEWS_NS,
        forecasts=env.chosen.min_confidence > 0,
        reference_url=None,
    )
    leaders = follow_leaders(place, manual=place.loaded.of(LeadersEnv).wallets)
    return [*forecasting_parts(place, plan), leaders]


SPEC: Final = BotSpec(
    name="EliteMimic",
    slug=SLUG,
    summary="EliteMimic copies wallets whose record is worth copying, from the chain, after a"
    " forecaster's approval and within limits. On paper by default, against the local sandbox by"
    " default.",
    settings=(EliteEnv, LeadersEnv, ListenerEnv, LlmEnv, NewsEnv, MemoryEnv),
    known=KNOWN,
    strategy=strategy,
    limits=limits,
    opportunity="COPY",
    start=start,
    parts=parts,
)
