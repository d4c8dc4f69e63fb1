"""All stages: an edge that is there is found, one that is not is not, and nobody peeks."""

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fleet.research import training
from fleet.research.executors import Job, carry_out, in_processes, on_ray
from fleet.research.registry import Registry, hash_of
from fleet.research.series import Candles
from fleet.research.training import Trained, rebuild, train
from fleet.research.training_plan import TrainingError
from fleet.research.training_report import render, summary, table
from tests.training_world import SMALL, candles


@cache
def planted() -> Candles:
    return candles(4_000, seed=1, drift=0.0015)


@cache
def found() -> Trained:
    return train(planted(), SMALL)


def aside(made: Candles) -> int:
    return int(made.ts[3_500])


def test_a_planted_edge_passes_the_gate_out_of_sample() -> None:
    manifest = found().manifest
    assert found().passed, manifest["verdict"]["line"]
    assert "hour_sin" in manifest["features"]
    walked = manifest["walk_forward"]
    best = max(rule["sharpe"] or 0.0 for rule in walked["baselines"].values())
    assert walked["model"]["sharpe"] > best
    assert manifest["search"]["trials"] == SMALL.trials
    assert len(manifest["search"]["sharpe_bar"]) == SMALL.trials


def test_of_noise_no_edge_is_found_and_that_is_no_error() -> None:
    noise = train(candles(2_500, seed=3, drift=0.0), SMALL)
    assert not noise.passed
    assert noise.manifest["verdict"]["line"].startswith("no edge found (")
    assert "no edge found" in render("x", noise.manifest)


def test_the_same_training_gives_the_same_bytes() -> None:
    again = train(planted(), SMALL)
    assert again.content == found().content
    assert again.manifest == found().manifest
    other = train(planted(), replace(SMALL, seed=2))
    assert other.content != found().content


def test_a_model_is_made_again_from_its_manifest(tmp_path: Path) -> None:
    plan = replace(SMALL, report_from_ns=aside(planted()), look_back=3_000)
    made = train(planted(), plan)
    name = Registry(tmp_path).save(made.manifest, made.content)
    manifest = Registry(tmp_path).load(name).manifest
    assert manifest["series"]["bars"] == 3_000
    assert rebuild(manifest, planted()) == made.content
    other = replace(planted(), close=planted().close * 1.0001)
    with pytest.raises(TrainingError, match="not the candles"):
        rebuild(manifest, other)
    changed = {**manifest, "choice": {**manifest["choice"], "trees": 77}}
    with pytest.raises(TrainingError, match="came out different; what changed since: nothing"):
        rebuild(changed, planted())


def test_bars_kept_aside_change_nothing_but_their_report() -> None:
    made = planted()
    plan = replace(SMALL, report_from_ns=aside(made))
    honest = train(made, plan).manifest
    late = np.random.default_rng(0).uniform(0.8, 1.2, 500)
    columns = {name: getattr(made, name).copy() for name in ("open", "high", "low", "close")}
    for column in columns.values():
        column[3_500:] = np.round(column[3_500:] * late, 2)
    other = train(replace(made, **columns), plan).manifest
    assert other["report"] != honest["report"]
    for part in ("model_sha256", "choice", "rule", "screening", "search", "walk_forward", "series"):
        assert other[part] == honest[part], part


def test_a_study_resumed_in_a_file_finds_what_memory_found(tmp_path: Path) -> None:
    job = Job(candles=planted(), plan=SMALL, study="eth", studies=tmp_path)
    for _ in range(2):  # The second time every trial is there already.
        ended = carry_out(0, job)
        assert ended.trained is not None, ended.reason
        assert ended.trained.manifest == found().manifest


def test_a_bad_series_gives_its_reason_and_stops_no_other() -> None:
    jobs = [
        Job(candles=candles(500, seed=1, drift=0.0), plan=SMALL),
        Job(candles=planted(), plan=SMALL),
    ]
    ended = {one.number: one for one in in_processes(jobs, workers=2)}
    assert "has 500 bars, training needs 1000" in ended[0].reason
    trained = ended[1].trained
    assert trained is not None
    assert trained.manifest == found().manifest, "another process, the same bytes"
    assert trained.content == found().content


def test_made_up_candles_never_pass() -> None:
    made = train(replace(planted(), source="synthetic"), SMALL)
    assert made.manifest["verdict"]["reasons"] == ["DATA_SYNTHETIC"]
    assert "SYNTHETIC CANDLES" in render("x", made.manifest)


def test_a_report_outside_the_bars_is_refused() -> None:
    for moment in (int(planted().ts[0]) - 1, int(planted().ts[-1]) + 1):
        with pytest.raises(TrainingError, match="choose a time within"):
            train(planted(), replace(SMALL, report_from_ns=moment))


def test_ray_asked_for_and_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(TrainingError, match=r"Ray is not installed: install requirements/dev\.txt"):
        next(on_ray([Job(candles=planted(), plan=SMALL)]))
    study = Job(candles=planted(), plan=SMALL, study="x", studies=Path())
    with pytest.raises(TrainingError, match="set DATABASE_URL"):
        next(on_ray([study]))


def test_tables_tell_the_model_beside_the_rules() -> None:
    results = [("abc", found().manifest)]
    assert table(results).count("\n") == 2, "nothing was kept aside"
    row = table(results, "walk_forward").splitlines()[2]
    assert row.startswith("| ETHUSDT 1h | ")
    assert row.endswith("| yes |")
    assert summary(results) == "1 of 1 passed the gate\n"


# --- the registry --------------------------------------------------------------------------------


def test_a_stored_model_is_the_one_that_was_trained(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    name = registry.save(found().manifest, found().content)
    assert registry.save(found().manifest, found().content) == name, "twice is once"
    entry = registry.tradable(name)
    assert entry.model.to_bytes() == found().content
    assert entry.rule.kind == "model_threshold"
    assert [one.hash for one in registry.entries()] == [name]
    newest = registry.newest("BINANCE", "ETHUSDT", planted().interval_ns)
    assert newest is not None
    assert newest.hash == name
    assert registry.newest("BINANCE", "BTCUSDT", planted().interval_ns) is None
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [name]


def test_a_failed_model_is_kept_and_may_not_trade(tmp_path: Path) -> None:
    manifest = json.loads(json.dumps(found().manifest))
    manifest["verdict"] |= {"passed": False, "reasons": ["RULE_BETTER"]}
    registry = Registry(tmp_path)
    name = registry.save(manifest, found().content)
    assert not registry.load(name).passed
    assert registry.newest("BINANCE", "ETHUSDT", planted().interval_ns) is None
    with pytest.raises(TrainingError, match="RULE_BETTER"):
        registry.tradable(name)


def test_what_was_altered_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    name = registry.save(found().manifest, found().content)
    model, manifest = tmp_path / name / "model.bin", tmp_path / name / "manifest.json"
    model.write_bytes(found().content[:-1] + b"\x01")
    with pytest.raises(TrainingError, match="not what was stored"):
        registry.load(name)
    model.write_bytes(found().content)
    told = json.loads(manifest.read_text())
    told["rule"]["enter"] = 0
    manifest.write_text(json.dumps(told))
    with pytest.raises(TrainingError, match="not what was stored"):
        registry.load(name)
    manifest.write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        registry.load(name)


def test_names_that_are_no_hash_reach_no_file(tmp_path: Path) -> None:
    for name in ("../../etc", "", "ABCDEF0123456789", "0" * 16):
        with pytest.raises(TrainingError):
            Registry(tmp_path).load(name)


def test_a_manifest_of_another_file_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing was stored"):
        Registry(tmp_path).save(found().manifest, found().content + b"x")
    assert not list(tmp_path.iterdir())


def test_the_hash_does_not_depend_on_the_layout() -> None:
    manifest = found().manifest
    backwards = dict(reversed(list(manifest.items())))
    assert hash_of(backwards) == hash_of(manifest)
    assert manifest["model_sha256"] == hashlib.sha256(found().content).hexdigest()
    package = Path(training.__file__).resolve().parents[1]
    assert all((package / name).is_file() for name in training.CODE)
