"""Run the local exchange: Polymarket's protocols on 127.0.0.1, over simulated markets.

Nothing here is real: no network, no money, keys of any wallet. Clients find it at
http://127.0.0.1:PORT/clob, /gamma, /data-api and /rpc, ws://127.0.0.1:PORT/ws/market and /ws/user;
POST /sandbox/deposit gives a wallet money. Orders and balances are kept over a restart. Ends with
0 on SIGINT or SIGTERM, 75 if it runs already, 78 if it cannot run with these settings.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import dotenv
import httpx
import uvloop

from fleet.cli.root import fleet_root
from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.config import ConfigError, load, read_env_file
from fleet.journal import locks
from fleet.runtime import pm2
from fleet.runtime.settings import SandboxEnv
from fleet.sandbox.faults_catalogue import FaultRule, parse_rule
from fleet.sandbox.faults_http import read_plan
from fleet.sandbox.server import HOST, SERVICE, STATE_ERRORS, SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings
from fleet.sandbox.trading.floor import FloorSettings

NAME: Final = "Sandbox"
EX_CONFIG: Final = 78
IN_MEMORY: Final = "memory"
EX_FAILED: Final = 1
TWIN_WAIT_S: Final = 5.0
STATUS_S: Final = 1.0
SUMMARY_EVERY: Final = 60
"""Status writes between two lines in the log: one a minute."""
BEHIND_NS_MAX: Final = 3 * NS_PER_SECOND


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument("--port", type=int,
                        help="loopback port (default: SANDBOX_PORT of .env, 8788)")  # fmt: skip
    parser.add_argument("--seed", type=int,
                        help="decides ids and every move of the markets (default: SANDBOX_SEED"
                        " of .env, 7)")  # fmt: skip
    parser.add_argument("--speed", type=float, default=1.0,
                        help="speed of the order flow (default: 1.0, as recorded)")  # fmt: skip
    parser.add_argument("--mispricing-every", type=float, default=15.0, metavar="SECONDS",
                        help="mean time between mispricings worth taking; 0 for none"
                        " (default: 15)")  # fmt: skip
    parser.add_argument("--state", metavar="FILE",
                        help="SQLite file that keeps orders, trades and balances over a restart;"
                        " 'memory' keeps nothing (default: var/sandbox.db)")  # fmt: skip
    parser.add_argument(
        "--limits",
        type=float,
        default=1.0,
        metavar="SCALE",
        help="multiplies the venue's rate limits; 0 for none (default: 1.0)",
    )
    parser.add_argument(
        "--geoblocked", action="store_true", help="answer that trading is blocked from here"
    )
    parser.add_argument("--faults", action="append", default=[], metavar="NAME=RATE|FILE",
                        help="what goes wrong from the start, may be repeated: a fault and its"
                        " share of the chances, or a JSON file as POST /sandbox/faults takes it"
                        " (default: nothing)")  # fmt: skip
    parser.add_argument("--root", type=Path, default=fleet_root(), metavar="DIR",
                        help="the fleet's directory (default: FLEET_HOME)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; the exit code says why it ended."""
    try:
        env = _environment(arguments.root)
        fault_seed, faults = _faults(arguments.faults)
        settings = SandboxSettings(
            fault_seed=fault_seed,
            faults=faults,
            port=env.port if arguments.port is None else arguments.port,
            state=_state(arguments),
            floor=FloorSettings(limits_scale=arguments.limits, geoblocked=arguments.geoblocked),
            simulator=SimulatorSettings(
                seed=env.seed if arguments.seed is None else arguments.seed,
                speed=arguments.speed,
                mispricing_every_s=arguments.mispricing_every,
            ),
        )
        lock = locks.acquire(arguments.root / "var" / "locks" / "sandbox.lock", TWIN_WAIT_S)
    except locks.TwinRunning as error:
        say("ERROR", str(error))
        return locks.EXIT_TWIN
    except (ValueError, OSError, ConfigError, locks.LockError) as error:
        say("ERROR", str(error))
        return EX_CONFIG
    with lock:
        return uvloop.run(_serve(settings, arguments.root))


def _state(arguments: argparse.Namespace) -> Path | None:
    """The exchange's file; None for ``memory``."""
    if arguments.state == IN_MEMORY:
        return None
    return Path(arguments.state) if arguments.state else arguments.root / "var" / "sandbox.db"


def _environment(root: Path) -> SandboxEnv:
    """``SANDBOX_*`` of ``.env`` and the environment. Raises ``ConfigError``."""
    mapping = {**read_env_file(root / ".env", dotenv.dotenv_values), **os.environ}
    return load(SandboxEnv, mapping)


def _faults(given: Sequence[str]) -> tuple[int | None, tuple[FaultRule, ...]]:
    """The seed and the rules of ``--faults``. Raises ``ValueError`` and ``OSError``."""
    seed: int | None = None
    rules: list[FaultRule] = []
    for text in given:
        if "=" in text:
            rules.append(parse_rule(text))
            continue
        named, more = read_plan(Path(text).read_bytes())
        seed = named if named is not None else seed
        rules += more
    return seed, tuple(rules)


def say(level: str, text: str) -> None:
    """One line for a person."""
    at = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    stream = sys.stderr if level == "ERROR" else sys.stdout
    print(f"{at} {level} sandbox: {text}", file=stream, flush=True)


async def _serve(settings: SandboxSettings, root: Path) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    channel = pm2.connect(
        os.environ, dispatch=loop.call_soon_threadsafe, on_shutdown=stop.set, on_orphan=stop.set
    )
    clock = LiveClock()
    try:
        server = SandboxServer(settings, clock, note=lambda text: say("WARNING", text))
    except STATE_ERRORS as error:
        say("ERROR", str(error))
        if channel is not None:
            channel.close()
        return EX_CONFIG
    try:
        port = await server.start()
    except OSError as error:
        if channel is not None:
            channel.close()
        return await _port_taken(settings.port, error)
    say(
        "INFO",
        f"SIMULATED markets (seed {settings.simulator.seed}), nothing real: "
        f"{len(server.simulator.listings.by_condition)} markets on http://{HOST}:{port}"
        f" (/gamma, /clob, /data-api, /rpc, ws /ws/market, /ws/user),"
        f" kept in {settings.state or 'memory'}",
    )
    status = _Status(root / "var" / "status" / "sandbox.json", server, clock)
    try:
        status.write(ready=True)
        if channel is not None:
            channel.ready()
        code = await _until(stop, server, status, channel)
    finally:
        await server.stop()
        status.write(ready=False)
        if channel is not None:
            channel.close()
    say("INFO", "stopped")
    return code


async def _until(
    stop: asyncio.Event, server: SandboxServer, status: "_Status", channel: pm2.Channel | None
) -> int:
    """Report each second until told to stop (0) or until the markets fail (1)."""
    asked = asyncio.create_task(stop.wait())
    written = 0
    while not asked.done():
        await asyncio.wait(
            {asked, server.pump}, timeout=STATUS_S, return_when=asyncio.FIRST_COMPLETED
        )
        if server.pump.done():
            asked.cancel()
            say("ERROR", f"the markets stopped moving: {server.pump.exception()!r}")
            return EX_FAILED
        status.write(ready=True)
        written += 1
        if written % SUMMARY_EVERY == 0:
            say("INFO", status.summary())
        if channel is not None:
            channel.metrics(status.metrics())
    return 0


async def _port_taken(port: int, error: OSError) -> int:
    """Say who holds the port: a twin of this program (75) or something else (78)."""
    try:
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            about = (await client.get(f"http://{HOST}:{port}/sandbox")).json()
        twin = isinstance(about, dict) and about.get("service") == SERVICE
    except (httpx.HTTPError, ValueError):
        about, twin = {}, False
    if twin:
        say(
            "ERROR",
            f"another sandbox (process {about.get('pid')}) already serves port {port}:"
            " use it, stop it, or choose another --port",
        )
        return locks.EXIT_TWIN
    say(
        "ERROR",
        f"cannot listen on {HOST}:{port} ({error.strerror}): free the port"
        f" (ss -ltnp 'sport = :{port}' names its owner) or choose another --port",
    )
    return EX_CONFIG


class _Status:
    """The sandbox's word about itself, replaced atomically."""

    def __init__(self, path: Path, server: SandboxServer, clock: LiveClock) -> None:
        self._path = path
        self._server = server
        self._now_ns: Callable[[], int] = clock.now_ns

    def write(self, *, ready: bool) -> None:
        """Replace the status file."""
        now_ns = self._now_ns()
        simulator = self._server.simulator
        behind = now_ns - simulator.now_ns > BEHIND_NS_MAX
        state = "healthy" if ready and not behind else "behind the clock" if ready else "stopped"
        document = {
            "bot": NAME,
            "pid": os.getpid(),
            "mode": "sandbox",
            "feed": "-",
            "trading": "-",
            "ready": ready,
            "ts_ns": now_ns,
            "started_ns": self._server.started_ns,
            "healthy": ready and not behind,
            "components": {"markets": state, "server": "healthy" if ready else "stopped"},
            "opportunities": simulator.mispricings,
            "trades": simulator.prints,
            "pnl": "0.00",
            "errors": self._server.channel.clients_cut_off,
        }
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".json.tmp")
        fresh.write_text(json.dumps(document))
        fresh.replace(self._path)

    def metrics(self) -> dict[str, object]:
        """What `pm2 monit` shows."""
        simulator, channel = self._server.simulator, self._server.channel
        return {
            "mode": "sandbox (simulated)",
            "mispricings": simulator.mispricings,
            "worth taking": simulator.worthwhile,
            "prints": simulator.prints,
            "clients": channel.clients,
        }

    def summary(self) -> str:
        """One line for the log."""
        simulator, channel = self._server.simulator, self._server.channel
        return (
            f"simulated: {simulator.mispricings} mispricings ({simulator.worthwhile} worth taking"
            f" after fees), {simulator.prints} prints, {channel.clients} clients,"
            f" {channel.frames_sent} frames sent"
        )
