"""Follows wallets on the chain: every trade and move once, none lost, reorganisations taken back.

One task owns one connection at a time. Logs and heads are handed to the tracker inside the socket's
callback, so a log is a fact before anything else is looked at; the task does what takes time:

    connect     subscribe to logs and heads, then read everything since the last safe block
    in doubt    find the newest block both agree on, read headers and logs from there, commit
    receipts    of transactions that moved tokens without a trade
    verify      every ``verify_blocks``: read again what was told by the subscription, then ask
                another node for the same; what only one of them shows is told, and counted against
                the one that kept it back

A block is *safe* once its logs were read at least ``LAG_BLOCKS`` deep: nodes answer about their
newest block before they have indexed it. Health is the age of the newest head, for a node can
answer pings and send nothing. The first start begins at the head: history is not copied.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import msgspec

from fleet import logs
from fleet.clock import NS_PER_MS, NS_PER_SECOND, Clock
from fleet.venues.polymarket.leader_backfill import (
    ChainMoved,
    ChainReads,
    NodeBehind,
    ReadState,
)
from fleet.venues.polymarket.leader_blocks import Head
from fleet.venues.polymarket.leader_logs import ChainLog, LogMalformed
from fleet.venues.polymarket.leader_range import LAG_BLOCKS, RangeReader
from fleet.venues.polymarket.leader_state import CursorFile, Progress
from fleet.venues.polymarket.leader_tracker import LeaderTracker
from fleet.venues.polymarket.rpc_pool import RpcPool
from fleet.venues.polymarket.rpc_socket import RpcSocket
from fleet.venues.port import AnswerInvalid, TransportFailed, VenueError

STABLE_NS: Final = 30 * NS_PER_SECOND
LOOK_S: Final = 1.0
RETRY_S: Final = 0.25
SAVE_NS: Final = 500 * NS_PER_MS
RECEIPT_TRIES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """How a listener behaves. ``chain_id`` 0 takes any chain."""

    chain_id: int = 137
    verify_blocks: int = 8
    head_age_max_ns: int = 15 * NS_PER_SECOND
    """A chain without a new block for so long is a node that is stuck; Polygon makes one in 2 s."""
    timeout_s: float = 10.0


class LeaderListener:
    """``run()`` until cancelled. Facts go to the tracker's sink, on the event loop."""

    def __init__(
        self,
        tracker: LeaderTracker,
        pool: RpcPool,
        clock: Clock,
        *,
        cursor: CursorFile,
        settings: ListenerSettings | None = None,
    ) -> None:
        """Take up where ``cursor`` left off; nothing is opened before ``run``."""
        self.tracker = tracker
        self.settings = settings or ListenerSettings()
        self.reads = ReadState()
        self.progress = Progress(tracker, cursor)
        self.url = ""
        """The node in use; empty between connections."""
        self.heard_ns = 0
        """When the last head came; 0 before the first."""
        self.reconnects = -1
        """Connections made after the first."""
        self.problem = ""
        """Why the last connection ended."""
        self._pool, self._clock = pool, clock
        self._range = RangeReader(tracker, self.progress, clock)
        self._wake = asyncio.Event()
        self._asked = False
        self._current: ChainReads | None = None
        self._logs_decoder = msgspec.json.Decoder(ChainLog)
        self._heads_decoder = msgspec.json.Decoder(Head)
        self._unverified = 0
        self._tries = 0
        self._log = logs.get("leaders")

    @property
    def synced(self) -> bool:
        """Whether all up to the newest head was told and new logs are told at once."""
        return self.tracker.synced and self.tracker.doubt is None

    def reread(self, number: int) -> None:
        """Somebody saw what we did not: read from this block again."""
        self.tracker.put_in_doubt(max(number, self.tracker.sightings.floor))
        self._asked = True
        self._wake.set()

    def knows(self, transaction: str) -> bool:
        """Whether something of a transaction was told, or its receipt read."""
        tracker = self.tracker
        return tracker.sightings.block_of(transaction) is not None or transaction in tracker.read

    async def read_transaction(self, transaction: str) -> None:
        """Somebody saw a transaction that we did not: find its block and read it again."""
        if self._current is None:
            raise TransportFailed("no node is connected", sent=False)
        receipt_hash, receipt = await self._current.receipt(transaction)
        self._log.info("CHAIN reads again", transaction=transaction, block_hash=receipt_hash)
        if receipt:
            self.reread(receipt[0].number)

    async def run(self) -> None:
        """Connect, follow, fail over, for ever. Raises only what is a defect of this program."""
        try:
            while True:
                url, wait_ns = self._pool.pick(self._clock.now_ns())
                await asyncio.sleep(wait_ns / NS_PER_SECOND)
                began_ns = self._clock.now_ns()
                try:
                    await self._session(url)
                except VenueError as error:
                    self._failed(url, str(error), began_ns)
        finally:
            self.progress.save(self._clock.now_ns(), self.tracker.window.tail())

    def _failed(self, url: str, reason: str, began_ns: int) -> None:
        now_ns = self._clock.now_ns()
        if now_ns - began_ns >= STABLE_NS:
            self._pool.worked(url)
        pause_ns = self._pool.failed(url, now_ns)
        self.problem = reason
        self._log.warning("CHAIN lost", reason=reason, pause_ms=pause_ns // NS_PER_MS)

    # --- one connection ----------------------------------------------------------------------

    async def _session(self, url: str) -> None:
        socket = RpcSocket(url, timeout_s=self.settings.timeout_s)
        try:
            await socket.open()
            await self._greet(socket)
            reads = ChainReads(socket, self.tracker.reader.filters(), self.reads)
            await self._catch_up(reads)
            self._current = reads
            self.url, self.reconnects = url, self.reconnects + 1
            self._log.info(
                "CHAIN followed", node=socket.what, block=self.tracker.window.tip,
                wallets=len(self.tracker.reader.wallets), told=self.tracker.counts.reread,
            )  # fmt: skip
            while True:
                await self._turn(socket, reads)
        finally:
            self.tracker.synced = False
            self.url, self._current = "", None
            await socket.close()

    async def _greet(self, socket: RpcSocket) -> None:
        wanted = self.settings.chain_id
        if wanted:
            found: str = await socket.call("eth_chainId", [], str)
            if int(found, 16) != wanted:
                raise AnswerInvalid(
                    f"{socket.what} is a node of chain {int(found, 16)}, not {wanted}; correct"
                    " ELITE_RPC_WS_URLS"
                )
        for one in self.tracker.reader.filters():
            await socket.subscribe(["logs", one], self._on_log)
        await socket.subscribe(["newHeads"], self._on_head)
        self.heard_ns = self._clock.now_ns()

    async def _catch_up(self, reads: ChainReads) -> None:
        """Read everything since the last safe block; at the very first start begin at the head."""
        tracker, progress = self.tracker, self.progress
        if progress.safe < 0:
            head = await reads.head()
            progress.begin(head)
            self._log.info("CHAIN begins at the head: what was before is not told",
                           block=head.number)  # fmt: skip
        tracker.doubt = None
        await self._settle(reads, progress.safe + 1)
        tracker.synced = True
        self._unverified = 0
        progress.save(self._clock.now_ns(), tracker.window.tail())

    async def _turn(self, socket: RpcSocket, reads: ChainReads) -> None:
        """Do what is due, then wait for more."""
        tracker, now_ns = self.tracker, self._clock.now_ns()
        socket.check()
        age_ns = now_ns - self.heard_ns
        if age_ns > self.settings.head_age_max_ns:
            raise TransportFailed(
                f"{socket.what}: no new block for {age_ns / NS_PER_SECOND:.1f} s", sent=True
            )
        self._wake.clear()
        if tracker.doubt is not None:
            low, tracker.doubt = tracker.doubt, None
            await self._settle(reads, low)
        await self._receipts(reads)
        if self._unverified >= self.settings.verify_blocks:
            self._unverified = 0
            await self._verify(socket, reads)
        self.progress.save_if_due(self._clock.now_ns(), tracker.window.tail(), SAVE_NS)
        waits = tracker.moves or tracker.doubt is not None
        try:
            async with asyncio.timeout(RETRY_S if waits else LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _settle(self, reads: ChainReads, low: int) -> int:
        """Read from ``low`` on until it fits; a node that is behind is asked again later."""
        for attempt in range(8):
            try:
                return await self._range.settle(reads, low)
            except (NodeBehind, ChainMoved) as error:
                self.problem = str(error)
                await asyncio.sleep(0.02 * 2**attempt)
        self.tracker.put_in_doubt(low)
        raise TransportFailed(f"the chain could not be read from block {low}: {self.problem}",
                              sent=True)  # fmt: skip

    async def _receipts(self, reads: ChainReads) -> None:
        tracker = self.tracker
        for transaction in list(tracker.moves):
            try:
                await self._range.move(reads, transaction)
                self._tries = 0
            except (NodeBehind, ChainMoved):
                self._tries += 1
                if self._tries > RECEIPT_TRIES and transaction in tracker.moves:
                    tracker.put_in_doubt(tracker.moves.pop(transaction)[0])
                return

    # --- checking nodes against each other ---------------------------------------------------

    async def _verify(self, socket: RpcSocket, reads: ChainReads) -> None:
        """Read again what the subscription should have told, then let another node say the same."""
        low = self.progress.safe + 1
        missing = await self._settle(reads, low)
        if missing and not self._asked:
            self.progress.omitted += missing
            self._pool.omitted(socket.url)
            self._log.warning("CHAIN subscription left logs out", node=socket.what, logs=missing)
        self._asked = False
        other = self._pool.other(socket.url, self._clock.now_ns())
        if other is not None:
            await self._compare(socket.url, other, low)
        if self._pool.better(socket.url, self._clock.now_ns()) and self.progress.omitted:
            raise TransportFailed(f"{socket.what} leaves logs out; another node is there",
                                  sent=True)  # fmt: skip
        self.tracker.forget_old()

    async def _compare(self, url: str, other: str, low: int) -> None:
        """The same range from another node; it may be unreachable, and that proves nothing."""
        witness = RpcSocket(other, timeout_s=self.settings.timeout_s)
        try:
            await witness.open()
            reads = ChainReads(witness, self.tracker.reader.filters(), self.reads)
            missing = await self._range.compare(reads, low, self.tracker.window.tip - LAG_BLOCKS)
            self.progress.compared += 1
        except VenueError as error:
            self.progress.uncompared += 1
            self._pool.failed(other, self._clock.now_ns())
            self._log.warning("CHAIN not compared", reason=str(error))
        else:
            if missing:
                self.progress.omitted += missing
                self._pool.omitted(url)
                self._log.warning("CHAIN node left logs out", logs=missing, shown_by=witness.what)
        finally:
            await witness.close()

    # --- what the node tells by itself -------------------------------------------------------

    def _on_log(self, raw: msgspec.Raw) -> None:
        tracker = self.tracker
        try:
            log = self._logs_decoder.decode(raw)
        except msgspec.MsgspecError:
            tracker.counts.malformed += 1
            return
        tracker.log(log, self._clock.now_ns())
        if tracker.doubt is not None or tracker.moves:
            self._wake.set()

    def _on_head(self, raw: msgspec.Raw) -> None:
        tracker, now_ns = self.tracker, self._clock.now_ns()
        try:
            block = self._heads_decoder.decode(raw).block()
        except (msgspec.MsgspecError, LogMalformed):
            tracker.counts.malformed += 1
            return
        self.heard_ns = now_ns
        tracker.head(block, now_ns)
        self._unverified += 1
        if tracker.doubt is not None or self._unverified >= self.settings.verify_blocks:
            self._wake.set()

    def figures(self) -> dict[str, int]:
        """Counters for status and metrics."""
        counts = self.tracker.counts
        shown = {name: int(getattr(counts, name)) for name in counts.__slots__}
        progress = self.progress
        return shown | {
            "omitted": progress.omitted, "compared": progress.compared,
            "uncompared": progress.uncompared, "ranges_halved": self.reads.halved,
            "unreadable": self.reads.malformed, "reconnects": max(0, self.reconnects),
            "block": self.tracker.window.tip, "safe_block": progress.safe,
        }  # fmt: skip
