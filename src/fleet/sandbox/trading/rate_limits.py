"""The venue's rate limits as the venue keeps them: windows per path, buckets per signer (4.7).

Two kinds. *Windows* count requests per path and address over 10 s and 10 min; the venue's edge
queues a good part of the excess, we answer all of it with 429, which is harder on a client. A
*token bucket* per signer pays for orders and one for cancels; a batch of N costs N, and one above
the burst never passes. A cancel-all needs one token and is charged for what it cancelled after
the fact, so that the way out is never shut by the number of orders.

A refused request costs nothing. ``scale`` multiplies every limit; 0 switches all of them off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.request_reading import ApiError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SLOTS: Final = 50
"""A window is counted in slots of a fiftieth; a slot counts until it has wholly left the window."""
TEN_SECONDS: Final = 10 * NS_PER_SECOND
TEN_MINUTES: Final = 600 * NS_PER_SECOND
TIER: Final = "Standard"
ORDERS_PER_S, ORDERS_BURST = 40, 60
CANCELS_PER_S, CANCELS_BURST = 80, 120
"""Buckets of the Standard tier (reference 4.7, 2026-08)."""
WARNING_SHARE: Final = 5
"""A warning comes with less than a fifth of the burst left: our choice, the venue's is unknown."""
TOO_MANY: Final = "Too many requests"

LEDGER: Final = "ledger"
GROUPS: Final[Mapping[str, int]] = {
    "all": 15_000,
    "/clob": 9_000,
    "/gamma": 4_000,
    "/data-api": 1_000,
    LEDGER: 900,
    "auth": 100,
    "gamma listings": 900,
    "gamma tags": 200,
}
"""Limits that several paths share, per 10 s."""
PATHS: Final[Mapping[str, tuple[int, int]]] = {
    **{f"GET /clob/{path}": (1_500, 0) for path in ("book", "price", "midpoint")},
    **{f"POST /clob/{path}": (500, 0) for path in ("books", "prices", "midpoints")},
    "GET /clob/prices-history": (1_000, 0),
    "GET /clob/tick-size": (200, 0),
    "GET /clob/ok": (100, 0),
    "GET /clob/balance-allowance": (200, 0),
    "GET /clob/balance-allowance/update": (50, 0),
    "GET /clob/data/orders": (500, 0),
    "GET /clob/data/trades": (500, 0),
    "GET /clob/notifications": (125, 0),
    "POST /clob/order": (5_000, 120_000),
    "DELETE /clob/order": (5_000, 120_000),
    "POST /clob/orders": (2_000, 21_000),
    "DELETE /clob/orders": (2_000, 15_000),
    "DELETE /clob/cancel-all": (250, 6_000),
    "DELETE /clob/cancel-market-orders": (1_500, 21_000),
    **{f"GET /gamma/{path}": (500, 0) for path in ("events", "events/keyset")},
    **{f"GET /gamma/{path}": (300, 0) for path in ("markets", "markets/keyset")},
    "GET /data-api/v2/trades": (200, 0),
    "GET /data-api/v2/positions": (150, 0),
}
"""Limits of one path each: per 10 s, per 10 min (0: none)."""
IN_LEDGER: Final = frozenset(
    f"GET /clob/{path}"
    for path in ("data/orders", "data/trades", "data/order/{order_id}", "notifications")
)


class Window:
    """At most ``limit`` requests in any ``span_ns``."""

    __slots__ = ("_counts", "_slot_ns", "_total", "limit")

    def __init__(self, limit: int, span_ns: int) -> None:
        """Nothing counted yet."""
        self.limit = limit
        self._slot_ns = span_ns // SLOTS
        self._counts: deque[list[int]] = deque()
        self._total = 0

    def wait_ns(self, now_ns: int) -> int:
        """0 if one more fits; else how long until the oldest counted ones are forgotten."""
        slot = now_ns // self._slot_ns
        while self._counts and self._counts[0][0] + SLOTS < slot:
            self._total -= self._counts.popleft()[1]
        if self._total < self.limit:
            return 0
        return (self._counts[0][0] + SLOTS + 1) * self._slot_ns - now_ns

    def count(self, now_ns: int) -> None:
        """Count one request."""
        slot = now_ns // self._slot_ns
        if self._counts and self._counts[-1][0] == slot:
            self._counts[-1][1] += 1
        else:
            self._counts.append([slot, 1])
        self._total += 1


class Bucket:
    """A signer's tokens; whole tokens are kept as token-nanoseconds, so nothing is rounded away."""

    __slots__ = ("_at_ns", "_held", "burst", "per_second")

    def __init__(self, per_second: int, burst: int, now_ns: int) -> None:
        """A full bucket."""
        self.per_second, self.burst = per_second, burst
        self._held = burst * NS_PER_SECOND
        self._at_ns = now_ns

    def refill(self, now_ns: int) -> None:
        """Add what came in since the last look."""
        gained = max(0, now_ns - self._at_ns) * self.per_second
        self._held = min(self.burst * NS_PER_SECOND, self._held + gained)
        self._at_ns = max(self._at_ns, now_ns)

    @property
    def remaining(self) -> int:
        """Whole tokens left; below zero after a large cancel-all."""
        return self._held // NS_PER_SECOND

    @property
    def full(self) -> bool:
        """Whether nobody has asked for a while."""
        return self._held == self.burst * NS_PER_SECOND

    def wait_ns(self, tokens: int) -> int:
        """0 if ``tokens`` are there; else how long until they would be."""
        return max(0, -((self._held - tokens * NS_PER_SECOND) // self.per_second))

    def take(self, tokens: int) -> None:
        """Pay."""
        self._held -= tokens * NS_PER_SECOND

    def headers(self) -> dict[str, str]:
        """What the venue tells about a bucket with every answer it paid for."""
        missing = self.burst * NS_PER_SECOND - self._held
        told = {
            "Poly-RateLimit-Remaining": str(max(0, self.remaining)),
            "Poly-RateLimit-Reset": str(_seconds_up(missing // self.per_second)),
            "Poly-RateLimit-Tier": TIER,
        }
        if self.remaining * WARNING_SHARE < self.burst:
            told["Poly-RateLimit-Warning"] = f"{max(0, self.remaining)} of {self.burst} left"
        return told


@dataclass(slots=True)
class Charge:
    """What a request paid from; ``more`` adds to the bill afterwards."""

    bucket: Bucket | None = None

    def more(self, tokens: int) -> None:
        """Charge further tokens, into debt if need be."""
        if self.bucket is not None:
            self.bucket.take(tokens)

    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return {} if self.bucket is None else self.bucket.headers()


class RateLimits:
    """All limits of one sandbox. One address: everything comes from 127.0.0.1."""

    def __init__(self, now_ns: Callable[[], int], *, scale: float = 1.0) -> None:
        """``scale`` multiplies every limit; 0 for none at all."""
        self._now_ns = now_ns
        self._scale = scale
        self._windows: dict[str, tuple[Window, ...]] = {}
        self._groups = {name: self._window(limit, TEN_SECONDS) for name, limit in GROUPS.items()}
        self._orders: dict[str, Bucket] = {}
        self._cancels: dict[str, Bucket] = {}
        self.refused = 0

    def orders(self, address: str, tokens: int) -> Charge:
        """Pay for orders. Raises ``ApiError`` 429."""
        return self._charge(self._orders, address, tokens, (ORDERS_PER_S, ORDERS_BURST))

    def cancels(self, address: str, tokens: int) -> Charge:
        """Pay for cancels. Raises ``ApiError`` 429."""
        return self._charge(self._cancels, address, tokens, (CANCELS_PER_S, CANCELS_BURST))

    def _charge(
        self, buckets: dict[str, Bucket], address: str, tokens: int, size: tuple[int, int]
    ) -> Charge:
        if not self._scale:
            return Charge()
        now_ns = self._now_ns()
        bucket = buckets.get(address)
        if bucket is None:
            per_second, burst = (self._scaled(n) for n in size)
            bucket = buckets[address] = Bucket(per_second, burst, now_ns)
        bucket.refill(now_ns)
        wait_ns = bucket.wait_ns(tokens)
        if wait_ns:
            raise self._refusal(wait_ns, bucket.headers())
        bucket.take(tokens)
        return Charge(bucket)

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request against every window it falls under, before anything is done for it."""
        resource = request.match_info.route.resource
        if self._scale and resource is not None and not request.path.startswith("/sandbox"):
            now_ns = self._now_ns()
            windows = self._of(f"{request.method} {resource.canonical}")
            wait_ns = max(window.wait_ns(now_ns) for window in windows)
            if wait_ns:
                raise self._refusal(wait_ns, {})
            for window in windows:
                window.count(now_ns)
        return await handler(request)

    def _of(self, place: str) -> Sequence[Window]:
        found = self._windows.get(place)
        if found is None:
            path = place.partition(" ")[2]
            own = (
                self._window(limit, span)
                for limit, span in zip(
                    PATHS.get(place, (0, 0)), (TEN_SECONDS, TEN_MINUTES), strict=True
                )
                if limit
            )
            found = (*own, *(self._groups[name] for name in _groups_of(place, path)))
            self._windows[place] = found
        return found

    def _window(self, limit: int, span_ns: int) -> Window:
        return Window(self._scaled(limit), span_ns)

    def _scaled(self, limit: int) -> int:
        return max(1, int(limit * self._scale))

    def _refusal(self, wait_ns: int, headers: Mapping[str, str]) -> ApiError:
        self.refused += 1
        wait_s = max(1, _seconds_up(wait_ns))
        return ApiError(
            429,
            TOO_MANY,
            fields={"code": "rate_limited", "retry_after_seconds": wait_s},
            headers={**headers, "Retry-After": str(wait_s)},
        )


def _groups_of(place: str, path: str) -> list[str]:
    names = ["all"]
    names += [host for host in ("/clob", "/gamma", "/data-api") if path.startswith(f"{host}/")]
    if place in IN_LEDGER:
        names.append(LEDGER)
    if path.startswith("/clob/auth/"):
        names.append("auth")
    if path.startswith(("/gamma/events", "/gamma/markets")):
        names.append("gamma listings")
    if path.startswith("/gamma/tags"):
        names.append("gamma tags")
    return names


def _seconds_up(ns: int) -> int:
    return -(-ns // NS_PER_SECOND)
