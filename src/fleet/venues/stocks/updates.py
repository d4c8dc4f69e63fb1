"""The ``trade_updates`` stream: what Alpaca says about our orders, as it happens.

Theory of operation. One connection an account; it logs in, listens, and hands every update on.
Silence is normal (nobody trades with us for hours), so it is the socket's own pings that notice a
dead peer, and what a mute stream hides is found by the venue's regular looks. Nothing is replayed
after a loss: each connection, the first included, and each frame that could not be read, is
reported to ``on_gap``, whose owner must look then.

Must not: guess at a frame, log key or secret, or hold an update back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import msgspec

from fleet import logs
from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.venues.port import AnswerInvalid
from fleet.venues.stocks.credentials import StockCredentials
from fleet.venues.stocks.wire import UpdateRow, read
from fleet.venues.transport import Backoff

HEARTBEAT_S: Final = 10.0
STABLE_S: Final = 30.0
STREAM: Final = "trade_updates"


class TradeUpdates:
    """The stream of one account."""

    def __init__(
        self, url: str, credentials: StockCredentials, *,
        on_update: Callable[[UpdateRow], None], on_gap: Callable[[str], None],
        backoff_first_ns: int = 250 * NS_PER_MS, backoff_max_ns: int = 30 * NS_PER_SECOND,
    ) -> None:  # fmt: skip
        """Both calls come on the loop, in the order of the frames."""
        self._url, self._credentials = url, credentials
        self._on_update, self._on_gap = on_update, on_gap
        self._backoff = Backoff(backoff_first_ns, backoff_max_ns, random.random)
        self._log = logs.get("updates")
        self._task: asyncio.Task[None] | None = None
        self.connected = False
        self.losses = 0
        self.frames = 0

    def start(self, spawn: Callable[[Any], None]) -> None:
        """Begin to connect, as a task of ``spawn``."""
        spawn(self._keep())

    async def _keep(self) -> None:
        while True:
            began = asyncio.get_running_loop().time()
            reason = await self._live()
            self.connected = False
            self.losses += 1
            if asyncio.get_running_loop().time() - began >= STABLE_S:
                self._backoff.reset()
            delay_s = self._backoff.next_ns() / NS_PER_SECOND
            self._log.warning("TRADE UPDATES lost", reason=reason, retry_s=round(delay_s, 3))
            await asyncio.sleep(delay_s)

    async def _live(self) -> str:
        """One connection to its end; why it ended."""
        key, secret = self._credentials.reveal()
        login = {"action": "authenticate", "data": {"key_id": key, "secret_key": secret}}
        listen = {"action": "listen", "data": {"streams": [STREAM]}}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.ws_connect(self._url, heartbeat=HEARTBEAT_S) as socket,
            ):
                await socket.send_json(login)
                async for message in socket:
                    if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                        return f"unexpected frame {message.type.name}"
                    self.frames += 1
                    frame = self._read(message.data)
                    if frame.get("stream") == "authorization":
                        status = str((frame.get("data") or {}).get("status", ""))
                        if status != "authorized":
                            return f"the venue answered the login with {status!r}"
                        await socket.send_json(listen)
                    elif frame.get("stream") == "listening":
                        self.connected = True
                        self._log.info("TRADE UPDATES connected", losses=self.losses)
                        self._on_gap("connected")
                    elif frame.get("stream") == STREAM:
                        self._hand_on(frame.get("data"))
                return f"closed by the venue: {socket.close_code}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Its text may name the address; never the login, which is no part of it.
            return f"{type(error).__name__}"

    def _read(self, data: str | bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._log.warning("TRADE UPDATE rejected", reason="it is no JSON object")
            self._on_gap("a frame could not be read")
            return {}

    def _hand_on(self, data: object) -> None:
        try:
            update = read(data, UpdateRow, "trade update")
        except AnswerInvalid as error:
            self._log.warning("TRADE UPDATE rejected", reason=str(error))
            self._on_gap("an update could not be read")
        else:
            self._on_update(update)
