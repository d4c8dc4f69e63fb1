"""The KPIs of copying: what is not known is said to be unknown, never 0."""

from fleet.domain.units import SCALE, Cash
from fleet.engine.copy_results import CopySummary
from fleet.runtime.copying_parts import copy_figures, copy_line


def summed(**changed: object) -> CopySummary:
    fields: dict[str, object] = {
        "copies": 0, "ended": 0, "won": 0, "leader_won": 0, "result": Cash(0),
        "leader_result": Cash(0), "slippage_bps": None, "lag_p50_ns": None, "lag_p99_ns": None,
    }  # fmt: skip
    return CopySummary(**{**fields, **changed})  # type: ignore[arg-type]


def test_without_copies_nothing_is_claimed() -> None:
    found = summed()
    assert "success=unknown" in copy_line(found)
    assert 'lag_p50="unknown"' in copy_line(found)
    assert "slippage_bps" not in copy_figures(found)


def test_copies_are_told_beside_the_leaders_own_result() -> None:
    found = summed(copies=5, ended=4, won=3, leader_won=1, result=Cash(-2 * SCALE),
                   leader_result=Cash(7 * SCALE), slippage_bps=12, lag_p50_ns=9_000_000,
                   lag_p99_ns=80_000_000)  # fmt: skip
    line = copy_line(found)
    for word in ("copies=5", "success=75%", "leader_success=25%", "result=$-2.00",
                 "leader_result=$7.00", 'slippage="12 bps"', 'lag_p99="80 ms"'):  # fmt: skip
        assert word in line
    assert copy_figures(found)["lag_ms_p99"] == 80
