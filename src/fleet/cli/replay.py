"""``fleet replay FILE...``: recorded frames through ArbHunter's engine; a report and a hash."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from fleet.bots.arbhunter import SPEC
from fleet.cli.root import fleet_root
from fleet.config import MS, ConfigError, Paths, ratio
from fleet.domain.instruments import FeeSchedule
from fleet.runtime.bootstrap import load_settings
from fleet.runtime.replay import ReplaySettings
from fleet.runtime.replay_files import DEFAULT_FEES, replay_and_print
from fleet.runtime.settings import PaperEnv, paper_settings
from fleet.runtime.spec import EXIT_STAY_DOWN


def _share(text: str) -> int:
    try:
        return ratio(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``fleet replay``."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a *.tape.zst or a *.jsonl.gz recording"
    )
    parser.add_argument(
        "--fee-rate",
        type=_share,
        metavar="RATE",
        help="the taker fee rate; frames do not carry one (default: 0.05, sports)",
    )
    parser.add_argument(
        "--watchdog",
        type=_whole,
        default=30,
        metavar="SECONDS",
        help="a longer silence drops the books, as the live feed does; 0 never (default: 30)",
    )
    parser.add_argument(
        "--latency",
        type=_whole,
        metavar="MS",
        help="how long an order travels to the paper venue (default: PAPER_LATENCY_MS)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a file")


def run(arguments: argparse.Namespace) -> int:
    """Replay and print; 0 when done, 2 for a file of no use, 78 for unusable settings."""
    try:
        loaded = load_settings(SPEC, Paths(root=fleet_root()), os.environ)
    except ConfigError as error:
        sys.stderr.write(f"the settings need repair:\n{error}\n")
        return EXIT_STAY_DOWN
    limits = SPEC.limits(loaded)
    paper = paper_settings(loaded.of(PaperEnv))
    if arguments.latency is not None:
        paper = replace(paper, latency_ns=arguments.latency * MS)
    fees = DEFAULT_FEES if arguments.fee_rate is None else FeeSchedule(rate=arguments.fee_rate)
    return replay_and_print(
        arguments.files,
        build=lambda view: SPEC.strategy(loaded, view),
        limits=limits,
        fees=fees,
        settings=ReplaySettings(
            limits=limits,
            paper=paper,
            watchdog_ns=arguments.watchdog * 1000 * MS,
        ),
        as_json=arguments.json,
    )
