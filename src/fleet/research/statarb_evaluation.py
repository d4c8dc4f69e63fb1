"""Judge statistical arbitrage on recorded quotes: walk forward, count every cost, test for chance.

Theory of operation. One run of one setting over the whole recording decides nothing from the
future: relations are estimated and proven on trailing windows. What could be chosen by looking back
is the setting, so it is chosen anew for each report part, by the profit of trades that had *ended*
before that part began, and the trades *opened* in the part are what is reported.

Each setting is run three ways. ``JUDGED``: orders meet the books of the next poll, and only spreads
that promise more than their cost are bought; this alone is judged. ``QUOTED``: the same on the very
books that were seen. ``SIGNALS``: every spread that looked stationary on the formation part alone
is bought whenever it is far enough out, whatever it costs and however much is held already; it
shows whether spreads come back at all before anyone is paid.

A kind is ``PROVEN`` only with enough trades in enough groups, a profit after all costs, and both
permutation tests below a level divided by the number of kinds (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Final

from fleet.domain.units import SCALE, Cash, Qty
from fleet.research.statarb_backtest import (
    TOUCH,
    Backtest,
    SpreadTrade,
    backtest_settings,
    run_backtest,
)
from fleet.research.statarb_permutation import (
    MiddlePrices,
    gross_profits,
    shift_p_value,
    sign_p_value,
)
from fleet.research.statarb_quotes import NS, QuoteRecording, QuotesError, read_quotes
from fleet.strategies.statarb import StatArbSettings
from fleet.strategies.statarb_relations import Kind, Relations

FOLDS: Final = 3
LEVEL: Final = 0.05
LEAST_TRADES: Final = 20
LEAST_GROUPS: Final = 8
GRID: Final = (
    (2 * SCALE, 1), (5 * SCALE // 2, 1), (2 * SCALE, 2), (5 * SCALE // 2, 2),
)  # fmt: skip
"""What may be chosen on the earlier part: entry z, and into how many parts the window is cut."""


class Way(Enum):
    """How a setting is run; the value is what a reader is told."""

    JUDGED = "next poll's books, after costs (this is judged)"
    QUOTED = "the books that were seen, after costs"
    SIGNALS = "all signals, proof and cost left aside, on the books that were seen"


class Finding(Enum):
    """What is known of a kind after the report parts; the value says it in words."""

    ABSENT = "no such relation in this recording"
    UNPROVEN = "no relation held out of sample"
    TOO_DEAR = "relations held, but no spread promised more than its cost"
    LOSES = "lost money after costs"
    TOO_FEW = "too few trades to tell"
    CHANCE = "a profit that chance makes as well"
    PROVEN = "a profit after costs that chance does not make"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user may choose. ``days`` and ``events`` cut the recording down."""

    days: float | None = None
    events: int | None = None
    folds: int = FOLDS
    touch: Qty = TOUCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One step of the walk: the setting chosen before ``start_s``, reported up to ``stop_s``."""

    start_s: int
    stop_s: int
    chosen: int
    fit_trades: int
    fit_net: Cash


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the report parts made, one way, one kind (or all). Dollars in ``gross`` are middle ones.

    ``opened`` of the trades were still open when the recording ended.
    """

    trades: int
    groups: int
    winners: int
    opened: int
    cost: Cash
    gross: float
    net: Cash
    shift_p: float | None
    sign_p: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatArbEvaluation:
    """All numbers of one evaluation; ``statarb_report`` writes them down."""

    folder: str
    recording: QuoteRecording
    options: Options
    grid: tuple[StatArbSettings, ...]
    runs: dict[Way, tuple[Backtest, ...]]
    folds: tuple[Fold, ...]
    outcomes: dict[tuple[Way, Kind | None], Outcome]
    relations: dict[Kind, int]
    """How many relations of each kind the universe names (pairs: found by price, so 0)."""
    findings: dict[Kind, Finding]

    @property
    def proven(self) -> tuple[Kind, ...]:
        """The kinds that may stake real money."""
        return tuple(kind for kind, found in self.findings.items() if found is Finding.PROVEN)


def evaluate_statarb(folder: Path, options: Options) -> StatArbEvaluation:
    """Read the recording in ``folder`` and walk forward through it.

    Raises ``QuotesError`` if it is no recording or too short for one window and its report.
    """
    recording = read_quotes(folder, days=options.days, events=options.events)
    return evaluate_recording(recording, options, folder=str(folder))


def evaluate_recording(
    recording: QuoteRecording, options: Options, *, folder: str = "recording"
) -> StatArbEvaluation:
    """Walk forward through a recording that was read."""
    grid = _grid(StatArbSettings())
    runs = {
        way: tuple(_run(recording, settings, way, options.touch) for settings in grid)
        for way in Way
    }
    bounds = _bounds(recording, grid[-1], options.folds)
    folds = tuple(_choose(runs, start, stop) for start, stop in pairwise(bounds[1:]))
    prices = MiddlePrices(recording)
    outcomes: dict[tuple[Way, Kind | None], Outcome] = {}
    for way in Way:
        trades = _reported(runs[way], folds)
        for kind in (None, *Kind):
            mine = [t for t in trades if kind is None or t.kind is kind]
            outcomes[way, kind] = _outcome(mine, prices, bounds[1])
    relations = _relations(recording, grid[0])
    figures = [run.figures for run in runs[Way.JUDGED]]
    findings = {
        kind: _find(
            outcomes[Way.JUDGED, kind],
            tested=max(f.get(f"tested_{kind.value}", 0) for f in figures),
            proven=max(f.get(f"proven_{kind.value}", 0) for f in figures),
        )
        for kind in Kind
    }
    return StatArbEvaluation(
        folder=folder, recording=recording, options=options, grid=grid, runs=runs, folds=folds,
        outcomes=outcomes, relations=relations, findings=findings,
    )  # fmt: skip


def _grid(base: StatArbSettings) -> tuple[StatArbSettings, ...]:
    return tuple(
        backtest_settings(
            replace(
                base,
                entry_z=entry_z,
                formation=base.formation // parts,
                validation=base.validation // parts,
            )
        )
        for entry_z, parts in GRID
    )


def _run(recording: QuoteRecording, settings: StatArbSettings, way: Way, touch: Qty) -> Backtest:
    if way is Way.SIGNALS:
        settings = replace(
            settings,
            cost_margin=0,
            false_discovery=SCALE,
            broken_level=SCALE,
            max_positions=1_000,
            max_entries=100,
            max_group=Cash(5_000 * SCALE),
        )
    return run_backtest(recording, settings, later=way is Way.JUDGED, touch=touch)


def _bounds(recording: QuoteRecording, shortest: StatArbSettings, folds: int) -> list[int]:
    """The first choice is made on one part after the first window; then part by part.

    Parts have as many polls as each other, because recordings have holes. Raises ``QuotesError``.
    """
    window, step_s = shortest.formation + shortest.validation, shortest.step_ns // NS
    times = [poll.at_s for poll in recording.polls]
    steps = dict.fromkeys(at_s // step_s for at_s in times)
    after = [at_s for at_s in times if at_s // step_s >= [*steps][min(window, len(steps)) - 1]]
    if len(after) < 2 * (folds + 1):
        raise QuotesError(
            f"{recording.name} ends before a window of {window} steps of {step_s} s and"
            f" {folds + 1} parts after it are full; take more --days or fewer --folds"
        )
    starts = [after[len(after) * part // (folds + 1)] for part in range(folds + 1)]
    return [*starts, times[-1] + 1]


def _choose(runs: Mapping[Way, Sequence[Backtest]], start_s: int, stop_s: int) -> Fold:
    """The setting whose judged trades had made most by ``start_s``.

    If none had traded, the one of which most signals had run their course: it can say most.
    """
    ended = {
        way: [[t for t in run.trades if t.closed_s < start_s and not t.open] for run in runs[way]]
        for way in (Way.JUDGED, Way.SIGNALS)
    }
    judged, signals = ended[Way.JUDGED], ended[Way.SIGNALS]
    nets = [sum(t.net for t in trades) for trades in judged]
    traded = [i for i, trades in enumerate(judged) if trades]
    if traded:
        best = max(traded, key=lambda i: (nets[i], -i))
    else:
        best = max(range(len(signals)), key=lambda i: (len(signals[i]), -i))
    return Fold(
        start_s=start_s,
        stop_s=stop_s,
        chosen=best,
        fit_trades=len(judged[best]),
        fit_net=Cash(nets[best]),
    )


def _reported(runs: Sequence[Backtest], folds: Sequence[Fold]) -> list[SpreadTrade]:
    return [
        trade
        for fold in folds
        for trade in runs[fold.chosen].trades
        if fold.start_s <= trade.opened_s < fold.stop_s
    ]


def _outcome(trades: Sequence[SpreadTrade], prices: MiddlePrices, start_s: int) -> Outcome:
    return Outcome(
        trades=len(trades),
        groups=len({trade.groups[0] for trade in trades}),
        winners=sum(trade.net > 0 for trade in trades),
        opened=sum(trade.open for trade in trades),
        cost=Cash(sum(trade.cost for trade in trades)),
        gross=float(gross_profits(trades, prices).sum()),
        net=Cash(sum(trade.net for trade in trades)),
        shift_p=shift_p_value(trades, prices, start_s),
        sign_p=sign_p_value(trades),
    )


def _relations(recording: QuoteRecording, settings: StatArbSettings) -> dict[Kind, int]:
    found = dict.fromkeys(Kind, 0)
    for relation in Relations(recording.universe, max_legs=settings.max_legs).fixed:
        found[relation.kind] += 1
    return found


def _find(outcome: Outcome, *, tested: int, proven: int) -> Finding:
    """The first reason against a kind; ``PROVEN`` if there is none."""
    level = LEVEL / len(Kind)
    if not tested:
        return Finding.ABSENT
    if not proven:
        return Finding.UNPROVEN
    if not outcome.trades:
        return Finding.TOO_DEAR
    if outcome.net <= 0:
        return Finding.LOSES
    if outcome.trades < LEAST_TRADES or outcome.groups < LEAST_GROUPS:
        return Finding.TOO_FEW
    p_values = (outcome.shift_p, outcome.sign_p)
    if any(p is None or p > level for p in p_values):
        return Finding.CHANCE
    return Finding.PROVEN
