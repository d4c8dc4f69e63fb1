"""`fleet doctor` and `fleet parity`, whole, against the sandbox itself on a thread of its own."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.cli.main import COMMANDS, main
from fleet.clock import NS_PER_DAY, NS_PER_SECOND, LiveClock
from fleet.config import Mode, Paths
from fleet.domain.commands import BundleId, ClientOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.journal.fleet import FleetState
from fleet.runtime.findings import Result
from fleet.runtime.gate_store import GateStore
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.live_standing import (
    lease_name,
    live_hosts,
    newest_lease,
    record_decision,
    shadows,
    standing,
)
from fleet.runtime.parity_store import ParityStore, Shadow, utc_day
from fleet.runtime.parity_verdict import Standing
from fleet.runtime.settings import PolymarketEnv, SandboxEnv
from fleet.runtime.staging import Decision, Stage
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.trading.floor import FloorSettings
from tests.account_venue import KEY, KEY_HEX

ENV = LiveEnv()


@contextmanager
def sandbox(*, geoblocked: bool = False) -> Iterator[int]:
    """The port of a sandbox that runs until the block ends; its files are its thread's own."""
    ports: queue.Queue[int] = queue.Queue()
    ending = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def live() -> None:
        floor = FloorSettings(geoblocked=geoblocked)
        server = SandboxServer(SandboxSettings(port=0, floor=floor), LiveClock())
        ports.put(await server.start())
        await ending.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()), daemon=True)
    thread.start()
    try:
        yield ports.get(timeout=60)
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(60)
        assert not thread.is_alive()
        loop.close()


def shadow(number: int, at_ns: int, *, filled: int = 10, quoted: int = 10) -> Shadow:
    return Shadow(
        order_id=ClientOrderId(f"o{number}"), bundle_id=BundleId(f"b{number}"), sent_ns=at_ns,
        latency_ns=1, lag_ns=1, instrument_id=InstrumentId("7"), side=Side.BUY,
        price=Price(SCALE // 2), tick=Price(SCALE // 100), qty=Qty(10 * SCALE),
        fill_qty=Qty(filled * SCALE), fill_cash=Cash(filled * SCALE // 2), ended=True,
        quote_qty=Qty(quoted * SCALE), quote_cash=Cash(quoted * SCALE // 2),
        firm_qty=Qty(quoted * SCALE),
    )  # fmt: skip


def write_days(
    paths: Paths, mode: Mode, count: int, *, orders: int = 20, newest_ns: int, **fields: int
) -> None:
    """``count`` days of orders that end at the day of ``newest_ns``."""
    rows = [
        shadow(day * 1_000 + n, newest_ns - day * NS_PER_DAY + n, **fields)
        for day in range(count)
        for n in range(orders)
    ]
    with ParityStore(
        paths.parity("arbhunter", mode), bot="arbhunter", mode=mode.value, feed="sandbox"
    ) as store:
        store.write(rows)


class Home:
    """A fleet's home with settings, and what the commands said in it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.paths = Paths(root=root)
        self.capsys = capsys
        self.now_ns = LiveClock().now_ns()

    def env(self, **settings: str) -> None:
        lines = {
            "POLYMARKET_PRIVATE_KEY": KEY_HEX,
            "POLYMARKET_WALLET": "eoa",
            "LIVE_CLOCK_SKEW_MAX_MS": "20000",
            "FLEET_DISK_FREE_MIN_MB": "1",
            **settings,
        }
        file = self.paths.env_file
        file.write_text("".join(f"{key}={value}\n" for key, value in lines.items() if value))
        file.chmod(0o600)

    def allow(self) -> None:
        write_days(self.paths, Mode.PAPER, ENV.parity_days, newest_ns=self.now_ns)

    def run(self, *words: str) -> int:
        code = main(words)
        said = self.capsys.readouterr()
        self.out, self.err = said.out, said.err
        assert KEY_HEX[2:] not in self.out + self.err
        return code

    def doctor(self, *words: str) -> tuple[int, dict[str, Any]]:
        code = self.run("doctor", "--json", *words)
        answer = json.loads(self.out)
        assert answer["exit_code"] == code
        return code, answer

    def bad(self, *words: str) -> dict[str, str]:
        """Check -> result of those that are not good."""
        checks = self.doctor(*words)[1]["checks"]
        return {check["name"]: check["result"] for check in checks if not check["ok"]}


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Home:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    return Home(tmp_path, capsys)


def fund(port: int, amount: str = "4500", **fields: object) -> None:
    body = {"wallet": KEY.address, "amount": amount, **fields}
    answer = httpx.post(f"http://127.0.0.1:{port}/sandbox/deposit", json=body, trust_env=False)
    assert answer.status_code == 200, answer.text


def test_the_commands_are_listed() -> None:
    assert {"doctor", "parity"} <= COMMANDS.keys()


def test_a_bot_that_is_ready_to_go_live_on_the_sandbox(home: Home) -> None:
    with sandbox() as port:
        home.env(SANDBOX_PORT=str(port))
        home.allow()
        # Step by step, as an operator would: each run names what is missing.
        assert home.bad() == {
            "credentials": "failed", "approvals": "unknown", "balance": "unknown"
        }  # fmt: skip
        assert home.run("doctor", "--json", "--create-api-key") == 78
        assert "made API key" in home.err
        assert home.bad() == {"approvals": "failed", "balance": "failed"}
        fund(port)
        code, answer = home.doctor()
    assert code == 0 and answer["result"] == "ok", answer
    assert (answer["bot"], answer["feed"]) == ("ArbHunter", "sandbox")
    assert answer["checked_at"].endswith("Z")
    assert set(answer) == {"bot", "feed", "checked_at", "result", "exit_code", "checks"}
    for check in answer["checks"]:
        assert set(check) == {"name", "found", "ok", "result", "cure"}
        assert check["result"] in {one.value for one in Result}
    found = {check["name"]: check["found"] for check in answer["checks"]}
    assert found["balance"] == "$4500.00"
    assert found["parity"] == "10 % of the limits: first live start, in parity"
    assert len(found) == 21


def test_what_cannot_be_found_out_ends_with_1(home: Home) -> None:
    home.env(SANDBOX_PORT="1")
    home.allow()
    code, answer = home.doctor("--bot", "arbhunter")
    assert (code, answer["result"]) == (1, "unknown")
    assert home.run("doctor") == 1
    assert "UNKNOWN network" in home.out and "look again" in home.out
    assert home.run("doctor", "--create-api-key") == 1
    assert "no API key was made" in home.err


def test_a_blocked_place_ends_with_78(home: Home) -> None:
    with sandbox(geoblocked=True) as port:
        home.env(SANDBOX_PORT=str(port))
        home.allow()
        assert home.bad()["geoblock"] == "failed"
        assert home.run("doctor") == 78
    assert "FAIL    geoblock" in home.out and "did not pass" in home.out


def test_without_parity_no_live_start(home: Home) -> None:
    home.env(SANDBOX_PORT="1")
    code, answer = home.doctor()
    check = next(check for check in answer["checks"] if check["name"] == "parity")
    assert code == 78 and check["result"] == "failed" and "fleet parity" in check["cure"]


def test_settings_that_cannot_be_read_are_findings(home: Home) -> None:
    home.env(LIVE_PARITY_DAYS="many", ARB_PROFILE="wild")
    code, answer = home.doctor()
    assert code == 78 and [check["name"] for check in answer["checks"]] == ["settings"] * 2
    home.env(POLYMARKET_CLOB_URL="http://clob.example.com")
    code, answer = home.doctor("--feed", "polymarket")
    assert code == 78 and "in the clear" in answer["checks"][0]["found"]


def test_a_lease_somebody_holds_and_limits_too_small_to_trade(home: Home) -> None:
    home.env(SANDBOX_PORT="1", ARB_MAX_ORDER_USD="40", ARB_TRADE_SIZE_USD="40")
    home.allow()
    with FleetState(home.paths.fleet_db) as fleet:
        name = lease_name("sandbox", KEY.address)
        fleet.acquire(name, "PolyAI", 4711, 600 * NS_PER_SECOND, home.now_ns)
    bad = home.bad()
    assert bad["wallet lease"] == "failed" and bad["stage"] == "failed"
    assert newest_lease(home.paths, "sandbox:0x0") is None


def test_a_damaged_parity_file_is_a_finding(home: Home) -> None:
    home.env(SANDBOX_PORT="1")
    file = home.paths.parity("arbhunter", Mode.PAPER)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database" * 1_000)
    assert home.bad()["parity"] == "failed"
    assert home.run("parity") == 78 and str(file) in home.err


def test_an_unknown_bot_is_told() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--bot", "nobody"])
    assert caught.value.code == 2


# --- fleet parity ---------------------------------------------------------------------------------


def test_parity_of_nothing_is_not_yet(home: Home) -> None:
    assert home.run("parity") == 1
    assert "ArbHunter on sandbox: next live start at 0 %" in home.out
    assert "paper: NOT YET" in home.out and "live:" not in home.out


def test_parity_that_allows(home: Home) -> None:
    home.allow()
    assert home.run("parity", "--json") == 0
    answer = json.loads(home.out)
    assert set(answer) == {"bot", "feed", "today", "stage", "paper", "live"}
    assert answer["stage"]["percent"] == 10 and answer["paper"]["standing"] == "ALLOW"
    assert set(answer["paper"]) == {
        "standing", "reasons", "days", "kept_bounds", "slippage_bounds_bps", "figures", "by_day",
    }  # fmt: skip
    assert answer["paper"]["figures"]["ideas_kept"] == 200
    assert len(answer["paper"]["by_day"]) == ENV.parity_days
    assert answer["live"]["standing"] == "NOT YET"
    # Another market place has its own.
    assert home.run("parity", "--feed", "polymarket") == 1


def test_parity_that_refuses(home: Home) -> None:
    write_days(home.paths, Mode.PAPER, 1, newest_ns=home.now_ns, quoted=0)
    assert home.run("parity") == 78
    assert "paper: REFUSE" in home.out and "0 of 20 ideas kept" in home.out
    assert home.run("parity", "--json") == 78


# --- standing -------------------------------------------------------------------------------------


def stands(paths: Paths, now_ns: int) -> tuple[Stage, Standing, Standing]:
    found = standing(paths, "arbhunter", "sandbox", ENV, now_ns=now_ns)
    return found.decision.stage, found.paper.standing, found.live.standing


def decide(paths: Paths, now_ns: int) -> Stage:
    """A live start: the decision is put in force."""
    found = standing(paths, "arbhunter", "sandbox", ENV, now_ns=now_ns)
    record_decision(paths, "arbhunter", "sandbox", found.decision, now_ns=now_ns)
    return found.decision.stage


def test_stages_over_weeks(home: Home) -> None:
    """Up by live days in parity, down when they are not, to nothing, and up again by paper."""
    paths = home.paths
    day0 = home.now_ns
    assert decide(paths, day0) is Stage.NONE
    assert not paths.gate("arbhunter").exists()
    write_days(paths, Mode.PAPER, ENV.parity_days, newest_ns=day0)
    assert decide(paths, day0) is Stage.TENTH
    # Live rows from before a stage count for nothing; the same day after it does.
    day5 = day0 + (ENV.stage_days - 1) * NS_PER_DAY + NS_PER_SECOND
    write_days(paths, Mode.LIVE, ENV.stage_days - 1, newest_ns=day5)
    assert decide(paths, day5) is Stage.TENTH
    with ParityStore(
        paths.parity("arbhunter", Mode.LIVE), bot="arbhunter", mode="live", feed="sandbox"
    ) as store:
        store.write([shadow(50_000 + n, day0 + 1 + n) for n in range(20)])
    assert decide(paths, day5) is Stage.HALF
    assert stands(paths, day5 + 1)[0] is Stage.HALF
    # At 50 % the fills stay away: one stage down at each start, to nothing.
    with ParityStore(
        paths.parity("arbhunter", Mode.LIVE), bot="arbhunter", mode="live", feed="sandbox"
    ) as store:
        store.write([shadow(60_000 + n, day5 + 10 + n, filled=0) for n in range(20)])
        assert decide(paths, day5 + 100) is Stage.TENTH
        store.write([shadow(70_000 + n, day5 + 110 + n, filled=0) for n in range(20)])
        assert decide(paths, day5 + 200) is Stage.NONE
    assert stands(paths, day5 + 300)[:2] == (Stage.NONE, Standing.NOT_YET)
    # Paper from before the refusal is spent; new days lead back.
    day20 = day5 + (ENV.parity_days + 2) * NS_PER_DAY
    with ParityStore(
        paths.parity("arbhunter", Mode.PAPER), bot="arbhunter", mode="paper", feed="sandbox"
    ) as store:
        store.write(
            [
                shadow(80_000 + day * 1_000 + n, day20 - day * NS_PER_DAY + n)
                for day in range(ENV.parity_days)
                for n in range(20)
            ]
        )
    assert decide(paths, day20 + 100) is Stage.TENTH
    with GateStore(paths.gate("arbhunter"), bot="arbhunter", feed="sandbox") as gate:
        assert [record.percent for record in gate.stages()] == [10, 50, 10, 0, 10]
        assert all(record.reason for record in gate.stages())


def test_an_unchanged_stage_is_not_written(home: Home) -> None:
    decision = Decision(stage=Stage.TENTH, reason="as before", changed=False)
    record_decision(home.paths, "arbhunter", "sandbox", decision, now_ns=home.now_ns)
    assert not home.paths.gate("arbhunter").exists()
    assert shadows(home.paths, "arbhunter", Mode.LIVE, "sandbox") == []


def test_the_hosts_are_the_sandboxs_or_the_settings() -> None:
    local = live_hosts("sandbox", PolymarketEnv(), SandboxEnv(port=4321))
    assert local.local and ":4321" in local.geoblock_url
    real = live_hosts("polymarket", PolymarketEnv(clob_url="https://clob.test"), SandboxEnv())
    assert real.clob_url == "https://clob.test" and not real.local
    assert real.geoblock_url == "https://polymarket.com/api/geoblock"


def test_days_end_at_midnight_utc() -> None:
    assert utc_day(NS_PER_DAY - 1) == "1970-01-01" and utc_day(NS_PER_DAY) == "1970-01-02"
