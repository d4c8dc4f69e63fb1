"""What each process says of itself in ``var/status/<bot>.json``, and whether to believe it.

Every process replaces its file once a second, atomically. A process is healthy when its file is
fresh, it says ``ready`` and ``healthy``, and its pid is alive; anything else is a problem with
words. A missing or unreadable file is a problem too: unknown is not "healthy".
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.clock import NS_PER_SECOND

# A status is written every second; five missed ones are no scheduling accident.
AGE_NS_MAX = 5 * NS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class BotStatus:
    """One status file. Times are wall-clock nanoseconds; ``pnl`` is the text the bot wrote."""

    bot: str
    pid: int
    mode: str
    feed: str
    trading: str
    ready: bool
    healthy: bool
    ts_ns: int
    started_ns: int
    components: Mapping[str, str] = field(default_factory=dict)
    opportunities: int = 0
    trades: int = 0
    pnl: str = ""
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A status file that says nothing usable, and why."""

    bot: str
    reason: str


def read_all(folder: Path) -> tuple[BotStatus | Unreadable, ...]:
    """Read every status file of ``folder``; a folder that does not exist holds none."""
    return tuple(read(path) for path in sorted(folder.glob("*.json")))


def read(path: Path) -> BotStatus | Unreadable:
    """Read one status file; never raises for what is in it."""
    try:
        raw = json.loads(path.read_bytes())
        if not isinstance(raw, dict):
            return Unreadable(bot=path.stem, reason=f"{path} does not hold an object")
        return BotStatus(
            bot=_text(raw, "bot"),
            pid=_count(raw, "pid"),
            mode=_text(raw, "mode"),
            feed=_text(raw, "feed"),
            trading=_text(raw, "trading"),
            ready=raw["ready"] is True,
            healthy=raw["healthy"] is True,
            ts_ns=_count(raw, "ts_ns"),
            started_ns=_count(raw, "started_ns"),
            components={str(k): str(v) for k, v in dict(raw.get("components") or {}).items()},
            opportunities=_count(raw, "opportunities", 0),
            trades=_count(raw, "trades", 0),
            pnl=str(raw.get("pnl", "")),
            errors=_count(raw, "errors", 0),
        )
    except OSError as error:
        return Unreadable(bot=path.stem, reason=f"{path}: {error.strerror}")
    except KeyError as error:
        return Unreadable(bot=path.stem, reason=f"{path} has no {error}")
    except (ValueError, TypeError, RecursionError) as error:
        return Unreadable(bot=path.stem, reason=f"{path} cannot be read: {error}")


def problems(status: BotStatus | Unreadable, now_ns: int) -> tuple[str, ...]:
    """Return why this process is not healthy; empty when it is."""
    if isinstance(status, Unreadable):
        return (status.reason,)
    found = []
    if not alive(status.pid):
        found.append(f"its process {status.pid} is gone")
    age_ns = abs(now_ns - status.ts_ns)
    if age_ns > AGE_NS_MAX:
        found.append(f"its last sign of life is {age_ns // NS_PER_SECOND} s old")
    if not status.ready:
        found.append("it is not ready yet")
    sick = [f"{name} is {state}" for name, state in status.components.items() if state != "healthy"]
    if not status.healthy:
        found.append("it says it is not healthy" + (": " + ", ".join(sick) if sick else ""))
    return tuple(found)


def alive(pid: int) -> bool:
    """Tell whether a process with this pid exists (whoever owns it)."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a text")
    return value


def _count(raw: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = raw[key] if default is None else raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{key} is not a whole number")
    return value
