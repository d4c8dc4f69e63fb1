"""The account's books as the journal keeps them.

Theory of operation. Balances and matches cannot be read in one request, so our matches are read
before and after the balances, and only when none appeared in between does the reading count.

An account holds coins of its owner's too, and several bots may share it, one symbol each. So a
journal owns a *part*: what each coin's balance was, less our own trades, when it was begun is told
as a ``CashDeposited`` of nothing whose id names the coin and the amount (``baseline``), is thereby
durable, and is left out of the books for ever. The part of the cash is ``allocation``; then cash is
the allocation and what our own matches, read from the venue, did to it. Without one (0) it is the
whole balance of the quote asset, and nobody else may trade from the account.

A match after ``adopted_ns`` that none of our orders explains is told as the fill of an unknown
order, on which recovery refuses: somebody else trades our symbol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from fleet.clock import NS_PER_MS
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Cash, Price, Qty, format_units, notional_down, notional_up, parse_qty
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.crypto.catalog import SymbolRules
from fleet.venues.crypto.client import PAGE, BinanceClient
from fleet.venues.crypto.orders import OrderDesk, Phase
from fleet.venues.crypto.wire import AccountRow, TradeRow, exact
from fleet.venues.port import AnswerInvalid

READINGS: Final = 20
PAUSE_S: Final = 0.25
STRANGER: Final = "unknown-"


def opening_id(uid: int) -> str:
    """The id of the deposit that is the account's cash when its journal was begun."""
    return f"opening-binance-{uid}"


def baseline_prefix(uid: int, asset: str) -> str:
    """What the id begins with that says how much of a coin is not the journal's."""
    return f"holding-binance-{uid}-{asset}="


def other_accounts(deposits: Iterable[str], uid: int) -> list[str]:
    """The accounts, other than ``uid``, of which a journal with ``deposits`` is the journal."""
    openings = {d for d in deposits if d.startswith("opening-")} - {opening_id(uid)}
    return sorted(name.removeprefix("opening-") for name in openings)


class Account:
    """Reads one journal's part of an account."""

    def __init__(
        self, client: BinanceClient, rules: Mapping[InstrumentId, SymbolRules], desk: OrderDesk, *,
        quote: str, adopted_ns: int, deposits: Iterable[str] = (), allocation: Cash = Cash(0),
    ) -> None:  # fmt: skip
        """``adopted_ns`` is the moment of the journal's first entry, ``deposits`` its ids."""
        self._client, self._rules, self._desk, self._quote = client, rules, desk, quote
        self._since_ms = adopted_ns // NS_PER_MS
        self._deposits = set(deposits)
        self._allocation = allocation
        self._trades: dict[InstrumentId, list[TradeRow]] = {token: [] for token in rules}
        self._next_trade: dict[InstrumentId, int] = dict.fromkeys(rules, 0)
        self._strange: dict[InstrumentId, set[int]] = {token: set() for token in rules}

    async def survey(self, tokens: Iterable[InstrumentId]) -> None:
        """Read the new matches of some symbols and show them to the desk. Raises ``VenueError``."""
        for token in tokens:
            symbol = self._rules[token].symbol
            while True:
                page = await self._client.trades(symbol, from_id=self._next_trade[token])
                # What was before the journal is in its opening balances.
                self._trades[token] += [row for row in page if row.time >= self._since_ms]
                self._next_trade[token] = max(
                    [self._next_trade[token], *(row.id + 1 for row in page)]
                )
                if len(page) < PAGE:
                    break
            await self._name_orders(token)

    async def _name_orders(self, token: InstrumentId) -> None:
        """Find out whose orders the matches are of, and show them to the desk."""
        symbol, desk = self._rules[token].symbol, self._desk
        strange = self._strange[token]
        while nameless := {
            row.order_id for row in self._trades[token]
            if desk.of_order(symbol, row.order_id) is None
        } - strange:  # fmt: skip
            orders = await self._client.orders(symbol, from_id=min(nameless))
            for order in orders:
                if desk.bind(symbol, order) is None:
                    strange.add(order.order_id)
            if not nameless & {order.order_id for order in orders}:
                raise AnswerInvalid(f"{symbol}: orders {sorted(nameless)[:3]} have no order row")
        now_ns = self._client.venue_ns()
        for row in self._trades[token]:
            tracked = desk.of_order(symbol, row.order_id)
            if tracked is not None and row.id not in tracked.trades:
                desk.matched(tracked, [row], now_ns)

    async def truth(
        self, query: AccountQuery, *, never_sent: Iterable[ClientOrderId]
    ) -> AccountTruth:
        """The books and the facts that answer ``query``. Raises ``VenueError``."""
        for attempt in range(READINGS):
            if attempt:
                await asyncio.sleep(PAUSE_S)
            await self.survey(self._rules)
            before = self._count()
            account = await self._client.account()
            await self.survey(self._rules)
            if before == self._count():
                break
        else:
            raise AnswerInvalid(
                f"the account moved during {READINGS} readings; ask again when it is quieter"
            )
        totals = {
            row.asset: exact(row.free, row.asset) + exact(row.locked, row.asset)
            for row in account.balances
        }
        cash, held, opened = self._part(account, totals)
        return AccountTruth(
            cash=cash,
            tokens={token: qty for token, qty in held.items() if qty},
            facts=(*opened, *self._facts(query)),
            absent_orders=tuple(sorted(query.open_orders.intersection(never_sent))),
            # There are none at this venue, so whatever was asked for was never had.
            absent_operations=tuple(sorted(query.pending_operations)),
        )

    def _count(self) -> dict[InstrumentId, int]:
        return {token: len(rows) for token, rows in self._trades.items()}

    def _part(
        self, account: AccountRow, totals: Mapping[str, int]
    ) -> tuple[Cash, dict[InstrumentId, Qty], list[ev.Event]]:
        """Our cash and coins, and the deposits that say what was there before."""
        opened: list[ev.Event] = []
        spent = 0
        held: dict[InstrumentId, Qty] = {}
        for token, rules in self._rules.items():
            fills = [fill for row in self._trades[token] for fill in self._fills(token, row)]
            moved = sum(f.qty if f.side is Side.BUY else -f.qty for f in fills)
            spent += sum(_cash_of(fill) for fill in fills)
            prefix = baseline_prefix(account.uid, rules.base)
            names = [name for name in self._deposits if name.startswith(prefix)]
            total = totals.get(rules.base, 0)
            if not names:
                names = [prefix + format_units(total - moved)]
                self._deposits.update(names)
            opened.append(ev.CashDeposited(deposit_id=names[0], amount=Cash(0)))
            held[token] = Qty(total - parse_qty(names[0].removeprefix(prefix)))
        cash = Cash(self._allocation + spent) if self._allocation else Cash(
            totals.get(self._quote, 0))  # fmt: skip
        opening = Cash(cash - spent)
        opened.insert(0, ev.CashDeposited(deposit_id=opening_id(account.uid), amount=opening))
        return cash, held, opened

    def _fills(self, token: InstrumentId, row: TradeRow) -> list[ev.OrderFilled]:
        tracked = self._desk.of_order(self._rules[token].symbol, row.order_id)
        if tracked is None:
            return []
        return [self._desk.facts_of(tracked, row, row.time * NS_PER_MS)[0]]

    def _facts(self, query: AccountQuery) -> list[ev.Event]:
        """What became of the open orders, and every match of ours: oldest first."""
        begun: list[ev.Event] = []
        ends: list[ev.Event] = []
        for name in sorted(query.open_orders):
            tracked = self._desk.get(name)
            if tracked is None:
                continue
            if tracked.told:
                begun.append(ev.OrderAccepted(
                    ts_event=tracked.sent_ns, client_order_id=name,
                    venue_order_id=tracked.wire_id))  # fmt: skip
            if tracked.phase is Phase.CLOSED and tracked.last is not None:
                ends.append(tracked.last)
        fills: list[ev.Event] = []
        rows = [(row.time, row.id, token, row) for token in self._rules for row in
                self._trades[token]]  # fmt: skip
        for _, _, token, row in sorted(rows, key=lambda item: item[:3]):
            tracked = self._desk.of_order(self._rules[token].symbol, row.order_id)
            if tracked is None:
                fills.append(self._stranger(token, row))
                continue
            filled, settled = self._desk.facts_of(tracked, row, row.time * NS_PER_MS)
            new = filled.trade_id not in query.known_trades
            fills += [filled] if new else []
            if new or filled.trade_id in query.unsettled_trades:
                fills.append(settled)
        return [*begun, *fills, *ends]

    def _stranger(self, token: InstrumentId, row: TradeRow) -> ev.OrderFilled:
        """The fill of an order nobody here knows, for recovery to refuse on."""
        return ev.OrderFilled(
            ts_event=row.time * NS_PER_MS, trade_id=ev.TradeId(f"strange-{row.id}"),
            client_order_id=ClientOrderId(f"{STRANGER}{row.order_id}"), instrument_id=token,
            side=Side.BUY if row.is_buyer else Side.SELL, price=Price(exact(row.price, "price")),
            qty=Qty(exact(row.qty, "qty")), fee=Cash(0),
        )  # fmt: skip


def _cash_of(fill: ev.OrderFilled) -> int:
    """What a fill does to cash, fee included; the same rounding as everywhere."""
    if fill.side is Side.BUY:
        return -notional_up(fill.price, fill.qty) - fill.fee
    return notional_down(fill.price, fill.qty) - fill.fee
