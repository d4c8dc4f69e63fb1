"""``run_trader.py`` as a process, with the real research."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fleet.research.synthetic import synthetic_candles

ROOT = Path(__file__).resolve().parents[2]
HOUR = 3_600 * 1_000_000_000


def trader(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, str(ROOT / "run_trader.py"), *words],
        env={**kept, "FLEET_HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9", **environ},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def candles_file(tmp_path: Path) -> Path:
    """Two and a half thousand hours in a file: what a user would give with --data."""
    made = synthetic_candles(2_500, seed=5, interval_ns=HOUR)
    file = tmp_path / "ETHUSDT_1h.csv"
    rows = zip(made.ts // 1_000_000, made.open, made.high, made.low, made.close, made.volume,
               strict=True)  # fmt: skip
    lines = ["timestamp,open,high,low,close,volume"]
    lines += [",".join(map(str, row)) for row in rows]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_blank_without_cache_or_network_says_on_every_line_that_candles_are_made_up(
    tmp_path: Path,
) -> None:
    done = trader(tmp_path, "blank", "--symbol", "ETHUSDT", "--exchange", "BINANCE")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("SYNTHETIC ") for line in lines)
    assert any("4 trials" in line for line in lines)
    assert any("verdict: no edge found (DATA_SYNTHETIC" in line for line in lines)
    assert not (tmp_path / "var" / "models").exists()
    assert "\x1b" not in done.stdout + done.stderr  # no bars where there is no terminal


def test_a_backtest_of_a_file_keeps_a_model_and_draws_pictures(
    tmp_path: Path, candles_file: Path
) -> None:
    done = trader(
        tmp_path, "backtest", "--symbol", "ETHUSDT", "--data", str(candles_file), "--trials", "4"
    )
    assert done.returncode == 0, done.stderr
    (model,) = (tmp_path / "var" / "models").iterdir()
    assert f"model {model.name}: did not pass the gate" in done.stdout
    report = tmp_path / "var" / "reports" / model.name
    assert {file.name for file in report.iterdir()} == {
        "report.html", "equity.png", "drawdown.png", "trades.png", "importance.png",
    }  # fmt: skip
    page = (report / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "buy_and_hold" in page
    compared = trader(tmp_path, "research").stdout
    assert model.name in compared
    assert "BINANCE:ETHUSDT 1h" in compared


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_ended_validation_leaves_no_process_behind(
    tmp_path: Path, candles_file: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run_trader.py"), "paper", "--data", str(candles_file),
         "--trials", "100000"],
        env={"PATH": os.environ["PATH"], "FLEET_HOME": str(tmp_path)}, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Its library of trees says that it works, long after it has asked to hear of our end.
    while not any("sklearn" in part.path for part in children[0].memory_maps()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == (130 if number is signal.SIGTERM else -number), told
    psutil.wait_procs(children, timeout=20)
    assert not any(child.is_running() for child in children)
    assert not (tmp_path / "var" / "models").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backtest_ends_at_once_and_leaves_no_half_model(
    tmp_path: Path, candles_file: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run_trader.py"), "backtest", "--data", str(candles_file),
         "--trials", "100000"],
        env={"PATH": os.environ["PATH"], "FLEET_HOME": str(tmp_path)}, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    training = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    # The library of trees is loaded when training begins, long after the handlers are there.
    while not any("sklearn" in part.path for part in training.memory_maps()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130, told
    assert "interrupted before the end" in told
    assert not (tmp_path / "var" / "models").exists()


def test_a_backtest_never_makes_candles_up(tmp_path: Path) -> None:
    done = trader(tmp_path, "backtest", "--symbol", "ETHUSDT")
    assert done.returncode == 1
    assert "fleet candles download ETHUSDT" in done.stderr
