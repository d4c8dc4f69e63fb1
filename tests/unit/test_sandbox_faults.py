"""The decisions about faults: rates, windows, one-shots, seeds, and what a request must suffer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.clock import NS_PER_SECOND as S
from fleet.sandbox.faults import UNDISTURBED, Faults, Outcome
from fleet.sandbox.faults_catalogue import CATALOGUE, Fault, FaultRule, fault_named, parse_rule

ROOT = Path(__file__).resolve().parents[2]
ORDER = "POST /clob/order"
NOW = 1_795_000_000 * S


def faults(*rules: FaultRule, seed: int = 7) -> Faults:
    made = Faults(seed)
    for rule in rules:
        made.put(rule, NOW)
    return made


def struck(made: Faults, fault: Fault, subject: str, count: int) -> list[bool]:
    return [made.strike(fault, subject, NOW + n) is not None for n in range(count)]


def test_every_fault_is_described() -> None:
    assert set(CATALOGUE) == set(Fault)
    assert all(spec.text and spec.chance and spec.where for spec in CATALOGUE.values())


def test_the_page_tells_of_every_fault() -> None:
    page = (ROOT / "docs" / "sandbox.md").read_text()
    for fault, spec in CATALOGUE.items():
        where = " ".join(f"`{place}`" for place in spec.where)
        row = f"| `{fault.value}` | {spec.text} | {spec.chance} | {where} | {spec.seconds:g} |"
        assert row in page


@pytest.mark.parametrize("wrong", ["gremlins=1", "drop=2", "missing.json", "drop"])
def test_the_command_refuses_faults_it_does_not_know(wrong: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fleet.cli.main", "sandbox", "--port", "0", "--faults", wrong]
    done = subprocess.run(
        [*command, "--root", str(tmp_path)], cwd=tmp_path, env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert wrong.partition("=")[0] in done.stderr


def test_nothing_happens_without_a_rule() -> None:
    made = faults()
    assert not made.active
    assert made.request(ORDER, NOW) is UNDISTURBED
    assert not any(struck(made, Fault.DROP, "market#1", 50))


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_a_rate_is_the_share_of_the_chances(rate: float) -> None:
    made = faults(FaultRule(fault=Fault.DROP, rate=rate, where=("market",)))
    count = 20_000
    hits = sum(
        made.strike(Fault.DROP, "market#1", NOW, place="market") is not None for _ in range(count)
    )
    # Five standard deviations: this seed is fixed, but no luckier than others.
    assert abs(hits - rate * count) < 5 * (count * rate * (1 - rate)) ** 0.5
    assert made.struck == {Fault.DROP: hits}
    assert made.chances == {Fault.DROP: count}


def test_the_same_seed_brings_the_same_faults_and_another_does_not() -> None:
    rule = FaultRule(fault=Fault.LOST_REQUEST, rate=0.3)
    first, again, other = faults(rule), faults(rule), faults(rule, seed=8)
    told = [struck(made, Fault.LOST_REQUEST, ORDER, 200) for made in (first, again, other)]
    assert told[0] == told[1] != told[2]


def test_what_happens_to_one_subject_does_not_depend_on_the_others() -> None:
    rule = FaultRule(fault=Fault.LOST_REQUEST, rate=0.3, where=("*",))
    alone, busy = faults(rule), faults(rule)
    told = []
    for _ in range(100):
        struck(busy, Fault.LOST_REQUEST, "POST /clob/orders", 3)
        told += struck(busy, Fault.LOST_REQUEST, ORDER, 1)
    assert told == struck(alone, Fault.LOST_REQUEST, ORDER, 100)


def test_a_reseed_begins_the_chances_anew() -> None:
    made = faults(FaultRule(fault=Fault.DROP, rate=0.5, where=("*",)))
    first = struck(made, Fault.DROP, "market#1", 50)
    made.reseed(7)
    assert struck(made, Fault.DROP, "market#1", 50) == first


def test_one_shots_strike_so_often_and_no_more() -> None:
    made = faults(FaultRule(fault=Fault.LOST_REQUEST, times=2))
    assert struck(made, Fault.LOST_REQUEST, ORDER, 4) == [True, True, False, False]
    assert not made.active


def test_one_shots_come_before_the_standing_rule_which_they_leave_alone() -> None:
    made = faults(
        FaultRule(fault=Fault.SLOW_ANSWER, seconds=1),
        FaultRule(fault=Fault.SLOW_ANSWER, seconds=2, times=1),
    )
    assert [made.request(ORDER, NOW).after_s for _ in range(3)] == [2, 1, 1]


def test_a_standing_rule_replaces_the_one_before() -> None:
    made = faults(
        FaultRule(fault=Fault.SLOW_ANSWER, seconds=1), FaultRule(fault=Fault.SLOW_ANSWER, seconds=3)
    )
    assert [rule.lasts_s for rule in made.rules()] == [3]


def test_a_rule_holds_in_its_window_only() -> None:
    made = faults(FaultRule(fault=Fault.LOST_REQUEST, after_s=10, for_s=5))
    moments = (0, 9.9, 10, 14.9, 15, 100)
    told = [made.strike(Fault.LOST_REQUEST, ORDER, NOW + int(m * S)) is not None for m in moments]
    assert told == [False, False, True, True, False, False]


def test_a_rule_strikes_where_it_says() -> None:
    made = faults(FaultRule(fault=Fault.LOST_REQUEST, where=("DELETE /clob/*",)))
    assert made.request("DELETE /clob/cancel-all", NOW).outcome is Outcome.LOST
    assert made.request(ORDER, NOW) is UNDISTURBED


@pytest.mark.parametrize(
    ("fault", "outcome", "status"),
    [
        (Fault.LOST_REQUEST, Outcome.LOST, None),
        (Fault.TIMEOUT_AFTER_ACCEPTANCE, Outcome.UNANSWERED, None),
        (Fault.ERROR_BEFORE, Outcome.REFUSED, 500),
        (Fault.ERROR_AFTER, Outcome.MISREPORTED, 500),
        (Fault.GATEWAY_ERROR, Outcome.MISREPORTED, 502),
        (Fault.RATE_LIMITED, Outcome.REFUSED, 429),
    ],
)
def test_the_fate_of_a_request(fault: Fault, outcome: Outcome, status: int | None) -> None:
    fate = faults(FaultRule(fault=fault, seconds=2.5)).request(ORDER, NOW)
    assert fate.outcome is outcome
    assert (fate.refusal.status if fate.refusal else None) == status
    assert fate.hold_s == 2.5
    if fault is Fault.RATE_LIMITED:
        assert fate.refusal is not None and fate.refusal.retry_after_s == 3


def test_slowness_comes_on_top_of_another_fault() -> None:
    made = faults(
        FaultRule(fault=Fault.SLOW_REQUEST, seconds=1),
        FaultRule(fault=Fault.SLOW_ANSWER, seconds=2),
        FaultRule(fault=Fault.ERROR_AFTER),
        FaultRule(fault=Fault.LOST_REQUEST),
    )
    fate = made.request(ORDER, NOW)
    assert (fate.before_s, fate.after_s, fate.outcome) == (1, 2, Outcome.LOST)
    assert Fault.ERROR_AFTER not in made.struck, "one thing goes wrong at a time"


def test_an_engine_restart_runs_through_its_phases() -> None:
    made = faults(FaultRule(fault=Fault.ENGINE_RESTART, times=1, seconds=5, then_seconds=120))

    def told(place: str, at_s: float) -> tuple[int, str, int, bool] | None:
        refusal = made.request(place, NOW + int(at_s * S)).refusal
        if refusal is None:
            return None
        return refusal.status, refusal.code, refusal.retry_after_s, refusal.unless_post_only

    assert told("GET /clob/book", 0) is None, "reads go on"
    assert told(ORDER, 0) == (425, "", 5, False)
    assert told("DELETE /clob/order", 3.5) == (425, "", 2, False)
    assert told(ORDER, 5) == (503, "post_only_mode", 120, True)
    assert told("DELETE /clob/order", 6) is None, "cancels go on"
    assert told(ORDER, 124.2) == (503, "post_only_mode", 1, True)
    assert told(ORDER, 125) is None
    assert not made.active


def test_clearing_heals_one_fault_or_all() -> None:
    made = faults(
        FaultRule(fault=Fault.ENGINE_RESTART, times=1),
        FaultRule(fault=Fault.ERROR_BEFORE),
        FaultRule(fault=Fault.SLOW_ANSWER),
    )
    assert made.request(ORDER, NOW).outcome is Outcome.REFUSED
    made.clear(Fault.ENGINE_RESTART)
    assert made.request(ORDER, NOW).refusal == made.request(ORDER, NOW).refusal
    assert made.struck[Fault.ERROR_BEFORE] == 2
    made.clear()
    assert not made.active
    assert made.request(ORDER, NOW) is UNDISTURBED
    assert made.report()["struck"]["engine_restart"] == 1, "what was done is still told"


def test_only_the_last_strikes_are_kept_but_all_are_counted() -> None:
    made = faults(FaultRule(fault=Fault.DROP, where=("*",)))
    struck(made, Fault.DROP, "market#1", 1_500)
    assert made.struck[Fault.DROP] == 1_500
    assert len(made.strikes) == 1_000


def test_the_standing_share_is_told_to_those_who_draw_themselves() -> None:
    made = faults(FaultRule(fault=Fault.SETTLEMENT_FAILED, rate=0.25, for_s=10))
    assert made.share(Fault.SETTLEMENT_FAILED, NOW) == 0.25
    assert made.share(Fault.SETTLEMENT_FAILED, NOW + 10 * S) == 0.0
    assert made.share(Fault.SETTLEMENT_RETRYING, NOW) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 1.1}, {"rate": -0.1}, {"times": -1}, {"for_s": -1.0}, {"seconds": -2.0}],
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="drop"):
        FaultRule(fault=Fault.DROP, **wrong)  # type: ignore[arg-type]


def test_what_the_exchange_draws_takes_a_rate() -> None:
    with pytest.raises(ValueError, match="settlement_failed takes a rate"):
        FaultRule(fault=Fault.SETTLEMENT_FAILED, times=1)


def test_the_command_line_s_form() -> None:
    assert parse_rule("drop=0.25") == FaultRule(fault=Fault.DROP, rate=0.25)
    for wrong in ("drop", "drop=often", "drop=2"):
        with pytest.raises(ValueError, match="NAME=RATE"):
            parse_rule(wrong)
    with pytest.raises(ValueError, match="timeout_after_acceptance"):
        fault_named("gremlins")
