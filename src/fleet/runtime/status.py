"""What a running bot says of itself: the status file each second, the table in the log each minute.

The file is written from the event loop, so a bot that hangs or is stopped by a signal stops
writing: its age is the heartbeat.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import Cash, format_dollars
from fleet.engine.engine import Engine
from fleet.engine.portfolio import Portfolio
from fleet.runtime.components import Supervisor
from fleet.runtime.reporting import Reporter
from fleet.runtime.runner import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is speaking."""

    bot: str
    mode: str
    feed: str
    started_ns: int


class StatusBoard:
    """Gathers the figures of one bot."""

    def __init__(
        self,
        identity: Identity,
        *,
        engine: Engine,
        runner: Runner,
        reporter: Reporter,
        supervisor: Supervisor,
        disk: Path,
    ) -> None:
        """Read from these; nothing is changed."""
        self.identity = identity
        self.ready = False
        self.kpis: Callable[[], Mapping[str, float]] = dict
        """What only this kind of bot measures; its components say it."""
        self.kpi_lines: Callable[[], Sequence[str]] = tuple
        """The same as lines of the log."""
        self._engine = engine
        self._runner = runner
        self._reporter = reporter
        self._supervisor = supervisor
        self._disk = disk
        self._found_before = engine.state.bundles.totals.tried
        """Ideas of earlier runs, so that the count does not begin anew with each process."""
        self._process = psutil.Process()
        self._process.cpu_percent()

    @property
    def portfolio(self) -> Portfolio:
        """The portfolio the figures come from."""
        return self._engine.state.portfolio

    @property
    def pnl(self) -> Cash:
        """Cash and positions at the best bids, less what was paid in."""
        portfolio = self.portfolio
        return Cash(portfolio.cash + self._engine.view.marked_value() - portfolio.deposited)

    @property
    def errors(self) -> int:
        """Errors handled since the start."""
        return self._runner.errors + self._supervisor.failures

    @property
    def opportunities(self) -> int:
        """Opportunities after fees: those tried before this process, and all it has found."""
        return self._found_before + self._engine.strategy.figures().get("opportunities", 0)

    def snapshot(self, now_ns: int) -> dict[str, object]:
        """The status as plain data; money as text."""
        state = self._engine.state
        figures = self._engine.strategy.figures()
        totals = state.bundles.totals
        return {
            "bot": self.identity.bot,
            "pid": os.getpid(),
            "mode": self.identity.mode,
            "feed": self.identity.feed,
            "trading": state.trading.value,
            "trading_reason": state.trading_reason,
            "ready": self.ready,
            "healthy": self._supervisor.healthy and not self._runner.failure,
            "ts_ns": now_ns,
            "started_ns": self.identity.started_ns,
            "components": self._supervisor.states(),
            "opportunities": self.opportunities,
            "trades": totals.complete,
            "pnl": format_dollars(self.pnl),
            "day_pnl": format_dollars(state.portfolio.day_realised),
            "cash": format_dollars(state.portfolio.cash),
            "errors": self.errors,
            "figures": dict(figures),
            "kpis": dict(self.kpis()),
            "legs": {
                "tried": totals.tried,
                "complete": totals.complete,
                "partial": totals.partial,
                "missed": totals.missed,
                "unwinds": totals.unwinds,
                "unwind_cost": format_dollars(totals.unwind_cost),
                "edge_expected": format_dollars(totals.edge_expected),
                "edge_realised": format_dollars(totals.edge_realised),
                "redeemed": format_dollars(totals.redeemed),
            },
            "events": self._runner.handled,
            "backlog": self._runner.backlog,
            "latency_us_p50": self._runner.latency.percentile_us(50),
            "latency_us_p99": self._runner.latency.percentile_us(99),
            "rss_mb": self._process.memory_info().rss // 1_000_000,
        }

    def metrics(self) -> Mapping[str, object]:
        """The four lines ``pm2 monit`` has room for, short enough for its column."""
        p99 = self._runner.latency.percentile_us(99)
        return {
            "opps": self.opportunities,
            "P&L": f"{format_dollars(self.pnl)} USD",
            "p99": f"{p99} us" if p99 is not None else "no data",
            "mode": f"{self.identity.mode}/{self.identity.feed}",
        }

    def table(self, now_ns: int) -> list[str]:
        """The status table, one line each."""
        status = self.snapshot(now_ns)
        legs = status["legs"]
        up_s = (now_ns - self.identity.started_ns) // NS_PER_SECOND
        free_gb = shutil.disk_usage(self._disk).free / 1e9
        rows = {
            "uptime": f"{up_s // 3600}h {up_s % 3600 // 60}m {up_s % 60}s",
            "trading": f"{status['trading']} ({status['trading_reason']})",
            "opportunities": " ".join(
                f"{name}={value}" for name, value in self._engine.strategy.figures().items()
            ),
            "trades": f"{status['trades']} executed, {self._reporter.fills} fills",
            "legs": " ".join(f"{k}={v}" for k, v in legs.items()) if isinstance(legs, dict) else "",
            "P&L": f"${status['pnl']} total, ${status['day_pnl']} today, cash ${status['cash']}",
            "errors": f"{status['errors']} handled",
            "latency": f"p50 {status['latency_us_p50']} us, p99 {status['latency_us_p99']} us",
            "process": f"CPU {self._process.cpu_percent():.0f} %, memory {status['rss_mb']} MB,"
            f" disk {free_gb:.1f} GB free",
        }
        rows |= {f"component {n}": s for n, s in self._supervisor.states().items()}
        head = f"STATUS {self.identity.bot} on {self.identity.mode}, feed {self.identity.feed}"
        lines = [head, *(f"STATUS   {name:<22} {value}" for name, value in rows.items())]
        return [*lines, *self.kpi_lines()]


def write_status(file: Path, status: Mapping[str, object]) -> None:
    """Replace the status file in one step. Raises ``OSError``."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(status, allow_nan=False))
    part.chmod(0o600)
    part.replace(file)
