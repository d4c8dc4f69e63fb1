"""Faults of a websocket channel: what becomes of each published frame on its way to one connection.

``ChannelFaults`` sits in the channel's ``disturb``: it says which payloads take a frame's place.
Answers such as PONG do not come here, so they go on through a freeze, as at the venue. Each
connection (``market#3``) has its own chances, so that what happens to it does not depend on how
many others there are. Frames held back are sent by ``release``, after those that overtook them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.channel import Channel, Client
from fleet.sandbox.faults import Faults
from fleet.sandbox.faults_catalogue import Fault


@dataclass(slots=True)
class _Line:
    """What faults remember about one connection."""

    subject: str
    frozen_until_ns: int = 0
    heals: int = 0
    """How often faults had been cleared when it froze: clearing them thaws it."""
    held: list[tuple[int, bytes]] = field(default_factory=list)
    """(when to send it, frame)."""


class ChannelFaults:
    """The faults of one channel (``market`` or ``user``)."""

    def __init__(self, channel: Channel[Any], faults: Faults, now_ns: Callable[[], int]) -> None:
        """Stand between ``channel`` and its clients from now on."""
        self._channel = channel
        self._faults = faults
        self._now_ns = now_ns
        self._lines: dict[int, _Line] = {}
        channel.disturb = self.frame

    def frame(self, client: Client, payload: bytes) -> Sequence[bytes]:
        """What to send in place of ``payload``: nothing, it, or it twice."""
        if not self._faults.active and not self._lines:
            return (payload,)
        line = self._line(client)
        now_ns = self._now_ns()
        frozen = now_ns < line.frozen_until_ns and line.heals == self._faults.heals
        if frozen or client.dropped:
            return ()
        freeze_s = self._strike(Fault.FREEZE, line, now_ns)
        if freeze_s is not None:
            line.frozen_until_ns = now_ns + int(freeze_s * NS_PER_SECOND)
            line.heals = self._faults.heals
            line.held.clear()
            return ()
        if self._strike(Fault.DROP, line, now_ns) is not None:
            self._channel.cut(client)
            return ()
        hold_s = self._strike(Fault.REORDER, line, now_ns)
        if hold_s is not None:
            line.held.append((now_ns + int(hold_s * NS_PER_SECOND), payload))
            return ()
        if self._strike(Fault.DUPLICATE, line, now_ns) is not None:
            return (payload, payload)
        return (payload,)

    def release(self) -> None:
        """Send the frames that waited long enough; forget the connections that are gone."""
        if not self._lines:
            return
        now_ns = self._now_ns()
        connected = {client.number: client for client in self._channel.connected}
        for number, line in list(self._lines.items()):
            client = connected.get(number)
            if client is None:
                del self._lines[number]
                continue
            due = [held for held in line.held if held[0] <= now_ns]
            line.held = [held for held in line.held if held[0] > now_ns]
            for _, payload in due:
                self._channel.send(client, payload)

    def without_snapshots(self, client: Client) -> bool:
        """Whether this subscription gets changes only."""
        if not self._faults.active:
            return False
        strike = self._strike(Fault.NO_REPLAY, self._line(client), self._now_ns())
        return strike is not None

    def _line(self, client: Client) -> _Line:
        line = self._lines.get(client.number)
        if line is None:
            subject = f"{self._channel.name}#{client.number}"
            line = self._lines[client.number] = _Line(subject)
        return line

    def _strike(self, fault: Fault, line: _Line, now_ns: int) -> float | None:
        """The seconds it lasts, or nothing."""
        strike = self._faults.strike(fault, line.subject, now_ns, place=self._channel.name)
        return None if strike is None else strike.rule.lasts_s
