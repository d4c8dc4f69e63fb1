"""ArbHunter: how its settings become a strategy and limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fleet.bots.arbhunter_settings import PROFILES, ArbEnv
from fleet.bots.known import KNOWN
from fleet.domain.units import Cash, Price
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.runtime.spec import BotSpec, Loaded, Start
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.legs import ExecutionSettings


def arb_settings(env: ArbEnv) -> ArbSettings:
    """The strategy's settings."""
    profile = PROFILES[env.profile]
    return ArbSettings(
        min_profit=profile.min_profit if env.min_profit is None else env.min_profit,
        trade_size=profile.trade_size if env.trade_size is None else env.trade_size,
        min_yearly_return=env.min_yearly_return,
        unwind_slippage=Price(env.unwind_slippage),
        cooldown_ns=env.cooldown_ns,
        write_off_ns=env.write_off_ns,
        max_open_bundles=env.max_open,
        complement=env.complement,
        sets=env.sets,
        ladders=env.ladders,
        execution=ExecutionSettings(
            together=env.legs == "together", rest_together=env.legs == "probe"
        ),
    )


def limits(loaded: Loaded) -> RiskLimits:
    """The bot's hard limits."""
    env = loaded.of(ArbEnv)
    return RiskLimits(
        max_order_notional=env.max_order,
        max_market_exposure=env.max_market,
        max_wallet_exposure=env.max_wallet,
        max_day_turnover=env.max_turnover,
        max_day_loss=env.max_day_loss,
        max_orders_in_flight=env.max_orders,
    )


def strategy(loaded: Loaded, view: View) -> Arbitrage:
    """The strategy over one view, at the sizes of its stage."""
    settings = arb_settings(loaded.of(ArbEnv))
    size = Cash(settings.trade_size * loaded.stage_percent // 100)
    return Arbitrage(replace(settings, trade_size=size), view)


def start(loaded: Loaded) -> Start:
    """How it starts when no flag says otherwise."""
    env = loaded.of(ArbEnv)
    return Start(mode=env.mode, feed=env.feed)


SPEC: Final = BotSpec(
    name="ArbHunter",
    slug="arbhunter",
    summary="ArbHunter finds and works arbitrage on Polymarket's order books: YES + NO of a market,"
    " outcome sets, and ladders. On paper by default, against the local sandbox by default.",
    settings=(ArbEnv,),
    known=KNOWN,
    strategy=strategy,
    limits=limits,
    opportunity="ARB OPPORTUNITY",
    start=start,
)
