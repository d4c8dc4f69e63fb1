"""ArbHunter as a process of a chaos run: the whole bot as it is started, on made-up time.

``start`` does what ``run_arbhunter.py --mode live`` does: settings, the stage the gate's file
allows, the dated phrase, the lock that keeps twins apart, the checks before trading, and then the
real ``runtime.bot.Bot`` with lease, limits, watchers, operators, live session and recovery.
``in_place`` puts the run's clock and wire where they reach, and ``chaos_mortal`` around what writes
and signs. What is left out: PM2's channel (a step ends the bot as its end does), and in most lives
the session's checks and smoke order, which every start would make anew (``Conditions.whole_gate``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from fleet.bots.arbhunter import SPEC
from fleet.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from fleet.config import Mode, Paths
from fleet.domain.commands import BundleId, ClientOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.journal import locks
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState
from fleet.runtime import preflight
from fleet.runtime.bootstrap import TWIN_WAIT_S, load_settings
from fleet.runtime.bot import Bot
from fleet.runtime.gate_store import GateStore, StageRecord
from fleet.runtime.live_gate import expected_phrase
from fleet.runtime.live_start import live_setup
from fleet.runtime.parity_store import ParityStore, Shadow, utc_day
from fleet.runtime.session import SessionRefused
from fleet.runtime.settings import FleetSettings
from fleet.runtime.spec import EXIT_RETRY, EXIT_STAY_DOWN, EXIT_TWIN
from fleet.runtime.wallet import load_wallet
from fleet.venues.polymarket.chain import ChainOperations
from fleet.venues.polymarket.keys import SecretKey
from tests import chaos_mortal
from tests.chaos_chain import WireNode
from tests.chaos_loop import VirtualLoop
from tests.chaos_mortal import LIFE, Mortal, this_life
from tests.chaos_wire import Wire

BOT, SLUG, FEED = SPEC.name, SPEC.slug, "sandbox"
KEY_TEXT: Final = "01" * 32
KEY: Final = SecretKey.from_hex(KEY_TEXT)
PARITY_DAYS, PARITY_ORDERS = 10, 20
LOCK_LOOK_S = 0.05
ORPHANED: Final = "the PM2 daemon is gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a seed decides of the bot's settings. Money is whole dollars."""

    together: bool = False
    percent: int = 100
    """The stage of the gate at the first start."""
    whole_gate: bool = False
    """Whether each start makes the session's checks and places a smoke order."""
    order: int = 60
    """What one order, one market and the wallet may cost at the first stage's share."""
    market: int = 120
    wallet: int = 1_500
    fleet: int = 100_000
    """What all bots together may hold, and in one market, one set and one day's turnover."""
    fleet_market: int = 100_000
    fleet_set: int = 100_000
    fleet_turnover: int = 100_000_000
    write_off_s: int = 2

    def limit(self, dollars: int) -> int:
        """A limit as it is set, so that the first stage's share of it is ``dollars``."""
        return dollars * 100 // self.percent

    def environ(self, now_ns: int) -> dict[str, str]:
        """The environment a bot is started in."""
        return {
            "ARB_MODE": Mode.LIVE.value,
            "ARB_LEGS": "together" if self.together else "probe",
            "ARB_TRADE_SIZE_USD": str(self.limit(self.order * 5 // 6)),
            "ARB_COOLDOWN_MS": "200",
            "ARB_WRITE_OFF_S": str(self.write_off_s),
            "ARB_MAX_ORDER_USD": str(self.limit(self.order)),
            "ARB_MAX_MARKET_USD": str(self.limit(self.market)),
            "ARB_MAX_WALLET_USD": str(self.limit(self.wallet)),
            "ARB_MAX_DAY_TURNOVER_USD": "100000000",
            "ARB_MAX_DAY_LOSS_USD": "1000000",
            "ARB_MAX_ORDERS_IN_FLIGHT": "12",
            "FLEET_MAX_EXPOSURE_USD": str(self.fleet),
            "FLEET_MAX_WALLET_USD": "100000",
            "FLEET_MAX_MARKET_USD": str(self.fleet_market),
            "FLEET_MAX_SET_USD": str(self.fleet_set),
            "FLEET_MAX_DAY_TURNOVER_USD": str(self.fleet_turnover),
            "FLEET_MAX_DAY_LOSS_USD": "1000000",
            "FLEET_MAX_ERRORS_PER_MINUTE": "100000",
            "FLEET_RECONCILE_S": "7",
            "FLEET_RESOLUTIONS_S": "2",
            "LIVE_CONFIRM": expected_phrase(BOT, now_ns),
            "LIVE_SMOKE_WAIT_MS": "3000",
            # Live days never refuse here: a run's stages are steps of the run.
            "LIVE_PARITY_KEPT": "0",
            "LIVE_PARITY_SLIPPAGE_BPS": "1000000",
            "LIVE_PARITY_SLIPPAGE_P95_BPS": "1000000",
            "LIVE_PARITY_UNKNOWN": "1",
            "LIVE_STAGE_DAYS": "1000",
            "POLYMARKET_DATA_MAX_AGE_S": "5",
            "POLYMARKET_PRIVATE_KEY": KEY_TEXT,
            "POLYMARKET_WALLET": "eoa",
        }


def admit(paths: Paths, conditions: Conditions, now_ns: int) -> None:
    """What a live start asks for: ten days of paper of which the quotes kept all, and a stage."""
    for folder in (paths.var, paths.logs, paths.parity(SLUG, Mode.PAPER, FEED).parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = paths.parity(SLUG, Mode.PAPER, FEED)
    with ParityStore(file, bot=SLUG, mode=Mode.PAPER.value, feed=FEED) as store:
        store.write([
            _kept(f"{day}-{number}", now_ns - day * NS_PER_DAY - number * NS_PER_SECOND)
            for day in range(1, PARITY_DAYS + 1)
            for number in range(PARITY_ORDERS)
        ])  # fmt: skip
    put_in_stage(paths, conditions.percent, now_ns)
    with FleetState(paths.fleet_db):
        pass


def put_in_stage(paths: Paths, percent: int, now_ns: int) -> None:
    """Let the gate's file say that ``percent`` of the limits are in force from the next start."""
    with GateStore(paths.gate(SLUG, FEED), bot=SLUG, feed=FEED) as gate:
        gate.record_stage(
            StageRecord(ts=now_ns, day=utc_day(now_ns), percent=percent, reason="a step of the run")
        )


def stage_of(paths: Paths) -> int:
    """The stage in force, in percent."""
    with GateStore(paths.gate(SLUG, FEED), bot=SLUG, feed=FEED, read_only=True) as gate:
        found = gate.stage()
    return found.percent if found is not None else 0


def _kept(name: str, sent_ns: int) -> Shadow:
    qty, cash = Qty(10 * SCALE), Cash(5 * SCALE)
    return Shadow(
        order_id=ClientOrderId(f"p{name}"), bundle_id=BundleId(f"b{name}"), sent_ns=sent_ns,
        latency_ns=1, lag_ns=1, instrument_id=InstrumentId("1"), side=Side.BUY,
        price=Price(SCALE // 2), tick=Price(SCALE // 100), qty=qty, fill_qty=qty, fill_cash=cash,
        ended=True, quote_qty=qty, quote_cash=cash, firm_qty=qty,
    )  # fmt: skip


class BotProcess:
    """One start of the bot; ``run`` returns its exit code."""

    def __init__(self, life: Mortal, paths: Paths, environ: dict[str, str], clock: Clock) -> None:
        self.life = life
        self.bot: Bot | None = None
        self._paths, self._environ, self._clock = paths, environ, clock

    async def run(self) -> int:
        """As ``run_arbhunter.py``: everything before the bot, then the bot."""
        LIFE.set(self.life)
        paths, environ = self._paths, self._environ
        loaded = load_settings(SPEC, paths, environ)
        self.life.percent = stage_of(paths)
        try:
            setup, at_stage = live_setup(
                SPEC, loaded, paths, load_wallet(paths, environ), feed=FEED
            )
        except SessionRefused as error:
            return error.code
        except JournalError:
            return EXIT_STAY_DOWN
        try:
            self.life.lock = await self._lock()
        except locks.TwinRunning:
            return EXIT_TWIN
        self.life.at()
        checks = preflight.run(
            paths, bot="", now_ns=self._clock.now_ns(),
            disk_free_min_mb=loaded.of(FleetSettings).disk_free_min_mb,
        )  # fmt: skip
        if not all(check.ok for check in checks):
            return EXIT_STAY_DOWN
        self.bot = Bot(SPEC, setup, at_stage, paths, {})
        if self.life.orphan:
            self.orphaned()
        try:
            return await self.bot.run()
        except JournalError:
            return EXIT_RETRY

    def orphaned(self) -> None:
        """The channel to the PM2 daemon ended, as ``Bot`` is told of it."""
        if self.bot is not None:
            self.bot.end(0, ORPHANED)

    async def _lock(self) -> Any:
        """As bootstrap, which would wait in real time."""
        end_s = self.life.loop.time() + TWIN_WAIT_S
        while True:
            try:
                return locks.acquire(self._paths.lock(SLUG))
            except locks.TwinRunning:
                if self.life.loop.time() >= end_s:
                    raise
            await asyncio.sleep(LOCK_LOOK_S)

    @property
    def ready(self) -> bool:
        """Whether it may trade."""
        return self.life.cast is not None and self.life.cast.board.ready and not self.life.dead

    def open_now(self) -> list[str]:
        """What is open, under way or unsettled."""
        if self.life.cast is None:
            return ["the start"]
        state = self.life.cast.state
        left = [*state.orders.open, *state.bundles.pending, *state.portfolio.unsettled_trades()]
        return list(map(str, left))


@contextmanager
def in_place(wire: Wire, clock: Clock, loop: VirtualLoop, *, whole_gate: bool) -> Iterator[None]:
    """Bots started meanwhile are of this run: mortal, on its clock and on its wire."""
    patches: dict[str, Any] = {
        "fleet.clock.LiveClock.now_ns": lambda _self: clock.now_ns(),
        "fleet.journal.database.connect": chaos_mortal.connect,
        "fleet.runtime.bot.FleetState": chaos_mortal.MortalFleet,
        "fleet.runtime.bot.build": chaos_mortal.staged,
        "fleet.runtime.bot.os": SimpleNamespace(getpid=lambda: this_life().number),
        "fleet.runtime.cast.JournalStore": chaos_mortal.MortalJournal,
        "fleet.runtime.live_session.SigningGuard": chaos_mortal.MortalGuard,
        "fleet.runtime.live_session.LiveVenue": chaos_mortal.MortalVenue,
        "fleet.runtime.live_session.ChainNode": WireNode,
        "fleet.runtime.live_standing.ChainNode": WireNode,
        "fleet.runtime.live_session.ChainOperations": partial(
            ChainOperations, monotonic_ns=clock.now_ns
        ),
        "fleet.runtime.memory.settle": lambda: None,  # One process of many: nothing is frozen.
    }
    if not whole_gate:
        patches["fleet.runtime.live_session._check"] = chaos_mortal.checked
        patches["fleet.runtime.live_session._smoke"] = chaos_mortal.smoked
    loop.connect = wire.lane
    with ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch.object(WireNode, "wire", wire, create=True))
        stack.enter_context(wire.in_place())
        yield
