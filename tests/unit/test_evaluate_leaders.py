"""``fleet evaluate leaders`` on recordings made up so that the right answer is known."""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from fleet.cli.main import main
from fleet.clock import NS_PER_SECOND
from fleet.research.leader_boards import evaluate_boards, stretches
from fleet.research.leader_evaluation import Options, evaluate_leaders
from fleet.research.leader_gate import Reason
from fleet.research.leader_records import RecordingError, category_of, read_wallets
from fleet.research.leader_report import render
from fleet.research.leader_verdict import Word, word_of

START_S = 1_770_000_000
DAY_S = 86_400


def pick(wallet: str, day: int, *, won: bool, price: float = 0.5, **fields: Any) -> dict[str, Any]:
    at = START_S + day * DAY_S
    return {
        "wallet": wallet, "condition_id": f"0x{wallet[-4:]}{day}", "event_slug": f"e{wallet}{day}",
        "side_index": 0, "size": 1000.0, "avg_entry": price, "picked_at_unix": at,
        "resolved_at_unix": float(at + 3_600), "outcome_actual": float(won), **fields,
    }  # fmt: skip


def wallet(number: int) -> str:
    return f"0x{number:040x}"


def write(folder: Path, picks: list[dict[str, Any]]) -> Path:
    ledger = folder / "wallet_verdict_ledger"
    ledger.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(picks, infer_schema_length=None).write_parquet(ledger / "audit_ledger.parquet")
    return folder


def crowd(skilled: float, *, later: float | None = None) -> list[dict[str, Any]]:
    """Ten fair bettors and one who wins ``skilled`` of its bets, ``later`` in the second half."""
    random = Random(11)
    found = []
    for number in range(1, 12):
        for day in range(120):
            chance = 0.5
            if number == 11:
                chance = skilled if day < 60 or later is None else later
            found.append(pick(wallet(number), day, won=random.random() < chance))
    return found


def test_skill_is_chosen_early_and_pays_later(tmp_path: Path) -> None:
    found = evaluate_leaders(write(tmp_path, crowd(0.8)), Options())
    assert found.copied == (wallet(11),)
    assert found.gate.edge is not None
    assert found.gate.edge.low > 0.2
    assert word_of(found) is Word.CANDIDATE_ON_PAPER
    everybody = found.lists[-1]
    assert everybody.edge is not None
    assert found.gate.edge.estimate > everybody.edge.estimate


def test_skill_that_ends_is_copied_and_loses(tmp_path: Path) -> None:
    found = evaluate_leaders(write(tmp_path, crowd(0.8, later=0.2)), Options())
    assert found.copied == (wallet(11),)
    assert word_of(found) is Word.LOST_LATER


def test_without_skill_nobody_is_worth_copying(tmp_path: Path) -> None:
    found = evaluate_leaders(write(tmp_path, crowd(0.5)), Options())
    assert found.copied == ()
    assert word_of(found) is Word.NONE_WORTH_COPYING
    text = render(found)
    assert "NONE_WORTH_COPYING" in text.splitlines()[-1]
    assert all(len(line) <= 100 for line in text.splitlines())


def test_what_happens_after_the_split_never_changes_the_choice(tmp_path: Path) -> None:
    picks = crowd(0.8)
    one = evaluate_leaders(write(tmp_path / "a", picks), Options())
    turned = [
        p | {"outcome_actual": 1.0 - p["outcome_actual"]}
        if p["picked_at_unix"] * NS_PER_SECOND > one.split_ns
        else p
        for p in picks
    ]
    other = evaluate_leaders(write(tmp_path / "b", turned), Options())
    assert other.split_ns == one.split_ns
    assert other.scores == one.scores
    assert other.verdicts == one.verdicts
    assert other.gate.pnl != one.gate.pnl


def test_an_outcome_whose_time_nobody_wrote_down_helps_to_choose_nobody(tmp_path: Path) -> None:
    picks = [
        p | {"resolved_at_unix": float(p["picked_at_unix"])} if p["wallet"] == wallet(11) else p
        for p in crowd(0.9)
    ]
    found = evaluate_leaders(write(tmp_path, picks), Options())
    (verdict,) = [v for v in found.verdicts if v.wallet == wallet(11)]
    assert set(verdict.reasons) == {Reason.MARKETS_FEW, Reason.NOTHING_RECENT}
    assert found.untimed_later in {59, 60}
    assert found.lists[-1].active == 11, "it is judged by them all the same"


def test_defects_are_left_out_and_counted(tmp_path: Path) -> None:
    good = crowd(0.5)
    odd = [
        pick(wallet(50), 1, won=True, outcome_actual=None),
        pick(wallet(50), 2, won=True, avg_entry=0.0),
        pick(wallet(50), 3, won=True, side_index=2),
        pick(wallet(50), 4, won=True, size=0.0),
        pick(wallet(50), 5, won=True, condition_id="0xsame"),
        pick(wallet(51), 5, won=False, condition_id="0xsame"),
    ]
    records = read_wallets(write(tmp_path, [*good, *odd]) / "wallet_verdict_ledger")
    assert records.left_out == {
        "not resolved, or not to one side": 1,
        "price, size or side unusable": 3,
        "rows contradict each other about the outcome": 1,
    }
    assert {h.wallet for h in records.histories} == {wallet(n) for n in range(1, 12)}


def test_positions_beside_the_ledger_judge_and_do_not_choose(tmp_path: Path) -> None:
    folder = write(tmp_path, crowd(0.5))
    position = {
        "wallet": wallet(70), "conditionId": "0xp1", "outcomeIndex": 1, "eventSlug": "nba-x",
        "avg_buy_price": 0.25, "buy_size": 400.0, "sell_size": 10.0, "last_ts": START_S + 90 * DAY_S,
        "domain": "Sports", "resolved": {"winning_outcome_index": 1, "state": "resolved"},
    }  # fmt: skip
    known = position | {
        "wallet": wallet(1), "conditionId": f"0x{wallet(1)[-4:]}5", "outcomeIndex": 0,
    }  # fmt: skip
    pl.DataFrame([position, known]).write_parquet(
        folder / "wallet_verdict_ledger" / "wallet_recent_positions.parquet"
    )
    found = evaluate_leaders(folder, Options(slippage=0))  # type: ignore[arg-type]
    assert found.records.left_out == {"already in the ledger": 1}
    assert found.records.sold_early == 1
    sports = found.categories["sports"]
    # 200 of its 400 shares at 0.25, the fee 200 x 0.05 x 0.25 x 0.75 = 1.875, pays 200.
    assert sports.stake == pytest.approx(50)
    assert sports.pnl == pytest.approx(200 - 50 - 1.875)


def test_more_slippage_never_pays_more(tmp_path: Path) -> None:
    found = evaluate_leaders(write(tmp_path, crowd(0.6)), Options())
    told = [dict(edges)["everybody"] for edges in found.by_slippage.values()]
    edges = [edge.estimate for edge in told if edge is not None]
    assert len(edges) == 4
    assert edges == sorted(edges, reverse=True)


@pytest.mark.parametrize(
    ("event", "domain", "category"),
    [
        ("btc-updown", "", "crypto"), ("nba-x-y", "", "sports"), ("x", "Politics", "politics"),
        ("what-will-he-say", "", "mentions"), ("ethiopia-vote", "", "unknown"), ("x", "Other", "unknown"),
    ],
)  # fmt: skip
def test_categories(event: str, domain: str, category: str) -> None:
    assert category_of(event, domain) == category


# --- the command ----------------------------------------------------------------------------------


def test_the_command_reports_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, crowd(0.8))
    target = tmp_path / "out.json"
    code = main(["evaluate", "leaders", "--data", str(folder), "--json", str(target)])
    assert code == 0
    told = capsys.readouterr().out
    assert "chosen on 2026-02-02" in told
    assert "copied on" in told
    document = json.loads(target.read_text())
    assert document["word"] == "CANDIDATE_ON_PAPER"
    assert document["lists"][0]["wallets"] == [wallet(11)]
    assert len(document["candidates"]) == 11


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "{}/nothere"], "name the folder `trades`"),
        (["--data", "{}", "--split", "2020-01-01"], "choose a day between"),
        (["--data", "{}", "--split", "2099-01-01"], "choose a day between"),
        (["--data", "{}", "--json", "{}"], "name a file in a writable folder"),
    ],
)
def test_bad_input_names_its_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    write(tmp_path, crowd(0.5))
    code = main(["evaluate", "leaders", *(word.format(tmp_path) for word in words)])
    assert code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--split", "soon"], ["--slippage", "x"], ["--slippage", "1"], ["--slippage", "-1"]]
)
def test_bad_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "leaders", "--data", ".", *words])
    assert caught.value.code == 2
    assert "write it like" in capsys.readouterr().err or words[1] == "-1"


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    ledger = tmp_path / "wallet_verdict_ledger"
    ledger.mkdir()
    file = ledger / "audit_ledger.parquet"
    file.write_text("not parquet")
    with pytest.raises(RecordingError, match="cannot be read as Parquet"):
        evaluate_leaders(tmp_path, Options())
    pl.DataFrame({"wallet": ["a"]}).write_parquet(file)
    with pytest.raises(RecordingError, match="has no column condition_id"):
        evaluate_leaders(tmp_path, Options())


# --- leaderboards ---------------------------------------------------------------------------------


def boards(folder: Path, rows: list[tuple[int, str, float, float]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    start = datetime(2026, 6, 1, tzinfo=UTC)
    pl.DataFrame(
        {
            "timestamp_utc": [
                datetime.fromtimestamp(start.timestamp() + h * 3_600, UTC) for h, *_ in rows
            ],
            "address": [r[1] for r in rows],
            "pnl": [r[2] for r in rows],
            "vol": [r[3] for r in rows],
        }
    ).write_parquet(folder / "leaderboard_snapshots_6h.parquet")
    return folder


def test_steps_between_snapshots_are_what_was_won(tmp_path: Path) -> None:
    rows = [(6 * n, "0xa", 100.0 * n, 1e5 + 1e4 * n) for n in range(9)]
    found = evaluate_boards(boards(tmp_path, rows))
    assert found.steps == 8
    top = found.lists[0]
    assert (top.chosen, top.unknown, top.winners) == (1, 0, 1)
    assert top.pnl == pytest.approx(400), "the four steps after the split"
    assert top.margin is not None
    assert top.margin.estimate == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("last", "now", "read"),
    [
        ((0, 10.0, 1e6), (6, 20.0, 1.1e6), True),
        ((0, 10.0, 1e6), (6, 20.0, 0.9e6), False),  # The volume fell: a window closed.
        ((0, 10.0, 1e6), (6, 20.0, 2.5e6), False),  # It more than doubled: a longer window.
        ((0, 10.0, 1e6), (40, 20.0, 1.1e6), False),  # Too long ago to tell.
    ],
)
def test_a_step_over_a_closed_window_is_unknown(
    tmp_path: Path, last: tuple[int, float, float], now: tuple[int, float, float], *, read: bool
) -> None:
    rows = [(last[0], "0xa", last[1], last[2]), (now[0], "0xa", now[1], now[2])]
    frame = pl.read_parquet(boards(tmp_path, rows) / "leaderboard_snapshots_6h.parquet")
    frame = frame.with_columns(ts_ns=pl.col("timestamp_utc").dt.epoch("ns"))
    found, unusable = stretches(frame)
    assert (found["0xa"].steps, unusable) == ((1, 0) if read else (0, 1))


def test_who_leaves_the_board_is_unknown_not_a_loser(tmp_path: Path) -> None:
    rows = [(6 * n, "0xa", 100.0 * n, 1e5 + 1e4 * n) for n in range(9)]
    rows += [(6 * n, "0xgone", 900.0, 1e5 + 1e4 * n) for n in range(3)]
    everybody = evaluate_boards(boards(tmp_path, rows)).lists[-1]
    assert (everybody.chosen, everybody.unknown) == (2, 1)
    assert everybody.pnl == pytest.approx(400)


def test_the_later_board_never_changes_the_choice(tmp_path: Path) -> None:
    rows = [(6 * n, f"0x{w}", 10.0 * n * w, 1e5 + 1e4 * n) for w in range(30) for n in range(9)]
    turned = [(h, w, -pnl if h > 24 else pnl, vol) for h, w, pnl, vol in rows]
    one = evaluate_boards(boards(tmp_path / "a", rows))
    other = evaluate_boards(boards(tmp_path / "b", turned))
    assert [x.chosen for x in one.lists] == [x.chosen for x in other.lists]
    assert one.lists[1].winners == 10
    assert other.lists[1].winners == 0
    assert one.persistence == pytest.approx(1.0)
    assert other.persistence == pytest.approx(-1.0)
