"""``fleet docs``: writes the tables that are made from code, or checks that they are up to date.

Made are the settings in ``docs/configuration.md`` and ``.env.example``, and the refusal codes and
the reasons of halts in ``docs/runbook.md``: between two marker lines, so that the text around them
stays a person's.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fleet.bots.arbhunter_settings import ArbEnv
from fleet.bots.elitemimic_settings import EliteEnv, LeadersEnv
from fleet.bots.known import KNOWN
from fleet.bots.polyai_settings import PolyEnv
from fleet.bots.trader_settings import TraderEnv
from fleet.cli.root import fleet_root
from fleet.config import Setting, settings_of
from fleet.domain.commands import REFUSAL_MEANING
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.journal.halts import HALTS
from fleet.ops.backup_settings import BackupSettings
from fleet.runtime.crypto_settings import CryptoEnv
from fleet.runtime.listener_settings import ListenerEnv
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.safety_settings import AlertEnv, SafetyEnv
from fleet.runtime.settings import (
    FleetSettings,
    PaperEnv,
    PolymarketEnv,
    SandboxEnv,
    WalletEnv,
)
from fleet.runtime.stock_settings import StocksEnv

GROUPS: Final[Mapping[str, type[Any]]] = {
    "The fleet": FleetSettings,
    "Safety": SafetyEnv,
    "Alerts": AlertEnv,
    "ArbHunter": ArbEnv,
    "PolyAI": PolyEnv,
    "Language models": LlmEnv,
    "News": NewsEnv,
    "Retrieval memory": MemoryEnv,
    "EliteMimic": EliteEnv,
    "EliteMimic's leaders": LeadersEnv,
    "EliteMimic's chain": ListenerEnv,
    "Trader": TraderEnv,
    "Binance": CryptoEnv,
    "Alpaca": StocksEnv,
    "Paper venue": PaperEnv,
    "Sandbox": SandboxEnv,
    "Polymarket": PolymarketEnv,
    "Live": LiveEnv,
    "Wallet": WalletEnv,
    "Backups": BackupSettings,
}
BEGIN: Final = "<!-- made by `fleet docs` from {name}: begin -->"
END: Final = "<!-- made by `fleet docs` from {name}: end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``fleet docs``."""
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")


def run(arguments: argparse.Namespace) -> int:
    """Write or check; 0 when everything is up to date."""
    root = fleet_root()
    stale = [path for path, text in made(root).items() if not _is(path, text)]
    for path in stale:
        if arguments.check:
            sys.stderr.write(f"{path.relative_to(root)} is out of date: run `fleet docs`\n")
        else:
            path.write_text(made(root)[path])
            print(f"wrote {path.relative_to(root)}")
    return 1 if stale and arguments.check else 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def made(root: Path) -> dict[Path, str]:
    """What each file should hold."""
    configuration = root / "docs" / "configuration.md"
    runbook = root / "docs" / "runbook.md"
    return {
        root / ".env.example": env_example(),
        configuration: splice(configuration.read_text(), "settings", settings_table()),
        runbook: splice(
            splice(runbook.read_text(), "refusal codes", refusal_table()), "halts", halt_table()
        ),
    }


def splice(text: str, name: str, table: str) -> str:
    """``text`` with the part between the markers of ``name`` replaced. Raises ``ValueError``."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    if begin not in text or end not in text:
        raise ValueError(f"the markers of {name!r} are missing; put back {begin} and {end}")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{table}{end}{tail}"


def env_example() -> str:
    """``.env.example``: every setting, commented out, with its default and what it is."""
    lines = [
        "# Settings of the fleet. `make setup` copies this file to .env (mode 0600); nothing needs",
        "# to be changed for paper trading on the sandbox. A line without # overrules the default.",
        "# Never commit .env. Made by `fleet docs` from the settings types.",
    ]
    for title, kind in GROUPS.items():
        lines += ["", f"# --- {title} ---"]
        for _, spec in settings_of(kind):
            lines += [f"# {spec.help[0].upper()}{spec.help[1:]}.", f"#{spec.key}={spec.example}"]
    return "\n".join(lines) + "\n"


def settings_table() -> str:
    """A table for each group of settings."""
    parts: list[str] = []
    for title, kind in GROUPS.items():
        parts += [f"\n### {title}\n", "| setting | default | what it is |", "|---|---|---|"]
        parts += [
            f"| `{spec.key}` | {_default(spec)} | {spec.help} |" for _, spec in settings_of(kind)
        ]
    return "\n".join(parts) + "\n\n"


def _default(spec: Setting) -> str:
    return f"`{spec.example}`" if spec.example else "none"


def refusal_table() -> str:
    """The closed list of refusal codes."""
    rows = [f"| `{code.value}` | {meaning} |" for code, meaning in REFUSAL_MEANING.items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows]) + "\n"


def halt_table() -> str:
    """The closed list of reasons to stop trading: whom each stops, and the cure."""
    rows = [
        f"| `{code.value}` | {halt.meaning} | {halt.reach.value} | {halt.remedy} |"
        for code, halt in HALTS.items()
    ]
    head = ["| reason | what happened | stops the | what to do |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def undocumented() -> list[str]:
    """Settings types of the fleet that no group shows."""
    shown = {kind.__name__ for kind in GROUPS.values()}
    return [
        kind.__name__
        for kind in KNOWN
        if dataclasses.is_dataclass(kind) and kind.__name__ not in shown
    ]
