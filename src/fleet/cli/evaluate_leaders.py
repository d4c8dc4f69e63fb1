"""``fleet evaluate leaders``: would copying the wallets that looked good have paid?

Leaders are chosen on the earlier part of recorded wallets and copied on the later part, late and
with costs, beside random wallets and the top-P&L list. "None is worth copying" is a proper result.
Exit code 0 when it reported, 2 when an option or the folder is not as expected.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE, Price, UnitsError, parse_units

EXIT_OK, EXIT_BAD_INPUT = 0, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet evaluate leaders`` takes."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR",
                        help="folder `trades` of the recorded data")  # fmt: skip
    parser.add_argument("--split", type=instant, metavar="DATE",
                        help="choose before, copy after; ISO 8601, UTC (default: half of the"
                             " picks)")  # fmt: skip
    parser.add_argument("--slippage", type=slippage, metavar="DOLLARS",
                        help="dollars a share a copy pays above the leader (default 0.01)",
                        )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")


def instant(text: str) -> int:
    """An ISO 8601 date as nanoseconds, UTC; for argparse."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ISO 8601 date; write it like 2026-04-01"
        ) from error
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return int(value.timestamp()) * NS_PER_SECOND


def slippage(text: str) -> Price:
    """Dollars a share from 0 to below 1; for argparse."""
    try:
        value = parse_units(text) if text else -1
    except UnitsError as error:
        raise argparse.ArgumentTypeError(f"{error}; write it like 0.01") from error
    if not 0 <= value < SCALE:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to below 1; write it like 0.01")
    return Price(value)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print. Returns the exit code."""
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    from fleet.research.leader_evaluation import Options, evaluate_leaders
    from fleet.research.leader_records import RecordingError
    from fleet.research.leader_report import render, to_json

    default = Options()
    options = Options(
        split_ns=args.split,
        slippage=default.slippage if args.slippage is None else args.slippage,
    )
    try:
        evaluation = evaluate_leaders(args.data, options)
    except RecordingError as error:
        return _fail(str(error))
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(to_json(evaluation), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            return _fail(f"cannot write {args.json}: {error}; name a file in a writable folder")
    print(render(evaluation), end="")
    return EXIT_OK


def _fail(message: str) -> int:
    print(f"fleet evaluate: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
