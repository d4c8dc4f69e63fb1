"""A live session: the checks, the smoke order, and the real venue between its opening and its end.

Everything happens under the wallet's lease and before the journal learns of the run: first the
checks of ``live_checks`` (all of them, each failure with its cure), then the guard takes the key,
logs in, and ends and tries the smoke order. Only then is the venue joined. A refusal says which of
it a person must repair (exit 78) or what may heal by itself (exit 1).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fleet import logs
from fleet.config import Mode
from fleet.domain.commands import SubmitOrder
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import Price, Qty
from fleet.engine.orders import Order, OrderStatus
from fleet.engine.state import State
from fleet.journal.fleet import read_latch
from fleet.runtime.execution import Execution
from fleet.runtime.findings import Finding, exit_code
from fleet.runtime.gate_store import GateStore
from fleet.runtime.live_checks import LivePlan, live_checks
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.live_standing import LiveStanding, chain_reads, record_decision
from fleet.runtime.session import Ground, SessionRefused
from fleet.runtime.settings import FleetSettings, WalletEnv
from fleet.runtime.smoke import Smoke, smoke_order
from fleet.runtime.smoke_venue import ClobSmoke
from fleet.runtime.spec import EXIT_RETRY, EXIT_STAY_DOWN
from fleet.venues.polymarket.chain import ChainOperations
from fleet.venues.polymarket.chain_account import ChainAccount, wallet_problem
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.departed import departed_instruments
from fleet.venues.polymarket.guard import GuardRefused, SigningGuard, SigningLimits
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.live import EarlierOrder, LiveVenue
from fleet.venues.polymarket.live_account import Account, held_tokens, other_wallets
from fleet.venues.polymarket.live_operations import EarlierOperation
from fleet.venues.polymarket.login import log_in
from fleet.venues.polymarket.resolutions import standing_of_token
from fleet.venues.polymarket.user_feed import UserFeed
from fleet.venues.transport import JsonClient

_PROVES_ACCEPTED = frozenset(set(OrderStatus) - {OrderStatus.SUBMITTED, OrderStatus.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAccess:
    """Who trades where, and how far: what was decided before the session."""

    key: SecretKey
    wallet: WalletEnv
    funder: str
    hosts: Hosts
    standing: LiveStanding
    extra: Sequence[Finding] = ()


@asynccontextmanager
async def live_session(ground: Ground, access: LiveAccess) -> AsyncIterator[Execution]:
    """Check, try, join, and leave in order. Raises ``SessionRefused`` or ``VenueError``."""
    _require_own_journal(ground, access)
    await _check(ground, access)
    async with AsyncExitStack() as stack:
        guard = _guard(ground, access)
        try:
            credentials = await log_in(access.hosts, guard, clock=ground.clock)
        except GuardRefused as error:
            raise SessionRefused(exit_code([]) or 1, str(error)) from error
        client = ClobClient(
            access.hosts, credentials, signature_type=access.wallet.signature_type,
            clock=ground.clock, may_send=ground.lease_alive,
        )  # fmt: skip
        await client.start()
        stack.push_async_callback(client.close)
        await _smoke(ground, access, guard, client)
        record_decision(
            ground.paths, ground.spec.slug, ground.feed, access.standing.decision,
            now_ns=ground.clock.now_ns(),
        )  # fmt: skip
        node = ChainNode(access.hosts.rpc_url, chain_id=access.hosts.chain_id)
        await node.open()
        stack.push_async_callback(node.close)
        positions = JsonClient(access.hosts.data_url, clock=ground.clock)
        stack.push_async_callback(positions.close)
        markets = JsonClient(access.hosts.clob_url, clock=ground.clock)
        stack.push_async_callback(markets.close)
        venue = LiveVenue(
            client=client,
            guard=guard,
            stream=lambda seen, gap: UserFeed(
                access.hosts.user_ws_url, credentials, on_sightings=seen, on_gap=gap,
                clock=ground.clock,
            ),
            instruments={
                **await departed_instruments(markets, _departed(ground.state)),
                **ground.state.universe.instruments,
            },
            journal=ground.note,
            sink=ground.facts,
            on_failure=ground.crashed,
            earlier=_earlier_orders(ground.state),
            operations=ChainOperations(
                guard.transactions(), node, ground.state.universe,
                lookup=partial(standing_of_token, markets),
            ),
            earlier_operations=_earlier_operations(ground.state),
            account=Account(
                client, guard.wallet, held=partial(held_tokens, positions, guard.wallet),
                on_chain=partial(ChainAccount(node).tokens, guard.wallet),
                adopted_ns=ground.adopted_ns,
            ),
            clock=ground.clock,
        )  # fmt: skip
        await venue.start()
        stack.push_async_callback(venue.stop)
        yield venue


def _require_own_journal(ground: Ground, access: LiveAccess) -> None:
    """A journal is one wallet's: another's balance in it could never be told apart again."""
    others = other_wallets(ground.state.portfolio.deposits(), access.funder)
    if others:
        file = ground.paths.journal(ground.spec.slug, Mode.LIVE, ground.feed)
        raise SessionRefused(
            EXIT_STAY_DOWN,
            f"{file} is the journal of wallet {', '.join(others)}, and the settings are of wallet"
            f" {access.funder}: put the old wallet's settings back, or see docs/runbook.md, 'Rotate"
            " the key'",
        )


async def _check(ground: Ground, access: LiveAccess) -> None:
    log = logs.get("doctor")
    async with chain_reads(access.hosts) as chain:
        findings = await live_checks(
            LivePlan(
                paths=ground.paths, bot=ground.spec.slug, clock=ground.clock, hosts=access.hosts,
                wallet=access.wallet, live=ground.loaded.of(LiveEnv), limits=ground.limits,
                disk_free_min_mb=ground.loaded.of(FleetSettings).disk_free_min_mb,
                lease=ground.lease, own_lease=ground.lease.token, allowances=chain,
                extra=[access.standing.finding(), *access.extra],
            )
        )  # fmt: skip
    for finding in findings:
        level = log.info if finding.ok else log.error
        level("CHECK", name=finding.name, found=finding.found, result=finding.result.value,
              cure=finding.cure)  # fmt: skip
    _require(findings)
    problem = wallet_problem(access.wallet.signature_type)
    if problem:
        log.warning("OPERATIONS by hand", reason=problem)


def _require(findings: Sequence[Finding]) -> None:
    code = exit_code(findings)
    if code:
        bad = [f"{f.name}: {f.found} -> {f.cure}" for f in findings if not f.ok]
        raise SessionRefused(code, f"not ready to trade live ({'; '.join(bad)})")


def _guard(ground: Ground, access: LiveAccess) -> SigningGuard:
    instruments, books = ground.state.universe.instruments, ground.state.books

    def tick_of(token: InstrumentId) -> Price:
        return books[token].tick

    return SigningGuard(
        access.key, instruments=instruments, lease_alive=ground.lease_alive,
        limits=SigningLimits(max_order_notional=ground.limits.max_order_notional),
        tick_of=tick_of, chain_id=access.hosts.chain_id,
        signature_type=access.wallet.signature_type, funder=access.funder,
    )  # fmt: skip


async def _smoke(
    ground: Ground, access: LiveAccess, guard: SigningGuard, client: ClobClient
) -> None:
    venue = ClobSmoke(client, guard, access.hosts, ground.clock)
    store_file = ground.paths.gate(ground.spec.slug, ground.feed)
    with GateStore(store_file, bot=ground.spec.slug, feed=ground.feed) as store:
        wait_ns = ground.loaded.of(LiveEnv).smoke_wait_ns
        trial = Smoke(venue, store, ground.clock, wait_ns=wait_ns)
        # What a crash left is ended before anything else can refuse this start.
        _require([await trial.clear()])
        order = smoke_order(await venue.quotes(ground.state.universe.instruments.values()))
        if order is None:
            raise SessionRefused(
                EXIT_RETRY,
                "no market is far enough from its lowest price for the smoke order; start again"
                " later",
            )
        _require_unlatched(ground)
        finding = await trial.run(order)
    logs.get("doctor").info("SMOKE", found=finding.found, result=finding.result.value)
    _require([finding])


def _require_unlatched(ground: Ground) -> None:
    """Halted since this start was allowed: nobody watches the latch yet, and nothing is sent."""
    latch = read_latch(ground.paths.fleet_db)
    if latch is not None:
        raise SessionRefused(
            EXIT_STAY_DOWN,
            f"kill latch set by {latch.by}: {latch.reason}. Find out why, then run `fleet resume`",
        )


def _departed(state: State) -> list[InstrumentId]:
    """The tokens outside the catalogue of which something is open, unsettled or held."""
    tokens = {order.instrument_id: None for order in state.orders.open.values()}
    tokens |= {fill.instrument_id: None for fill in state.unsettled.values()}
    tokens |= dict.fromkeys(state.portfolio.positions)
    return [token for token in tokens if token not in state.universe.instruments]


def _earlier_orders(state: State) -> list[EarlierOrder]:
    return [
        EarlierOrder(
            request=_request_of(order),
            venue_order_id=order.venue_order_id,
            accepted=order.status in _PROVES_ACCEPTED,
            open=order.open,
        )
        for order in state.orders
    ]


def _request_of(order: Order) -> SubmitOrder:
    return SubmitOrder(
        client_order_id=order.client_order_id,
        bundle_id=order.bundle_id,
        leg=order.leg,
        purpose=order.purpose,
        instrument_id=order.instrument_id,
        side=order.side,
        price=Price(order.price),
        qty=Qty(order.qty),
        tif=order.tif,
        ts=order.submitted_ns,
    )


def _earlier_operations(state: State) -> list[EarlierOperation]:
    bundles = state.bundles
    return [
        EarlierOperation(request=request, transaction_hash=bundles.transaction(operation_id))
        for operation_id, request in bundles.pending.items()
    ]
