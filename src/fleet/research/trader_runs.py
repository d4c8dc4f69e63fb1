"""The Trader's pipeline as its launcher asks for it: candles, training, report, registry.

``blank`` and ``backtest`` are the same four stages and the same gate; blank has few trials on few
candles and keeps nothing. Candles come from the file that was given, else the cache, else the
venue; only blank may fall back on made-up ones, and then every line of its report says so. A
backtest that finds no edge records it and ends normally. Nothing here trades.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleet.runtime.trader_research import Job, Moves, ResearchFailed, Told, Validation
from fleet.runtime.trader_tokens import Token

if TYPE_CHECKING:
    from fleet.research.candles import Loaded
    from fleet.research.training import Trained
    from fleet.research.training_plan import Plan
    from fleet.strategies.candles import Scorer
    from fleet.strategies.rules import Rule

SYNTHETIC: Final = "SYNTHETIC"
"""How lines begin that rest on candles no market made."""
BLANK_SHIFTS: Final = 200
OVERLAP_MIN: Final = 100
"""Bars two series must share before their correlation means something."""
STUDY: Final = "trader"
DOWNLOAD_BARS: Final = 20_000
"""How far back a first download reaches if the job names no number of bars."""
FIGURES: Final = ("total_return", "sharpe", "max_drawdown", "trades", "exposure")
THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class TraderRuns:
    """``runtime.trader_research.Research``, over the real research."""

    def blank(self, job: Job, told: Told) -> Validation:
        """The whole pipeline in small; nothing is kept. Raises ``ResearchFailed``."""
        loaded, trained, _ = _trained(job, told, shifts=BLANK_SHIFTS)
        return _validation(job, loaded, trained, model="(a blank run keeps none)")

    def backtest(self, job: Job, told: Told) -> Validation:
        """The whole pipeline; the model and a report with pictures are kept. Raises as above."""
        from fleet.research.registry import Registry
        from fleet.research.trader_pictures import write_report

        loaded, trained, importance = _trained(job, told)
        name = Registry(models(job.root)).save(trained.manifest, trained.content)
        found = _validation(job, loaded, trained, model=name)
        told("report", 0, 1)
        folder = job.root / "var" / "reports" / name
        files = write_report(folder, loaded.candles, trained.manifest, found.lines, importance())
        told("report", 1, 1)
        return _validation(job, loaded, trained, model=name, files=files)

    def fresh(self, job: Job, age_ns: int, now_ns: int) -> Validation | None:
        """The registry's newest passed model of the series, if its data is fresh enough."""
        from fleet.research.intervals import CandlesError, parse_interval
        from fleet.research.registry import Registry
        from fleet.research.training_plan import TrainingError

        try:
            interval_ns = parse_interval(job.interval)
            entry = Registry(models(job.root)).newest(
                job.token.exchange, job.token.symbol, interval_ns
            )
        except (CandlesError, TrainingError) as error:
            raise ResearchFailed(str(error)) from error
        if entry is None:
            return None
        series = entry.manifest["series"]
        if now_ns - int(series["last_ns"]) - interval_ns > age_ns:
            return None
        lines = tuple(_report(entry.manifest, ()))
        return Validation(
            token=str(job.token), interval=job.interval, passed=True, reason="", model=entry.hash,
            synthetic=False, volatility=0.0, lines=lines,
        )  # fmt: skip

    def moves(self, jobs: Sequence[Job]) -> Moves:
        """Volatilities and correlations of what the jobs would be trained on.

        A series without candles has an unknown volatility, and no correlation with any.
        """
        from fleet.research.intervals import CandlesError

        loaded = {}
        for job in jobs:
            try:
                loaded[str(job.token)] = _candles(job)
            except CandlesError:
                continue
        return Moves(
            volatilities={str(j.token): _volatility(loaded.get(str(j.token))) for j in jobs},
            correlations={
                (one, other): correlation(loaded[one], loaded[other])
                for one, other in combinations(loaded, 2)
            },
        )

    def acting(self, root: Path, name: str, token: Token) -> tuple[Rule, Scorer, int]:
        """Rule, opinions and bars needed of a stored model, passed or not: who asks has judged.

        Raises ``ResearchFailed``.
        """
        from fleet.research.registry import Registry
        from fleet.research.scorer import ModelScorer
        from fleet.research.training_plan import TrainingError

        try:
            entry = Registry(models(root)).load(name)
            rule = entry.rule
        except TrainingError as error:
            raise ResearchFailed(str(error)) from error
        scorer = ModelScorer(entry.model, symbol=token.symbol, exchange=token.exchange)
        return rule, scorer, scorer.bars_needed

    def compare(self, root: Path) -> Sequence[str]:
        """A line for each model of the registry and each study. Raises ``ResearchFailed``."""
        from fleet.research.registry import Registry
        from fleet.research.studies import Studies
        from fleet.research.training_plan import TrainingError

        try:
            entries = Registry(models(root)).entries()
            names = Studies(root / "var" / "studies").names()
        except TrainingError as error:
            raise ResearchFailed(str(error)) from error
        rows = [_compared(entry.hash, entry.manifest) for entry in entries]
        head = ("model", "series", "out of sample", "Sharpe", "best rule", "hold", "verdict")
        lines = _table([head, *rows]) if rows else ["no models yet: `run_trader.py backtest`"]
        return [*lines, f"studies: {', '.join(names) or 'none'}"]


def models(root: Path) -> Path:
    """Where the registry lies."""
    return root / "var" / "models"


def _trained(
    job: Job, told: Told, shifts: int = 0
) -> tuple[Loaded, Trained, Callable[[], Mapping[str, float]]]:
    """Candles, what was trained on them, and what says which parameters mattered."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    from fleet.research.intervals import CandlesError
    from fleet.research.studies import in_memory
    from fleet.research.training import train
    from fleet.research.training_plan import TrainingError

    told("candles", 0, 1)
    try:
        loaded = _candles(job)
        told("candles", 1, 1)
        storage = in_memory()
        plan = _plan(job, shifts)
        trained = train(loaded.candles, plan, storage=storage, name=STUDY, progress=told)
    except (CandlesError, TrainingError) as error:
        raise ResearchFailed(str(error)) from error

    def importance() -> Mapping[str, float]:
        from fleet.research.trader_pictures import importance_of

        return importance_of(storage, STUDY, job.seed)

    return loaded, trained, importance


def _plan(job: Job, shifts: int) -> Plan:
    from fleet.research.training_plan import Plan

    usual = Plan(trials=job.trials, seed=job.seed, look_back=job.bars)
    return Plan(trials=job.trials, seed=job.seed, look_back=job.bars, shifts=shifts or usual.shifts)


def _candles(job: Job) -> Loaded:
    from fleet.clock import LiveClock
    from fleet.research.candle_cache import CandleCache
    from fleet.research.candle_sources import Source, open_source
    from fleet.research.candles import obtain
    from fleet.research.intervals import parse_interval

    interval_ns = parse_interval(job.interval)
    since_ns = LiveClock().now_ns() - (job.bars or DOWNLOAD_BARS) * interval_ns

    def source() -> Source:
        return open_source(job.token.exchange, dict(os.environ))

    return obtain(
        symbol=job.token.symbol, exchange=job.token.exchange, interval=job.interval,
        cache=CandleCache(job.root / "var" / "candles"), data=job.data, since_ns=max(0, since_ns),
        bars=job.bars, source=source if job.network else None,
        synthetic_seed=job.seed if job.synthetic else None,
    )  # fmt: skip


def _validation(
    job: Job, loaded: Loaded, trained: Trained, model: str, files: Sequence[Path] = ()
) -> Validation:
    manifest = trained.manifest
    lines = list(_report(manifest, loaded.notes))
    if loaded.candles.synthetic:
        lines = [f"{SYNTHETIC} {line}" for line in lines]
    verdict = manifest["verdict"]
    return Validation(
        token=str(job.token), interval=job.interval, passed=trained.passed,
        reason="" if trained.passed else str(verdict["line"]), model=model,
        synthetic=loaded.candles.synthetic, volatility=yearly_volatility(loaded),
        lines=tuple(lines), files=tuple(str(file) for file in files),
    )  # fmt: skip


def _volatility(loaded: Loaded | None) -> float:
    return 0.0 if loaded is None else yearly_volatility(loaded)


def correlation(one: Loaded, other: Loaded) -> float:
    """Pearson's, of log returns over the bars both have; NaN for fewer than ``OVERLAP_MIN``."""
    import numpy as np

    a, b = one.candles, other.candles
    _, in_a, in_b = np.intersect1d(a.ts, b.ts, return_indices=True)
    if len(in_a) < OVERLAP_MIN:
        return math.nan
    x, y = np.diff(np.log(a.close[in_a])), np.diff(np.log(b.close[in_b]))
    if not float(np.std(x)) > 0.0 or not float(np.std(y)) > 0.0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def yearly_volatility(loaded: Loaded) -> float:
    """Standard deviation of log returns from close to close, scaled to a year of bars."""
    import numpy as np

    from fleet.research.metrics import NS_PER_YEAR

    close = loaded.candles.close
    if len(close) < 3:
        return 0.0
    spread = float(np.std(np.diff(np.log(close)), ddof=1))
    return spread * math.sqrt(NS_PER_YEAR / loaded.candles.interval_ns)


def _report(manifest: Mapping[str, Any], notes: Sequence[str]) -> Iterator[str]:
    series, walked, search = manifest["series"], manifest["walk_forward"], manifest["search"]
    yield from notes
    yield (
        f"{series['exchange']}:{series['symbol']}: {series['bars']} bars to"
        f" {_day(series['last_ns'])} from {series['source']}"
    )
    yield (
        f"{search['trials']} trials ({search['pruned']} pruned), {len(manifest['features'])}"
        f" features kept, out of sample from {_day(walked['first_ns'])} after fees and slippage:"
    )
    rows: list[tuple[str, ...]] = [("", "return", "Sharpe", "drawdown", "trades", "exposure")]
    rows.append(("model", *_figures(walked["model"])))
    rows += [(name, *_figures(rule)) for name, rule in walked["baselines"].items()]
    yield from _table(rows)
    yield f"verdict: {manifest['verdict']['line']}"


def _figures(one: Mapping[str, Any]) -> tuple[str, ...]:
    total, sharpe, drawdown, trades, exposure = (one[name] for name in FIGURES)
    held = _share(exposure).lstrip("+")
    return (_share(total), _number(sharpe), _share(drawdown), str(trades), held)


def _compared(name: str, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    from fleet.research.intervals import format_interval

    series, walked = manifest["series"], manifest["walk_forward"]
    rules = {key: rule["sharpe"] for key, rule in walked["baselines"].items()}
    best = max((value for value in rules.values() if value is not None), default=None)
    what = f"{series['exchange']}:{series['symbol']} {format_interval(series['interval_ns'])}"
    label = f"{SYNTHETIC} {what}" if series["synthetic"] else what
    return (
        name, label, _share(walked["model"]["total_return"]), _number(walked["model"]["sharpe"]),
        _number(best), _number(rules.get("buy_and_hold")), str(manifest["verdict"]["line"]),
    )  # fmt: skip


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows]  # fmt: skip


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.2%}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _day(ts_ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M")
