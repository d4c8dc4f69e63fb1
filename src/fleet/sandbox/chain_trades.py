"""The settlement of users' trades as the sandbox's chain shows it: one transaction of logs each.

A match is one transaction of the venue's operator to the exchange that settles the market. It emits
one ``OrderFilled`` for each maker order, one for the taker order (whose ``taker`` is the exchange
itself), then one ``OrdersMatched``; amounts are base units, side 0 is BUY. The anonymous flow has
one address here; what it trades with itself is not on the chain.

A trade is noted when it is MINED, for the next block, so that a block that was read does not change
afterwards; and again when it is CONFIRMED, should the first note have been lost with the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from eth_abi.abi import encode as abi_encode

from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE
from fleet.sandbox.chain_execution import MarketDirectory
from fleet.sandbox.chain_pool import Chain
from fleet.sandbox.exchange.contract import TradeUpdate, TradeView, UserUpdate
from fleet.venues.polymarket.contracts import POLYGON, exchange_address, exchange_for

ORDER_FILLED: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
ORDERS_MATCHED: Final = "0x174b3811690657c217184f89418266767c87e4805d09680c39fc9c031c0cab7c"
"""The events' first topics, as published (reference 7.1)."""
FLOW_ADDRESS: Final = "0x" + "f1" * 20
"""Who the anonymous flow is on the chain."""
_FILLED_TYPES: Final = (
    "uint8", "uint256", "uint256", "uint256", "uint256", "bytes32", "bytes32",
)  # fmt: skip


class TradeWitness:
    """Notes the settlement of trades on one chain."""

    def __init__(self, chain: Chain, directory: MarketDirectory) -> None:
        """``directory`` tells which exchange settles a market."""
        self._chain, self._directory = chain, directory

    def observe(self, updates: Sequence[UserUpdate]) -> None:
        """Take note of what was mined among an exchange's updates."""
        for update in updates:
            if not isinstance(update, TradeUpdate) or not update.trade.transaction_hash:
                continue
            if update.trade.status in {SettlementStatus.MINED, SettlementStatus.CONFIRMED}:
                self._note(update.trade, update.at_ns)

    def _note(self, trade: TradeView, now_ns: int) -> None:
        market = self._directory.market(trade.condition_id)
        neg_risk = market is not None and market.neg_risk
        at = exchange_address(POLYGON, exchange_for(int(trade.token_id), neg_risk=neg_risk))
        block = self._chain.height(now_ns) + 1
        self._chain.state.settle(trade.transaction_hash, block, trade_logs(trade, at))


def trade_logs(trade: TradeView, exchange: str) -> list[dict[str, Any]]:
    """The logs of a match settled by the contract at ``exchange``."""
    taker = trade.maker or FLOW_ADDRESS
    logs = [
        _filled(
            exchange, fill.order_id, (fill.maker or FLOW_ADDRESS, taker), fill.side, fill.token_id,
            (fill.price * fill.size // SCALE, fill.size), 0,
        )
        for fill in trade.makers
    ]  # fmt: skip
    amounts = (trade.cash, trade.size)
    logs.append(
        _filled(
            exchange, trade.taker_order_id, (taker, exchange), trade.side, trade.token_id, amounts,
            trade.fee_amount,
        )
    )  # fmt: skip
    given, taken = amounts if trade.side is Side.BUY else amounts[::-1]
    values = (_side(trade.side), int(trade.token_id), given, taken)
    logs.append(
        {
            "address": exchange,
            "topics": [ORDERS_MATCHED, trade.taker_order_id, _word(taker)],
            "data": "0x" + abi_encode(("uint8", "uint256", "uint256", "uint256"), values).hex(),
        }
    )
    return logs


def _filled(
    exchange: str, order_id: str, parties: tuple[str, str], side: Side, token_id: str,
    cash_and_size: tuple[int, int], fee: int,
) -> dict[str, Any]:  # fmt: skip
    given, taken = cash_and_size if side is Side.BUY else cash_and_size[::-1]
    values = (_side(side), int(token_id), given, taken, fee, bytes(32), bytes(32))
    return {
        "address": exchange,
        "topics": [ORDER_FILLED, order_id, *(_word(party) for party in parties)],
        "data": "0x" + abi_encode(_FILLED_TYPES, values).hex(),
    }


def _side(side: Side) -> int:
    return 0 if side is Side.BUY else 1


def _word(address: str) -> str:
    return "0x" + "00" * 12 + address[2:].lower()
