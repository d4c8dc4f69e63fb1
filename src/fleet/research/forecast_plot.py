"""The calibration picture of ``fleet evaluate forecasts``: what was said, and how often it came.

Drawn without a display (matplotlib's Agg canvas, asked for directly, so that no global state is
set); matplotlib is imported when a picture is asked for and not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fleet.research.forecast_questions import text_of
from fleet.research.forecasts import ForecastEvaluation

SHOWN: Final = {
    "price": ("market price", "#555555", "o"),
    "forecast": ("forecast", "#1f77b4", "s"),
    "blend unearned": ("blend, earned or not", "#d62728", "^"),
}
DOTS: Final = 120


def draw(evaluation: ForecastEvaluation, path: Path) -> None:
    """Write a PNG, in one piece. Raises ``OSError`` where that cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--", label="perfect")
    for name, (label, color, marker) in SHOWN.items():
        bins = evaluation.tables[name]
        score = evaluation.scores[name].brier
        axes.plot(
            [one.said for one in bins],
            [one.happened for one in bins],
            color=color,
            marker=marker,
            linewidth=1,
            label=f"{label}, Brier {score:.4f}",
        )
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        xlabel="probability said (mean of a bin of about equal numbers of questions)",
        ylabel="share that came true",
        title=(
            f"{evaluation.model}, {evaluation.asked:.0f} questions asked from"
            f" {text_of(evaluation.parts.split_ns)}"
        ),
    )
    axes.grid(visible=True, color="#eeeeee")
    axes.legend(loc="upper left")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            figure.savefig(file, format="png")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
