"""ArbHunter holds sets while their markets are resolved: told, not told, and while it is down.

Real processes against the sandbox's exchange. At the end nothing is held any more, the cash of the
journal is the exchange's to the last unit, and each redemption was sent once.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.config import Mode
from fleet.domain import events as ev
from fleet.domain.commands import OperationKind
from fleet.domain.instruments import InstrumentId
from fleet.engine.state import State, fold
from fleet.journal.store import JournalReader
from fleet.strategies.legs import HELD
from tests.chaos_checks import at_rest
from tests.e2e.fleet_home import FleetHome
from tests.e2e.live_home import LiveHome
from tests.e2e.pm2_home import until
from tests.proof import prove_files

pytestmark = pytest.mark.slow

HOLDING = {
    "ARB_COMPLEMENT": "false",  # What is left is held to resolution, or converted.
    "ARB_MIN_YEARLY_RETURN": "0.001",
    "ARB_WRITE_OFF_S": "1",
    "FLEET_RESOLUTIONS_S": "2",
}


class Resolver:
    """Reads one journal and resolves what it holds."""

    def __init__(self, home: FleetHome, mode: Mode) -> None:
        self.home, self.mode = home, mode
        self.sandbox = f"http://127.0.0.1:{home.port}"

    def events(self) -> list[ev.Event]:
        with JournalReader(self.home.paths.journal("arbhunter", self.mode, "sandbox")) as reader:
            return [entry.event for entry in reader.read()]

    def state(self) -> State:
        return fold(self.events())

    def held(self) -> list[InstrumentId]:
        """Tokens held whose market has no answer in the journal."""
        state = self.state()
        return [t for t in state.portfolio.positions if t not in state.resolved]

    def market(self, token: InstrumentId) -> dict[str, Any]:
        clob = f"{self.sandbox}/clob"
        found = httpx.get(f"{clob}/markets-by-token/{token}").json()["condition_id"]
        market: dict[str, Any] = httpx.get(f"{clob}/markets/{found}").json()
        return market

    def resolve(self, token: InstrumentId, *, wins: bool) -> None:
        """Answer the question of a token; the other way if its set allows no other."""
        market = self.market(token)
        if market["closed"]:
            return
        place = [one["token_id"] for one in market["tokens"]].index(token)
        said = []
        for winner in (place, 1 - place) if wins else (1 - place, place):
            body = {"market": market["condition_id"], "winner": winner}
            said.append(httpx.post(f"{self.sandbox}/sandbox/resolve", json=body))
            if said[-1].status_code == 200:
                return
        raise AssertionError([one.text for one in said])

    def gone(self, *tokens: InstrumentId) -> None:
        """Wait until none of these is held."""
        until(
            lambda: not set(tokens) & set(self.state().portfolio.positions),
            f"{tokens} are redeemed\n{self.home.tail()}", 60,
        )  # fmt: skip

    def hold(self, count: int) -> list[InstrumentId]:
        """Let it trade until it holds so many tokens, then only reduce until all is quiet."""

        def kept() -> bool:
            bundles = self.state().bundles.image().bundles
            tokens = {leg.instrument_id for one in bundles if one.outcome == HELD
                      for leg in one.plan.legs}  # fmt: skip
            return len(tokens & set(self.held())) >= count

        until(kept, f"it holds\n{self.home.tail()}", 90)
        asked = self.home.fleet("reduce", "ArbHunter")
        assert asked.returncode == 0, asked.stdout + asked.stderr

        def quiet() -> bool:
            state = self.state()
            unsettled = state.portfolio.unsettled_trades()
            return not [*state.orders.open, *state.bundles.pending, *unsettled, *state.bundles.open]

        until(quiet, f"everything settles\n{self.home.tail()}", 60)
        return self.held()

    def redemptions(self) -> list[ev.OperationConfirmed]:
        return [
            e for e in self.events()
            if isinstance(e, ev.OperationConfirmed) and e.kind is OperationKind.REDEEM
        ]  # fmt: skip

    def all_redeemed(self) -> None:
        """Nothing is left; what was paid is realised, and no token was burnt twice."""
        state = self.state()
        assert state.portfolio.positions == {}
        assert state.portfolio.cost == 0
        paid = sum(e.cash for e in self.redemptions())
        assert state.bundles.totals.redeemed == paid > 0
        burnt = Counter(token for e in self.redemptions() for token, _ in e.burn)
        assert set(burnt.values()) == {1}
        assert state.portfolio.cash == state.portfolio.deposited + state.portfolio.realised
        assert state.portfolio.day_realised == state.portfolio.realised


def stop(home: FleetHome, bot: Any) -> None:
    bot.send_signal(signal.SIGTERM)
    assert bot.wait(20) == 0, home.tail()


def test_live_redeems_what_was_resolved_told_untold_and_while_it_was_down(tmp_path: Path) -> None:
    home = LiveHome(tmp_path, **HOLDING)
    resolver = Resolver(home, Mode.LIVE)
    with home.sandbox():
        home.admit()
        with home.live() as bot:
            home.ready(pid=bot.pid, within_s=40)
            held = resolver.hold(4)
            told, untold = held[0], held[-1]
            resolver.resolve(told, wins=True)
            resolver.gone(told)
            home.fault("freeze", where=["market"], seconds=30)
            resolver.resolve(untold, wins=True)
            resolver.gone(untold)
            assert "RESOLVED, the feed did not tell" in home.log()
            home.heal()
            stop(home, bot)
        home.agree()
        left = resolver.held()
        assert left
        for number, token in enumerate(left):
            resolver.resolve(token, wins=number % 2 == 0)
        with home.live() as bot:
            home.ready(pid=bot.pid, within_s=40)
            resolver.gone(*left)
            until(lambda: not resolver.state().bundles.pending, "all is confirmed", 30)
            stop(home, bot)
        at_rest(home.agree())
    resolver.all_redeemed()
    assert [line for line in home.log().splitlines() if "ERROR" in line] == []


def test_paper_redeems_what_was_resolved_while_it_was_down(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, **HOLDING)
    resolver = Resolver(home, Mode.PAPER)
    with home.sandbox():
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            held = resolver.hold(4)
            resolver.resolve(held[0], wins=True)
            resolver.gone(held[0])
            stop(home, bot)
        left = resolver.held()
        for number, token in enumerate(left):
            resolver.resolve(token, wins=number % 2 == 0)
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            resolver.gone(*held)
            stop(home, bot)
    resolver.all_redeemed()
    prove_files(tmp_path)
