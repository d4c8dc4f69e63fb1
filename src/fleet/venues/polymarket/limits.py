"""The venue's rate limits, kept from our side: never above any of them, with a reserve for cancels.

Theory of operation. Two kinds of limit hold at once (reference 4.7, read 2026-11). *Windows* count
requests per path over 10 s and 10 min, per address, in front of the engine; *buckets* count orders
and cancels per signer, where a batch of N costs N. A request is admitted when every limit it falls
under has room; then all of them are charged. The shared windows (everything at the CLOB, and all
hosts together) are open to reads up to 70 %, to orders up to 90 % and to cancels up to the end:
whatever else happens, a cancel finds room.

The windows are counted in slots of a hundredth of their span and a slot counts until it has wholly
left the window, so our count is never below the venue's. What the venue itself says
(``Retry-After``, ``Poly-RateLimit-Remaining``) only ever lowers what we take.

Everything is driven by the times handed in; nothing here sleeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from fleet.clock import NS_PER_SECOND

SLOTS: Final = 100
TEN_SECONDS: Final = 10 * NS_PER_SECOND
TEN_MINUTES: Final = 600 * NS_PER_SECOND


class Call(Enum):
    """What is asked of the venue, as far as its limits tell calls apart."""

    ORDER = "POST /order"
    ORDERS = "POST /orders"
    CANCEL = "DELETE /order"
    CANCELS = "DELETE /orders"
    CANCEL_ALL = "DELETE /cancel-all"
    CANCEL_MARKET = "DELETE /cancel-market-orders"
    LEDGER = "GET /data/orders, /data/trades"
    LEDGER_ORDER = "GET /data/order"
    BALANCE = "GET /balance-allowance"
    BALANCE_UPDATE = "GET /balance-allowance/update"
    AUTH = "/auth"
    READ = "other reads"


_ORDERS: Final = frozenset({Call.ORDER, Call.ORDERS})
_CANCELS: Final = frozenset({Call.CANCEL, Call.CANCELS, Call.CANCEL_ALL, Call.CANCEL_MARKET})
READ_SHARE: Final = 70
ORDER_SHARE: Final = 90
_WHOLE: Final = 100

_PATH_LIMITS: Final[Mapping[Call, tuple[int, int]]] = {
    Call.ORDER: (5_000, 120_000),
    Call.ORDERS: (2_000, 21_000),
    Call.CANCEL: (5_000, 120_000),
    Call.CANCELS: (2_000, 15_000),
    Call.CANCEL_ALL: (250, 6_000),
    Call.CANCEL_MARKET: (1_500, 21_000),
    Call.LEDGER: (500, 0),
    Call.BALANCE: (200, 0),
    Call.BALANCE_UPDATE: (50, 0),
    Call.AUTH: (100, 0),
}
"""Call -> requests per 10 s and per 10 min (0: no such limit)."""
_LEDGER_GROUP: Final = 900
_CLOB_ALL: Final = 9_000
_GENERAL: Final = 15_000


class Window:
    """At most ``limit`` requests in any ``span_ns``."""

    __slots__ = ("_counts", "_slot_ns", "_total", "limit")

    def __init__(self, limit: int, span_ns: int) -> None:
        """Nothing counted yet."""
        self.limit = limit
        self._slot_ns = span_ns // SLOTS
        self._counts: deque[list[int]] = deque()
        self._total = 0

    def wait_ns(self, now_ns: int, share: int) -> int:
        """How long until one more request is within ``share`` percent of the limit; 0 for now."""
        slot = now_ns // self._slot_ns
        while self._counts and self._counts[0][0] <= slot - SLOTS - 1:
            self._total -= self._counts.popleft()[1]
        over = self._total + 1 - self.limit * share // _WHOLE
        if over <= 0:
            return 0
        for number, count in self._counts:
            over -= count
            if over <= 0:
                return max(1, (number + SLOTS + 1) * self._slot_ns - now_ns)
        return self._slot_ns * SLOTS

    def take(self, now_ns: int) -> None:
        """Count one request."""
        slot = now_ns // self._slot_ns
        if self._counts and self._counts[-1][0] == slot:
            self._counts[-1][1] += 1
        else:
            self._counts.append([slot, 1])
        self._total += 1


class Bucket:
    """A token bucket: ``burst`` at once, refilled with ``per_second``."""

    __slots__ = ("_at_ns", "_held", "burst", "per_second")

    def __init__(self, per_second: int, burst: int) -> None:
        """A full bucket. Raises ``ValueError`` below one token."""
        if per_second < 1 or burst < 1:
            raise ValueError("a bucket needs at least one token a second and a burst of one")
        self.per_second, self.burst = per_second, burst
        self._held = burst * NS_PER_SECOND
        self._at_ns = 0

    def _refill(self, now_ns: int) -> None:
        if now_ns > self._at_ns:
            gained = (now_ns - self._at_ns) * self.per_second
            self._held = min(self.burst * NS_PER_SECOND, self._held + gained)
            self._at_ns = now_ns

    def wait_ns(self, now_ns: int, tokens: int) -> int:
        """How long until ``tokens`` are there; 0 for now. More than the burst waits for all."""
        self._refill(now_ns)
        short = min(tokens, self.burst) * NS_PER_SECOND - self._held
        return -(-short // self.per_second) if short > 0 else 0

    def take(self, now_ns: int, tokens: int) -> None:
        """Take tokens out, below zero if a batch is larger than the burst."""
        self._refill(now_ns)
        self._held -= tokens * NS_PER_SECOND

    def lower(self, now_ns: int, remaining: int) -> None:
        """The venue says that only ``remaining`` are left."""
        self._refill(now_ns)
        self._held = min(self._held, remaining * NS_PER_SECOND)


class Limits:
    """All limits of one signer at the CLOB. The defaults are the Standard tier's buckets."""

    def __init__(
        self,
        *,
        orders: tuple[int, int] = (40, 60),
        cancels: tuple[int, int] = (80, 120),
    ) -> None:
        """``orders`` and ``cancels`` are (tokens a second, burst) of the signer's tier."""
        self.orders = _bucket(*orders)
        self.cancels = _bucket(*cancels)
        self._clob = Window(_CLOB_ALL, TEN_SECONDS)
        self._general = Window(_GENERAL, TEN_SECONDS)
        self._ledger = Window(_LEDGER_GROUP, TEN_SECONDS)
        self._paths: dict[Call, tuple[Window, ...]] = {
            call: tuple(
                Window(limit, span)
                for limit, span in ((short, TEN_SECONDS), (long, TEN_MINUTES))
                if limit
            )
            for call, (short, long) in _PATH_LIMITS.items()
        }
        self._held_until: dict[Call, int] = {}

    def wait_ns(self, call: Call, tokens: int, now_ns: int) -> int:
        """How long ``call`` costing ``tokens`` orders or cancels has to wait; 0 for now."""
        share = _share(call)
        wait = max(0, self._held_until.get(call, 0) - now_ns)
        for window in self._paths.get(call, ()):
            wait = max(wait, window.wait_ns(now_ns, _WHOLE))
        for window in self._shared(call):
            wait = max(wait, window.wait_ns(now_ns, share))
        bucket = self._bucket(call)
        return wait if bucket is None else max(wait, bucket.wait_ns(now_ns, tokens))

    def take(self, call: Call, tokens: int, now_ns: int) -> None:
        """Charge every limit; call it when the request goes out."""
        for window in (*self._paths.get(call, ()), *self._shared(call)):
            window.take(now_ns)
        bucket = self._bucket(call)
        if bucket is not None:
            bucket.take(now_ns, tokens)

    def hold(self, call: Call, until_ns: int) -> None:
        """The venue asked to wait: nothing of this kind before ``until_ns``.

        Orders are held together, single or batched; so are cancels.
        """
        group = _ORDERS if call in _ORDERS else _CANCELS if call in _CANCELS else (call,)
        for one in group:
            self._held_until[one] = max(until_ns, self._held_until.get(one, 0))

    def remaining(self, call: Call, tokens: int, now_ns: int) -> None:
        """The venue counted: ``tokens`` are left in the bucket of ``call``."""
        bucket = self._bucket(call)
        if bucket is not None:
            bucket.lower(now_ns, tokens)

    def _bucket(self, call: Call) -> Bucket | None:
        if call in _ORDERS:
            return self.orders
        return self.cancels if call in _CANCELS else None

    def _shared(self, call: Call) -> Sequence[Window]:
        if call in {Call.LEDGER, Call.LEDGER_ORDER}:
            return (self._ledger, self._clob, self._general)
        return (self._clob, self._general)


def _bucket(per_second: int, burst: int) -> Bucket:
    """A bucket a fifteenth smaller than the venue's.

    Requests that queue up on the way arrive closer together than they were sent; the difference
    (100 ms worth of tokens) is what keeps such a crowd from overdrawing the venue's own bucket.
    """
    return Bucket(per_second, max(1, burst - burst // 15))


def _share(call: Call) -> int:
    if call in _CANCELS:
        return _WHOLE
    return ORDER_SHARE if call in _ORDERS else READ_SHARE
