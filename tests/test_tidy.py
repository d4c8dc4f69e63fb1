"""The house rules hold in the whole repository, and each rule catches what it is for."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.tidy_rules import RULES, Finding, check

ROOT = Path(__file__).resolve().parents[1]
DOC = '"""What it is."""\n'
CORE = "src/fleet/engine/thing.py"
SHELL = "src/fleet/runtime/thing.py"

# Registry hosts and places of the machines this was written on; put together here so that this
# file does not hold them itself.
HOSTS = [".".join(parts) for parts in (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"),
    ("yarnpkg", "com"), ("crates", "io"), ("proxy", "golang", "org"), ("ghcr", "io"),
)]  # fmt: skip
PLACES = ["/".join(parts) for parts in (("", "work", ""), ("", "tmp", "brief"), ("", "root", ""))]
SKIPPED = {".png", ".gif", ".jpg", ".ico", ".zst", ".gz", ".woff2"}


def repository() -> list[str]:
    """Every file of the repository, without those git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sorted(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


def sources() -> list[str]:
    return [
        name
        for name in repository()
        if name.endswith(".py") and (name.startswith("src/") or re.fullmatch(r"run_\w+\.py", name))
    ]


@cache
def findings() -> tuple[Finding, ...]:
    return tuple(one for name in sources() for one in check(name, (ROOT / name).read_text()))


@pytest.mark.parametrize("rule", [*RULES, "marker"])
def test_the_sources_are_tidy(rule: str) -> None:
    found = [one for one in findings() if one.rule == rule]
    told = "\n".join(f"{one.path}:{one.line}: {one.message}" for one in found)
    assert not found, f"\n{told}"


def test_the_sources_were_found() -> None:
    names = sources()
    assert "src/fleet/engine/engine.py" in names
    assert "run_arbhunter.py" in names


def test_no_file_names_a_registry_or_a_place_of_one_machine() -> None:
    banned = re.compile("|".join(map(re.escape, HOSTS + PLACES)))
    found = []
    for name in repository():
        path = ROOT / name
        if path.suffix in SKIPPED:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if hit := banned.search(line):
                found.append(f"{name}:{number}: {hit[0]}")
    assert not found, "\n".join(found)


def test_the_node_lock_has_no_download_address() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


def test_the_python_locks_have_hashes_and_no_index() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        lines = lock.read_text().splitlines()
        assert not [
            line for line in lines if line.startswith(("-i", "--index", "--extra", "--find"))
        ]
        pinned = [line for line in lines if re.match(r"[\w.-]+(\[[\w,-]+\])?==", line)]
        assert pinned, f"{lock.name} pins nothing"
        assert all(line.endswith("\\") for line in pinned), f"{lock.name} pins without a hash"


# --- the rules themselves ---------------------------------------------------------------------

# (rule, path, body): each body breaks just this rule, each time.
BAD: list[tuple[str, str, str]] = [
    ("layer", "src/fleet/domain/thing.py", "import fleet.engine.book"),
    ("layer", "src/fleet/domain/thing.py", "from fleet import engine"),
    ("layer", CORE, "from fleet.journal.store import MemoryJournal"),
    ("layer", CORE, "from fleet.clock import LiveClock"),
    ("layer", CORE, "from . import book"),
    ("layer", CORE, "def f():\n    from fleet.venues import paper\n    return paper"),
    ("layer", "src/fleet/strategies/thing.py", "from fleet.engine.engine import Engine"),
    ("layer", "src/fleet/strategies/thing.py", "from fleet.engine.risk import Risk"),
    ("layer", "src/fleet/journal/thing.py", "from fleet.engine.state import State"),
    ("layer", "src/fleet/venues/thing.py", "from fleet.engine.state import State"),
    ("layer", "src/fleet/venues/thing.py", "from fleet.journal.store import JournalStore"),
    ("layer", "src/fleet/sandbox/thing.py", "from fleet.venues.paper import PaperVenue"),
    ("layer", SHELL, "from fleet.strategies.arbitrage import Arbitrage"),
    ("layer", SHELL, "from fleet.sandbox import server"),
    ("layer", SHELL, "from fleet.cli import main"),
    ("layer", "src/fleet/bots/thing.py", "from fleet.venues.paper import PaperVenue"),
    ("layer", "src/fleet/dashboard/thing.py", "from fleet.venues.port import Venue"),
    ("layer", "src/fleet/dashboard/thing.py", "from fleet.engine.engine import Engine"),
    ("layer", "src/fleet/ops/thing.py", "from fleet.venues.paper import PaperVenue"),
    ("layer", "src/fleet/ops/thing.py", "from fleet.runtime.bootstrap import main"),
    ("layer", "src/fleet/ops/deployer.py", "from fleet.research.metrics import sharpe"),
    ("layer", "src/fleet/research/thing.py", "from fleet.cli import main"),
    ("layer", "src/fleet/config.py", "from fleet.engine.risk import RiskLimits"),
    ("layer", "src/fleet/logs.py", "from fleet.config import Mode"),
    ("layer", "src/fleet/newcomer/thing.py", "x = 1"),
    ("layer", "run_thing.py", "from fleet.runtime.runner import Runner"),
    ("layer", "run_thing.py", "from fleet.engine.engine import Engine"),
    ("library", "src/fleet/domain/thing.py", "import numpy"),
    ("library", CORE, "import msgspec"),
    ("library", CORE, "from msgspec import json"),
    ("library", "src/fleet/strategies/arbitrage.py", "import numpy as np"),
    ("library", "src/fleet/journal/thing.py", "import httpx"),
    ("library", "src/fleet/config.py", "import dotenv"),
    ("mode", SHELL, "def f(m):\n    return m is Mode.LIVE"),
    ("mode", SHELL, "def f(m):\n    return m in {1} or Mode.PAPER == m"),
    ("mode", SHELL, "def f(s):\n    return s.mode == 'live'"),
    ("mode", SHELL, "def f(m):\n    match m:\n        case Mode.LIVE:\n            return 1"),
    ("ambient", CORE, "import time"),
    ("ambient", CORE, "from random import choice"),
    ("ambient", CORE, "import uuid"),
    ("ambient", CORE, "from os import environ"),
    ("ambient", CORE, "import asyncio"),
    ("ambient", CORE, "import logging"),
    ("ambient", CORE, "def f(d):\n    return d.datetime.now()"),
    ("ambient", CORE, "def f(d):\n    return d.today()"),
    ("ambient", CORE, "def f():\n    print('hello')"),
    ("ambient", CORE, "def f(p):\n    return open(p)"),
    ("ambient", CORE, "async def f():\n    return 1"),
    ("ambient", "src/fleet/strategies/thing.py", "import secrets"),
    ("ambient", "src/fleet/domain/thing.py", "import time"),
    ("float", CORE, "def f(x):\n    return float(x)"),
    ("float", CORE, "X = 1.5"),
    ("float", CORE, "def f(x):\n    return x / 2"),
    ("float", CORE, "def f(x):\n    x /= 2\n    return x"),
    ("set-order", CORE, "def f():\n    for x in {1, 2}:\n        yield x"),
    ("set-order", CORE, "def f(y):\n    return [x for x in set(y)]"),
    ("set-order", CORE, "def f(y):\n    return {x: 1 for x in frozenset(y)}"),
    ("set-order", CORE, "def f(y):\n    s = {n for n in y}\n    return list(s)"),
    ("set-order", CORE, "def f(y: set[int]):\n    return tuple(y)"),
    ("set-order", CORE, "def f(y: frozenset[int]):\n    return [*y]"),
    ("set-order", CORE,
     "class A:\n    s: set[int]\n    def f(self):\n        return next(iter(self.s))"),
    ("set-order", CORE, "def f(a: set[int], b: set[int]):\n    return enumerate(a | b)"),
    ("except", SHELL, "def f():\n    try:\n        pass\n    except:\n        pass"),
    ("except", SHELL, "def f():\n    try:\n        pass\n    except Exception:\n        pass"),
    ("except", SHELL,
     "def f():\n    try:\n        pass\n    except (OSError, BaseException):\n        pass"),
    ("except", SHELL, "def f(c):\n    with c.suppress(Exception):\n        pass"),
    ("except", "src/fleet/runtime/runner.py",
     "def f():\n    try:\n        pass\n    except:\n        pass"),
    ("setup", SHELL, "def f(logging):\n    logging.basicConfig()"),
    ("setup", SHELL, "def f(sys):\n    sys.path.insert(0, 'x')"),
    ("setup", SHELL, "def f(sys):\n    sys.path += ['x']"),
    ("on-import", SHELL, "print('hello')"),
    ("on-import", SHELL, "X = connect('db')"),
    ("on-import", SHELL, "X = os.environ.get('A')"),
    ("on-import", SHELL, "class A:\n    now = time.time()"),
    ("on-import", SHELL, "for x in (1, 2):\n    pass"),
    ("on-import", SHELL, "if x:\n    y = 1"),
    ("on-import", SHELL, "try:\n    import a\nexcept ImportError:\n    pass"),
    ("on-import", SHELL, "with x:\n    pass"),
    ("on-import", SHELL, "def made():\n    return 1\nX = made()"),
    ("on-import", SHELL, "X = {k: load(k) for k in (1, 2)}"),
    ("size", SHELL, "\n" * 400),
    ("size", "run_thing.py", "\n" * 60),
    ("size", SHELL, "def f():\n" + "    x = 1\n" * 70),
    ("size", SHELL, f"X = '{'x' * 95}'"),
    ("naming", "src/fleet/runtime/utils.py", ""),
    ("naming", "src/fleet/runtime/helper.py", ""),
    ("naming", "src/fleet/runtime/manager.py", ""),
    ("naming", "src/fleet/runtime/bot2.py", ""),
    ("naming", "src/fleet/runtime/new_runner.py", ""),
    ("naming", "src/fleet/ops/common/thing.py", ""),
    ("leftover", SHELL, "x = 1  # TODO: later"),
    ("leftover", SHELL, "x = 1  # pragma: no cover"),
    ("marker", SHELL, "x = 1  # tidy: size because I like it"),
    ("marker", SHELL, "x = load()  # tidy: on-import"),
    ("marker", SHELL, "x = 1  # tidy: nonsense because I like it"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "path", "body"), BAD, ids=[f"{n}-{rule}" for n, (rule, _, _) in enumerate(BAD)]
)
def test_each_rule_catches_its_breach(rule: str, path: str, body: str) -> None:
    assert rule in {one.rule for one in check(path, DOC + body + "\n")}


def test_every_rule_has_a_breach() -> None:
    assert {rule for rule, _, _ in BAD} | {"docstring"} == {*RULES, "marker"}


@pytest.mark.parametrize("text", ["x = 1\n", "", '""" """\n'])
def test_a_module_without_a_docstring_is_caught(text: str) -> None:
    assert [one.rule for one in check(SHELL, text)] == ["docstring"]


GOOD: list[tuple[str, str]] = [
    (CORE, "from fleet.domain.units import SCALE\nfrom fleet.engine.book import Book\nimport enum"),
    ("src/fleet/strategies/thing.py", "from fleet.engine.view import View"),
    ("src/fleet/strategies/candles.py", "import numpy"),
    ("src/fleet/venues/paper.py", "from fleet.engine.book import Book\nimport httpx"),
    ("src/fleet/venues/thing.py", "from fleet.journal.tape import Tape"),
    ("src/fleet/sandbox/thing.py", "from fleet.venues.polymarket.wire import parse"),
    ("src/fleet/ops/thing.py", "from fleet import __version__\nfrom fleet.ops.health import x"),
    ("src/fleet/ops/deployer.py", "from fleet.research.registry import Registry"),
    ("src/fleet/cli/main.py", "from fleet.sandbox import server\nfrom fleet.venues import paper"),
    ("run_thing.py", "from fleet.runtime.bootstrap import main\nfrom fleet.bots.thing import SPEC"),
    ("src/fleet/runtime/bootstrap.py", "def f(m):\n    return m is Mode.LIVE"),
    (SHELL, "def f(m):\n    return m.mode == 'json'"),
    (CORE, "def f(y):\n    return sorted(set(y)), sum({1, 2}), max(set(y)), 3 in {1}"),
    (CORE, "def f(y):\n    for x in dict.fromkeys(y):\n        yield x // 2"),
    (CORE, "def f(y):\n    return {x for x in set(y)}"),
    ("src/fleet/runtime/runner.py",
     "def f():\n    try:\n        pass\n    except Exception:\n        pass"),
    (SHELL, "def f():\n    try:\n        pass\n    except (OSError, ValueError):\n        pass"),
    (SHELL, "from contextlib import suppress\ndef f():\n    with suppress(OSError):\n        pass"),
    (SHELL, "def _table():\n    return 1\nX = _table()\nY: int = Price(3)\nZ = re.compile('a')"),
    (SHELL, "if TYPE_CHECKING:\n    import a\nif __name__ == '__main__':\n    main()"),
    (SHELL, "def f():\n" + "    x = 1\n" * 69),
    (SHELL, "import asyncio\nimport time\nX = 1.5"),
    (SHELL, "X = load()  # tidy: on-import because the table is needed before the first frame"),
    (CORE, "def f(x):\n    return float(x)  # tidy: float because it only proposes"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), GOOD, ids=[str(n) for n in range(len(GOOD))])
def test_what_is_allowed_passes(path: str, body: str) -> None:
    assert check(path, DOC + body + "\n") == []


def test_an_excuse_counts_on_its_own_line_only() -> None:
    body = "# tidy: float because it only proposes\nX = 1.5"
    assert [one.rule for one in check(CORE, f"{DOC}{body}\n")] == ["marker", "float"]
