"""PolyAI's settings in the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.config import (
    count,
    dollars,
    flag,
    one_of,
    path,
    ratio,
    setting,
    url,
)
from fleet.domain.units import Cash, UnitsError, format_dollars, parse_units

if TYPE_CHECKING:
    from fleet.strategies.statarb_relations import Kind

MINUTE_NS: Final = 60 * NS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Profile:
    """How often markets are scanned and forecast, from the operations guide."""

    scan_ns: int
    news_ns: int


PROFILES: Final[Mapping[str, Profile]] = {
    "aggressive": Profile(3 * MINUTE_NS, 5 * MINUTE_NS),
    "balanced": Profile(5 * MINUTE_NS, 10 * MINUTE_NS),
    "conservative": Profile(10 * MINUTE_NS, 15 * MINUTE_NS),
}


def minutes(value: str) -> int:
    """Minutes above 0, perhaps with decimals, as nanoseconds."""
    try:
        ns = parse_units(value) * MINUTE_NS // 10**8
    except UnitsError as error:
        raise ValueError("expected a number of minutes, such as 5 or 0.5") from error
    if ns < NS_PER_SECOND:
        raise ValueError("expected at least a second, which is 0.0167 minutes")
    return ns


def percent(value: str) -> int:
    """A whole number from 51 to 99."""
    number = count(value)
    if not 51 <= number <= 99:
        raise ValueError("expected a whole number from 51 to 99")
    return number


def read_proof(file: Path) -> tuple[Kind, ...]:
    """The kinds of relations that an evaluation has proven. Raises ``OSError``, ``ValueError``."""
    from fleet.strategies.statarb import proven_kinds  # numpy: only for who names a file

    document = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - bad input, told as such
    return proven_kinds(document)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolyEnv:
    """PolyAI's settings. Intervals not given come from the profile."""

    mode: str = setting(
        "POLYAI_MODE",
        one_of("paper", "live"),
        "paper",
        "how PolyAI starts if no flag says it: paper, or live, through the gate of docs/live.md",
    )
    feed: str = setting(
        "POLYAI_FEED",
        one_of("sandbox", "polymarket"),
        "sandbox",
        "where PolyAI trades if no flag says it: the local sandbox, or polymarket",
    )
    profile: str = setting(
        "POLYAI_PROFILE",
        one_of(*PROFILES),
        "balanced",
        "how often PolyAI looks: aggressive, balanced or conservative",
    )
    scan_ns: int | None = setting(
        "POLYAI_SCAN_INTERVAL_MINUTES",
        minutes,
        None,
        "the minutes between two scans for statistical arbitrage; by profile 3, 5, 10",
    )
    news_ns: int | None = setting(
        "POLYAI_NEWS_INTERVAL_MINUTES",
        minutes,
        None,
        "the minutes between two rounds of forecasts and news; by profile 5, 10, 15",
    )
    forecasts: bool = setting(
        "POLYAI_FORECASTS", flag, "true", "whether markets are forecast and bet on"
    )
    statarb: bool = setting(
        "POLYAI_STATARB", flag, "true", "whether spreads between markets are traded"
    )
    statarb_proof: Path | None = setting(
        "POLYAI_STATARB_PROOF",
        path,
        None,
        "the file written by `fleet evaluate statarb --json FILE`; only kinds of relations that it"
        " proves may stake anything outside the sandbox",
    )
    questions: int = setting(
        "POLYAI_QUESTIONS_PER_ROUND", count, "10", "the markets forecast in one round at most"
    )
    min_edge: int = setting(
        "POLYAI_MIN_EDGE",
        ratio,
        "0.03",
        "the least dollars a share a bet must be worth, after fee and slippage",
    )
    min_confidence: int = setting(
        "POLYAI_MIN_CONFIDENCE",
        percent,
        "80",
        "the least percent of certainty that the edge is there, from 51 to 99",
    )
    kelly: int = setting(
        "POLYAI_KELLY_FRACTION", ratio, "0.25", "the share of the Kelly stake that is bet"
    )
    max_bet: Cash = setting(
        "POLYAI_MAX_BET_USD", dollars, "50", "the most dollars of one bet or spread"
    )
    max_group: Cash = setting(
        "POLYAI_MAX_GROUP_USD",
        dollars,
        "150",
        "the limit in dollars at cost of markets that win and lose together",
    )
    max_order: Cash = setting(
        "POLYAI_MAX_ORDER_USD", dollars, "100", "the limit of one order in dollars"
    )
    max_market: Cash = setting(
        "POLYAI_MAX_MARKET_USD", dollars, "100", "the limit of one market in dollars at cost"
    )
    max_wallet: Cash = setting(
        "POLYAI_MAX_WALLET_USD", dollars, "1000", "the limit of the whole wallet in dollars at cost"
    )
    max_turnover: Cash = setting(
        "POLYAI_MAX_DAY_TURNOVER_USD",
        dollars,
        "5000",
        "the limit of a UTC day's turnover in dollars",
    )
    max_day_loss: Cash = setting(
        "POLYAI_MAX_DAY_LOSS_USD",
        dollars,
        "50",
        "the realised loss of a UTC day in dollars after which nothing new is opened",
    )
    max_orders: int = setting(
        "POLYAI_MAX_ORDERS_IN_FLIGHT", count, "20", "the number of orders open at the same time"
    )
    reference_url: str = setting(
        "POLYAI_REFERENCE_URL",
        url("https", "http"),
        "https://api.binance.com",
        "the address of the prices of coins, in the words of Binance's public ticker",
    )

    @property
    def intervals(self) -> Profile:
        """Scan and news intervals, the profile's where none is given."""
        profile = PROFILES[self.profile]
        return Profile(self.scan_ns or profile.scan_ns, self.news_ns or profile.news_ns)

    @staticmethod
    def check(values: Mapping[str, Any]) -> list[str]:
        """A bet that may not be ordered would be found, refused, and found again for ever."""
        problems = []
        bet, order, proof = values["max_bet"], values["max_order"], values["statarb_proof"]
        if bet > order:
            problems.append(
                f"POLYAI_MAX_BET_USD={format_dollars(bet)} is above"
                f" POLYAI_MAX_ORDER_USD={format_dollars(order)}: large bets would be refused; lower"
                " the first or raise the second"
            )
        if proof is not None:
            try:
                read_proof(proof)
            except (OSError, ValueError) as error:
                problems.append(
                    f"POLYAI_STATARB_PROOF={proof} cannot be used: {error}; correct it or leave it"
                    " out"
                )
        return problems
