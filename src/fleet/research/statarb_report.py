"""Write an evaluation of statistical arbitrage as a text a person reads and as a JSON document.

Must not decide anything: the numbers and findings come from ``statarb_evaluation``. The JSON names
the kinds that are ``proven``; a bot that is given the file may stake real money on those only.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from datetime import UTC, datetime

from fleet.domain.units import format_dollars, format_units
from fleet.research.set_quotes import FEE_RATES, UNKNOWN_FEE_RATE
from fleet.research.statarb_evaluation import (
    LEAST_GROUPS,
    LEAST_TRADES,
    LEVEL,
    Fold,
    Outcome,
    StatArbEvaluation,
    Way,
)
from fleet.research.statarb_permutation import DRAWS, SEED
from fleet.strategies.statarb import NO_EDGE, StatArbSettings
from fleet.strategies.statarb_relations import Kind


def render(evaluation: StatArbEvaluation) -> str:
    """The whole report, folded at 100 columns, ending in the verdict."""
    lines = [
        *_head(evaluation), "", *_tests(evaluation), "", *_walk(evaluation), "",
    ]  # fmt: skip
    for way in Way:
        lines += [*_way(evaluation, way), ""]
    lines += [*_limits(evaluation), "", *_verdict(evaluation)]
    return "".join(f"{_wrap(line)}\n" for line in lines)


def _wrap(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, 100, subsequent_indent=indent) if len(line) > 100 else line


def _time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")


def _head(evaluation: StatArbEvaluation) -> list[str]:
    r = evaluation.recording
    markets = len(r.universe.markets)
    return [
        f"Statistical arbitrage in {evaluation.folder}",
        (f"  {r.rows:,} quotes of {markets} markets ({r.listed} listed; events without any market"
        " that could be a leg are left out)"),
        (f"  {_time(r.polls[0].at_s)} to {_time(r.polls[-1].at_s)} UTC, {len(r.polls)} polls, a"
        f" market every {r.spacing_s} s"),
    ]  # fmt: skip


def _tests(evaluation: StatArbEvaluation) -> list[str]:
    """What was tested, how often, and what passed, with the setting that saw most."""
    lines = [
        "Relations, tested every half hour on trailing windows (per setting, all fits together)"
    ]
    for index, run in enumerate(evaluation.runs[Way.JUDGED]):
        figures = run.figures
        parts = [
            f"{kind.value} {figures.get(f'proven_{kind.value}', 0)} of"
            f" {figures.get(f'tested_{kind.value}', 0)}"
            for kind in Kind
        ]
        lines.append(f"  setting {index + 1}: held out of sample: {', '.join(parts)}")
    return lines


def _setting(settings: StatArbSettings) -> str:
    hours = (settings.formation + settings.validation) * settings.step_ns / 3.6e12
    return f"entry {format_units(settings.entry_z)} sigma, window {hours:.1f} h"


def _walk(evaluation: StatArbEvaluation) -> list[str]:
    lines = ["Walk forward: the setting is chosen on what had ended before each report part"]
    start = evaluation.recording.polls[0].at_s
    lines += [
        (
            f"  fitted {_time(start)} to {_time(fold.start_s)}, reported to {_time(fold.stop_s)}:"
            f" {_setting(evaluation.grid[fold.chosen])} ({_fitted(fold)})"
        )
        for fold in evaluation.folds
    ]
    return lines


def _fitted(fold: Fold) -> str:
    if not fold.fit_trades:
        return "no trade yet; it had most signals"
    return f"{fold.fit_trades} trades had made {format_dollars(fold.fit_net)}"


def _way(evaluation: StatArbEvaluation, way: Way) -> list[str]:
    lines = [
        f"Report parts, {way.value}",
        "  kind       trades groups  won  open       cost  mid gain        net   p shift   p sign",
    ]
    for kind in (*Kind, None):
        o = evaluation.outcomes[way, kind]
        name = kind.value if kind is not None else "all"
        lines.append(
            f"  {name:<10} {o.trades:>6} {o.groups:>6} {o.winners:>4} {o.opened:>5}"
            f" {format_dollars(o.cost):>10} {o.gross:>9.2f} {format_dollars(o.net):>10}"
            f" {_p(o.shift_p):>9} {_p(o.sign_p):>8}"
        )
    refused: Counter[str] = Counter()
    chosen = {fold.chosen for fold in evaluation.folds}
    for index in sorted(chosen):
        figures = evaluation.runs[way][index].figures
        refused.update(
            {k.removeprefix("refused_"): n for k, n in figures.items() if k.startswith("refused_")}
        )
        refused["signals"] += figures.get("signals", 0)
    told = ", ".join(f"{n} {name}" for name, n in sorted(refused.items()) if name != "signals")
    lines.append(f"  signals at a scan {refused['signals']}; not bought: {told or 'none'}")
    return lines


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _limits(evaluation: StatArbEvaluation) -> list[str]:
    rates = {m.category for m in evaluation.recording.universe.markets.values()}
    fees = ", ".join(
        f"{name or 'unknown'} {format_units(FEE_RATES.get(name, UNKNOWN_FEE_RATE))}"
        for name in sorted(rates)
    )
    touch = format_units(evaluation.options.touch)
    return [
        "What is assumed",
        (f"  {touch} shares at each best price and nothing behind it; the NO book mirrors the YES"
        " book; the books between two polls are those of the poll before."),
        f"  Taker fees shares x rate x p x (1 - p) on the way in and out, by category: {fees}.",
        ("  p shift: the same positions at other times, middle prices, before costs; p sign:"
        f" random signs on each group's net; {DRAWS} draws, seed {SEED}."),
        ("  What was open at the end counts at its bids after fees, at its outcome where known, at"
        " nothing without a bid."),
    ]  # fmt: skip


def _verdict(evaluation: StatArbEvaluation) -> list[str]:
    lines = ["Verdict"]
    for kind, finding in evaluation.findings.items():
        lines.append(f"  {kind.value:<10} {finding.name}: {finding.value}")
    judged = evaluation.outcomes[Way.JUDGED, None]
    signals = evaluation.outcomes[Way.SIGNALS, None]
    if evaluation.proven:
        names = ", ".join(kind.value for kind in evaluation.proven)
        lines.append(f"  May stake on {names}: net {format_dollars(judged.net)} after all costs.")
        return lines
    why = f"{judged.trades} trades made {format_dollars(judged.net)} after costs"
    lines.append(
        f"  {NO_EDGE.capitalize()}: {why}. Without proof and whatever it costs,"
        f" {signals.trades} signals gained {signals.gross:.2f} at middle prices and"
        f" {format_dollars(signals.net)} after costs. Nothing may be staked on this."
    )
    lines.append(
        f"  (Proof asks for {LEAST_TRADES} trades in {LEAST_GROUPS} groups, a net profit, and both"
        f" p values at most {LEVEL / len(Kind)}.)"
    )
    return lines


def to_json(evaluation: StatArbEvaluation) -> dict[str, object]:
    """The same as plain data; money is at 1e-8 (``*_e8``), middle gains are dollars."""
    r = evaluation.recording
    return {
        "subject": "statarb",
        "data": evaluation.folder,
        "proven": [kind.value for kind in evaluation.proven],
        "findings": {kind.value: found.name for kind, found in evaluation.findings.items()},
        "from": _time(r.polls[0].at_s),
        "to": _time(r.polls[-1].at_s),
        "markets": len(r.universe.markets),
        "polls": len(r.polls),
        "touch_e8": evaluation.options.touch,
        "folds": [
            {
                "fitted_to": _time(fold.start_s),
                "reported_to": _time(fold.stop_s),
                "entry_z_e8": evaluation.grid[fold.chosen].entry_z,
                "window_steps": evaluation.grid[fold.chosen].formation
                + evaluation.grid[fold.chosen].validation,
                "fit_trades": fold.fit_trades,
                "fit_net_e8": fold.fit_net,
            }
            for fold in evaluation.folds
        ],
        "outcomes": {
            way.name: {
                (kind.value if kind is not None else "ALL"): _flat(evaluation.outcomes[way, kind])
                for kind in (*Kind, None)
            }
            for way in Way
        },
    }


def _flat(o: Outcome) -> dict[str, object]:
    return {
        "trades": o.trades, "groups": o.groups, "winners": o.winners, "open": o.opened,
        "cost_e8": o.cost, "middle_gain": round(o.gross, 6), "net_e8": o.net,
        "shift_p": o.shift_p, "sign_p": o.sign_p,
    }  # fmt: skip
