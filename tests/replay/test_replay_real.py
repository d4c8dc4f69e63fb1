"""Nineteen recorded games through the whole engine: figures that may never change unnoticed.

The books are those of Polymarket in June 2025. That nothing pays after fees is a proper result.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from fleet.bots.arbhunter import SPEC
from fleet.bots.known import KNOWN
from fleet.config import load_all
from fleet.domain import events as ev
from fleet.domain.commands import (
    CloseBundle,
    Intent,
    LegPlan,
    OpenBundle,
    OrderIntent,
    Purpose,
    StartTimer,
)
from fleet.domain.instruments import FeeSchedule, Side
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.runtime.replay import ReplayReport, ReplaySettings
from fleet.runtime.replay_files import DEFAULT_FEES, replay_and_print, replay_file
from fleet.runtime.spec import Loaded
from fleet.venues.paper import PaperSettings
from tests.builders import c, p, q

pytestmark = pytest.mark.realdata
LOADED = Loaded(items=load_all(KNOWN, {}, KNOWN))
NOTHING_SENT = hashlib.sha256().hexdigest()
TRUSTING = 0
WATCHED = 30_000_000_000


@cache
def replayed(folder: Path, watchdog_ns: int, fees: FeeSchedule) -> dict[str, ReplayReport]:
    """The reports of all games."""
    settings = ReplaySettings(limits=SPEC.limits(LOADED), watchdog_ns=watchdog_ns)
    return {
        file.name: replay_file(
            file, build=lambda view: SPEC.strategy(LOADED, view), settings=settings, fees=fees
        )
        for file in sorted(folder.glob("*.jsonl.gz"))
    }


@pytest.fixture
def games(fleet_data: Path) -> Path:
    folder = fleet_data / "orderbook" / "signaldrift_mlb_2025"
    assert folder.is_dir(), f"{folder} is missing"
    return folder


def totals(reports: dict[str, ReplayReport]) -> Counter[str]:
    """Everything that can be added up."""
    found: Counter[str] = Counter()
    for report in reports.values():
        quality = report.quality
        found.update(
            frames=quality.frames, events=quality.events, rejected=quality.rejected,
            crossed=quality.crossed, moments=quality.moments, mirrored=quality.mirrored,
            gaps=quality.gaps, orders=report.orders, bundles=report.ledger.tried,
        )  # fmt: skip
        found.update({k: v for k, v in report.figures.items() if k != "best_gross"})
    return found


def test_every_frame_of_every_game_is_read(games: Path) -> None:
    reports = replayed(games, WATCHED, DEFAULT_FEES)
    found = totals(reports)
    assert len(reports) == 19
    assert all(report.instruments == 2 for report in reports.values())
    assert found["frames"] == found["events"] == 64_768
    assert found["rejected"] == 0


def test_what_the_books_looked_like(games: Path) -> None:
    found = totals(replayed(games, WATCHED, DEFAULT_FEES))
    assert found["gaps"] == 518
    assert (found["mirrored"], found["moments"]) == (28_355, 28_452)
    assert found["mirrored"] / found["moments"] > 0.99
    assert found["crossed"] == 511


def test_what_looked_profitable_was_a_book_behind_the_other(games: Path) -> None:
    found = totals(replayed(games, WATCHED, DEFAULT_FEES))
    assert found["raw_moments"] == 451
    assert (found["sightings"], found["phantoms"], found["stale"]) == (22, 15, 7)
    assert found["real"] == found["opportunities"] == found["orders"] == found["bundles"] == 0


def test_without_a_watchdog_stale_books_look_profitable_for_longer(games: Path) -> None:
    found = totals(replayed(games, TRUSTING, DEFAULT_FEES))
    assert found["gaps"] == 0
    assert found["raw_moments"] == 464
    assert found["opportunities"] == 0


def test_even_without_fees_nothing_was_there_to_take(games: Path) -> None:
    found = totals(replayed(games, WATCHED, FeeSchedule(rate=0)))
    assert found["real"] == found["opportunities"] == found["orders"] == 0


class Prodding:
    """Buys a few shares at the best ask every so often and sells them later: many commands."""

    def __init__(self) -> None:
        self._frames = 0

    def on_event(self, event: ev.AnyEvent, view: View) -> Sequence[Intent | StartTimer]:
        if isinstance(event, ev.TimerFired):
            return [
                CloseBundle(bundle_id=bundle_id, outcome="DONE")
                for bundle_id in view.open_bundles if not view.open_orders
            ]  # fmt: skip
        self._frames += 1
        if self._frames % 25 or view.open_bundles or not isinstance(event, ev.BookChanged):
            return ()
        token = event.changes[0][0]
        book = view.book(token)
        if not book.usable or not book.best_bid or book.ask >= p("0.97"):
            return ()
        name = view.next_bundle_id()
        first = LegPlan(instrument_id=token, side=Side.BUY, qty=q("20"), limit=book.ask,
                        unwind=book.bid)  # fmt: skip
        bundle = OpenBundle(
            bundle_id=name, idea="PROD", key="x", legs=(first,), start=None, finish=None,
            payoff=p("1"), budget=c("25"), edge=c("0"),
        )  # fmt: skip
        buy = OrderIntent(
            bundle_id=name, leg=0, purpose=Purpose.LEG, instrument_id=token, side=Side.BUY,
            price=book.ask, qty=q("20"),
        )  # fmt: skip
        return [bundle, buy, StartTimer(name="later", at_ns=view.now_ns + 123_456_789)]

    def figures(self) -> dict[str, int]:
        return {"opportunities": 0}


def prodded(file: Path, latency_ms: int = 60) -> ReplayReport:
    limits = RiskLimits(
        max_market_exposure=c("100000"), max_wallet_exposure=c("100000"),
        max_day_turnover=c("1000000"), max_day_loss=c("100000"),
    )  # fmt: skip
    paper = PaperSettings(cash=c("100000"), latency_ns=latency_ms * 1_000_000)
    settings = ReplaySettings(limits=limits, paper=paper)
    return replay_file(file, build=lambda _view: Prodding(), settings=settings)


def test_the_same_file_gives_the_same_hash_of_many_commands(games: Path) -> None:
    file = games / "20250619_mlb-hou-bal-2025-06-19.jsonl.gz"
    first, second = prodded(file), prodded(file)
    assert first.orders > 100
    assert first.fees > 0
    assert first.anomalies == ""
    assert (first.command_hash, first.pnl) == (second.command_hash, second.pnl)
    assert prodded(file, latency_ms=2_000).command_hash != first.command_hash


def test_where_nothing_pays_no_command_is_sent(games: Path) -> None:
    reports = replayed(games, WATCHED, DEFAULT_FEES)
    assert {report.command_hash for report in reports.values()} == {NOTHING_SENT}


def test_the_verdict_says_that_nothing_paid(games: Path) -> None:
    out = io.StringIO()
    files = sorted(games.glob("*.jsonl.gz"))
    code = replay_and_print(
        files, build=lambda view: SPEC.strategy(LOADED, view), limits=SPEC.limits(LOADED), out=out
    )
    assert code == 0
    assert "19 files, 64768 frames, 22 sightings, 0 real, 0 after fees." in out.getvalue()
    assert "Verdict: no opportunity after fees" in out.getvalue()
