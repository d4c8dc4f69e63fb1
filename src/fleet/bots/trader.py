"""The Trader's launcher: from what was asked for to the process that does it.

One table says which mode is whose work. Work that ends (blank, backtest, research) is done here, by
the research that the script hands in; work that goes on (paper, live, portfolio) begins with a
passed validation and runs, with ``--auto-restart`` under a wrapper, until it is stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Final

from fleet.bots.known import KNOWN
from fleet.bots.trader_bot import TraderResearch
from fleet.bots.trader_launch import NAME, Launch
from fleet.bots.trader_paper import paper
from fleet.bots.trader_portfolio import portfolio
from fleet.bots.trader_settings import TraderEnv
from fleet.clock import LiveClock
from fleet.config import ConfigError, Paths
from fleet.runtime import preflight
from fleet.runtime.bootstrap import read_settings
from fleet.runtime.continuous import EXIT_UNAVAILABLE
from fleet.runtime.crypto_settings import CryptoEnv
from fleet.runtime.kept_process import end_with_parent
from fleet.runtime.settings import FleetSettings
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN
from fleet.runtime.trader_arguments import parse
from fleet.runtime.trader_console import (
    EXIT_INTERRUPTED,
    check_lines,
    complain,
    interruptible,
    progress,
    say,
)
from fleet.runtime.trader_preflight import Needs, extra_checks
from fleet.runtime.trader_research import ResearchFailed, Validation

BLANK_TRIALS: Final = 4
BLANK_BARS: Final = 3_000


def main(
    argv: Sequence[str], environ: MutableMapping[str, str], home: Path, research: TraderResearch
) -> int:
    """Do what the command line asks; the exit code."""
    os.umask(0o077)
    paths = Paths(root=Path(environ.get("FLEET_HOME") or home).absolute())
    try:
        loaded = read_settings((TraderEnv, CryptoEnv), KNOWN, paths, environ)
    except ConfigError as error:
        parse(argv, ())  # A wrong command line is told first: it is nearer to hand.
        complain(f"{NAME} cannot start: the settings in {paths.env_file} need repair.\n{error}")
        return EXIT_STAY_DOWN
    env = loaded.of(TraderEnv)
    request = parse(argv, env.tokens)
    if request.gui or request.mode == "gui":
        complain(
            "the dashboard is not built yet: it comes with a later step of this project. Everything"
            f" else works without it: {HINTS.get(request.mode, 'choose another mode')}"
        )
        return EXIT_UNAVAILABLE
    launch = Launch(
        request=request, env=env, loaded=loaded, paths=paths, home=home, environ=environ,
        research=research,
    )  # fmt: skip
    if request.dry_run:
        return dry_run(launch)
    if request.kept_by and not end_with_parent(request.kept_by):
        return EXIT_OK  # Who started it is gone already: nobody would watch it.
    try:
        return WORK[request.mode](launch)
    except KeyboardInterrupt:
        complain(f"{NAME} {request.mode}: interrupted before the end; what was recorded stays")
        return EXIT_INTERRUPTED
    except ResearchFailed as error:
        complain(f"{NAME} {request.mode}: {error}")
        return EXIT_RETRY


HINTS: Final[Mapping[str, str]] = {
    "gui": "`fleet status` shows the bots, `run_trader.py paper` trades on paper",
}


def dry_run(launch: Launch) -> int:
    """Make the checks, print them, change nothing."""
    checks = _checks(launch)
    say(check_lines(checks))
    failed = sum(not check.ok for check in checks)
    ending = f"{failed} of {len(checks)} checks failed" if failed else "all checks passed"
    say([f"{NAME} {launch.request.mode}: {ending}"])
    return EXIT_STAY_DOWN if failed else EXIT_OK


def _checks(launch: Launch) -> list[preflight.Check]:
    request, env = launch.request, launch.env
    now_ns = LiveClock().now_ns()
    tokens = env.tokens if request.mode == "portfolio" else (launch.token,)
    needs = Needs(
        tokens=tokens,
        network=request.mode in NEEDS_NETWORK,
        environment=env.environment if request.mode in NEEDS_KEYS else "",
    )
    return preflight.run(
        launch.paths, bot=launch.token.slug, now_ns=now_ns,
        disk_free_min_mb=launch.loaded.of(FleetSettings).disk_free_min_mb,
        extra=extra_checks(needs, _keys(launch), now_ns),
    )  # fmt: skip


def _keys(launch: Launch) -> set[str]:
    return {name for name, value in launch.environ.items() if value}


NEEDS_NETWORK: Final = frozenset({"live"})
NEEDS_KEYS: Final = frozenset({"live"})


def blank(launch: Launch) -> int:
    """The whole pipeline in small; made-up candles if there are no others, and it says so."""
    job = launch.job(launch.token, trials=BLANK_TRIALS, bars=BLANK_BARS, synthetic=True)
    with interruptible(), progress(f"blank {launch.token}") as told:
        found = launch.research.blank(job, told)
    return _tell(found)


def backtest(launch: Launch) -> int:
    """The whole pipeline; "no edge found" is a normal end."""
    job = launch.job(launch.token, trials=launch.env.trials, bars=launch.env.bars)
    with interruptible(), progress(f"backtest {launch.token}") as told:
        found = launch.research.backtest(job, told)
    if launch.request.answer is not None:
        launch.request.answer.write_text(json.dumps(found.plain()))
    return _tell(found)


def research(launch: Launch) -> int:
    """What studies and models have found."""
    say(launch.research.compare(launch.paths.root))
    return EXIT_OK


def _tell(found: Validation) -> int:
    say(found.lines)
    mark = "SYNTHETIC " if found.synthetic else ""
    verdict = "passed the gate" if found.passed else "did not pass the gate: it will not trade"
    say([f"{mark}model {found.model}: {verdict}", *(f"{mark}wrote {f}" for f in found.files)])
    return EXIT_OK


def live(launch: Launch) -> int:
    """Real orders: not wired to the gate of the live path yet, and said so."""
    complain(
        f"{NAME} live: orders on {launch.token.exchange} do not pass the gate of docs/live.md yet,"
        " so none is sent; `paper` trades the same bot with live prices and simulated orders"
    )
    return EXIT_UNAVAILABLE


WORK: Final[Mapping[str, Callable[[Launch], int]]] = {
    "blank": blank,
    "backtest": backtest,
    "research": research,
    "paper": paper,
    "live": live,
    "portfolio": portfolio,
}
