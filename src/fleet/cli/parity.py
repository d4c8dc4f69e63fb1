"""Show whether paper keeps what it promises: ALLOW, NOT YET or REFUSE, with figures and reasons.

Judged are the orders of paper sessions on one market place by the live quotes at the time each
would have arrived and, once the bot has traded live, its live orders the same way.

Exit codes: 0 a live start is allowed, 1 not yet, 78 refused, or a file cannot be read.

--json prints one object: bot, feed, today, stage (percent, reason), and paper and live, each with
standing, reasons, days, kept_bounds, slippage_bounds_bps, figures and by_day. Bounds are one-sided,
95 %, null where nothing bounds them. Shares are 0 to 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

from fleet.bots.arbhunter import SPEC as ARBHUNTER
from fleet.cli.doctor import bot_of
from fleet.cli.root import fleet_root
from fleet.clock import LiveClock
from fleet.config import ConfigError, Paths
from fleet.journal.database import JournalError
from fleet.runtime.bootstrap import FEEDS, load_settings
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.live_standing import LiveStanding, standing
from fleet.runtime.parity_store import utc_day
from fleet.runtime.parity_verdict import ParityVerdict, Standing
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN
from fleet.runtime.staging import Stage

COLUMNS = (
    "DAY", "ORDERS", "UNKNOWN", "IDEAS", "KEPT", "FILLED", "QUOTED", "WORSE BPS", "P95", "TICKS",
    "PHANTOM",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``fleet parity``."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--bot", type=bot_of, default=ARBHUNTER, metavar="NAME",
                        help="the bot (default: ArbHunter)")  # fmt: skip
    parser.add_argument("--feed", choices=FEEDS, default=FEEDS[0],
                        help="the market place: the local sandbox (default) or Polymarket",
                        )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Judge and print. Returns the exit code."""
    paths = Paths(root=fleet_root())
    spec, feed = arguments.bot, arguments.feed
    now_ns = LiveClock().now_ns()
    try:
        env = load_settings(spec, paths, os.environ).of(LiveEnv)
        stands = standing(paths, spec.slug, feed, env, now_ns=now_ns)
    except (ConfigError, JournalError) as error:
        print(f"fleet parity: {error}", file=sys.stderr)
        return EXIT_STAY_DOWN
    if arguments.json:
        shown = document(stands, bot=spec.name, feed=feed, today=utc_day(now_ns))
        print(json.dumps(shown, indent=2))
    else:
        _print(stands, f"{spec.name} on {feed}")
    if stands.decision.stage is not Stage.NONE:
        return EXIT_OK
    refused = Standing.REFUSE in {stands.paper.standing, stands.live.standing}
    return EXIT_STAY_DOWN if refused else EXIT_RETRY


def document(stands: LiveStanding, *, bot: str, feed: str, today: str) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "bot": bot,
        "feed": feed,
        "today": today,
        "stage": {"percent": int(stands.decision.stage), "reason": stands.decision.reason},
        "paper": _verdict(stands.paper),
        "live": _verdict(stands.live),
    }


def _verdict(verdict: ParityVerdict) -> dict[str, Any]:
    return {
        "standing": verdict.standing.value,
        "reasons": list(verdict.reasons),
        "days": verdict.days,
        "kept_bounds": [_finite(bound) for bound in verdict.kept_bounds],
        "slippage_bounds_bps": [_finite(bound) for bound in verdict.slippage_bounds],
        "figures": verdict.figures.as_json(),
        "by_day": {day: figures.as_json() for day, figures in verdict.by_day.items()},
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _print(stands: LiveStanding, title: str) -> None:
    print(f"{title}: next live start at {int(stands.decision.stage)} % of the limits"
          f" ({stands.decision.reason})")  # fmt: skip
    for name, verdict in (("paper", stands.paper), ("live", stands.live)):
        if name == "live" and not verdict.by_day:
            continue
        print(f"\n{name}: {verdict.standing.value}")
        for reason in verdict.reasons:
            print(f"  {reason}")
        if verdict.by_day:
            print(_table(verdict))


def _table(verdict: ParityVerdict) -> str:
    rows = [COLUMNS]
    for day, f in (*verdict.by_day.items(), ("judged", verdict.figures)):
        rows.append(
            (
                day, str(f.orders), str(f.unknown), str(f.ideas), str(f.ideas_kept),
                f"{f.fill_rate:.1%}", f"{f.quote_rate:.1%}", f"{f.slippage_bps:+.1f}",
                f"{f.slippage_p95_bps:+.1f}", f"{f.slippage_ticks:+.2f}", f"{f.phantom:.1%}",
            )
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
