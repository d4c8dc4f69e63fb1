"""The Trader's bot: one token, one rule, through the engine every other bot runs on.

The rule and the model's opinions come from outside (research hands them in); sizes, limits and the
way to the venue are made here. Long or flat only: nothing is ever sold that is not held.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from fleet.bots.known import KNOWN
from fleet.bots.trader_settings import TraderEnv
from fleet.config import SANDBOX, Mode, Paths
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE, Cash
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.runtime.bootstrap import drop_secrets, run_locked
from fleet.runtime.crypto_settings import CryptoEnv
from fleet.runtime.crypto_source import crypto_source
from fleet.runtime.session import Setup, paper_session
from fleet.runtime.spec import BotSpec, Loaded, Start
from fleet.runtime.trader_research import Research
from fleet.runtime.trader_tokens import Token
from fleet.strategies.candles import CandleStrategy, Scorer, no_opinion
from fleet.strategies.rules import Rule, Terms

RULES: Final[Mapping[str, Rule]] = {
    "sma_cross": Rule(kind="sma_cross", fast=20, slow=60),
    "breakout": Rule(kind="breakout", fast=20, slow=55),
    "mean_reversion": Rule(kind="mean_reversion", slow=48, enter=2 * SCALE, leave=SCALE // 2),
    "buy_and_hold": Rule(kind="buy_and_hold"),
}
"""Plain rules with their usual windows: of a trading month and quarter of days (SMA, Donchian's
20/55), and two standard deviations (Bollinger)."""
PAPER_NOTE: Final = "real market data, simulated orders: no real money"
SANDBOX_NOTE: Final = "the local Binance's simulated market, simulated orders: no real money"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """What decides: a rule, a model's opinions, and how many bars both need to know."""

    rule: Rule
    scorer: Scorer = no_opinion
    bars: int = 0

    @property
    def history(self) -> int:
        """Bars from before the start that must be told."""
        return max(self.bars, self.rule.warm_up)


class TraderResearch(Research, Protocol):
    """The research the Trader is handed, with what its bot needs of a stored model."""

    def acting(self, root: Path, name: str, token: Token) -> tuple[Rule, Scorer, int]:
        """Rule, opinions and bars needed of a model in the registry. Raises ``ResearchFailed``."""
        ...


def limits(loaded: Loaded, share: Cash | None = None) -> RiskLimits:
    """The bot's hard limits: one market, so one limit for order, market and wallet.

    ``share`` is what a portfolio gives it; it can only lower them.
    """
    env = loaded.of(TraderEnv)
    most = _most(env, share)
    return RiskLimits(
        max_order_notional=most,
        max_market_exposure=most,
        max_wallet_exposure=most,
        max_day_turnover=env.max_turnover,
        max_day_loss=env.max_day_loss,
        max_orders_in_flight=4,
    )


def _most(env: TraderEnv, share: Cash | None) -> Cash:
    return env.max_position if share is None else min(env.max_position, share)


def spec_of(token: Token, interval: str, acting: Acting, share: Cash | None = None) -> BotSpec:
    """The bot of one token; ``share`` is what a portfolio gives it."""

    def strategy(loaded: Loaded, view: View) -> CandleStrategy:
        env = loaded.of(TraderEnv)
        instrument = view.instrument(InstrumentId(str(token)))
        # The fee is part of what a limit counts, and the price may run by the collar.
        room = Cash(_most(env, share) * 98 // 100 * loaded.stage_percent // 100)
        terms = Terms.of(instrument, collar=env.collar, notional_max=room)
        return CandleStrategy(instrument, acting.rule, terms, acting.scorer)

    return BotSpec(
        name=f"Trader-{token}",
        slug=token.slug,
        summary=f"The Trader on {token}.",
        settings=(TraderEnv, CryptoEnv),
        known=KNOWN,
        strategy=strategy,
        limits=lambda loaded: limits(loaded, share),
        opportunity="SIGNAL",
        start=lambda _loaded: Start(mode=Mode.PAPER.value, feed=SANDBOX),
        source=crypto_source([token.symbol], interval, acting.history),
    )


def paper(
    spec: BotSpec,
    loaded: Loaded,
    paths: Paths,
    environ: MutableMapping[str, str],
    *,
    feed: str,
    duration_s: float | None,
    debug: bool,
) -> int:
    """Trade on paper until stopped; the exit code. Keys are dropped first: paper needs none."""
    drop_secrets(environ)
    setup = Setup(
        mode=Mode.PAPER,
        feed=feed,
        wallet=f"{Mode.PAPER.value}:{spec.slug}",
        note=SANDBOX_NOTE if feed == SANDBOX else PAPER_NOTE,
        limits=spec.limits(loaded),
        open_session=paper_session,
        duration_s=duration_s,
    )
    level = "debug" if debug else loaded.of(TraderEnv).log_level
    return run_locked(spec, setup, loaded, paths, environ, level=LEVELS[level])


LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
