"""The pictures of a backtest: equity, drawdown, trades on the price, and what mattered.

Everything drawn is the walk forward, so out of sample, after fees and slippage. Each picture is a
PNG; one HTML file holds the report's lines and all pictures, and needs nothing else to be opened.
Candles no market made are named in the title of every picture.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np

from fleet.domain.units import SCALE
from fleet.research.series import Candles, Floats
from fleet.research.training import open_examination
from fleet.research.training_plan import Choice, Plan
from fleet.research.walk_forward import Stretch, walk
from fleet.strategies import decision as d
from fleet.strategies.rules import Terms

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE: Final = (10.0, 4.0)
DPI: Final = 110
STYLE: Final = "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
WARNING: Final = "SYNTHETIC CANDLES - "


def write_report(
    folder: Path, candles: Candles, manifest: Mapping[str, Any], lines: Sequence[str],
    importance: Mapping[str, float],
) -> list[Path]:  # fmt: skip
    """Draw all pictures into ``folder`` and write ``report.html`` there; the files, HTML first.

    ``candles`` are those the manifest was made of. Raises ``TrainingError`` if they are not enough.
    """
    from matplotlib.figure import Figure

    mpl.use("Agg")
    plan = Plan.of(manifest["plan"])
    kept = tuple(manifest["screening"]["kept"])
    examination, parts, _ = open_examination(candles, plan, Terms(**manifest["terms"]), kept)
    walked = walk(examination, Choice.of(manifest["choice"]), parts.kept_aside)
    shown = parts.candles.rows(walked.first, walked.last)
    title = f"{WARNING if candles.synthetic else ''}{shown.exchange}:{shown.symbol}"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, draw in (
        ("equity", lambda axes: _equity(axes, walked, shown)),
        ("drawdown", lambda axes: _drawdown(axes, walked, shown)),
        ("trades", lambda axes: _trades(axes, walked, shown)),
        ("importance", lambda axes: _importance(axes, importance)),
    ):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(f"{title}: {name}, out of sample after costs")
        draw(axes)  # type: ignore[no-untyped-call]
        files.append(_saved(figure, folder / f"{name}.png"))
    page = folder / "report.html"
    page.write_text(_page(title, lines, files), encoding="utf-8")
    return [page, *files]


def importance_of(storage: optuna.storages.BaseStorage, name: str, seed: int) -> dict[str, float]:
    """How much each parameter explains of the value of the coarse search's trials (fANOVA).

    Shares that sum to 1 (Hutter, Hoos, Leyton-Brown 2014, as Optuna has it); empty if there are too
    few trials, or if all were worth the same.
    """
    import optuna

    study = optuna.load_study(study_name=f"{name}:coarse", storage=storage)
    try:
        return dict(
            optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed)
            )
        )
    except (ValueError, RuntimeError):
        return {}


def _times(candles: Candles) -> Any:
    return (candles.ts + candles.interval_ns).astype("datetime64[ns]")


def _money(values: d.Integers) -> Floats:
    return np.asarray(values / SCALE, dtype=np.float64)


def _equity(axes: Axes, walked: Stretch, candles: Candles) -> None:
    equity = _money(walked.outcome.equity)
    axes.plot(_times(candles), equity, label="model", linewidth=1.2)
    hold = equity[0] * candles.close / candles.close[0]
    axes.plot(_times(candles), hold, label="price, scaled (before costs)", linewidth=0.8, alpha=0.6)
    axes.set_ylabel("quote currency")
    axes.legend()


def _drawdown(axes: Axes, walked: Stretch, candles: Candles) -> None:
    equity = _money(walked.outcome.equity)
    fall = equity / np.maximum.accumulate(equity) - 1.0
    axes.fill_between(_times(candles), 100.0 * fall, 0.0, alpha=0.5)
    axes.set_ylabel("% below the peak")


def _trades(axes: Axes, walked: Stretch, candles: Candles) -> None:
    times, fills = _times(candles), walked.outcome.fills
    axes.plot(times, candles.close, linewidth=0.8, color="grey")
    for label, marker, chosen in (
        ("bought", "^", fills[:, d.QTY] > 0), ("sold", "v", fills[:, d.QTY] < 0),
    ):  # fmt: skip
        rows = fills[chosen]
        axes.plot(times[rows[:, d.BAR]], _money(rows[:, d.PRICE]), marker, label=label)
    axes.set_ylabel("price")
    axes.legend()


def _importance(axes: Axes, importance: Mapping[str, float]) -> None:
    if not importance:
        axes.text(0.5, 0.5, "unknown: too few trials, or all worth the same", ha="center")
        axes.set_axis_off()
        return
    names = sorted(importance, key=importance.__getitem__)
    axes.barh(names, [importance[name] for name in names])
    axes.set_xlabel("share of what the parameters explain (fANOVA)")


def _saved(figure: Figure, file: Path) -> Path:
    figure.savefig(file, dpi=DPI)
    return file


def _page(title: str, lines: Sequence[str], files: Sequence[Path]) -> str:
    told = html.escape("\n".join(lines))
    pictures = "".join(
        f'<p><img alt="{html.escape(file.stem)}" style="max-width:100%" src="data:image/png;base64,'
        f'{base64.b64encode(file.read_bytes()).decode()}"></p>\n'
        for file in files
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><pre>{told}</pre>\n{pictures}</html>\n"
    )
