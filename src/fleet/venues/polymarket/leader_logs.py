"""Logs of Polymarket's exchanges and token ledgers, read as what followed wallets did. Pure.

``maker`` of an ``OrderFilled`` (topic 2) is the owner of *that* order, resting or not; in the
taker's own log ``taker`` (topic 3) is the exchange itself. So one filter on topic 2 tells each fill
of a wallet once, whichever side of the match it stood on, and the fills of its counterparties
never. A wallet that trades with itself has two orders filled; both are told and cancel out.

Amounts are base units (1e-6). The fee is no part of the price. Layouts: docs/polymarket.md and the
source of ctf-exchange (V1) and ctf-exchange-v2, read 2026-11. A log that does not have its layout
raises ``LogMalformed``; one of a contract or wallet nobody asked for is ``None``: nodes have sent
such logs, and nothing is ever guessed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fleet.domain.events import LeaderTraded
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Price, Qty
from fleet.venues.polymarket.contracts import POLYGON, Contract, Exchange, exchange_address
from fleet.venues.polymarket.keys import checksum_address

ORDER_FILLED: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
ORDER_FILLED_V1: Final = "0xd0a08e8c493f9c94f29311604c9de1b4e8c8d4c06bd0c789af57f2d65bfec0f6"
TRANSFER_SINGLE: Final = "0xc3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62"
TRANSFER_BATCH: Final = "0x4a39dc06d4c0dbc64b70af90fd698a233a518aa5d07e595d983b8c0526c8f7fb"
"""First topics, as published; a test computes them from the events' signatures."""
BASE_TO_UNITS: Final = SCALE // 1_000_000
WORD: Final = 64
"""Hex digits of a word of call data."""
_FILLED_WORDS, _FILLED_WORDS_V1 = 7, 5
NS: Final = 1_000_000_000


class LogMalformed(ValueError):  # noqa: N818 - named for what was found
    """A log that does not have the layout of its event."""


class ChainLog(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """A log as nodes give it: quantities and bytes as 0x hex. Waiting logs (nulls) do not decode.

    ``block_timestamp`` came with geth 1.16; older nodes leave it out.
    """

    address: str
    topics: tuple[str, ...]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    log_index: str
    removed: bool = False
    block_timestamp: str | None = None

    @property
    def number(self) -> int:
        """The block's number. Raises ``LogMalformed``."""
        return quantity(self.block_number)

    @property
    def time_ns(self) -> int:
        """The block's time; 0 if the node did not say."""
        return quantity(self.block_timestamp) * NS if self.block_timestamp else 0

    @property
    def sighting_id(self) -> str:
        """Transaction hash and log index: unique on one chain."""
        return f"{self.transaction_hash.lower()}:{quantity(self.log_index)}"


def _exchanges() -> tuple[str, ...]:
    return tuple(exchange_address(POLYGON, kind) for kind in Exchange)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderContracts:
    """Whose logs are believed. The defaults are Polygon's; a test listens to contracts of its own.

    The V1 exchanges have not traded since 2026-04-28; name them to read history.
    """

    exchanges: tuple[str, ...] = field(default_factory=_exchanges)
    exchanges_v1: tuple[str, ...] = ()
    ledgers: tuple[str, ...] = (Contract.CTF.address, Contract.POSITION_MANAGER.address)
    adapters: tuple[str, ...] = (
        Contract.CTF_ADAPTER.address,
        Contract.NEG_RISK_CTF_ADAPTER.address,
        Contract.NEG_RISK_ADAPTER.address,
    )
    cash: str = Contract.PUSD.address


EXCHANGES_V1: Final = (
    "0x4bFb41d5B3570DeFd03C39a9A4D8dE6Bd8B8982E",
    "0xC5d563A36AE78145C45a50134d48A1215220f80a",
)
"""The standard and the neg-risk exchange before CLOB V2; for history alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Outcome tokens moved between two addresses (lower case); amounts are base units."""

    operator: str
    giver: str
    taker: str
    amounts: tuple[tuple[InstrumentId, int], ...]


class LeaderLogs:
    """Reads the logs of some wallets."""

    def __init__(self, wallets: Iterable[str], contracts: LeaderContracts | None = None) -> None:
        """Read for ``wallets`` in any case. Raises ``SigningError`` for what is no address."""
        self.contracts: Final = contracts or LeaderContracts()
        names = dict.fromkeys(checksum_address(wallet) for wallet in wallets)
        self.wallets: Final = tuple(names)
        self._wallet_of: Final = {topic_of(name): name for name in names}
        self._exchanges: Final = frozenset(a.lower() for a in self.contracts.exchanges)
        self._exchanges_v1: Final = frozenset(a.lower() for a in self.contracts.exchanges_v1)
        self._settlers: Final = self._exchanges | self._exchanges_v1
        self._ledgers: Final = frozenset(a.lower() for a in self.contracts.ledgers)

    def filters(self) -> list[dict[str, Any]]:
        """What to subscribe to: fills by owner, and transfers by giver and by taker."""
        contracts, wallets = self.contracts, list(self._wallet_of)
        events = [ORDER_FILLED, *([ORDER_FILLED_V1] if contracts.exchanges_v1 else [])]
        moves = [TRANSFER_SINGLE, TRANSFER_BATCH]
        return [
            {
                "address": [*contracts.exchanges, *contracts.exchanges_v1],
                "topics": [events, None, wallets],
            },
            {"address": list(contracts.ledgers), "topics": [moves, None, wallets]},
            {"address": list(contracts.ledgers), "topics": [moves, None, None, wallets]},
        ]

    def wallet(self, topic: str) -> str | None:
        """The followed wallet a topic names, checksummed."""
        return self._wallet_of.get(topic.lower())

    def follows(self, address: str) -> bool:
        """Whether a lower-case address is one of the wallets."""
        return topic_of(address) in self._wallet_of

    def is_fill(self, log: ChainLog) -> bool:
        """Whether a log says it is an order's fill."""
        return bool(log.topics) and log.topics[0].lower() in {ORDER_FILLED, ORDER_FILLED_V1}

    def trade(self, log: ChainLog, *, ts_event: int, ts_recv: int) -> LeaderTraded | None:
        """A fill as a fact; ``None`` if it is nobody's we follow. Raises ``LogMalformed``."""
        topics = log.topics
        if len(topics) != 4:
            raise LogMalformed(f"a fill has 4 topics, not {len(topics)}")
        at, event = log.address.lower(), topics[0].lower()
        wallet = self.wallet(topics[2])
        believed = self._exchanges if event == ORDER_FILLED else self._exchanges_v1
        if wallet is None or at not in believed:
            return None
        read = _filled if event == ORDER_FILLED else _filled_v1
        side, token, cash, shares = read(log.data)
        if shares <= 0 or cash < 0 or cash > shares or token <= 0:
            raise LogMalformed(f"{shares} base units of {token} for {cash} is no trade")
        return LeaderTraded(
            ts_event=ts_event,
            ts_recv=ts_recv,
            sighting_id=log.sighting_id,
            wallet=wallet,
            instrument_id=InstrumentId(str(token)),
            side=side,
            # The nearest 1e-8; shares are never 0 here.
            price=Price((2 * cash * SCALE + shares) // (2 * shares)),
            qty=Qty(shares * BASE_TO_UNITS),
            maker=address_in(topics[3]) != at,
            block=log.number,
            block_hash=log.block_hash.lower(),
        )

    def transfer(self, log: ChainLog) -> Transfer | None:
        """A transfer of outcome tokens; ``None`` for another contract's or event's log.

        Raises ``LogMalformed``.
        """
        topics = log.topics
        if log.address.lower() not in self._ledgers or not topics:
            return None
        event = topics[0].lower()
        if event not in {TRANSFER_SINGLE, TRANSFER_BATCH}:
            return None
        if len(topics) != 4:
            raise LogMalformed(f"a transfer has 4 topics, not {len(topics)}")
        amounts = _single(log.data) if event == TRANSFER_SINGLE else _batch(log.data)
        operator, giver, taker = (address_in(topic) for topic in topics[1:])
        return Transfer(operator=operator, giver=giver, taker=taker, amounts=amounts)

    def is_settlement(self, transfer: Transfer) -> bool:
        """Whether an exchange moved the tokens: that is how a match is settled."""
        return transfer.operator in self._settlers


def topic_of(address: str) -> str:
    """An address as a topic: 32 bytes, lower case."""
    return "0x" + "00" * 12 + address[2:].lower()


def address_in(topic: str) -> str:
    """The address of a topic, lower case. Raises ``LogMalformed``."""
    if len(topic) != 66 or topic[2:26] != "0" * 24:
        raise LogMalformed(f"{topic[:70]!r} is no address in a topic")
    return "0x" + topic[26:].lower()


def quantity(text: str) -> int:
    """A JSON-RPC quantity. Raises ``LogMalformed``."""
    try:
        if text[:2] == "0x":
            return int(text, 16)
    except ValueError:
        pass
    raise LogMalformed(f"{text[:70]!r} is no quantity")


def words(call_data: str, count: int) -> list[int]:
    """Exactly ``count`` words. Raises ``LogMalformed``."""
    if len(call_data) != 2 + count * WORD or call_data[:2] != "0x":
        raise LogMalformed(f"{len(call_data)} characters are not {count} words")
    return _ints(call_data)


def _ints(call_data: str) -> list[int]:
    try:
        return [
            int(call_data[at : at + WORD], 16) for at in range(2, len(call_data) - WORD + 1, WORD)
        ]
    except ValueError as error:
        raise LogMalformed(f"not hex: {call_data[:40]!r}") from error


def _filled(call_data: str) -> tuple[Side, int, int, int]:
    """Side, token, cash and shares of V2: side, token, given, taken, fee, builder, metadata."""
    side, token, given, taken, *_ = words(call_data, _FILLED_WORDS)
    if side == 0:
        return Side.BUY, token, given, taken
    if side == 1:
        return Side.SELL, token, taken, given
    raise LogMalformed(f"side {side} is neither BUY (0) nor SELL (1)")


def _filled_v1(call_data: str) -> tuple[Side, int, int, int]:
    """The same of V1: given asset, taken asset, given, taken, fee; asset 0 is the collateral."""
    gives, takes, given, taken, _ = words(call_data, _FILLED_WORDS_V1)
    if gives == 0 and takes:
        return Side.BUY, takes, given, taken
    if takes == 0 and gives:
        return Side.SELL, gives, taken, given
    raise LogMalformed("exactly one side of a fill is collateral")


def _single(call_data: str) -> tuple[tuple[InstrumentId, int], ...]:
    token, amount = words(call_data, 2)
    return ((InstrumentId(str(token)), amount),)


def _batch(call_data: str) -> tuple[tuple[InstrumentId, int], ...]:
    """Two arrays of equal length: ids and amounts, as Solidity writes them."""
    if call_data[:2] != "0x" or (len(call_data) - 2) % WORD:
        raise LogMalformed("a batch is whole words")
    told = _ints(call_data)
    tokens, amounts = _array(told, 0), _array(told, 1)
    if len(tokens) != len(amounts):
        raise LogMalformed("a batch has as many ids as amounts")
    return tuple(
        (InstrumentId(str(token)), amount) for token, amount in zip(tokens, amounts, strict=True)
    )


def _array(told: Sequence[int], place: int) -> Sequence[int]:
    at, rest = divmod(told[place], 32) if len(told) > 1 else (0, 1)
    if rest or at >= len(told) or told[at] > len(told) - at - 1:
        raise LogMalformed("an array lies outside its log")
    return told[at + 1 : at + 1 + told[at]]


def net_changes(transfers: Iterable[Transfer], wallet: str) -> Mapping[InstrumentId, int]:
    """A wallet's net change of each token in base units, zeros left out."""
    name, net = wallet.lower(), dict[InstrumentId, int]()
    for transfer in transfers:
        sign = int(transfer.taker == name) - int(transfer.giver == name)
        for token, amount in transfer.amounts:
            net[token] = net.get(token, 0) + sign * amount
    return {token: amount for token, amount in net.items() if amount}
