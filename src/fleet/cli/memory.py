"""Fill, ask and show the retrieval memory, or measure how well it finds.

It lives in var/memory, or in the Postgres of DATABASE_URL, and may be used while PolyAI runs.

  load PATH...      resolved questions, closed markets (Gamma), news or an export, by their columns
  search TEXT       the nearest rows known before a moment
  stats             rows, vectors, and how often the embedding cache had them
  export FILE       every row as a line of JSON; `load` reads it back
  evaluate          how well each embedder finds what belongs together

exit codes: 0 done, 1 the memory cannot be used or nothing was found, 2 wrong input
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.cli.root import fleet_root
from fleet.clock import LiveClock
from fleet.config import ConfigError, Paths, Secret, load
from fleet.forecasting.memory_settings import EMBEDDERS, MemoryEnv
from fleet.forecasting.port import Kind, MemoryFailed

if TYPE_CHECKING:
    from fleet.forecasting.embedded_memory import EmbeddedMemory
    from fleet.forecasting.postgres_memory import PostgresMemory
    from fleet.research.memory_sources import Found

EXIT_FAILED, EXIT_INPUT = 1, 2
BATCH: Final = 1_000
"""Rows of one durable step of `load`."""
SHOWN_CHARS: Final = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet memory`` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    loading = actions.add_parser("load", help="add or replace rows from files or folders")
    loading.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    loading.set_defaults(act=_load)
    searching = actions.add_parser("search", help="the nearest rows")
    searching.add_argument("text", metavar="TEXT")
    searching.add_argument(
        "--before", type=_instant_ns, metavar="DATE",
        help="only what was known before (ISO 8601, UTC; default: now)",
    )  # fmt: skip
    searching.add_argument("--top", type=_positive, default=3, metavar="N", help="default 3")
    searching.add_argument(
        "--kind", choices=[kind.value.lower() for kind in Kind], help="only this kind"
    )
    searching.set_defaults(act=_search)
    stats = actions.add_parser("stats", help="rows, vectors and the embedding cache")
    stats.set_defaults(act=_stats)
    export = actions.add_parser("export", help="every row as a line of JSON")
    export.add_argument("file", type=Path, metavar="FILE.jsonl")
    export.set_defaults(act=_export)
    judging = actions.add_parser("evaluate", help="how well each embedder finds")
    judging.add_argument(
        "--data", type=Path, required=True, metavar="FILE",
        help="a table of questions: parquet or CSV with a column question, and where it has them"
        " descriptions, events, and outcomes with the moments they were asked and known",
    )  # fmt: skip
    judging.add_argument(
        "--embedder", choices=EMBEDDERS, action="append", help="only this one (repeatable)"
    )
    judging.set_defaults(act=_evaluate)


def run(args: argparse.Namespace) -> int:
    """Do it. Returns the exit code."""
    act: Callable[[argparse.Namespace, MemoryEnv, Paths], int] = args.act
    paths = Paths(root=fleet_root())
    try:
        return act(args, load(MemoryEnv, _environment(paths)), paths)
    except ConfigError as error:
        return _fail(str(error), EXIT_INPUT)
    except MemoryFailed as error:
        return _fail(str(error), EXIT_FAILED)


def _environment(paths: Paths) -> dict[str, str]:
    from fleet.forecasting.memory import environment

    return environment(paths, os.environ)


def _opened(settings: MemoryEnv, paths: Paths) -> EmbeddedMemory | PostgresMemory:
    from fleet.forecasting.memory import open_memory

    key = Secret(_environment(paths).get("OPENAI_API_KEY", ""))
    return open_memory(settings, paths, fallback_key=key)


def _fail(message: str, code: int) -> int:
    print(f"fleet memory: {message}", file=sys.stderr)
    return code


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 10000")
    return int(text)


def _instant_ns(text: str) -> int:
    from fleet.research.memory_sources import moment_ns

    found = moment_ns(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ISO 8601 date; write it like 2026-07-14 or 2026-07-14T12:00"
        )
    return found


def _day(moment_ns: int) -> str:
    try:
        return datetime.fromtimestamp(moment_ns / 1e9, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return f"{moment_ns} ns"


def _load(args: argparse.Namespace, settings: MemoryEnv, paths: Paths) -> int:
    from fleet.forecasting.memory import counted
    from fleet.research.memory_sources import SourceError, read

    items = 0
    with _opened(settings, paths) as memory:
        try:
            for path in args.paths:
                for found in read(path):
                    fresh = 0
                    for start in range(0, len(found.items), BATCH):
                        fresh += memory.add(found.items[start : start + BATCH])
                    items += len(found.items)
                    print(_told(found, fresh))
        except SourceError as error:
            return _fail(str(error), EXIT_INPUT)
        print(f"the memory holds {counted(memory)}")
    return 0 if items else EXIT_INPUT


def _told(found: Found, fresh: int) -> str:
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in sorted(found.left_out.items()))
    return f"{found.path}: {found.what}: {len(found.items):,} rows, {fresh:,} new" + (
        f"; left out: {left_out}" if left_out else ""
    )


def _search(args: argparse.Namespace, settings: MemoryEnv, paths: Paths) -> int:
    from fleet.forecasting.memory import FILL, is_made

    if not is_made(settings, paths):
        return _fail(f"the memory is empty; {FILL}", EXIT_FAILED)
    before_ns = LiveClock().now_ns() if args.before is None else args.before
    kinds = [Kind(args.kind.upper())] if args.kind else []
    with _opened(settings, paths) as memory:
        found = memory.search(args.text, before_ns=before_ns, top=args.top, kinds=kinds)
        if not found:
            return _fail(f"nothing was known before {_day(before_ns)}; {FILL}", EXIT_FAILED)
    for one in found:
        item = one.item
        outcome = (
            {1.0: " YES", 0.0: " NO"}.get(item.outcome, "") if item.outcome is not None else ""
        )
        text = " ".join(item.text.split())
        shown = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
        print(f"{one.similarity:.3f} {item.kind.value}{outcome} {_day(item.known_ns)} {shown}")
    return 0


def _stats(_: argparse.Namespace, settings: MemoryEnv, paths: Paths) -> int:
    from fleet.forecasting.memory import FILL, counted, is_made

    if not is_made(settings, paths):
        return _fail(f"the memory is empty; {FILL}", EXIT_FAILED)
    with _opened(settings, paths) as memory:
        vectors, size = memory.embedder.size()
        place = "Postgres (DATABASE_URL)" if settings.database_url else str(paths.var / "memory")
        hits, misses = memory.embedder.totals()
        print(f"place      {place}")
        print(f"rows       {counted(memory)}")
        print(f"embedder   {memory.embedder.name}, {memory.embedder.dim} numbers a vector")
        print(f"cache      {vectors:,} vectors of this embedder, {size / 1e6:.1f} MB in all")
        print(f"asked      {hits + misses:,} texts, {hits:,} from the cache, {misses:,} embedded")
    return 0


def _export(args: argparse.Namespace, settings: MemoryEnv, paths: Paths) -> int:
    from fleet.forecasting.memory import FILL, is_made
    from fleet.research.memory_sources import exported

    if not is_made(settings, paths):
        return _fail(f"the memory is empty; {FILL}", EXIT_FAILED)
    draft: Path = args.file.with_name(f".{args.file.name}.{os.getpid()}.part")
    with _opened(settings, paths) as memory:
        try:
            with draft.open("x", encoding="utf-8") as file:
                items = memory.items()
                for item in items:
                    file.write(json.dumps(exported(item), ensure_ascii=False) + "\n")
            draft.replace(args.file)
        except OSError as error:
            return _fail(
                f"cannot write {args.file}: {error.strerror}; name a file in a writable folder",
                EXIT_INPUT,
            )
        finally:
            draft.unlink(missing_ok=True)
    print(f"{args.file}: {len(items):,} rows")
    return 0


def _evaluate(args: argparse.Namespace, settings: MemoryEnv, paths: Paths) -> int:
    from fleet.forecasting.embedded_memory import CACHE_NAME
    from fleet.forecasting.embedders import embedder_from
    from fleet.forecasting.embedding_cache import CachedEmbedder
    from fleet.forecasting.memory import directory_of
    from fleet.research.memory_quality import measure, read_subjects, render
    from fleet.research.memory_sources import SourceError

    try:
        subjects = read_subjects(args.data)
    except SourceError as error:
        return _fail(str(error), EXIT_INPUT)
    found, missing = [], {}
    for name in args.embedder or EMBEDDERS:
        try:
            inner = embedder_from(
                replace(settings, embedder=name),
                fallback_key=Secret(_environment(paths).get("OPENAI_API_KEY", "")),
            )
            if name == "openai":  # What costs money is asked for once.
                cached = CachedEmbedder(inner, directory_of(paths) / CACHE_NAME)
                try:
                    found.append(measure(subjects, cached))
                finally:
                    cached.close()
            else:
                found.append(measure(subjects, inner))
        except MemoryFailed as error:
            missing[name] = str(error)
    print(render(args.data, found, missing), end="")
    return 0 if found else EXIT_FAILED
