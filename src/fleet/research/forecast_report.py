"""The report of ``fleet evaluate forecasts``: text for a person, numbers for a program, a verdict.

The verdict is made of numbers only. Where it may bet, two things agree: the earlier part earned a
weight, and the later part, which nothing was chosen on, confirms it after correction for the number
of sources looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from fleet.forecasting.calibration import SIGNIFICANCE
from fleet.forecasting.scoring import Bin, Paired
from fleet.research.forecast_questions import text_of
from fleet.research.forecast_scores import COLUMNS, Score, Slice
from fleet.research.forecasts import ForecastEvaluation

TOLD: Final = {
    "price": "the market's price when asked",
    "base rate": "of source and horizon, from the earlier part",
    "forecast": "the forecaster's own probability",
    "calibrated": "after its line of the earlier part (Platt)",
    "blend unearned": "with the price, by the fitted weight, earned or not",
    "blend": "with the price, by what was earned: this is what trades",
}


def may_bet(evaluation: ForecastEvaluation) -> tuple[str, ...]:
    """Sources whose weight was earned before the split and whose gain is confirmed after it."""
    return tuple(
        one.name
        for one in evaluation.sources
        if one.weight > 0.0 and one.difference.high < 0.0 and one.p_adjusted < SIGNIFICANCE
    )


def verdict(evaluation: ForecastEvaluation) -> str:
    """One sentence or two: where it may bet, or that no edge was found, with the figures."""
    score = evaluation.scores["blend"]
    found = score.against_price
    figures = (
        f"on {evaluation.asked:.0f} later questions of {evaluation.events} events the blend's"
        f" Brier score is {score.brier:.4f}, the price's {evaluation.scores['price'].brier:.4f}:"
        f" difference {_interval(found)}"
    )
    places = may_bet(evaluation)
    earned = [one.name for one in evaluation.sources if one.weight > 0.0]
    if places:
        return f"edge found in {', '.join(places)}: it may bet there and nowhere else; {figures}."
    if earned:
        return (
            f"no edge found: a weight was earned before the split in {', '.join(earned)}, and the"
            f" later part does not confirm it; {figures}."
        )
    tail = ""
    if evaluation.model != "market":
        unearned = evaluation.scores["blend unearned"].against_price
        tail = f" With the weight it did not earn the difference is {_interval(unearned)}."
    return f"no edge found: the weight is 0, the blend is the price, no stake; {figures}.{tail}"


def render(evaluation: ForecastEvaluation) -> str:
    """The whole report, ending in the verdict."""
    return "\n".join(_lines(evaluation)) + "\n"


def _lines(e: ForecastEvaluation) -> Iterator[str]:
    split = text_of(e.parts.split_ns)
    out = ", ".join(f"{n} {reason}" for reason, n in e.questions.left_out.items() if n)
    yield f"Forecaster {e.model} on {e.questions.path}"
    yield f"left out: {out or 'nothing'}"
    for name, rows in (("earlier", e.parts.earlier), ("later", e.parts.later)):
        asked = [one.question.as_of_ns for one in rows]
        count = len({one.question.id for one in rows})
        yes = sum(one.outcome for one in {o.question.id: o for o in rows}.values())
        yield (
            f"{name} part: asked {text_of(min(asked))} to {text_of(max(asked))},"
            f" {len(rows)} rows, {count} questions, {yes:.0f} of them YES"
        )
    yield (
        f"fitted on what was asked and due before {split}, reported on what was asked from {split};"
        f" {e.parts.between} rows lie in neither part"
    )
    if e.failures:
        yield f"{e.failures} forecasts failed and are left out, the first: {e.first_failure}"
    if e.cost_usd:
        yield f"cost of all forecasts: ${e.cost_usd:.4f}"
    yield ""
    yield f"Scores of the later part ({e.rows} rows, {e.asked:.0f} questions, {e.events} events)"
    yield (
        f"  {'':<15} {'Brier':>7} {'log':>7} {'skill':>7} {'skill':>7}  Brier difference to the"
        " price, 95 %"
    )
    yield f"  {'':<15} {'':>7} {'':>7} {'price':>7} {'base':>7}"
    for name in COLUMNS:
        yield _score_line(name, e.scores[name])
    yield ""
    yield from (f"  {name}: {TOLD[name]}" for name in COLUMNS)
    yield ""
    yield "What the earlier part earned (difference out of sample, within it)"
    yield from (f"  {one.verdict}" for one in e.calibration.table())
    for title, slices in (
        ("By source, later part", e.sources),
        ("By horizon, later part", e.horizons),
        ("By whether the file covers its close, later part", e.timing),
    ):
        yield ""
        yield from _slice_lines(title, slices)
    for name in ("price", "blend unearned"):
        yield ""
        yield from _table_lines(f"Calibration of: {name}", e.tables[name])
    yield ""
    yield f"Verdict: {verdict(e)}"


def _score_line(name: str, score: Score) -> str:
    return (
        f"  {name:<15} {score.brier:7.4f} {score.log:7.4f} {score.skill_price:+7.3f}"
        f" {score.skill_base_rate:+7.3f}  {_interval(score.against_price)}"
    )


def _slice_lines(title: str, slices: Sequence[Slice]) -> Iterator[str]:
    yield title
    yield (
        f"  {'':<26} {'n':>5} {'events':>6} {'YES':>6} {'price':>7} {'forecast':>8} {'weight':>6}"
        "  blend - price | unearned blend - price, 95 %, adjusted p"
    )
    for one in slices:
        weight = "" if math.isnan(one.weight) else f"{one.weight:.2f}"
        yield (
            f"  {one.name:<26} {one.questions:5.0f} {one.events:6} {one.happened:6.3f}"
            f" {one.price:7.4f} {one.forecast:8.4f} {weight:>6}  {one.difference.mean:+13.4f} |"
            f" {_interval(one.unearned)} p {one.p_adjusted:.3f}"
        )


def _table_lines(title: str, bins: Sequence[Bin]) -> Iterator[str]:
    yield title
    yield f"  {'from':>7} {'to':>7} {'said':>7} {'came':>7} {'n':>6}"
    for one in bins:
        yield (
            f"  {one.low:7.4f} {one.high:7.4f} {one.said:7.4f} {one.happened:7.4f}"
            f" {one.questions:6.1f}"
        )


def _interval(found: Paired) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def to_json(evaluation: ForecastEvaluation) -> dict[str, Any]:
    """The same numbers; what is not a finite number is null."""
    e = evaluation
    content = {
        "model": e.model,
        "file": e.questions.path,
        "left_out": dict(e.questions.left_out),
        "split": text_of(e.parts.split_ns),
        "earlier": _part_json(e.parts.earlier),
        "later": _part_json(e.parts.later),
        "between_rows": e.parts.between,
        "failures": e.failures,
        "cost_usd": e.cost_usd,
        "seed": e.seed,
        "events": e.events,
        "scores": {name: asdict(score) for name, score in e.scores.items()},
        "sources": [asdict(one) for one in e.sources],
        "horizons": [asdict(one) for one in e.horizons],
        "timing": [asdict(one) for one in e.timing],
        "calibration": {name: [asdict(b) for b in bins] for name, bins in e.tables.items()},
        "earned": [asdict(one) for one in e.calibration.table()],
        "may_bet": list(may_bet(e)),
        "verdict": verdict(e),
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def _part_json(rows: Sequence[Any]) -> dict[str, Any]:
    asked = [one.question.as_of_ns for one in rows]
    return {
        "asked_from": text_of(min(asked)),
        "asked_to": text_of(max(asked)),
        "rows": len(rows),
        "questions": len({one.question.id for one in rows}),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
