"""The parts that can stop a bot or bound it, put together: safety, limits, operators.

Each is a component of its own; this only wires them to one running bot, so that ``bot`` keeps to
the order of start and stop.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet.clock import Clock
from fleet.journal.allowances import AllowanceBoard
from fleet.journal.claims import ClaimBoard
from fleet.journal.fleet import FleetState
from fleet.journal.halts import HaltCode
from fleet.ops.alerts import Alert
from fleet.runtime import pm2
from fleet.runtime.components import Node
from fleet.runtime.limits import LimitsPart
from fleet.runtime.operator import OperatorPart
from fleet.runtime.runner import Runner
from fleet.runtime.safety import Safety, SafetyWatch
from fleet.runtime.safety_settings import SafetyEnv
from fleet.runtime.status import StatusBoard


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Who a bot is for the fleet: its name, mode and feed, and the wallet it trades on."""

    bot: str
    mode: str
    feed: str
    wallet: str

    @property
    def name(self) -> str:
        """``ArbHunter live polymarket``, as it answers operators and alerts."""
        return f"{self.bot} {self.mode} {self.feed}"

    @property
    def place(self) -> str:
        """``live:polymarket``: what shares limits with what."""
        return f"{self.mode}:{self.feed}"


class Guards:
    """Safety, limits and operators of one bot."""

    def __init__(
        self, seat: Seat, fleet: FleetState, runner: Runner, clock: Clock, alert: Alert
    ) -> None:
        """Guard ``runner``; nothing runs yet."""
        self.safety = Safety(fleet, runner, clock, alert, bot=seat.bot)
        self._seat = seat
        self._fleet = fleet
        self._runner = runner
        self._clock = clock
        self._operator: OperatorPart | None = None

    def lease_lost(self, why: str) -> None:
        """The wallet's lease or a claim on it is gone: nobody here may sign any more."""
        self.safety.trip(HaltCode.LEASE_LOST, why)
        self._runner.crashed(why)

    def nodes(self, board: StatusBoard, settings: SafetyEnv) -> list[Node]:
        """The components, once there is a board to ask for errors and readiness."""
        seat, fleet, clock = self._seat, self._fleet, self._clock
        engine = self._runner.engine
        self._operator = OperatorPart(
            fleet, self._runner, clock, bot=seat.bot, seat=seat.name,
            ready=lambda: board.ready, on_resumed=self.safety.allowed,
        )  # fmt: skip
        watch = SafetyWatch(
            engine.state, self.safety.trip, clock, errors=lambda: board.errors,
            errors_max=settings.max_errors, stale_ns=settings.stale_feed_ns,
        )  # fmt: skip
        shared = settings.shared_wallet
        limits = LimitsPart(
            AllowanceBoard(fleet, place=seat.place, bot=seat.bot, wallet=seat.wallet),
            settings, engine.state, engine.risk, clock, wallet=seat.wallet,
            claims=ClaimBoard(fleet, wallet=seat.wallet, bot=seat.bot) if shared else None,
            on_lost=self.lease_lost,
        )  # fmt: skip
        return [
            Node(component=limits, requires=("lease",)),
            Node(component=watch, requires=("limits",)),
            Node(component=self._operator, requires=("limits",)),
        ]

    def offer(self, channel: pm2.Channel, board: StatusBoard) -> None:
        """Let ``pm2 trigger`` in by the same door."""
        operator = self._operator
        if operator is None:
            return
        for action in ("pause", "reduce", "flatten", "cancel-all", "resume"):
            channel.action(action, _by_hand(operator, action))
        channel.action("halt", operator.halt_fleet)
        channel.action("status", lambda _argument: board.snapshot(self._clock.now_ns()))


def _by_hand(operator: OperatorPart, action: str) -> pm2.ActionCallback:
    return lambda argument: operator.by_hand(action, argument)
