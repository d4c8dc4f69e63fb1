"""Set-up and launcher: what a newcomer's first commands do, in a temporary checkout.

The temporary checkout has this project's own ecosystem file, launcher and set-up script, the real
PM2, and bots of a few lines that report as the real ones do.
"""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.ops import pm2rpc
from tests.e2e.pm2_home import ROOT, Pm2, gone, private_pm2, until

REPORTER = """
import json, os, signal, sys, time
from pathlib import Path
from fleet.runtime import pm2

def report(root, name):
    behaviour = root / f"{name}.behaviour"
    wanted = behaviour.read_text() if behaviour.exists() else "well"
    if wanted.isdigit():
        print(f"{name} cannot go on: the setting X is wrong", file=sys.stderr, flush=True)
        sys.exit(int(wanted))
    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(1))
    channel = pm2.connect(os.environ, dispatch=lambda call: call(),
                          on_shutdown=lambda: stop.append(1), on_orphan=lambda: stop.append(1))
    with (root / f"{name}.starts").open("a") as file:
        file.write("x")
    channel.ready()
    started_ns = time.time_ns()
    status = root / "var" / "status" / f"{name.lower()}.json"
    while not stop:
        partial = status.with_suffix(".partial")
        partial.write_text(json.dumps({
            "bot": name, "pid": os.getpid(), "mode": "paper", "feed": "sandbox",
            "trading": "ACTIVE", "ready": True, "ts_ns": time.time_ns(),
            "started_ns": started_ns, "healthy": wanted != "sick",
            "components": {"feed": "stale" if wanted == "sick" else "healthy"},
            "opportunities": 1, "trades": 2, "pnl": "0.50", "errors": 0}))
        partial.replace(status)
        time.sleep(0.1)
    channel.close()
"""


BOTS = ("ArbHunter", "PolyAI", "EliteMimic")
APPS = ("Sandbox", *BOTS, "LogRotate")


@dataclass(slots=True)
class Checkout:
    """A temporary checkout and the PM2 its launcher talks to."""

    root: Path
    pm2: Pm2

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env={**self.pm2.env, **env}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90, check=False,
        )  # fmt: skip

    def fleet(self, verb: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.root / "scripts" / "fleet.sh"), verb, **env)

    def apps(self) -> dict[str, pm2rpc.App]:
        return {app.name: app for app in pm2rpc.list_apps(self.pm2.home)}

    def behave(self, name: str, how: str) -> None:
        (self.root / f"{name}.behaviour").write_text(how)

    def starts(self, name: str) -> int:
        return len((self.root / f"{name}.starts").read_text())


def make_checkout(root: Path) -> None:
    (root / "scripts").mkdir(parents=True)
    for name in ("ecosystem.config.js", "setup_logs.sh", "scripts/fleet.sh", "Makefile"):
        shutil.copy(ROOT / name, root / name)
    (root / "node_modules").symlink_to(ROOT / "node_modules")
    binaries = root / ".venv" / "bin"
    binaries.mkdir(parents=True)
    python = binaries / "python"
    path = f"{ROOT / 'src'}:{root}"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (root / "reporter.py").write_text(REPORTER)
    for bot in BOTS:
        (root / f"run_{bot.lower()}.py").write_text(
            f"from pathlib import Path\nimport reporter\nreporter.report(Path({str(root)!r}), {bot!r})\n"
        )
    fleet = binaries / "fleet"
    fleet.write_text(
        "import sys\nfrom pathlib import Path\nif sys.argv[1] == 'sandbox':\n"
        f"    import reporter\n    reporter.report(Path({str(root)!r}), 'Sandbox')\n"
        "else:\n    from fleet.cli.main import main\n    sys.exit(main())\n"
    )
    fleet.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    root = tmp_path / "fleet"
    make_checkout(root)
    with private_pm2() as pm2:
        made = Checkout(root, pm2)
        done = made.run(str(root / "setup_logs.sh"))
        assert done.returncode == 0, done.stdout
        yield made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- the launcher --------------------------------------------------------------------------------


@pytest.mark.pm2
@pytest.mark.slow
def test_start_twice_status_stop_and_start_again(checkout: Checkout) -> None:
    checkout.pm2.home.chmod(0o755)
    first = checkout.fleet("start")
    assert first.returncode == 0, first.stdout
    assert f"Started: {' '.join(APPS)}" in first.stdout
    for words in ("Logs:", "Next:", "make logs", "ArbHunter", "healthy"):
        assert words in first.stdout
    assert mode(checkout.pm2.home) == 0o700
    before = checkout.apps()
    assert all(app.online for app in before.values())

    second = checkout.fleet("start")
    assert second.returncode == 0, second.stdout
    assert "Nothing to start." in second.stdout
    after = checkout.apps()
    assert {n: (a.pid, a.restarts) for n, a in after.items()} == {
        n: (a.pid, a.restarts) for n, a in before.items()
    }
    assert checkout.starts("ArbHunter") == checkout.starts("Sandbox") == 1

    status = checkout.fleet("status")
    assert status.returncode == 0, status.stdout
    assert "NOT HEALTHY" not in status.stdout
    shown = checkout.run(
        str(checkout.root / ".venv/bin/python"), "-m", "fleet.cli.main",
        "status", "--json", "--root", str(checkout.root),
    )  # fmt: skip
    document = json.loads(shown.stdout)
    assert document["healthy"] is True
    assert {app["name"] for app in document["apps"]} == set(APPS)

    assert mode(checkout.root / "logs" / "arbhunter-out.log") == 0o600
    checkout.fleet("save")
    assert mode(checkout.pm2.home / "dump.pm2") == 0o600

    stopped = checkout.fleet("stop")
    assert f"Stopped: {' '.join(APPS)}" in stopped.stdout
    assert all(gone(app.pid) for app in before.values())
    assert "Nothing runs." in checkout.fleet("stop").stdout
    assert checkout.fleet("status").returncode == 1

    again = checkout.fleet("start")
    assert again.returncode == 0, again.stdout
    assert checkout.starts("ArbHunter") == 2


@pytest.mark.pm2
@pytest.mark.slow
def test_only_what_is_down_is_started(checkout: Checkout) -> None:
    assert checkout.fleet("start").returncode == 0
    checkout.pm2.run("stop", "ArbHunter")
    sandbox = checkout.apps()["Sandbox"].pid
    done = checkout.fleet("start")
    assert done.returncode == 0, done.stdout
    assert "Started: ArbHunter\n" in done.stdout
    assert checkout.apps()["Sandbox"].pid == sandbox
    assert (checkout.starts("ArbHunter"), checkout.starts("Sandbox")) == (2, 1)


@pytest.mark.pm2
@pytest.mark.slow
def test_a_bot_that_stays_down_fails_the_start_at_once_with_its_reason(checkout: Checkout) -> None:
    checkout.behave("ArbHunter", "78")
    done = checkout.fleet("start", FLEET_HEALTHY_WITHIN_S="60")
    assert done.returncode == 1
    assert "it asked to stay down (exit 78)" in done.stdout
    assert "the setting X is wrong" in done.stdout
    # Cured, the next start brings it up, and only it.
    checkout.behave("ArbHunter", "well")
    sandbox = checkout.apps()["Sandbox"].pid
    cured = checkout.fleet("start")
    assert cured.returncode == 0, cured.stdout
    assert "Started: ArbHunter\n" in cured.stdout
    assert checkout.apps()["Sandbox"].pid == sandbox


@pytest.mark.pm2
@pytest.mark.slow
def test_a_sick_bot_fails_the_start_after_the_wait(checkout: Checkout) -> None:
    checkout.behave("ArbHunter", "sick")
    done = checkout.fleet("start", FLEET_HEALTHY_WITHIN_S="2")
    assert done.returncode == 1
    assert "feed is stale" in done.stdout
    assert "the fleet is not healthy" in done.stdout


@pytest.mark.pm2
@pytest.mark.slow
def test_another_checkouts_bots_are_left_alone(checkout: Checkout, tmp_path: Path) -> None:
    assert checkout.fleet("start").returncode == 0
    pids = {name: app.pid for name, app in checkout.apps().items()}
    make_checkout(tmp_path / "other")
    other = Checkout(tmp_path / "other", checkout.pm2)
    (other.root / "var" / "status").mkdir(parents=True)
    done = other.fleet("start")
    assert done.returncode == 1
    assert str(checkout.root) in done.stdout
    assert "pm2 delete" in done.stdout
    assert "PM2_HOME=" in done.stdout
    assert "left alone" in other.fleet("stop").stdout
    assert {name: app.pid for name, app in checkout.apps().items()} == pids


@pytest.mark.pm2
@pytest.mark.slow
def test_racing_starts_start_each_bot_once(checkout: Checkout) -> None:
    command = [str(checkout.root / "scripts" / "fleet.sh"), "start"]
    racers = [
        subprocess.Popen(
            command, env=checkout.pm2.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(3)
    ]
    outputs = [racer.communicate(timeout=90)[0].decode() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], outputs
    assert checkout.starts("ArbHunter") == checkout.starts("Sandbox") == 1


@pytest.mark.pm2
@pytest.mark.slow
def test_plain_pm2_commands_work_from_any_directory(checkout: Checkout) -> None:
    file = str(checkout.root / "ecosystem.config.js")
    checkout.pm2.run("start", file)
    until(lambda: all(app.online for app in checkout.apps().values()), "all run")
    assert set(checkout.apps()) == set(APPS)
    # The launcher sees the same daemon.
    assert "Nothing to start." in checkout.fleet("start").stdout
    checkout.pm2.run("restart", "ArbHunter")
    until(lambda: checkout.starts("ArbHunter") == 2, "pm2 restart restarts")
    checkout.pm2.run("stop", "all")
    assert {app.status for app in checkout.apps().values()} == {"stopped"}


@pytest.mark.pm2
@pytest.mark.slow
def test_the_daemon_remembers_pm2_as_its_program(checkout: Checkout) -> None:
    """After an internal error it runs `node $_ update`; from npm that would be `npm update`."""
    assert checkout.fleet("start").returncode == 0
    environ = Path(f"/proc/{checkout.pm2.daemon_pid()}/environ").read_bytes().decode()
    variables = dict(part.split("=", 1) for part in environ.split("\0") if "=" in part)
    assert variables["_"].endswith("node_modules/.bin/pm2")
    assert variables["PM2_WORKER_INTERVAL"] == "10000"
    held = Path(f"/proc/{checkout.pm2.daemon_pid()}/fd").iterdir()
    assert "fleet.lock" not in {link.readlink().name for link in held}


def test_without_ps_the_launcher_refuses(checkout: Checkout, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "sh", "node", "flock", "mkdir", "chmod"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    done = checkout.fleet("start", PATH=str(tools))
    assert done.returncode == 1
    assert "procps" in done.stdout
    assert not (checkout.pm2.home / "pm2.pid").exists()


# --- what is said before set-up ------------------------------------------------------------------


def test_the_ecosystem_file_without_venv_says_what_to_run(tmp_path: Path) -> None:
    shutil.copy(ROOT / "ecosystem.config.js", tmp_path)
    with private_pm2() as pm2:
        said = pm2.run("start", str(tmp_path / "ecosystem.config.js"), check=False)
        assert "make setup" in said
        assert str(tmp_path) in said
        assert pm2rpc.list_apps(pm2.home) == ()


def test_the_launcher_without_setup_says_what_to_run(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".venv")
    done = checkout.fleet("start")
    assert done.returncode == 1
    assert "make setup" in done.stdout


def test_preflight_names_everything_missing_at_once(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    bash = shutil.which("bash")
    assert bash is not None
    (tools / "cut").symlink_to(shutil.which("cut") or "/usr/bin/cut")
    for name, script in {
        "python3": "case $1 in -V) echo Python 3.9.2;; *) exit 1;; esac",
        "node": "case $1 in -v) echo v18.0.0;; *) echo 18;; esac",
    }.items():
        (tools / name).write_text(f"#!{bash}\n{script}\n")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        [bash, str(ROOT / "scripts" / "preflight.sh")], env={"PATH": str(tools)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    for words in ("3.9.2", "3.11", "v18.0.0", "npm", "procps", "flock", "gpg"):
        assert words in done.stderr


# --- logs and .env -------------------------------------------------------------------------------


def test_setup_logs_is_private_and_idempotent(checkout: Checkout) -> None:
    root = checkout.root
    (root / "logs" / "arbhunter-out.log").write_text("kept\n")
    (root / "logs" / "arbhunter-out.log").chmod(0o644)
    (root / "logs").chmod(0o755)
    (root / "logs" / "arbhunter-error.log").write_bytes(b"x" * (11 * 2**20))
    outputs = [checkout.run(str(root / "setup_logs.sh")) for _ in range(2)]
    assert [done.returncode for done in outputs] == [0, 0], outputs
    for folder in ("logs", "var", "var/locks", "var/status"):
        assert mode(root / folder) == 0o700
    assert (root / "logs" / "arbhunter-out.log").read_text() == "kept\n"
    assert mode(root / "logs" / "arbhunter-out.log") == 0o600
    assert (root / "logs" / "arbhunter-error.log").read_bytes() == b""
    assert [p.name for p in (root / "logs").glob("*.gz")] == ["arbhunter-error.log.1.gz"]
    assert "copytruncate" in (root / "var" / "logrotate.conf").read_text()


def test_env_is_made_private_and_never_overwritten(checkout: Checkout) -> None:
    root = checkout.root
    (root / ".env.example").write_text("ARB_TRADE_SIZE_USD=100\n")
    made = checkout.run("make", ".env")
    assert made.returncode == 0, made.stdout
    assert (root / ".env").read_text() == "ARB_TRADE_SIZE_USD=100\n"
    assert mode(root / ".env") == 0o600
    (root / ".env").write_text("ARB_TRADE_SIZE_USD=5\n")
    (root / ".env.example").write_text("ARB_TRADE_SIZE_USD=200\n")
    os.utime(root / ".env.example", (2**31, 2**31))
    checkout.run("make", ".env")
    assert (root / ".env").read_text() == "ARB_TRADE_SIZE_USD=5\n"


# --- locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_locks_hold_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    lines = [line.strip().removesuffix("\\").strip() for line in text.splitlines() if line.strip()]
    pin = re.compile(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,]+\])?==[^ ]+( ; .+)?")
    wrong = [li for li in lines if not pin.fullmatch(li) and not li.startswith("--hash=sha256:")]
    assert not wrong
    assert len([line for line in lines if "==" in line and not line.startswith("--")]) > 20


def test_the_locks_agree_and_cover_what_is_asked_for() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ]+)", text, re.MULTILINE))

    def asked(name: str) -> set[str]:
        lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
        names = {re.split(r"[\[=<> ]", li)[0] for li in lines if li and li[0] not in "#-"}
        return {name.replace("_", "-") for name in names}

    runtime, dev = pins("runtime"), pins("dev")
    assert {n: v for n, v in dev.items() if n in runtime} == {
        n: v for n, v in runtime.items() if n in dev
    }
    assert asked("runtime") <= set(runtime)
    assert asked("dev") <= set(dev)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[=<> ]", name)[0] for name in project["dependencies"]}
    assert declared == asked("runtime") - {"flit-core"}


def test_the_npm_lock_pins_pm2_and_names_no_address() -> None:
    text = (ROOT / "package-lock.json").read_text()
    assert "resolved" not in text
    # Homepages of sponsors are the only addresses npm writes; no package comes from one.
    packages = json.loads(text)["packages"]
    assert not [url for url in re.findall(r"https?://[^\"]+", text) if "registry" in url]
    pm2 = packages["node_modules/pm2"]
    assert tuple(map(int, pm2["version"].split("."))) >= (7, 0, 4)
    assert all("integrity" in p for path, p in packages.items() if path)
    manifest = json.loads((ROOT / "package.json").read_text())
    assert "pm2" in manifest["dependencies"]
    assert manifest["private"] is True


def test_every_import_is_in_a_lock() -> None:
    """A package that is only on the developer's machine would break the fresh clone."""
    known = importlib.metadata.packages_distributions()

    def locked(*names: str) -> set[str]:
        texts = [(ROOT / "requirements" / f"{name}.txt").read_text() for name in names]
        return set(re.findall(r"^([a-z0-9._-]+)==", "\n".join(texts), re.MULTILINE))

    def imported(folder: str) -> set[str]:
        names: set[str] = set()
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.split(".")[0])
        return names - set(sys.stdlib_module_names) - {"fleet", "tests", "reporter"}

    def missing(folder: str, *names: str) -> dict[str, list[str]]:
        have = locked(*names)
        return {
            module: known.get(module, ["not installed"])
            for module in imported(folder)
            if not {re.sub(r"[-_.]+", "-", d).lower() for d in known.get(module, [])} & have
        }

    # Ray is optional at run time: who asks for it without having it is told what to install.
    assert set(missing("src", "runtime")) <= {"ray"}
    assert missing("src", "runtime", "dev") == {}
    assert missing("tests", "runtime", "dev") == {}
