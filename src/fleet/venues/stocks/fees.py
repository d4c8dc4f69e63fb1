"""What selling US shares costs at a broker without commission: the regulators' fees.

Rates as Alpaca lists them (docs "Regulatory Fees" and support page "regulatory-fees", read
2026-11): SEC section 31, $27.80 a million of proceeds (0 in parts of 2025 and 2026); FINRA's
trading activity fee (TAF), $0.000166 a share, at most $8.30 a trade. Both are of sales only. The
consolidated audit trail (CAT) fee, below $0.0001 a share on both sides, is not estimated.

This is the estimate beforehand. What the broker charges at the end of each day, summed and rounded
up to the cent, is booked as it is charged (``account.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleet.domain.instruments import FeeSchedule, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_up

SEC_RATE: Final = 2_780
TAF_PER_SHARE: Final = 16_600
TAF_MAX: Final = 830_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegulatoryFees(FeeSchedule):
    """SEC ``rate`` x proceeds + TAF a share, capped a trade; everything at 1e-8, rounded up.

    ``fee`` does not know the side: it is the fee of a sale, so that what is reserved and what paper
    charges is never too little. ``charged`` is by side.
    """

    rate: int = SEC_RATE
    exponent: int = 0
    taf: int = TAF_PER_SHARE
    taf_max: int = TAF_MAX

    def per_share(self, price: Price) -> int:
        """The fee of selling one share at ``price``, at 1e-8, rounded up."""
        return -(-self.rate * price // SCALE) + self.taf

    def fee(self, price: Price, qty: Qty) -> Cash:
        """The fee of selling ``qty`` shares at ``price``, rounded up to 1e-8."""
        sec = -(-self.rate * notional_up(price, qty) // SCALE)
        return Cash(sec + min(self.taf_max, -(-self.taf * qty // SCALE)))

    def charged(self, side: Side, price: Price, qty: Qty) -> Cash:
        """What a fill is estimated to cost: nothing when buying."""
        return self.fee(price, qty) if side is Side.SELL else Cash(0)
