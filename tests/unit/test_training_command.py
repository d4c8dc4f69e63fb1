"""`fleet train`: run, join, look, make again, and say what is wrong."""

import json
from pathlib import Path

import polars as pl
import pytest

from fleet.cli.main import main
from fleet.research.series import Candles
from tests.training_world import candles

COLUMNS = ("ts", "open", "high", "low", "close", "volume")


def write(made: Candles, folder: Path, name: str = "ETHUSDT_1h.parquet") -> Path:
    table = pl.DataFrame({column: getattr(made, column) for column in COLUMNS})
    table.with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC"))).write_parquet(folder / name)
    return folder / name


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path / "home"


def test_a_blank_run_on_made_up_candles_says_so(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told.json"
    words = ["train", "run", "--synthetic", "7", "--look-back", "1500", "--trials", "4"]
    assert main([*words, "--json", str(told)]) == 0
    out = capsys.readouterr().out
    assert "! SYNTHETIC CANDLES" in out
    assert "verdict: no edge found (DATA_SYNTHETIC" in out
    (manifest,) = json.loads(told.read_text())["models"]
    assert manifest["series"]["synthetic"] is True
    assert [path.name for path in (home / "var/models").iterdir()] == [manifest["hash"]]


def test_a_model_of_a_file_is_listed_and_made_again(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write(candles(1_600, seed=1, drift=0.002), tmp_path))
    words = ["train", "run", "--data", data, "--exchange", "BINANCE", "--trials", "4"]
    assert main([*words, "--study", "eth", "--until", "2024-03-01"]) == 0
    out = capsys.readouterr().out
    assert "kept aside, model unchanged, 2024-03-01 00:00 to" in out
    assert main(["train", "models"]) == 0
    line = capsys.readouterr().out
    name = line.split()[0]
    assert "BINANCE:ETHUSDT 1h" in line
    assert main(["train", "rebuild", name, "--data", data]) == 0
    assert "the same" in capsys.readouterr().out

    assert main(["train", "studies"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in listed] == [["eth", "coarse", "2"], ["eth", "fine", "2"]]
    assert main(["train", "best", "--study", "eth"]) == 0
    best = json.loads(capsys.readouterr().out)
    manifest = json.loads((home / "var/models" / name / "manifest.json").read_text())
    assert {key: best[key] for key in manifest["choice"]} == manifest["choice"]
    assert main(["train", "export", "--study", "eth", "--out", str(tmp_path / "all")]) == 0
    trials = [json.loads(line) for line in (tmp_path / "all").read_text().splitlines()]
    assert [one["stage"] for one in trials] == ["coarse", "coarse", "fine", "fine"]
    assert all(len(one["folds"]) == 3 for one in trials), "what was known before the last fold"
    assert main(["train", "worker", "--study", "eth"]) == 0, "nothing is left to do"
    assert "4 trials" in capsys.readouterr().out

    other = str(write(candles(1_600, seed=2, drift=0.002), tmp_path, "ETHUSDT_1h.other.parquet"))
    assert main(["train", "worker", "--study", "eth", "--data", other]) == 2
    assert "does not hold the candles of the study" in capsys.readouterr().err
    assert main([*words, "--study", "eth", "--seed", "2"]) == 1
    assert "begun with another plan" in capsys.readouterr().err
    assert main(["train", "rebuild", name, "--data", other]) == 1
    assert "not the candles the model was made of" in capsys.readouterr().err


def test_several_files_end_in_tables_and_a_bad_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(candles(1_200, seed=1, drift=0.0), tmp_path, "BTCUSDT_1h.parquet")
    short = write(candles(300, seed=1, drift=0.0), tmp_path)
    words = ["train", "run", "--data", str(good), str(short), "--trials", "2", "--jobs", "1"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "ETHUSDT: ETHUSDT has 300 bars, training needs 1000" in err
    assert "| BTCUSDT 1h |" in out
    assert "0 of 1 passed the gate" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--data", "nothing.parquet"], "there is no nothing.parquet"),
        (["run", "--synthetic", "1", "--trials", "1"], "give 2 at least"),
        (["run", "--synthetic", "1", "--study", "a/b"], "names no study"),
        (["worker", "--study", "none"], "there is no study none"),
        (["best", "--study", "../x"], "names no study"),
        (["export", "--study", "none"], "there is no study none"),
        (["rebuild", "0" * 16, "--data", "x"], "there is no model"),
    ],
)
def test_what_is_wrong_is_told_with_its_cure(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) in {1, 2}
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["run"], ["run", "--synthetic", "0"], ["run", "--synthetic", "1", "--data", "x"],
     ["run", "--synthetic", "1", "--fee-rate", "0.2"], ["run", "--data", "x", "--trials", "1.5"],
     ["worker"], []],
)  # fmt: skip
def test_what_argparse_refuses(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", *words])
    assert stopped.value.code == 2


def test_empty_places_say_how_to_fill_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "studies"]) == 0
    assert main(["train", "models"]) == 0
    out = capsys.readouterr().out
    assert "no studies; `fleet train run --study NAME` makes one" in out
    assert "no models; `fleet train run --data FILE` makes one" in out
