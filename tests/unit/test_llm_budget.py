"""Dollars for models: never more than allowed, by one process or several, and never forgotten."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.clock import NS_PER_DAY, ManualClock
from fleet.domain.units import SCALE, Cash, parse_cash
from fleet.forecasting.budget import Budget, BudgetSpent, Usage
from fleet.forecasting.prices import PriceTable, PriceUnknown, prices
from fleet.forecasting.prompts import build
from fleet.forecasting.usage import PROMPTS_KEPT_NS, Ask, Outcome, Settled, UsageLedger
from tests.model_world import NOW_NS, question

ROOT = Path(__file__).resolve().parents[2]


def budget(path: Path, *, day: str = "1", per_question: str = "1") -> Budget:
    return Budget(
        UsageLedger(path),
        PriceTable(prices("m=1/10/0.5")),
        ManualClock(NOW_NS),
        day_max=parse_cash(day),
        question_max=parse_cash(per_question),
        tokens_max=1_000,
    )


def test_prices_are_rounded_up_and_cached_tokens_are_cheaper() -> None:
    (price,) = dict(prices("m=0.15/0.60/0.075")).values()
    assert price.cost(1_000_000, 0) == parse_cash("0.15")
    assert price.cost(1_000_000, 1_000_000, 1_000_000) == parse_cash("0.675")
    assert price.cost(1, 0) == 15
    assert price.cost(1, 0, 1) == 8  # 7.5 at 1e-8 dollars
    assert price.cost(10, 0, 50) == price.cost(10, 0, 10)


def test_the_built_in_table_and_the_users_own() -> None:
    table = PriceTable(prices("gpt-4.1-mini=9/9, local/llama:8b=0/0"))
    assert table.of("gpt-4o-mini").cost(1_000_000, 0) == parse_cash("0.15")
    assert table.of("openai/gpt-5-mini") == table.of("gpt-5-mini")
    assert table.of("gpt-4.1-mini").cost(1_000_000, 0) == 9 * SCALE
    assert table.of("local/llama:8b").cost(10**6, 10**6) == 0
    with pytest.raises(PriceUnknown, match="POLYAI_LLM_PRICES=somebody/model=READ/WRITTEN"):
        table.of("somebody/model")


@pytest.mark.parametrize("text", ["m", "m=1", "=1/2", "m=1/2/3/4", "m=a/b", "m=-1/2", "m=1/"])
def test_a_wrong_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        prices(text)


def test_reserved_before_and_settled_after(tmp_path: Path) -> None:
    money = budget(tmp_path / "u.sqlite")
    prompt = build(question())
    held = money.hold(["m", "m"], question="q", forecaster="f", prompt=prompt)
    worst = money.ledger.spent(NOW_NS)
    assert worst == 2 * (prompt.tokens_max * 100 + 1_000_000)  # At 1e-8 dollars a token.
    money.settle(held[0], Outcome.GOOD, model="m", usage=Usage(read=900, written=50, cached=100))
    money.settle(held[1], Outcome.TIMEOUT, model="m")
    assert money.ledger.amounts(held[:1]) == 800 * 100 + 100 * 50 + 50 * 1_000
    assert money.ledger.amounts(held[1:]) == worst // 2
    # The first word stands: what a late cancellation says changes nothing.
    money.settle(held[0], Outcome.CANCELLED, model="m", free=True)
    assert money.ledger.amounts(held[:1]) == 85_000 + 50_000


def test_a_reported_cost_counts_where_it_is_more(tmp_path: Path) -> None:
    money = budget(tmp_path / "u.sqlite")
    cases = [(0.5, SCALE // 2), (0.0, 10_000), (-3.0, 10_000), (1e300, 1_000_000 * SCALE)]
    for day, (reported, cost) in enumerate(cases):
        money.clock = ManualClock(NOW_NS + day * NS_PER_DAY)
        (held,) = money.hold(["m"], question="q", forecaster="f", prompt=build(question()))
        usage = Usage(read=100, written=0, reported_usd=reported)
        money.settle(held, Outcome.GOOD, model="m", usage=usage)
        assert money.ledger.amounts([held]) == cost


def test_limits_of_day_and_question(tmp_path: Path) -> None:
    prompt = build(question())
    worst = (prompt.tokens_max * 100 + 1_000_000) / SCALE
    money = budget(tmp_path / "u.sqlite", day=f"{3.5 * worst:.8f}", per_question=f"{2 * worst:.8f}")
    money.hold(["m", "m"], question="a", forecaster="f", prompt=prompt)
    with pytest.raises(BudgetSpent, match="the question's model budget"):
        money.hold(["m"], question="a", forecaster="f", prompt=prompt)
    money.hold(["m"], question="b", forecaster="f", prompt=prompt)
    with pytest.raises(BudgetSpent, match="POLYAI_LLM_DAY_BUDGET_USD"):
        money.hold(["m"], question="b", forecaster="f", prompt=prompt)
    money.clock = ManualClock(NOW_NS + NS_PER_DAY)
    money.hold(["m", "m"], question="a", forecaster="f", prompt=prompt)


def test_what_a_dead_process_held_stays_held(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from fleet.domain.units import Cash
from fleet.forecasting.usage import Ask, UsageLedger
ask = Ask(question="q", forecaster="f", model="m", prompt="p", worst=Cash(60))
UsageLedger(Path(sys.argv[1])).hold(
    [ask], now_ns=int(sys.argv[2]), day_max=Cash(100), question_max=Cash(100))
os._exit(9)
"""
    path = tmp_path / "u.sqlite"
    done = subprocess.run([sys.executable, "-c", code, str(path), str(NOW_NS)], check=False)
    assert done.returncode == 9
    ledger = UsageLedger(path)
    assert ledger.spent(NOW_NS) == 60
    ask = Ask(question="q", forecaster="f", model="m", prompt="p", worst=Cash(60))
    refused = ledger.hold([ask], now_ns=NOW_NS, day_max=Cash(100), question_max=Cash(1_000))
    assert isinstance(refused, str) and "wait for the next UTC day" in refused


RACER = """
import sys
from pathlib import Path
from fleet.domain.units import Cash
from fleet.forecasting.usage import Ask, Outcome, Settled, UsageLedger
ledger, got = UsageLedger(Path(sys.argv[1])), 0
asks = [Ask(question="q", forecaster="f", model="m", prompt="p", worst=Cash(7))] * 2
for turn in range(120):
    held = ledger.hold(asks, now_ns=int(sys.argv[2]), day_max=Cash(1000), question_max=Cash(5000))
    if isinstance(held, str):
        break
    got += 1
    if turn % 3 == 0:
        ledger.settle(held[0], Settled(outcome=Outcome.GOOD, cost=Cash(3)))
print(got)
"""


def test_two_processes_never_spend_the_same_dollar(tmp_path: Path) -> None:
    path = tmp_path / "u.sqlite"
    command = [sys.executable, "-c", RACER, str(path), str(NOW_NS)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    got = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    ledger = UsageLedger(path)
    assert 1_000 - 14 < ledger.spent(NOW_NS) <= 1_000
    assert len(ledger.rows("SELECT id FROM attempt")) == 2 * sum(got)
    assert (path.stat().st_mode & 0o777) == 0o600


def test_nobody_reserves_between_anothers_look_and_its_writing(tmp_path: Path) -> None:
    """The second starts when the first has looked and not yet written, and has to wait."""
    path = tmp_path / "u.sqlite"
    ask = Ask(question="q", forecaster="f", model="m", prompt="p", worst=Cash(60))
    limits = {"day_max": Cash(100), "question_max": Cash(100)}
    UsageLedger(path).hold([ask], now_ns=NOW_NS - NS_PER_DAY, **limits)
    answers: list[list[int] | str] = []
    second = threading.Thread(
        target=lambda: answers.append(UsageLedger(path).hold([ask], now_ns=NOW_NS, **limits))
    )

    class Slowly(list[Ask]):
        walks = 0

        def __iter__(self) -> Iterator[Ask]:
            self.walks += 1
            if self.walks == 2:  # First they are added up, then they are written.
                second.start()
                second.join(0.3)
            return super().__iter__()

    held = UsageLedger(path).hold(Slowly([ask]), now_ns=NOW_NS, **limits)
    second.join(30)
    assert isinstance(held, list)
    assert len(answers) == 1 and isinstance(answers[0], str)
    assert UsageLedger(path).spent(NOW_NS) == 60


def test_the_kpis(tmp_path: Path) -> None:
    ledger = UsageLedger(tmp_path / "u.sqlite")
    assert ledger.figures().error_rate == ledger.figures().cost_per_forecast_usd == 0.0
    ask = Ask(question="q", forecaster="f", model="m", prompt="p", worst=Cash(SCALE))
    limits = {"day_max": Cash(99 * SCALE), "question_max": Cash(99 * SCALE)}
    held = ledger.hold([ask] * 4, now_ns=NOW_NS, **limits)
    assert not isinstance(held, str)
    for attempt, outcome in zip(held, [*[Outcome.GOOD] * 3, Outcome.INVALID], strict=True):
        ledger.settle(attempt, Settled(outcome=outcome, cost=Cash(SCALE // 4)))
    made = {"question": "q", "forecaster": "f", "prompt": "p", "cost": Cash(SCALE)}
    ledger.note_forecast(**made, probability=0.3, samples=3, now_ns=NOW_NS)  # type: ignore[arg-type] # one of each kind
    ledger.note_forecast(**made, probability=None, samples=0, now_ns=NOW_NS)  # type: ignore[arg-type] # as above
    figures = ledger.figures()
    assert (figures.error_rate, figures.cost_per_forecast_usd) == (0.25, 1.0)
    assert (figures.forecasts, figures.failed) == (1, 1)
    assert ledger.figures(since_ns=NOW_NS + NS_PER_DAY).attempts == 0


def test_prompts_are_kept_once_and_for_a_while(tmp_path: Path) -> None:
    ledger = UsageLedger(tmp_path / "u.sqlite")
    ledger.keep_prompt("h", b"the words", NOW_NS)
    ledger.keep_prompt("h", b"other words", NOW_NS)
    assert ledger.prompt("h") == b"the words"
    ledger.keep_prompt("i", b"later", NOW_NS + PROMPTS_KEPT_NS + 1)
    assert ledger.prompt("h") is None and ledger.prompt("i") == b"later"
