"""What EliteMimic may copy, how much of it, and how it leaves. Checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fleet.domain.units import SCALE, Cash, Price
from fleet.strategies.kelly import LEAST_PERCENT, MOST_PERCENT
from fleet.strategies.legs import ExecutionSettings

_SECOND: Final = 1_000_000_000
_CENT: Final = SCALE // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MimicSettings:
    """Times in nanoseconds; prices, ratios and cash at 1e-8. Raises ``ValueError`` if senseless."""

    # --- which purchases ----------------------------------------------------------------------
    max_age_ns: int = 30 * _SECOND
    """A purchase is copied no later than this after its block, the wait for a forecast apart."""
    min_left_ns: int = 600 * _SECOND
    """What ends sooner is not copied; an unknown end is no reason."""
    max_slippage: Price = Price(2 * _CENT)
    """How much more a share may cost than the leader paid; the limit of every order."""
    max_price: Price = Price(97 * _CENT)
    """The most a share may cost at all: above it too little is left to win."""
    hedge_ratio: int = SCALE // 4
    """A leader who holds more than this part of it in the other side is hedged."""

    # --- how much -----------------------------------------------------------------------------
    copy_ratio: int = SCALE // 2
    """Our shares for each of the leader's."""
    max_copy: Cash = Cash(500 * SCALE)
    """Most dollars at cost in one leader's token, in however many pieces it was bought."""
    max_market: Cash = Cash(500 * SCALE)
    """Most dollars at cost in one market, whoever is copied."""
    max_leader: Cash = Cash(1_000 * SCALE)
    """Most dollars at cost in the copies of one leader."""
    max_day: Cash = Cash(2_000 * SCALE)
    """Most that the copies opened on one UTC day may cost, filled or not."""

    # --- approval -----------------------------------------------------------------------------
    min_ai_confidence: int = 70
    """Least percent of certainty, by the blend's deviation, that a share is worth what it costs;
    0 asks nobody."""
    approval_patience_ns: int = 30 * _SECOND
    """So long a forecast is waited for, from when the purchase was told."""
    approval_age_ns: int = 60 * _SECOND
    """A forecast this old approves too, if the price has not left it: a leader who buys in ten
    pieces is one question. It never refuses: it does not know of the purchase."""
    max_drift: Price = Price(3 * _CENT)
    """How far the price may have left the one a forecast was made at."""
    unskilled_approves: bool = False
    """Whether a forecaster without skill against the price lets copies pass. For play money: it has
    nothing to say for or against them."""

    # --- how it is left -----------------------------------------------------------------------
    exit_slippage: Price = Price(3 * _CENT)
    """How far below the best bid one sale may go; the next one starts at the bid of its time."""
    exit_retry_ns: int = 5 * _SECOND
    """The pause between two sales of the same copy."""
    undo_patience_ns: int = 10 * _SECOND
    """A purchase that left the chain may be mined again; then it is sold."""
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    exit_execution: ExecutionSettings = field(
        default_factory=lambda: ExecutionSettings(max_tries=1)
    )
    """A sale is tried once: the next one asks a new price."""

    def __post_init__(self) -> None:
        """Refuse what would copy nothing, or without a bound."""
        percents = f"{LEAST_PERCENT}..{MOST_PERCENT}"
        confidence = self.min_ai_confidence
        rules = (
            (0 < self.copy_ratio <= SCALE, "copy_ratio is not in (0, 1]: take 0.5"),
            (0 <= self.hedge_ratio <= SCALE, "hedge_ratio is not in [0, 1]: take 0.25"),
            (confidence == 0 or LEAST_PERCENT <= confidence <= MOST_PERCENT,
             f"min_ai_confidence is neither 0 (ask nobody) nor in {percents} percent: take 70"),
            (0 < self.max_price < SCALE, "max_price is not in (0, 1): take 0.97"),
            (self.max_slippage >= 0, "max_slippage must not be negative: take 0.02"),
            (self.exit_slippage >= 0, "exit_slippage must not be negative: take 0.03"),
            (min(self.max_copy, self.max_market, self.max_leader, self.max_day) >= 0,
             "max_copy, max_market, max_leader and max_day must not be negative"),
            (self.max_age_ns > 0, "max_age_ns must be positive: take 30 seconds"),
            (min(self.approval_patience_ns, self.approval_age_ns, self.undo_patience_ns,
                 self.min_left_ns, self.exit_retry_ns, self.max_drift) >= 0,
             "times and max_drift must not be negative"),
        )  # fmt: skip
        problems = [text for holds, text in rules if not holds]
        if problems:
            raise ValueError("; ".join(problems))
