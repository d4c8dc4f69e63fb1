"""What a call to a contract does on the sandbox's chain: the contracts' rules, told by hand.

``simulate`` says whether a call would be reverted now and with what; ``execute`` carries it out on
the exchange's ledger and returns the event logs its receipt shows. Views (balances, allowances, the
numbering of an outcome set) are ``read``.

The contracts' own words for a refusal, where their source has them: the ledger of outcome tokens
(CTF) reverts with texts, pUSD's transfer with a four-byte error. Whatever else the exchange
refuses is reverted with the exchange's text. What a real chain would do and this one does not: a
split of a neg-risk condition on the standard adapter makes worthless tokens there and is reverted
here.

Invariant: the ledger is changed by ``ExchangePort.operate`` alone, under the transaction's hash, so
carrying the same transaction out again after a crash changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError

from fleet.domain.commands import OperationKind
from fleet.sandbox.chain_state import ChainState
from fleet.sandbox.exchange.contract import (
    ExchangePort,
    OperationRequest,
    OperationView,
    Refused,
)
from fleet.sandbox.listing import Listings
from fleet.venues.polymarket.chain_contracts import (
    ERROR_TEXT,
    TRANSFER_FROM_FAILED,
    Approve,
    ApproveForAll,
    ChainCall,
    Contract,
    Convert,
    Merge,
    Redeem,
    Split,
    adapter,
    selector,
)
from fleet.venues.polymarket.keys import checksum_address, keccak

NOT_APPROVED: Final = "ERC1155: need operator approval for 3rd party transfers."
TOO_FEW: Final = "SafeMath: subtraction overflow"
UNRESOLVED: Final = "result for condition not received yet"
REVERTED: Final = "execution reverted: "
"""How the exchange begins what it refuses; a node says it by itself."""
NOBODY: Final = "0x" + "00" * 20
_GAS: Final[Mapping[type, int]] = {
    Split: 260_000, Merge: 230_000, Redeem: 280_000, Approve: 55_000, ApproveForAll: 50_000,
}  # fmt: skip
"""Gas of each call: our round figures, of the order the venue's transactions burn."""
_CONVERT_GAS: Final = (200_000, 130_000)
"""Of a convert, and of each question of its set."""
PLAIN_GAS: Final = 21_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainMarket:
    """What the chain knows of a condition."""

    tokens: tuple[str, str]
    neg_risk: bool
    resolved: bool


class MarketDirectory(Protocol):
    """Conditions and outcome sets by their ids on chain."""

    def market(self, condition_id: str) -> ChainMarket | None:
        """A condition; ``None`` if it is not known (any more)."""
        ...

    def questions(self, event_market_id: str) -> Sequence[str]:
        """The condition ids of a neg-risk market in the order of their index; empty if unknown."""
        ...


class ListingsDirectory:
    """The directory of what the simulator lists."""

    def __init__(self, listings: Listings) -> None:
        """Look things up in ``listings``, which the simulator moves."""
        self._listings = listings

    def market(self, condition_id: str) -> ChainMarket | None:
        """See ``MarketDirectory``."""
        found = self._listings.by_condition.get(condition_id)
        if found is None:
            return None
        return ChainMarket(
            tokens=found.spec.tokens, neg_risk=found.spec.neg_risk, resolved=found.closed
        )

    def questions(self, event_market_id: str) -> Sequence[str]:
        """See ``MarketDirectory``."""
        for group in self._listings.groups.values():
            if event_market_id and group.event.neg_risk_market_id == event_market_id:
                return [m.spec.condition_id for m in group.markets]
        return ()


class Reverted(Exception):  # noqa: N818 - named for what happened
    """The call was undone; ``payload`` is what it reverted with."""

    def __init__(self, payload: bytes, text: str = "") -> None:
        """Keep both; ``text`` is empty for an error without words."""
        super().__init__(text or "0x" + payload.hex())
        self.payload = payload
        self.text = text


def revert(text: str) -> Reverted:
    """A revert with a text."""
    return Reverted(ERROR_TEXT + abi_encode(["string"], [text]), text)


Log = dict[str, Any]


class ChainExecution:
    """The contracts over one exchange's ledger."""

    def __init__(
        self, state: ChainState, exchange: ExchangePort, directory: MarketDirectory
    ) -> None:
        """Allowances are ``state``'s, tokens and pUSD the ``exchange``'s."""
        self._state, self._exchange, self._directory = state, exchange, directory

    def gas(self, call: ChainCall | None) -> int:
        """What a call burns, if it is not reverted; ``None`` is a transaction without a call."""
        if call is None:
            return PLAIN_GAS
        if isinstance(call, Convert):
            first, each = _CONVERT_GAS
            return first + each * len(self._directory.questions(call.event_market_id))
        return _GAS[type(call)]

    def simulate(self, sender: str, call: ChainCall | None) -> None:
        """Raise ``Reverted`` if the call would be, as things stand."""
        match call:
            case Split():
                self._check_market(call)
                self._check_pusd(sender, call)
            case Merge() | Redeem():
                self._check_market(call)
                self._check_operator(sender, call.neg_risk)
                market = self._directory.market(call.condition_id)
                if market is not None and isinstance(call, Merge):
                    self._check_tokens(sender, market.tokens, call.amount)
                if market is not None and isinstance(call, Redeem) and not market.resolved:
                    raise revert(UNRESOLVED)
            case Convert():
                self._check_convert(sender, call)
            case Approve() | ApproveForAll() | None:
                pass

    def execute(
        self, sender: str, call: ChainCall | None, transaction_hash: str, now_ns: int
    ) -> list[Log]:
        """Carry the call out and return its logs. Raises ``Reverted``, having changed nothing."""
        match call:
            case None:
                return []
            case Approve():
                self._state.approve(sender, call.spender, call.amount)
                topics = [
                    _topic("Approval(address,address,uint256)"),
                    *_words(sender, call.spender),
                ]
                return [_log(Contract.PUSD, topics, ["uint256"], [call.amount])]
            case ApproveForAll():
                ledger, operator = call.ledger, call.operator
                self._state.set_operator(sender, operator, ledger, approved=call.approved)
                topics = [_topic("ApprovalForAll(address,address,bool)"), *_words(sender, operator)]
                return [_log(ledger, topics, ["bool"], [call.approved])]
        done = self._carried_out(sender, transaction_hash)
        if done is None:
            self.simulate(sender, call)
            try:
                self._exchange.operate(_request(sender, call, transaction_hash), now_ns)
            except Refused as refusal:
                raise revert(refusal.text.removeprefix(REVERTED)) from refusal
            done = self._carried_out(sender, transaction_hash)
        if done is None:
            raise RuntimeError(f"the exchange does not tell of operation {transaction_hash}")
        return _operation_logs(sender, call, done)

    def read(self, to: str, call_data: bytes) -> bytes:
        """The answer of a view function. Raises ``Reverted`` for one that is not there."""
        contract = next((c for c in Contract if c.address == to), None)
        view = _VIEWS.get((contract, call_data[:4])) if contract is not None else None
        if view is None:
            raise Reverted(b"")
        name, arguments, result = view
        try:
            values = abi_decode(arguments, call_data[4:])
        except DecodingError:
            raise Reverted(b"") from None
        return abi_encode([result], [self._view(to, name, values)])

    # --- rules -------------------------------------------------------------------------------

    def _check_market(self, call: Split | Merge | Redeem) -> None:
        market = self._directory.market(call.condition_id)
        if market is not None and market.neg_risk != call.neg_risk:
            kind = "neg-risk" if market.neg_risk else "standard"
            raise revert(f"sandbox: {call.condition_id} is {kind}; use the other adapter")

    def _check_pusd(self, sender: str, call: Split) -> None:
        spender = adapter(neg_risk=call.neg_risk).address
        allowed = self._state.allowance(sender, spender)
        if allowed < call.amount or self._exchange.cash(sender) < call.amount:
            raise Reverted(TRANSFER_FROM_FAILED)

    def _check_operator(self, sender: str, neg_risk: bool) -> None:  # noqa: FBT001
        operator = adapter(neg_risk=neg_risk).address
        if not self._state.approved(sender, operator):
            raise revert(NOT_APPROVED)

    def _check_tokens(self, sender: str, tokens: Sequence[str], amount: int) -> None:
        held = self._exchange.tokens(sender)
        if any(held.get(token, 0) < amount for token in tokens):
            raise revert(TOO_FEW)

    def _check_convert(self, sender: str, call: Convert) -> None:
        questions = self._directory.questions(call.event_market_id)
        if not questions:
            raise Reverted(selector("MarketNotPrepared", ()))
        if not 0 < call.index_set < 1 << len(questions):
            raise Reverted(selector("InvalidIndexSet", ()))
        self._check_operator(sender, neg_risk=True)
        markets = [self._directory.market(condition) for condition in questions]
        burned = [m for i, m in enumerate(markets) if call.index_set >> i & 1 and m is not None]
        self._check_tokens(sender, [m.tokens[1] for m in burned], call.amount)

    # --- looking up --------------------------------------------------------------------------

    def _carried_out(self, wallet: str, transaction_hash: str) -> OperationView | None:
        known = reversed(self._exchange.operations(wallet))
        return next((o for o in known if o.transaction_hash == transaction_hash), None)

    def _view(self, to: str, name: str, values: tuple[Any, ...]) -> int | bool | bytes | list[int]:
        match name:
            case "decimals":
                return 6
            case "cash":
                return self._exchange.cash(checksum_address(values[0]))
            case "tokens":
                held = self._exchange.tokens(checksum_address(values[0]))
                return held.get(str(values[1]), 0)
            case "balances":
                pairs = zip(values[0], values[1], strict=False)
                return [self._exchange.tokens(checksum_address(w)).get(str(t), 0) for w, t in pairs]
            case "allowance":
                return self._state.allowance(*(checksum_address(v) for v in values))
            case "approved":
                owner, operator = (checksum_address(v) for v in values)
                return self._state.approved(owner, operator, Contract(to))
            case "count":
                return len(self._directory.questions("0x" + values[0].hex()))
            case _:
                return self._condition(values[0])

    def _condition(self, question_id: bytes) -> bytes:
        """The condition of a question: the market's id with the index in its last byte."""
        questions = self._directory.questions("0x" + question_id[:-1].hex() + "00")
        if question_id[-1] < len(questions):
            return bytes.fromhex(questions[question_id[-1]][2:])
        # The contract computes an id for a question nobody has asked, too.
        return keccak(bytes.fromhex(Contract.NEG_RISK_ADAPTER.address[2:]) + question_id)


_Views = dict[tuple[Contract, bytes], tuple[str, tuple[str, ...], str]]


def _views() -> _Views:
    rows = (
        (Contract.PUSD, "decimals", (), "uint8", "decimals"),
        (Contract.PUSD, "balanceOf", ("address",), "uint256", "cash"),
        (Contract.PUSD, "allowance", ("address", "address"), "uint256", "allowance"),
        (Contract.CTF, "balanceOf", ("address", "uint256"), "uint256", "tokens"),
        (Contract.CTF, "balanceOfBatch", ("address[]", "uint256[]"), "uint256[]", "balances"),
        (Contract.CTF, "isApprovedForAll", ("address", "address"), "bool", "approved"),
        (Contract.POSITION_MANAGER, "isApprovedForAll", ("address", "address"), "bool", "approved"),
        (Contract.NEG_RISK_ADAPTER, "getQuestionCount", ("bytes32",), "uint256", "count"),
        (Contract.NEG_RISK_ADAPTER, "getConditionId", ("bytes32",), "bytes32", "condition"),
    )
    return {
        (at, selector(name, args)): (what, args, result) for at, name, args, result, what in rows
    }


_VIEWS: Final = _views()


def _request(
    sender: str, call: Split | Merge | Redeem | Convert, transaction_hash: str
) -> OperationRequest:
    if isinstance(call, Convert):
        return OperationRequest(
            wallet=sender,
            kind=OperationKind.CONVERT,
            amount=call.amount,
            event_market_id=call.event_market_id,
            index_set=call.index_set,
            transaction_hash=transaction_hash,
        )
    kinds = {Split: OperationKind.SPLIT, Merge: OperationKind.MERGE, Redeem: OperationKind.REDEEM}
    return OperationRequest(
        wallet=sender,
        kind=kinds[type(call)],
        amount=0 if isinstance(call, Redeem) else call.amount,
        condition_id=call.condition_id,
        transaction_hash=transaction_hash,
    )


def _operation_logs(
    sender: str, call: Split | Merge | Redeem | Convert, done: OperationView
) -> list[Log]:
    """The transfers of an operation as the tokens' contracts tell them."""
    neg_risk = isinstance(call, Convert) or call.neg_risk
    through = adapter(neg_risk=neg_risk).address
    logs: list[Log] = []
    if done.cash:
        route = (sender, Contract.PUSD.address) if done.cash < 0 else (NOBODY, sender)
        topics = [_topic("Transfer(address,address,uint256)"), *_words(*route)]
        logs.append(_log(Contract.PUSD, topics, ["uint256"], [abs(done.cash)]))
    for sign, route in ((-1, (sender, through)), (1, (through, sender))):
        moved = {int(t): abs(n) for t, n in done.tokens.items() if n * sign > 0}
        if moved:
            topics = [
                _topic("TransferBatch(address,address,address,uint256[],uint256[])"),
                *_words(through, *route),
            ]
            values = [list(moved), list(moved.values())]
            logs.append(_log(Contract.CTF, topics, ["uint256[]", "uint256[]"], values))
    if isinstance(call, Convert):
        topics = [
            _topic("PositionsConverted(address,bytes32,uint256,uint256)"),
            *_words(through),
            call.event_market_id,
            f"0x{call.index_set:064x}",
        ]
        logs.append(_log(Contract.NEG_RISK_ADAPTER, topics, ["uint256"], [call.amount]))
    return logs


def _log(at: Contract, topics: list[str], types: list[str], values: list[Any]) -> Log:
    return {"address": at.address, "topics": topics, "data": "0x" + abi_encode(types, values).hex()}


def _topic(event: str) -> str:
    return "0x" + keccak(event.encode()).hex()


def _words(*addresses: str) -> list[str]:
    return ["0x" + "00" * 12 + address[2:].lower() for address in addresses]
