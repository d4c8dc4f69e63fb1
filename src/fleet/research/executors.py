"""Many trainings at once: in processes here, or on a Ray cluster; the same results on either.

A job carries its candles, so that another machine needs no files, and its result comes back as a
manifest and a model file; only the caller writes to the registry. Jobs that fail come back as the
reason, in their place: one bad series does not stop the others. Ray is optional: it is imported
when it is asked for. Machines of a cluster need this project installed at the same version.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Final

from fleet.research.intervals import CandlesError
from fleet.research.search import Progress
from fleet.research.series import Candles
from fleet.research.studies import Studies
from fleet.research.training import Trained, train
from fleet.research.training_plan import Plan, TrainingError
from fleet.research.workers import open_study
from fleet.strategies.rules import Terms

WAIT_S: Final = 0.5
OBJECT_STORE_BYTES: Final = 100_000_000
"""Ray would take 30 % of the memory by default; candles of a year of minutes are 25 MB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One training. With ``study`` its trials are kept in ``studies`` or ``database_url``."""

    candles: Candles
    plan: Plan
    terms: Terms | None = None
    data: Path | None = None
    study: str = ""
    studies: Path | None = None
    database_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ended:
    """How job ``number`` ended: with a result, or with the reason there is none."""

    number: int
    trained: Trained | None
    reason: str = ""


def carry_out(number: int, job: Job, progress: Progress | None = None) -> Ended:
    """Do one job, here and now."""
    try:
        if job.study and (job.studies is not None or job.database_url):
            with Studies(job.studies or Path(), job.database_url) as studies:
                trained = open_study(
                    studies, job.study, job.candles, job.plan,
                    data=job.data, terms=job.terms, progress=progress,
                )  # fmt: skip
        else:
            trained = train(job.candles, job.plan, terms=job.terms, progress=progress)
    except (TrainingError, CandlesError, ValueError) as error:
        return Ended(number=number, trained=None, reason=str(error))
    return Ended(number=number, trained=trained)


def in_processes(jobs: Sequence[Job], *, workers: int = 0) -> Iterator[Ended]:
    """Each job in one of ``workers`` processes (0: one a core), results as they come."""
    # Boosting with as many threads as cores in as many processes is hundreds of times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if not jobs:
        return
    with ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        pending = {pool.submit(carry_out, number, job) for number, job in enumerate(jobs)}
        try:
            while pending:
                # Short waits: a Ctrl-C that another thread took is seen at the next one.
                done, pending = futures.wait(
                    pending, timeout=WAIT_S, return_when=futures.FIRST_COMPLETED
                )
                for future in done:
                    yield future.result()
        finally:
            if pending:
                # Asked before the shutdown, which forgets them.
                running = list((pool._processes or {}).values())  # noqa: SLF001
                pool.shutdown(wait=False, cancel_futures=True)
                for process in running:
                    process.terminate()


def _end_with_parent() -> None:
    """In a worker: Ctrl-C is the parent's to handle, and nobody outlives it, however it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def on_ray(jobs: Sequence[Job], *, workers: int = 0, address: str = "") -> Iterator[Ended]:
    """Each job on one core of a Ray cluster at ``address``, or of a local Ray made for it.

    Raises ``TrainingError`` if Ray is not installed or the cluster cannot be reached.
    """
    if any(job.study and not job.database_url for job in jobs):
        raise TrainingError(
            "a study in a file cannot be shared by a cluster: set DATABASE_URL, leave --study out,"
            " or use --executor processes"
        )
    ray = _import_ray()
    owned = not ray.is_initialized()
    if owned:
        _connect(ray, workers, address)
    try:
        task: Callable[..., Any] = ray.remote(carry_out)
        waiting = [
            task.remote(number, ray.put(job))  # type: ignore[attr-defined]
            for number, job in enumerate(jobs)
        ]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            yield from ray.get(done)
    finally:
        if owned:
            ray.shutdown()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise TrainingError(
            "Ray is not installed: install requirements/dev.txt (`make setup`), or use"
            " --executor processes"
        ) from error
    return ray


def _connect(ray: Any, workers: int, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address:
        options["address"] = address
    else:
        options |= {
            "address": "local", "num_cpus": workers or os.cpu_count() or 1,
            "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES,
        }  # fmt: skip
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"no Ray cluster at {address or 'this machine'}: {error}; start one with `ray start"
            " --head`, or use --executor processes"
        ) from error
