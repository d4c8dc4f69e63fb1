"""Validations in processes of their own, so that a bot never carries what training needs.

Measured: a bot that trained in its own process held 460 MB ever after.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fleet.bots.trader_launch import Launch
from fleet.clock import LiveClock
from fleet.runtime.kept_process import end_process
from fleet.runtime.trader_research import Validation
from fleet.runtime.trader_tokens import Token


async def validate(
    launch: Launch, tokens: Sequence[Token], *, shown: bool = False
) -> dict[Token, Validation | str]:
    """Validate each in a process of its own, as many at once as there are cores.

    ``shown`` lets it show its progress and report here.

    A text is the reason why there is no validation. Ctrl-C and SIGTERM end all of them.
    """
    places = asyncio.Semaphore(os.cpu_count() or 1)
    whole = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if whole is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, whole.cancel)
    with tempfile.TemporaryDirectory() as folder:

        async def one(token: Token) -> Validation | str:
            async with places:
                answer = Path(folder) / f"{token.slug}.json"
                return await _validated(launch, token, answer, shown=shown)

        try:
            answers = await asyncio.gather(*(one(token) for token in tokens))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    return dict(zip(tokens, answers, strict=True))


async def _validated(
    launch: Launch, token: Token, answer: Path, *, shown: bool
) -> Validation | str:
    job = launch.job(token, trials=launch.env.trials, bars=launch.env.bars)
    fresh = launch.research.fresh(job, launch.env.model_age_ns, LiveClock().now_ns())
    if fresh is not None:
        return fresh
    words = [
        sys.executable, str(launch.home / "run_trader.py"), "backtest", "--symbol", token.symbol,
        "--exchange", token.exchange, "--interval", job.interval, "--trials", str(job.trials),
        "--seed", str(job.seed), "--answer", str(answer),
        "--kept-by", str(os.getpid()),
    ]  # fmt: skip
    words += ["--data", str(job.data)] if job.data is not None else []
    process = await asyncio.create_subprocess_exec(
        *words, env=dict(launch.environ), cwd=launch.home, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=None if shown else asyncio.subprocess.DEVNULL,
        stderr=None if shown else asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, told = await process.communicate()
    finally:
        await end_process(process)
    found = _read(answer)
    if found is not None:
        return found
    reason = (told or b"").decode(errors="replace").strip().splitlines()
    return reason[-1] if reason else f"its validation ended with code {process.returncode}"


def _read(answer: Path) -> Validation | None:
    """What a validation left; nothing if it left none that can be read."""
    try:
        return Validation.of(json.loads(answer.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
