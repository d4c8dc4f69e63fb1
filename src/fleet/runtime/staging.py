"""How much of its limits a live bot may use: 10 %, 50 %, 100 %, as the parity holds.

A pure function from what is known to a decision; nothing here reads a clock or a file. The rules:

- without parity on paper there is no live start at all (0 %);
- the first live start is at 10 %;
- after ``LIVE_STAGE_DAYS`` live days in a row of a stage that count and are in parity together, the
  next start is one stage higher; never two at once;
- when live fills fall short of the quotes (live parity REFUSED), the next start is one stage lower
  at once; below 10 % that is 0 %, and only parity shown anew on paper, on days after that
  decision, leads back to 10 %.

Stages change at a start, never while a bot runs: limits that move under open orders are no limits.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

from fleet.domain.units import SCALE, Cash, format_dollars
from fleet.engine.risk import RiskLimits
from fleet.runtime.gate_store import StageRecord
from fleet.runtime.parity_verdict import ParityVerdict, Standing

DOLLARS_ANY_MARKET: Final = Cash(5 * SCALE)
"""Five shares, the venue's minimum, cost at most this: an order may always be this large."""


class Stage(IntEnum):
    """The share of the limits in force, in percent."""

    NONE = 0
    TENTH = 10
    HALF = 50
    FULL = 100


_LADDER: Final = (Stage.NONE, Stage.TENTH, Stage.HALF, Stage.FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A stage and why. ``changed`` says that it is to be recorded."""

    stage: Stage
    reason: str
    changed: bool


def next_stage(
    current: StageRecord | None, *, paper: ParityVerdict, live: ParityVerdict, stage_days: int
) -> Decision:
    """The stage of the next live start.

    ``paper`` judges paper days; where the stage in force is 0 %, only those after its day. ``live``
    judges the live days since the stage in force began, its day included; it wants ``stage_days``.
    """
    if current is None:
        if paper.standing is not Standing.ALLOW:
            return Decision(stage=Stage.NONE, reason=f"paper: {paper.reason}", changed=False)
        return Decision(stage=Stage.TENTH, reason="first live start, in parity", changed=True)
    stage = Stage(current.percent)
    if stage is Stage.NONE:
        if paper.standing is not Standing.ALLOW:
            why = f"{current.reason}; paper since then: {paper.reason}"
            return Decision(stage=stage, reason=why, changed=False)
        return Decision(stage=Stage.TENTH, reason="parity shown anew on paper", changed=True)
    if live.standing is Standing.REFUSE:
        lower = _LADDER[_LADDER.index(stage) - 1]
        return Decision(stage=lower, reason=f"live: {live.reason}", changed=True)
    if paper.standing is not Standing.ALLOW and live.standing is not Standing.ALLOW:
        # Live days in parity prove more than paper does; without either there is no ground.
        return Decision(stage=Stage.NONE, reason=f"paper: {paper.reason}", changed=False)
    if live.standing is Standing.ALLOW and live.days >= stage_days and stage is not Stage.FULL:
        higher = _LADDER[_LADDER.index(stage) + 1]
        return Decision(stage=higher, reason=f"{live.days} live days in parity", changed=True)
    return Decision(stage=stage, reason=f"as before: {live.reason}", changed=False)


def staged(limits: RiskLimits, stage: Stage) -> RiskLimits:
    """The limits of a stage: each one in dollars scaled down, counts and times as they are.

    Whatever field of ``RiskLimits`` is cash is scaled, so that a limit added later is no gap.
    """
    cash = {
        field.name: staged_cash(getattr(limits, field.name), stage)
        for field in fields(limits)
        if field.type in {"Cash", Cash}
    }
    return dataclasses.replace(limits, **cash)


def staged_cash(amount: Cash, stage: Stage) -> Cash:
    """An amount of dollars at a stage, rounded down."""
    return Cash(amount * int(stage) // 100)


def stage_problem(limits: RiskLimits, stage: Stage) -> str:
    """Why a stage leaves no room to trade, with the cure; empty when it does."""
    least = staged_cash(limits.max_order_notional, stage)
    if stage is Stage.NONE or least >= DOLLARS_ANY_MARKET:
        return ""
    return (
        f"at {int(stage)} % an order may cost ${format_dollars(least)}, less than the venue's"
        f" smallest order can (${format_dollars(DOLLARS_ANY_MARKET)}): raise the bot's limit of one"
        " order"
    )
