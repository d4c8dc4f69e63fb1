"""Which relations hold: estimated on the first part of the window, proven on the part after it.

Theory of operation. The window is cut in two. On the *formation* part each candidate spread must
look stationary (for a pair: the residuals of an Engle-Granger regression whose ratio is near the
one that is traded), with a half-life the bot can trade. On the *validation* part, which nothing was
chosen on, the very spread that would be traded is tested again. Benjamini and Hochberg's procedure
over **all** candidates (one that failed the formation counts with p = 1) bounds the share of false
discoveries; and the level of the spread must not have moved between the parts.

A fit is a function of the window and of nothing else: the same samples give the same relations,
before and after a restart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fleet.domain.instruments import MarketId
from fleet.domain.units import SCALE
from fleet.strategies.statarb_history import History
from fleet.strategies.statarb_relations import Kind, Relation, Relations, pair
from fleet.strategies.statarb_statistics import (
    NS_PER_YEAR,
    Bools,
    Floats,
    adf_p_values,
    adf_statistics,
    benjamini_hochberg,
    digital_price,
    half_lives,
    hedge_ratios,
    moments,
)

FORMATION_LEVEL: Final = 0.10
"""What a spread must reach on the part it is chosen on; the proof comes from the other part."""
COVERED: Final = 0.8
"""The share of the steps of each part in which every leg must have been quoted."""
RATIO: Final = (0.5, 2.0)
"""Pairs are traded one for one: a hedge ratio further off is another pair."""
DRIFT: Final = 1.0
"""How many standard deviations the level may move between the parts."""
MOVES: Final = 8
"""In how many steps of the formation part a market must have moved to be paired."""
CLOSENESS: Final = 0.5
"""The least share of two markets' variance that a one-for-one spread takes away, to be worth a
test: the distance of Gatev, Goetzmann and Rouwenhorst (2006), as a share."""
_VOLATILITIES: Final = (0.05, 4.0, 48)
"""Yearly: from, to, how many between; six per cent apart."""
_STRIP_ROWS: Final = 12
"""So many rows of the formation part a strip's volatility is read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How relations are found. Steps are those of the history's grid; the rest is at 1e-8."""

    formation: int
    validation: int
    false_discovery: int
    broken_level: int
    min_half_life: int
    """In steps, at 1e-8; so is the longest."""
    max_half_life: int
    min_mid: int
    max_candidates: int
    max_pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What the newest fit says of one relation; ``half_life`` is in steps at 1e-8, 0 for none."""

    relation: Relation
    formation_p: float
    validation_p: float
    half_life: int
    proven: bool
    broken: bool
    """Whether it failed out of sample, and over the whole window too: the later part alone is too
    short to condemn what it once proved. What could not be tested is not broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One look at the whole window."""

    tested: Mapping[str, Tested] = field(default_factory=dict)
    candidates: int = 0
    strips: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """The yearly volatility of each strip of digital options."""

    @property
    def proven(self) -> Sequence[Relation]:
        """The relations that passed, in the order they were tested."""
        return [one.relation for one in self.tested.values() if one.proven]


@dataclass(frozen=True, slots=True)
class Signal:
    """Where a spread stands, in integers at 1e-8: ``z`` of one is ``SCALE``.

    ``target`` is what the weighted sum of the legs' YES prices would be at the spread's mean;
    ``sigma`` its standard deviation over the window.
    """

    relation: Relation
    z: int
    target: int
    sigma: int


def fit(
    history: History,
    relations: Relations,
    settings: FitSettings,
    held: Sequence[Relation] = (),
) -> Fit:
    """Test all candidates on the newest window; the ``held`` ones always."""
    window = settings.formation + settings.validation
    if history.known < window:
        return Fit()
    often, covered = _covered(history, settings)
    strips = _strip_volatilities(history, relations, covered, settings)
    column = history.column
    candidates = {
        one.key: one
        for one in relations.fixed
        if _testable(one, covered, often, column)
        and (one.kind is not Kind.THRESHOLD or relations.thresholds[one.legs[0][0]].strip in strips)
    }
    found = _pairs(history, relations, covered, settings)
    room = max(0, settings.max_candidates - len(candidates))
    chosen = [*candidates.values()][: settings.max_candidates] + found[:room]
    keys = {one.key for one in chosen}
    tried = [*chosen, *(one for one in held if one.key not in keys)]
    if not tried:
        return Fit(strips=strips)
    series = spreads(history, relations, strips, tried, window)
    return Fit(
        tested=_test(series, history, tried, len(chosen), settings),
        candidates=len(chosen),
        strips=strips,
    )


def _test(
    series: Floats, history: History, tried: Sequence[Relation], count: int, settings: FitSettings
) -> dict[str, Tested]:
    """Both parts of each spread; only the first ``count`` are candidates, the rest is held."""
    early, late = series[:, : settings.formation], series[:, settings.formation :]
    formation_p = adf_p_values(adf_statistics(early))
    pairs = [i for i, one in enumerate(tried) if one.kind is Kind.PAIR]
    if pairs:
        formation_p[pairs] = _engle_granger(history, [tried[i] for i in pairs], settings)
    validation = adf_statistics(late)
    validation_p = adf_p_values(validation)
    doubtful = np.minimum(validation_p, adf_p_values(adf_statistics(series)))
    lives = half_lives(series)
    early_mean, early_sigma = moments(early)
    late_mean, _ = moments(late)
    with np.errstate(invalid="ignore"):
        steady = np.abs(late_mean - early_mean) <= DRIFT * early_sigma
    quoted = np.isfinite(series)
    enough = (quoted[:, : settings.formation].mean(axis=1) >= COVERED) & (
        quoted[:, settings.formation :].mean(axis=1) >= COVERED
    )
    shortest, longest = settings.min_half_life / SCALE, settings.max_half_life / SCALE
    tradable = (lives >= shortest) & (lives <= longest)
    screened = (formation_p <= FORMATION_LEVEL) & steady & tradable & enough
    judged = np.where(screened, validation_p, 1.0)[:count]
    proven = np.zeros(len(tried), dtype=np.bool_)
    proven[:count] = benjamini_hochberg(judged, settings.false_discovery / SCALE) & screened[:count]
    known = np.isfinite(validation) & enough
    return {
        one.key: Tested(
            relation=one,
            formation_p=formation_p[i].item(),
            # Not a number is above no level: missing quotes are no reason to give up what is held.
            validation_p=validation_p[i].item() if known[i] else math.nan,
            half_life=round(lives[i] * SCALE) if lives[i] <= longest else 0,
            proven=bool(proven[i]),
            broken=bool(known[i] and doubtful[i] > settings.broken_level / SCALE),
        )
        for i, one in enumerate(tried)
    }


def _testable(
    relation: Relation, covered: Bools, often: Bools, column: Mapping[MarketId, int]
) -> bool:
    """Whether all legs are quoted and open; of a whole set two open legs are enough."""
    columns = [column[market] for market, _ in relation.legs]
    if relation.kind is Kind.SET:
        return bool(often[columns].all() and covered[columns].sum() >= 2)
    return bool(covered[columns].all())


def _covered(history: History, settings: FitSettings) -> tuple[Bools, Bools]:
    """The markets quoted often enough in both parts, and those of them not yet near 0 or 1."""
    window = settings.formation + settings.validation
    quoted = np.isfinite(history.mids[-window:])
    early, late = quoted[: settings.formation], quoted[settings.formation :]
    often = (early.mean(axis=0) >= COVERED) & (late.mean(axis=0) >= COVERED)
    with np.errstate(invalid="ignore"):
        last = history.mids[-1]
        edge = settings.min_mid / SCALE
        middling = (last >= edge) & (last <= 1.0 - edge)
    return often, often & middling


def spreads(
    history: History,
    relations: Relations,
    strips: Mapping[tuple[str, int], float],
    wanted: Sequence[Relation],
    rows: int,
) -> Floats:
    """The spread of each relation over the last ``rows`` steps: (relation, step), dollars."""
    column, mids = history.column, history.mids[-rows:]
    series = np.empty((len(wanted), rows))
    for index, relation in enumerate(wanted):
        total = np.zeros(rows)
        for market, weight in relation.legs:
            total = total + weight * mids[:, column[market]]
        if relation.kind is Kind.THRESHOLD:
            total = total - fair_prices(history, relations, strips, relation.legs[0][0], rows)
        series[index] = total
    return series


def fair_prices(
    history: History,
    relations: Relations,
    strips: Mapping[tuple[str, int], float],
    market: MarketId,
    rows: int,
) -> Floats:
    """A digital's price at the underlying and its strip's volatility; ``nan`` where unknown."""
    threshold = relations.thresholds[market]
    volatility = strips.get(threshold.strip)
    index = history.reference.get(threshold.symbol)
    if volatility is None or index is None:
        return np.full(rows, np.nan)
    spot = history.references[-rows:, index]
    years = (threshold.end_ns - history.ends_ns[-rows:]) / NS_PER_YEAR
    at = np.full(rows, volatility)
    return _digital(spot, threshold.low, threshold.high, at, years)


def _digital(
    spot: Floats, low: int | None, high: int | None, volatility: Floats, years: Floats
) -> Floats:
    above: Floats = np.ones_like(spot * volatility * years)
    if low is not None:
        above = digital_price(spot, np.array(low / SCALE), volatility, years)
    if high is not None:
        above = above - digital_price(spot, np.array(high / SCALE), volatility, years)
    return np.where(years > 0, above, np.nan)


def _strip_volatilities(
    history: History, relations: Relations, covered: Bools, settings: FitSettings
) -> dict[tuple[str, int], float]:
    """The one volatility that comes nearest to the prices of each strip on the formation part."""
    window = settings.formation + settings.validation
    rows = np.unique(np.linspace(0, settings.formation - 1, _STRIP_ROWS).astype(np.int64))
    rows = history.rows - window + rows
    strips: dict[tuple[str, int], list[MarketId]] = {}
    for market, threshold in relations.thresholds.items():
        if covered[history.column[market]] and threshold.symbol in history.reference:
            strips.setdefault(threshold.strip, []).append(market)
    found: dict[tuple[str, int], float] = {}
    grid = np.geomspace(*_VOLATILITIES)
    for strip, markets in strips.items():
        symbol, end_ns = strip
        spot = history.references[rows, history.reference[symbol]][None, :]
        years = ((end_ns - history.ends_ns[rows]) / NS_PER_YEAR)[None, :]
        errors = np.zeros(len(grid))
        seen = 0
        for market in markets:
            threshold = relations.thresholds[market]
            fair = _digital(spot, threshold.low, threshold.high, grid[:, None], years)
            miss = np.abs(fair - history.mids[rows, history.column[market]][None, :])
            seen += int(np.isfinite(miss[0]).sum())
            errors += np.where(np.isfinite(miss), miss, 0.0).sum(axis=1)
        if len(markets) >= 2 and seen >= 2 * len(rows) * COVERED:
            found[strip] = grid[int(errors.argmin())].item()
    return found


def _pairs(
    history: History, relations: Relations, covered: Bools, settings: FitSettings
) -> list[Relation]:
    """The pairs whose prices kept together most on the formation part, best first."""
    window = settings.formation + settings.validation
    early = history.mids[-window : -settings.validation]
    changes = np.diff(early, axis=0)
    lively = covered & ((np.isfinite(changes) & (changes != 0)).sum(axis=0) >= MOVES)
    columns = np.flatnonzero(lively)
    if len(columns) < 2 or settings.max_pairs <= 0:
        return []
    level = early[:, columns] - moments(early[:, columns].T)[0]
    level = np.where(np.isfinite(level), level, 0.0)
    shared = level.T @ level
    variance = shared.diagonal()
    together = 2.0 * shared / (variance[:, None] + variance[None, :])
    names = [relations.related(history.markets[i]) for i in columns]
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    group = np.array([codes[name] for name in names])
    allowed = (group[:, None] == group[None, :]) & (np.abs(together) >= CLOSENESS)
    first, second = np.nonzero(np.triu(allowed, k=1))
    strength = np.abs(together[first, second])
    best = np.lexsort((second, first, -strength))[: settings.max_pairs]
    return [
        pair(
            history.markets[columns[first[i]]],
            history.markets[columns[second[i]]],
            together=bool(together[first[i], second[i]] > 0),
        )
        for i in best
    ]


def _engle_granger(history: History, pairs: Sequence[Relation], settings: FitSettings) -> Floats:
    """The p value of each pair on the formation part; 1 if it does not move one for one."""
    window = settings.formation + settings.validation
    early = history.mids[-window : -settings.validation]
    column = history.column
    y = early[:, [column[one.legs[0][0]] for one in pairs]].T
    x = early[:, [column[one.legs[1][0]] for one in pairs]].T
    signs = np.array([-one.legs[1][1] for one in pairs], dtype=np.float64)
    ratio, residual = hedge_ratios(y, x)
    p_values = adf_p_values(adf_statistics(residual, constant=False), variables=2)
    with np.errstate(invalid="ignore"):
        near = (ratio * signs >= RATIO[0]) & (ratio * signs <= RATIO[1])
    return np.where(near, p_values, 1.0)


def signals(
    history: History,
    relations: Relations,
    strips: Mapping[tuple[str, int], float],
    wanted: Sequence[Relation],
    rows: int,
) -> dict[str, Signal]:
    """Where each spread stands in the newest step, against its last ``rows``; unknown ones not."""
    if not wanted:
        return {}
    series = spreads(history, relations, strips, wanted, rows)
    mean, sigma = moments(series)
    found: dict[str, Signal] = {}
    for index, relation in enumerate(wanted):
        now, level, deviation = series[index, -1], mean[index], sigma[index]
        if not (np.isfinite(now) and np.isfinite(deviation) and deviation > 0):
            continue
        raw = sum(w * history.mids[-1, history.column[m]] for m, w in relation.legs)
        found[relation.key] = Signal(
            relation,
            round((now - level) / deviation * SCALE),
            round((raw - (now - level)) * SCALE),
            round(deviation * SCALE),
        )
    return found
