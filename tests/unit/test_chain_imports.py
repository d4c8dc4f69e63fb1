"""web3.py is heavy and raises the recursion limit: it is imported late, and the limit put back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def said(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True,
        timeout=120,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_paper_bot_and_the_command_line_import_no_chain() -> None:
    heavy = "('web3', 'eth_abi', 'rlp', 'eth_account')"
    for module in ("fleet.runtime.bootstrap", "fleet.cli.main", "fleet.bots.arbhunter"):
        code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
        assert said(code) == "[]", module


def test_the_chain_imports_web3_only_when_a_node_is_opened() -> None:
    code = (
        "import sys, fleet.venues.polymarket.chain_account as a; before = 'web3' in sys.modules\n"
        "import fleet.venues.polymarket.chain_node as n; limit = sys.getrecursionlimit()\n"
        "n._import_web3()\n"
        "print(before, 'web3' in sys.modules, sys.getrecursionlimit() == limit)"
    )
    assert said(code) == "False True True"
