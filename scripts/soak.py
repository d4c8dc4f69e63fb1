"""`make soak`: seeds and kills until stopped; `scripts/soak.py --help` explains its flags."""

# ruff: noqa: INP001 - a script
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # The proofs live with the tests, which are a package of the checkout.
    os.chdir(Path(__file__).resolve().parents[1])
    os.execv(sys.executable, [sys.executable, "-m", "tests.soak", *sys.argv[1:]])  # noqa: S606
