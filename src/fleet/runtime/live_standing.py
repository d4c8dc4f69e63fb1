"""How a bot stands before a live start: its parity, its stage, its hosts, its wallet's lease.

Reads files and decides nothing by itself: ``parity_verdict`` judges, ``staging`` draws the
conclusion. A parity file that is not there yet holds no rows; one that cannot be read raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fleet.clock import NS_PER_DAY
from fleet.config import Mode, Paths
from fleet.journal.fleet import FleetState, Lease
from fleet.runtime.account_checks import AllowanceReads
from fleet.runtime.findings import Finding, failed, passed
from fleet.runtime.gate_store import GateStore, StageRecord
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.parity_store import ParityStore, Shadow, utc_day
from fleet.runtime.parity_verdict import (
    ParityVerdict,
    Promise,
    judge,
    live_thresholds,
    paper_thresholds,
)
from fleet.runtime.settings import PolymarketEnv, SandboxEnv
from fleet.runtime.staging import Decision, Stage, next_stage
from fleet.venues.polymarket.chain_account import ApprovalState, ChainAccount
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.hosts import Hosts, sandbox_hosts
from fleet.venues.port import TransportFailed, VenueError


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStanding:
    """Parity of paper and of live, and the stage they lead to."""

    paper: ParityVerdict
    live: ParityVerdict
    current: StageRecord | None
    decision: Decision

    def finding(self) -> Finding:
        """The standing as one of the checks."""
        if self.decision.stage is Stage.NONE:
            cure = (
                "let the bot trade on paper on this market (`make start`); `fleet parity` shows"
                " what is missing"
            )
            return failed("parity", self.decision.reason, cure)
        return passed(
            "parity", f"{int(self.decision.stage)} % of the limits: {self.decision.reason}"
        )


def standing(paths: Paths, bot: str, feed: str, env: LiveEnv, *, now_ns: int) -> LiveStanding:
    """How ``bot`` (its slug) stands on ``feed``. Raises ``JournalError``."""
    gate = paths.gate(bot, feed)
    current = None
    if gate.exists():
        with GateStore(gate, bot=bot, feed=feed, read_only=True) as store:
            current = store.stage()
    # Below 10 % only what was shown since then counts; live days are those of the stage in force.
    anew_ns = current.ts if current is not None and current.percent == Stage.NONE else 0
    stage_ns = current.ts if current is not None else now_ns
    today = utc_day(now_ns)
    paper = judge(
        shadows(paths, bot, Mode.PAPER, feed, since_ns=anew_ns),
        Promise.FILLS, paper_thresholds(env), today=today,
    )  # fmt: skip
    live = judge(
        shadows(paths, bot, Mode.LIVE, feed, since_ns=stage_ns),
        Promise.QUOTES, live_thresholds(env), today=today,
    )  # fmt: skip
    decision = next_stage(current, paper=paper, live=live, stage_days=env.stage_days)
    return LiveStanding(paper=paper, live=live, current=current, decision=decision)


def shadows(paths: Paths, bot: str, mode: Mode, feed: str, *, since_ns: int = 0) -> list[Shadow]:
    """The rows of one session kind sent at or after ``since_ns``. Raises ``JournalError``."""
    file = paths.parity(bot, mode, feed)
    if not file.exists():
        return []
    day_before = utc_day(since_ns - NS_PER_DAY) if since_ns else ""
    with ParityStore(file, bot=bot, mode=mode.value, feed=feed, read_only=True) as store:
        return [row for row in store.read(after_day=day_before) if row.sent_ns >= since_ns]


def record_decision(paths: Paths, bot: str, feed: str, decision: Decision, *, now_ns: int) -> None:
    """Put the stage of a live start in force, if it changed. Raises ``JournalError``."""
    if not decision.changed:
        return
    with GateStore(paths.gate(bot, feed), bot=bot, feed=feed) as store:
        store.record_stage(
            StageRecord(
                ts=now_ns, day=utc_day(now_ns), percent=int(decision.stage), reason=decision.reason
            )
        )


def live_hosts(feed: str, venue: PolymarketEnv, sandbox: SandboxEnv) -> Hosts:
    """The addresses of ``sandbox`` or ``polymarket``. Raises ``ValueError`` for a plain one."""
    if feed == "sandbox":
        return sandbox_hosts(sandbox.port)
    return Hosts(
        clob_url=venue.clob_url,
        gamma_url=venue.gamma_url,
        market_ws_url=venue.ws_url,
        user_ws_url=venue.user_ws_url,
        data_url=venue.data_url,
        rpc_url=venue.rpc_url,
        geoblock_url=venue.geoblock_url,
    )


def lease_name(feed: str, funder: str) -> str:
    """What the lease of a real wallet is called: its address, so that two bots on it collide."""
    return f"{feed}:{funder.lower()}"


def newest_lease(paths: Paths, name: str) -> Lease | None:
    """The newest lease of a wallet, whoever holds it. Raises ``JournalError``."""
    if not paths.fleet_db.exists():
        return None
    with FleetState(paths.fleet_db) as fleet:
        return next((lease for lease in fleet.leases() if lease.wallet == name), None)


class NoChain:
    """A chain that could not be opened: every read says why."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        self._reason = reason

    async def approvals(self, owner: str) -> Sequence[ApprovalState]:
        """Raise ``TransportFailed``."""
        raise TransportFailed(f"approvals of {owner}: {self._reason}", sent=False)


@asynccontextmanager
async def chain_reads(hosts: Hosts) -> AsyncIterator[AllowanceReads]:
    """Approvals by the chain; if its node does not answer, every read will say so."""
    node = ChainNode(hosts.rpc_url, chain_id=hosts.chain_id)
    try:
        await node.open()
    except VenueError as error:
        yield NoChain(str(error))
        return
    try:
        yield ChainAccount(node)
    finally:
        await node.close()
