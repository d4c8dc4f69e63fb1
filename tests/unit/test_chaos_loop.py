"""The loop of chaos runs: time jumps, order holds, and whole processes are found."""

import asyncio
import time

import pytest

from tests.chaos_loop import PROCESS, LoopClock, Stuck, VirtualLoop, run_virtually


def test_an_hour_passes_at_once_and_timers_keep_their_order() -> None:
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float, loop: VirtualLoop) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, round(loop.time(), 6)))

    async def main(loop: VirtualLoop) -> int:
        clock = LoopClock(loop, 1_000)
        await asyncio.gather(sleeper("b", 3_600, loop), sleeper("a", 0.5, loop))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        return clock.now_ns()

    began_s = time.monotonic()
    now_ns = run_virtually(main)
    assert seen == [("a", 0.5), ("b", 3_600.0)]
    assert now_ns == pytest.approx(1_000 + 3_610 * 10**9, abs=10**6)
    assert time.monotonic() - began_s < 5


def test_a_loop_that_would_wait_for_ever_says_so() -> None:
    async def main(_: VirtualLoop) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        run_virtually(main)


def test_tasks_belong_to_the_process_that_made_them() -> None:
    async def child() -> None:
        await asyncio.sleep(100)

    async def parent() -> None:
        asyncio.create_task(child())  # noqa: RUF006 - held by the test
        await asyncio.sleep(100)

    async def main(loop: VirtualLoop) -> tuple[int, int]:
        PROCESS.set("one")
        loop.create_task(parent())
        PROCESS.set("two")
        loop.create_task(child())
        await asyncio.sleep(1)
        for task in loop.tasks_of("one"):
            task.cancel()
        await asyncio.sleep(1)
        return len(loop.tasks_of("one")), len(loop.tasks_of("two"))

    assert run_virtually(main) == (0, 1)


def test_threads_take_no_time() -> None:
    async def main(loop: VirtualLoop) -> float:
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 1, 0)
        return loop.time()

    assert run_virtually(main) == 0


def test_a_process_that_is_stopped_does_nothing_and_then_all_of_it_late() -> None:
    seen: list[tuple[str, float]] = []

    async def beat(name: str, loop: VirtualLoop) -> None:
        while True:
            await asyncio.sleep(1.0)
            seen.append((name, round(loop.time(), 3)))

    async def main(loop: VirtualLoop) -> None:
        for name in ("one", "two"):
            PROCESS.set(name)
            loop.create_task(beat(name, loop))
        PROCESS.set("")
        await asyncio.sleep(1.5)
        loop.freeze("one")
        assert loop.frozen("one")
        await asyncio.sleep(3.0)
        loop.thaw("one")
        await asyncio.sleep(1.0)

    run_virtually(main)
    # What was due at 2 s ran at 4.5 s; from there it went on.
    assert [at_s for name, at_s in seen if name == "one"] == [1.0, 4.5, 5.5]
    assert [at_s for name, at_s in seen if name == "two"] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_stop_in_the_middle_of_a_call_lets_everybody_else_go_on() -> None:
    seen: list[tuple[str, float]] = []

    async def stopped(loop: VirtualLoop) -> None:
        loop.call_later(0.5, lambda: seen.append(("its timer", loop.time())))
        loop.stand_still("one", 10.0)
        seen.append(("it goes on", loop.time()))
        await asyncio.sleep(0)

    async def other(loop: VirtualLoop) -> None:
        await asyncio.sleep(4.0)
        seen.append(("the other", loop.time()))

    async def main(loop: VirtualLoop) -> None:
        PROCESS.set("two")
        loop.create_task(other(loop))
        PROCESS.set("one")
        await loop.create_task(stopped(loop))
        await asyncio.sleep(0.1)

    run_virtually(main)
    assert [(name, round(at_s, 3)) for name, at_s in seen] == [
        ("the other", 4.0), ("it goes on", 10.0), ("its timer", 10.0),
    ]  # fmt: skip
