"""The sandbox against recordings: its order flow in quantiles, its objects key by key.

The flow was fitted to the days in ``FITTED_DAYS``; every other day present judges it, with wider
tolerances, since games differ more from one another than the simulator does from the average.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.sandbox import clob, gamma
from fleet.sandbox.flow_fit import FITTED, LEVELS_AT
from fleet.sandbox.flow_stats import FlowStats
from fleet.sandbox.market_frames import book_hash, book_object
from fleet.sandbox.simulator import MarketSimulator, SimulatorSettings

pytestmark = pytest.mark.realdata

START_NS = 1_795_000_000 * NS_PER_SECOND
FITTED_DAYS = ["20250617", "20250619"]
# The largest ratio, either way, of a simulated to a recorded quantile: at p25, p50, p75.
FIT_RATIOS = {
    "spread": (1.01, 1.4, 1.5),
    "levels": (1.5, 1.3, 1.3),
    "touch_size": (2.6, 1.6, 4.0),
    "interarrival_ms": (1.3, 1.3, 1.4),
    "changes": (1.01, 1.01, 1.01),
    "change_size": (1.5, 1.7, 2.0),
    "trade_size": (1.5, 1.5, 1.8),
}
HELD_OUT_RATIOS = (4.0, 2.6, 4.0)


@pytest.fixture(scope="module")
def folder(fleet_data: Path) -> Path:
    found = fleet_data / "orderbook" / "signaldrift_mlb_2025"
    assert found.is_dir(), f"FLEET_DATA is set but {found} is missing"
    return found


@pytest.fixture(scope="module")
def fixtures(fleet_data: Path) -> Path:
    found = fleet_data / "contract_fixtures"
    assert found.is_dir(), f"FLEET_DATA is set but {found} is missing"
    return found


@pytest.fixture(scope="module")
def fitting() -> ModuleType:
    """``scripts/fit_sandbox.py``, which is no package."""
    path = Path(__file__).resolve().parents[2] / "scripts" / "fit_sandbox.py"
    spec = importlib.util.spec_from_file_location("fit_sandbox", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def simulated(fitting: ModuleType) -> FlowStats:
    made: FlowStats = fitting.simulated(seed=11, seconds=2_400)
    return made


@pytest.fixture(scope="module")
def fitted(fitting: ModuleType, folder: Path) -> FlowStats:
    real: FlowStats = fitting.recorded(folder, FITTED_DAYS)
    return real


def test_the_constants_are_what_the_fitted_days_say(fitted: FlowStats) -> None:
    for name in ("spread", "levels", "touch_size", "interarrival_ms", "change_size"):
        table = getattr(FITTED, name)
        assert fitted.quantiles(name, LEVELS_AT) == pytest.approx(table.values, rel=0.01), name
    assert fitted.quantiles("trade_size", LEVELS_AT)[:6] == pytest.approx(
        FITTED.trade_size.values[:6], rel=0.01
    )
    assert fitted.book_share == pytest.approx(FITTED.book_share, abs=1e-3)


@pytest.mark.parametrize("name", FIT_RATIOS)
def test_the_simulator_moves_as_the_fitted_days_did(
    fitted: FlowStats, simulated: FlowStats, name: str
) -> None:
    assert_ratios(fitted, simulated, name, FIT_RATIOS[name])


@pytest.mark.parametrize("name", FIT_RATIOS)
def test_the_simulator_is_near_the_days_held_out(
    fitting: ModuleType, folder: Path, simulated: FlowStats, name: str
) -> None:
    days = sorted({p.name[:8] for p in folder.glob("*.jsonl.gz")} - set(FITTED_DAYS))
    assert days, "no recordings besides the fitted ones"
    assert_ratios(fitting.recorded(folder, days), simulated, name, HELD_OUT_RATIOS)


def assert_ratios(
    real: FlowStats, made: FlowStats, name: str, allowed: tuple[float, float, float]
) -> None:
    at = (0.25, 0.5, 0.75)
    pairs = zip(real.quantiles(name, at), made.quantiles(name, at), allowed, strict=True)
    for recorded, simulated, ratio in pairs:
        assert recorded / ratio <= simulated <= recorded * ratio, (name, recorded, simulated)


def test_shares_of_messages_and_changes(fitted: FlowStats, simulated: FlowStats) -> None:
    assert simulated.book_share == pytest.approx(fitted.book_share, abs=0.01)
    for kind in ("add", "remove", "up", "down"):
        assert simulated.kind_share(kind) == pytest.approx(fitted.kind_share(kind), abs=0.08)


def test_prices_move_as_far_in_ten_seconds(fitted: FlowStats, simulated: FlowStats) -> None:
    real, made = (
        fitted.quantiles("move_10s", [0.75, 0.9]),
        simulated.quantiles("move_10s", [0.75, 0.9]),
    )
    assert made == pytest.approx(real, abs=0.006)


@pytest.fixture(scope="module")
def market_simulator() -> MarketSimulator:
    found = MarketSimulator(SimulatorSettings(), START_NS)
    found.step(START_NS + 120 * NS_PER_SECOND)
    return found


def kinds(row: dict[str, Any]) -> dict[str, type]:
    """A row's keys with their JSON types; whole and broken numbers are both numbers."""
    return {k: float if type(v) is int else type(v) for k, v in row.items()}


def test_the_recorded_book_has_our_keys_types_and_hash(
    fixtures: Path, market_simulator: MarketSimulator
) -> None:
    recorded = json.loads((fixtures / "hugompt_microstructure_lab" / "clob_book.json").read_text())
    ours = book_object(market_simulator.listings.markets[0], 0)
    assert list(ours) == list(recorded)
    assert kinds(ours) == kinds(recorded)
    assert {frozenset(level) for level in ours["bids"]} == {frozenset(recorded["bids"][0])}
    assert book_hash(recorded) == recorded["hash"]


def test_gamma_objects_have_the_recorded_keys_and_types(
    fixtures: Path, market_simulator: MarketSimulator
) -> None:
    lab = fixtures / "hugompt_microstructure_lab"
    event = json.loads((lab / "gamma_event_crypto_updown.json").read_text())[0]
    rows = [
        *json.loads((lab / "gamma_markets.json").read_text()),
        json.loads((lab / "gamma_market_updown.json").read_text()),
        *event["markets"],
    ]
    ours = kinds(gamma.market_object(market_simulator.listings.markets[0]))
    for recorded in rows:
        theirs = kinds(recorded)
        shared = set(ours) & set(theirs)
        assert {k: ours[k] for k in shared} == {k: theirs[k] for k in shared}
    everywhere = set.intersection(*(set(r) for r in rows))
    # Ours lack only what a bot has no use for.
    assert everywhere - set(ours) <= {"hasReviewedDates", "showGmpSeries", "showGmpOutcome"}
    group = next(iter(market_simulator.listings.groups.values()))
    our_event, their_event = kinds(gamma.event_object(group)), kinds(event)
    shared = set(our_event) & set(their_event)
    assert {k: our_event[k] for k in shared} == {k: their_event[k] for k in shared}
    assert set(event) - set(our_event) <= {"startTime", "seriesSlug"}
    assert set(gamma.TAGS[0]) <= set(event["tags"][0])


def test_history_has_the_recorded_shape(fixtures: Path, market_simulator: MarketSimulator) -> None:
    recorded = json.loads(
        (fixtures / "hugompt_microstructure_lab" / "clob_prices_history.json").read_text()
    )
    now_ns = market_simulator.now_ns
    ours = clob.price_history(
        market_simulator.listings.markets[0], 0, start_s=0, end_s=now_ns // NS_PER_SECOND,
        fidelity_min=1, now_ns=now_ns,
    )  # fmt: skip
    assert set(ours) == set(recorded)
    assert kinds(ours["history"][0]) == kinds(recorded["history"][0])


def test_frames_have_the_documented_fields(
    fixtures: Path, market_simulator: MarketSimulator
) -> None:
    folder = fixtures / "protocol_v2_2026"
    documented = json.loads((folder / "documented_frames.json").read_text())["market_channel"]
    listed = json.loads((folder / "recorded_new_market_frame.json").read_text())["frame"]
    later = market_simulator.step(market_simulator.now_ns + 400 * NS_PER_SECOND)
    ours = {f.event_type: json.loads(f.payload) for f in later}
    for theirs in documented["frames"]:
        mine = ours[theirs["event_type"]]
        assert set(theirs) <= set(mine), theirs["event_type"]
        shared = set(theirs)
        assert {k: kinds(mine)[k] for k in shared} == {k: kinds(theirs)[k] for k in shared}
        if theirs["event_type"] == "price_change":
            assert kinds(mine["price_changes"][0]) == kinds(theirs["price_changes"][0])
    assert kinds(ours["new_market"]) == kinds(listed)
    assert kinds(ours["new_market"]["fee_schedule"]) == kinds(listed["fee_schedule"])
    assert kinds(ours["new_market"]["event_message"]) == kinds(listed["event_message"])
