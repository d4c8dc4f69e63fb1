"""The bot's chain node over the wire of a chaos run: real web3.py, real JSON-RPC, no socket."""

from __future__ import annotations

from typing import Any

import aiohttp
import httpx
from aiohttp.client_reqrep import ConnectionKey
from web3 import AsyncWeb3
from web3.providers.async_base import AsyncJSONBaseProvider

from fleet.venues.polymarket.chain_node import ChainNode
from tests.chaos_wire import Wire, WireTransport

TIMEOUT_S = 4.0


class WireProvider(AsyncJSONBaseProvider):
    """JSON-RPC by the wire, failing with the errors of web3.py's own HTTP provider."""

    def __init__(self, wire: Wire, url: str) -> None:
        super().__init__()
        self._transport, self._url = WireTransport(wire), url

    async def make_request(self, method: Any, params: Any) -> Any:
        """One question, one answer."""
        request = httpx.Request(
            "POST", self._url, content=self.encode_rpc_request(method, params),
            headers={"Content-Type": "application/json"},
            extensions={"timeout": {"read": TIMEOUT_S}},
        )  # fmt: skip
        try:
            answer = await self._transport.handle_async_request(request)
        except httpx.ConnectError as error:
            key: Any = ConnectionKey("127.0.0.1", 8788, False, True, None, None, None)
            raise aiohttp.ClientConnectorError(key, OSError("connection refused")) from error
        except httpx.ReadTimeout as error:
            raise TimeoutError(str(error)) from error
        except httpx.TransportError as error:
            raise aiohttp.ServerDisconnectedError(str(error)) from error
        if answer.status_code >= 400:
            raise aiohttp.ClientPayloadError(f"HTTP {answer.status_code}")
        return self.decode_rpc_response(await answer.aread())


class WireNode(ChainNode):
    """A node that is reached over the wire."""

    wire: Wire

    async def open(self) -> None:
        """Connect."""
        self._web3 = AsyncWeb3(WireProvider(self.wire, self.rpc_url), middleware=[])
        await self._ask(self._eth.chain_id)
