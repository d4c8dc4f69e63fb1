"""The `fleet` command: one table of commands, each in its own module, loaded when asked for.

A command module exposes ``add_arguments(parser)`` and ``run(arguments) -> int`` (the exit code).
Only the chosen module is imported, so that `fleet status` costs no polars and no event loop.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

EX_USAGE: Final = 64


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives and what the list of commands says about it."""

    module: str
    summary: str


COMMANDS: Final = {
    "status": Command("fleet.cli.status", "what runs, whether it is healthy, and why not"),
    "record": Command("fleet.cli.record", "record raw market frames to a tape"),
    "replay": Command("fleet.cli.replay", "replay tapes or recordings through the whole engine"),
    "doctor": Command("fleet.cli.doctor", "check everything a live start needs, start nothing"),
    "parity": Command("fleet.cli.parity", "judge paper by the live quotes: may it go live?"),
    "approve": Command("fleet.cli.approve", "let the venue's contracts use a plain-key wallet"),
    "cash": Command("fleet.cli.cash", "tell a live bot's journal of a deposit or withdrawal"),
    "evaluate": Command("fleet.cli.evaluate", "measure a strategy on recorded quotes"),
    "candles": Command("fleet.cli.candles", "download, list and check candles"),
    "leaders": Command("fleet.cli.leaders", "score wallets and keep the list of those to copy"),
    "memory": Command("fleet.cli.memory", "fill, ask and measure PolyAI's retrieval memory"),
    "train": Command("fleet.cli.train", "train models on candles, share the work, judge them"),
    "sandbox": Command("fleet.cli.sandbox", "run the local market on 127.0.0.1"),
    "backup": Command("fleet.cli.backup", "steps of backup.sh: copy, export, verify"),
    "halt": Command("fleet.cli.halt", "set the kill latch: every bot stops trading, now"),
    "reduce": Command("fleet.cli.reduce", "let bots only sell and end what is open"),
    "flatten": Command("fleet.cli.flatten", "sell what bots hold"),
    "cancel-all": Command("fleet.cli.cancel_all", "cancel every order of bots"),
    "resume": Command("fleet.cli.resume", "clear the kill latch, or let bots trade again"),
    "journal": Command("fleet.cli.journal", "read a bot's journal"),
    "docs": Command("fleet.cli.docs", "write or check the tables that are made from code"),
    "logrotate": Command("fleet.cli.logrotate", "rotate the log files PM2 writes"),
}

AddArguments = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]


def usage() -> str:
    """Return the list of commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: fleet COMMAND [arguments]", "", *lines, "", "fleet COMMAND --help tells more."]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (64 for a command that does not exist)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0 if words else EX_USAGE
    name, *rest = words
    command = COMMANDS.get(name)
    if command is None:
        print(f"fleet: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return EX_USAGE
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=f"fleet {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cast("AddArguments", module.add_arguments)(parser)
    try:
        return cast("Run", module.run)(parser.parse_args(rest))
    except BrokenPipeError:
        # `fleet journal | head`: the reader has had enough. Keep the interpreter's own final flush
        # from failing on the same pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
