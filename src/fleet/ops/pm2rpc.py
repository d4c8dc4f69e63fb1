"""Client of the PM2 daemon's ``rpc.sock``: what the fleet's processes are really doing.

The daemon listens on ``$PM2_HOME/rpc.sock`` and speaks axon (AMP frames: one byte ``version << 4 |
argument count``, then per argument a big-endian uint32 length and a payload ``j:`` JSON or ``s:``
text; PM2 7.0.4 ``modules/pm2-axon``). Asking here costs about 1 ms; ``pm2 jlist`` costs 150 ms and
starts a daemon when there is none, which hides that there was none.

Invariants: this client never starts a daemon, never changes one, and always answers within its
timeout. "The daemon is down" (:class:`DaemonDown`) and "the daemon does not answer"
(:class:`DaemonSilent`) are different facts and never read as an empty list.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REQUEST_ID = "fleet:1"
# The answer holds every application's full environment: about 6 kB each (measured, PM2 7.0.4).
FRAME_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_S = 2.0


class Pm2Error(RuntimeError):
    """PM2 could not be asked; the message says why and what to do."""


class DaemonDown(Pm2Error):  # noqa: N818 - a state of the world, named as operators say it
    """No daemon listens on this PM2_HOME; nothing restarts or stops the bots."""


class DaemonSilent(Pm2Error):  # noqa: N818
    """Something holds the socket but does not answer in time: the daemon hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppMetric:
    """A custom metric as the application last published it."""

    name: str
    value: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application in PM2's list. Times are wall-clock milliseconds, memory is bytes."""

    name: str
    pm_id: int
    namespace: str
    pid: int
    status: str
    restarts: int
    started_ms: int
    uptime_ms: int
    exit_code: int | None
    cwd: str
    script: str
    out_log: str
    error_log: str
    memory: int
    cpu: float
    metrics: tuple[AppMetric, ...]
    actions: tuple[str, ...]

    @property
    def online(self) -> bool:
        """Running under PM2's eyes; says nothing about the bot's health."""
        return self.status in {"online", "launching"} and self.pid > 0

    @property
    def gave_up(self) -> bool:
        """PM2 will not start it again by itself.

        Truth rule (PM2 7.0.4 ``God.handleExit``): with a back-off configured, an application that
        exited with a stop code or used up its restarts is listed as "waiting restart" for ever;
        only its pid 0 tells it from one that really waits.
        """
        return self.status == "errored" or (self.status == "waiting restart" and self.pid == 0)


def home(environ: Mapping[str, str]) -> Path:
    """Return the daemon's directory as PM2 itself chooses it: ``PM2_HOME``, else ``~/.pm2``.

    Raises Pm2Error when neither PM2_HOME nor HOME is set.
    """
    if chosen := environ.get("PM2_HOME"):
        return Path(chosen)
    if user := environ.get("HOME"):
        return Path(user) / ".pm2"
    raise Pm2Error("neither PM2_HOME nor HOME is set: set one, PM2 keeps its state there")


def list_apps(pm2_home: Path, *, timeout_s: float = TIMEOUT_S) -> tuple[App, ...]:
    """List the daemon's applications, PM2's own modules left out, in PM2's order.

    Raises DaemonDown, DaemonSilent, or Pm2Error for an answer that is not PM2's.
    """
    answer = call(pm2_home, "getMonitorData", [{}], timeout_s=timeout_s)
    if not isinstance(answer, list):
        raise Pm2Error(f"PM2 answered {type(answer).__name__} instead of a list: is it PM2 >= 7?")
    now_ms = time.time_ns() // 1_000_000
    apps = [_app(entry, now_ms) for entry in answer if isinstance(entry, dict)]
    return tuple(app for app in apps if app is not None)


def version(pm2_home: Path, *, timeout_s: float = TIMEOUT_S) -> str:
    """Return the version of the running daemon, which may differ from the command line's."""
    return str(call(pm2_home, "getVersion", [{}], timeout_s=timeout_s))


def call(
    pm2_home: Path, method: str, args: list[object], *, timeout_s: float = TIMEOUT_S
) -> object:
    """Call one method of the daemon and return its first result.

    Raises DaemonDown, DaemonSilent, or Pm2Error when the daemon refuses the call.
    """
    path = pm2_home / "rpc.sock"
    request = {"type": "call", "method": method, "args": args}
    deadline_s = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise DaemonDown(f"no PM2 daemon listens on {path}: run `make start`") from error
        except (TimeoutError, BlockingIOError) as error:
            # BlockingIOError: its queue of unanswered connections is full.
            raise DaemonSilent(f"the PM2 daemon on {path} does not accept calls") from error
        except OSError as error:
            raise Pm2Error(f"cannot reach PM2 on {path}: {error}") from error
        try:
            sock.sendall(encode_frame([request, REQUEST_ID]))
            parts = _read_frame(sock, deadline_s)
        except TimeoutError as error:
            raise DaemonSilent(
                f"the PM2 daemon on {path} gave no answer in {timeout_s:g} s: it hangs; "
                "look at it with `ps`, then `pm2 kill` and `make start`"
            ) from error
        except OSError as error:
            raise DaemonDown(f"the PM2 daemon on {path} went away: {error}") from error
    return _result(parts, method)


def encode_frame(parts: list[object]) -> bytes:
    """Encode one axon message; text parts travel as text, everything else as JSON."""
    frame = [bytes([1 << 4 | len(parts)])]
    for part in parts:
        payload = ("s:" + part if isinstance(part, str) else "j:" + json.dumps(part)).encode()
        frame += [struct.pack(">I", len(payload)), payload]
    return b"".join(frame)


def decode_part(payload: bytes) -> object:
    """Decode one argument of an axon message; raises Pm2Error for anything malformed."""
    try:
        if payload.startswith(b"j:"):
            return json.loads(payload[2:])
        return payload.removeprefix(b"s:").decode()
    except (ValueError, RecursionError) as error:
        raise Pm2Error(f"PM2's answer cannot be read: {error}") from error


def _read_frame(sock: socket.socket, deadline_s: float) -> list[object]:
    count = _read_exactly(sock, 1, deadline_s)[0] & 0x0F
    parts = []
    for _ in range(count):
        (length,) = struct.unpack(">I", _read_exactly(sock, 4, deadline_s))
        if length > FRAME_BYTES_MAX:
            raise Pm2Error(f"PM2 announces an answer of {length} bytes: not PM2's protocol")
        parts.append(decode_part(_read_exactly(sock, length, deadline_s)))
    return parts


def _read_exactly(sock: socket.socket, length: int, deadline_s: float) -> bytes:
    """Read ``length`` bytes; the deadline is for the whole answer, not per packet."""
    got = bytearray()
    while len(got) < length:
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        sock.settimeout(remaining_s)
        chunk = sock.recv(min(length - len(got), 1 << 20))
        if not chunk:
            raise ConnectionResetError("closed in the middle of an answer")
        got += chunk
    return bytes(got)


def _result(parts: list[object], method: str) -> object:
    answer = parts[0] if parts else None
    if not isinstance(answer, dict):
        raise Pm2Error(f"PM2 gave no answer to {method}: not PM2's protocol")
    if "error" in answer:
        raise Pm2Error(f"PM2 refused {method}: {answer['error']}")
    args = answer.get("args")
    return args[0] if isinstance(args, list) and args else None


def _app(entry: Mapping[str, object], now_ms: int) -> App | None:
    """Build an App from PM2's entry; None for a module. Absent fields have neutral values."""
    env = _mapping(entry.get("pm2_env"))
    if env.get("pmx_module"):
        return None
    monit = _mapping(entry.get("monit"))
    # An application restored as stopped has no pid at all.
    pid = _integer(entry.get("pid")) or 0
    status = str(env.get("status") or "unknown")
    started_ms = _integer(env.get("pm_uptime")) or 0
    running = status in {"online", "launching"} and pid > 0
    actions = env.get("axm_actions")
    return App(
        name=str(entry.get("name") or env.get("name") or ""),
        pm_id=_integer(entry.get("pm_id")) or 0,
        namespace=str(env.get("namespace") or "default"),
        pid=pid,
        status=status,
        restarts=_integer(env.get("restart_time")) or 0,
        started_ms=started_ms,
        uptime_ms=max(0, now_ms - started_ms) if running else 0,
        exit_code=_integer(env.get("exit_code")),
        cwd=str(env.get("pm_cwd") or ""),
        script=str(env.get("pm_exec_path") or ""),
        out_log=str(env.get("pm_out_log_path") or ""),
        error_log=str(env.get("pm_err_log_path") or ""),
        memory=_integer(monit.get("memory")) or 0,
        cpu=_number(monit.get("cpu")),
        metrics=tuple(_metrics(_mapping(env.get("axm_monitor")))),
        actions=tuple(
            str(action["action_name"])
            for action in (actions if isinstance(actions, list) else [])
            if isinstance(action, dict) and "action_name" in action
        ),
    )


def _metrics(monitor: Mapping[str, object]) -> list[AppMetric]:
    metrics = []
    for name, raw in monitor.items():
        # A bare scalar is a valid metric for PM2 too.
        fields = raw if isinstance(raw, dict) else {"value": raw}
        value, unit = fields.get("value"), fields.get("unit")
        metrics.append(
            AppMetric(
                name=name,
                value="" if value is None else str(value),
                unit="" if unit is None else str(unit),
            )
        )
    return metrics


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _integer(value: object) -> int | None:
    """Return an int from a number or a numeric text (PM2 keeps what the ecosystem file gave)."""
    try:
        return int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
