"""Record the contract suite's transcript; ``--help`` has its flags, docs/live.md says when."""

# ruff: noqa: INP001 - a script
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # The clauses live with the tests, which are a package of the checkout.
    os.chdir(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", "tests.contract.record", *sys.argv[1:]]
    os.execv(sys.executable, command)  # noqa: S606
