"""What trainings found, for people and for programs.

Figures are out of sample and after costs, each beside what plain rules and holding made of the same
bars. "No edge found" is said as plainly as a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fleet.research.candles import SYNTHETIC_NOTE
from fleet.research.intervals import format_interval, format_time

COLUMNS: Final = ("return", "Sharpe", "drawdown", "trades", "exposure")
_UNKNOWN: Final = "-"


def render(name: str, manifest: Mapping[str, Any]) -> str:
    """One training as lines; ``name`` is the model's in the registry."""
    series, plan, verdict = manifest["series"], manifest["plan"], manifest["verdict"]
    title = f"{series['exchange']}:{series['symbol']} {format_interval(series['interval_ns'])}"
    fee, slip = plan["fee_rate"] / 1e6, plan["slippage"] / 1e6
    lines = [f"{title}  model {name}"]
    if series["synthetic"]:
        lines.append(f"! {SYNTHETIC_NOTE}")
    search = manifest["search"]
    learnt = f"{format_time(series['first_ns'])} to {format_time(series['last_ns'])} UTC"
    lines.append(f"learnt from {series['bars']:,} bars, {learnt}")
    lines.append(f"fee {fee:g} %, slippage {slip:g} % a side")
    lines.append(_screened(manifest["screening"]))
    lines.append(
        f"search: {search['trials']} trials, {search['pruned']} pruned, best {search['value']:.2f}"
        " (mean Sharpe of folds less half its spread)"
    )
    lines += _stretch("walk forward, out of sample", manifest["walk_forward"])
    if manifest["report"] is not None:
        lines += _stretch("kept aside, model unchanged", manifest["report"])
    lines.append(
        f"deflated Sharpe {_number(verdict['deflated_sharpe'])} over {verdict['trials']} trials,"
        f" timing p {_number(verdict['timing_p'], 3)}, folds that earned"
        f" {_percent(verdict['folds_positive'])}"
    )
    lines.append(f"verdict: {verdict['line']}")
    return "\n".join(lines) + "\n"


def table(results: Iterable[tuple[str, Mapping[str, Any]]], part: str = "report") -> str:
    """A Markdown table, one row a model: returns after costs over ``part`` of each.

    ``part`` is ``report`` (bars kept aside) or ``walk_forward``; models without it are left out.
    """
    head = (
        "| series | model | Sharpe | trades | drawdown | SMA cross | breakout | mean reversion |"
        " buy and hold | passed |"
    )
    rows = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    for _, manifest in results:
        if manifest[part] is None:
            continue
        series, found, model = manifest["series"], manifest[part], manifest[part]["model"]
        rules = found["baselines"]
        cells = [
            f"{series['symbol']} {format_interval(series['interval_ns'])}",
            _percent(model["total_return"]), _number(model["sharpe"]), str(model["trades"]),
            _percent(model["max_drawdown"]),
            *(_percent(rules[kind]["total_return"])
              for kind in ("sma_cross", "breakout", "mean_reversion", "buy_and_hold")),
            "yes" if manifest["verdict"]["passed"] else "no",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def summary(results: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """How many passed, and what spoke against the others."""
    counts: dict[str, int] = {}
    for _, manifest in results:
        for reason in manifest["verdict"]["reasons"]:
            counts[reason] = counts.get(reason, 0) + 1
    passed = sum(manifest["verdict"]["passed"] for _, manifest in results)
    told = ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda i: -i[1]))
    ending = f"; against the others: {told}" if told else ""
    return f"{passed} of {len(results)} passed the gate{ending}\n"


def to_json(
    results: Sequence[tuple[str, Mapping[str, Any]]], failed: Mapping[str, str]
) -> dict[str, Any]:
    """The manifests whole, and the series that could not be trained on with the reason."""
    return {
        "models": [{"hash": name, **manifest} for name, manifest in results],
        "failed": dict(failed),
    }


def _screened(screening: Mapping[str, Any]) -> str:
    chance = ", too few told more than chance: the best were taken" if screening["chance"] else ""
    return f"features: {len(screening['kept'])} of {len(screening['table'])} kept{chance}"


def _stretch(title: str, found: Mapping[str, Any]) -> list[str]:
    span = f"{format_time(found['first_ns'])} to {format_time(found['last_ns'])}"
    rows = [("model", found["model"]), *found["baselines"].items()]
    return [
        f"{title}, {span}:",
        f"  {'':<16}" + "".join(f"{column:>10}" for column in COLUMNS),
        *(
            f"  {name:<16}{_percent(one['total_return']):>10}{_number(one['sharpe']):>10}"
            f"{_percent(one['max_drawdown']):>10}{one['trades']:>10}{_percent(one['exposure']):>10}"
            for name, one in rows
        ),
    ]


def _number(value: float | None, places: int = 2) -> str:
    return _UNKNOWN if value is None else f"{value:.{places}f}"


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.1f} %"
