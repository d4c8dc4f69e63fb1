"""``fleet evaluate statarb``: do spreads that ought to hold pay for their cost when they do not?

Walks forward through recorded quotes with the strategy, engine, risk and paper venue that trade.
"No edge found" is a proper result. Exit code 0 when it reported, 2 when an option or the folder is
not as expected.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from fleet.domain.units import SCALE, Qty, UnitsError, parse_units

EXIT_OK, EXIT_BAD_INPUT = 0, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet evaluate statarb`` takes."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR",
                        help="folder of recorded quotes")  # fmt: skip
    parser.add_argument("--days", type=_days, metavar="N",
                        help="read the first N days only")  # fmt: skip
    parser.add_argument("--sample", type=_whole, metavar="N",
                        help="read the N events with most quotes only")  # fmt: skip
    parser.add_argument("--folds", type=_whole, default=3, metavar="N",
                        help="report parts, each with a setting chosen before it (default 3)",
                        )  # fmt: skip
    parser.add_argument("--touch", type=_shares, metavar="SHARES",
                        help="shares assumed at each best price (default 200)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="write the numbers there too; a bot reads from it what is proven",
                        )  # fmt: skip


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days, such as 2") from error
    if not 0 < value < 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0; write it like 2 or 0.5")
    return value


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0, such as 3")
    return int(text)


def _shares(text: str) -> Qty:
    try:
        value = parse_units(text) if text else 0
    except UnitsError as error:
        raise argparse.ArgumentTypeError(f"{error}; write it like 200") from error
    if not 0 < value <= 1_000_000 * SCALE:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0; write it like 200")
    return Qty(value)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print. Returns the exit code."""
    # Two threads are as fast as more here, and polars' memory grows with them.
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fleet.research.statarb_backtest import TOUCH
    from fleet.research.statarb_evaluation import Options, evaluate_statarb
    from fleet.research.statarb_quotes import QuotesError
    from fleet.research.statarb_report import render, to_json

    options = Options(
        days=args.days, events=args.sample, folds=args.folds, touch=args.touch or TOUCH
    )
    try:
        evaluation = evaluate_statarb(args.data, options)
    except QuotesError as error:
        return _fail(str(error))
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(to_json(evaluation), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            return _fail(f"cannot write {args.json}: {error}; name a file in a writable folder")
    print(render(evaluation), end="")
    return EXIT_OK


def _fail(message: str) -> int:
    print(f"fleet evaluate statarb: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
