"""EliteMimic as a real process: a leader trades on the sandbox, the chain tells, it copies once."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import MarketOrderArgs

from fleet.domain import events as ev
from fleet.domain.instruments import Side
from fleet.engine.state import fold
from fleet.venues.polymarket.keys import SecretKey
from tests.e2e.fleet_home import FleetHome
from tests.e2e.pm2_home import until
from tests.proof import entries_of, prove_files

pytestmark = pytest.mark.slow

LEADER_KEY = "0a" * 32
LEADER = SecretKey(bytes.fromhex(LEADER_KEY)).address
QUIET = ("--mispricing-every", "0")


class Leader:
    """A wallet that trades on the sandbox with the venue's own client."""

    def __init__(self, home: FleetHome) -> None:
        self.origin = f"http://127.0.0.1:{home.port}"
        body = {"wallet": LEADER, "amount": "50000"}
        assert httpx.post(f"{self.origin}/sandbox/deposit", json=body).status_code == 200
        first = ClobClient(f"{self.origin}/clob", 137, f"0x{LEADER_KEY}", None, 0, LEADER)
        creds = first.create_or_derive_api_key()
        self.client = ClobClient(f"{self.origin}/clob", 137, f"0x{LEADER_KEY}", creds, 0, LEADER)
        self.token, self.other = self._tokens()

    def _tokens(self) -> tuple[str, str]:
        """The two tokens of a market without fees."""
        events = httpx.get(f"{self.origin}/gamma/events/keyset", params={"limit": "100"}).json()
        for event in events["events"]:
            for market in event["markets"]:
                if market["question"].startswith("Will the northern strait"):
                    yes, no = json.loads(market["clobTokenIds"])
                    return yes, no
        raise AssertionError("the sandbox lists another world")

    def buys(self, dollars: float) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.create_and_post_market_order(
            MarketOrderArgs(token_id=self.token, amount=dollars, side="BUY", price=0.9,
                            order_type="FAK")
        )  # fmt: skip
        assert answer["success"], answer
        return answer

    def sells(self, shares: float) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.create_and_post_market_order(
            MarketOrderArgs(token_id=self.token, amount=shares, side="SELL", price=0.05,
                            order_type="FAK")
        )  # fmt: skip
        assert answer["success"], answer
        return answer

    def held(self) -> float:
        wallet = httpx.get(f"{self.origin}/sandbox/wallet/{LEADER}").json()
        return int(wallet["tokens"].get(self.token, 0)) / 1e6


def home_of(tmp_path: Path, **settings: str) -> FleetHome:
    home = FleetHome(tmp_path, slug="elitemimic")
    home.configure(**{"ELITE_WALLETS": LEADER, "ELITE_MAX_SLIPPAGE": "0.05", **settings})
    return home


def copies(events: Sequence[ev.Event]) -> list[ev.DecisionMade]:
    return [
        event for event in events if isinstance(event, ev.DecisionMade)
        and any(plan.idea == "COPY" for plan in event.opened)
    ]  # fmt: skip


def events_of(home: FleetHome) -> list[ev.Event]:
    return [entry.event for entry in entries_of(home.root, "elitemimic")[1]]


def test_a_leaders_purchase_is_copied_once_and_left_as_the_leader_leaves(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    with home.sandbox(*QUIET):
        leader = Leader(home)
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            until(lambda: "LEADERS followed=1" in home.log(), f"it follows\n{home.tail()}", 10)
            leader.buys(60)
            until(lambda: " FILLED BUY" in home.log(), f"it copies\n{home.tail()}", 40)
            bot.kill()
            bot.wait(10)
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            until(lambda: leader.held() > 0, "the leader's shares are mined", 20)
            leader.sells(int(leader.held()))
            until(lambda: " FILLED SELL" in home.log(), f"it follows out\n{home.tail()}", 40)
            bot.send_signal(signal.SIGTERM)
            assert bot.wait(14) == 0
    prove_files(tmp_path, "elitemimic")
    events = events_of(home)
    # After a kill the last blocks are read again; the fold knows a sighting by its id.
    sightings = {e.sighting_id: e for e in events if isinstance(e, ev.LeaderTraded)}
    bought = sum(e.qty for e in sightings.values() if e.side is Side.BUY)
    assert bought > 0
    assert len(copies(events)) == 1, "and copied once, over a kill and a restart"
    ours = sum(e.qty for e in events if isinstance(e, ev.OrderFilled) and e.side is Side.BUY)
    assert ours <= bought // 2, "half of the leader's size at most"
    assert fold(events).orders.open == {}


def test_a_wallet_nobody_follows_is_not_copied(tmp_path: Path) -> None:
    home = home_of(tmp_path, ELITE_WALLETS="")
    with home.sandbox(*QUIET):
        leader = Leader(home)
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            leader.buys(60)
            done = home.fleet("leaders", "watch", LEADER)
            assert done.returncode == 0, done.stdout + done.stderr
            until(lambda: "LEADERS followed=1" in home.log(), f"the list counts\n{home.tail()}", 20)
            leader.buys(40)
            until(lambda: " FILLED BUY" in home.log(), f"it copies\n{home.tail()}", 40)
            bot.send_signal(signal.SIGTERM)
            assert bot.wait(14) == 0
    events = events_of(home)
    first = next(n for n, e in enumerate(events) if isinstance(e, ev.LeadersChosen))
    assert not [e for e in events[:first] if isinstance(e, ev.LeaderTraded)]
    assert len(copies(events)) == 1
