"""ArbHunter's settings in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.config import count, dollars, flag, milliseconds, one_of, ratio, seconds, setting
from fleet.domain.units import SCALE, Cash, format_dollars


@dataclass(frozen=True, slots=True)
class Profile:
    """Threshold and trade size for one kind of market, from the operations guide."""

    min_profit: int
    trade_size: Cash


PROFILES: Final[Mapping[str, Profile]] = {
    "low": Profile(SCALE * 3 // 1000, Cash(50 * SCALE)),
    "medium": Profile(SCALE * 5 // 1000, Cash(100 * SCALE)),
    "high": Profile(SCALE * 7 // 1000, Cash(200 * SCALE)),
}
"""By market volatility: 0.3 % and $50, 0.5 % and $100, 0.7 % and $200 a leg."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbEnv:
    """ArbHunter's settings. Threshold and size not given come from the profile."""

    mode: str = setting(
        "ARB_MODE",
        one_of("paper", "live"),
        "paper",
        "how ArbHunter starts if no flag says it: paper, or live, through the gate of docs/live.md",
    )
    feed: str = setting(
        "ARB_FEED",
        one_of("sandbox", "polymarket"),
        "sandbox",
        "where ArbHunter trades if no flag says it: the local sandbox, or polymarket",
    )
    profile: str = setting(
        "ARB_PROFILE",
        one_of(*PROFILES),
        "medium",
        "the market volatility ArbHunter is set for: low, medium or high",
    )
    min_profit: int | None = setting(
        "ARB_MIN_PROFIT_THRESHOLD",
        ratio,
        None,
        "the least profit after fees as a share of the money put in; by profile 0.003, 0.005 or"
        " 0.007",
    )
    trade_size: Cash | None = setting(
        "ARB_TRADE_SIZE_USD",
        dollars,
        None,
        "the most dollars a leg; by profile 50, 100, 200",
    )
    min_yearly_return: int = setting(
        "ARB_MIN_YEARLY_RETURN",
        ratio,
        "0.2",
        "the least yearly return of an idea whose money is locked until resolution",
    )
    unwind_slippage: int = setting(
        "ARB_UNWIND_SLIPPAGE",
        ratio,
        "0.03",
        "how many dollars a share below the bid a lonely leg is first offered",
    )
    cooldown_ns: int = setting(
        "ARB_COOLDOWN_MS",
        milliseconds,
        "1000",
        "the pause in milliseconds before the same idea is tried again",
    )
    write_off_ns: int = setting(
        "ARB_WRITE_OFF_S",
        seconds,
        "600",
        "the seconds that worthless tokens are kept after their market was resolved; redeeming them"
        " books what they cost as a loss of that day",
    )
    max_open: int = setting(
        "ARB_MAX_OPEN_BUNDLES", count, "4", "the number of ideas worked at the same time"
    )
    complement: bool = setting("ARB_COMPLEMENT", flag, "true", "whether YES + NO is watched")
    sets: bool = setting("ARB_SETS", flag, "true", "whether outcome sets are watched")
    ladders: bool = setting("ARB_LADDERS", flag, "true", "whether ladders are watched")
    legs: str = setting(
        "ARB_LEGS",
        one_of("probe", "sequential", "together"),
        "probe",
        "how legs are sent: probe (thinnest first, then the rest at once by what it filled),"
        " sequential (one by one) or together",
    )
    max_order: Cash = setting(
        "ARB_MAX_ORDER_USD", dollars, "250", "the limit of one order in dollars"
    )
    max_market: Cash = setting(
        "ARB_MAX_MARKET_USD", dollars, "500", "the limit of one market in dollars at cost"
    )
    max_wallet: Cash = setting(
        "ARB_MAX_WALLET_USD", dollars, "4000", "the limit of the whole wallet in dollars at cost"
    )
    max_turnover: Cash = setting(
        "ARB_MAX_DAY_TURNOVER_USD", dollars, "50000", "the limit of a UTC day's turnover in dollars"
    )
    max_day_loss: Cash = setting(
        "ARB_MAX_DAY_LOSS_USD",
        dollars,
        "50",
        "the realised loss of a UTC day in dollars after which nothing new is opened",
    )
    max_orders: int = setting(
        "ARB_MAX_ORDERS_IN_FLIGHT", count, "20", "the number of orders open at the same time"
    )

    @staticmethod
    def check(values: Mapping[str, Any]) -> list[str]:
        """A leg that may not be ordered would be found, refused, and found again for ever."""
        size = values["trade_size"]
        size = PROFILES[values["profile"]].trade_size if size is None else size
        if size <= values["max_order"]:
            return []
        problem = (
            f"a leg of ${format_dollars(size)} (ARB_TRADE_SIZE_USD, or by ARB_PROFILE) is above"
            f" ARB_MAX_ORDER_USD={format_dollars(values['max_order'])}: every order would be"
            " refused; lower the first or raise the second"
        )
        return [problem]
