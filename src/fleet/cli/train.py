"""Train models on candles, share the work, look at what was found.

`run` screens features, searches, walks forward and judges; each model is stored in var/models with
its manifest, also one that failed. "No edge found" is a normal end. `worker` joins a study that a
`run --study` made, any number of times. Several files of --data fan out over processes or Ray.
Trials of a study are kept in var/studies, or in Postgres if DATABASE_URL is set. docs/training.md
tells more.

Exit codes: 0 done (whatever was found), 1 a series could not be trained on or a model not rebuilt,
2 an argument or file that cannot be used, 78 settings that cannot be used, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dotenv import dotenv_values

from fleet.cli.evaluate_leaders import instant
from fleet.cli.root import fleet_root
from fleet.config import ConfigError, Paths, load, read_env_file
from fleet.domain.units import UnitsError, parse_units

if TYPE_CHECKING:
    from fleet.research.executors import Job
    from fleet.research.registry import Registry
    from fleet.research.search import Progress
    from fleet.research.series import Candles
    from fleet.research.studies import Studies
    from fleet.research.training import Trained
    from fleet.research.training_plan import Plan

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_SETTINGS, EXIT_STOPPED = 0, 1, 2, 78, 130
Results = list[tuple[str, Mapping[str, Any]]]
SYNTHETIC_BARS: Final = 5_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands of ``fleet train``."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_run(verbs.add_parser("run", help="train on candles, judge, store"))
    worker = verbs.add_parser("worker", help="run trials of a study until it has enough")
    worker.add_argument("--data", type=Path, metavar="FILE", help="its candles, if elsewhere here")
    worker.add_argument("--number", type=_whole, default=0, metavar="N",
                        help="tells workers apart (default: the process's)")  # fmt: skip
    verbs.add_parser("studies", help="list studies")
    best = verbs.add_parser("best", help="the best choice of a study so far")
    export = verbs.add_parser("export", help="all trials of a study, as JSON lines")
    for verb in (worker, best, export):
        verb.add_argument("--study", required=True, metavar="NAME")
    export.add_argument("--out", type=Path, metavar="FILE", help="instead of standard output")
    models = verbs.add_parser("models", help="list stored models, the newest data first")
    rebuild = verbs.add_parser("rebuild", help="make a model again and compare it to the bit")
    rebuild.add_argument("hash", metavar="HASH")
    rebuild.add_argument("--data", type=Path, required=True, metavar="FILE")
    for verb in (models, rebuild):
        verb.add_argument("--models", type=Path, metavar="DIR", help="default var/models")


def _add_run(run_: argparse.ArgumentParser) -> None:
    source = run_.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, nargs="+", metavar="FILE", help="candles")
    source.add_argument("--synthetic", type=_whole, metavar="SEED",
                        help="candles no market made, to try the machinery")  # fmt: skip
    run_.add_argument("--symbol", default="", help="of a file whose name does not tell it")
    run_.add_argument("--exchange", default="", help="whose clock and steps to assume")
    run_.add_argument("--interval", default="", help="make longer bars first, such as 4h")
    run_.add_argument("--trials", type=_whole, default=60, metavar="N",
                      help="choices to try, of both searches (default 60)")  # fmt: skip
    run_.add_argument("--look-back", type=_whole, default=0, metavar="BARS",
                      help="learn from the newest bars only")  # fmt: skip
    run_.add_argument("--until", type=instant, metavar="DATE",
                      help="keep bars from here on aside, for a last report")  # fmt: skip
    run_.add_argument("--fee-rate", type=_rate, metavar="RATE", help="a side (default 0.001)")
    run_.add_argument("--slippage", type=_rate, metavar="RATE", help="a side (default 0.0002)")
    run_.add_argument("--seed", type=_whole, default=1, metavar="N")
    run_.add_argument(
        "--study",
        default="",
        metavar="NAME",
        help="keep trials, so that workers can join and a stopped run goes on",
    )
    run_.add_argument("--executor", choices=("processes", "ray"), default="processes",
                      help="where several series are trained")  # fmt: skip
    run_.add_argument("--jobs", type=_whole, default=0, metavar="N",
                      help="series at once (default: one a core)")  # fmt: skip
    run_.add_argument("--address", default="", metavar="HOST:PORT", help="of a Ray cluster")
    run_.add_argument("--models", type=Path, metavar="DIR", help="default var/models")
    run_.add_argument("--json", type=Path, metavar="FILE", help="write the manifests there too")


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 100_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0, such as 60")
    return int(text)


def _rate(text: str) -> int:
    try:
        value = parse_units(text) if text else -1
    except UnitsError as error:
        raise argparse.ArgumentTypeError(f"{error}; write it like 0.001") from error
    if not 0 <= value < 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is outside 0 to 0.1; write it like 0.001")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Do one of them. Returns the exit code."""
    # Two threads of polars are as fast as more here; boosting must have one.
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fleet.research.intervals import CandlesError
    from fleet.research.training_plan import TrainingError

    verbs = {
        "run": _run, "worker": _worker, "studies": _studies, "best": _best, "export": _export,
        "models": _models, "rebuild": _rebuild,
    }  # fmt: skip
    try:
        return verbs[arguments.verb](arguments, Paths(root=fleet_root()))
    except ConfigError as error:
        return _fail(str(error), EXIT_SETTINGS)
    except (CandlesError, TrainingError) as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("stopped; trials of a study are kept", EXIT_STOPPED)


def _fail(message: str, code: int) -> int:
    print(f"fleet train: {message}", file=sys.stderr)
    return code


# --- run -----------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace, paths: Paths) -> int:
    from fleet.research.training_report import render, summary, table, to_json

    jobs = _jobs(arguments, paths)
    registry = _registry(arguments, paths)
    results: Results = []
    failed: dict[str, str] = {}
    for job, trained, reason in _carried_out(arguments, jobs):
        if trained is None:
            failed[_named(job.candles)] = reason
            print(f"fleet train: {_named(job.candles)}: {reason}", file=sys.stderr)
            continue
        name = registry.save(trained.manifest, trained.content)
        results.append((name, trained.manifest))
        print(render(name, trained.manifest))
    results.sort(key=lambda one: _sorting(one[1]))
    if len(jobs) > 1 and results:
        for part in ("walk_forward", "report"):
            if any(manifest[part] is not None for _, manifest in results):
                print(f"{part.replace('_', ' ')}, after costs:\n\n{table(results, part)}")
        print(summary(results), end="")
    if arguments.json is not None:
        text = json.dumps(to_json(results, failed), indent=1) + "\n"
        try:
            arguments.json.write_text(text, encoding="utf-8")
        except OSError as error:
            return _fail(f"cannot write {arguments.json}: {error}", EXIT_BAD_INPUT)
    return EXIT_FAILED if failed else EXIT_OK


def _sorting(manifest: Mapping[str, Any]) -> tuple[str, int]:
    return str(manifest["series"]["symbol"]), int(manifest["series"]["interval_ns"])


def _jobs(arguments: argparse.Namespace, paths: Paths) -> list[Job]:
    from fleet.research.executors import Job
    from fleet.research.intervals import format_interval

    plan, url = _plan(arguments), _database_url(paths) if arguments.study else ""
    loaded = list(_candles(arguments))
    jobs = []
    for file, candles in loaded:
        study = arguments.study
        if study and len(loaded) > 1:
            study = f"{study}-{candles.symbol}-{format_interval(candles.interval_ns)}"
        jobs.append(
            Job(
                candles=candles, plan=plan, data=file, study=study,
                studies=paths.var / "studies", database_url=url,
            )
        )  # fmt: skip
    return jobs


def _candles(arguments: argparse.Namespace) -> Iterator[tuple[Path | None, Candles]]:
    from fleet.research.intervals import parse_interval
    from fleet.research.synthetic import synthetic_candles
    from fleet.research.workers import load_candles

    interval_ns = parse_interval(arguments.interval) if arguments.interval else 0
    if arguments.synthetic is not None:
        bars = arguments.look_back or SYNTHETIC_BARS
        yield None, synthetic_candles(
            bars, seed=arguments.synthetic, interval_ns=interval_ns or parse_interval("1h"),
            symbol=arguments.symbol or "SYNTHETIC", exchange=arguments.exchange or "NOWHERE",
        )  # fmt: skip
        return
    for file in arguments.data:
        yield (
            file,
            load_candles(
                file, symbol=arguments.symbol, exchange=arguments.exchange, interval_ns=interval_ns
            ),
        )


def _plan(arguments: argparse.Namespace) -> Plan:
    from fleet.research.training_plan import Plan

    rates = {
        key: getattr(arguments, key)
        for key in ("fee_rate", "slippage")
        if getattr(arguments, key) is not None
    }
    return Plan(
        trials=arguments.trials, seed=arguments.seed, look_back=arguments.look_back,
        report_from_ns=arguments.until or 0, **rates,
    )  # fmt: skip


def _carried_out(
    arguments: argparse.Namespace, jobs: list[Job]
) -> Iterator[tuple[Job, Trained | None, str]]:
    from fleet.research.executors import carry_out, in_processes, on_ray

    with _progress() as progress:
        if len(jobs) == 1 and arguments.executor == "processes":
            ended = iter([carry_out(0, jobs[0], progress)])
        elif arguments.executor == "ray":
            ended = on_ray(jobs, workers=arguments.jobs, address=arguments.address)
        else:
            ended = in_processes(jobs, workers=arguments.jobs)
        for done, one in enumerate(ended, 1):
            if len(jobs) > 1:
                progress("series", done, len(jobs))
            yield jobs[one.number], one.trained, one.reason


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars for a person at a terminal; nothing for a log."""
    if not sys.stderr.isatty():
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def _named(candles: Candles) -> str:
    return f"{candles.exchange}:{candles.symbol}"


def _registry(arguments: argparse.Namespace, paths: Paths) -> Registry:
    from fleet.research.registry import Registry

    return Registry(arguments.models or paths.var / "models")


def _database_url(paths: Paths) -> str:
    from fleet.forecasting.memory_settings import MemoryEnv

    environment = {**read_env_file(paths.env_file, dotenv_values), **os.environ}
    return str(load(MemoryEnv, environment).database_url.reveal())


# --- studies and models --------------------------------------------------------------------------


def _open_studies(paths: Paths) -> Studies:
    from fleet.research.studies import Studies

    return Studies(paths.var / "studies", _database_url(paths))


def _worker(arguments: argparse.Namespace, paths: Paths) -> int:
    from fleet.research.workers import work

    number = arguments.number or os.getpid()
    with _progress() as progress, _open_studies(paths) as studies:
        found = work(
            studies, arguments.study, worker=number, data=arguments.data,
            progress=progress,
        )  # fmt: skip
    print(f"{arguments.study}: {len(found.tried)} trials, best {found.value:.3f}")
    return EXIT_OK


def _studies(_arguments: argparse.Namespace, paths: Paths) -> int:
    with _open_studies(paths) as studies:
        names = studies.names()
        states = [state for name in names for state in studies.states(name)]
    for state in states:
        best = "-" if state.best is None else f"{state.best:.3f}"
        print(
            f"{state.study:<30} {state.stage:<7} {state.complete:>5} complete"
            f" {state.pruned:>5} pruned {state.failed:>4} failed {state.running:>3} running"
            f"  best {best}"
        )
    if not names:
        print("no studies; `fleet train run --study NAME` makes one")
    return EXIT_OK


def _best(arguments: argparse.Namespace, paths: Paths) -> int:
    from fleet.research.workers import best_of

    with _open_studies(paths) as studies:
        found = best_of(studies, arguments.study)
    told = {"value": found.value, "trials": len(found.tried), **found.choice.plain()}
    print(json.dumps(told, indent=1))
    return EXIT_OK


def _export(arguments: argparse.Namespace, paths: Paths) -> int:
    with _open_studies(paths) as studies:
        stages = studies.trials(arguments.study)
    lines = [
        json.dumps({
            "stage": stage, "number": trial.number, "state": trial.state.name,
            "value": trial.value, "folds": trial.intermediate_values, "params": trial.params,
            "attributes": trial.user_attrs,
        })
        for stage, trials in stages.items()
        for trial in trials
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    if arguments.out is None:
        print(text, end="")
        return EXIT_OK
    try:
        arguments.out.write_text(text, encoding="utf-8")
    except OSError as error:
        return _fail(f"cannot write {arguments.out}: {error}", EXIT_BAD_INPUT)
    return EXIT_OK


def _models(arguments: argparse.Namespace, paths: Paths) -> int:
    from fleet.research.intervals import format_interval, format_time

    entries = _registry(arguments, paths).entries()
    for entry in entries:
        series, verdict = entry.manifest["series"], entry.manifest["verdict"]
        name = f"{series['exchange']}:{series['symbol']} {format_interval(series['interval_ns'])}"
        told = "passed" if entry.passed else f"failed: {', '.join(verdict['reasons'])}"
        print(f"{entry.hash}  {name:<24} to {format_time(series['last_ns'])}  {told}")
    if not entries:
        print("no models; `fleet train run --data FILE` makes one")
    return EXIT_OK


def _rebuild(arguments: argparse.Namespace, paths: Paths) -> int:
    from fleet.research.training import rebuild
    from fleet.research.training_plan import TrainingError
    from fleet.research.workers import load_candles

    entry = _registry(arguments, paths).load(arguments.hash)
    series = entry.manifest["series"]
    candles = load_candles(
        arguments.data, symbol=series["symbol"], exchange=series["exchange"],
        interval_ns=int(series["interval_ns"]),
    )  # fmt: skip
    try:
        content = rebuild(entry.manifest, candles)
    except TrainingError as error:
        return _fail(str(error), EXIT_FAILED)
    print(f"{entry.hash} made again: the same {len(content):,} bytes")
    return EXIT_OK
