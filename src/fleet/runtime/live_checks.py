"""The checks before real money, as a list of findings; `fleet doctor` makes the same ones alone.

Theory of operation. ``live_checks`` makes every check it can and reports all of them, so that an
operator repairs in one go: first this machine (``preflight``, libraries, settings), then the way to
the venue (hosts, clock, version, place), then the account (``account_checks``), each group only
where the one it stands on holds. A check that could not be made is UNKNOWN: it stops a start as a
failure does, but with the exit code that lets a restart try again, because a venue that does not
answer now may answer in a minute.

Nothing here changes anything, at the venue or on this machine.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleet.clock import NS_PER_MS, NS_PER_SECOND, Clock
from fleet.config import ConfigError, Paths
from fleet.engine.risk import RiskLimits
from fleet.journal.fleet import Lease
from fleet.runtime import preflight
from fleet.runtime.account_checks import AllowanceReads, account_checks
from fleet.runtime.findings import Finding, failed, of_check, passed, unknown
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.settings import WalletEnv
from fleet.runtime.venue_probe import VenueProbe, reach
from fleet.runtime.wallet import funder_of, read_key
from fleet.venues.polymarket.contracts import POLYGON, Exchange
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.signing import domain_separator
from fleet.venues.port import VenueError

CLOB_VERSION: Final = 2
"""``GET /version`` of CLOB V2, in force since 2026-04-28 (reference 4.2)."""
DOMAINS: Final = {
    Exchange.STANDARD_V2: "3264e159346253e26a64e00b69032db0e7d32f94628de3e6eecb50304d7af3d2",
    Exchange.NEG_RISK_V2: "9b858f53327b0bd13af8ec14cfb35234fb9eb7b0504d1a4e61f433840d30e81a",
    Exchange.V3: "466c63910185bbd55e8679264200c4e0abdcbb0c6264eb3d41d13326022e095b",
}
"""The EIP-712 domain separators on Polygon, worked out by the official clients (2026-11)."""
MODULES: Final = {
    "httpx": "httpx", "h2": "h2", "coincurve": "coincurve", "sha3": "safe-pysha3",
    "msgspec": "msgspec", "uvloop": "uvloop", "picows": "picows", "web3": "web3",
}  # fmt: skip
"""Module -> distribution of what a live bot cannot do without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlan:
    """Everything the checks look at. ``limits`` are those of the stage the bot would start at."""

    paths: Paths
    bot: str
    """The bot's slug, for its lock."""
    clock: Clock
    hosts: Hosts
    wallet: WalletEnv
    live: LiveEnv
    limits: RiskLimits
    disk_free_min_mb: int
    lease: Lease | None = None
    """The newest lease of the wallet, whoever holds it."""
    own_lease: int | None = None
    """The fencing number of the lease this process holds, if it holds one."""
    allowances: AllowanceReads | None = None
    """The chain, where it can be asked; without it the venue's cache must do."""
    extra: Sequence[Finding] = field(default_factory=tuple)
    """Findings of the caller, such as parity."""


async def live_checks(plan: LivePlan) -> list[Finding]:
    """Make all checks of a live start, in the order they are worth repairing in. Never raises."""
    found = [
        of_check(check)
        for check in preflight.run(
            plan.paths,
            bot="" if plan.own_lease is not None else plan.bot,
            now_ns=plan.clock.now_ns(),
            disk_free_min_mb=plan.disk_free_min_mb,
        )
    ]
    found += [check_libraries(), check_lease(plan)]
    key, settings = check_settings(plan.wallet)
    found.append(settings)
    network = await check_network(plan.hosts)
    found.append(network)
    async with VenueProbe(plan.hosts, plan.clock) as probe:
        found += [
            await check_clock(probe, plan.live.clock_skew_max_ns),
            await check_version(probe),
            await check_geoblock(probe),
        ]
        if key is None:
            cure = "repair the live settings first, then look again"
            found.append(unknown("account", "not looked at: there is no usable key", cure))
        else:
            found += await account_checks(probe, plan.wallet, key, plan)
    return [*found, *plan.extra]


# --- this machine ---------------------------------------------------------------------------------


def check_libraries(modules: dict[str, str] | None = None) -> Finding:
    """Whether the libraries are there and load."""
    versions: list[str] = []
    for module, name in (MODULES if modules is None else modules).items():
        try:
            importlib.import_module(module)
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except (ImportError, importlib.metadata.PackageNotFoundError) as error:
            return failed("libraries", f"{name}: {error}", "run `make setup` again")
    return passed("libraries", ", ".join(versions))


def check_settings(wallet: WalletEnv) -> tuple[SecretKey | None, Finding]:
    """Whether key and funder are given and can be used; the key, if so."""
    try:
        key = read_key(wallet)
    except ConfigError as error:
        return None, failed("live settings", "no usable key", "; ".join(error.problems))
    if funder_of(wallet, key.address) is None:
        cure = (
            "set POLYMARKET_FUNDER to the address of your wallet as polymarket.com shows it, and"
            " POLYMARKET_WALLET to its kind"
        )
        return None, failed("live settings", f"key {key.address}, no funder", cure)
    return key, passed("live settings", f"key {key.address}, wallet kind {wallet.wallet}")


def check_lease(plan: LivePlan) -> Finding:
    """Whether nobody else may sign for the wallet."""
    lease = plan.lease
    if lease is None or not lease.alive(plan.clock.now_ns()):
        return passed("wallet lease", "free")
    if lease.token == plan.own_lease:
        return passed("wallet lease", f"ours, number {lease.token}")
    left_s = (lease.expires_ns - plan.clock.now_ns()) // NS_PER_SECOND
    return failed(
        "wallet lease",
        f"held by {lease.owner} (process {lease.pid}), {left_s} s left",
        "stop that one (`pm2 stop`), or wait until its lease has run out",
    )


# --- the way to the venue -------------------------------------------------------------------------


async def check_network(hosts: Hosts) -> Finding:
    """Whether every host takes a connection."""
    urls = [hosts.clob_url, hosts.gamma_url, hosts.data_url, hosts.market_ws_url,
            hosts.user_ws_url, hosts.rpc_url, hosts.relayer_url, hosts.geoblock_url]  # fmt: skip
    answers = await asyncio.gather(*(_reached(url) for url in urls if url))
    problems = sorted({problem for problem in answers if problem})
    if not problems:
        return passed("network", f"{hosts.name}: {len(answers)} addresses answer")
    cure = (
        "start the sandbox (`make start`, or `fleet sandbox`)"
        if hosts.local
        else "check this machine's network, firewall and name service; the venue may be down"
    )
    return unknown("network", "; ".join(problems), cure)


async def _reached(url: str) -> str:
    try:
        await reach(url)
    except VenueError as error:
        return str(error)
    return ""


async def asked(
    name: str, question: Callable[[], Awaitable[Finding]], cure: str = "look again in a minute"
) -> Finding:
    """The finding of ``question``; a venue that does not answer it leaves it unknown."""
    try:
        return await question()
    except VenueError as error:
        return unknown(name, str(error), cure)


async def check_clock(probe: VenueProbe, skew_max_ns: int) -> Finding:
    """Whether our clock and the venue's agree within ``skew_max_ns``, as far as can be proven.

    The venue tells whole seconds, so a right clock looks up to one second off; that second, and
    the time its answer took, is not held against it but proves nothing either.
    """

    async def question() -> Finding:
        least, most = await probe.clock_offset()
        found = f"the venue is {_ms(least)} to {_ms(most)} ms ahead"
        if least > skew_max_ns or most < -skew_max_ns:
            cure = "set this machine's clock by NTP (`timedatectl set-ntp true`)"
            return failed("venue clock", f"{found}, limit {_ms(skew_max_ns)} ms", cure)
        if most > skew_max_ns or least < -skew_max_ns:
            cure = (
                "the clock may be wrong or the network slow: set the clock by NTP, look again, or"
                " raise LIVE_CLOCK_SKEW_MAX_MS"
            )
            return unknown("venue clock", f"{found}, limit {_ms(skew_max_ns)} ms", cure)
        return passed("venue clock", found)

    return await asked("venue clock", question)


async def check_version(probe: VenueProbe) -> Finding:
    """Whether the venue speaks the protocol this code signs for, and the code signs it right."""

    async def question() -> Finding:
        version = await probe.version()
        if version != CLOB_VERSION:
            cure = f"stay on paper: this code signs for version {CLOB_VERSION}; install a newer one"
            return failed("venue version", f"{version}", cure)
        chain_id = probe.hosts.chain_id
        wrong = [
            exchange.value
            for exchange, domain in DOMAINS.items()
            if chain_id == POLYGON and domain_separator(chain_id, exchange).hex() != domain
        ]
        if wrong:
            cure = "do not trade: run `make setup` again, then `make check`"
            return failed("venue version", f"signing domain of {', '.join(wrong)} is wrong", cure)
        return passed("venue version", f"{version}, signing domains of chain {chain_id}")

    return await asked("venue version", question)


async def check_geoblock(probe: VenueProbe) -> Finding:
    """Whether trading is allowed from here. Blocked is final: there is no way round it."""

    async def question() -> Finding:
        if not probe.hosts.geoblock_url:
            return unknown("geoblock", "nobody to ask", "set POLYMARKET_GEOBLOCK_URL")
        answer = await probe.geoblock()
        place = f"{answer.country or 'unknown country'} {answer.region or ''}".strip()
        if answer.blocked:
            cure = "trading from here is not allowed: stay on paper"
            return failed("geoblock", f"blocked in {place}", cure)
        return passed("geoblock", f"not blocked in {place}")

    return await asked("geoblock", question)


def _ms(time_ns: int) -> int:
    return time_ns // NS_PER_MS
