"""``fleet evaluate``: judge an idea on recorded data and print a report that ends in a verdict.

Subcommands are added in ``add_arguments``. Research modules and polars are imported only when one
runs, so that the other commands start fast and small.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fleet.cli import evaluate_forecasts, evaluate_leaders, evaluate_statarb
from fleet.domain.units import SCALE, UnitsError, parse_units

EXIT_BAD_INPUT = 2
SUBJECTS = (
    (
        "leaders",
        "wallets: chosen on the earlier part, copied on the later part, with costs",
        evaluate_leaders,
    ),
    (
        "forecasts",
        "a forecaster against the market's price: fit earlier, report later, with intervals",
        evaluate_forecasts,
    ),
    (
        "statarb",
        "spreads that ought to hold: walk forward on recorded quotes, with costs",
        evaluate_statarb,
    ),
)
"""The subjects with a module of their own: name, help, module."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``fleet evaluate`` to ``parser``."""
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    sets = subjects.add_parser(
        "sets",
        help="outcome sets: below 1 before and after fees, how long, and what holding paid",
        description="Evaluate outcome sets on recorded best quotes of all legs, with the winners.",
    )
    sets.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with multileg_quotes.parquet and multileg_legs.csv",
    )
    sets.add_argument(
        "--fee-rate",
        type=_ratio,
        metavar="RATE",
        help="one taker fee rate for all, such as 0.05, instead of the rate of each category",
    )
    sets.add_argument(
        "--min-edge",
        type=_ratio,
        metavar="DOLLARS",
        help="least edge after fees of one share a leg (default 0.005)",
    )
    sets.add_argument(
        "--min-yearly-return",
        type=_amount,
        metavar="RATIO",
        help="least yearly return on locked capital, 0.1 is ten per cent (default 0.1)",
    )
    sets.add_argument(
        "--after", type=_instant, metavar="DATE", help="first instant to read, ISO 8601, UTC"
    )
    sets.add_argument(
        "--until", type=_instant, metavar="DATE", help="instant to stop before, ISO 8601, UTC"
    )
    sets.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    sets.set_defaults(evaluate=_run_sets)
    for name, help_text, module in SUBJECTS:
        subject = subjects.add_parser(
            name,
            help=help_text,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subject)
        subject.set_defaults(evaluate=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen evaluation; 0 when it reported, 2 when the input is not as expected."""
    evaluate: Callable[[argparse.Namespace], int] = args.evaluate
    return evaluate(args)


def _amount(text: str) -> int:
    try:
        value = parse_units(text) if text else -1
    except UnitsError as error:
        raise argparse.ArgumentTypeError(f"{error}; write it like 0.05") from error
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not zero or above; write it like 0.05")
    return value


def _ratio(text: str) -> int:
    value = _amount(text)
    if value > SCALE:
        raise argparse.ArgumentTypeError(f"{text!r} is above 1; write it like 0.05")
    return value


def _instant(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ISO 8601 date; write it like 2026-07-14 or 2026-07-14T12:00"
        ) from error
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _fail(message: str) -> int:
    print(f"fleet evaluate: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT


def _run_sets(args: argparse.Namespace) -> int:
    # Two threads are as fast as more here, and polars' memory grows with them.
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    from fleet.research.set_quotes import RecordingError
    from fleet.research.set_report import render, to_json
    from fleet.research.sets import (
        DEFAULT_MIN_EDGE,
        DEFAULT_MIN_YEARLY_RETURN,
        Options,
        evaluate_sets,
    )

    options = Options(
        min_edge=DEFAULT_MIN_EDGE if args.min_edge is None else args.min_edge,
        min_yearly_return=(
            DEFAULT_MIN_YEARLY_RETURN if args.min_yearly_return is None else args.min_yearly_return
        ),
        fee_rate=args.fee_rate,
        after=args.after,
        until=args.until,
    )
    if options.after and options.until and options.after >= options.until:
        return _fail("--after is not before --until; swap or widen them")
    try:
        evaluation = evaluate_sets(args.data, options)
    except RecordingError as error:
        return _fail(str(error))
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(to_json(evaluation), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            return _fail(f"cannot write {args.json}: {error}; name a file in a writable folder")
    print(render(evaluation), end="")
    return 0
