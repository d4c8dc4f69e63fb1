"""All supported tokens at once; not complete yet, and it says so."""

from __future__ import annotations

from fleet.bots.trader_launch import NAME, Launch
from fleet.runtime.continuous import EXIT_UNAVAILABLE
from fleet.runtime.trader_console import complain


def portfolio(launch: Launch) -> int:
    """Refuse, naming what works."""
    tokens = ", ".join(str(token) for token in launch.env.tokens)
    complain(
        f"{NAME} portfolio: not built yet; trade each of {tokens} by itself:"
        " `run_trader.py paper --auto-restart --symbol SYMBOL`"
    )
    return EXIT_UNAVAILABLE
