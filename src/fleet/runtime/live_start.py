"""Before a live session: who may trade, where, how much, and that a person said so today.

All of it is settled before anything is opened, so that a refusal costs nothing: the wallet's
settings and key, the hosts, the stage that parity allows, and the dated phrase. What has to be
asked of the venue comes in ``live_session``.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from functools import partial
from typing import Final

from fleet.clock import LiveClock
from fleet.config import ConfigError, Mode, Paths
from fleet.journal.database import JournalError
from fleet.runtime.account_checks import AllowanceReads
from fleet.runtime.findings import Finding, exit_code, failed
from fleet.runtime.live_checks import LivePlan, live_checks
from fleet.runtime.live_gate import require_phrase, terminal
from fleet.runtime.live_session import LiveAccess, live_session
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.live_standing import chain_reads, lease_name, live_hosts, newest_lease, standing
from fleet.runtime.safety_settings import SafetyEnv
from fleet.runtime.session import SessionRefused, Setup
from fleet.runtime.settings import FleetSettings, PolymarketEnv, SandboxEnv, WalletEnv
from fleet.runtime.spec import EXIT_STAY_DOWN, BotSpec, Loaded
from fleet.runtime.staging import Stage, stage_problem, staged
from fleet.runtime.wallet import funder_of, read_key
from fleet.venues.polymarket.hosts import Hosts

REAL: Final = "REAL MONEY on Polymarket"
NOT_SHARED: Final = (
    "FLEET_SHARED_WALLET cannot be used live yet: two journals cannot share one wallet's cash;"
    " set it to false and give each bot a wallet of its own"
)
SANDBOX: Final = "live orders at the local sandbox: the real path, no real money"


def live_setup(
    spec: BotSpec,
    loaded: Loaded,
    paths: Paths,
    wallet: WalletEnv,
    *,
    feed: str,
    duration_s: float | None = None,
) -> tuple[Setup, Loaded]:
    """What a live start is, and the settings at its stage.

    Raises ``ConfigError``, ``PhraseRefused``, ``SessionRefused`` (parity does not allow it) or
    ``JournalError``.
    """
    clock = LiveClock()
    hosts = _hosts(feed, loaded)
    key = read_key(wallet)
    funder = funder_of(wallet, key.address)
    if funder is None:
        raise ConfigError(
            [f"POLYMARKET_FUNDER: a {wallet.wallet} wallet needs the address that holds the funds"]
        )
    if loaded.of(SafetyEnv).shared_wallet:
        raise ConfigError([NOT_SHARED])
    env = loaded.of(LiveEnv)
    stands = standing(paths, spec.slug, feed, env, now_ns=clock.now_ns())
    stage = stands.decision.stage
    if stage is Stage.NONE:
        finding = stands.finding()
        raise SessionRefused(EXIT_STAY_DOWN, f"parity: {finding.found} -> {finding.cure}")
    problem = stage_problem(spec.limits(loaded), stage)
    if problem:
        raise ConfigError([problem])
    require_phrase(spec.name, clock, given=env.confirm, ask=terminal())
    limits = staged(spec.limits(loaded), stage)
    access = LiveAccess(key=key, wallet=wallet, funder=funder, hosts=hosts, standing=stands)
    setup = Setup(
        mode=Mode.LIVE,
        feed=feed,
        wallet=lease_name(feed, funder),
        note=f"{SANDBOX if hosts.local else REAL}, at {int(stage)} % of the limits",
        limits=limits,
        open_session=partial(live_session, access=access),
        duration_s=duration_s,
    )
    return setup, replace(loaded, stage_percent=int(stage))


async def checked(
    spec: BotSpec, feed: str, paths: Paths, loaded: Loaded, wallet: WalletEnv
) -> list[Finding]:
    """Every check of a live start of ``spec`` on ``feed``, starting nothing.

    Raises ``ConfigError`` for addresses that cannot be used.
    """
    hosts = _hosts(feed, loaded)
    async with chain_reads(hosts) as chain:
        plan = plan_of(spec, feed, paths, loaded, wallet, hosts=hosts, allowances=chain)
        return await live_checks(plan)


def plan_of(
    spec: BotSpec,
    feed: str,
    paths: Paths,
    loaded: Loaded,
    wallet: WalletEnv,
    *,
    hosts: Hosts,
    allowances: AllowanceReads | None = None,
) -> LivePlan:
    """What is to be checked before ``spec`` trades live on ``feed``."""
    clock = LiveClock()
    env = loaded.of(LiveEnv)
    extra: list[Finding] = []
    stage = Stage.TENTH
    lease = None
    try:
        stands = standing(paths, spec.slug, feed, env, now_ns=clock.now_ns())
        extra.append(stands.finding())
        stage = stands.decision.stage or Stage.TENTH
        lease = newest_lease(paths, lease_name(feed, _funder(wallet)))
    except JournalError as error:
        extra.append(failed("parity", str(error), "repair or move away the file it names"))
    limits = spec.limits(loaded)
    problem = stage_problem(limits, stage)
    if problem:
        extra.append(failed("stage", f"{int(stage)} %", problem))
    return LivePlan(
        paths=paths,
        bot=spec.slug,
        clock=clock,
        hosts=hosts,
        wallet=wallet,
        live=env,
        limits=staged(limits, stage),
        disk_free_min_mb=loaded.of(FleetSettings).disk_free_min_mb,
        lease=lease,
        allowances=allowances,
        extra=extra,
    )


def _funder(wallet: WalletEnv) -> str:
    """The wallet's address, or nothing when the settings do not tell it (a check says so)."""
    try:
        return funder_of(wallet, read_key(wallet).address) or ""
    except ConfigError:
        return ""


def live_dry_run(
    spec: BotSpec, loaded: Loaded, paths: Paths, wallet: WalletEnv, *, feed: str
) -> int:
    """Make every check of a live start, print them, change nothing. Returns the exit code."""
    findings = asyncio.run(checked(spec, feed, paths, loaded, wallet))
    for finding in findings:
        sys.stdout.write(f"{finding.line()}\n")
    return exit_code(findings)


def _hosts(feed: str, loaded: Loaded) -> Hosts:
    try:
        return live_hosts(feed, loaded.of(PolymarketEnv), loaded.of(SandboxEnv))
    except ValueError as error:
        raise ConfigError([str(error)]) from error
