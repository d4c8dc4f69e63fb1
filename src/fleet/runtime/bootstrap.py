"""From the command line to a running bot: the one place where implementations are chosen.

Exit codes: 0 asked to stop · 75 a twin or another engine on the same wallet runs · 78 stay down
(settings, kill latch, live refused, accounts that do not agree) · 1 anything a restart may heal.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream

from fleet import logs
from fleet.clock import LiveClock
from fleet.config import (
    PLACES,
    ConfigError,
    Mode,
    Paths,
    load_all,
    read_env_file,
    unknown_keys,
)
from fleet.journal.database import JournalError
from fleet.journal.locks import LockError, TwinRunning
from fleet.journal.locks import acquire as acquire_lock
from fleet.runtime import preflight
from fleet.runtime.session import SessionRefused, Setup, paper_session
from fleet.runtime.settings import SHARED, FleetSettings, PaperEnv, WalletEnv, paper_settings
from fleet.runtime.spec import (
    EXIT_OK,
    EXIT_RETRY,
    EXIT_STAY_DOWN,
    EXIT_TWIN,
    BotSpec,
    Loaded,
)

TWIN_WAIT_S: Final = 10.0
"""Longer than a bot winds down (7 s): after `pm2 resurrect` its twin waits and takes over."""
SECRET_MARKS: Final = ("PRIVATE_KEY", "SECRET", "PASSPHRASE", "API_KEY", "TOKEN", "PASSWORD")
FEEDS: Final = ("sandbox", "polymarket")


def parse_arguments(spec: BotSpec, argv: Sequence[str]) -> argparse.Namespace:
    """Read the flags every bot has; wrong ones end the process with code 2 and usage."""
    parser = argparse.ArgumentParser(
        prog=f"run_{spec.slug}.py",
        description=spec.summary,
        epilog="Settings are read from .env beside this script; see docs/configuration.md. "
        "Exit codes: 0 asked to stop, 75 a twin is running, 78 stay down until a person has "
        "repaired something, 1 a restart may heal it.",
    )
    parser.add_argument(
        "--mode",
        choices=[mode.value for mode in Mode],
        help="paper: live market data, simulated venue (default, unless .env says live); replay:"
        " recorded data, simulated venue; live: real orders, after every check of docs/live.md",
    )
    parser.add_argument(
        "--feed",
        choices=FEEDS,
        help="where market data comes from: the local sandbox (default, unless .env says otherwise)"
        " or Polymarket",
    )
    parser.add_argument(
        "--replay",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="tapes (*.tape.zst) or recordings (*.jsonl.gz) to replay; implies --mode replay",
    )
    parser.add_argument(
        "--duration", type=_positive, metavar="SECONDS", help="stop in order after this long"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="make the checks before trading, print them, end"
    )
    arguments = parser.parse_args(argv)
    if arguments.replay and arguments.mode not in {None, Mode.REPLAY.value}:
        parser.error(f"--replay goes with --mode replay, not {arguments.mode}")
    if arguments.mode == Mode.REPLAY.value and not arguments.replay:
        parser.error("--mode replay needs --replay FILE...")
    arguments.mode = Mode.REPLAY.value if arguments.replay else arguments.mode
    return arguments


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds above 0")
    return value


def main(spec: BotSpec, argv: Sequence[str], environ: MutableMapping[str, str], home: Path) -> int:
    """Run one bot and return its exit code. ``home`` is where the scripts are."""
    arguments = parse_arguments(spec, argv)
    os.umask(0o077)
    paths = Paths(root=Path(environ.get("FLEET_HOME") or home).absolute())
    try:
        loaded = load_settings(spec, paths, environ)
    except ConfigError as error:
        _say(f"{spec.name} cannot start: the settings in {paths.env_file} need repair.\n{error}")
        return EXIT_STAY_DOWN
    start = spec.start(loaded)
    arguments.feed = arguments.feed or start.feed
    loaded = replace(loaded, feed=arguments.feed)
    mode = Mode(arguments.mode or start.mode)
    if mode is Mode.LIVE:
        return _live(spec, arguments, loaded, paths, environ)
    drop_secrets(environ)
    if arguments.dry_run:
        return dry_run(spec, paths, loaded)
    if mode is Mode.REPLAY:
        from fleet.runtime.replay import ReplaySettings
        from fleet.runtime.replay_files import replay_and_print

        limits = spec.limits(loaded)
        return replay_and_print(
            arguments.replay,
            build=lambda view: spec.strategy(loaded, view),
            limits=limits,
            settings=ReplaySettings(limits=limits, paper=paper_settings(loaded.of(PaperEnv))),
        )
    return run_locked(spec, _paper(spec, arguments, loaded), loaded, paths, environ)


def _paper(spec: BotSpec, arguments: argparse.Namespace, loaded: Loaded) -> Setup:
    markets = "simulated markets of the local sandbox"
    if arguments.feed != FEEDS[0]:
        markets = "real market data"
    return Setup(
        mode=Mode.PAPER,
        feed=arguments.feed,
        wallet=f"{Mode.PAPER.value}:{spec.slug}",
        note=f"{markets}, simulated orders: no real money",
        limits=spec.limits(loaded),
        open_session=paper_session,
        duration_s=arguments.duration,
    )


def _live(
    spec: BotSpec,
    arguments: argparse.Namespace,
    loaded: Loaded,
    paths: Paths,
    environ: MutableMapping[str, str],
) -> int:
    """A live start. Everything only it needs is imported here: paper never loads it."""
    from fleet.runtime.live_gate import PhraseRefused
    from fleet.runtime.live_start import live_dry_run, live_setup
    from fleet.runtime.wallet import load_wallet

    try:
        wallet = load_wallet(paths, environ, spec.slug)
        drop_secrets(environ)
        if arguments.dry_run:
            return live_dry_run(spec, loaded, paths, wallet, feed=arguments.feed)
        setup, staged = live_setup(
            spec, loaded, paths, wallet, feed=arguments.feed, duration_s=arguments.duration
        )
    except ConfigError as error:
        _say(f"{spec.name} cannot trade live: the settings need repair.\n{error}")
        return EXIT_STAY_DOWN
    except (PhraseRefused, JournalError) as error:
        _say(f"{spec.name} does not trade live: {error}")
        return EXIT_STAY_DOWN
    except SessionRefused as error:
        _say(f"{spec.name} does not trade live: {error}")
        return error.code
    return run_locked(spec, setup, staged, paths, environ)


def load_settings(spec: BotSpec, paths: Paths, environ: Mapping[str, str]) -> Loaded:
    """All settings of this bot: ``.env``, overruled by the environment. Raises ``ConfigError``."""
    return read_settings(spec.settings, spec.known, paths, environ)


def read_settings(
    own: Sequence[type], known: Sequence[type], paths: Paths, environ: Mapping[str, str]
) -> Loaded:
    """The settings of these types and of those every bot shares. Raises ``ConfigError``."""
    problems: list[str] = []
    pairs = read_env_file(paths.env_file, lambda file: _env_pairs(file, problems))
    problems += [
        f"{key} in {paths.env_file} has no effect: set it in the environment"
        for key in sorted(PLACES & pairs.keys())
    ]
    problems += unknown_keys(pairs, known, ours=True)
    kinds = [*own, *(kind for kind in SHARED if kind is not WalletEnv)]
    try:
        items = load_all(kinds, {**pairs, **environ}, known)
    except ConfigError as error:
        told = {*problems}
        raise ConfigError([*problems, *(p for p in error.problems if p not in told)]) from error
    if problems:
        raise ConfigError(problems)
    return Loaded(items=items)


def _env_pairs(file: Path, problems: list[str]) -> dict[str, str | None]:
    """The pairs of ``.env`` as they stand there; lines that say nothing are ``problems``."""
    pairs: dict[str, str | None] = {}
    with file.open(encoding="utf-8") as lines:
        for binding in parse_stream(lines):
            where = f"{file} line {binding.original.line}"
            if binding.error or (binding.key is not None and binding.value is None):
                problems.append(f"{where} is no setting: write KEY=value, or # before a remark")
            elif binding.key in pairs:
                problems.append(f"{where}: {binding.key} is set a second time: keep one of them")
            elif binding.key is not None:
                pairs[binding.key] = binding.value
    return pairs


def drop_secrets(environ: MutableMapping[str, str]) -> None:
    """Paper has no use for a key; what is not there cannot leak."""
    for key in list(environ):
        if any(mark in key.upper() for mark in SECRET_MARKS):
            del environ[key]


def dry_run(spec: BotSpec, paths: Paths, loaded: Loaded) -> int:
    """Make the checks, print them, change nothing."""
    checks = preflight.run(
        paths,
        bot=spec.slug,
        now_ns=LiveClock().now_ns(),
        disk_free_min_mb=loaded.of(FleetSettings).disk_free_min_mb,
    )
    for check in checks:
        verdict = "ok  " if check.ok else "FAIL"
        cure = f"  ->  {check.problem}" if check.problem else ""
        _say(f"{verdict} {check.name:<13} {check.found}{cure}", stream=sys.stdout)
    failed = [check for check in checks if not check.ok]
    ending = f"{len(failed)} of {len(checks)} checks failed" if failed else "all checks passed"
    _say(f"{spec.name}: {ending}", stream=sys.stdout)
    return EXIT_STAY_DOWN if failed else EXIT_OK


def run_locked(
    spec: BotSpec,
    setup: Setup,
    loaded: Loaded,
    paths: Paths,
    environ: MutableMapping[str, str],
    *,
    level: int = logging.INFO,
) -> int:
    """Run one bot as ``setup`` says, under its lock; the exit code. Lines below ``level`` are
    not written.
    """
    label = f"{spec.name} {setup.mode.value} {setup.feed}"
    try:
        outlets = logs.start(label=label, file=paths.logs / f"{spec.slug}.log", level=level)
    except OSError as error:
        _say(f"{spec.name} cannot write its log: {error}; run ./setup_logs.sh")
        return EXIT_STAY_DOWN
    log = logs.get("bootstrap")
    try:
        with acquire_lock(paths.lock(spec.slug), TWIN_WAIT_S):
            failed = [
                check
                for check in preflight.run(
                    paths,
                    bot="",
                    now_ns=LiveClock().now_ns(),
                    disk_free_min_mb=loaded.of(FleetSettings).disk_free_min_mb,
                )
                if not check.ok
            ]
            for check in failed:
                log.error("PREFLIGHT", check=check.name, found=check.found, cure=check.problem)
            if failed:
                return EXIT_STAY_DOWN
            import uvloop

            from fleet.runtime.bot import Bot

            return uvloop.run(Bot(spec, setup, loaded, paths, environ).run())
    except TwinRunning as error:
        log.error("TWIN", reason=str(error))  # noqa: TRY400 - no defect, no traceback
        return EXIT_TWIN
    except (LockError, JournalError) as error:
        log.error("CANNOT START", reason=str(error))  # noqa: TRY400 - as above
        return EXIT_RETRY
    finally:
        outlets.stop()


def _say(text: str, stream: Any = None) -> None:
    (stream or sys.stderr).write(f"{text}\n")
