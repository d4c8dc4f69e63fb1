"""A bot is a graph of components: started in dependency order, watched, restarted, stopped in
reverse.

The supervisor is a policy over a few facts (a component started, failed, is unhealthy) and a clock
it is given, so that whole histories can be tested without waiting. A component that fails is
restarted after an exponentially growing pause, at most ``max_restarts`` times within ``window_ns``;
what depends on it is not restarted with it, because feeds and venues recover by events. When a
*required* component gives up, the supervisor gives up: the process ends and PM2 starts it anew. An
optional one stays down and is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock

HEALTH_NS: Final = 10 * NS_PER_SECOND
STOP_TIMEOUT_S: Final = 5.0
START_TIMEOUT_S: Final = 30.0


class GraphError(ValueError):
    """Components that cannot be ordered: an unknown requirement, a circle, a name used twice."""


class ComponentFailed(Exception):  # noqa: N818 - a fact, like the events
    """A component could not start or do its work; the text says why and what to do."""


class Phase(Enum):
    """Where a component is in its life."""

    WAITING = "waiting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    RESTARTING = "restarting"
    GAVE_UP = "gave up"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Health:
    """A component's own opinion of itself."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How failures are answered. The pause doubles from ``first_ns`` to ``longest_ns``."""

    first_ns: int = NS_PER_SECOND
    longest_ns: int = 60 * NS_PER_SECOND
    max_restarts: int = 10
    window_ns: int = 600 * NS_PER_SECOND

    def pause_ns(self, restarts: int) -> int:
        """The pause before restart number ``restarts`` + 1."""
        return min(self.longest_ns, self.first_ns << min(restarts, 30))


class Component(Protocol):
    """One part of a bot."""

    @property
    def name(self) -> str:
        """Unique in the bot."""
        ...

    async def start(self) -> None:
        """Begin to work; returns when it does. Raises ``ComponentFailed``."""
        ...

    def health(self) -> Health:
        """How it is; must not block."""
        ...

    async def stop(self) -> None:
        """End. Called once after every start, also after a failed one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A component and its place in the graph."""

    component: Component
    requires: tuple[str, ...] = ()
    required: bool = True
    policy: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(slots=True)
class Record:
    """What the supervisor knows of a component."""

    node: Node
    phase: Phase = Phase.WAITING
    detail: str = ""
    restarts: list[int] = field(default_factory=list)
    due_ns: int = 0


def start_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes so that each comes after what it requires, otherwise as given.

    Raises ``GraphError`` for a name used twice, an unknown requirement or a circle.
    """
    by_name = {node.component.name: node for node in nodes}
    if len(by_name) != len(nodes):
        raise GraphError("two components have the same name")
    for node in nodes:
        unknown = [name for name in node.requires if name not in by_name]
        if unknown:
            raise GraphError(f"{node.component.name} requires unknown {', '.join(unknown)}")
    ordered: list[Node] = []
    left = list(nodes)
    while left:
        done = {node.component.name for node in ordered}
        ready = [node for node in left if set(node.requires) <= done]
        if not ready:
            circle = ", ".join(node.component.name for node in left)
            raise GraphError(f"these components require each other: {circle}")
        ordered.append(ready[0])
        left.remove(ready[0])
    return ordered


class Supervisor:
    """Starts, watches, restarts and stops the components of one bot."""

    def __init__(
        self, nodes: Sequence[Node], clock: Clock, on_give_up: Callable[[str], None]
    ) -> None:
        """Order the graph. ``on_give_up`` is told when a required component stays down."""
        self.records = {n.component.name: Record(n) for n in start_order(nodes)}
        self.failures = 0
        self._clock = clock
        self._on_give_up = on_give_up
        self._log = logs.get("supervisor")

    def add(self, node: Node) -> None:
        """Add a component before the start. Raises ``GraphError`` as the construction does."""
        nodes = [*(record.node for record in self.records.values()), node]
        self.records = {n.component.name: Record(n) for n in start_order(nodes)}

    async def start(self) -> None:
        """Start all in order. Raises ``ComponentFailed`` if a required one cannot be started."""
        for record in self.records.values():
            name = record.node.component.name
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await record.node.component.start()
            except (ComponentFailed, TimeoutError) as error:
                reason = str(error) or f"not started within {START_TIMEOUT_S:.0f} s"
                if record.node.required:
                    record.phase, record.detail = Phase.GAVE_UP, reason
                    raise ComponentFailed(f"{name}: {reason}") from error
                self._schedule(record, reason)
            else:
                record.phase, record.detail = Phase.HEALTHY, ""
                self._log.info("COMPONENT started", name=name)

    async def restart_due(self) -> None:
        """Carry out the restarts whose pause is over; to be called more often than ``check``."""
        for record in self.records.values():
            if record.phase is Phase.RESTARTING and self._clock.now_ns() >= record.due_ns:
                await self._restart(record)

    async def check(self) -> None:
        """One round: carry out the restarts that are due and look at every component's health."""
        await self.restart_due()
        for record in self.records.values():
            if record.phase in {Phase.HEALTHY, Phase.UNHEALTHY}:
                health = record.node.component.health()
                if health.ok:
                    record.phase, record.detail = Phase.HEALTHY, health.detail
                elif record.phase is Phase.HEALTHY:
                    record.phase, record.detail = Phase.UNHEALTHY, health.detail
                    self._log.warning(
                        "COMPONENT unhealthy",
                        name=record.node.component.name,
                        detail=health.detail,
                    )
                else:
                    self._schedule(record, health.detail)

    def failed(self, name: str, reason: str) -> None:
        """A component reports that it cannot go on."""
        record = self.records[name]
        if record.phase in {Phase.HEALTHY, Phase.UNHEALTHY}:
            self._schedule(record, reason)

    def _schedule(self, record: Record, reason: str) -> None:
        now_ns = self._clock.now_ns()
        policy = record.node.policy
        name = record.node.component.name
        self.failures += 1
        record.restarts = [t for t in record.restarts if now_ns - t < policy.window_ns]
        if len(record.restarts) >= policy.max_restarts:
            record.phase, record.detail = Phase.GAVE_UP, reason
            self._log.error("COMPONENT gave up", name=name, detail=reason)
            if record.node.required:
                self._on_give_up(f"{name}: {reason}")
            return
        pause_ns = policy.pause_ns(len(record.restarts))
        record.phase, record.detail, record.due_ns = Phase.RESTARTING, reason, now_ns + pause_ns
        self._log.warning(
            "COMPONENT will be restarted",
            name=name,
            in_ms=pause_ns // 1_000_000,
            detail=reason,
        )

    async def _restart(self, record: Record) -> None:
        record.restarts.append(self._clock.now_ns())
        component = record.node.component
        await self._bounded(component.stop(), component.name)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await component.start()
        except (ComponentFailed, TimeoutError) as error:
            self._schedule(record, str(error) or "not started in time")
        else:
            record.phase, record.detail = Phase.HEALTHY, ""
            self._log.info("COMPONENT restarted", name=component.name)

    async def stop(self) -> None:
        """Stop all that were started, in reverse order; one that hangs is left behind."""
        for record in reversed(self.records.values()):
            if record.phase not in {Phase.WAITING, Phase.STOPPED}:
                await self._bounded(record.node.component.stop(), record.node.component.name)
                record.phase = Phase.STOPPED

    async def _bounded(self, stopping: Coroutine[None, None, None], name: str) -> None:
        """Wait for a stop, but not for ever: neither a hang nor an error may keep the others up."""
        task = asyncio.ensure_future(stopping)
        await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
        if not task.done():
            task.cancel()
            detail = f"not within {STOP_TIMEOUT_S:g} s"
        elif task.cancelled() or (error := task.exception()) is None:
            return
        else:
            detail = f"{type(error).__name__}: {error}"
        self._log.error("COMPONENT did not stop", name=name, detail=detail)

    def states(self) -> dict[str, str]:
        """Component -> phase, with the detail when it is not healthy."""
        return {
            name: r.phase.value if r.phase is Phase.HEALTHY else f"{r.phase.value}: {r.detail}"
            for name, r in self.records.items()
        }

    @property
    def healthy(self) -> bool:
        """Whether every required component is healthy."""
        return all(r.phase is Phase.HEALTHY for r in self.records.values() if r.node.required)
