#!/usr/bin/env python3
"""Run EliteMimic: `python3 run_elitemimic.py --help` explains it; docs/runbook.md operates it."""

import os
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent


def main() -> int:
    """Start the bot; outside the project's environment, step into it first."""
    try:
        from fleet.bots.elitemimic import SPEC
        from fleet.runtime.bootstrap import main as run
    except ModuleNotFoundError as error:
        python = HOME / ".venv" / "bin" / "python"
        if not python.exists() or Path(sys.prefix) == HOME / ".venv":
            sys.stderr.write(f"{error}: run `make setup` in {HOME} first\n")
            return 78
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - the same program, its own python
    return run(SPEC, sys.argv[1:], os.environ, HOME)


if __name__ == "__main__":
    sys.exit(main())
