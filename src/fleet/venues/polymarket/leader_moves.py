"""How followed wallets' tokens changed without a trade, read from a whole receipt. Pure.

A transfer alone does not say why it happened: the adapters split, merge, redeem and convert on
their users' behalf, and the events of the ledger then name the adapter, not the user. So every log
of the transaction is read, and the kind follows from what the wallet gave and got:

    an exchange moved the tokens, or filled an order of the wallet here    nothing: a trade told it
    every counterparty is somebody else's wallet                           TRANSFER
    ``PositionsConverted`` here, or tokens both gained and given up        CONVERT
    tokens gained                                                          SPLIT
    given up, ``PayoutRedemption`` here and no merge                       REDEEM
    given up, a merge here and no redemption                               MERGE
    given up, neither or both: the same of two tokens for as much cash     MERGE, else REDEEM

A wallet that does several of these in one transaction is told their sum under one kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fleet.domain.events import LeaderMoved, MoveKind
from fleet.domain.instruments import InstrumentId
from fleet.venues.polymarket.leader_logs import (
    BASE_TO_UNITS,
    ChainLog,
    LeaderLogs,
    Transfer,
    address_in,
    net_changes,
    words,
)

CASH_MOVED: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""``Transfer(address,address,uint256)`` of an ERC-20 token."""
CONVERTED: Final = "0xb03d19dddbc72a87e735ff0ea3b57bef133ebe44e1894284916a84044deb367e"
MERGED: Final = frozenset(
    {
        "0x6f13ca62553fcc2bcd2372180a43949c1e4cebba603901ede2f4e14f36b282ca",  # CTF
        "0xba33ac50d8894676597e6e35dc09cff59854708b642cd069d21eb9c7ca072a04",  # NegRiskAdapter
    }
)
REDEEMED: Final = frozenset(
    {
        "0x2682012a4a4f1973119f1c9b90745d1bd91fa2bab387344f044cb3586864d18d",  # CTF
        "0x9140a6a270ef945260c03894b3c6b3b2695e9d5101feef0ff24fec960cfd3224",  # NegRiskAdapter
    }
)
_NOBODY: Final = "0x" + "00" * 20


def moves_of(
    reader: LeaderLogs, receipt: Sequence[ChainLog], *, ts_event: int, ts_recv: int
) -> list[LeaderMoved]:
    """What one transaction did to the wallets ``reader`` follows. Raises ``LogMalformed``."""
    transfers = [(log, t) for log in receipt if (t := reader.transfer(log)) is not None]
    traded = {
        reader.wallet(log.topics[2])
        for log in receipt
        if reader.is_fill(log) and len(log.topics) == 4
    }
    found = []
    for wallet in reader.wallets:
        name = wallet.lower()
        ours = [
            (log, t)
            for log, t in transfers
            if name in {t.giver, t.taker} and not reader.is_settlement(t)
        ]
        net = net_changes((t for _, t in ours), wallet)
        if wallet in traded or not net:
            continue
        first, transfer = ours[0]
        # One log may be a move of two wallets, given by one and got by the other.
        both = transfer.taker == name and reader.follows(transfer.giver)
        found.append(
            LeaderMoved(
                ts_event=ts_event,
                ts_recv=ts_recv,
                sighting_id=first.sighting_id + (":to" if both else ""),
                wallet=wallet,
                kind=_kind(reader, receipt, [t for _, t in ours], net, name),
                changes=tuple(
                    (token, amount * BASE_TO_UNITS) for token, amount in sorted(net.items())
                ),
                block=first.number,
                block_hash=first.block_hash.lower(),
            )
        )
    return found


def _kind(
    reader: LeaderLogs,
    receipt: Sequence[ChainLog],
    transfers: Sequence[Transfer],
    net: Mapping[InstrumentId, int],
    name: str,
) -> MoveKind:
    contracts = reader.contracts
    ours = {a.lower() for a in (*contracts.adapters, *contracts.ledgers)} | {_NOBODY}
    if not any(({t.giver, t.taker} - {name}) & ours for t in transfers):
        return MoveKind.TRANSFER
    events = _events(receipt, ours)
    amounts = list(net.values())
    gained = any(amount > 0 for amount in amounts)
    given = any(amount < 0 for amount in amounts)
    if CONVERTED in events or (gained and given):
        return MoveKind.CONVERT
    if gained:
        return MoveKind.SPLIT
    merged, redeemed = bool(events & MERGED), bool(events & REDEEMED)
    if merged is not redeemed:
        return MoveKind.MERGE if merged else MoveKind.REDEEM
    cash = _cash(receipt, contracts.cash.lower(), name)
    alike = len(amounts) == 2 and amounts[0] == amounts[1] == -cash
    return MoveKind.MERGE if alike else MoveKind.REDEEM


def _events(receipt: Iterable[ChainLog], believed: set[str]) -> set[str]:
    """The first topics of what ledgers and adapters said."""
    return {
        log.topics[0].lower() for log in receipt if log.topics and log.address.lower() in believed
    }


def _cash(receipt: Iterable[ChainLog], at: str, name: str) -> int:
    """The wallet's net change of pUSD, in base units."""
    net = 0
    for log in receipt:
        if log.address.lower() != at or len(log.topics) != 3 or log.topics[0] != CASH_MOVED:
            continue
        (amount,) = words(log.data, 1)
        giver, taker = address_in(log.topics[1]), address_in(log.topics[2])
        net += amount * (int(taker == name) - int(giver == name))
    return net
