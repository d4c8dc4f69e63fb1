"""The portfolio manager: watches over the bots of all tokens as one account.

Every few seconds it adds up what each bot says it has made; when the whole has fallen too far below
its peak, every bot is asked, durably, to sell what it holds and to open nothing (``flatten``), and
people are told. Peak and stop are kept in a file: a restart forgets neither. On schedule it weighs
the tokens anew; a bot whose share changed enough is ended in order and comes back with the new one.
It sends no order itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.config import Paths
from fleet.domain.units import Cash, UnitsError, format_dollars, parse_units
from fleet.journal.fleet import FleetState
from fleet.journal.inbox import OperatorInbox
from fleet.ops.alerts import Alert
from fleet.runtime.kept_process import Command, KeptProcess
from fleet.runtime.trader_allocation import Drawdown

LOOK_S: Final = 2.0
TABLE_EVERY: Final = 30
CHANGE_PPM: Final = 100_000
"""A bot is restarted for a new share only if it differs by a tenth of the old one or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioSettings:
    """``drawdown_ppm`` is the fall from the peak, in millionths of it, that stops all."""

    capital: Cash
    drawdown_ppm: int
    reweight_ns: int


class PortfolioFile:
    """Peak and stop on disk, replaced whole."""

    def __init__(self, paths: Paths, feed: str) -> None:
        """The file of one place; the sandbox's results are not the venue's."""
        self.path = paths.var / "portfolio" / f"{feed}.json"

    def read(self) -> Drawdown:
        """What was kept; the beginning if nothing was. Raises ``OSError`` or ``ValueError``."""
        try:
            kept = json.loads(self.path.read_text())
        except FileNotFoundError:
            return Drawdown()
        return Drawdown(peak=Cash(int(kept["peak"])), stopped=bool(kept["stopped"]))

    def write(self, drawdown: Drawdown) -> None:
        """Keep it. Raises ``OSError``."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"peak": drawdown.peak, "stopped": drawdown.stopped}))
        part.replace(self.path)


class PortfolioManager:
    """Risk and weights over all tokens; ``watch`` is the wrapper's ``beside``."""

    def __init__(
        self, settings: PortfolioSettings, paths: Paths, clock: Clock, *, file: PortfolioFile,
        bots: Mapping[str, tuple[str, Path]], shares: Mapping[str, Cash],
        reweigh: Callable[[], Awaitable[Mapping[str, Cash]]],
        command: Callable[[str, Cash], Command],
    ) -> None:  # fmt: skip
        """``bots``: by token its bot's name and status file; ``shares`` as they were started with.

        ``reweigh`` works out new shares (empty: it could not), ``command`` the child of one.
        """
        self._settings = settings
        self._paths = paths
        self._clock = clock
        self._file = file
        self._bots = bots
        self._shares = dict(shares)
        self._reweigh = reweigh
        self._command = command
        self._results: dict[str, Cash] = {}
        self._log = logs.get("portfolio")

    def result(self) -> Cash:
        """What all bots made together, by what each said last; 0 for one that said nothing yet."""
        for token, (_, status) in self._bots.items():
            try:
                told = json.loads(status.read_text())
                self._results[token] = Cash(parse_units(str(told["pnl"])))
            except (OSError, ValueError, KeyError, UnitsError):
                continue  # It starts, or writes at this moment: what it said before still stands.
        return Cash(sum(self._results.values()))

    async def watch(self, kept: Sequence[KeptProcess], alert: Alert) -> None:
        """Look, weigh and tell until cancelled."""
        drawdown = self._file.read()
        weighed_ns = self._clock.now_ns()
        looks = 0
        while True:
            drawdown = self._look(drawdown, alert)
            if looks % TABLE_EVERY == 0:
                self._table(drawdown)
            looks += 1
            if self._clock.now_ns() - weighed_ns >= self._settings.reweight_ns:
                weighed_ns = self._clock.now_ns()
                self._renew(kept, await self._reweigh())
            await asyncio.sleep(LOOK_S)

    def _look(self, before: Drawdown, alert: Alert) -> Drawdown:
        result = self.result()
        after = before.after(result, self._settings.capital, self._settings.drawdown_ppm)
        if after.stopped and not before.stopped:
            with FleetState(self._paths.fleet_db) as fleet:
                inbox, now_ns = OperatorInbox(fleet), self._clock.now_ns()
                for name, _ in self._bots.values():
                    inbox.post(name, "flatten", by="portfolio", ts=now_ns,
                               argument="the portfolio fell too far")  # fmt: skip
            alert(
                "PORTFOLIO DRAWDOWN",
                f"the portfolio made ${format_dollars(result)} after a peak of"
                f" ${format_dollars(after.peak)}: every bot sells what it holds",
                f"find out why; then remove {self._file.path} and ask each bot to resume with"
                " `fleet resume`",
            )
        if after != before:
            self._file.write(after)
        return after

    def _table(self, drawdown: Drawdown) -> None:
        for token in self._bots:
            made = self._results.get(token)
            self._log.info(
                "PORTFOLIO", token=token, share=f"${format_dollars(self._shares[token])}",
                made="unknown" if made is None else f"${format_dollars(made)}",
            )  # fmt: skip
        total = Cash(sum(self._results.values()))
        self._log.info(
            "PORTFOLIO total", made=f"${format_dollars(total)}",
            peak=f"${format_dollars(drawdown.peak)}", stopped=drawdown.stopped,
        )  # fmt: skip

    def _renew(self, kept: Sequence[KeptProcess], fresh: Mapping[str, Cash]) -> None:
        for one in kept:
            token = one.command.name
            new, old = fresh.get(token), self._shares[token]
            if new is None or abs(new - old) * 1_000_000 < old * CHANGE_PPM:
                continue
            self._log.info("PORTFOLIO weighs anew", token=token, share=f"${format_dollars(new)}",
                           before=f"${format_dollars(old)}")  # fmt: skip
            self._shares[token] = new
            if not one.standing.ended:
                one.renew(self._command(token, new))
