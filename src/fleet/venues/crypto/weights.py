"""How many requests the venue still allows: request weight a minute, orders in ten seconds. Pure.

Binance counts in windows aligned to its clock and says in every answer how much of them is used
(``X-MBX-USED-WEIGHT-1M``, ``X-MBX-ORDER-COUNT-10S``). We count too, and believe whoever counted
more. Ordinary requests stop well below the limit; what they leave is kept for cancels and for
finding out what became of an order. After a 429 or 418 nothing at all is sent until the time the
venue named: going on is what turns the first into the second, a ban.
"""

from __future__ import annotations

from typing import Final

from fleet.clock import NS_PER_SECOND

MINUTE_NS: Final = 60 * NS_PER_SECOND
WEIGHT_A_MINUTE: Final = 6_000
"""``REQUEST_WEIGHT`` of exchangeInfo (2026-11); the catalogue replaces it by what is said there."""
ORDERS_IN_TEN_S: Final = 50
ORDINARY_PERCENT: Final = 70
URGENT_PERCENT: Final = 95
RETRY_DEFAULT_S: Final = 5


class Window:
    """One limit of so much in so long, in windows aligned to the epoch."""

    __slots__ = ("_start_ns", "limit", "used", "window_ns")

    def __init__(self, limit: int, window_ns: int) -> None:
        """Nothing used yet."""
        self.limit, self.window_ns = limit, window_ns
        self.used = 0
        self._start_ns = 0

    def wait_ns(self, amount: int, now_ns: int, *, urgent: bool) -> int:
        """How long until ``amount`` fits; 0 if it does now. An amount too large waits a window."""
        self._roll(now_ns)
        share = self.limit * (URGENT_PERCENT if urgent else ORDINARY_PERCENT) // 100
        if self.used + amount <= share or not self.used:
            return 0
        return self._start_ns + self.window_ns - now_ns

    def spend(self, amount: int, now_ns: int) -> None:
        """Count a request that is sent now."""
        self._roll(now_ns)
        self.used += amount

    def heard(self, used: int, now_ns: int) -> None:
        """The venue's own count."""
        self._roll(now_ns)
        self.used = max(self.used, used)

    def _roll(self, now_ns: int) -> None:
        start_ns = now_ns - now_ns % self.window_ns
        if start_ns != self._start_ns:
            self._start_ns, self.used = start_ns, 0


class WeightBudget:
    """All limits of one address and account. Times are the venue's, in nanoseconds."""

    def __init__(self, *, weight: int = WEIGHT_A_MINUTE, orders: int = ORDERS_IN_TEN_S) -> None:
        """Begin with nothing used."""
        self.weight = Window(weight, MINUTE_NS)
        self.orders = Window(orders, 10 * NS_PER_SECOND)
        self.silent_until_ns = 0
        """Nothing is sent before it."""

    def wait_ns(self, weight: int, now_ns: int, *, urgent: bool = False, orders: int = 0) -> int:
        """How long a request has to wait."""
        waits = [self.silent_until_ns - now_ns, self.weight.wait_ns(weight, now_ns, urgent=urgent)]
        if orders:
            waits.append(self.orders.wait_ns(orders, now_ns, urgent=True))
        return max(0, *waits)

    def spend(self, weight: int, now_ns: int, *, orders: int = 0) -> None:
        """Count a request that is sent now."""
        self.weight.spend(weight, now_ns)
        if orders:
            self.orders.spend(orders, now_ns)

    def heard(self, headers: dict[str, str], now_ns: int) -> None:
        """Read the counters of an answer; ``headers`` with names in lower case."""
        for name, window in (
            ("x-mbx-used-weight-1m", self.weight), ("x-mbx-order-count-10s", self.orders)
        ):  # fmt: skip
            text = headers.get(name, "")
            if text.isdecimal():
                window.heard(int(text), now_ns)

    def refused(self, retry_after: str, now_ns: int) -> int:
        """The venue refused us for asking too much (429) or banned us (418); seconds of silence."""
        seconds = int(retry_after) if retry_after.isdecimal() else RETRY_DEFAULT_S
        self.silent_until_ns = max(self.silent_until_ns, now_ns + seconds * NS_PER_SECOND)
        return seconds
