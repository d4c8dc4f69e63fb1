"""``fleet evaluate forecasts``: judge a forecaster against the price on resolved questions.

Reads a parquet file of resolved questions, fits on the earlier part, reports on the later part and
ends in a verdict; "no edge found" is a proper one. The retrieval memory it needs is made in a
temporary folder and holds this file only; the fleet's own memory is not touched.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fleet.forecasting.port import Memory
    from fleet.research.forecasts import Contender, ForecastEvaluation

EXIT_BAD_INPUT: Final = 2
LLM: Final = "llm:"
KEYLESS: Final = ("statistical", "market", "base-rate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE.parquet",
        help="resolved questions with the market's price at a past moment",
    )
    parser.add_argument(
        "--model",
        type=_model,
        default="statistical",
        metavar="MODEL",
        help=f"{', '.join(KEYLESS)} or llm:NAME (needs a key; default statistical)",
    )
    parser.add_argument(
        "--split",
        type=_instant_ns,
        metavar="DATE",
        help="fit before, report from then on (ISO 8601, UTC; default: where both parts have most"
        " questions)",
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the calibration there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the bootstrap (default 0)"
    )


def run(args: argparse.Namespace) -> int:
    """0 when it reported, 2 when the input is not as expected."""
    # Small arrays: more threads only take cores from the bots beside it.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from fleet.forecasting.port import MemoryFailed
    from fleet.research.forecast_questions import QuestionFileError
    from fleet.research.forecast_report import render, to_json

    for path in (args.json, args.png):
        # Before, not after: the forecasts of a language model take an hour and cost money.
        if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            return _fail(f"cannot write {path}; name a file in a folder that is there and writable")
    try:
        evaluation = _evaluate(args)
        if args.json is not None:
            text = json.dumps(to_json(evaluation), indent=1, allow_nan=False) + "\n"
            args.json.write_text(text, encoding="utf-8")
        if args.png is not None:
            from fleet.research.forecast_plot import draw

            draw(evaluation, args.png)
    except (QuestionFileError, MemoryFailed) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"cannot write: {error}; make room or name a file elsewhere")
    print(render(evaluation), end="")
    return 0


def _evaluate(args: argparse.Namespace) -> ForecastEvaluation:
    from fleet.forecasting.embedded_memory import EmbeddedMemory
    from fleet.forecasting.embedding_cache import CachedEmbedder
    from fleet.forecasting.hashed_ngrams import HashedNgrams
    from fleet.research.forecast_questions import part, read_questions
    from fleet.research.forecasts import evaluate_forecasts

    questions = read_questions(args.data)
    parts = part(questions, args.split)
    with tempfile.TemporaryDirectory(prefix="fleet-evaluate-") as name:
        folder = Path(name)
        embedder = CachedEmbedder(HashedNgrams(), folder / "embeddings.db")
        with EmbeddedMemory(folder, embedder) as memory:
            return evaluate_forecasts(
                questions, parts, memory, _contender(args.model), seed=args.seed
            )


def _contender(model: str) -> Callable[[Memory, int], Contender]:
    from fleet.forecasting.benchmarks import BaseRateForecaster, MarketForecaster
    from fleet.forecasting.statistical import StatisticalForecaster
    from fleet.research.forecasts import Contender

    def contend(memory: Memory, split_ns: int) -> Contender:
        if model == "statistical":
            fixed = StatisticalForecaster(memory, fit_before_ns=split_ns)
            return Contender(name=model, walking=StatisticalForecaster(memory), fixed=fixed)
        if model == "market":
            return Contender(name=model, walking=MarketForecaster(), fixed=MarketForecaster())
        if model == "base-rate":
            until = BaseRateForecaster(memory, until_ns=split_ns)
            return Contender(name=model, walking=BaseRateForecaster(memory), fixed=until)
        return _language_model(model.removeprefix(LLM), memory)

    return contend


def _language_model(name: str, memory: Memory) -> Contender:
    """An LLM by the settings of the fleet's home, asked without news: there is none of back then.

    It may have read the outcomes: only questions asked after its training ended judge it.
    """
    from dataclasses import replace

    from fleet.cli.root import fleet_root
    from fleet.clock import LiveClock
    from fleet.config import ConfigError, Paths, load
    from fleet.forecasting.llm_access import forecaster_from
    from fleet.forecasting.llm_settings import LlmEnv
    from fleet.forecasting.memory import environment
    from fleet.research.forecast_questions import QuestionFileError
    from fleet.research.forecasts import Contender

    paths = Paths(root=fleet_root())
    reasons: list[str] = []
    try:
        settings = load(LlmEnv, environment(paths, os.environ))
    except ConfigError as error:
        raise QuestionFileError(f"settings of the language model: {error}") from error
    made = forecaster_from(
        replace(settings, models=(name,)),
        directory=paths.var / "polyai",
        clock=LiveClock(),
        memory=memory,
        say=reasons.append,
    )
    if made is None:
        raise QuestionFileError("; ".join(reasons))
    return Contender(name=made.name, walking=made, fixed=made, close=made.close)


def _model(text: str) -> str:
    if text in KEYLESS or re.fullmatch(rf"{LLM}\S+", text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is no model; say {', '.join(KEYLESS)} or llm:NAME, such as llm:gpt-5-mini"
    )


def _instant_ns(text: str) -> int:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ISO 8601 date; write it like 2026-01-22"
        ) from error
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(zoned.timestamp()) * 10**9


def _fail(message: str) -> int:
    print(f"fleet evaluate: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
