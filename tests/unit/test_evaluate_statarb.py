"""`fleet evaluate statarb`: reading, the run through the engine, the tests for chance, the words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fleet.cli.main import main
from fleet.domain.instruments import MarketId
from fleet.domain.units import SCALE, Cash, Qty
from fleet.research.set_quotes import FEE_RATES
from fleet.research.statarb_backtest import SpreadTrade, backtest_settings, run_backtest
from fleet.research.statarb_evaluation import (
    Finding,
    Options,
    Way,
    evaluate_recording,
)
from fleet.research.statarb_permutation import (
    DRAWS,
    MiddlePrices,
    gross_profits,
    shift_p_value,
    sign_p_value,
)
from fleet.research.statarb_quotes import QuotesError, read_quotes
from fleet.research.statarb_report import render, to_json
from fleet.strategies.statarb import proven_kinds
from fleet.strategies.statarb_relations import Kind
from tests.builders import no, p, q, yes
from tests.statarb_world import (
    START_S,
    STEP_S,
    one_event,
    quick,
    recording,
    reverting_pairs,
    together,
)

START = datetime(2026, 6, 25, 9, tzinfo=UTC)


# --- reading ----------------------------------------------------------------------------------


def crypto(folder: Path, polls: int = 60, *, late_price: bool = False) -> Path:
    """A recording of three thresholds and a path-dependent question, with the price of Bitcoin."""
    folder.mkdir()
    times = [(START + timedelta(seconds=120 * n)).replace(tzinfo=None) for n in range(polls)]
    rows = {"1": (0.7, 0.72), "2": (0.5, 0.52), "3": (0.301, 0.321), "4": (0.2, 0.0)}
    quotes = [
        {"ts": ts, "market_id": int(m), "best_bid": bid, "best_ask": ask or None}
        for ts in times
        for m, (bid, ask) in rows.items()
    ]
    schema: dict[str, Any] = {"ts": pl.Datetime("ms"), "market_id": pl.Int64, "best_bid": pl.Float32,
              "best_ask": pl.Float32}  # fmt: skip
    pl.DataFrame(quotes, schema=schema).write_parquet(folder / "quotes.parquet")
    asked = {
        "1": "Will the price of Bitcoin be above $58,000 on June 26?",
        "2": "Will the price of Bitcoin be above $60,000 on June 26?",
        "3": "Will the price of Bitcoin be above $62,000 on June 26?",
        "4": "Will Bitcoin reach $100,000 in June?",
    }
    pl.DataFrame(
        {
            "market_id": list(asked),
            "question": list(asked.values()),
            "slug": list(asked),
            "end_date": ["2026-06-26T16:00:00"] * 4,
            "event_id": ["e", "e", "e", "f"],
            "event_title": ["Bitcoin above"] * 3 + ["Bitcoin reach"],
        }
    ).write_parquet(folder / "markets.parquet")
    first = START + timedelta(hours=1 if late_price else 0)
    pl.DataFrame(
        {
            "timestamp_utc": [first, first + timedelta(seconds=60)],
            "BTC": ["60000.5", None],
            "asset": [None, "BTC"],
            "price_usd": [None, 60_100.0],
        }
    ).write_parquet(folder / "underlying_prices.parquet")
    return folder


def test_crypto_markets_are_read_with_their_underlying(tmp_path: Path) -> None:
    read = read_quotes(crypto(tmp_path / "c"))
    assert read.listed == 4
    assert set(read.universe.markets) == {"1", "2", "3"}  # The fourth never had two sides.
    assert [ladder.rungs for ladder in read.universe.ladders] == [("3", "2", "1")]
    assert read.universe.instruments[read.universe.markets[MarketId("1")].yes].tick == p("0.01")
    assert read.universe.instruments[read.universe.markets[MarketId("3")].yes].tick == p("0.001")
    assert {i.fees.rate for i in read.universe.instruments.values()} == {FEE_RATES["crypto"]}
    first, second = read.polls[0], read.polls[1]
    assert first.quotes[0] == ("1", p("0.7"), p("0.72"))
    assert first.changed == first.quotes
    assert second.changed == ()
    assert first.references == (("BTC", p("60000.5")),)
    assert second.references == (("BTC", 60_100 * SCALE),)
    assert read.spacing_s == 120


def test_prices_of_the_future_and_stale_ones_are_not_known(tmp_path: Path) -> None:
    read = read_quotes(crypto(tmp_path / "c", late_price=True))
    told = [poll.at_s - int(START.timestamp()) for poll in read.polls if poll.references]
    assert min(told) == 3_600
    assert max(told) <= 3_660 + 600


def groups(folder: Path, polls: int = 60, *, hole: int = 0) -> Path:
    """A closed set of three ranges, of which the middle one won; one crossed quote."""
    folder.mkdir()
    legs = {"lt70f": 0.2, "gte70lt80f": 0.5, "gte80f": 0.3}
    rows = []
    for n in range(polls):
        ts = START + timedelta(seconds=120 * n + (hole if n >= polls // 2 else 0))
        for leg, mid in legs.items():
            crossed = n == 3 and leg == "gte80f"
            rows.append({"ts": ts.replace(tzinfo=None), "slug": f"t-{leg}",
                         "bid": mid - 0.01 if not crossed else 0.9, "ask": mid + 0.01})  # fmt: skip
    pl.DataFrame(rows, schema={"ts": pl.Datetime("ms"), "slug": pl.String, "bid": pl.Float64,
                               "ask": pl.Float64}).write_parquet(
        folder / "multileg_quotes.parquet")  # fmt: skip
    last = START + timedelta(seconds=120 * polls)
    pl.DataFrame(
        {
            "slug": [f"t-{leg}" for leg in legs],
            "prefix": ["t"] * 3,
            "question": ["Highest temperature?"] * 3,
            "category": ["Climate"] * 3,
            "y": [0.0, 1.0, 0.0],
            "last_ts": [last.strftime("%Y-%m-%d %H:%M:%S")] * 3,
        }
    ).write_csv(folder / "multileg_legs.csv")
    return folder


def test_groups_are_read_with_their_winner(tmp_path: Path) -> None:
    read = read_quotes(groups(tmp_path / "g"))
    assert [group.markets for group in read.universe.sets] == [
        ("t-lt70f", "t-gte70lt80f", "t-gte80f")
    ]
    assert {m.category for m in read.universe.markets.values()} == {"climate"}
    assert read.outcomes[MarketId("t-gte70lt80f")][1] == SCALE
    assert read.outcomes[MarketId("t-gte80f")][1] == 0
    crossed = {quote[0]: quote for quote in read.polls[3].changed}
    assert crossed == {"t-gte80f": ("t-gte80f", 0, 0)}
    assert "t-gte80f" not in {quote[0] for quote in read.polls[3].quotes}


def test_books_are_gone_after_a_silence(tmp_path: Path) -> None:
    read = read_quotes(groups(tmp_path / "g", hole=3_600))
    after = read.polls[30]
    assert len(after.gone) == 0  # All were polled again in that very poll,
    assert len(after.quotes) == 3  # so their books are those of now.


@pytest.mark.parametrize("make", [crypto, groups])
def test_days_and_events_cut_a_recording_down(tmp_path: Path, make: object) -> None:
    folder = (crypto if make is crypto else groups)(tmp_path / "x", polls=800)
    assert read_quotes(folder, days=0.5).polls[-1].at_s < START.timestamp() + 43_200
    assert len(read_quotes(folder, events=1).universe.markets) == 3


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(QuotesError, match="no recording of quotes"):
        read_quotes(tmp_path)
    (tmp_path / "multileg_quotes.parquet").write_bytes(b"PAR1 not at all")
    (tmp_path / "multileg_legs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(QuotesError, match="cannot be read"):
        read_quotes(tmp_path)


def test_a_date_that_is_none_is_told(tmp_path: Path) -> None:
    folder = crypto(tmp_path / "c")
    markets = pl.read_parquet(folder / "markets.parquet")
    markets.with_columns(end_date=pl.lit("soon")).write_parquet(folder / "markets.parquet")
    with pytest.raises(QuotesError, match="soon"):
        read_quotes(folder)


def test_too_few_quotes_are_told(tmp_path: Path) -> None:
    with pytest.raises(QuotesError, match="often enough"):
        read_quotes(crypto(tmp_path / "c", polls=10))


# --- the run ----------------------------------------------------------------------------------

WINDOW: Mapping[str, int] = {"formation": 240, "validation": 160}


def test_what_the_trades_made_is_what_the_account_made() -> None:
    for later in (False, True):
        quotes = recording(reverting_pairs(6, 1_000, seed=2, life=4.0, width=0.03))
        run = run_backtest(quotes, quick(**WINDOW), later=later)
        assert run.trades
        # Marked positions are at their bids in both; fees are 0 here.
        assert sum(t.net for t in run.trades) == pytest.approx(run.report.pnl, abs=100)


def test_what_a_market_paid_settles_what_is_held() -> None:
    quotes = recording(reverting_pairs(6, 1_000, seed=2, life=4.0, width=0.03))
    free = run_backtest(quotes, quick(**WINDOW), later=False)
    held = max(free.trades, key=lambda t: t.closed_s - t.opened_s)
    token = quotes.universe.instruments[held.legs[0]]
    at_s = held.opened_s + STEP_S
    from dataclasses import replace

    ended = replace(quotes, outcomes={token.market_id: (at_s, p("1"))})
    run = run_backtest(ended, quick(**WINDOW), later=False)
    assert run.report.ledger.redeemed > 0 or token.outcome == "No"
    assert sum(t.net for t in run.trades) == pytest.approx(run.report.pnl, abs=100)


def test_fees_are_paid_both_ways() -> None:
    world = one_event(12, rate="0.02")
    paths = reverting_pairs(6, 1_000, seed=2, life=4.0, width=0.03)
    run = run_backtest(recording(paths, world), quick(**WINDOW), later=False)
    assert run.trades
    assert run.report.fees > 0
    assert sum(t.net for t in run.trades) == pytest.approx(run.report.pnl, abs=1_000)


# --- chance -----------------------------------------------------------------------------------


def bet(
    opened: int, closed: int, net: str = "1", *, group: str = "g", **more: object
) -> SpreadTrade:
    """A position in YES of market 1 and NO of market 2, by step numbers."""
    return SpreadTrade(
        kind=Kind.PAIR, key="k", groups=(group,), legs=(yes(1), no(2)), qty=q("10"),
        opened_s=START_S + opened * STEP_S, closed_s=START_S + closed * STEP_S, cost=Cash(SCALE),
        net=Cash(p(net)), open=False,
    )  # fmt: skip


def test_gross_is_the_change_of_the_middle() -> None:
    paths = np.full((50, 2), 0.5)
    paths[20:, 0] = 0.6
    paths[30:, 1] = 0.55
    prices = MiddlePrices(recording(paths))
    found = gross_profits([bet(10, 25), bet(10, 40), bet(25, 28)], prices)
    assert found.tolist() == pytest.approx([1.0, 0.5, 0.0])


def test_good_moments_are_told_from_any_moments() -> None:
    rng = np.random.default_rng(4)
    paths = np.full((600, 2), 0.5)
    paths[:, 0] += rng.choice([-0.02, 0.02], size=600)
    prices = MiddlePrices(recording(paths))
    middle = paths[:, 0]
    good = [bet(n, n + 1) for n in range(10, 500) if middle[n] < middle[n + 1]][:40]
    poor = [bet(n, n + 1) for n in range(10, 500, 12)]
    sharp, dull = shift_p_value(good, prices, START_S), shift_p_value(poor, prices, START_S)
    assert sharp is not None
    assert sharp < 0.01
    assert dull is not None
    assert dull > 0.05
    assert shift_p_value(good, prices, START_S) == sharp
    assert shift_p_value([], prices, START_S) is None


def test_the_shift_test_keeps_its_level() -> None:
    """Positions at random times in walks: small p values are as frequent as they say."""
    small = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        prices = MiddlePrices(recording(together(2, 200, seed=seed)))
        opened = rng.integers(0, 180, size=10)
        trades = [bet(int(n), int(n) + 10) for n in opened]
        found = shift_p_value(trades, prices, START_S)
        small += found is not None and found <= 0.1
    # Binomial, n = 200 and p = 0.1: 20 expected, four standard deviations are 17.
    assert 4 <= small <= 37


def test_groups_are_signed_together() -> None:
    alike = [bet(0, 1, group="one") for _ in range(50)]
    apart = [bet(0, 1, group=f"g{n}") for n in range(50)]
    one, many = sign_p_value(alike), sign_p_value(apart)
    assert one == pytest.approx(0.5, abs=0.05)
    assert many == pytest.approx(1 / (1 + DRAWS))
    losing = sign_p_value([bet(0, 1, "-1", group=f"g{n}") for n in range(50)])
    assert losing is not None
    assert losing > 0.99
    assert sign_p_value([]) is None


# --- the evaluation ---------------------------------------------------------------------------


def test_nothing_of_the_future_decides() -> None:
    """Cutting the recording changes no trade that had ended before the cut."""
    paths = reverting_pairs(4, 900, seed=2, life=4.0, width=0.03)
    settings = backtest_settings(quick(**WINDOW))
    whole = run_backtest(recording(paths), settings, later=True)
    part = run_backtest(recording(paths[:800]), settings, later=True)
    cut = START_S + 790 * STEP_S
    ended = [t for t in part.trades if t.closed_s < cut and not t.open]
    assert ended
    assert [t for t in whole.trades if t.closed_s < cut] == ended


def test_walks_prove_nothing_and_the_report_says_so() -> None:
    quotes = recording(together(6, 400, seed=1), one_event(6, size=6))
    evaluation = evaluate_recording(quotes, Options())
    assert evaluation.proven == ()
    assert evaluation.findings[Kind.SET] is Finding.ABSENT
    text = render(evaluation)
    assert "No edge found" in text
    assert "Nothing may be staked" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    document = json.loads(json.dumps(to_json(evaluation)))
    assert proven_kinds(document) == ()
    assert document["outcomes"]["JUDGED"]["ALL"]["trades"] >= 0


def test_spreads_that_come_back_are_proven_on_the_later_part() -> None:
    paths = reverting_pairs(30, 1_000, seed=3, life=2.5, width=0.03)
    quotes = recording(paths, one_event(60, tick="0.01"), tick=SCALE // 100)
    evaluation = evaluate_recording(quotes, Options())
    judged = evaluation.outcomes[Way.JUDGED, Kind.PAIR]
    assert judged.net > 0
    assert judged.gross > 0
    assert evaluation.proven == (Kind.PAIR,)
    assert "May stake on PAIR" in render(evaluation)
    assert proven_kinds(to_json(evaluation)) == (Kind.PAIR,)
    starts = [fold.start_s for fold in evaluation.folds]
    assert starts == sorted(starts)
    assert evaluation.folds[-1].stop_s == evaluation.recording.polls[-1].at_s + 1


def test_a_recording_shorter_than_its_window_is_told() -> None:
    with pytest.raises(QuotesError, match="fewer --folds"):
        evaluate_recording(recording(together(4, 104, seed=1)), Options())


# --- the command ------------------------------------------------------------------------------


def test_the_command_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = crypto(tmp_path / "c", polls=400)
    out = tmp_path / "out.json"
    words = ["evaluate", "statarb", "--data", str(folder), "--json", str(out), "--folds", "2"]
    assert main([*words, "--touch", "50"]) == 0
    text = capsys.readouterr().out
    assert "No edge found" in text
    assert "50 shares at each best price" in text
    document = json.loads(out.read_text())
    assert document["subject"] == "statarb"
    assert document["proven"] == []
    assert document["touch_e8"] == Qty(50 * SCALE)
    assert len(document["folds"]) == 2


def test_a_wrong_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "statarb", "--data", str(tmp_path)]) == 2
    assert "expected multileg_quotes.parquet" in capsys.readouterr().err


def test_an_unwritable_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = crypto(tmp_path / "c", polls=400)
    target = tmp_path / "nowhere" / "x.json"
    assert main(["evaluate", "statarb", "--data", str(folder), "--json", str(target)]) == 2
    assert "writable folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--days", "0"), ("--days", "x"), ("--folds", "0"), ("--sample", "-1"), ("--touch", "0"),
     ("--touch", "many")],
)  # fmt: skip
def test_a_wrong_option_is_told(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["evaluate", "statarb", "--data", ".", option, value])
    assert error.value.code == 2
    assert "such as" in (told := capsys.readouterr().err) or "write it like" in told
