"""The house rules as code: layers, bans, sizes. Standard library only; ``test_tidy`` applies them.

A rule is a function from a parsed module to findings. A line may excuse itself from one rule with
``# tidy: <rule> because <reason>``; an excuse that excuses nothing is a finding too.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

MODULE_LINES, SCRIPT_LINES, FUNCTION_LINES, COLUMNS = 400, 60, 70, 100

PURE: Final = ("fleet.domain", "fleet.engine", "fleet.strategies")
VERSION: Final = "fleet.__version__"

# Who may import whom (docs/architecture.md). A layer may always import from itself.
INNER = {"fleet.domain", "fleet.clock", "fleet.logs", "fleet.journal", "fleet.config"}
OUTER = {*INNER, "fleet.engine", "fleet.venues", "fleet.forecasting", VERSION}
LAYERS: Final[dict[str, set[str]]] = {
    "fleet.domain": set(),
    "fleet.clock": set(),
    "fleet.logs": set(),
    "fleet.config": {"fleet.domain"},
    "fleet.engine": {"fleet.domain"},
    # The view, and what it shows.
    "fleet.strategies": {
        "fleet.domain",
        "fleet.engine.view",
        "fleet.engine.book",
        "fleet.engine.bundle",
        "fleet.engine.standing",
        "fleet.engine.leader_holding",
        "fleet.engine.state.Payout",
    },
    "fleet.journal": {"fleet.domain", "fleet.clock"},
    "fleet.venues": {
        "fleet.domain",
        "fleet.engine.book",
        "fleet.clock",
        "fleet.logs",
        "fleet.journal.tape",
        VERSION,
    },
    # Settings live beside their user; its files are made and opened as all of ours are.
    "fleet.forecasting": {
        "fleet.domain",
        "fleet.clock",
        "fleet.logs",
        "fleet.config",
        "fleet.journal.tape",
        "fleet.journal.database",
        "fleet.journal.table_file",
    },
    "fleet.sandbox": {
        "fleet.domain",
        "fleet.engine.book",
        "fleet.venues.polymarket.wire",
        "fleet.venues.polymarket.signing",
        # What it must check: logins, signatures, for which contract.
        "fleet.venues.polymarket.auth",
        "fleet.venues.polymarket.contracts",
        "fleet.venues.polymarket.keys",
        # And the calls and transactions its chain carries out.
        "fleet.venues.polymarket.chain_contracts",
        "fleet.venues.polymarket.chain_transactions",
        "fleet.clock",
        "fleet.logs",
    },
    # Who stops trading tells a person; alerts import no venue and know no engine.
    "fleet.runtime": {*OUTER, "fleet.ops.alerts"},
    # docs/decisions/0001: what makes one bot different.
    "fleet.bots": {
        "fleet.config",
        "fleet.domain",
        "fleet.engine",
        "fleet.strategies",
        "fleet.runtime",
        "fleet.ops.backup_settings",
        "fleet.clock",
        "fleet.forecasting.llm_settings",
        "fleet.forecasting.memory_settings",
    },
    "fleet.research": {*OUTER, "fleet.strategies", "fleet.sandbox", "fleet.runtime"},
    "fleet.dashboard": {*INNER, "fleet.engine.state"},
    "fleet.ops": {*INNER, VERSION},
    "fleet.ops.deployer": {*INNER, "fleet.research.registry"},
    "fleet.cli": {"fleet"},
    "fleet.__main__": {"fleet.cli"},
    "fleet": set(),
    "run": {"fleet.runtime.bootstrap", "fleet.bots", "fleet.strategies", "fleet.research"},
}

# What may come from outside the standard library; layers that are not named may use what they need.
LIBRARIES: Final[dict[str, set[str]]] = {
    # docs/decisions/0011: msgspec for its records, which hold data and do nothing.
    "fleet.domain": {"msgspec.Struct"},
    "fleet.clock": set(),
    "fleet.config": set(),
    "fleet.engine": {"msgspec.Struct"},
    "fleet.strategies": {"msgspec.Struct"},
    "fleet.strategies.candles": {"numpy"},
    "fleet.strategies.rules": {"numpy"},
    "fleet.strategies.decision": {"numba", "numpy"},
    "fleet.strategies.statarb_statistics": {"numpy"},
    "fleet.strategies.statarb_history": {"numpy"},
    "fleet.strategies.statarb_fit": {"numpy"},
    "fleet.logs": {"structlog"},
    "fleet.journal": {"msgspec", "zstandard"},
    "run": set(),
}

# Floats may propose (docs/decisions/0020): these compute statistics and hand integers over.
PROPOSING: Final = (
    "fleet.strategies.statarb_statistics",
    "fleet.strategies.statarb_history",
    "fleet.strategies.statarb_fit",
    "fleet.strategies.decision",
)
BRANCHES_ON_MODE: Final = ("fleet.runtime.bootstrap", "fleet.config")
CATCHES_ALL: Final = ("fleet.runtime.runner", "fleet.ops.watchdog")
MODES: Final = {"paper", "live", "replay"}
BANNED_NAMES: Final = re.compile(
    r"(utils?|helpers?|misc|common|base|manager|service|data|(?!pm2)\w+\d|new_\w+|enhanced_\w+)"
)
AMBIENT: Final = {
    "time", "random", "uuid", "secrets", "os", "asyncio", "socket", "threading", "subprocess",
    "multiprocessing", "tempfile", "shutil", "sqlite3", "logging",
}  # fmt: skip
AMBIENT_CALLS: Final = {"open", "print", "input", "exec", "eval"}
CLOCK_CALLS: Final = {"now", "today", "utcnow", "fromtimestamp"}
PURE_CALLS: Final = {
    "frozenset", "tuple", "dict", "set", "list", "range", "len", "int", "str", "bytes", "min", "max",
    "sum", "sorted", "zip", "enumerate", "map", "fromkeys", "fromhex", "maketrans", "compile",
    "encode", "field", "parent", "resolve", "split", "items", "values", "keys", "union",
    "getLogger", "get_logger", "namedtuple", "get_type_hints", "itemgetter", "attrgetter",
    "MappingProxyType", "round", "float", "join", "lower",
    "capitalize", "deque", "timedelta", "to_bytes", "ord", "keccak",
    # fleet.config: what a settings field is made of.
    "setting", "one_of", "url",
}  # fmt: skip
"""Calls that may make a module's constants: pure, quick, and without a look at the world."""

MARKER: Final = re.compile(r"#\s*tidy:\s*(?P<rule>[\w-]*)(?P<why>\s+because\s+\S.*)?")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One breach of one rule."""

    path: str
    line: int
    rule: str
    message: str


class Source:
    """One Python file, parsed once."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.tree = ast.parse(text, path)

    @cached_property
    def module(self) -> str:
        """``src/fleet/engine/book.py`` is ``fleet.engine.book``, ``run_x.py`` is ``run``."""
        inner = self.path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
        return "run" if "/" not in self.path else inner.replace("/", ".")

    @property
    def pure(self) -> bool:
        return self.within(*PURE)

    def within(self, *prefixes: str) -> bool:
        return any(self.module == p or self.module.startswith(f"{p}.") for p in prefixes)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """(line, full dotted name) of everything imported, anywhere in the file."""
        found: list[tuple[int, str]] = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                head = "." * node.level + (node.module or "")
                found += [(node.lineno, f"{head}.{alias.name}") for alias in node.names]
        return found

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]


Found = Iterator[tuple[int, str]]
Rule = Callable[[Source], Found]


def _key_of(module: str, table: dict[str, set[str]]) -> str | None:
    """The longest entry of a table that covers a module."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in table), None)


def layer(source: Source) -> Found:
    """A module imports only from the layers its own may know."""
    key = _key_of(source.module, LAYERS)
    if key is None or (key == "fleet" and source.module != "fleet"):
        yield 1, f"{source.module} is in no layer: add it to docs/architecture.md and to LAYERS"
        return
    allowed = LAYERS[key] | {key if key != "fleet.ops.deployer" else "fleet.ops"}
    for line, name in source.imports:
        if name.startswith("."):
            yield line, "relative imports hide the layer"
        elif name == "fleet" and VERSION in allowed:
            continue  # For fleet.__version__; what else is reached through it shows elsewhere.
        elif name.split(".")[0] == "fleet" and not any(
            name == one or name.startswith(f"{one}.") for one in allowed
        ):
            yield line, f"{key} may not import {name}"


def library(source: Source) -> Found:
    """The inner layers live on the standard library, but for what is named."""
    key = _key_of(source.module, LIBRARIES)
    if key is None:
        return
    for line, name in source.imports:
        top = name.split(".")[0]
        known = top == "fleet" or top in sys.stdlib_module_names
        if not known and LIBRARIES[key].isdisjoint({top, name}):
            yield line, f"{key} may not use {top}"


def mode(source: Source) -> Found:
    """Paper, live and replay differ in one place."""
    if source.within(*BRANCHES_ON_MODE):
        return
    for node in source.nodes:
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = any(_last_name(side).endswith("mode") for side in sides)
            text = any(isinstance(s, ast.Constant) and s.value in MODES for s in sides)
            if any(_is_mode(side) for side in sides) or (named and text):
                yield node.lineno, "only runtime/bootstrap.py branches on the mode"
        elif isinstance(node, ast.MatchValue) and _is_mode(node.value):
            yield node.value.lineno, "only runtime/bootstrap.py branches on the mode"


def _is_mode(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and _last_name(node.value) == "Mode"


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def ambient(source: Source) -> Found:
    """The core asks the world nothing: no clock, chance, environment, files, output, asyncio."""
    if not source.pure:
        return
    for line, name in source.imports:
        if name.split(".")[0] in AMBIENT:
            yield line, f"the core may not import {name.split('.')[0]}: it must arrive as an event"
    for node in source.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield node.lineno, "the core is synchronous"
        elif isinstance(node, ast.Call):
            name = _last_name(node.func)
            if isinstance(node.func, ast.Name) and name in AMBIENT_CALLS:
                yield node.lineno, f"the core may not call {name}"
            elif isinstance(node.func, ast.Attribute) and name in CLOCK_CALLS:
                yield node.lineno, f"the core may not ask the time ({name})"


def floats(source: Source) -> Found:
    """Money is integers: no float type, literal or true division in the core."""
    if not source.pure or source.within(*PROPOSING):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and _last_name(node.func) == "float":
            yield node.lineno, "float() in the core"
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno, f"the float {node.value} in the core"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "true division makes a float"


def set_order(source: Source) -> Found:
    """Sets have no order that two runs share: the core never walks one."""
    if not source.pure:
        return
    known = _set_names(source)
    for node in source.nodes:
        walked: list[ast.expr] = []
        if isinstance(node, ast.For):
            walked = [node.iter]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            walked = [generator.iter for generator in node.generators]
        elif isinstance(node, ast.Call) and _last_name(node.func) in {"list", "tuple", "next",
                                                                      "iter", "enumerate"}:  # fmt: skip
            walked = node.args[:1]
        elif isinstance(node, ast.Starred):
            walked = [node.value]
        for expression in walked:
            if _is_set(expression, known):
                yield expression.lineno, "a set has no order: sort it, or keep a dict"


def _set_names(source: Source) -> set[str]:
    """Names and attributes that are annotated as sets or only ever given sets."""
    found: set[str] = set()
    for node in source.nodes:
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            kind = node.annotation
            kind = kind.value if isinstance(kind, ast.Subscript) else kind
            if _last_name(kind) in {"set", "frozenset", "Set", "AbstractSet"}:
                found.add(node.arg if isinstance(node, ast.arg) else _last_name(node.target))
        elif isinstance(node, ast.Assign) and _is_set(node.value, set()):
            found.update(_last_name(target) for target in node.targets)
    return found - {""}


def _is_set(node: ast.expr, known: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in {"set", "frozenset"}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
        return _is_set(node.left, known) and _is_set(node.right, known)
    return _last_name(node) in known


def excepts(source: Source) -> Found:
    """Errors are caught by name."""
    wide = {"Exception", "BaseException"}
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if node.type is None:
                yield node.lineno, "a bare except"
            elif not source.within(*CATCHES_ALL) and any(
                kind is not None and _last_name(kind) in wide for kind in kinds
            ):
                yield node.lineno, "only runtime/runner.py and ops/watchdog.py catch everything"
        elif (
            isinstance(node, ast.Call)
            and _last_name(node.func) == "suppress"
            and any(_last_name(argument) in wide for argument in node.args)
        ):
            yield node.lineno, "suppress(Exception) hides what went wrong"


def setup(source: Source) -> Found:
    """Nobody configures logging or the import path on the side."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and _last_name(node.func) == "basicConfig":
            yield node.lineno, "logging is set up by fleet.logs"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            yield node.lineno, "the import path is the environment's business"


def on_import(source: Source) -> Found:
    """Importing a module makes constants and definitions, nothing else."""
    own = {node.name for node in source.tree.body if isinstance(node, ast.FunctionDef)}
    for node in source.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            yield from _working_calls(node.value, own)
        elif isinstance(node, ast.If):
            test = ast.unparse(node.test)
            if test not in {"TYPE_CHECKING", "__name__ == '__main__'"}:
                yield node.lineno, "a decision at import"
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.Assign | ast.AnnAssign):
                    yield from _working_calls(part.value, own)
        elif not isinstance(
            node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield node.lineno, "work at import"


def _working_calls(value: ast.expr | None, own: set[str]) -> Found:
    """Calls of a module-level value that are neither constructors nor known to be pure.

    A private function of the same module may build its tables.
    """
    for node in ast.walk(value) if value is not None else ():
        if not isinstance(node, ast.Call):
            continue
        name = _last_name(node.func)
        builds = name in own and name.startswith("_")
        if not (name[:1].isupper() or name.lstrip("_")[:1].isupper() or name in PURE_CALLS
                or builds):  # fmt: skip
            yield node.lineno, f"{name or 'a call'}() at import"


def sizes(source: Source) -> Found:
    """Modules, functions and lines fit on what a person can hold."""
    lines = source.text.splitlines()
    limit = SCRIPT_LINES if source.module == "run" else MODULE_LINES
    if len(lines) > limit:
        yield 1, f"{len(lines)} lines, at most {limit}"
    for number, text in enumerate(lines, 1):
        if len(text) > COLUMNS:
            yield number, f"{len(text)} columns, at most {COLUMNS}"
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines, at most {FUNCTION_LINES}"


def naming(source: Source) -> Found:
    """A module is named for what it is."""
    for part in source.module.split("."):
        if BANNED_NAMES.fullmatch(part):
            yield 1, f"{part} says nothing about what is in it"


def docstring(source: Source) -> Found:
    """Every module says what it is."""
    if not (ast.get_docstring(source.tree) or "").strip():
        yield 1, "no module docstring"


def leftovers(source: Source) -> Found:
    """No notes to ourselves, no holes in the coverage."""
    for line, text in source.comments:
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b|pragma:\s*no cover", text):
            yield line, text.strip()


RULES: Final[dict[str, Rule]] = {
    "layer": layer,
    "library": library,
    "mode": mode,
    "ambient": ambient,
    "float": floats,
    "set-order": set_order,
    "except": excepts,
    "setup": setup,
    "on-import": on_import,
    "size": sizes,
    "naming": naming,
    "docstring": docstring,
    "leftover": leftovers,
}


def check(path: str, text: str) -> list[Finding]:
    """All findings of one file of ``src`` or one ``run_*.py``; ``path`` as in the repository."""
    source = Source(path, text)
    found = {
        Finding(path, line, name, message)
        for name, rule in RULES.items()
        for line, message in rule(source)
    }
    excused: set[Finding] = set()
    for line, comment in source.comments:
        marker = MARKER.match(comment)
        if marker is None:
            continue
        hit = {one for one in found if (one.line, one.rule) == (line, marker["rule"])}
        if marker["rule"] not in RULES or not marker["why"]:
            found.add(Finding(path, line, "marker", "write `# tidy: <rule> because <reason>`"))
        elif not hit:
            found.add(Finding(path, line, "marker", f"nothing here breaks {marker['rule']}"))
        else:
            excused |= hit
    return sorted(found - excused)
