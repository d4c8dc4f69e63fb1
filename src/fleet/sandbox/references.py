"""The prices the sandbox's crypto markets are about, on Binance's public ticker path.

Bitcoin follows the simulated "above" ladder: where a rung is as likely as not, there is the price.
The other coins stand still at invented prices. Nothing here is a real price.
"""

from __future__ import annotations

import json
import math
from typing import Final

from aiohttp import web

from fleet.sandbox.request_reading import ApiError, json_answer
from fleet.sandbox.simulator import MarketSimulator

STILL: Final = {"ETHUSDT": 3_900.0, "SOLUSDT": 182.0, "XRPUSDT": 2.4, "DOGEUSDT": 0.21,
                "BNBUSDT": 910.0}  # fmt: skip
_LADDER: Final = "bitcoin-above"


class References:
    """``GET /reference/api/v3/ticker/price``."""

    def __init__(self, simulator: MarketSimulator) -> None:
        """Read the prices of ``simulator``'s markets."""
        self._simulator = simulator

    def add_to(self, router: web.UrlDispatcher, prefix: str = "/reference") -> None:
        """Answer under ``prefix``."""
        router.add_get(f"{prefix}/api/v3/ticker/price", self._prices)

    def prices(self) -> dict[str, float]:
        """Dollars by symbol."""
        return {"BTCUSDT": self._bitcoin(), **STILL}

    def _bitcoin(self) -> float:
        """The strike at which the ladder's fair price is one half, on a line through its ends."""
        for group in self._simulator.listings.groups.values():
            if group.event.slug.startswith(_LADDER):
                fairs = group.latent.fairs()
                strikes = [
                    float(spec.group_item_title.replace(",", "")) for spec in group.event.markets
                ]
                low, high = _logit(fairs[0]), _logit(fairs[-1])
                slope = (high - low) / (strikes[-1] - strikes[0])
                return round(strikes[0] - low / slope, 2)
        return 111_000.0

    async def _prices(self, request: web.Request) -> web.Response:
        prices = self.prices()
        asked = request.query.get("symbols")
        names = list(prices)
        if asked is not None:
            try:
                names = [str(name) for name in json.loads(asked)]
            except (ValueError, TypeError) as error:
                raise ApiError(400, "Illegal characters found in parameter 'symbols'") from error
        if any(name not in prices for name in names):
            raise ApiError(400, "Invalid symbol.")
        return json_answer([{"symbol": n, "price": f"{prices[n]:.8f}"} for n in names])


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
