"""What README.md and docs/ tell a user to type exists, and what is cheap is really typed here."""

import argparse
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fleet.bots.arbhunter import SPEC as ARBHUNTER
from fleet.bots.elitemimic import SPEC as ELITEMIMIC
from fleet.bots.polyai import SPEC as POLYAI
from fleet.cli.main import COMMANDS
from fleet.runtime.bootstrap import parse_arguments
from fleet.runtime.settings import SANDBOX_PORT
from fleet.runtime.trader_arguments import parse as parse_trader

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
RUNNERS = {f"run_{spec.slug}.py": spec for spec in (ARBHUNTER, POLYAI, ELITEMIMIC)}
APPS = re.findall(r"^\s+app\('(\w+)'", (ROOT / "ecosystem.config.js").read_text(), re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Shown:
    """One simple command as a page shows it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        """For pytest's list."""
        return f"{self.page}: {' '.join(self.words)}"


def _simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|&;"):
            yield tuple(words)
            words = []
        else:
            words.append(word)
    yield tuple(words)


def _shown() -> list[Shown]:
    found = []
    for page in PAGES:
        for language, body in FENCE.findall(page.read_text()):
            if language != "sh":
                continue
            for line in body.splitlines():
                found += [
                    Shown(str(page.relative_to(ROOT)), words)
                    for words in _simple_commands(line)
                    if words
                ]
    return list(dict.fromkeys(found))


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def _inline() -> list[tuple[str, str]]:
    return [(page.name, code) for page in PAGES for code in INLINE.findall(_prose(page))]


# --- what each program must accept ---------------------------------------------------------------


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"fleet {command}")
    importlib.import_module(COMMANDS[command].module).add_arguments(parser)
    return parser


def _check_fleet(words: tuple[str, ...]) -> None:
    assert words[0] in COMMANDS, f"fleet has no command {words[0]}"
    _parser(words[0]).parse_args(words[1:])


def _check_make(words: tuple[str, ...]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words, "make needs a target"
    assert set(words) <= set(targets), f"the Makefile has no target {set(words) - set(targets)}"


def _check_pm2(words: tuple[str, ...]) -> None:
    source = (ROOT / "node_modules" / "pm2" / "lib" / "binaries" / "CLI.js").read_text()
    verbs = set(re.findall(r"\.command\('(\w+)", source))
    assert words[0] in verbs, f"pm2 has no command {words[0]}"
    names = {"all", "ecosystem.config.js", *APPS}
    if words[0] in {"start", "stop", "restart", "describe", "logs", "trigger"} and words[1:]:
        assert words[1] in names, f"{words[1]} is no application"
    if words[0] == "trigger":
        actions = (ROOT / "src/fleet/runtime/guards.py").read_text()
        assert f'"{words[2]}"' in actions, f"no action {words[2]}"


def _check_tool(program: str, words: tuple[str, ...]) -> None:
    assert shutil.which(program), f"{program} is not on this machine"
    for word in words:
        if word.startswith("logs/"):
            known = {
                f"logs/{app.lower()}{end}.log" for app in APPS for end in ("", "-out", "-error")
            }
            assert word in known, f"nothing writes {word}"


def _check_script(words: tuple[str, ...]) -> None:
    module = words[0] == "-m"
    what = ["-m", words[1]] if module else [str(ROOT / words[0])]
    command = [sys.executable, *what, "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for word in words[1:]:
        assert not word.startswith("--") or word in told, f"{words[0]} has no flag {word}"


def _check_request(words: tuple[str, ...]) -> None:
    """A request to the sandbox: some route of its source has that path."""
    (url,) = (urlsplit(word) for word in words if word.startswith("http"))
    assert (url.hostname, url.port) == ("127.0.0.1", SANDBOX_PORT)
    sources = "".join(f.read_text() for f in (ROOT / "src/fleet/sandbox").rglob("*.py"))
    prefix, _, last = url.path.rpartition("/")
    assert prefix == "/sandbox"
    assert f'/{last}"' in sources, f"the sandbox has no route {url.path}"


@pytest.mark.parametrize("shown", _shown(), ids=str)
def test_a_command_shown_is_one_that_exists(shown: Shown) -> None:
    program, *rest = shown.words
    words = tuple(rest)
    match program:
        case "make":
            _check_make(words)
        case "fleet" | ".venv/bin/fleet":
            _check_fleet(words)
        case "python3" if words[0] == "run_trader.py":
            parse_trader(words[1:], ())
        case "python3":
            spec = RUNNERS.get(words[0])
            assert spec is not None, f"no rule for {shown}"
            if "--help" not in words:
                parse_arguments(spec, words[1:])
        case "pm2":
            _check_pm2(words)
        case "npx":
            assert words[0] == "pm2", f"no rule for {shown}"
            _check_pm2(words[1:])
        case "./backup.sh":
            _parser("backup").parse_args(words)
        case "./scripts/fleet.sh":
            usage = (ROOT / "scripts" / "fleet.sh").read_text()
            assert f'say "  {words[0]} ' in usage, f"scripts/fleet.sh has no verb {words[0]}"
        case "./setup_logs.sh":
            assert os.access(ROOT / "setup_logs.sh", os.X_OK)
        case ".venv/bin/python":
            _check_script(words)
        case "curl":
            _check_request(words)
        case "export":
            names = {word.partition("=")[0] for word in words}
            assert names <= {"FLEET_HOME"}, f"nothing reads {names}"
        case "grep" | "tail" | "touch" | "mkdir" | "mv" | "cp" | "kill" | "chmod" | "cd":
            _check_tool(program, words) if program != "cd" else None
        case _:
            pytest.fail(f"no rule for {shown}: write one, so that the page stays true")


def test_there_are_commands_to_check() -> None:
    programs = {shown.words[0] for shown in _shown()}
    assert {"make", "pm2", "python3", "fleet", ".venv/bin/fleet"} <= programs


def test_commands_named_in_passing_exist() -> None:
    for page, code in _inline():
        words = code.split()
        if words[0] == "fleet" and len(words) > 1 and words[1].islower():
            assert words[1] in COMMANDS, f"{page}: {code}"
        elif words[0] == "make" and len(words) == 2:
            _check_make((words[1],))
        elif code.startswith("./"):
            assert (ROOT / words[0]).is_file(), f"{page}: {code}"


# --- really run ----------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "fleet"


def _run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ["PATH"], "HOME": str(home), "FLEET_HOME": str(home), "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    home.mkdir(exist_ok=True)
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, check=False)  # fmt: skip


def _fleet(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return _run(home, sys.executable, "-m", "fleet.cli.main", *words)


def _bot(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return _run(home, sys.executable, "run_arbhunter.py", *words)


def test_make_help_lists_what_the_readme_shows(home: Path) -> None:
    listed = _run(home, "make", "help").stdout
    for target in ("start", "stop", "restart", "status", "logs", "test", "check", "bench", "soak"):
        assert f"make {target} " in listed


def test_the_bot_explains_itself(home: Path) -> None:
    done = _bot(home, "--help")
    assert done.returncode == 0
    for flag in ("--mode", "--feed", "--replay", "--duration", "--dry-run"):
        assert flag in done.stdout


def test_live_is_refused_in_words(home: Path) -> None:
    done = _bot(home, "--mode", "live")
    assert done.returncode == 78
    assert "set POLYMARKET_PRIVATE_KEY in .env" in done.stderr


def test_a_dry_run_without_env_passes_and_leaves_nothing(home: Path) -> None:
    done = _bot(home, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout
    assert list(home.iterdir()) == []


def test_wrong_settings_end_with_78_and_their_cure(home: Path) -> None:
    home.mkdir()
    (home / ".env").write_text("ARB_PROFIL=low\nARB_TRADE_SIZE_USD=abc\n")
    (home / ".env").chmod(0o600)
    done = _bot(home, "--dry-run")
    assert done.returncode == 78
    assert "did you mean ARB_PROFILE?" in done.stderr
    assert "ARB_TRADE_SIZE_USD" in done.stderr


def test_halt_holds_until_resume(home: Path) -> None:
    assert _fleet(home, "halt", "a drill").returncode == 0
    checks = _bot(home, "--dry-run")
    assert checks.returncode == 78
    assert "a drill" in checks.stdout
    assert _fleet(home, "resume").returncode == 2
    assert _fleet(home, "resume", "--yes").returncode == 0
    assert _bot(home, "--dry-run").returncode == 0


def test_exit_codes_of_commands_are_those_of_the_runbook(home: Path) -> None:
    assert _fleet(home, "nosuch").returncode == 64
    assert _fleet(home, "journal", "arbhunter", "--fold").returncode == 2
    assert _bot(home, "--mode", "replay").returncode == 2
    assert _bot(home, "--replay", "nothere.jsonl.gz").returncode == 2


@pytest.mark.realdata
def test_the_finding_on_recorded_games_is_the_one_stated(fleet_data: Path, home: Path) -> None:
    games = sorted((fleet_data / "orderbook" / "signaldrift_mlb_2025").glob("*.gz"))
    done = _fleet(home, "replay", *map(str, games))
    assert done.returncode == 0, done.stderr
    readme = " ".join((ROOT / "README.md").read_text().split())
    frames = re.search(r"(\d+) frames, (\d+) sightings, 0 real, 0 after fees", done.stdout)
    assert frames is not None, done.stdout[-300:]
    assert f"{int(frames[1]):,} frames" in readme
    assert f"in {frames[2]} episodes" in readme
    moments = sum(map(int, re.findall(r"looked profitable +(\d+) frames", done.stdout)))
    assert f"{moments} frames looked profitable before fees" in readme
    phantoms = sum(map(int, re.findall(r"of these +(\d+) phantoms", done.stdout)))
    assert f"{phantoms} of these were phantoms" in readme
