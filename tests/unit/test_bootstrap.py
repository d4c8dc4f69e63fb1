"""From flags and settings to an exit code, in this process as far as it goes without a loop."""

import json
import os
import signal
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.bots.arbhunter import SPEC
from fleet.config import ConfigError, Mode, Paths
from fleet.domain import events as ev
from fleet.domain.instruments import Universe
from fleet.domain.units import Cash
from fleet.engine.view import View
from fleet.journal.database import JournalFull
from fleet.journal.fleet import FleetState
from fleet.journal.locks import acquire
from fleet.journal.store import JournalReader, JournalStore
from fleet.runtime import bootstrap, market_source, memory
from fleet.runtime import bot as bot_module
from fleet.runtime.bootstrap import load_settings, main, parse_arguments
from fleet.runtime.settings import WalletEnv
from fleet.runtime.spec import Start
from fleet.strategies.arbitrage import Arbitrage
from fleet.venues.port import EventSink, FeedHealth
from fleet.venues.transport import JsonClient
from tests.builders import NS, market_id, no, snapshot, universe, yes


@dataclass
class Home:
    """A fleet's home, and what a start in it said."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    def env(self, text: str, mode: int = 0o600) -> None:
        file = self.root / ".env"
        file.write_text(text)
        file.chmod(mode)

    def run(self, *flags: str) -> int:
        old = os.umask(0o022)
        try:
            return main(SPEC, flags, self.environ, self.root)
        finally:
            os.umask(old)

    def log(self) -> str:
        return (self.root / "logs" / "arbhunter.log").read_text()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(bootstrap, "TWIN_WAIT_S", 0.05)
    monkeypatch.setattr(market_source, "PAUSES_S", (0.01, 0.01))
    return Home(tmp_path, {"SANDBOX_PORT": "1"})


# --- flags --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ["--mode", "live", "--replay", "x.jsonl.gz"], ["--mode", "dream"], ["--feed", "kraken"], ["--mode", "replay"], ["--replay"],
        ["--duration", "0"], ["--duration", "-1"], ["--duration", "nan"], ["--duration", "inf"],
        ["--duration", "soon"], ["--live"], ["extra"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_flags_end_with_2(
    home: Home, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        home.run(*flags)
    assert caught.value.code == 2
    assert "usage: run_arbhunter.py" in capsys.readouterr().err


def test_help_explains_itself(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        home.run("--help")
    assert caught.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "--mode {paper,live,replay}", "--feed {sandbox,polymarket}", "--replay FILE",
        "--duration SECONDS", "--dry-run", "Exit codes: 0 asked to stop, 75", "docs/live.md",
    ):  # fmt: skip
        assert words in told


def test_paper_on_the_sandbox_is_the_default() -> None:
    arguments = parse_arguments(SPEC, [])
    assert (arguments.mode, arguments.feed, arguments.duration) == (None, None, None)
    loaded = load_settings(SPEC, Paths(root=Path("/nowhere")), {})
    assert SPEC.start(loaded) == Start(mode="paper", feed="sandbox")
    assert parse_arguments(SPEC, ["--replay", "x"]).mode == "replay"


# --- settings -----------------------------------------------------------------------------------


def test_bad_settings_end_with_78_all_problems_at_once(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.env(
        "ARB_TRADE_SIZE=5\nABR_SETS=no\nPAPER_LATENCY_MS=fast\nFLEET_HOME=/x\n"
        "ARB_SETS=no\nARB_SETS=yes\nARB_LADDERS no\n"
    )
    home.environ["ARB_MAX_ORDER_USD"] = "lots"
    assert home.run() == 78
    told = capsys.readouterr().err
    assert told.startswith(f"ArbHunter cannot start: the settings in {home.root / '.env'} need")
    for words in (
        "ARB_TRADE_SIZE is not a setting of the fleet: did you mean ARB_TRADE_SIZE_USD?",
        "ABR_SETS is not a setting of the fleet: did you mean ARB_SETS?",
        "PAPER_LATENCY_MS='fast': expected a whole number",
        "ARB_MAX_ORDER_USD='lots': expected a number",
        "FLEET_HOME in ", "line 6: ARB_SETS is set a second time",
        "line 7 is no setting: write KEY=value",
    ):  # fmt: skip
        assert words in told
    assert told.count("\n- ") == 7
    assert not (home.root / "var").exists()


def test_an_env_file_others_may_read_ends_with_78(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.env("", mode=0o644)
    assert home.run("--dry-run") == 78
    assert f"run `chmod 600 {home.root / '.env'}`" in capsys.readouterr().err


def test_an_env_file_that_is_no_text_ends_with_78(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.env("")
    (home.root / ".env").write_bytes(b"ARB_SETS=\xff\n")
    assert home.run("--dry-run") == 78
    assert "cannot be read as text" in capsys.readouterr().err


def test_the_environment_overrules_the_file_which_is_taken_literally(home: Home) -> None:
    home.env("# a remark\nexport PAPER_CASH_USD=7\nARB_PROFILE='low'\nSANDBOX_SEED=5\n")
    paths = Paths(root=home.root)
    loaded = load_settings(SPEC, paths, {"SANDBOX_SEED": "6"})
    values = {type(item).__name__: item for item in loaded.items}
    assert values["PaperEnv"].cash == 700_000_000
    assert values["ArbEnv"].profile == "low"
    assert values["SandboxEnv"].seed == 6
    home.env("BACKUP_DIR=/${HOME}/x\n")
    pairs = bootstrap._env_pairs(paths.env_file, [])
    assert pairs == {"BACKUP_DIR": "/${HOME}/x"}


def test_the_wallets_key_is_not_even_read_on_paper(home: Home) -> None:
    home.env("POLYMARKET_PRIVATE_KEY=0xdead\n")
    loaded = load_settings(SPEC, Paths(root=home.root), {})
    assert not any(isinstance(item, WalletEnv) for item in loaded.items)
    assert "0xdead" not in repr(loaded)


def test_a_problem_names_no_secret(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.env("POLYMARKET_PRIVATE_KEE=0xdead\nARB_SETS=perhaps\n")
    assert home.run() == 78
    told = capsys.readouterr().err
    assert "POLYMARKET_PRIVATE_KEE is not a setting" in told
    assert "0xdead" not in told


def test_secrets_are_dropped_from_the_environment(home: Home) -> None:
    home.environ |= {
        "POLYMARKET_PRIVATE_KEY": "a", "OPENAI_API_KEY": "b", "GITHUB_TOKEN": "c",
        "MY_SECRET": "d", "Db_Password": "e", "PATH": "/bin",
    }  # fmt: skip
    home.run("--dry-run")
    assert home.environ == {"SANDBOX_PORT": "1", "PATH": "/bin"}


def test_fleet_home_moves_everything(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / ".env").write_text("ARB_SETS=perhaps\n")
    (other / ".env").chmod(0o600)
    home.environ["FLEET_HOME"] = str(other)
    assert home.run("--dry-run") == 78
    with pytest.raises(ConfigError):
        load_settings(SPEC, Paths(root=other), {})


# --- what ends a start --------------------------------------------------------------------------


def test_live_without_a_key_is_refused_with_the_cure(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.run("--mode", "live") == 78
    told = capsys.readouterr().err
    assert "ArbHunter cannot trade live" in told
    assert "set POLYMARKET_PRIVATE_KEY in .env" in told
    assert not (home.root / "var").exists()


def test_settings_say_how_a_bot_starts_and_a_flag_overrules_them(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.env("ARB_MODE=live\nARB_FEED=polymarket\n")
    assert home.run() == 78
    assert "cannot trade live" in capsys.readouterr().err
    assert home.run("--mode", "paper", "--dry-run") == 0
    home.env("ARB_MODE=real\n")
    assert home.run() == 78
    assert "ARB_MODE" in capsys.readouterr().err


def test_live_without_parity_is_refused_and_quotes_no_key(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.env(f"POLYMARKET_PRIVATE_KEY={'01' * 32}\nPOLYMARKET_WALLET=eoa\n")
    assert home.run("--mode", "live") == 78
    told = capsys.readouterr().err
    assert "parity: paper: 0 of 10 days" in told
    assert "`fleet parity` shows what is missing" in told
    assert "01" * 32 not in told
    assert not (home.root / "var").exists()


def test_a_shared_wallet_is_refused_live(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.env(
        f"POLYMARKET_PRIVATE_KEY={'01' * 32}\nPOLYMARKET_WALLET=eoa\nFLEET_SHARED_WALLET=true\n"
    )
    assert home.run("--mode", "live") == 78
    assert "give each bot a wallet of its own" in capsys.readouterr().err


def test_live_leaves_no_secret_in_the_environment(home: Home) -> None:
    home.environ["POLYMARKET_PRIVATE_KEY"] = "01" * 32
    home.environ["POLYMARKET_WALLET"] = "eoa"
    assert home.run("--mode", "live") == 78
    assert "POLYMARKET_PRIVATE_KEY" not in home.environ


def test_dry_run_prints_every_check_and_changes_nothing(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.run("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 8 + ["ArbHunter:"]
    assert lines[-1] == "ArbHunter: all checks passed"
    assert list(home.root.iterdir()) == []


def test_dry_run_prints_what_fails_with_its_cure(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.root / "logs").write_text("")
    with FleetState(Paths(root=home.root).fleet_db) as fleet:
        fleet.halt("drill", "me", NS)
    assert home.run("--dry-run") == 78
    told = capsys.readouterr().out
    assert told.count("FAIL") == 2
    assert "fleet resume" in told
    assert told.splitlines()[-1] == "ArbHunter: 2 of 8 checks failed"


def test_a_twin_ends_with_75(home: Home) -> None:
    with acquire(Paths(root=home.root).lock("arbhunter"), 0):
        assert home.run() == 75
    assert "TWIN" in home.log()
    assert str(os.getpid()) in home.log()


def test_a_kill_latch_ends_with_78(home: Home) -> None:
    with FleetState(Paths(root=home.root).fleet_db) as fleet:
        fleet.halt("drill", "me", NS)
    assert home.run() == 78
    assert 'found="set by me: drill"' in home.log()
    assert "fleet resume" in home.log()


def test_a_log_that_cannot_be_written_ends_with_78(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.root / "logs").write_text("")
    assert home.run() == 78
    assert "run ./setup_logs.sh" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.jsonl.gz", "No such file"),
        ("missing.tape.zst", "No such file"),
        ("notes.txt", "expected a tape"),
        ("", "expected a tape"),
    ],
)
def test_a_replay_of_no_recording_ends_with_2(
    home: Home, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.root / name
    assert home.run("--replay", str(path)) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_a_replay_of_damaged_files_ends_with_2(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {"a.jsonl.gz": b"not gzip", "b.tape.zst": b"no tape", "c.jsonl.gz": b""}
    for name, content in contents.items():
        (home.root / name).write_bytes(content)
        assert home.run("--replay", str(home.root / name)) == 2, name
        assert name in capsys.readouterr().err
    (home.root / "d.jsonl.gz").mkdir()
    assert home.run("--replay", str(home.root / "d.jsonl.gz")) == 2


def test_a_market_that_is_not_there_ends_with_1_and_the_cure(home: Home) -> None:
    assert home.run() == 1
    stopped = [line for line in home.log().splitlines() if "STOPPED" in line]
    assert len(stopped) == 1
    assert "code=1" in stopped[0]
    assert "make start" in stopped[0]
    assert home.log().count("CATALOGUE not loaded yet") == 1
    assert not (home.root / "var" / "journal").exists()


def test_what_a_start_makes_is_for_its_owner_only(home: Home) -> None:
    home.run()
    made = [path for path in home.root.rglob("*") if path.is_file()]
    assert made
    assert [p for p in made if stat.S_IMODE(p.stat().st_mode) & 0o077] == []


# --- a whole run --------------------------------------------------------------------------------


class LocalFeed:
    """A feed of two books that are sent once; it is up as soon as it is told so."""

    def __init__(self, sink: EventSink, *, awaiting: int = 0) -> None:
        self.sink = sink
        self.awaiting = awaiting

    async def start(self) -> None:
        now_ns = time.time_ns()
        self.sink([snapshot(token, at=now_ns) for token in (yes(), no())])

    async def stop(self) -> None:
        """Nothing to close."""

    def health(self) -> FeedHealth:
        return FeedHealth(
            connections=1, connected=1, awaiting=self.awaiting, data_age_ns=0, reconnects=0,
            rotations=0, frames=2, rejected=0,
        )  # fmt: skip


@dataclass
class LocalMarket:
    """Stands for the market source: one market, a local feed, no network."""

    awaiting: int = 0
    closed: bool = False
    clob_url: str = "http://127.0.0.1:1"

    def __call__(self, *_arguments: object) -> "LocalMarket":
        return self

    async def load_universe(self, _ending: object) -> Universe:
        return universe(1)

    def make_feed(self, _universe: Universe, sink: EventSink) -> LocalFeed:
        return LocalFeed(sink, awaiting=self.awaiting)

    def clob(self) -> JsonClient:
        return JsonClient(self.clob_url)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> LocalMarket:
    made = LocalMarket()
    monkeypatch.setattr(bot_module, "MarketSource", made)
    monkeypatch.setattr(memory, "settle", lambda: None)
    return made


def journalled(home: Home) -> list[ev.Event]:
    path = Paths(root=home.root).journal("arbhunter", Mode.PAPER)
    with JournalReader(path) as journal:
        return [entry.event for entry in journal.read()]


def kinds(home: Home) -> list[str]:
    return [event.KIND for event in journalled(home)]


def test_a_run_starts_halted_trades_and_ends_halted(home: Home, market: LocalMarket) -> None:
    assert home.run("--duration", "0.4") == 0
    assert kinds(home) == [
        "RunStarted", "CashDeposited", "Reconciled", "TradingStateChanged",
        "TradingStateChanged", "RunStopped",
    ]  # fmt: skip
    states = [e.state.value for e in journalled(home) if isinstance(e, ev.TradingStateChanged)]
    assert states == ["ACTIVE", "HALTED"]
    log = home.log()
    for words in ("STARTING", "no real money", "READY", 'reason="ran for 0.4 s as asked"'):
        assert words in log
    assert market.closed
    status = json.loads((home.root / "var" / "status" / "arbhunter.json").read_text())
    assert (status["trading"], status["ready"]) == ("HALTED", False)


def test_a_second_run_adopts_nothing_and_deposits_nothing(home: Home, market: LocalMarket) -> None:
    for _ in range(2):
        assert home.run("--duration", "0.2") == 0
    assert kinds(home).count("CashDeposited") == 1
    adopted = [e.adopted for e in journalled(home) if isinstance(e, ev.Reconciled)]
    assert adopted == [1, 0]


def test_a_duration_holds_while_books_are_waited_for(home: Home, market: LocalMarket) -> None:
    market.awaiting = 2
    assert home.run("--duration", "0.3") == 0
    assert "READY" not in home.log()
    assert "TradingStateChanged" not in kinds(home), "it was halted all the time"


def test_a_journal_that_fails_ends_with_1_and_its_reason(
    home: Home, market: LocalMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = JournalStore.write

    def write(self: JournalStore, events: Sequence[object]) -> int:
        if "journal" in str(self.path) and any(isinstance(e, ev.MarketResolved) for e in events):
            raise JournalFull("the disk is full; make room")
        return real(self, events)

    monkeypatch.setattr(JournalStore, "write", write)
    resolved = ev.MarketResolved(market_id=market_id(), payouts=())
    start = LocalFeed.start

    async def start_and_resolve(self: LocalFeed) -> None:
        await start(self)
        self.sink([resolved])

    monkeypatch.setattr(LocalFeed, "start", start_and_resolve)
    assert home.run("--duration", "5") == 1
    stopped = [line for line in home.log().splitlines() if "STOPPED code" in line]
    assert len(stopped) == 1
    assert "the journal cannot be written: the disk is full; make room" in stopped[0]


@pytest.mark.parametrize("awaiting", [0, 2])
def test_a_defect_ends_with_1_and_its_traceback_even_before_the_books_are_there(
    home: Home, market: LocalMarket, monkeypatch: pytest.MonkeyPatch, awaiting: int
) -> None:
    market.awaiting = awaiting
    real = Arbitrage.on_event

    def broken(self: Arbitrage, event: ev.AnyEvent, view: View) -> object:
        if isinstance(event, ev.BookSnapshot):
            raise ZeroDivisionError("a defect of ours")
        return real(self, event, view)

    monkeypatch.setattr(Arbitrage, "on_event", broken)
    assert home.run("--duration", "5") == 1
    assert "ZeroDivisionError: a defect of ours" in home.log()
    assert "code=1" in home.log()


def test_accounts_that_differ_end_with_78(home: Home, market: LocalMarket) -> None:
    assert home.run("--duration", "0.2") == 0
    with JournalStore(
        Paths(root=home.root).journal("arbhunter", Mode.PAPER),
        bot="ArbHunter", mode="paper", run_id="f-1",
    ) as journal:  # fmt: skip
        journal.write([ev.CashDeposited(deposit_id="forged", amount=Cash(1))])
    assert home.run("--duration", "5") == 78
    assert "journal and venue do not agree (cash: journal 5000.00, venue 5000.00)" in home.log()
    assert kinds(home)[-1] in {"ReconciliationFailed", "RunStopped"}


def test_a_damaged_journal_ends_with_78(home: Home, market: LocalMarket) -> None:
    path = Paths(root=home.root).journal("arbhunter", Mode.PAPER)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all" * 500)
    assert home.run("--duration", "5") == 78
    assert "STOPPED code=78" in home.log()


def test_a_latch_that_is_set_while_it_runs_ends_with_78(home: Home, market: LocalMarket) -> None:
    paths = Paths(root=home.root)

    def halt() -> None:
        with FleetState(paths.fleet_db) as fleet:
            fleet.halt("drill", "me", time.time_ns())

    timer = threading.Timer(0.6, halt)
    timer.start()
    assert home.run("--duration", "20") == 78
    timer.join()
    assert "kill latch set by me: drill" in home.log()
    states = [e.state.value for e in journalled(home) if isinstance(e, ev.TradingStateChanged)]
    assert states == ["ACTIVE", "HALTED"]


def test_sigterm_ends_in_order_with_0(home: Home, market: LocalMarket) -> None:
    timer = threading.Timer(0.6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    assert home.run("--duration", "20") == 0
    timer.join()
    assert 'reason="signal SIGTERM"' in home.log()
    assert kinds(home)[-1] == "RunStopped"
