"""The rest of the fleet in a chaos run: who else holds limits, leases and the latch, and the proof.

``Neighbour`` is a second bot as far as the fleet knows it: its allowances, its use of them, its
deaths. ``Rival`` is a second engine that wants the wallet: it waits for the lease like any bot and
keeps it for a while. ``FleetWatch`` reads ``fleet.db`` with plain SQL and says at each entry and
each request whether its writer may: nobody signs or sends but the holder of the newest lease, nobody
sends while the latch is set, one process at a time has the journal open, and all bots together stay
under every cap.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain.instruments import Universe
from fleet.domain.units import SCALE
from fleet.journal.allowances import AllowanceBoard, Scope
from fleet.journal.fleet import FleetState, Lease, LeaseHeld
from fleet.runtime.limits import FLEET, LIMITS_S, MARKET, SET
from fleet.runtime.parts import LATCH_S, LEASE_NS, RENEW_S
from tests.chaos_bot import BOT, Conditions
from tests.chaos_loop import VirtualLoop
from tests.chaos_mortal import Mortal
from tests.proof import Disproved

PLACE = "live:sandbox"
OTHER = "PolyAI"
LATCH_SEEN_S = LATCH_S + 0.1
"""A bot looks twice a second."""


class Neighbour:
    """A second bot that trades on a wallet of its own, within what it is granted."""

    def __init__(
        self, path: Path, universe: Universe, conditions: Conditions, clock: Clock, seed: int
    ) -> None:
        self._path, self._clock = path, clock
        self._draw = random.Random(f"neighbour:{seed}")
        some = self._draw.sample(sorted(universe.markets), min(4, len(universe.markets)))
        sets = sorted(group.id for group in universe.sets)[:2]
        self._caps = {
            FLEET: conditions.fleet * SCALE,
            **{MARKET + market: conditions.fleet_market * SCALE for market in some},
            **{SET + name: conditions.fleet_set * SCALE for name in sets},
        }
        self.used = dict.fromkeys(self._caps, 0)
        self.deaths = 0

    async def run(self) -> None:
        """Trade, die, stop in order, come back."""
        while True:
            with FleetState(self._path) as fleet:
                board = AllowanceBoard(fleet, place=PLACE, bot=OTHER, wallet="sandbox:other")
                for _ in range(self._draw.randint(5, 20)):
                    granted = board.refresh(self._scopes(), self._clock.now_ns())
                    await asyncio.sleep(LIMITS_S * self._draw.uniform(0.0, 1.0))
                    self._spend(granted)
                    await asyncio.sleep(LIMITS_S * self._draw.uniform(0.1, 0.5))
                if self._draw.random() < 0.5:
                    board.give_back(self.used)
                else:
                    self.deaths += 1
            await asyncio.sleep(self._draw.uniform(0.5, 5))

    def _scopes(self) -> dict[str, Scope]:
        return {
            name: Scope(cap=cap, used=self.used[name], want=cap) for name, cap in self._caps.items()
        }

    def _spend(self, granted: Mapping[str, int]) -> None:
        """Up to all that is granted, in a breath; or give up some of what is held."""
        for name in self.used:
            least = 0 if self._draw.random() < 0.5 else self.used[name]
            most = max(least, granted.get(name, 0))
            self.used[name] = min(most, least + int((most - least) * self._draw.random() * 1.3))


class Rival:
    """Another engine on the wallet."""

    def __init__(self, path: Path, wallet: str, clock: Clock) -> None:
        self._path, self._wallet, self._clock = path, wallet, clock
        self.held = False

    async def run(self, keep_s: float) -> None:
        """Take the lease as soon as it can be had, keep it for a while, give it back."""
        with FleetState(self._path) as fleet:
            lease = await self._acquired(fleet)
            self.held = True
            for _ in range(int(keep_s // RENEW_S) + 1):
                lease = fleet.renew(lease, LEASE_NS, self._clock.now_ns())
                await asyncio.sleep(min(keep_s, RENEW_S))
            fleet.release(lease)

    async def _acquired(self, fleet: FleetState) -> Lease:
        while True:
            try:
                return fleet.acquire(self._wallet, "Rival", 1, LEASE_NS, self._clock.now_ns())
            except LeaseHeld:
                await asyncio.sleep(0.5)


class FleetWatch:
    """What ``fleet.db`` allows, read by SQL alone. Every method raises ``Disproved``."""

    def __init__(
        self, path: Path, wallet: str, universe: Universe, conditions: Conditions,
        neighbour: Neighbour | None, loop: VirtualLoop, clock: Clock,
    ) -> None:  # fmt: skip
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        self._wallet, self._universe = wallet, universe
        self._neighbour, self._loop, self._clock = neighbour, loop, clock
        self._caps = {
            FLEET: conditions.fleet, MARKET: conditions.fleet_market, SET: conditions.fleet_set,
        }  # fmt: skip
        self._set_of = {m: group.id for group in universe.sets for m in group.markets}
        self._writer: Mortal | None = None
        self.latched_s: float | None = None
        """Since when the latch is set, by whoever sets it."""
        self.fullest = 0.0
        """How much of a scope's cap all bots together ever used, as a share."""

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # --- one engine ---------------------------------------------------------------------------

    def opened(self, life: Mortal) -> None:
        """A process opens the journal to write it."""
        writer = self._writer
        if writer is not None and writer is not life and not writer.dead:
            raise Disproved(f"{life.name} opens the journal while {writer.name} has it open")
        self._writer = life

    def may_act(self, life: Mortal, doing: str) -> None:
        """A process signs or sends."""
        row = self._db.execute(
            "SELECT token, owner, expires_ns FROM lease WHERE wallet = ?", (self._wallet,)
        ).fetchone()
        if row is None or life.lease is None:
            raise Disproved(f"{life.name} {doing} without a lease")
        token, owner, expires_ns = row
        if token != life.lease.token:
            raise Disproved(
                f"{life.name} {doing} under lease {life.lease.token}, {owner} holds {token}"
            )
        now_ns = self._clock.now_ns()
        if expires_ns <= now_ns:
            late_s = (now_ns - expires_ns) / NS_PER_SECOND
            raise Disproved(f"{life.name} {doing} {late_s:.1f} s after its lease ran out")

    def may_send(self, life: Mortal) -> None:
        """A process sends an order: the latch is clear, or it cannot have seen it yet."""
        self.may_act(life, "sends an order")
        if self.latched_s is None:
            return
        awake_s = self._loop.time() - max(self.latched_s, life.stopped_s)
        if awake_s > LATCH_SEEN_S:
            raise Disproved(
                f"{life.name} sends an order {awake_s:.1f} s after the fleet was halted"
            )

    # --- the limits over all bots -------------------------------------------------------------

    def within_caps(self, stake: Mapping[str, int], loose: int) -> None:
        """``stake`` is what our bot has at stake by market; ``loose`` what the caps may be passed
        by, for what the venue did by itself.
        """
        ours = self._by_scope(stake)
        theirs = self._neighbour.used if self._neighbour is not None else {}
        for scope, amount in ours.items():
            cap = self._cap(scope)
            together = amount + theirs.get(scope, 0)
            self.fullest = max(self.fullest, together / cap)
            if together > cap + loose:
                raise Disproved(f"{together} of all bots in {scope}, above its cap of {cap}")

    def grants(self, stake: Mapping[str, int], loose: int) -> None:
        """No scope has more granted than its cap, and our bot has no more than it was granted."""
        rows = self._db.execute(
            "SELECT scope, sum(granted), sum(granted * (bot = ?)) FROM allowance WHERE place = ?"
            " GROUP BY scope", (BOT, PLACE),
        ).fetchall()  # fmt: skip
        granted = {scope: ours for scope, _, ours in rows}
        for scope, total, _ in rows:
            if self._cap(scope) and total > self._cap(scope):
                raise Disproved(f"{total} granted in {scope}, above its cap of {self._cap(scope)}")
        for scope, amount in self._by_scope(stake).items():
            if amount > granted.get(scope, 0) + loose:
                raise Disproved(f"{amount} at stake in {scope}, granted {granted.get(scope, 0)}")

    def _cap(self, scope: str) -> int:
        """The cap of a scope at 1e-8; 0 for one that no run sets (wallet, turnover)."""
        for kind in (MARKET, SET, FLEET):
            if scope.startswith(kind):
                return self._caps[kind] * SCALE
        return 0

    def _by_scope(self, stake: Mapping[str, int]) -> dict[str, int]:
        found = {FLEET: sum(stake.values())}  # Over all wallets of the place: ours and theirs.
        for market, amount in stake.items():
            if market not in self._universe.markets:
                continue
            found[MARKET + market] = amount
            name = self._set_of.get(self._universe.markets[market].id)  # type: ignore[index]
            if name is not None:
                found[SET + name] = found.get(SET + name, 0) + amount
        return found
