"""The sandbox's server: REST reads and the market websocket on one loopback port.

Paths: ``/clob`` and ``/gamma`` stand for the venue's two REST hosts, ``/ws/market`` for its market
channel, ``/models`` for model endpoints and news, ``/sandbox`` tells about the sandbox itself. One
task moves the simulator to the clock's time and publishes its frames; answers are what the last
step left. The server binds 127.0.0.1 and nothing else, and never waits for a client.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from fleet.clock import NS_PER_SECOND, Clock
from fleet.sandbox.chain_execution import ChainExecution, ListingsDirectory
from fleet.sandbox.chain_pool import Chain
from fleet.sandbox.chain_rpc import ChainRpc
from fleet.sandbox.chain_state import ChainState, ChainStateError
from fleet.sandbox.chain_stream import ChainStream
from fleet.sandbox.chain_trades import TradeWitness
from fleet.sandbox.clob_routes import ClobRoutes
from fleet.sandbox.exchange.contract import Refused
from fleet.sandbox.exchange.exchange import Exchange
from fleet.sandbox.exchange.store import StoreError
from fleet.sandbox.faults import Faults
from fleet.sandbox.faults_catalogue import FaultRule
from fleet.sandbox.faults_channels import ChannelFaults
from fleet.sandbox.faults_http import FaultyRequests
from fleet.sandbox.faults_markets import FaultyMarkets
from fleet.sandbox.gamma_routes import GammaRoutes
from fleet.sandbox.market_channel import MarketChannel
from fleet.sandbox.models.server import ModelSettings, add_model_routes
from fleet.sandbox.references import References
from fleet.sandbox.request_reading import ApiError, json_answer, whole
from fleet.sandbox.simulator import SimulatorSettings
from fleet.sandbox.trading.accounts import AccountsError
from fleet.sandbox.trading.approvals import ChainApprovals
from fleet.sandbox.trading.floor import FloorSettings, TradingFloor

HOST: Final = "127.0.0.1"
SERVICE: Final = "fleet-sandbox"
STEP_NS_MAX: Final = NS_PER_SECOND // 20
"""After a pause of the machine, time is made up in steps of this, answering in between."""
SLEEP_S_MAX: Final = 0.05
SLEEP_S_MIN: Final = 0.002
BODY_BYTES_MAX: Final = 1 << 20
STATE_ERRORS: Final = (StoreError, ChainStateError, AccountsError)
"""What a ``SandboxServer`` raises whose ``state`` cannot be used; the texts name the cure."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Where to listen and what to simulate. ``port`` 0 takes a free one."""

    port: int = 8788
    simulator: SimulatorSettings = field(default_factory=SimulatorSettings)
    floor: FloorSettings = field(default_factory=FloorSettings)
    state: Path | None = None
    """The exchange's file, which outlives the process; ``-accounts`` and ``-chain`` lie beside it.
    None keeps everything in memory."""
    clob_page_size: int = 1_000
    client_queue_max: int = 2_048
    clients_max: int = 64
    fault_seed: int | None = None
    """Decides when faults strike; the simulator's seed if there is none."""
    faults: tuple[FaultRule, ...] = ()
    """Faults in force from the start."""

    def __post_init__(self) -> None:
        """Refuse a port out of range."""
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port {self.port} is outside 0..65535")


class SandboxServer:
    """``await start()`` gives the port; ``await stop()`` ends everything it began."""

    def __init__(
        self,
        settings: SandboxSettings,
        clock: Clock,
        *,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make the markets at the clock's time; ``note`` is told what an operator should know."""
        self.settings = settings
        self.exchange = Exchange(settings.simulator, clock.now_ns(), path=settings.state)
        self.simulator = self.exchange.simulator
        self.started_ns = clock.now_ns()
        self.channel = MarketChannel(
            self.simulator.listings,
            queue_max=settings.client_queue_max,
            clients_max=settings.clients_max,
            note=note,
        )
        seed = settings.simulator.seed if settings.fault_seed is None else settings.fault_seed
        self.faults = Faults(seed)
        for rule in settings.faults:
            self.faults.put(rule, self.started_ns)
        self._faulty_channel = ChannelFaults(self.channel, self.faults, clock.now_ns)
        self.channel.without_snapshots = self._faulty_channel.without_snapshots
        self._faulty_markets = FaultyMarkets(self.faults, self.exchange)
        self._chain_state = ChainState(_beside(settings.state, "chain"), genesis_ns=self.started_ns)
        listings = ListingsDirectory(self.simulator.listings)
        self.chain = Chain(
            self._chain_state, ChainExecution(self._chain_state, self.exchange, listings)
        )
        witness = TradeWitness(self.chain, listings)
        self.floor = TradingFloor(
            self.exchange,
            self.simulator.listings,
            ChainApprovals(self._chain_state),
            market_channel=self.channel,
            queue_max=settings.client_queue_max,
            clients_max=settings.clients_max,
            note=note,
            now_ns=clock.now_ns,
            accounts_path=_beside(settings.state, "accounts"),
            settings=settings.floor,
            witness=witness.observe,
        )
        self._faulty_users = ChannelFaults(self.floor.channel, self.faults, clock.now_ns)
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def pump(self) -> asyncio.Task[None]:
        """The task that moves the markets; it ends only by failing. Raises before ``start``."""
        if self._pump is None:
            raise RuntimeError("the sandbox has not been started")
        return self._pump

    async def start(self) -> int:
        """Listen and let time run. Raises ``OSError`` if the port is taken."""
        faulty = FaultyRequests(self.faults, self._clock.now_ns, started_ns=self.started_ns)
        app = web.Application(
            middlewares=[faulty.disturb, _errors_as_json, self.floor.limits.admit],
            client_max_size=BODY_BYTES_MAX,
        )
        faulty.add_to(app.router, "/sandbox/faults")
        ClobRoutes(
            self.simulator, self._clock.now_ns, page_size=self.settings.clob_page_size
        ).add_to(app.router, "/clob")
        GammaRoutes(self.simulator).add_to(app.router, "/gamma")
        References(self.simulator).add_to(app.router)
        app.router.add_get("/ws/market", self.channel.handle)
        self.floor.add_to(app.router)
        rpc = ChainRpc(self.chain, self._clock.now_ns)
        rpc.add_to(app.router)
        ChainStream(rpc, self.chain, self._clock.now_ns).add_to(app.router)
        models = ModelSettings(seed=self.settings.simulator.seed)
        add_model_routes(app, self._clock.now_ns, models)
        app.router.add_get("/sandbox", self._about)
        app.router.add_get("/sandbox/truth", self._truth)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.settings.port)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._pump = asyncio.create_task(self._run())
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close every connection and stop the markets. Idempotent."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self._runner is not None:
            await self.channel.close()
            await self.floor.close()
            await self._runner.cleanup()
            self._chain_state.close()
            self.exchange.close()
            self._runner = None

    async def _run(self) -> None:
        simulator = self.simulator
        while True:
            now_ns = self._clock.now_ns()
            while simulator.now_ns < now_ns:
                step_ns = min(now_ns, simulator.now_ns + STEP_NS_MAX)
                self.exchange.step(step_ns)
                self.chain.step(step_ns)
                self.floor.step(step_ns)
                self.floor.publish()
                self.channel.publish(self._faulty_markets.step(step_ns))
                await asyncio.sleep(0)
            self._faulty_channel.release()
            self._faulty_users.release()
            wait_s = (self.exchange.next_due_ns - now_ns) / NS_PER_SECOND
            await asyncio.sleep(min(max(wait_s, SLEEP_S_MIN), SLEEP_S_MAX))

    async def _about(self, _: web.Request) -> web.Response:
        simulator, channel = self.simulator, self.channel
        return json_answer(
            {
                "service": SERVICE,
                "notice": "simulated markets; nothing here is real",
                "pid": os.getpid(),
                "seed": simulator.settings.seed,
                "speed": simulator.settings.speed,
                "mispricing_every_s": simulator.settings.mispricing_every_s,
                "started_ns": self.started_ns,
                "markets": len(simulator.listings.by_condition),
                "mispricings": simulator.mispricings,
                "worthwhile": simulator.worthwhile,
                "prints": simulator.prints,
                "clients": channel.clients,
                "clients_cut_off": channel.clients_cut_off,
                "frames_sent": channel.frames_sent,
                "user_clients": self.floor.channel.clients,
                "rate_limited": self.floor.limits.refused,
            }
        )

    async def _truth(self, request: web.Request) -> web.Response:
        """The recorded mispricings that began at or after ``since_ns``, oldest first."""
        since_ns = whole(request.query, "since_ns", 0, low=0, high=1 << 63)
        made = [m.as_json() for m in self.simulator.truth if m.start_ns >= since_ns]
        return json_answer({"seed": self.simulator.settings.seed, "mispricings": made})


def _beside(state: Path | None, what: str) -> Path | None:
    """``sandbox.db`` has ``sandbox-accounts.db`` beside it."""
    return None if state is None else state.with_name(f"{state.stem}-{what}{state.suffix}")


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return json_answer(
            {"error": error.text, **error.fields}, status=error.status, headers=error.headers
        )
    except Refused as error:
        return json_answer({"error": error.text}, status=error.status)
    except web.HTTPNotFound:
        return json_answer({"error": f"no such path here: {request.path}"}, status=404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return json_answer({"error": f"method not allowed: use {allowed}"}, status=405)
    except web.HTTPRequestEntityTooLarge:
        return json_answer({"error": f"body above {BODY_BYTES_MAX} bytes"}, status=413)
