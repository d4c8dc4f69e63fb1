"""EliteMimic's settings in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.config import count, dollars, flag, one_of, ratio, seconds, setting
from fleet.domain.units import SCALE, Cash, format_dollars
from fleet.runtime.addresses import addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadersEnv:
    """Whom EliteMimic looks at beside the list that `fleet leaders` keeps."""

    wallets: tuple[str, ...] = setting(
        "ELITE_WALLETS",
        addresses,
        "",
        "wallets looked at beside the list of `fleet leaders`, separated by commas: the proxy or"
        " deposit wallets that trade; each is watched on paper until its score passes the gate",
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """Confidence in percent, most dollars a copy, our shares for each of the leader's."""

    min_confidence: int
    max_copy: Cash
    ratio: int


PROFILES: Final[Mapping[str, Profile]] = {
    "conservative": Profile(80, Cash(200 * SCALE), SCALE * 3 // 10),
    "balanced": Profile(70, Cash(500 * SCALE), SCALE // 2),
    "aggressive": Profile(60, Cash(1_000 * SCALE), SCALE * 7 // 10),
}
"""From the operations guide."""


def confidence(value: str) -> int:
    """0 (ask nobody) or a whole number from 51 to 99."""
    number = count(value)
    if number and not 51 <= number <= 99:
        raise ValueError("expected 0 (ask nobody) or a whole number from 51 to 99")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class EliteEnv:
    """EliteMimic's settings. Confidence, size and ratio not given come from the profile."""

    mode: str = setting(
        "ELITE_MODE",
        one_of("paper", "live"),
        "paper",
        "how EliteMimic starts if no flag says it: paper, or live, through the gate of"
        " docs/live.md",
    )
    feed: str = setting(
        "ELITE_FEED",
        one_of("sandbox", "polymarket"),
        "sandbox",
        "where EliteMimic trades if no flag says it: the local sandbox, or polymarket",
    )
    profile: str = setting(
        "ELITE_PROFILE",
        one_of(*PROFILES),
        "balanced",
        "how boldly EliteMimic copies: conservative, balanced or aggressive",
    )
    min_confidence: int | None = setting(
        "ELITE_MIN_AI_CONFIDENCE",
        confidence,
        None,
        "the least percent of certainty of the forecaster that a copied side is worth its price;"
        " by profile 80, 70, 60; 0 asks nobody",
    )
    max_copy: Cash | None = setting(
        "ELITE_MAX_COPY_SIZE_USD",
        dollars,
        None,
        "the most dollars in a copied token; by profile 200, 500, 1000",
    )
    copy_ratio: int | None = setting(
        "ELITE_COPY_RATIO",
        ratio,
        None,
        "our shares for each of the leader's; by profile 0.3, 0.5, 0.7",
    )
    max_slippage: int = setting(
        "ELITE_MAX_SLIPPAGE",
        ratio,
        "0.02",
        "how many dollars a share more than the leader a copy may cost",
    )
    max_age_ns: int = setting(
        "ELITE_MAX_AGE_S", seconds, "30", "the age in seconds above which a trade is not copied"
    )
    unskilled_approves: bool | None = setting(
        "ELITE_UNSKILLED_APPROVES",
        flag,
        None,
        "whether a forecaster that has shown no skill lets copies pass; by default only on the"
        " sandbox, with play money",
    )
    max_order: Cash = setting(
        "ELITE_MAX_ORDER_USD", dollars, "1000", "the limit of one order in dollars"
    )
    max_market: Cash = setting(
        "ELITE_MAX_MARKET_USD", dollars, "1000", "the limit of one market in dollars at cost"
    )
    max_leader: Cash = setting(
        "ELITE_MAX_LEADER_USD", dollars, "1000", "the limit of one leader's copies in dollars"
    )
    max_day: Cash = setting(
        "ELITE_MAX_DAY_USD", dollars, "2000", "the most dollars of copies opened on a UTC day"
    )
    max_wallet: Cash = setting(
        "ELITE_MAX_WALLET_USD", dollars, "4000", "the limit of the whole wallet in dollars at cost"
    )
    max_turnover: Cash = setting(
        "ELITE_MAX_DAY_TURNOVER_USD",
        dollars,
        "10000",
        "the limit of a UTC day's turnover in dollars",
    )
    max_day_loss: Cash = setting(
        "ELITE_MAX_DAY_LOSS_USD",
        dollars,
        "50",
        "the realised loss of a UTC day in dollars after which nothing new is opened",
    )
    max_orders: int = setting(
        "ELITE_MAX_ORDERS_IN_FLIGHT", count, "20", "the number of orders open at the same time"
    )

    @property
    def chosen(self) -> Profile:
        """The profile, with what was set over it."""
        profile = PROFILES[self.profile]
        return Profile(
            profile.min_confidence if self.min_confidence is None else self.min_confidence,
            profile.max_copy if self.max_copy is None else self.max_copy,
            profile.ratio if self.copy_ratio is None else self.copy_ratio,
        )

    @staticmethod
    def check(values: Mapping[str, Any]) -> list[str]:
        """A copy that may not be ordered would be refused each time; one of nothing is none."""
        copy = values["max_copy"]
        copy = PROFILES[values["profile"]].max_copy if copy is None else copy
        problems = []
        if copy > values["max_order"]:
            problems.append(
                f"a copy of ${format_dollars(copy)} (ELITE_MAX_COPY_SIZE_USD, or by ELITE_PROFILE)"
                f" is above ELITE_MAX_ORDER_USD={format_dollars(values['max_order'])}: large"
                " copies would be refused; lower the first or raise the second"
            )
        if values["copy_ratio"] is not None and not 0 < values["copy_ratio"] <= SCALE:
            problems.append("ELITE_COPY_RATIO must be above 0 and at most 1: take 0.5")
        if values["max_age_ns"] < NS_PER_SECOND:
            problems.append("ELITE_MAX_AGE_S must be at least 1")
        return problems
