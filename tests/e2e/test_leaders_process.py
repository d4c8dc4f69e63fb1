"""``fleet leaders`` as a person types it, against the running sandbox's own Data API and CLOB."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import MarketOrderArgs

from fleet.journal.leaders import LeaderStore
from tests.e2e.fleet_home import FleetHome
from tests.e2e.pm2_home import until

KEY = "0x" + "6b" * 32
QUIET = ("--mispricing-every", "0", "--speed", "0.01")
STRANGER = "0x" + "77" * 20


def trader(home: FleetHome) -> ClobClient:
    """A wallet with money, logged in by the official client."""
    origin = f"http://127.0.0.1:{home.port}"
    client = ClobClient(f"{origin}/clob", 137, KEY)
    deposit = {"wallet": client.get_address(), "amount": "1000"}
    assert httpx.post(f"{origin}/sandbox/deposit", json=deposit).status_code == 200
    client.set_api_creds(client.create_or_derive_api_key())
    return client


def buy_and_resolve(home: FleetHome, client: ClobClient) -> dict[str, Any]:
    """Buy the first outcome of two liquid markets; one then wins, one loses, one stays open."""
    origin = f"http://127.0.0.1:{home.port}"
    bought: dict[str, Any] = {}
    for market in client.get_sampling_markets()["data"]:
        token = market["tokens"][0]["token_id"]
        if not market["accepting_orders"] or len(client.get_order_book(token)["asks"]) < 3:
            continue
        answer = client.create_and_post_market_order(
            MarketOrderArgs(token_id=token, amount=20, side="BUY", price=0.97, order_type="FAK"),
            order_type="FAK",
        )
        if answer.get("status") == "matched":
            bought[market["condition_id"]] = answer
        if len(bought) == 3:
            break
    assert len(bought) == 3
    wallet = client.get_address()
    until(
        lambda: len(httpx.get(f"{origin}/sandbox/wallet/{wallet}").json()["tokens"]) == 3,
        "the three buys are settled",
    )
    won, lost, _ = bought
    for market, winner in ((won, 0), (lost, 1)):
        body = {"market": market, "winner": winner}
        assert httpx.post(f"{origin}/sandbox/resolve", json=body).status_code == 200
    return bought


@pytest.mark.slow
def test_a_wallet_is_scanned_scored_watched_and_dropped(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, ELITE_WALLETS=STRANGER)
    with home.sandbox(*QUIET):
        client = trader(home)
        wallet = client.get_address()
        bought = buy_and_resolve(home, client)

        scanned = home.fleet("leaders", "scan", "--json")
        assert scanned.returncode == 0, scanned.stderr
        (one,) = json.loads(scanned.stdout)
        assert one["wallet"] == wallet
        assert one["copied"] is False
        score = one["score"]
        assert (score["resolved_markets"], score["won"], score["open_markets"]) == (2, 1, 1)
        assert score["reasons"][0] == "MARKETS_FEW"
        # The ledger's own account of the two markets that ended: shares won, dollars paid, fees.
        origin = f"http://127.0.0.1:{home.port}"
        rows = httpx.get(f"{origin}/data-api/v2/positions", params={"user": wallet}).json()["data"]
        ended = {row["condition_id"]: row for row in rows if row["condition_id"] in [*bought][:2]}
        assert score["pnl"] == pytest.approx(
            sum(row["total_pnl"] for row in ended.values()), abs=1e-4
        )
        assert score["fees"] == pytest.approx(
            sum(row["entry_fees_usdc"] for row in ended.values()), abs=1e-4
        )
        assert score["style"]["maker_share"] == 0.0, "every leg was known, and a taker's"

        watched = home.fleet("leaders", "watch", wallet)
        assert watched.returncode == 0, watched.stderr
        assert "watched on paper, not copied" in watched.stdout
        assert "none of 1 is worth copying; that is a normal answer" in watched.stdout

        measured = home.fleet("leaders", "score", wallet, STRANGER, "--measure", "5")
        assert measured.returncode == 0, measured.stderr
        assert f"{STRANGER}: watched on paper" in measured.stdout

    listed = json.loads(home.fleet("leaders", "list", "--json").stdout)
    assert [(x["wallet"].lower(), x["status"]) for x in listed] == [
        (wallet.lower(), "watched"), (STRANGER, "watched"),
    ]  # fmt: skip
    assert listed[0]["score"]["resolved_markets"] == 2
    with LeaderStore(home.paths.var / "leaders.sqlite", feed="sandbox", read_only=True) as store:
        assert [x.wallet for x in store.followed(1 << 62)] == [wallet]
        assert len(store.rows("SELECT 1 FROM score")) == 4

    unreachable = home.fleet("leaders", "score", wallet)
    assert unreachable.returncode == 1
    assert "is the sandbox running?" in unreachable.stderr
    assert home.fleet("leaders", "drop", wallet.lower()).returncode == 0
    after = home.fleet("leaders", "list")
    assert "1 on the list, 0 copied" in after.stdout
    assert after.stdout.startswith(f"{STRANGER} watched scored 20")


def test_the_list_needs_no_venue_and_tells_wrong_words(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    empty = home.fleet("leaders", "list")
    assert (empty.returncode, empty.stdout) == (0, "0 on the list, 0 copied\n")
    assert not (home.paths.var / "leaders.sqlite").exists(), "looking makes nothing"
    wrong = home.fleet("leaders", "watch", "0x12")
    assert wrong.returncode == 2
    assert "is no address" in wrong.stderr
    mistyped = "0x" + "aB" * 20
    assert "wrong checksum" in home.fleet("leaders", "drop", mistyped).stderr
    home.configure(ELITE_WALLETS="somebody")
    told = home.fleet("leaders", "list")
    assert told.returncode == 78
    assert "ELITE_WALLETS" in told.stderr


@pytest.mark.realdata
def test_a_recording_is_scanned_as_of_a_day(tmp_path: Path, fleet_data: Path) -> None:
    home = FleetHome(tmp_path)
    data = str(fleet_data / "trades")
    done = home.fleet("leaders", "scan", "--data", data, "--as-of", "2026-04-01", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert len(scores) > 20
    assert all(s["score"]["last_ns"] <= s["as_of_ns"] for s in scores)
    listed = home.fleet("leaders", "list")
    assert listed.stdout == "0 on the list, 0 copied\n", "the past rules over nobody"
    early = home.fleet("leaders", "scan", "--data", data, "--as-of", "2001-01-01")
    assert early.returncode == 2
    assert "choose a later --as-of" in early.stderr
    assert home.fleet("leaders", "scan", "--as-of", "2026-04-01").returncode == 2
