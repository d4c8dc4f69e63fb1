"""Several nodes for one job: which one to use now. Pure; told the time.

The first address that is not resting is used. A node that failed rests for a jittered, doubling
pause; one that kept logs from us is put behind the others until they have done worse. With one
address there is nothing to choose, and the pause is all there is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.venues.transport import Backoff, Jitter

FIRST_NS: Final = 250 * NS_PER_MS
MAX_NS: Final = 30 * NS_PER_SECOND


@dataclass(slots=True)
class _Node:
    url: str
    backoff: Backoff
    rests_until_ns: int = 0
    omissions: int = 0
    failures: int = 0


class RpcPool:
    """The addresses of one chain, in order of preference."""

    def __init__(self, urls: Sequence[str], *, jitter: Jitter = random.random) -> None:
        """Raises ``ValueError`` without an address."""
        if not urls:
            raise ValueError("at least one RPC address is needed")
        self._nodes = [_Node(url, Backoff(FIRST_NS, MAX_NS, jitter)) for url in dict.fromkeys(urls)]

    def pick(self, now_ns: int) -> tuple[str, int]:
        """The address to use, and how many nanoseconds to wait before."""
        best = min(
            self._nodes, key=lambda node: (max(0, node.rests_until_ns - now_ns), node.omissions)
        )
        return best.url, max(0, best.rests_until_ns - now_ns)

    def other(self, url: str, now_ns: int) -> str | None:
        """Another address that is not resting, to compare answers with."""
        return next(
            (n.url for n in self._nodes if n.url != url and n.rests_until_ns <= now_ns), None
        )

    def failed(self, url: str, now_ns: int) -> int:
        """A node could not be used; nanoseconds it rests."""
        node = self._node(url)
        node.failures += 1
        pause_ns = node.backoff.next_ns()
        node.rests_until_ns = now_ns + pause_ns
        return pause_ns

    def worked(self, url: str) -> None:
        """A node has been of use for a while: its next failure is a first one."""
        self._node(url).backoff.reset()

    def omitted(self, url: str) -> None:
        """A node kept something from us."""
        self._node(url).omissions += 1

    def better(self, url: str, now_ns: int) -> bool:
        """Whether another address would be chosen now."""
        chosen, wait_ns = self.pick(now_ns)
        return chosen != url and not wait_ns

    def _node(self, url: str) -> _Node:
        return next(node for node in self._nodes if node.url == url)
