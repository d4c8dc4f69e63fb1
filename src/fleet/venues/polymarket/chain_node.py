"""A Polygon node, asked through web3.py: reads, and the one write.

Invariants: bytes to be mined are sent once (web3.py would repeat a lost ``eth_sendRawTransaction``
by itself; its retries are off). No answer is ``TransportFailed``, whose ``sent`` says whether the
request may have left; an answer that says no is ``NodeRefused``. No key ever comes here.

web3.py takes most of a second to import and 55 MB, and raises Python's recursion limit a
hundredfold; so it is imported when a node is opened, off the event loop, and the limit is put back.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError

from fleet.venues.polymarket.chain_contracts import Contract, revert_words, selector, word
from fleet.venues.polymarket.hosts import LOOPBACK
from fleet.venues.port import AnswerInvalid, TransportFailed, VenueError

if TYPE_CHECKING:
    import aiohttp
    from web3 import AsyncWeb3

T = TypeVar("T")
TIP_MIN_WEI: Final = 25 * 10**9
"""What Polygon's nodes take as the least tip (bor's default, read 2026-11)."""
QUESTIONS_MAX: Final = 256
"""Questions a neg-risk market can have: the id of each ends in one byte for its index."""
_REVERT_CODE: Final = 3


class NodeRefused(VenueError):  # noqa: N818 - named for what happened
    """The node answered with an error. ``revert`` is what a contract reverted with, if one did."""

    def __init__(self, message: str, *, code: int, revert: bytes | None = None) -> None:
        """Keep the code of JSON-RPC and the revert's bytes."""
        super().__init__(message)
        self.code = code
        self.revert = revert

    @property
    def reason(self) -> str:
        """The contract's words, or the node's."""
        return str(self) if self.revert is None else revert_words(self.revert)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """What a transaction must offer now, in wei a unit of gas."""

    base: int
    tip: int


class ChainNode:
    """One node of one chain. ``await open()`` first; ``await close()`` at the end."""

    def __init__(self, rpc_url: str, *, chain_id: int, timeout_s: float = 10.0) -> None:
        """Name the node; nothing is opened yet."""
        self.rpc_url: Final = rpc_url
        self.chain_id: Final = chain_id
        self._timeout_s = timeout_s
        self._what = urlsplit(rpc_url).netloc
        self._web3: AsyncWeb3[Any] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connect and see that it is the right chain. Raises ``VenueError``."""
        web3 = await asyncio.to_thread(_import_web3)
        import aiohttp

        provider = web3.AsyncHTTPProvider(
            self.rpc_url,
            request_kwargs={"timeout": aiohttp.ClientTimeout(self._timeout_s)},
            exception_retry_configuration=None,
        )
        # A proxy of the environment must not get between us and a sandbox on this machine.
        local = urlsplit(self.rpc_url).hostname in LOOPBACK
        self._session = aiohttp.ClientSession(raise_for_status=True, trust_env=not local)
        await provider.cache_async_session(self._session)
        self._web3 = web3.AsyncWeb3(provider, middleware=[])
        try:
            found = await self._ask(self._eth.chain_id)
        except VenueError:
            await self.close()
            raise
        if found != self.chain_id:
            await self.close()
            raise AnswerInvalid(
                f"{self._what} is a node of chain {found}, not {self.chain_id}; set its RPC address"
            )

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        session, self._session, self._web3 = self._session, None, None
        if session is not None:
            await session.close()

    # --- reads -------------------------------------------------------------------------------

    async def height(self) -> int:
        """The number of the newest block."""
        return int(await self._ask(self._eth.block_number))

    async def nonce(self, address: str, block: int | str = "latest") -> int:
        """How many transactions of ``address`` were mined up to a block (or wait: ``pending``)."""
        answer = self._eth.get_transaction_count(address, block)
        return int(await self._ask(answer))

    async def gas_wei(self, address: str) -> int:
        """POL, in wei."""
        return int(await self._ask(self._eth.get_balance(address)))

    async def fees(self) -> Fees:
        """The newest base fee, and the tip the node suggests."""
        history = await self._ask(self._eth.fee_history(1, "latest", []))
        tip = await self._ask(self._eth.max_priority_fee)
        return Fees(base=int(history["baseFeePerGas"][-1]), tip=max(int(tip), TIP_MIN_WEI))

    async def call(
        self, to: str, call_data: bytes, *, sender: str | None = None, block: int | str = "latest"
    ) -> bytes:
        """What a contract would answer. Raises ``NodeRefused`` with the revert if it reverts."""
        message: dict[str, Any] = {"to": to, "data": "0x" + call_data.hex()}
        if sender is not None:
            message["from"] = sender
        answer = await self._ask(self._eth.call(message, block))
        return bytes(answer)

    async def read(
        self, contract: Contract, name: str, arguments: Sequence[tuple[str, Any]], result: str
    ) -> Any:
        """A view function's answer; ``arguments`` are (ABI type, value)."""
        types = tuple(kind for kind, _ in arguments)
        call_data = selector(name, types) + abi_encode(types, [value for _, value in arguments])
        answer = await self.call(contract.address, call_data)
        try:
            (value,) = abi_decode([result], answer)
        except DecodingError as error:
            raise AnswerInvalid(
                f"{self._what}: {contract.name}.{name} gave {answer.hex()[:80]!r}, not {result}"
            ) from error
        return value

    async def questions(self, event_market_id: str) -> list[str]:
        """The condition ids of a neg-risk market by index; empty if the chain has none."""
        market = word(event_market_id)
        ledger = Contract.NEG_RISK_ADAPTER
        count = await self.read(ledger, "getQuestionCount", [("bytes32", market)], "uint256")
        if count > QUESTIONS_MAX:
            raise AnswerInvalid(f"{self._what}: {event_market_id} cannot have {count} questions")
        found = []
        for index in range(count):
            question = market[:-1] + bytes((index,))
            arguments = [("bytes32", question)]
            condition = await self.read(ledger, "getConditionId", arguments, "bytes32")
            found.append("0x" + condition.hex())
        return found

    async def estimate_gas(self, sender: str, to: str, call_data: bytes) -> int:
        """The gas a call would burn. Raises ``NodeRefused`` with the revert if it reverts."""
        message: Any = {"from": sender, "to": to, "data": "0x" + call_data.hex()}
        return int(await self._ask(self._eth.estimate_gas(message)))

    async def receipt(self, transaction_hash: str) -> dict[str, Any] | None:
        """What became of a mined transaction; ``None`` if this node knows of no such thing."""
        return await self._found(self._eth.get_transaction_receipt(transaction_hash))

    async def transaction(self, transaction_hash: str) -> dict[str, Any] | None:
        """A mined or waiting transaction; ``None`` if this node knows of no such thing."""
        return await self._found(self._eth.get_transaction(transaction_hash))

    async def why_reverted(self, receipt: dict[str, Any]) -> str:
        """The contract's words, from calling it again on the block before, if a node still can."""
        try:
            tx = await self.transaction(_hex(receipt["transactionHash"]))
            if tx is None:
                return "reverted"
            call_data, block = bytes.fromhex(_hex(tx["input"])[2:]), int(receipt["blockNumber"])
            await self.call(str(tx["to"]), call_data, sender=str(tx["from"]), block=block - 1)
        except NodeRefused as refusal:
            return refusal.reason
        except VenueError as error:
            return f"reverted; the reason could not be read ({error})"
        return "reverted; the call would pass on the block before (out of gas?)"

    # --- the write ---------------------------------------------------------------------------

    async def send(self, raw: str) -> None:
        """Hand over a signed transaction, once. Raises ``NodeRefused`` or ``TransportFailed``."""
        await self._ask(self._eth.send_raw_transaction(bytes.fromhex(raw[2:])))

    # --- inside ------------------------------------------------------------------------------

    @property
    def _eth(self) -> Any:
        if self._web3 is None:
            raise RuntimeError("the node is not open")
        return self._web3.eth

    async def _found(self, answer: Awaitable[Any]) -> dict[str, Any] | None:
        from web3.exceptions import TransactionNotFound

        try:
            return dict(await self._ask(answer, passing=TransactionNotFound))
        except TransactionNotFound:
            return None

    async def _ask(self, answer: Awaitable[T], *, passing: type[Exception] | None = None) -> T:
        """Await an answer of web3.py and turn its many errors into ours."""
        import aiohttp
        from web3.exceptions import ContractLogicError, Web3Exception, Web3RPCError

        try:
            return await answer
        except ContractLogicError as error:
            raise NodeRefused(str(error), code=_REVERT_CODE, revert=_revert_of(error)) from error
        except Web3RPCError as error:
            if passing is not None and isinstance(error, passing):
                raise
            told: Any = (error.rpc_response or {}).get("error")
            code = told.get("code", 0) if isinstance(told, dict) else 0
            words = told.get("message", error) if isinstance(told, dict) else error
            raise NodeRefused(f"{self._what}: {words}", code=int(code or 0)) from error
        except aiohttp.ClientConnectorError as error:
            raise TransportFailed(f"{self._what}: cannot connect ({error})", sent=False) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = f"{type(error).__name__} {error}".strip()
            raise TransportFailed(f"{self._what}: no answer ({reason})", sent=True) from error
        except (Web3Exception, ValueError) as error:
            reason = f"{type(error).__name__} {error}".strip()
            raise TransportFailed(
                f"{self._what}: unreadable answer ({reason})", sent=True
            ) from error


def _import_web3() -> ModuleType:
    limit = sys.getrecursionlimit()
    try:
        import web3
    finally:
        sys.setrecursionlimit(limit)
    # It logs every request and answer at DEBUG.
    logging.getLogger("web3").setLevel(logging.INFO)
    return web3


def _revert_of(error: Any) -> bytes:
    """The bytes of a revert; web3.py gives them as hex, or not at all."""
    text = error.data if isinstance(error.data, str) else ""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""


def _hex(value: Any) -> str:
    """0x hex of what web3.py gives as bytes or text."""
    return value if isinstance(value, str) else "0x" + bytes(value).hex()
