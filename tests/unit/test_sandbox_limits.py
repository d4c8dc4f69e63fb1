"""The sandbox's rate limits: buckets and windows against a brute-force count, refusals, headers."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession, web
from hypothesis import given
from hypothesis import strategies as st

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.request_reading import ApiError
from fleet.sandbox.trading.rate_limits import (
    CANCELS_BURST,
    ORDERS_BURST,
    ORDERS_PER_S,
    SLOTS,
    TEN_SECONDS,
    Bucket,
    RateLimits,
    Window,
)

WALLET = "0x" + "11" * 20


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * NS_PER_SECOND

    def __call__(self) -> int:
        return self.now_ns


def refusal(limits: RateLimits, tokens: int) -> ApiError:
    with pytest.raises(ApiError) as caught:
        limits.orders(WALLET, tokens)
    assert caught.value.status == 429
    return caught.value


def test_a_signer_s_bucket_pays_for_a_burst_and_refills() -> None:
    time = Time()
    limits = RateLimits(time)
    for _ in range(ORDERS_BURST // 15):
        limits.orders(WALLET, 15)
    error = refusal(limits, 1)
    assert error.headers["Retry-After"] == "1"
    assert error.headers["Poly-RateLimit-Remaining"] == "0"
    assert error.headers["Poly-RateLimit-Tier"] == "Standard"
    assert "Poly-RateLimit-Warning" in error.headers
    assert error.fields["retry_after_seconds"] == 1
    assert limits.orders("0x" + "22" * 20, 15).headers()["Poly-RateLimit-Remaining"] == "45"
    time.now_ns += NS_PER_SECOND // ORDERS_PER_S - 1
    refusal(limits, 1)
    time.now_ns += 1
    headers = limits.orders(WALLET, 1).headers()
    assert headers["Poly-RateLimit-Remaining"] == "0"
    assert headers["Poly-RateLimit-Reset"] == "2"
    time.now_ns += 10 * NS_PER_SECOND
    calm = limits.orders(WALLET, 1).headers()
    assert calm["Poly-RateLimit-Remaining"] == str(ORDERS_BURST - 1)
    assert "Poly-RateLimit-Warning" not in calm


def test_a_batch_above_the_burst_never_passes_but_cancel_all_does() -> None:
    time = Time()
    limits = RateLimits(time)
    refusal(limits, ORDERS_BURST + 1)
    time.now_ns += 3_600 * NS_PER_SECOND
    refusal(limits, ORDERS_BURST + 1)
    charge = limits.cancels(WALLET, 1)
    charge.more(CANCELS_BURST * 2)
    assert charge.headers()["Poly-RateLimit-Remaining"] == "0"
    with pytest.raises(ApiError) as caught:
        limits.cancels(WALLET, 1)
    assert caught.value.headers["Retry-After"] == "2", "121 below zero, and one more"


def test_limits_scale_and_can_be_switched_off() -> None:
    limits = RateLimits(Time(), scale=0)
    for _ in range(1_000):
        assert limits.orders(WALLET, 15).headers() == {}
    tight = RateLimits(Time(), scale=0.1)
    tight.orders(WALLET, 6)
    refusal(tight, 1)


@given(
    gaps=st.lists(st.integers(0, TEN_SECONDS // 4), min_size=1, max_size=60),
    limit=st.integers(1, 8),
)
def test_a_window_never_lets_more_through_than_its_limit(gaps: list[int], limit: int) -> None:
    window = Window(limit, TEN_SECONDS)
    now = 0
    passed: list[int] = []
    for gap in gaps:
        now += gap
        wait_ns = window.wait_ns(now)
        inside = [t for t in passed if now - t < TEN_SECONDS]
        if wait_ns == 0:
            assert len(inside) < limit
            window.count(now)
            passed.append(now)
        else:
            # Stricter than an exact window by one slot at most.
            slack = TEN_SECONDS // SLOTS
            assert len([t for t in passed if now - t <= TEN_SECONDS + slack]) >= limit
            now += wait_ns
            assert window.wait_ns(now) == 0


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3 * NS_PER_SECOND), st.integers(1, 15)), min_size=1, max_size=60
    )
)
def test_a_bucket_never_gives_more_than_burst_and_rate(steps: list[tuple[int, int]]) -> None:
    bucket = Bucket(40, 60, 0)
    now, paid = 0, 0
    for gap, tokens in steps:
        now += gap
        bucket.refill(now)
        wait_ns = bucket.wait_ns(tokens)
        if wait_ns == 0:
            bucket.take(tokens)
            paid += tokens
        else:
            bucket.refill(now + wait_ns - 1)
            assert bucket.wait_ns(tokens) > 0
            bucket.refill(now + wait_ns)
            assert bucket.wait_ns(tokens) == 0
            now += wait_ns
        assert paid * NS_PER_SECOND <= 60 * NS_PER_SECOND + now * 40


def test_windows_count_by_path_and_by_group() -> None:
    """/balance-allowance/update allows 50 in 10 s; the read beside it has a window of its own."""

    async def main() -> None:
        time = Time()
        limits = RateLimits(time)

        async def answer(_: web.Request) -> web.Response:
            return web.Response(text="yes")

        @web.middleware
        async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
            try:
                found: web.StreamResponse = await handler(request)
                return found
            except ApiError as error:
                return web.Response(status=error.status, headers=error.headers)

        app = web.Application(middlewares=[errors, limits.admit])
        for path in ("/clob/balance-allowance", "/clob/balance-allowance/update", "/sandbox/x",
                     "/clob/auth/api-keys", "/clob/auth/derive-api-key"):  # fmt: skip
            app.router.add_get(path, answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ClientSession() as session:

            async def ask(path: str) -> int:
                async with session.get(url + path) as found:
                    return found.status

            for _ in range(50):
                assert await ask("/clob/balance-allowance/update") == 200
            assert await ask("/clob/balance-allowance/update") == 429
            assert await ask("/clob/balance-allowance") == 200
            for number in range(100):
                path = "api-keys" if number % 2 else "derive-api-key"
                assert await ask(f"/clob/auth/{path}") == 200
            assert await ask("/clob/auth/api-keys") == 429
            assert await ask("/sandbox/x") == 200
            assert await ask("/nowhere") == 404
            time.now_ns += 11 * NS_PER_SECOND
            assert await ask("/clob/balance-allowance/update") == 200
        assert limits.refused == 2
        await runner.cleanup()

    asyncio.run(main())
