import pytest

from fleet.bots.arbhunter import SPEC, arb_settings, limits
from fleet.bots.arbhunter_settings import PROFILES, ArbEnv
from fleet.bots.known import KNOWN
from fleet.config import ConfigError, load
from fleet.domain.units import SCALE, Cash
from fleet.engine.risk import RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.runtime.spec import Loaded
from fleet.strategies.arbitrage import Arbitrage
from tests.builders import c, p, universe


def test_the_guides_threshold_and_size_are_the_defaults() -> None:
    chosen = arb_settings(load(ArbEnv, {}))
    assert (chosen.min_profit, chosen.trade_size) == (p("0.005"), c("100"))


@pytest.mark.parametrize(
    ("profile", "threshold", "size"),
    [("low", "0.003", "50"), ("medium", "0.005", "100"), ("high", "0.007", "200")],
)
def test_the_guides_profiles(profile: str, threshold: str, size: str) -> None:
    chosen = arb_settings(load(ArbEnv, {"ARB_PROFILE": profile}))
    assert (chosen.min_profit, chosen.trade_size) == (p(threshold), c(size))
    assert len(PROFILES) == 3


def test_what_is_said_overrules_the_profile_zero_too() -> None:
    env = {
        "ARB_PROFILE": "high", "ARB_MIN_PROFIT_THRESHOLD": "0", "ARB_TRADE_SIZE_USD": "12.50",
    }  # fmt: skip
    chosen = arb_settings(load(ArbEnv, env))
    assert (chosen.min_profit, chosen.trade_size) == (0, c("12.5"))


@pytest.mark.parametrize(
    ("legs", "together", "rest"),
    [("probe", False, True), ("sequential", False, False), ("together", True, False)],
)
def test_how_legs_are_sent(legs: str, together: bool, rest: bool) -> None:
    execution = arb_settings(load(ArbEnv, {"ARB_LEGS": legs})).execution
    assert (execution.together, execution.rest_together) == (together, rest)


def test_every_setting_reaches_the_strategy() -> None:
    env = {
        "ARB_MIN_YEARLY_RETURN": "0.5", "ARB_UNWIND_SLIPPAGE": "0.02", "ARB_COOLDOWN_MS": "7",
        "ARB_MAX_OPEN_BUNDLES": "9", "ARB_COMPLEMENT": "no", "ARB_SETS": "no", "ARB_LADDERS": "no",
    }  # fmt: skip
    chosen = arb_settings(load(ArbEnv, env))
    assert chosen.min_yearly_return == SCALE // 2
    assert chosen.unwind_slippage == p("0.02")
    assert chosen.cooldown_ns == 7_000_000
    assert chosen.max_open_bundles == 9
    assert not (chosen.complement or chosen.sets or chosen.ladders)


def test_every_limit_reaches_risk() -> None:
    env = {
        "ARB_TRADE_SIZE_USD": "1", "ARB_MAX_ORDER_USD": "1", "ARB_MAX_MARKET_USD": "2",
        "ARB_MAX_WALLET_USD": "3", "ARB_MAX_DAY_TURNOVER_USD": "4", "ARB_MAX_DAY_LOSS_USD": "5",
        "ARB_MAX_ORDERS_IN_FLIGHT": "6",
    }  # fmt: skip
    got = limits(Loaded(items=[load(ArbEnv, env)]))
    assert got == RiskLimits(
        max_order_notional=c("1"), max_market_exposure=c("2"), max_wallet_exposure=c("3"),
        max_day_turnover=c("4"), max_day_loss=c("5"), max_orders_in_flight=6,
    )  # fmt: skip


@pytest.mark.parametrize(
    "env", [{"ARB_TRADE_SIZE_USD": "251"}, {"ARB_PROFILE": "high", "ARB_MAX_ORDER_USD": "150"}]
)
def test_a_size_no_order_may_have_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="every order would be refused"):
        load(ArbEnv, env)


def test_the_spec_makes_the_strategy_over_a_view() -> None:
    made = SPEC.strategy(Loaded(items=[load(ArbEnv, {})]), View(State(universe(2))))
    assert isinstance(made, Arbitrage)
    assert made.figures()["opportunities"] == 0
    assert made.settings.trade_size == Cash(100 * SCALE)
    assert ArbEnv in KNOWN
