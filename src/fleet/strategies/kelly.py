"""How much to stake on a binary outcome, and how sure an edge is: Kelly and the normal quantile.

All integers at 1e-8. A share that costs ``c`` (price and fee) pays one dollar with probability
``p``. The stake that grows capital fastest is the fraction f* = (p - c) / (1 - c) of the bankroll
(Kelly 1956, "A new interpretation of information rate"; for a binary contract: Thorp 2006, "The
Kelly criterion in blackjack, sports betting and the stock market"). A fraction of it is staked,
because p is an estimate. Roundings stake less, never more.
"""

from __future__ import annotations

from typing import Final

from fleet.domain.units import SCALE, ZERO_CASH, Cash

LEAST_PERCENT: Final = 50
_QUANTILES: Final = (
    0, 2_506_891, 5_015_359, 7_526_987, 10_043_373, 12_566_135, 15_096_922, 17_637_417,
    20_189_348, 22_754_498, 25_334_711, 27_931_904, 30_548_079, 33_185_335, 35_845_880,
    38_532_047, 41_246_313, 43_991_317, 46_769_880, 49_585_035, 52_440_052, 55_338_472,
    58_284_151, 61_281_300, 64_334_541, 67_448_976, 70_630_257, 73_884_685, 77_219_322,
    80_642_125, 84_162_124, 87_789_630, 91_536_509, 95_416_526, 99_445_789, 103_643_339,
    108_031_935, 112_639_113, 117_498_680, 122_652_813, 128_155_157, 134_075_504, 140_507_157,
    147_579_103, 155_477_360, 164_485_363, 175_068_608, 188_079_361, 205_374_892, 232_634_788,
)  # fmt: skip
"""z at 1e-8, rounded up, with Phi(z) = 50 %, 51 %, ... 99 %."""
MOST_PERCENT: Final = LEAST_PERCENT + len(_QUANTILES) - 1


def kelly_fraction(probability: int, cost: int) -> int:
    """f* of a share that costs ``cost``, at 1e-8, rounded down; 0 without an edge."""
    if not 0 < cost < SCALE or probability <= cost:
        return 0
    return (min(probability, SCALE) - cost) * SCALE // (SCALE - cost)


def kelly_stake(bankroll: int, probability: int, cost: int, fraction: int) -> Cash:
    """Dollars to have at stake: ``fraction`` (at 1e-8, 0.25 is quarter Kelly) of f* of a bankroll.

    0 without an edge or without a bankroll.
    """
    if bankroll <= 0:
        return ZERO_CASH
    return Cash(bankroll * kelly_fraction(probability, cost) // SCALE * fraction // SCALE)


def confident(edge: int, deviation: int, percent: int) -> bool:
    """Whether Phi(edge / deviation) is at least ``percent`` (50 to 99).

    ``deviation`` is the standard error of the probability. One that is not positive says that
    nobody measured it, and nothing may rest on it. Raises ``IndexError`` for another percent.
    """
    if not LEAST_PERCENT <= percent <= MOST_PERCENT:
        raise IndexError(f"a confidence of {percent} % is outside 50..99")
    return deviation > 0 and edge * SCALE >= _QUANTILES[percent - LEAST_PERCENT] * deviation
