"""One start of the Trader: what was asked for, with the settings and places it needs."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.bots.trader_bot import TraderResearch
from fleet.bots.trader_settings import TraderEnv
from fleet.config import SANDBOX, Paths
from fleet.runtime.spec import Loaded
from fleet.runtime.trader_arguments import Request
from fleet.runtime.trader_research import Job
from fleet.runtime.trader_tokens import Token

NAME: Final = "Trader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One start of the Trader."""

    request: Request
    env: TraderEnv
    loaded: Loaded
    paths: Paths
    home: Path
    environ: MutableMapping[str, str]
    research: TraderResearch

    @property
    def token(self) -> Token:
        """What to trade: what was named, else the first supported one."""
        return self.request.token or self.env.tokens[0]

    def job(self, token: Token, *, trials: int, bars: int, synthetic: bool = False) -> Job:
        """The training of ``token``."""
        request = self.request
        return Job(
            token=token, interval=request.interval, root=self.paths.root, data=request.data,
            trials=trials if request.trials is None else request.trials, bars=bars,
            seed=request.seed, synthetic=synthetic,
            network=request.data is None and request.feed != SANDBOX,
        )  # fmt: skip
