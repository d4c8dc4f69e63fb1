"""`fleet evaluate statarb` on the recorded quotes: it reports, adds up, and proves what it may.

Nothing here names a recorded market or a figure of one recording, so that a later recording of the
same kind is judged by the same tests.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.cli.main import main
from fleet.research.statarb_backtest import backtest_settings, run_backtest
from fleet.research.statarb_quotes import read_quotes
from fleet.strategies.statarb import StatArbSettings, proven_kinds

pytestmark = pytest.mark.realdata

FOLDERS = ("tsl_crypto_markets_2min", "dinesh_us_quotes")


@pytest.mark.parametrize("name", FOLDERS)
def test_the_recordings_are_read(fleet_data: Path, name: str) -> None:
    read = read_quotes(fleet_data / "orderbook" / name, days=2)
    assert 60 <= read.spacing_s <= 180
    times = [poll.at_s for poll in read.polls]
    assert times == sorted(set(times))
    for poll in read.polls:
        assert all(0 < bid < ask for _, bid, ask in poll.quotes)
    assert read.universe.sets


def test_thresholds_and_ladders_are_found_in_crypto(fleet_data: Path) -> None:
    read = read_quotes(fleet_data / "orderbook" / FOLDERS[0])
    assert read.universe.ladders
    assert any(poll.references for poll in read.polls)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_command_reports_on_a_part(
    fleet_data: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    folder = fleet_data / "orderbook" / name
    words = ["evaluate", "statarb", "--data", str(folder), "--json", str(out), "--sample", "12"]
    assert main([*words, "--days", "2", "--folds", "2"]) == 0
    text = capsys.readouterr().out
    assert "Verdict" in text
    document = json.loads(out.read_text())
    proven = proven_kinds(document)
    assert ("No edge found" in text) is (not proven)
    for kind in proven:
        judged = document["outcomes"]["JUDGED"][kind.value]
        assert judged["net_e8"] > 0
        assert judged["trades"] >= 20


@pytest.mark.parametrize("name", FOLDERS)
def test_trades_add_up_to_the_account(fleet_data: Path, name: str) -> None:
    from dataclasses import replace

    read = read_quotes(fleet_data / "orderbook" / name, days=2, events=25)
    eager = replace(
        backtest_settings(StatArbSettings(formation=60, validation=40)),
        cost_margin=0,
        false_discovery=10**8,
        max_positions=1_000,
    )
    run = run_backtest(read, eager, later=True)
    assert not run.report.anomalies
    # The account marks what is left at bids before fees, the trades after them.
    open_cost = sum(t.cost for t in run.trades if t.open)
    assert sum(t.net for t in run.trades) == pytest.approx(
        run.report.pnl, abs=10**6 + 0.08 * open_cost
    )
