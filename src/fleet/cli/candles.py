"""Download candles, list what is cached, and check their quality.

`download` brings the bars of a symbol into var/candles and goes on where the last run stopped;
crypto comes through ccxt from any exchange it knows, US stocks from Alpaca (with ALPACA_API_KEY and
ALPACA_SECRET_KEY). `check` reports gaps, duplicates, impossible bars and more, of a file or of the
cache; with --against it also compares them bar by bar with a file of the same or shorter bars.
Nothing is ever filled in. docs/research.md tells more.

Exit codes: 0 done, 1 the venue did not tell what was needed or the bars cannot be used, 2 an
argument or file that cannot be used, 78 settings that cannot be used, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dotenv import dotenv_values

from fleet.cli.evaluate_leaders import instant
from fleet.cli.root import fleet_root
from fleet.clock import NS_PER_DAY, LiveClock
from fleet.config import ConfigError, Paths, read_env_file

if TYPE_CHECKING:
    from fleet.research.candle_cache import CandleCache
    from fleet.research.candle_download import Downloaded, Progress
    from fleet.research.candle_quality import Quality
    from fleet.research.candles import Loaded

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_SETTINGS, EXIT_STOPPED = 0, 1, 2, 78, 130
EXCHANGE: Final = "BINANCE"
INTERVAL: Final = "1h"
DAYS: Final = 365


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands of ``fleet candles``."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    brought = verbs.add_parser(
        "download", help="bring bars into the cache, or bring them up to date"
    )
    brought.add_argument("symbols", nargs="+", metavar="SYMBOL", help="such as ETHUSDT or SPY")
    brought.add_argument("--since", type=instant, metavar="DATE",
                         help=f"first bar, ISO 8601, UTC (default {DAYS} days ago)")  # fmt: skip
    brought.add_argument("--until", type=instant, metavar="DATE",
                         help="stop before this (default: now)")  # fmt: skip
    brought.add_argument("--fresh", action="store_true",
                         help="forget what is cached of it first")  # fmt: skip
    brought.add_argument("--drop-bad", action="store_true",
                         help="leave out bars no market can have made")  # fmt: skip
    shown = verbs.add_parser("list", help="what is cached")
    check = verbs.add_parser("check", help="report what is wrong with a series")
    check.add_argument("target", metavar="FILE|SYMBOL",
                       help="a file or folder of candles, or a symbol of the cache")  # fmt: skip
    check.add_argument("--symbol", default="", help="of a file whose name does not tell it")
    check.add_argument("--against", type=Path, metavar="FILE",
                       help="compare with these bars, of the same interval or shorter")  # fmt: skip
    for verb in (brought, check):
        verb.add_argument("--exchange", default="",
                          help=f"any of ccxt's, or ALPACA (default {EXCHANGE})")  # fmt: skip
        verb.add_argument("--interval", default="",
                          help=f"such as 1m, 15m, 1h, 1d (default {INTERVAL})")  # fmt: skip
    for verb in (brought, shown, check):
        verb.add_argument("--url", default="",
                          help="another host; it has a cache of its own")  # fmt: skip
        verb.add_argument("--json", action="store_true", help="one JSON document instead of lines")


def run(arguments: argparse.Namespace) -> int:
    """Do one of them. Returns the exit code."""
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    from fleet.research.candle_cache import CandleCache
    from fleet.research.intervals import CandlesError

    paths = Paths(root=fleet_root())
    try:
        cache = CandleCache.under(paths.var, arguments.url)
        match arguments.verb:
            case "download":
                environment = {**read_env_file(paths.env_file, dotenv_values), **os.environ}
                return _download(arguments, cache, environment)
            case "check":
                return _check(arguments, cache)
            case _:
                return _list(arguments, cache)
    except ConfigError as error:
        print(f"fleet candles: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except CandlesError as error:
        print(f"fleet candles: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("fleet candles: stopped; what came is stored", file=sys.stderr)
        return EXIT_STOPPED


# --- download ------------------------------------------------------------------------------------


def _download(
    arguments: argparse.Namespace, cache: CandleCache, environment: dict[str, str]
) -> int:
    from fleet.research.intervals import CandlesError, format_time, parse_interval

    interval_ns = parse_interval(arguments.interval or INTERVAL)
    failed = 0
    told: list[dict[str, Any]] = []
    for symbol in arguments.symbols:
        try:
            found = asyncio.run(_bring(arguments, cache, environment, symbol, interval_ns))
        except CandlesError as error:
            print(f"fleet candles: {symbol}: {error}", file=sys.stderr)
            failed += 1
            continue
        told.append(_summary(found))
        if not arguments.json:
            _tell(found)
            first_ns = int(found.candles.ts[0])
            if arguments.since is not None and first_ns >= arguments.since + NS_PER_DAY:
                print(f"  nothing before {format_time(first_ns)}: the venue has no older bars")
    if arguments.json:
        print(json.dumps(told, indent=1))
    return EXIT_FAILED if failed else EXIT_OK


async def _bring(
    arguments: argparse.Namespace, cache: CandleCache, environment: dict[str, str],
    symbol: str, interval_ns: int,
) -> Downloaded:  # fmt: skip
    from fleet.research.candle_download import download
    from fleet.research.candle_sources import open_source

    source = open_source(arguments.exchange or EXCHANGE, environment, url=arguments.url)
    since_ns = arguments.since
    if since_ns is None:
        since_ns = (LiveClock().now_ns() // NS_PER_DAY - DAYS) * NS_PER_DAY
    try:
        with _progress(symbol) as progress:
            return await download(
                source, cache, symbol, interval_ns, since_ns=since_ns, until_ns=arguments.until,
                fresh=arguments.fresh, drop_bad=arguments.drop_bad, progress=progress,
            )  # fmt: skip
    finally:
        await source.close()


def _progress(symbol: str) -> AbstractContextManager[Progress | None]:
    """A bar for a person at a terminal; nothing for a log."""
    if not sys.stderr.isatty():
        return nullcontext(None)
    from fleet.cli.candle_progress import Bar

    return Bar(symbol)


def _tell(found: Downloaded) -> None:
    for line in found.quality.lines():
        print(line)
    again = f", {found.retries} tries repeated" if found.retries else ""
    gone = f", {found.gaps_left} gaps the venue has no bars for" if found.gaps_left else ""
    print(f"  {found.added:,} bars added in {found.pages} pages{again}{gone}")


def _summary(found: Downloaded) -> dict[str, Any]:
    return {
        **_quality_json(found.quality),
        "added": found.added,
        "revised": len(found.revised),
        "pages": found.pages,
        "retries": found.retries,
        "unclosed": found.unclosed,
        "gaps_left": found.gaps_left,
        "digest": found.candles.digest,
    }


# --- list and check ------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace, cache: CandleCache) -> int:
    from fleet.research.intervals import format_interval, format_time

    series = cache.series()
    if arguments.json:
        told = [
            {
                "exchange": one.exchange, "symbol": one.symbol,
                "interval": format_interval(one.interval_ns), "bars": one.bars,
                "first_ns": one.first_ns, "last_ns": one.last_ns, "bytes": one.size_bytes,
            }
            for one in series
        ]  # fmt: skip
        print(json.dumps(told, indent=1))
        return EXIT_OK
    for one in series:
        name = f"{one.exchange}:{one.symbol}"
        span = f"{format_time(one.first_ns)} to {format_time(one.last_ns)}"
        size = one.size_bytes / 1e6
        interval = format_interval(one.interval_ns)
        print(f"{name:<24} {interval:>4} {one.bars:>10,} bars  {span}  {size:.1f} MB")
    if not series:
        print("nothing is cached; bring some with `fleet candles download ETHUSDT`")
    return EXIT_OK


def _check(arguments: argparse.Namespace, cache: CandleCache) -> int:
    from fleet.research.candles import FOUND

    loaded, quality = _target(arguments, cache)
    told: dict[str, Any] = _quality_json(quality)
    lines = quality.lines()
    if arguments.against is not None and loaded is not None:
        told["against"], compared = _compared(loaded, arguments.against)
        lines += compared
    if arguments.json:
        print(json.dumps(told, indent=1))
    else:
        notes = loaded.notes if loaded is not None else ()
        for line in [*(f"! {note}" for note in notes if not note.startswith(FOUND)), *lines]:
            print(line)
        if not quality.usable:
            print("these bars cannot be used; --drop-bad leaves the refused ones out")
    return EXIT_OK if quality.usable else EXIT_FAILED


def _target(arguments: argparse.Namespace, cache: CandleCache) -> tuple[Loaded | None, Quality]:
    """What was asked for; the candles only if its bars can be used."""
    from fleet.research.candle_files import read_file
    from fleet.research.candle_quality import inspect
    from fleet.research.candles import load_cached, load_file
    from fleet.research.intervals import CandlesError, parse_interval

    path = Path(arguments.target)
    named = {"symbol": arguments.symbol, "exchange": arguments.exchange}
    if path.exists() or "." in arguments.target or "/" in arguments.target:
        found = read_file(path, interval=arguments.interval, **named)
        quality = inspect(
            found.rows, symbol=found.symbol, exchange=found.exchange,
            interval_ns=found.interval_ns,
        )  # fmt: skip
        if not quality.usable:
            return None, quality
        return load_file(path, interval=arguments.interval, **named), quality
    exchange, interval = arguments.exchange or EXCHANGE, arguments.interval or INTERVAL
    loaded = load_cached(cache, exchange, arguments.target, parse_interval(interval))
    if loaded is None:
        raise CandlesError(
            f"there is no file {arguments.target}, and {exchange}:{arguments.target} {interval} is"
            " not cached; see `fleet candles list`"
        )
    return loaded, loaded.quality


def _compared(loaded: Loaded, file: Path) -> tuple[dict[str, Any], list[str]]:
    from fleet.research.candles import differences, load_file

    found = differences(loaded.candles, load_file(file).candles)
    told = {"shared": found.shared, **{name: len(ts) for name, ts in found.times.items()}}
    return told, [f"against {file.name}: {found.shared:,} bars in both", *found.lines()]


def _quality_json(quality: Quality) -> dict[str, Any]:
    from fleet.research.intervals import format_interval

    return {
        "exchange": quality.exchange, "symbol": quality.symbol,
        "interval": format_interval(quality.interval_ns), "bars": quality.bars,
        "first_ns": quality.first_ns, "last_ns": quality.last_ns, "usable": quality.usable,
        "findings": [
            {"kind": one.kind, "count": one.count, "note": one.note, "times_ns": one.times,
             "refused": one.refused}
            for one in quality.findings
        ],
    }  # fmt: skip
