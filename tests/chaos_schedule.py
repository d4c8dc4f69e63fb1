"""What a seed brings: faults, deaths, stops, halts, resolutions and stages, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum

from fleet.sandbox.faults_catalogue import Fault, FaultRule
from tests.chaos_bot import Conditions
from tests.chaos_mortal import Point

REQUEST_FAULTS = (
    Fault.LOST_REQUEST, Fault.TIMEOUT_AFTER_ACCEPTANCE, Fault.ERROR_BEFORE, Fault.ERROR_AFTER,
    Fault.GATEWAY_ERROR, Fault.RATE_LIMITED, Fault.SLOW_REQUEST, Fault.SLOW_ANSWER,
)  # fmt: skip
FRAME_FAULTS = {
    Fault.FREEZE: 0.002, Fault.DROP: 0.002, Fault.DUPLICATE: 0.1, Fault.REORDER: 0.05,
    Fault.NO_REPLAY: 0.3,
}  # fmt: skip
STOPS = (
    Point.BEFORE_SIGN, Point.BEFORE_JOURNAL, Point.AFTER_JOURNAL, Point.BEFORE_POST,
    Point.AFTER_POST, Point.AT_OPERATION, Point.BEFORE_SEND, Point.AT_LEASE, Point.AFTER_WRITE,
    None,
)  # fmt: skip
"""Where a stop is worth most: on the way to the exchange. ``None``: wherever it happens to be."""
LEASE_S = 30.0
STAGES = (10, 50, 100)


class What(Enum):
    """What happens in a step."""

    FAULT = "fault"
    BOT = "the bot dies"
    SANDBOX = "the exchange dies"
    DAEMON = "the PM2 daemon dies"
    STOP = "the bot is stopped"
    LATCH = "somebody halts the fleet"
    RESOLVE = "a market is resolved"
    STAGE = "the gate changes the stage"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens at a time of the run."""

    at_s: float
    what: What
    rule: FaultRule | None = None
    point: Point | None = None
    """Where the bot is to die or to be stopped; nothing means at once."""
    after: bool = True
    """Sandbox: whether it dies after it handled an order, or before."""
    seconds: float = 0.0
    """How long a stop or a halt lasts; bot, daemon: until it is started again (0: at once)."""
    rival: bool = False
    """Stop: whether another engine waits for the wallet meanwhile."""
    percent: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a seed brings."""

    seed: int
    length_s: float
    steps: tuple[Step, ...]
    conditions: Conditions = field(default_factory=Conditions)
    neighbour: bool = False
    """Whether a second bot shares the fleet's limits."""

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """The schedule of a seed: always the same."""
        draw = random.Random(f"chaos:{seed}")
        length_s = draw.uniform(20, 50)
        together, whole_gate = draw.random() < 0.3, draw.random() < 0.15
        steps = _faults(draw, seed, mild=whole_gate)
        for _ in range(draw.randint(1, 6)):
            point = draw.choice([*Point, None])
            steps.append(Step(draw.uniform(1, length_s), What.BOT, point=point))
        if draw.random() < 0.2:
            steps += blackout(draw.uniform(3, length_s), draw.uniform(8, 20))
        if draw.random() < 0.15:
            # Nobody starts it again for longer than a survey looks back.
            down_s = draw.uniform(62, 90)
            steps.append(Step(draw.uniform(5, length_s), What.BOT, seconds=down_s,
                              point=draw.choice((Point.AT_FILL, Point.AFTER_POST, None))))  # fmt: skip
            length_s += down_s
        steps += [
            Step(draw.uniform(3, length_s), What.SANDBOX, after=draw.random() < 0.7)
            for _ in range(draw.choice((0, 0, 1, 2)))
        ]
        if draw.random() < 0.4:
            steps.append(Step(draw.uniform(2, length_s), What.DAEMON, seconds=draw.uniform(0, 6)))
        if draw.random() < 0.4:
            steps.append(Step(draw.uniform(2, length_s), What.LATCH, seconds=draw.uniform(2, 10)))
        for _ in range(draw.choice((0, 0, 1, 3, 6))):
            steps.append(Step(draw.uniform(5, length_s), What.RESOLVE))
        percent = draw.choice((*STAGES, 100))
        if draw.random() < 0.3:
            steps.append(Step(draw.uniform(2, length_s), What.STAGE, percent=draw.choice(STAGES)))
        if draw.random() < 0.5:
            long = draw.random() < 0.5
            stop = Step(
                draw.uniform(2, length_s), What.STOP, point=draw.choice(STOPS), rival=long,
                seconds=LEASE_S + draw.uniform(1, 8) if long else draw.uniform(0.5, 12),
            )  # fmt: skip
            steps.append(stop)
            length_s += stop.seconds
        conditions = Conditions(
            together=together, percent=percent, whole_gate=whole_gate,
            fleet=draw.choice((400, 900, 100_000)), fleet_market=draw.choice((150, 250, 100_000)),
            fleet_set=draw.choice((500, 100_000)), write_off_s=draw.randint(1, 5),
        )  # fmt: skip
        ordered = tuple(sorted(steps, key=lambda step: step.at_s))
        return cls(seed, length_s, ordered, conditions, neighbour=draw.random() < 0.8)


def blackout(at_s: float, seconds: float) -> list[Step]:
    """Orders go out, and no answer, stream or list tells of them.

    Each alone proves nothing worth a test: an order whose POST times out is told by the stream long
    before, and by the next survey if the stream is dead too. Only when all three are silent does it
    matter what a timeout is taken for.
    """
    silent = {
        Fault.TIMEOUT_AFTER_ACCEPTANCE: "POST /clob/order*",
        Fault.ERROR_BEFORE: "GET /clob/data/*",
        Fault.FREEZE: "user",
    }
    return [
        Step(at_s, What.FAULT, rule=FaultRule(
            fault=fault, rate=1.0, for_s=seconds, where=(where,),
            seconds=seconds if fault is Fault.FREEZE else None))
        for fault, where in silent.items()
    ]  # fmt: skip


def _faults(draw: random.Random, seed: int, *, mild: bool) -> list[Step]:
    """Which faults hold; mild where each start asks so much that none would come up."""
    steps: list[Step] = []
    for fault in draw.sample(REQUEST_FAULTS, draw.randint(2, 5)):
        seconds = {Fault.LOST_REQUEST: 0.0, Fault.TIMEOUT_AFTER_ACCEPTANCE: 30.0}.get(fault)
        rate = draw.uniform(0.02, 0.3) * (0.1 if mild else 1)
        rule = FaultRule(fault=fault, rate=rate, seconds=seconds,
                         where=("*/clob/*",) if draw.random() < 0.3 else ())  # fmt: skip
        steps.append(Step(draw.uniform(0, 3), What.FAULT, rule=rule))
    for fault in draw.sample(list(FRAME_FAULTS), draw.randint(1, 4)):
        rule = FaultRule(fault=fault, rate=FRAME_FAULTS[fault] * draw.uniform(0.3, 1),
                         seconds=draw.uniform(1, 12) if fault is Fault.FREEZE else None)  # fmt: skip
        steps.append(Step(draw.uniform(0, 3), What.FAULT, rule=rule))
    if draw.random() < 0.5:
        steps.append(Step(draw.uniform(2, 12), What.FAULT, rule=FaultRule(
            fault=Fault.ENGINE_RESTART, times=1, seconds=draw.uniform(1, 5),
            then_seconds=draw.uniform(2, 8))))  # fmt: skip
    if draw.random() < 0.5:
        steps.append(Step(draw.uniform(0, 10), What.FAULT, rule=FaultRule(
            fault=Fault.TICK_CHANGE, rate=0.01)))  # fmt: skip
    # Every second life has no failing settlement: there the caps must hold to the unit.
    if seed % 2:
        steps += [
            Step(0.0, What.FAULT, rule=FaultRule(fault=fault, rate=draw.uniform(0.02, 0.2)))
            for fault in (Fault.SETTLEMENT_FAILED, Fault.SETTLEMENT_RETRYING)
        ]
    if draw.random() < 0.5:
        steps.append(Step(0.0, What.FAULT, rule=FaultRule(
            fault=Fault.DELAYED_ORDER, rate=draw.uniform(0.05, 0.3),
            seconds=draw.uniform(0.05, 3))))  # fmt: skip
    return steps
