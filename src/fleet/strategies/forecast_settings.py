"""What the forecast trader may do: schedule, edge, size, exits. Checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fleet.domain.units import SCALE, Cash, Price
from fleet.strategies.kelly import LEAST_PERCENT, MOST_PERCENT
from fleet.strategies.legs import ExecutionSettings

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_CENT: Final = SCALE // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSettings:
    """Times in nanoseconds; prices, ratios and cash at 1e-8. Raises ``ValueError`` if senseless."""

    # --- what is asked for, and when ----------------------------------------------------------
    interval_ns: int = 10 * _MINUTE
    """A round: so often held markets are forecast anew, and others chosen."""
    per_round: int = 10
    """Most requests a round; they are spread over it."""
    patience_ns: int = 5 * _MINUTE
    """After this long without an answer a request is lost."""
    backoff_ns: int = _MINUTE
    """The pause after a failure, twice as long after each further one, at most ..."""
    backoff_ns_max: int = _HOUR
    min_horizon_ns: int = _HOUR
    max_horizon_ns: int = 60 * 24 * _HOUR
    """What ends sooner or later, or at an unknown time, is not forecast unless it is held."""
    max_spread: Price = Price(5 * _CENT)
    min_price: Price = Price(5 * _CENT)
    max_price: Price = Price(95 * _CENT)
    """The middle of a market worth a forecast; nearer to certainty a cent is a large edge."""
    min_depth: Cash = Cash(20 * SCALE)
    """Least dollars at the best price on either side of a market worth a forecast."""

    # --- what is bet on -----------------------------------------------------------------------
    max_age_ns: int = 15 * _MINUTE
    """A forecast older than this decides nothing."""
    max_drift: Price = Price(3 * _CENT)
    """A blend rests on the price it was made at; farther from it, it is asked for again."""
    min_edge: Price = Price(3 * _CENT)
    """Least dollars a share, after fee and slippage."""
    min_confidence: int = 80
    """Least percent of certainty that the edge is positive, by the blend's deviation."""
    slippage: Price = Price(_CENT)
    """How much worse than the price seen an order may fill; the edge is worked out with it."""
    kelly_fraction: int = SCALE // 4
    max_bet: Cash = Cash(50 * SCALE)
    max_market: Cash = Cash(100 * SCALE)
    max_group: Cash = Cash(150 * SCALE)
    """Most dollars at cost in markets that win and lose together."""
    bankroll_share: int = SCALE // 4
    """Most of cash and positions (at cost) that all forecasts together may have at stake."""
    cooldown_ns: int = 10 * _MINUTE
    """The pause after a bet or an exit before the same market is bet on again."""
    max_open_bundles: int = 4

    # --- when it is left ----------------------------------------------------------------------
    turn_margin: Price = Price(_CENT)
    """After a new forecast: sell where a share brings this much more than it is worth."""
    profit_margin: Price = Price(3 * _CENT)
    """On the forecast it was bought on: sell where a share brings this much more."""
    max_hold_age_ns: int = 2 * _HOUR
    """A holding whose newest forecast is older is sold: nobody looks after it any more."""
    stale_patience_ns: int = _HOUR
    """So long a stale holding is offered only into a narrow market and above the floor."""
    exit_floor: Price = Price(5 * _CENT)
    """Below this a share is kept as a ticket, but for a stale one after the patience."""
    retry_ns: int = _MINUTE
    """The pause between two exits of the same market."""
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)

    def __post_init__(self) -> None:
        """Refuse what would bet on nothing, on everything, or sell what it has just bought."""
        percents = f"{LEAST_PERCENT}..{MOST_PERCENT}"
        rules = (
            (0 < self.kelly_fraction <= SCALE, "kelly_fraction is not in (0, 1]: take 0.25"),
            (0 <= self.bankroll_share <= SCALE, "bankroll_share is not in [0, 1]: take 0.25"),
            (LEAST_PERCENT <= self.min_confidence <= MOST_PERCENT,
             f"min_confidence is not in {percents} percent: take 80"),
            (self.min_edge > 0, "min_edge is not positive: take 0.03"),
            (min(self.slippage, self.turn_margin, self.profit_margin, self.max_drift) >= 0,
             "slippage, turn_margin, profit_margin and max_drift must not be negative"),
            (min(self.max_bet, self.max_market, self.max_group) >= 0,
             "max_bet, max_market and max_group must not be negative"),
            (self.per_round > 0 and self.interval_ns > 0,
             "per_round and interval_ns must be positive"),
            (self.max_hold_age_ns >= self.interval_ns + self.patience_ns,
             "max_hold_age_ns is shorter than interval_ns and patience_ns together: raise it"),
            (0 < self.min_price < self.max_price < SCALE,
             "min_price and max_price must rise and lie in (0, 1)"),
        )  # fmt: skip
        problems = [text for holds, text in rules if not holds]
        if problems:
            raise ValueError("; ".join(problems))
