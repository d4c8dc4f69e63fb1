"""Histories of a component graph: a manual clock, scripted components, what happened in a list."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fleet.clock import NS_PER_SECOND as NS
from fleet.clock import ManualClock
from fleet.runtime import components
from fleet.runtime.components import (
    ComponentFailed,
    GraphError,
    Health,
    Node,
    Phase,
    RestartPolicy,
    Supervisor,
    start_order,
)


class Part:
    """A component that does as it is told and writes down what is asked of it."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self.story = story
        self.starts: list[BaseException | None] = []
        """What the next starts raise; nothing when empty."""
        self.stops: BaseException | None = None
        self.hangs = False
        self.sick = ""

    async def start(self) -> None:
        self.story.append(f"start {self.name}")
        error = self.starts.pop(0) if self.starts else None
        if error is not None:
            raise error

    def health(self) -> Health:
        return Health(ok=not self.sick, detail=self.sick)

    async def stop(self) -> None:
        self.story.append(f"stop {self.name}")
        while self.hangs:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue  # Deaf to being asked.
        if self.stops is not None:
            raise self.stops


class Stage:
    """A supervisor over parts, the clock, and what was given up."""

    def __init__(self, *nodes: tuple[str, tuple[str, ...], bool], **policy: int) -> None:
        self.story: list[str] = []
        self.gave_up: list[str] = []
        self.clock = ManualClock(1_000 * NS)
        self.parts = {name: Part(name, self.story) for name, _, _ in nodes}
        self.supervisor = Supervisor(
            [
                Node(component=self.parts[name], requires=requires, required=required,
                     policy=RestartPolicy(**policy))
                for name, requires, required in nodes
            ],
            self.clock,
            self.gave_up.append,
        )  # fmt: skip

    def phase(self, name: str) -> Phase:
        return self.supervisor.records[name].phase

    async def pass_s(self, seconds: float) -> None:
        self.clock.advance(int(seconds * NS))
        await self.supervisor.restart_due()


def play(history: Callable[[], Any]) -> None:
    asyncio.run(history())


def node(name: str, *requires: str) -> Node:
    return Node(component=Part(name, []), requires=requires)


def names(nodes: list[Node]) -> list[str]:
    return [n.component.name for n in nodes]


def test_each_comes_after_what_it_requires_otherwise_as_given() -> None:
    graph = [node("status", "feed"), node("feed", "lease", "latch"), node("lease"), node("latch")]
    assert names(start_order(graph)) == ["lease", "latch", "feed", "status"]
    assert names(start_order([node("b"), node("a")])) == ["b", "a"]
    assert start_order([]) == []


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ([node("a"), node("a")], "same name"),
        ([node("a", "ghost")], "a requires unknown ghost"),
        ([node("a", "a")], "require each other: a"),
        ([node("x"), node("a", "b"), node("b", "c"), node("c", "a")], "each other: a, b, c"),
    ],
)
def test_a_graph_that_cannot_be_ordered_is_refused(graph: list[Node], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        Supervisor(graph, ManualClock(), print)


def test_adding_a_component_keeps_the_graph_sound() -> None:
    supervisor = Supervisor([node("a")], ManualClock(), print)
    supervisor.add(node("b", "a"))
    assert list(supervisor.records) == ["a", "b"]
    with pytest.raises(GraphError, match="same name"):
        supervisor.add(node("a"))
    assert list(supervisor.records) == ["a", "b"]


CHAIN = (("c", ("b",), True), ("b", ("a",), True), ("a", (), True))


def test_started_in_order_and_stopped_in_reverse() -> None:
    async def history() -> None:
        stage = Stage(*CHAIN)
        await stage.supervisor.start()
        assert stage.supervisor.healthy
        assert stage.supervisor.states() == dict.fromkeys("abc", "healthy")
        await stage.supervisor.stop()
        assert stage.story == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]
        await stage.supervisor.stop()
        assert len(stage.story) == 6

    play(history)


def test_a_required_one_that_cannot_start_ends_the_start() -> None:
    async def history() -> None:
        stage = Stage(*CHAIN)
        stage.parts["b"].starts = [ComponentFailed("no catalogue")]
        with pytest.raises(ComponentFailed, match="b: no catalogue"):
            await stage.supervisor.start()
        assert stage.phase("b") is Phase.GAVE_UP
        assert stage.phase("c") is Phase.WAITING
        await stage.supervisor.stop()
        assert stage.story == ["start a", "start b", "stop b", "stop a"]

    play(history)


def test_an_optional_one_that_cannot_start_is_tried_again() -> None:
    async def history() -> None:
        stage = Stage(("a", (), False), ("b", ("a",), True))
        stage.parts["a"].starts = [ComponentFailed("not yet")]
        await stage.supervisor.start()
        assert stage.supervisor.healthy
        assert stage.supervisor.states() == {"a": "restarting: not yet", "b": "healthy"}
        await stage.pass_s(0.9)
        assert stage.phase("a") is Phase.RESTARTING
        await stage.pass_s(0.1)
        assert stage.phase("a") is Phase.HEALTHY
        assert stage.story == ["start a", "start b", "stop a", "start a"]

    play(history)


def test_a_start_that_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "START_TIMEOUT_S", 0.01)

    async def history() -> None:
        stage = Stage(("a", (), True))
        part = stage.parts["a"]

        async def forever() -> None:
            await asyncio.sleep(60)

        part.start = forever  # type: ignore[method-assign]
        with pytest.raises(ComponentFailed, match="a: not started within"):
            await stage.supervisor.start()

    play(history)


def test_unhealthy_once_is_borne_twice_is_restarted() -> None:
    async def history() -> None:
        stage = Stage(*CHAIN)
        await stage.supervisor.start()
        part = stage.parts["b"]
        part.sick = "1 of 2 connections are up"
        await stage.supervisor.check()
        assert stage.phase("b") is Phase.UNHEALTHY
        assert not stage.supervisor.healthy
        part.sick = ""
        await stage.supervisor.check()
        assert stage.phase("b") is Phase.HEALTHY
        assert stage.supervisor.failures == 0
        part.sick = "silent"
        await stage.supervisor.check()
        await stage.supervisor.check()
        assert stage.phase("b") is Phase.RESTARTING
        assert stage.supervisor.states()["b"] == "restarting: silent"
        part.sick = ""
        await stage.pass_s(1)
        assert stage.phase("b") is Phase.HEALTHY
        assert stage.story[3:] == ["stop b", "start b"], "what depends on it is left alone"
        assert stage.supervisor.failures == 1

    play(history)


def test_the_pause_doubles_up_to_its_longest() -> None:
    policy = RestartPolicy(first_ns=NS, longest_ns=60 * NS)
    pauses = [policy.pause_ns(n) // NS for n in range(9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert policy.pause_ns(10**6) == 60 * NS


def test_failures_in_a_row_wait_longer_each_time() -> None:
    async def history() -> None:
        stage = Stage(("a", (), True), max_restarts=4)
        await stage.supervisor.start()
        for pause in (1, 2, 4, 8):
            stage.supervisor.failed("a", "again")
            assert stage.phase("a") is Phase.RESTARTING
            await stage.pass_s(pause - 0.001)
            assert stage.phase("a") is Phase.RESTARTING
            await stage.pass_s(0.001)
            assert stage.phase("a") is Phase.HEALTHY
        assert not stage.gave_up
        stage.supervisor.failed("a", "once too often")
        assert stage.phase("a") is Phase.GAVE_UP
        assert stage.gave_up == ["a: once too often"]
        await stage.pass_s(1_000)
        assert stage.phase("a") is Phase.GAVE_UP
        assert stage.supervisor.failures == 5

    play(history)


def test_a_restart_that_fails_counts_and_is_tried_again() -> None:
    async def history() -> None:
        stage = Stage(("a", (), True), max_restarts=2)
        await stage.supervisor.start()
        stage.parts["a"].starts = [ComponentFailed("still down"), ComponentFailed("still down")]
        stage.supervisor.failed("a", "down")
        await stage.pass_s(1)
        assert stage.supervisor.states()["a"] == "restarting: still down"
        await stage.pass_s(2)
        assert stage.gave_up == ["a: still down"]
        assert stage.story == ["start a", *(["stop a", "start a"] * 2)]

    play(history)


def test_restarts_long_ago_are_forgotten() -> None:
    async def history() -> None:
        stage = Stage(("a", (), True), max_restarts=2, window_ns=100 * NS)
        await stage.supervisor.start()
        for _ in range(10):
            stage.supervisor.failed("a", "now and then")
            await stage.pass_s(2)
            assert stage.phase("a") is Phase.HEALTHY
            stage.clock.advance(60 * NS)
        assert not stage.gave_up

    play(history)


def test_an_optional_one_that_gives_up_stays_down_and_is_reported() -> None:
    async def history() -> None:
        stage = Stage(("a", (), True), ("b", (), False), max_restarts=0)
        await stage.supervisor.start()
        stage.supervisor.failed("b", "broken")
        assert stage.phase("b") is Phase.GAVE_UP
        assert not stage.gave_up
        assert stage.supervisor.healthy
        assert stage.supervisor.states()["b"] == "gave up: broken"
        await stage.supervisor.check()
        await stage.supervisor.stop()
        assert stage.story == ["start a", "start b", "stop b", "stop a"]

    play(history)


def test_a_failure_told_twice_is_one_failure() -> None:
    async def history() -> None:
        stage = Stage(("a", (), True))
        await stage.supervisor.start()
        stage.supervisor.failed("a", "first")
        stage.supervisor.failed("a", "second")
        assert stage.supervisor.states()["a"] == "restarting: first"
        assert stage.supervisor.failures == 1

    play(history)


@pytest.mark.parametrize(
    "error", [ComponentFailed("stuck"), OSError("socket"), RuntimeError("defect")]
)
def test_a_stop_that_fails_does_not_keep_the_others_up(error: Exception) -> None:
    async def history() -> None:
        stage = Stage(*CHAIN)
        await stage.supervisor.start()
        stage.parts["b"].stops = error
        await stage.supervisor.stop()
        assert stage.story[3:] == ["stop c", "stop b", "stop a"]
        assert {r.phase for r in stage.supervisor.records.values()} == {Phase.STOPPED}

    play(history)


def test_a_stop_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "STOP_TIMEOUT_S", 0.02)

    async def history() -> None:
        stage = Stage(*CHAIN)
        await stage.supervisor.start()
        stage.parts["c"].hangs = True
        async with asyncio.timeout(5):
            await stage.supervisor.stop()
        assert stage.story[3:] == ["stop c", "stop b", "stop a"]
        stage.parts["c"].hangs = False
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    play(history)


def test_a_stop_that_hangs_does_not_keep_a_restart_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "STOP_TIMEOUT_S", 0.02)

    async def history() -> None:
        stage = Stage(("a", (), True))
        await stage.supervisor.start()
        stage.parts["a"].hangs = True
        stage.supervisor.failed("a", "hung")
        async with asyncio.timeout(5):
            await stage.pass_s(1)
        assert stage.phase("a") is Phase.HEALTHY
        stage.parts["a"].hangs = False
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    play(history)


def test_a_defect_in_a_component_is_not_taken_for_a_failure() -> None:
    async def history() -> None:
        stage = Stage(("a", (), True))
        stage.parts["a"].starts = [KeyError("defect")]
        with pytest.raises(KeyError, match="defect"):
            await stage.supervisor.start()

    play(history)
