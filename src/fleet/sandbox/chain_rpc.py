"""JSON-RPC 2.0 of the sandbox's chain over HTTP, as web3.py and a bot's own client speak it.

Every call first lets the chain move to the clock's time, so an answer is never behind. Numbers are
0x hex without leading zeros, byte strings 0x hex. Errors carry geth's codes: -32601 an unknown
method, -32602 parameters that cannot be read, -32000 what the pool refuses, and 3 a revert, whose
``data`` is what the contract reverted with. Batches are answered one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.sandbox.chain_execution import Reverted
from fleet.sandbox.chain_pool import TIP_MIN_WEI, Chain, PoolRefused, call_of, is_contract
from fleet.sandbox.chain_state import DROPPED, MINED, ChainTx
from fleet.sandbox.chain_views import (
    block_json,
    log_matches,
    logs_json,
    receipt_json,
    transaction_json,
)
from fleet.sandbox.request_reading import json_answer
from fleet.venues.polymarket.chain_contracts import ERROR_TEXT, Approve, ChainCall, revert_words
from fleet.venues.polymarket.keys import SigningError, checksum_address

CLIENT_VERSION: Final = "polybot-fleet-sandbox/chain"
TIP_WEI: Final = TIP_MIN_WEI + 5 * 10**9
"""The tip a node suggests."""
LOG_BLOCKS_MAX: Final = 10_000
_SERVER, _METHOD, _PARAMS, _REQUEST, _PARSE, _REVERT = -32000, -32601, -32602, -32600, -32700, 3
_TRUE: Final = "0x" + "0" * 63 + "1"
Params = list[Any]


class RpcError(Exception):
    """An error answer."""

    def __init__(self, code: int, message: str, error_data: str = "") -> None:
        """``error_data`` is the revert's bytes, if it is one."""
        super().__init__(message)
        self.code, self.message, self.error_data = code, message, error_data


class ChainRpc:
    """The endpoint. ``answer`` is the protocol without HTTP."""

    def __init__(self, chain: Chain, now_ns: Callable[[], int]) -> None:
        """Answer about ``chain`` at the time ``now_ns`` tells."""
        self._chain, self._now_ns = chain, now_ns
        self._methods: Final[Mapping[str, Callable[[Params], Any]]] = {
            "web3_clientVersion": lambda _: CLIENT_VERSION,
            "net_version": lambda _: str(chain.chain_id),
            "eth_chainId": lambda _: hex(chain.chain_id),
            "eth_syncing": lambda _: False,
            "eth_accounts": lambda _: [],
            "eth_blockNumber": lambda _: hex(self._height()),
            "eth_gasPrice": lambda _: hex(chain.base_fee_wei + TIP_WEI),
            "eth_maxPriorityFeePerGas": lambda _: hex(TIP_WEI),
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": self._block,
            "eth_getCode": lambda p: "0x01" if is_contract(_address(p, 0)) else "0x",
            "eth_getBalance": lambda p: hex(chain.balance_wei(_address(p, 0))),
            "eth_getTransactionCount": self._transaction_count,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "eth_sendRawTransaction": self._send,
        }

    def add_to(self, router: web.UrlDispatcher, path: str = "/rpc") -> None:
        """Answer POST on ``path``."""
        router.add_post(path, self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        """One HTTP request: a call, or an array of calls."""
        return json_answer(self.answer(await request.read()))

    def answer(self, body: bytes) -> Any:
        """The answer to a request's bytes."""
        try:
            asked = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return _failure(None, RpcError(_PARSE, "parse error"))
        self._chain.step(self._now_ns())
        if isinstance(asked, list):
            return [self._one(call) for call in asked]
        return self._one(asked)

    def _one(self, call: Any) -> dict[str, Any]:
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            return _failure(None, RpcError(_REQUEST, "invalid request"))
        number = call.get("id")
        method = self._methods.get(call["method"])
        params = call.get("params") or []
        if method is None:
            text = f"the method {call['method']} does not exist/is not available"
            return _failure(number, RpcError(_METHOD, text))
        if not isinstance(params, list):
            return _failure(number, RpcError(_PARAMS, "non-array args"))
        try:
            return {"jsonrpc": "2.0", "id": number, "result": method(params)}
        except RpcError as error:
            return _failure(number, error)

    # --- methods -----------------------------------------------------------------------------

    def _height(self) -> int:
        return self._chain.height(self._now_ns())

    def _fee_history(self, params: Params) -> Any:
        blocks = min(max(1, _number(params, 0)), 1_024)
        newest = self._block_number(params, 1)
        percentiles = params[2] if len(params) > 2 else None
        return {
            "oldestBlock": hex(newest - blocks + 1),
            "baseFeePerGas": [hex(self._chain.base_fee_wei)] * (blocks + 1),
            "gasUsedRatio": [0.5] * blocks,
            "reward": [[hex(TIP_WEI) for _ in percentiles]] * blocks if percentiles else None,
        }

    def _block(self, params: Params) -> Any:
        number = self._block_number(params, 0)
        if number > self._height():
            return None
        return block_json(self._chain, number, full=len(params) > 1 and params[1] is True)

    def _transaction_count(self, params: Params) -> Any:
        address = _address(params, 0)
        tag = params[1] if len(params) > 1 else "latest"
        if isinstance(tag, str) and tag[:2] == "0x":
            return hex(self._chain.state.nonce_at(address, self._block_number(params, 1)))
        return hex(self._chain.nonce(address, pending=tag == "pending"))

    def _transaction(self, params: Params) -> Any:
        tx = self._known(params)
        return None if tx is None or tx.status == DROPPED else transaction_json(self._chain, tx)

    def _receipt(self, params: Params) -> Any:
        tx = self._known(params)
        return None if tx is None or tx.status != MINED else receipt_json(self._chain, tx)

    def _known(self, params: Params) -> ChainTx | None:
        """A transaction, unless it is of a block that is still to come (a settlement's)."""
        tx = self._chain.state.transaction(_text(params, 0).lower())
        return tx if tx is None or tx.block <= self._height() else None

    def _logs(self, params: Params) -> Any:
        wanted = params[0] if params and isinstance(params[0], dict) else {}
        if "blockHash" in wanted:
            raise RpcError(_PARAMS, "the sandbox finds logs by block number, not by blockHash")
        low = self._block_number([wanted.get("fromBlock", "latest")], 0)
        high = self._block_number([wanted.get("toBlock", "latest")], 0)
        if high - low > LOG_BLOCKS_MAX:
            raise RpcError(_SERVER, f"exceed maximum block range: {LOG_BLOCKS_MAX}")
        mined = self._chain.state.mined_between(low, min(high, self._height()))
        found = (log for tx in mined for log in logs_json(self._chain, tx))
        return [log for log in found if log_matches(log, wanted)]

    def _call(self, params: Params) -> Any:
        sender, to, call_data = _message(params)
        self._replay(params, sender, to, call_data)
        try:
            if not is_contract(to) or not call_data:
                return "0x"
            call = self._write(to, call_data)
            if call is None:
                return "0x" + self._chain.execution.read(to, call_data).hex()
            self._chain.execution.simulate(sender, call)
            return _TRUE if isinstance(call, Approve) else "0x"
        except Reverted as undone:
            raise _reverted(undone) from undone

    @staticmethod
    def _write(to: str, call_data: bytes) -> ChainCall | None:
        """The call that would change something; ``None`` for a view."""
        try:
            return call_of(to, call_data)
        except Reverted:
            return None

    def _replay(self, params: Params, sender: str, to: str, call_data: bytes) -> None:
        """Revert again what was reverted in the block asked about, as its state would."""
        if len(params) < 2 or not isinstance(params[1], str) or params[1][:2] != "0x":
            return
        number = self._block_number(params, 1)
        for tx in self._chain.state.mined_between(number, number + 1):
            if not tx.raw:
                continue
            made = transaction_json(self._chain, tx)
            same = (made["from"], made["to"], made["input"]) == (sender, to, "0x" + call_data.hex())
            if same and not tx.succeeded and tx.revert:
                payload = bytes.fromhex(tx.revert[2:])
                words = revert_words(payload) if payload[:4] == ERROR_TEXT else ""
                raise _reverted(Reverted(payload, words))

    def _estimate_gas(self, params: Params) -> Any:
        sender, to, call_data = _message(params)
        try:
            call = call_of(to, call_data)
            self._chain.execution.simulate(sender, call)
        except Reverted as undone:
            raise _reverted(undone) from undone
        return hex(self._chain.execution.gas(call))

    def _send(self, params: Params) -> Any:
        try:
            return self._chain.send(_text(params, 0), self._now_ns())
        except PoolRefused as refusal:
            raise RpcError(_SERVER, str(refusal)) from refusal

    def _block_number(self, params: Params, index: int) -> int:
        tag = params[index] if len(params) > index and params[index] is not None else "latest"
        if tag == "earliest":
            return self._chain.height(0)
        if tag in {"latest", "pending", "safe", "finalized"}:
            return self._height()
        return _number([tag], 0)


# --- reading parameters ------------------------------------------------------------------------


def _failure(number: Any, error: RpcError) -> dict[str, Any]:
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.error_data:
        told["data"] = error.error_data
    return {"jsonrpc": "2.0", "id": number, "error": told}


def _reverted(undone: Reverted) -> RpcError:
    words = f": {undone.text}" if undone.text else ""
    return RpcError(_REVERT, f"execution reverted{words}", "0x" + undone.payload.hex())


def _text(params: Params, index: int) -> str:
    if len(params) <= index:
        raise RpcError(_PARAMS, f"missing value for required argument {index}")
    if not isinstance(params[index], str):
        raise RpcError(_PARAMS, f"invalid argument {index}: json: cannot unmarshal into a string")
    return str(params[index])


def _number(params: Params, index: int) -> int:
    if len(params) > index and type(params[index]) is int:
        return int(params[index])
    text = _text(params, index)
    try:
        return int(text, 16) if text[:2] == "0x" else int(text)
    except ValueError:
        raise RpcError(_PARAMS, f"invalid argument {index}: hex string {text!r}") from None


def _address(params: Params, index: int) -> str:
    try:
        return checksum_address(_text(params, index))
    except SigningError:
        raise RpcError(_PARAMS, f"invalid argument {index}: not an address") from None


def _message(params: Params) -> tuple[str, str, bytes]:
    """Sender, contract and call data of a call that is not signed."""
    message = params[0] if params and isinstance(params[0], dict) else {}
    text = message.get("input") or message.get("data") or "0x"
    sender = message.get("from") or "0x" + "00" * 20
    try:
        call_data = bytes.fromhex(str(text).removeprefix("0x"))
    except ValueError:
        raise RpcError(_PARAMS, "invalid argument 0: json: invalid hex string") from None
    return _address([sender], 0), _address([message.get("to")], 0), call_data
