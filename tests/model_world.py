"""A forecaster, the endpoint it asks and the news it reads, for real on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.clock import NS_PER_DAY, NS_PER_SECOND, ManualClock
from fleet.config import load
from fleet.forecasting.llm import LlmForecaster
from fleet.forecasting.llm_access import USAGE_FILE, forecasters_from
from fleet.forecasting.llm_settings import LlmEnv
from fleet.forecasting.port import (
    Evidence,
    Item,
    Kind,
    Memory,
    Neighbour,
    NewsSource,
    Question,
)
from fleet.forecasting.usage import UsageLedger
from fleet.sandbox.models.faults import ModelFault
from fleet.sandbox.models.server import ModelServer, ModelSettings

NOW_NS = 20_400 * NS_PER_DAY + 3_600 * NS_PER_SECOND
KEY = "sk-sandbox-0123456789abcdef"


def question(**changes: Any) -> Question:
    """A question about Bitcoin at a price of 0.4."""
    known: dict[str, Any] = {
        "id": "q1",
        "text": "Will Bitcoin trade above $150,000 before January 2027?",
        "as_of_ns": NOW_NS,
        "criteria": "Resolves YES if any trade prints above the threshold.",
        "category": "crypto",
        "closes_ns": NOW_NS + 40 * NS_PER_DAY,
        "price": 0.4,
    }
    return Question(**{**known, **changes})


def evidence(number: int, *, published_ns: int = NOW_NS - NS_PER_DAY, **changes: Any) -> Evidence:
    known: dict[str, Any] = {
        "id": f"news:{number}",
        "published_ns": published_ns,
        "source": "Courier",
        "title": f"Bitcoin headline {number}",
        "text": f"What happened on day {number}.",
    }
    return Evidence(**{**known, **changes})


@dataclass
class ListMemory:
    """The memory's border over a list: everything known before is a neighbour."""

    rows: list[Item] = field(default_factory=list)

    def add(self, items: Sequence[Item]) -> int:
        self.rows += items
        return len(items)

    def search(
        self,
        text: str,
        *,
        before_ns: int,
        top: int = 3,
        kinds: Sequence[Kind] = (),
        exclude: Sequence[str] = (),
    ) -> Sequence[Neighbour]:
        del text
        known = [
            row
            for row in self.rows
            if row.known_ns < before_ns and row.kind in (kinds or [*Kind]) and row.id not in exclude
        ]
        return [Neighbour(row, 0.5) for row in known[:top]]

    def get(self, kind: Kind, item_id: str) -> Item | None:
        return next((r for r in self.rows if r.kind is kind and r.id == item_id), None)

    def items(self, kind: Kind | None = None) -> Sequence[Item]:
        return [row for row in self.rows if kind in {None, row.kind}]

    def count(self) -> dict[Kind, int]:
        return {kind: len(self.items(kind)) for kind in Kind}

    def close(self) -> None:
        pass


@dataclass
class FixedNews:
    """A news source that has what it has, whatever is asked."""

    found: Sequence[Evidence]

    async def search(self, query: str, *, before_ns: int, limit: int = 5) -> Sequence[Evidence]:
        del query, before_ns
        return self.found[:limit]


@dataclass
class ModelWorld:
    """What a test needs of a running world."""

    server: ModelServer
    url: str
    directory: Path
    clock: ManualClock

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The chat requests as they arrived."""
        return self.server.routes.bodies

    def fault(self, name: str, **rule: Any) -> None:
        self.server.routes.faults.put(ModelFault(name=name, **rule))

    def forecasters(
        self,
        *,
        news: NewsSource | None = None,
        memory: Memory | None = None,
        **settings: Any,
    ) -> tuple[LlmForecaster, ...]:
        env = {
            "POLYAI_LLM_API_KEY": KEY,
            "POLYAI_LLM_BASE_URL": f"{self.url}/v1",
            "POLYAI_LLM_TIMEOUT_S": "10",
            **{f"POLYAI_LLM_{name}": value for name, value in settings.items()},
        }
        return forecasters_from(
            load(LlmEnv, env),
            directory=self.directory,
            clock=self.clock,
            news=news,
            memory=memory,
        )

    def forecaster(self, **settings: Any) -> LlmForecaster:
        (one,) = self.forecasters(**settings)
        return one

    def ledger(self) -> UsageLedger:
        """The ledger as another process sees it."""
        return UsageLedger(self.directory / USAGE_FILE)

    async def asked_for(self, place: str, number: int) -> None:
        """Wait until so many requests of a place have arrived."""
        async with asyncio.timeout(30):
            while self.server.routes.requests[place] < number:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)

    def outcomes(self) -> list[str]:
        with_rows = self.ledger()
        found = [row[0] for row in with_rows.rows("SELECT outcome FROM attempt ORDER BY id")]
        with_rows.close()
        return found


@asynccontextmanager
async def model_world(
    tmp_path: Path, settings: ModelSettings | None = None
) -> AsyncIterator[ModelWorld]:
    """Start the endpoint; everything it began ends with it."""
    clock = ManualClock(NOW_NS)
    server = ModelServer(clock.now_ns, settings)
    port = await server.start()
    try:
        yield ModelWorld(server, f"http://127.0.0.1:{port}/models", tmp_path, clock)
    finally:
        await server.stop()
