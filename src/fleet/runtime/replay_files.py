"""Replay files from disk and print what was found, one report a file and a total in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from fleet.domain.instruments import FeeSchedule, Universe
from fleet.domain.units import SCALE, format_dollars
from fleet.engine.engine import Strategy
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.journal.tape import FrameKind, TapeError, TapeFrame, read_any
from fleet.runtime.replay import Replay, ReplayReport, ReplaySettings
from fleet.venues.polymarket.recordings import RecordingError, infer_universe
from fleet.venues.polymarket.universe_file import UniverseFileError, find_universe
from fleet.venues.polymarket.wire import Decoder

DEFAULT_FEES = FeeSchedule(rate=5 * SCALE // 100)
"""Recordings carry no fees: the sports rate of 2026-07 (0.05), unless the caller says otherwise."""
EXIT_OK, EXIT_BAD_INPUT = 0, 2


def load_universe(path: Path, fees: FeeSchedule) -> Universe:
    """The markets of one file: those saved beside it, or what its frames tell.

    Raises ``TapeError``, ``RecordingError`` or ``UniverseFileError``.
    """
    saved = find_universe(path)
    if saved is not None:
        return saved
    return infer_universe(
        (f.payload for f in read_any(path) if f.kind is FrameKind.FRAME), fees=fees
    )


def replay_file(
    path: Path,
    *,
    build: Callable[[View], Strategy],
    settings: ReplaySettings,
    fees: FeeSchedule = DEFAULT_FEES,
    frames: Iterable[TapeFrame] | None = None,
) -> ReplayReport:
    """Replay one tape or recording. Raises what ``load_universe`` raises."""
    universe = load_universe(path, fees)
    return Replay(universe, settings, Decoder().decode, build).run(frames or read_any(path))


def replay_and_print(
    files: Sequence[Path],
    *,
    build: Callable[[View], Strategy],
    limits: RiskLimits,
    fees: FeeSchedule = DEFAULT_FEES,
    settings: ReplaySettings | None = None,
    as_json: bool = False,
    out: TextIO | None = None,
) -> int:
    """Replay each file, print its report, then the verdict over all; 2 for a file of no use."""
    stream = out or sys.stdout
    chosen = settings or ReplaySettings(limits=limits)
    reports: list[ReplayReport] = []
    for path in files:
        try:
            report = replay_file(path, build=build, settings=chosen, fees=fees)
        except (TapeError, RecordingError, UniverseFileError) as error:
            sys.stderr.write(f"{path}: {error}\n")
            return EXIT_BAD_INPUT
        reports.append(report)
        if as_json:
            stream.write(json.dumps({"file": path.name, **as_mapping(report)}) + "\n")
        else:
            stream.write("\n".join(render(path.name, report)) + "\n\n")
    if not as_json:
        stream.write("\n".join(verdict(reports)) + "\n")
    return EXIT_OK


def as_mapping(report: ReplayReport) -> dict[str, object]:
    """A report as flat plain data; money as text in dollars."""
    quality, ledger = report.quality, report.ledger
    return {
        "instruments": report.instruments,
        "frames": quality.frames,
        "events": quality.events,
        "rejected": quality.rejected,
        "events_per_s": round(quality.events / report.seconds) if report.seconds else 0,
        "crossed": quality.crossed,
        "moments": quality.moments,
        "mirrored": quality.mirrored,
        "gaps": quality.gaps,
        **report.figures,
        "orders": report.orders,
        "refused": report.refused,
        "bundles": ledger.tried,
        "all_legs_filled": ledger.complete,
        "partial": ledger.partial,
        "missed": ledger.missed,
        "unwinds": ledger.unwinds,
        "unwind_cost": format_dollars(ledger.unwind_cost),
        "edge_expected": format_dollars(ledger.edge_expected),
        "edge_realised": format_dollars(ledger.edge_realised),
        "pnl": format_dollars(report.pnl),
        "fees": format_dollars(report.fees),
        "command_hash": report.command_hash,
        "halted": report.anomalies,
    }


def render(name: str, report: ReplayReport) -> list[str]:
    """One report for a person."""
    q, f, ledger = report.quality, report.figures, report.ledger
    rate = round(q.events / report.seconds) if report.seconds else 0
    tried = ledger.tried
    filled = f"{100 * ledger.complete / tried:.0f} %" if tried else "no bundle was tried"
    edge = (
        f"expected ${format_dollars(ledger.edge_expected)},"
        f" realised ${format_dollars(ledger.edge_realised)}"
    )
    bundles = (
        f"{tried} tried, all legs filled {filled}, partial {ledger.partial},"
        f" missed {ledger.missed}, unwind cost ${format_dollars(ledger.unwind_cost)}"
    )
    kinds = (
        f"{f.get('phantoms', 0)} phantoms, {f.get('stale', 0)} stale,"
        f" {f.get('real', 0)} real before fees, {f.get('opportunities', 0)} after fees"
    )
    rows = {
        "frames": f"{q.frames}, events {q.events}, rejected {q.rejected}",
        "speed": f"{rate} events/s through engine, strategy and paper venue",
        "books": f"crossed or locked after {q.crossed} frames, dropped at {q.gaps} gaps",
        "YES and NO mirror": f"{_share(q.mirrored, q.moments)} of {q.moments} moments",
        "looked profitable": f"{f.get('raw_moments', 0)} frames, {f.get('sightings', 0)} sightings",
        "of these": kinds,
        "bundles": bundles,
        "edge": edge,
        "P&L": f"${format_dollars(report.pnl)} after ${format_dollars(report.fees)} fees",
        "command stream": f"sha256 {report.command_hash}",
    }
    lines = [name, *(f"  {label:<20} {value}" for label, value in rows.items())]
    if report.refused:
        codes = ", ".join(f"{code} {n}" for code, n in report.refused.items())
        lines.append(f"  refused              {codes}")
    if report.anomalies:
        lines.append(f"  HALTED               {report.anomalies}")
    return lines


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "none"


def verdict(reports: Sequence[ReplayReport]) -> list[str]:
    """What all files together say, in plain words."""
    frames = sum(r.quality.frames for r in reports)
    real = sum(r.figures.get("real", 0) for r in reports)
    found = sum(r.figures.get("opportunities", 0) for r in reports)
    sightings = sum(r.figures.get("sightings", 0) for r in reports)
    lines = [
        (
            f"{len(reports)} files, {frames} frames, {sightings} sightings, {real} real,"
            f" {found} after fees."
        )
    ]
    if found:
        pnl = sum(r.pnl for r in reports)
        lines.append(
            f"Verdict: {found} opportunities after fees; paper P&L ${format_dollars(pnl)}."
        )
    elif real:
        lines.append("Verdict: no opportunity after fees; what was real did not pay for its fees.")
    else:
        lines.append(
            "Verdict: no opportunity after fees; nothing outlived its own moment on fresh books."
        )
    return lines
