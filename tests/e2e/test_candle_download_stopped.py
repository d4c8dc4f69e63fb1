"""A download that a person or the kernel stops keeps what came, and the next one goes on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.research.candle_cache import CandleCache
from fleet.research.intervals import MINUTE
from fleet.research.synthetic import START_NS, synthetic_candles
from tests.candle_servers import MS, BinanceServer

COUNT, PAGE = 600, 100


def bars() -> list[tuple[float, ...]]:
    c = synthetic_candles(COUNT, seed=4, interval_ns=MINUTE)
    columns = (c.ts // MS, c.open, c.high, c.low, c.close, c.volume)
    return [tuple(column[n].item() for column in columns) for n in range(COUNT)]


class Stuck(BinanceServer):
    """Answers three pages; then the process that asked is stopped before the fourth."""

    def __init__(self) -> None:
        super().__init__(bars(), now_ms=START_NS // MS + COUNT * 60_000, page=PAGE)
        self.reached = asyncio.Event()
        self.free = asyncio.Event()

    async def _klines(self, request: Any) -> Any:
        if len(self.asked) == 3 and not self.free.is_set():
            self.reached.set()
            await self.free.wait()
        return await super()._klines(request)


async def _stopped_and_again(home: Path, how: signal.Signals) -> tuple[int, int, dict[str, Any]]:
    """The first process's exit code, the bars stored then, and what the second tells."""
    server = Stuck()
    environment = {**os.environ, "FLEET_HOME": str(home)}
    async with server.serving() as url:
        words = [sys.executable, "-m", "fleet.cli.main", "candles", "download", "ETHUSDT", "--json",
                 "--interval", "1m", "--since", "2024-01-01", "--url", url]  # fmt: skip

        async def start() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                *words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )

        first = await start()
        await asyncio.wait_for(server.reached.wait(), 30)
        first.send_signal(how)
        await asyncio.wait_for(first.communicate(), 30)
        stored = CandleCache.under(home / "var", url).load("BINANCE", "ETHUSDT", MINUTE)
        server.free.set()
        second = await start()
        out, err = await asyncio.wait_for(second.communicate(), 30)
        assert second.returncode == 0, err.decode()
        assert first.returncode is not None
        return first.returncode, 0 if stored is None else len(stored), json.loads(out)[0]


@pytest.mark.parametrize(
    ("how", "code", "kept"),
    [(signal.SIGINT, 130, 3 * PAGE), (signal.SIGKILL, -signal.SIGKILL, 0)],
)
def test_a_stopped_download_goes_on(
    tmp_path: Path, how: signal.Signals, code: int, kept: int
) -> None:
    found_code, stored, told = asyncio.run(_stopped_and_again(tmp_path, how))
    assert (found_code, stored) == (code, kept)
    assert (told["bars"], told["added"], told["findings"]) == (COUNT, COUNT - kept, [])
