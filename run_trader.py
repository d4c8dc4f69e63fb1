#!/usr/bin/env python3
"""Run the Trader: `python3 run_trader.py --help` explains it; docs/trader.md is its manual."""

import os
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent


def main() -> int:
    """Start the launcher; outside the project's environment, step into it first."""
    try:
        from fleet.bots.trader import main as run
        from fleet.research.trader_runs import TraderRuns
    except ModuleNotFoundError as error:
        python = HOME / ".venv" / "bin" / "python"
        if not python.exists() or Path(sys.prefix) == HOME / ".venv":
            sys.stderr.write(f"{error}: run `make setup` in {HOME} first\n")
            return 78
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - the same program, its own python
    return run(sys.argv[1:], os.environ, HOME, TraderRuns())


if __name__ == "__main__":
    sys.exit(main())
