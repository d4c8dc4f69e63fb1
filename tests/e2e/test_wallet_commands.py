"""``fleet approve`` and ``fleet cash``: what a person does with a wallet beside the bots."""

import os
from pathlib import Path

import httpx
import pytest

from fleet.config import Mode, Paths
from fleet.domain.events import CashDeposited
from fleet.domain.units import Cash
from fleet.engine.state import fold
from fleet.journal.fleet import FleetState
from fleet.journal.locks import acquire
from fleet.journal.store import JournalReader, JournalStore
from fleet.runtime.live_standing import lease_name
from fleet.venues.polymarket.keys import SecretKey
from tests.builders import NS, c
from tests.e2e.fleet_home import FleetHome

KEY = "5d" * 32
ADDRESS = SecretKey.from_hex(KEY).address


@pytest.mark.slow
def test_missing_approvals_are_listed_given_and_then_all_there(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, POLYMARKET_PRIVATE_KEY=KEY, POLYMARKET_WALLET="eoa")
    with home.sandbox():
        deposit = {"wallet": ADDRESS, "amount": "50", "approve": False}
        origin = f"http://127.0.0.1:{home.port}"
        assert httpx.post(f"{origin}/sandbox/deposit", json=deposit).status_code == 200
        listed = home.fleet("approve")
        assert listed.returncode == 1, listed.stderr
        assert "10 of 10 are missing" in listed.stdout
        with FleetState(Paths(root=home.root).fleet_db) as fleet:
            far = 1 << 62
            lease = fleet.acquire(lease_name("sandbox", ADDRESS), "ArbHunter", 1, far, 1)
            held = home.fleet("approve", "--yes")
            assert held.returncode == 75
            assert "leased to ArbHunter" in held.stderr
            fleet.release(lease)
        given = home.fleet("approve", "--yes")
        assert given.returncode == 0, given.stderr
        assert given.stdout.count("given") == 20, "each as it was given, then the whole list"
        assert KEY not in given.stdout + given.stderr
        again = home.fleet("approve", "--yes")
        assert (again.returncode, again.stdout.count("MISSING")) == (0, 0)


def test_approving_needs_a_plain_key(tmp_path: Path) -> None:
    other = FleetHome(tmp_path, POLYMARKET_PRIVATE_KEY=KEY, POLYMARKET_WALLET="deposit")
    told = other.fleet("approve")
    assert told.returncode == 78
    assert "fleet approve: " in told.stderr


def journal_of(home: FleetHome) -> Path:
    return Paths(root=home.root).journal("arbhunter", Mode.LIVE)


def cash_of(home: FleetHome) -> Cash:
    with JournalReader(journal_of(home)) as reader:
        return fold(entry.event for entry in reader.read()).portfolio.cash


def test_a_deposit_is_recorded_with_its_reason(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    never = home.fleet("cash", "arbhunter", "250", "--reason", "top-up")
    assert never.returncode == 78
    assert "has never traded live here" in never.stderr
    with JournalStore(journal_of(home), bot="ArbHunter", mode="live", run_id="r") as journal:
        journal.write([CashDeposited(ts_event=NS, ts_recv=NS, deposit_id="o", amount=c("100"))])
    done = home.fleet("cash", "ArbHunter", "250.5", "--reason", "top-up from the bank")
    assert done.returncode == 0, done.stderr
    assert "recorded 250.5 dollars; the journal now says 350.5" in done.stdout
    taken = home.fleet("cash", "arbhunter", "--reason", "profit", "--", "-50")
    assert taken.returncode == 0, taken.stderr
    assert cash_of(home) == c("300.5")
    with JournalReader(journal_of(home)) as reader:
        last = [entry.event for entry in reader.read()][-1]
    assert isinstance(last, CashDeposited)
    assert last.deposit_id.endswith(": profit")


def test_nothing_is_recorded_beside_a_running_bot_or_of_no_amount(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    with JournalStore(journal_of(home), bot="ArbHunter", mode="live", run_id="r") as journal:
        journal.write([CashDeposited(ts_event=NS, ts_recv=NS, deposit_id="o", amount=c("100"))])
    with acquire(Paths(root=home.root).lock("arbhunter")):
        told = home.fleet("cash", "arbhunter", "5", "--reason", "x")
    assert told.returncode == 75
    assert f"process {os.getpid()}" in told.stderr or "pm2 stop ArbHunter" in told.stderr
    assert home.fleet("cash", "arbhunter", "0", "--reason", "x").returncode == 2
    assert home.fleet("cash", "arbhunter", "five", "--reason", "x").returncode == 2
    assert cash_of(home) == c("100")
