"""PolyAI: how its settings become a strategy, limits, and the components only it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fleet.bots.known import KNOWN
from fleet.bots.polyai_settings import MINUTE_NS, PolyEnv, read_proof
from fleet.clock import NS_PER_SECOND
from fleet.config import SANDBOX
from fleet.domain.units import Cash, Price
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.runtime.components import Node
from fleet.runtime.forecasting_parts import ForecastingPlan, forecasting_parts
from fleet.runtime.spec import BotSpec, Loaded, Start, Workplace
from fleet.strategies.composed import Composed, Proposer
from fleet.strategies.forecast import ForecastTrader
from fleet.strategies.forecast_settings import ForecastSettings
from fleet.strategies.statarb import StatArb, StatArbSettings
from fleet.strategies.statarb_positions import IDEA as STATARB_IDEA
from fleet.strategies.working import Worker

SLUG: Final = "polyai"
SAMPLE_NS: Final = MINUTE_NS
PLAY_SAMPLE_NS: Final = 10 * NS_PER_SECOND
"""How often prices are sampled, on a venue and on the sandbox."""


def forecast_settings(env: PolyEnv, stage_percent: int = 100) -> ForecastSettings:
    """The forecast trader's settings, at the sizes of a stage."""
    interval_ns = env.intervals.news_ns
    defaults = ForecastSettings()
    patience_ns = min(defaults.patience_ns, interval_ns)
    return ForecastSettings(
        interval_ns=interval_ns,
        per_round=env.questions,
        patience_ns=patience_ns,
        max_age_ns=interval_ns + patience_ns,
        max_hold_age_ns=max(defaults.max_hold_age_ns, 3 * interval_ns),
        min_edge=Price(env.min_edge),
        min_confidence=env.min_confidence,
        kelly_fraction=env.kelly,
        max_bet=_staged(env.max_bet, stage_percent),
        max_market=_staged(env.max_market, stage_percent),
        max_group=_staged(env.max_group, stage_percent),
    )


def statarb_settings(
    env: PolyEnv, *, play_money: bool, stage_percent: int = 100
) -> StatArbSettings:
    """The spread trader's settings; what no evaluation has proven stakes only play money.

    The window of the evaluations takes ten hours to fill. With play money a shorter one shows the
    machinery at work within twenty minutes, and proves nothing.
    """
    scan_ns = env.intervals.scan_ns
    settings = StatArbSettings(
        scan_ns=scan_ns,
        max_position=_staged(env.max_bet, stage_percent),
        max_group=_staged(env.max_group, stage_percent),
        allowed=read_proof(env.statarb_proof) if env.statarb_proof is not None else (),
        stake_unproven=play_money,
    )
    if not play_money:
        return replace(settings, refit_ns=min(settings.refit_ns, 6 * scan_ns))
    return replace(
        settings, step_ns=sample_ns(scan_ns, play_money=True), formation=60, validation=40,
        refit_ns=scan_ns,
    )  # fmt: skip


def sample_ns(scan_ns: int, *, play_money: bool) -> int:
    """How often prices are sampled: at least five times a scan."""
    return min(PLAY_SAMPLE_NS if play_money else SAMPLE_NS, scan_ns // 5)


def _staged(amount: Cash, percent: int) -> Cash:
    return Cash(amount * percent // 100)


def strategy(loaded: Loaded, view: View) -> Composed:
    """Both traders over one view, at the sizes of the stage."""
    env = loaded.of(PolyEnv)
    spreads = statarb_settings(
        env, play_money=loaded.feed == SANDBOX, stage_percent=loaded.stage_percent
    )
    bets = forecast_settings(env, loaded.stage_percent)
    proposers: list[Proposer] = []
    if env.forecasts:
        proposers.append(ForecastTrader(bets, view))
    if env.statarb:
        proposers.append(StatArb(spreads, view))
    worker = Worker(bets.execution, by_idea={STATARB_IDEA: spreads.execution})
    return Composed(proposers, worker)


def limits(loaded: Loaded) -> RiskLimits:
    """The bot's hard limits."""
    env = loaded.of(PolyEnv)
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
    env = loaded.of(PolyEnv)
    return Start(mode=env.mode, feed=env.feed)


def parts(place: Workplace) -> Sequence[Node]:
    """Price samples, prices of coins, and the forecasters."""
    env = place.loaded.of(PolyEnv)
    intervals = env.intervals
    plan = ForecastingPlan(
        slug=SLUG,
        sample_ns=sample_ns(intervals.scan_ns, play_money=place.feed == SANDBOX),
        news_ns=intervals.news_ns,
        forecasts=env.forecasts,
        reference_url=env.reference_url,
    )
    return forecasting_parts(place, plan)


SPEC: Final = BotSpec(
    name="PolyAI",
    slug=SLUG,
    summary="PolyAI bets on forecasts that have shown skill against the price, and trades spreads"
    " between markets that belong together, on Polymarket. On paper by default, against the local"
    " sandbox by default.",
    settings=(PolyEnv, LlmEnv, NewsEnv, MemoryEnv),
    known=KNOWN,
    strategy=strategy,
    limits=limits,
    opportunity="AI OPPORTUNITY",
    start=start,
    parts=parts,
)
