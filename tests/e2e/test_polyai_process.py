"""PolyAI as a real process on the local market: it bets only where skill was shown, and loses
nothing when it is killed."""

import random
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests

from fleet.config import Paths
from fleet.domain import events as ev
from fleet.engine.state import fold
from fleet.forecasting.memory import open_memory
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.forecasting.port import Item, Kind
from tests.builders import NS
from tests.e2e.fleet_home import FleetHome
from tests.e2e.live_home import KEY, LiveHome
from tests.e2e.pm2_home import until
from tests.e2e.test_live_process import come_to_rest
from tests.proof import entries_of, prove_files

pytestmark = pytest.mark.slow

CATEGORIES = ("crypto", "sports", "politics", "economics", "geopolitics")
MODEL = "llm:sandbox-model"
LONG_AGO = 1_780_000_000 * NS


def home_of(tmp_path: Path, **settings: str) -> FleetHome:
    home = FleetHome(tmp_path, slug="polyai")
    home.configure(**quick(home.port), **settings)
    return home


def quick(port: int) -> dict[str, str]:
    """Rounds of six seconds, the local model, and edges small enough for its noise."""
    return {
        "POLYAI_SCAN_INTERVAL_MINUTES": "0.1",
        "POLYAI_NEWS_INTERVAL_MINUTES": "0.1",
        "POLYAI_LLM_BASE_URL": f"http://127.0.0.1:{port}/models/v1",
        "POLYAI_LLM_API_KEY": "local",
        "POLYAI_LLM_MODELS": "sandbox-model",
        "POLYAI_LLM_PRICES": "sandbox-model=0.1/0.4",
        "POLYAI_MIN_EDGE": "0.002",
        "POLYAI_MIN_CONFIDENCE": "51",
        "POLYAI_QUESTIONS_PER_ROUND": "20",
    }


def remember_skill(paths: Paths) -> None:
    """A record in which the model was right nine times of ten where the price said one half."""
    rng = random.Random(1)
    items: list[Item] = []
    for category in CATEGORIES:
        for number in range(150):
            likely = number % 2 == 0
            yes = rng.random() < (0.9 if likely else 0.1)
            name = f"old-{category}-{number}"
            items.append(
                Item(
                    id=f"{MODEL}|{name}|1", kind=Kind.FORECAST, text=f"old question {name}",
                    known_ns=LONG_AGO + number * NS, category=category, source="sandbox",
                    outcome=float(yes), price=0.5,
                    facts={"question": name, "event": name, "forecaster": MODEL,
                           "probability": 0.9 if likely else 0.1, "made": LONG_AGO},
                )
            )  # fmt: skip
    memory = open_memory(MemoryEnv(), paths)
    memory.add(items)
    memory.close()


def forecasts_in(events: Sequence[ev.Event]) -> list[ev.ForecastReceived]:
    return [event for event in events if isinstance(event, ev.ForecastReceived)]


def test_without_a_record_it_forecasts_and_stakes_nothing(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    with home.sandbox(), home.bot() as bot:
        home.ready(pid=bot.pid)
        until(lambda: home.log().count(" FORECAST ") >= 8, f"it forecasts\n{home.tail()}", 40)
        bot.send_signal(signal.SIGTERM)
        assert bot.wait(14) == 0
    assert "no edge found" in home.log()
    _, journal = entries_of(tmp_path, "polyai")
    events = [entry.event for entry in journal]
    told = forecasts_in(events)
    assert {one.forecaster for one in told} == {"statistical", MODEL}
    assert all(one.weight == 0 and one.blend == one.price for one in told)
    by_model = [one for one in told if one.forecaster == MODEL]
    assert all(one.prompt_hash and len(one.samples) >= 3 and one.cost for one in by_model)
    assert not [e for e in events if isinstance(e, ev.DecisionMade) and e.orders]
    assert "Task was destroyed" not in (home.paths.logs / "polyai-out.log").read_text()


def test_with_skill_shown_it_bets_and_a_kill_loses_nothing(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    remember_skill(home.paths)
    with home.sandbox("--speed", "4"):
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            home.filled(2)
            bot.kill()
            bot.wait(10)
        prove_files(tmp_path, "polyai")
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            until(lambda: home.log().count("PRICES of before") == 1, "it remembers prices")
            bot.send_signal(signal.SIGINT)
            assert bot.wait(14) == 0
    prove_files(tmp_path, "polyai")
    _, journal = entries_of(tmp_path, "polyai")
    events = [entry.event for entry in journal]
    bets = [
        plan for e in events if isinstance(e, ev.DecisionMade) for plan in e.opened
        if plan.idea == "FORECAST"
    ]  # fmt: skip
    assert bets
    earned = {one.market_id for one in forecasts_in(events) if one.weight > 0}
    assert {plan.key for plan in bets} <= earned
    state = fold(events)
    held = {s.key for s in state.bundles.standings.all.values()}
    assert held, "what was bought is told apart by the idea that bought it"
    assert "AI OPPORTUNITY" in home.log()
    assert "EXECUTED" in home.log()


def test_a_model_that_misbehaves_is_a_failure_and_no_forecast(tmp_path: Path) -> None:
    home = home_of(tmp_path, POLYAI_LLM_TIMEOUT_S="5")
    with home.sandbox(), home.bot() as bot:
        done = requests.post(
            f"http://127.0.0.1:{home.port}/models/faults",
            json={"name": "outside", "rate": 1.0}, timeout=5,
        )  # fmt: skip
        assert done.ok, done.text
        home.ready(pid=bot.pid)
        until(lambda: "FORECAST FAILED" in home.log(), f"it says so\n{home.tail()}", 40)
        bot.send_signal(signal.SIGTERM)
        assert bot.wait(14) == 0
    _, journal = entries_of(tmp_path, "polyai")
    told = forecasts_in([entry.event for entry in journal])
    assert {one.forecaster for one in told} <= {"statistical"}


def test_live_on_the_sandbox_journal_and_exchange_agree(tmp_path: Path) -> None:
    home = LiveHome(tmp_path, slug="polyai", name="PolyAI")
    own = home.paths.wallet_file("polyai")
    own.parent.mkdir(mode=0o700)
    own.write_text(f"POLYMARKET_PRIVATE_KEY={KEY}\nPOLYMARKET_WALLET=eoa\n")
    own.chmod(0o600)
    home.configure(**quick(home.port))
    remember_skill(home.paths)
    with home.sandbox("--speed", "4"):
        home.admit()
        with home.live() as bot:
            home.ready(pid=bot.pid, within_s=40)
            home.filled(1)
            bot.kill()
            bot.wait(10)
        with home.live() as bot:
            home.ready(pid=bot.pid, within_s=40)
            come_to_rest(home)
            bot.send_signal(signal.SIGTERM)
            assert bot.wait(14) == 0
        state = home.agree()
    assert any(isinstance(event, ev.OrderFilled) for event in home.events())
    assert not state.orders.open
    assert KEY not in home.log()
