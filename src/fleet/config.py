"""Settings: an environment mapping in, frozen typed settings out, all problems at once.

A settings type is a frozen keyword-only dataclass whose fields are made with ``setting``; it lives
beside its user or below. ``load`` reads the keys it names from a mapping, collects *every* problem
(a bad value, a missing key, a key with our prefix that nobody knows) and raises ``ConfigError``
once, each line with its cure. Nothing here reads the process's environment; scripts hand it in.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from fleet.domain.units import SCALE, Cash, UnitsError, parse_units

T = TypeVar("T")
MS: Final = 1_000_000
_META: Final = "setting"
_PROVIDER: Final = re.compile(r"wss?://[^/\s,]+/\S")
"""A node's address: a provider's key is often part of it."""
PLACES: Final = frozenset({"FLEET_HOME", "FLEET_DATA"})
"""Names of directories that the environment, not ``.env``, may hold."""
FOREIGN: Final = frozenset(
    {"OPENAI_API_KEY", "OPENROUTER_API_KEY", "DATABASE_URL", "LOG_LEVEL", "SUPPORTED_TOKENS"}
)
"""Settings named by others: an ``OPENAI_ORG_ID`` beside them is no misspelt setting of ours."""


LEDGER_MODE: Final = "paper-venue"
"""The mode written in the paper venue's own ledger: the other side of a bot's trades."""


class Mode(Enum):
    """Which venue and which events: only the bootstrap may branch on it."""

    PAPER = "paper"
    LIVE = "live"
    REPLAY = "replay"


class ConfigError(Exception):
    """Settings that cannot be used; ``problems`` has one line each, with its cure."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Keep the problems and show them as a list."""
        self.problems = tuple(problems)
        super().__init__("\n".join(f"- {problem}" for problem in self.problems))


class Secret:
    """A text that shows itself to nobody but the one who asks for it by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Hide ``value``."""
        self._value = value

    def reveal(self) -> str:
        """The text itself; for the one place that must have it."""
        return self._value

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._value)

    def __repr__(self) -> str:
        """Never the text."""
        return "Secret(***)" if self._value else "Secret()"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be written anywhere."""
        raise TypeError("a secret is not serialised")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a field is called in the environment, how it is read, and what it is for."""

    key: str
    parse: Callable[[str], Any]
    help: str
    example: str


def setting(key: str, parse: Callable[[str], Any], default: Any, help_text: str) -> Any:
    """A settings field. ``default`` is written as the text a user would write, or a ready value."""
    value = parse(default) if isinstance(default, str) else default
    example = default if isinstance(default, str) else ""
    return field(default=value, metadata={_META: Setting(key, parse, help_text, example)})


def settings_of(kind: type[Any]) -> list[tuple[str, Setting]]:
    """(field name, setting) of a settings type, in order."""
    return [(f.name, f.metadata[_META]) for f in fields(kind) if _META in f.metadata]


def load(kind: type[T], mapping: Mapping[str, str]) -> T:
    """Read one settings type. Raises ``ConfigError`` with every problem of it."""
    values, problems = _read(kind, mapping)
    if problems:
        raise ConfigError(problems)
    return kind(**values)


def load_all(
    kinds: Iterable[type[Any]], mapping: Mapping[str, str], known: Iterable[type[Any]]
) -> list[Any]:
    """Read several settings types; problems of all of them, and unknown keys, raised together.

    ``known`` are all settings types of the fleet: a key with one of their prefixes that none of
    them names is an error, because a misspelt limit is a limit that does not hold.
    """
    loaded: list[Any] = []
    problems: list[str] = list(unknown_keys(mapping, known))
    for kind in kinds:
        values, found = _read(kind, mapping)
        problems.extend(found)
        if not found:
            loaded.append(kind(**values))
    if problems:
        raise ConfigError(problems)
    return loaded


def _read(kind: type[Any], mapping: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, spec in settings_of(kind):
        text = mapping.get(spec.key, "").strip()
        if not text:
            continue
        try:
            values[name] = spec.parse(text)
        except ValueError as error:
            shown = "(hidden)" if spec.parse is secret or _PROVIDER.search(text) else repr(text)
            problems.append(f"{spec.key}={shown}: {error}. It is {spec.help}.")
    check: Callable[[Mapping[str, Any]], Iterable[str]] | None = getattr(kind, "check", None)
    if check is not None and not problems:
        complete = {
            f.name: values.get(f.name, None if f.default is dataclasses.MISSING else f.default)
            for f in fields(kind)
        }
        problems.extend(check(complete))
    return values, problems


def unknown_keys(
    mapping: Mapping[str, str], known: Iterable[type[Any]], *, ours: bool = False
) -> list[str]:
    """Keys that look like ours and are nobody's, each with the nearest real one.

    ``ours`` says that the mapping holds nothing but settings, as ``.env`` does: then a misspelt
    prefix is found too.
    """
    keys = {spec.key for kind in known for _, spec in settings_of(kind)}
    prefixes = tuple(sorted({key.split("_", 1)[0] + "_" for key in keys - FOREIGN}))
    problems = []
    for key in sorted(mapping):
        if (ours or key.startswith(prefixes)) and key not in keys | PLACES:
            near = difflib.get_close_matches(key, sorted(keys), n=1)
            cure = f"did you mean {near[0]}?" if near else "remove it"
            problems.append(f"{key} is not a setting of the fleet: {cure}")
    return problems


# --- parsers: each raises ValueError with what was expected ---------------------------------------


def text(value: str) -> str:
    """Any text."""
    return value


def secret(value: str) -> Secret:
    """A text nobody may see."""
    return Secret(value)


def flag(value: str) -> bool:
    """``true`` or ``false`` (also yes/no, on/off, 1/0)."""
    lowered = value.lower()
    if lowered in {"true", "yes", "on", "1"}:
        return True
    if lowered in {"false", "no", "off", "0"}:
        return False
    raise ValueError("expected true or false")


def count(value: str) -> int:
    """A whole number from 0 on."""
    if not value.isdecimal() or len(value) > 12:
        raise ValueError("expected a whole number")
    return int(value)


def _decimal(value: str) -> int:
    try:
        units = parse_units(value)
    except UnitsError as error:
        raise ValueError("expected a number such as 0.005") from error
    if units < 0:
        raise ValueError("expected a number that is not negative")
    return units


def dollars(value: str) -> Cash:
    """Dollars, as cash at 1e-8."""
    return Cash(_decimal(value))


def positive_dollars(value: str) -> Cash:
    """Dollars above zero, as cash at 1e-8."""
    amount = dollars(value)
    if not amount:
        raise ValueError("expected more than 0 dollars")
    return amount


def ratio(value: str) -> int:
    """A share of one, at 1e-8: 0.005 is half a percent. Refuses more than 100."""
    units = _decimal(value)
    if units > 100 * SCALE:
        raise ValueError("expected a share such as 0.005 for half a percent")
    return units


def port(value: str) -> int:
    """A TCP port."""
    number = count(value)
    if not 0 < number < 65_536:
        raise ValueError("expected a port from 1 to 65535")
    return number


def milliseconds(value: str) -> int:
    """Milliseconds, as nanoseconds."""
    return count(value) * MS


def seconds(value: str) -> int:
    """Seconds (decimals allowed), as nanoseconds."""
    return _decimal(value) * 10


def path(value: str) -> Path:
    """A file or directory; ``~`` is the home of the user."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError("expected a path; there is no such user") from error


def one_of(*choices: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(value: str) -> str:
        lowered = value.lower()
        if lowered not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return lowered

    return parse


def url(*schemes: str) -> Callable[[str], str]:
    """An address with one of these schemes, without a trailing slash."""

    def parse(value: str) -> str:
        if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"expected an address that begins with {' or '.join(schemes)}://")
        parts = urlsplit(value)  # Raises ValueError itself for brackets that do not match.
        if not parts.hostname or parts.port == 0 or any(c.isspace() for c in value):
            raise ValueError(f"expected an address such as {schemes[0]}://host or host:port")
        return value.rstrip("/")

    return parse


SANDBOX: Final = "sandbox"


def _place(feed: str) -> str:
    """The part of a file's name that tells a real market's accounts from the sandbox's."""
    return "" if feed == SANDBOX else f"-{feed}"


# --- where things are ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The fleet's directories under one root."""

    root: Path

    @property
    def var(self) -> Path:
        """State: journals, locks, status."""
        return self.root / "var"

    @property
    def logs(self) -> Path:
        """Logs."""
        return self.root / "logs"

    @property
    def env_file(self) -> Path:
        """Settings and secrets of this machine."""
        return self.root / ".env"

    def wallet_file(self, bot: str) -> Path:
        """The wallet of one bot, where it has one of its own."""
        return self.root / "wallets" / f"{bot}.env"

    @property
    def fleet_db(self) -> Path:
        """Kill latch, leases, day board."""
        return self.var / "fleet.db"

    def journal(self, bot: str, mode: Mode, feed: str = SANDBOX) -> Path:
        """The journal of one bot in one mode on one market; none of them share one."""
        return self.var / "journal" / f"{bot}-{mode.value}{_place(feed)}.db"

    def paper_ledger(self, bot: str, feed: str = SANDBOX) -> Path:
        """What the paper venue remembers of one bot on one market."""
        return self.var / "paper" / f"{bot}{_place(feed)}.db"

    def parity(self, bot: str, mode: Mode, feed: str = SANDBOX) -> Path:
        """What was promised and what the live quotes kept, of one bot in one mode on one market."""
        return self.var / "parity" / f"{bot}-{mode.value}{_place(feed)}.db"

    def gate(self, bot: str, feed: str = SANDBOX) -> Path:
        """Smoke orders and stages of one bot's live starts on one market."""
        return self.var / "gate" / f"{bot}{_place(feed)}.db"

    def prices(self, bot: str, feed: str = SANDBOX) -> Path:
        """Sampled prices of one bot on one market."""
        return self.var / "prices" / f"{bot}{_place(feed)}.db"

    def chain_cursor(self, bot: str, mode: str, feed: str = SANDBOX) -> Path:
        """How far one bot has read the chain."""
        return self.var / "chain" / f"{bot}-{mode}{_place(feed)}.db"

    @property
    def memory(self) -> Path:
        """The retrieval memory."""
        return self.var / "memory"

    def forecasting(self, bot: str) -> Path:
        """What forecasts have cost, and the record they are judged by."""
        return self.var / bot

    def lock(self, bot: str) -> Path:
        """The lock that keeps twins apart."""
        return self.var / "locks" / f"{bot}.lock"

    def status(self, bot: str) -> Path:
        """What a running bot says of itself."""
        return self.var / "status" / f"{bot}.json"

    def tape(self, feed: str) -> Path:
        """Raw frames."""
        return self.var / "tape" / feed


def read_env_file(file: Path, parse: Callable[[Path], Mapping[str, str | None]]) -> dict[str, str]:
    """The pairs of a ``.env`` file that must be nobody's but ours; empty if there is none.

    Raises ``ConfigError`` if others may read it, or if it cannot be read at all.
    """
    try:
        mode = file.stat().st_mode
        if mode & 0o077:
            raise ConfigError([f"{file} can be read by others: run `chmod 600 {file}`"])
        pairs = parse(file)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file} cannot be read as text: {error}"]) from error
    return {key: value for key, value in pairs.items() if value is not None}


def pick(loaded: list[Any], kind: type[T]) -> T:
    """The one of ``loaded`` that is a ``kind``."""
    return next(item for item in loaded if isinstance(item, kind))
