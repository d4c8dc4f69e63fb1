"""`make chaos`: seeded lives of the live bot on a sandbox that misbehaves; ``--help`` has its flags."""

# ruff: noqa: INP001 - a script
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # The proofs live with the tests, which are a package of the checkout. Hashes are fixed, so that
    # a seed gives the same life in every process.
    os.chdir(Path(__file__).resolve().parents[1])
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.chaos", *sys.argv[1:]])  # noqa: S606
