"""Many hands on one study: real processes, one of them killed; Postgres; a Ray of two nodes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fleet.research.executors import Job, carry_out, on_ray
from fleet.research.studies import Studies
from fleet.research.training import train
from fleet.research.training_plan import TrainingError
from fleet.research.workers import best_of, work
from tests.contract.memory_worlds import fresh_database, postgres_server
from tests.training_world import SMALL, candles
from tests.unit.test_training_command import write

PATIENCE_S = 120.0


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "FLEET_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("DATABASE_URL", None)
    return subprocess.Popen(
        [sys.executable, "-m", "fleet.cli.main", "train", *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def workers_of(studies: Studies, name: str) -> set[int]:
    try:
        trials = studies.trials(name)
    except TrainingError:
        return set()
    return {
        int(trial.user_attrs["worker"])
        for stage in trials.values()
        for trial in stage
        if "worker" in trial.user_attrs
    }


@pytest.mark.slow
def test_workers_share_a_study_and_one_may_be_killed(tmp_path: Path) -> None:
    data = str(write(candles(1_200, seed=1, drift=0.002), tmp_path))
    studies = Studies(tmp_path / "var/studies")
    words = ("run", "--data", data, "--trials", "120", "--study", "eth")
    running = [start(tmp_path, *words)]
    try:
        until(lambda: 0 in workers_of(studies, "eth"))
        running[0].kill()
        for number in ("1", "2"):
            joined = start(tmp_path, "worker", "--study", "eth", "--number", number)
            running = [*running, joined]
        until(lambda: {1, 2} <= workers_of(studies, "eth"))
        running[2].kill()
        told, complaint = running[1].communicate(timeout=PATIENCE_S)
        assert running[1].returncode == 0, complaint
        running.append(start(tmp_path, *words))
        out, err = running[3].communicate(timeout=PATIENCE_S)
        assert running[3].returncode == 0, err
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert running[2].returncode == -signal.SIGKILL
    assert "verdict: " in out
    assert "best " in told
    states = studies.states("eth")
    assert sum(one.complete + one.pruned + one.failed for one in states) in range(120, 123)
    (model,) = (tmp_path / "var/models").iterdir()
    manifest = json.loads((model / "manifest.json").read_text())
    assert manifest["choice"] == best_of(studies, "eth").choice.plain()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_leaves_no_process_behind(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    files = [
        str(write(candles(2_000, seed=n, drift=0.0), tmp_path, f"{symbol}_1h.parquet"))
        for n, symbol in enumerate(("ETHUSDT", "BTCUSDT"))
    ]
    run = start(tmp_path, "run", "--data", *files, "--trials", "5000", "--study", "two")
    children: list[psutil.Process] = []
    try:
        until(lambda: len(list((tmp_path / "var").glob("studies/*.journal"))) == 2)
        children = psutil.Process(run.pid).children(recursive=True)
        assert len(children) >= 2
        run.send_signal(sent)
        run.communicate(timeout=PATIENCE_S)
        assert run.returncode == code
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert not alive
    finally:
        run.kill()
        run.communicate()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.mark.slow
def test_postgres_keeps_a_study_as_a_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = candles(1_200, seed=1, drift=0.002)
    data = write(made, tmp_path)
    with postgres_server() as server:
        address = fresh_database(server, "studies")
        job = Job(candles=made, plan=SMALL, study="eth", database_url=address, data=data)
        ended = carry_out(0, job)
        assert ended.trained is not None, ended.reason
        assert ended.trained.manifest == train(made, SMALL).manifest
        with Studies(tmp_path, address) as studies:
            assert studies.names() == ["eth"]
            found = work(studies, "eth", worker=1)
            assert found.choice.plain() == ended.trained.manifest["choice"]
            with pytest.raises(TrainingError, match="there is no study other"):
                studies.about("other")


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    studies = Studies(tmp_path, "postgresql://me:hunter2@127.0.0.1:1/none")
    with pytest.raises(TrainingError, match="cannot be used") as told:
        studies.names()
    assert "hunter2" not in str(told.value)
    with pytest.raises(TrainingError, match="must begin with postgresql"):
        Studies(tmp_path, "mysql://x").names()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_of_two_nodes_gives_what_processes_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="ray is in requirements/dev.txt only")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    jobs = [
        Job(candles=candles(1_200, seed=seed, drift=0.002, symbol=symbol), plan=SMALL)
        for seed, symbol in ((1, "ETHUSDT"), (2, "BTCUSDT"))
    ]
    jobs.append(Job(candles=candles(300, seed=1, drift=0.0), plan=SMALL))
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        assert sum(one["Alive"] for one in ray.nodes()) == 2
        there = {one.number: one for one in on_ray(jobs)}
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert "training needs 1000" in there[2].reason
    for number, job in enumerate(jobs[:2]):
        here, away = carry_out(number, job).trained, there[number].trained
        assert here is not None
        assert away is not None, there[number].reason
        assert away.manifest == here.manifest
        assert away.content == here.content
