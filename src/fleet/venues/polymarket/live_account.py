"""The venue's books as the journal keeps them: totals that can be compared to the last unit.

Theory of operation. The journal books a fill when it is MATCHED; the chain moves when it is MINED.
So what the venue holds is counted as *balance plus what every unmined trade of ours will move*: the
two are the same moment then, whether a trade is mined or fails. Balances and trades cannot be read
in one request, so trades are read before and after the balances, and only when no trade appeared or
moved in between does the reading count.

Balances come from ``/balance-allowance``, which the venue caches: it is told to read the chain
again first. It may be told so 50 times in 10 s, so a wallet of many tokens is read from the chain
itself, hundreds in one call; a node that does not answer leaves the slower way. Which tokens to ask
about: what the journal holds, what recent trades touched, and what the venue itself lists as
positions, so that a token the journal does not know of is a difference and not a blind spot. A list
that cannot be read is an error, never "no tokens".

The opening balance is told as a ``CashDeposited`` whose id names the wallet: a fresh journal adopts
it once. Trades matched before the journal was opened (``adopted_ns``) are in that balance; a later
trade that none of the journal's orders explains is told as the fill of an unknown order, on which
recovery refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId
from fleet.domain.events import SettlementStatus, TradeId
from fleet.domain.instruments import FeeSchedule, InstrumentId, Side
from fleet.domain.units import Cash, Qty
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.contracts import is_position_id
from fleet.venues.polymarket.live_fills import UNMINED, cash_of, fills_of, venue_trade_id
from fleet.venues.polymarket.live_operations import Operations
from fleet.venues.polymarket.live_orders import OrderDesk
from fleet.venues.polymarket.wire_user import UserTrade
from fleet.venues.port import AnswerInvalid, VenueError
from fleet.venues.transport import JsonClient

READINGS: Final = 30
PAUSE_S: Final = 0.5
"""Together longer than an operation takes from mined to final (three blocks, 6 s)."""
PAGE: Final = 500
PAGES_MAX: Final = 1_000
PARALLEL: Final = 8
STRANGER: Final = "unknown-"
OPENING: Final = "opening-"
Survey = Callable[[], Awaitable[list[UserTrade]]]
HeldTokens = Callable[[], Awaitable[Collection[InstrumentId]]]
ChainTokens = Callable[[Sequence[InstrumentId]], Awaitable[Mapping[InstrumentId, Qty]]]
MANY: Final = 20
"""Tokens that are asked of the venue one by one; 50 refreshes in 10 s are allowed (reference 5)."""


class _Position(msgspec.Struct):
    token_id: InstrumentId


class _Pagination(msgspec.Struct):
    next_cursor: str | None = None


class _Positions(msgspec.Struct):
    data: list[_Position]
    pagination: _Pagination | None = None


async def held_tokens(data_api: JsonClient, wallet: str) -> set[InstrumentId]:
    """The tokens the Data API lists for a wallet (up to 5 s old). Raises ``VenueError``."""
    found: set[InstrumentId] = set()
    params = {"user": wallet, "limit": str(PAGE)}
    for _ in range(PAGES_MAX):
        page = await data_api.get("/v2/positions", _Positions, params)
        found.update(row.token_id for row in page.data)
        cursor = page.pagination.next_cursor if page.pagination is not None else None
        if not cursor:
            return found
        params = {**params, "cursor": cursor}
    raise AnswerInvalid(f"/v2/positions: more than {PAGES_MAX} pages")


def opening_id(wallet: str) -> str:
    """The id of the deposit that is a wallet's balance when its journal was begun."""
    return OPENING + wallet.lower()


def other_wallets(deposits: Iterable[str], wallet: str) -> list[str]:
    """The wallets, other than ``wallet``, of which a journal with ``deposits`` is the journal."""
    openings = {name for name in deposits if name.startswith(OPENING)} - {opening_id(wallet)}
    return sorted(name.removeprefix(OPENING) for name in openings)


class Account:
    """Reads one wallet's account."""

    def __init__(
        self,
        client: ClobClient,
        wallet: str,
        *,
        held: HeldTokens | None = None,
        on_chain: ChainTokens | None = None,
        adopted_ns: int = 0,
    ) -> None:
        """``held`` lists the wallet's tokens (see ``held_tokens``); without it, strangers' tokens

        go unseen. ``on_chain`` reads many balances from the chain at once. ``adopted_ns`` is the
        moment of the journal's first entry.
        """
        self._client, self._wallet, self._held = client, wallet, held
        self._on_chain = on_chain
        self._adopted_ns = adopted_ns

    async def truth(
        self,
        query: AccountQuery,
        desk: OrderDesk,
        survey: Survey,
        operations: Operations,
        *,
        never_sent: Collection[ClientOrderId],
    ) -> AccountTruth:
        """The books and the facts that answer ``query``. Raises ``VenueError``."""
        older = await self._older(query, desk, await survey())
        for attempt in range(READINGS):
            if attempt:
                await asyncio.sleep(PAUSE_S)
            ended, never_signed, moving = await operations.settle(query.pending_operations)
            if moving:
                continue
            before = await survey()
            touched = {trade.instrument_id for trade in before} | {
                maker.instrument_id for trade in before for maker in trade.maker_fills
            }
            tokens = set(query.tokens) | touched
            if self._held is not None:
                tokens |= set(await self._held())
            cash = await self._cash()
            holdings = await self._holdings(sorted(tokens))
            after = await survey()
            again, _, moving = await operations.settle(query.pending_operations)
            if _states(before) == _states(after) and len(again) == len(ended) and not moving:
                break
        else:
            raise AnswerInvalid(
                f"the account of {self._wallet} moved during {READINGS} readings; ask again when "
                "it is quieter"
            )
        cash, holdings = _with_unmined(after, desk, cash, holdings)
        facts = [
            ev.CashDeposited(deposit_id=opening_id(self._wallet), amount=cash),
            *self._order_facts(query, desk, [*older, *after]),
            *ended,
        ]
        return AccountTruth(
            cash=cash,
            tokens={token: qty for token, qty in holdings.items() if qty},
            facts=tuple(facts),
            absent_orders=tuple(sorted(query.open_orders.intersection(never_sent))),
            absent_operations=never_signed,
        )

    async def _older(
        self, query: AccountQuery, desk: OrderDesk, read: Sequence[UserTrade]
    ) -> list[UserTrade]:
        """The trades the journal has not seen settle and a survey does not reach back to.

        The desk is shown them too: from then on surveys follow them until they are final.
        """
        wanted = {venue_trade_id(trade_id) for trade_id in query.unsettled_trades}
        wanted -= {trade.trade_id for trade in read}
        found: list[UserTrade] = []
        for trade_id in sorted(wanted):
            for trade in await self._client.trades(trade_id=trade_id):
                desk.trade_seen(trade, trade.ts_recv)
                found.append(trade)
        return found

    async def _cash(self) -> Cash:
        await self._client.refresh_balance()
        return Cash((await self._client.balance()).amount)

    async def _holdings(self, tokens: Sequence[InstrumentId]) -> dict[InstrumentId, Qty]:
        slots = asyncio.Semaphore(PARALLEL)
        if self._on_chain is not None and len(tokens) > MANY:
            ours = [token for token in tokens if not is_position_id(int(token))]
            try:
                known = dict(await self._on_chain(ours))
            except VenueError:
                known = {}
            rest = [token for token in tokens if token not in known]
            if len(rest) < len(tokens):
                return {**known, **await self._holdings(rest)}

        async def read(token: InstrumentId) -> Qty:
            position = is_position_id(int(token))
            async with slots:
                await self._client.refresh_balance(token, position=position)
                return Qty((await self._client.balance(token, position=position)).amount)

        amounts = await asyncio.gather(*(read(token) for token in tokens))
        return dict(zip(tokens, amounts, strict=True))

    def _order_facts(
        self, query: AccountQuery, desk: OrderDesk, trades: Iterable[UserTrade]
    ) -> list[ev.Event]:
        """What became of the open orders: acceptance, fills with their settlement, ends."""
        begun: list[ev.Event] = []
        ends: list[ev.Event] = []
        for order_id in sorted(query.open_orders):
            tracked = desk.get(order_id)
            if tracked is None:
                continue
            if tracked.told:
                begun.append(
                    ev.OrderAccepted(
                        ts_event=tracked.ours.submitted_ns, client_order_id=order_id,
                        venue_order_id=tracked.ours.venue_order_id,
                    )
                )  # fmt: skip
            ends += [tracked.last] if tracked.last is not None else []
        fills: list[ev.Event] = []
        latest = {trade.trade_id: trade for trade in trades}
        for trade in sorted(latest.values(), key=lambda trade: trade.ts_event):
            fills += self._trade_facts(query, desk, trade)
        return [*begun, *fills, *ends]

    def _trade_facts(
        self, query: AccountQuery, desk: OrderDesk, trade: UserTrade
    ) -> list[ev.Event]:
        facts: list[ev.Event] = []
        fills = fills_of(trade, desk.ours, desk.fees_of)
        if not fills and trade.ts_event >= self._adopted_ns:
            facts.append(_stranger(trade))
        for fill in fills:
            new = fill.trade_id not in query.known_trades
            if new:
                facts.append(fill)
            if trade.status is not SettlementStatus.MATCHED and (
                new or fill.trade_id in query.unsettled_trades
            ):
                facts.append(
                    ev.FillSettled(
                        ts_event=trade.ts_event, trade_id=fill.trade_id, status=trade.status
                    )
                )
        return facts


def _states(trades: Iterable[UserTrade]) -> set[tuple[TradeId, SettlementStatus]]:
    return {(trade.trade_id, trade.status) for trade in trades}


def _with_unmined(
    trades: Iterable[UserTrade], desk: OrderDesk, cash: Cash, holdings: dict[InstrumentId, Qty]
) -> tuple[Cash, dict[InstrumentId, Qty]]:
    """Balances as if every matched trade were mined."""
    total, held = int(cash), dict(holdings)
    for trade in trades:
        if trade.status not in UNMINED:
            continue
        fills = fills_of(trade, desk.ours, desk.fees_of)
        if not fills:
            raise AnswerInvalid(
                f"trade {trade.trade_id} of an order this journal never sent is not settled yet; "
                "wait for it, and find out who else trades from this wallet"
            )
        for fill in fills:
            total += cash_of(fill)
            sign = 1 if fill.side is Side.BUY else -1
            held[fill.instrument_id] = Qty(held.get(fill.instrument_id, 0) + sign * fill.qty)
    return Cash(total), held


def _stranger(trade: UserTrade) -> ev.OrderFilled:
    """The fill of an order nobody here knows, for recovery to refuse on."""
    return ev.OrderFilled(
        ts_event=trade.ts_event,
        trade_id=trade.trade_id,
        client_order_id=ClientOrderId(f"{STRANGER}{trade.taker_order_id[:18]}"),
        instrument_id=trade.instrument_id,
        side=trade.side,
        price=trade.price,
        qty=trade.qty,
        fee=FeeSchedule().fee(trade.price, trade.qty),
    )
