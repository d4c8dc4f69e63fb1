"""What Alpaca's account says, as the books of one journal.

Everything the account did since the journal began is in its activities: fills, and cash moved
otherwise (fees, dividends, interest, transfers), each of which becomes a ``CashDeposited`` of its
own id. The regulators' fees of sales are in the fills as an estimate; when the broker charges a
day's, the estimate is given back and the charge taken (``fees-charged-...``), so that the books end
with what was paid.

Cash is the opening, which the id of the first deposit tells, plus all of that. It is compared with
the account's own figure: they may differ by the fees not charged yet and by rounding to the cent a
fill. Anything beyond is told as it is, and recovery refuses to trade. With an ``allocation`` the
account is shared: cash is the allocation and what our own fills did to it, nothing else is ours.

Shares that were there before are not the journal's; how many there were is in a deposit's id. What
splits, mergers and other corporate actions do to shares is not followed: they show as a difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId
from fleet.domain.events import TradeId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import (
    SCALE,
    Cash,
    Price,
    Qty,
    format_dollars,
    format_units,
    notional_down,
    parse_units,
)
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.port import AnswerInvalid
from fleet.venues.stocks.catalog import symbol_of
from fleet.venues.stocks.client import AlpacaClient
from fleet.venues.stocks.orders import Match, OrderDesk, Phase, Tracked, signed_cash
from fleet.venues.stocks.wire import ActivityRow, exact, nanoseconds, rounded

READINGS: Final = 5
PAUSE_S: Final = 0.2
DAY_NS: Final = 86_400 * NS_PER_SECOND
SKEW_NS: Final = 5 * NS_PER_SECOND
"""How far clocks may differ where the journal begins."""
CENT: Final = SCALE // 100
FILL: Final = "FILL"
FEE: Final = "FEE"
OPENING: Final = "opening-alpaca-"
"""How the id of the first deposit begins; then come the account and what the journal began with."""
STRANGER: Final = "strange-"
"""How a fill of an order nobody here sent is named, for recovery to refuse on."""


class Account:
    """Reads one journal's part of an account."""

    def __init__(
        self, client: AlpacaClient, tokens: Iterable[InstrumentId], desk: OrderDesk, *,
        adopted_ns: int, deposits: Iterable[str] = (), allocation: Cash = Cash(0),
    ) -> None:  # fmt: skip
        """``adopted_ns`` is the moment of the journal's first entry, ``deposits`` its ids."""
        self._client, self._desk = client, desk
        self._tokens = {symbol_of(token): token for token in tokens}
        self._since_ns = adopted_ns
        self._deposits = dict.fromkeys(deposits)
        self._allocation = allocation
        self._rows: dict[str, ActivityRow] = {}
        self._strange: set[str] = set()
        self._read_ns = 0

    async def survey(self) -> None:
        """Read the new activities and show our fills to the desk. Raises ``VenueError``."""
        now_ns = self._client.venue_ns()
        # Fees of a day come late and are dated to its midnight, before the fills they are of.
        after_ns = max(self._since_ns - DAY_NS, self._read_ns - 3 * DAY_NS)
        for row in await self._client.activities(after_ns=after_ns):
            earlier = row.activity_type == FILL and (
                nanoseconds(row.transaction_time, "fill") < self._since_ns - SKEW_NS
            )
            if not earlier:
                self._rows.setdefault(row.id, row)
        self._read_ns = now_ns
        for row in self._fills():
            tracked = self._desk.of_order(row.order_id)
            if tracked is None and row.order_id not in self._strange:
                tracked = await self._name(row.order_id)
            if tracked is not None:
                self._desk.matched(tracked, match_of(row), now_ns)

    async def _name(self, order_id: str) -> Tracked | None:
        """Ask whose order it is; ``None`` for somebody else's, who is not asked about again."""
        tracked = self._desk.bind(await self._client.order_by_id(order_id))
        if tracked is None:
            self._strange.add(order_id)
        return tracked

    def _fills(self) -> list[ActivityRow]:
        rows = (row for row in self._rows.values() if row.activity_type == FILL)
        return sorted((row for row in rows if row.symbol in self._tokens), key=lambda row: row.id)

    async def truth(
        self, query: AccountQuery, *, never_sent: Iterable[ClientOrderId]
    ) -> AccountTruth:
        """The books and the facts that answer ``query``. Raises ``VenueError``."""
        for attempt in range(READINGS):
            if attempt:
                await asyncio.sleep(PAUSE_S)
            await self.survey()
            count = len(self._rows)
            account = await self._client.account()
            positions = {
                row.symbol: exact(row.qty, f"position of {row.symbol}")
                for row in await self._client.positions()
            }
            await self.survey()
            if count == len(self._rows):
                break
        else:
            raise AnswerInvalid(
                f"the account moved during {READINGS} readings; ask again when it is quieter"
            )
        foreign = [
            name for name in self._deposits
            if name.startswith(OPENING) and not name.startswith(f"{OPENING}{account.id}=")
        ]  # fmt: skip
        if foreign:
            raise AnswerInvalid(
                f"this journal is of another account ({foreign[0]}); use that account's keys, or "
                "begin a new journal"
            )
        tokens, holdings = self._shares(account.id, positions)
        cash, deposits = self._cash(account.id, rounded(account.cash, "cash"),
                                    abs(rounded(account.accrued_fees, "fees")))  # fmt: skip
        return AccountTruth(
            cash=cash,
            tokens={token: qty for token, qty in tokens.items() if qty},
            facts=(*deposits, *holdings, *self._facts(query)),
            absent_orders=tuple(sorted(query.open_orders.intersection(never_sent))),
            absent_operations=tuple(sorted(query.pending_operations)),
        )

    # --- shares -------------------------------------------------------------------------------

    def _shares(
        self, account_id: str, positions: Mapping[str, int]
    ) -> tuple[dict[InstrumentId, Qty], list[ev.Event]]:
        held: dict[InstrumentId, Qty] = {}
        told: list[ev.Event] = []
        for symbol, token in self._tokens.items():
            moved = sum(
                -signed_cash(_side(row), exact(row.qty, "qty"))
                for row in self._fills()
                if row.symbol == symbol and self._desk.of_order(row.order_id) is not None
            )
            total = positions.get(symbol, 0)
            name, amount = self._kept(f"holding-alpaca-{account_id}-{symbol}=", total - moved)
            told.append(ev.CashDeposited(deposit_id=name, amount=Cash(0)))
            held[token] = Qty(total - amount)
        return held, told

    def _kept(self, prefix: str, amount: int) -> tuple[str, int]:
        """The deposit that remembers a figure, and the figure; ``amount`` if it is the first."""
        names = [name for name in self._deposits if name.startswith(prefix)]
        if not names:
            names = [prefix + format_units(amount)]
            self._deposits[names[0]] = None
        return names[0], parse_units(names[0].removeprefix(prefix))

    # --- cash ---------------------------------------------------------------------------------

    def _cash(self, account_id: str, shown: int, accrued: int) -> tuple[Cash, list[ev.Event]]:
        ours = [row for row in self._fills() if self._desk.of_order(row.order_id) is not None]
        gross = sum(signed_cash(_side(row), _notional(row)) for row in ours)
        fees = {row.id: self._fee(row) for row in ours}
        prefix = f"{OPENING}{account_id}="
        if self._allocation:
            name, opening = self._kept(prefix, self._allocation)
            if opening != self._allocation:
                raise AnswerInvalid(
                    f"this journal began with {format_dollars(opening)} of the account; set that "
                    "as the allocation again, or begin a new journal"
                )
            cash = opening + gross - sum(fees.values())
            return Cash(cash), [ev.CashDeposited(deposit_id=name, amount=Cash(opening))]
        everybody = [row for row in self._rows.values() if row.activity_type == FILL]
        foreign = sum(
            signed_cash(_side(row), _notional(row)) for row in everybody if row not in ours
        )
        others = [row for row in self._rows.values() if row.activity_type != FILL]
        moved = {row.id: rounded(row.net_amount or "0", "net_amount") for row in others}
        name, opening = self._kept(prefix, shown - gross - foreign - sum(moved.values()))
        deposits: list[ev.Event] = [ev.CashDeposited(deposit_id=name, amount=Cash(opening))]
        deposits += [
            ev.CashDeposited(deposit_id=f"activity-alpaca-{row}", amount=Cash(amount))
            for row, amount in sorted(moved.items())
            if amount
        ]
        returned = self._returned(ours, fees, others)
        deposits += [
            ev.CashDeposited(deposit_id=f"fees-charged-alpaca-{row}", amount=Cash(fee))
            for row, fee in sorted(returned.items())
        ]
        cash = opening + gross + sum(moved.values())
        slack = accrued + CENT * len(ours) + sum(fees.values())
        if abs(shown - cash) > slack:
            # Not explained by anything we know of: recovery shall see it.
            cash = shown
        return Cash(cash - sum(fees.values()) + sum(returned.values())), deposits

    def _fee(self, row: ActivityRow) -> int:
        tracked = self._desk.of_order(row.order_id)
        return self._desk.facts_of(tracked, match_of(row), 0)[0].fee if tracked is not None else 0

    def _returned(
        self, ours: list[ActivityRow], fees: Mapping[str, int], others: list[ActivityRow]
    ) -> dict[str, int]:
        """The estimates of the fills whose day the broker has charged, by the fill's id."""
        days = [row.date or row.id[:8] for row in others if row.activity_type == FEE]
        charged = max((day.replace("-", "")[:8] for day in days), default="")
        return {row.id: fees[row.id] for row in ours if fees[row.id] and row.id[:8] <= charged}

    # --- facts --------------------------------------------------------------------------------

    def _facts(self, query: AccountQuery) -> list[ev.Event]:
        """What became of the open orders, and every fill: oldest first."""
        begun: list[ev.Event] = []
        ends: list[ev.Event] = []
        for name in sorted(query.open_orders):
            tracked = self._desk.get(name)
            if tracked is None:
                continue
            if tracked.told:
                begun.append(ev.OrderAccepted(
                    ts_event=tracked.request.ts, client_order_id=name,
                    venue_order_id=tracked.wire_id))  # fmt: skip
            if tracked.phase is Phase.CLOSED and tracked.last is not None:
                ends.append(tracked.last)
        fills: list[ev.Event] = []
        for row in self._fills():
            match, tracked = match_of(row), self._desk.of_order(row.order_id)
            if tracked is None:
                fills += [] if self._allocation else [self._stranger(row, match)]
                continue
            filled, settled = self._desk.facts_of(tracked, match, match.at_ns)
            new = filled.trade_id not in query.known_trades
            fills += [filled] if new else []
            if new or filled.trade_id in query.unsettled_trades:
                fills.append(settled)
        return [*begun, *fills, *ends]

    def _stranger(self, row: ActivityRow, match: Match) -> ev.OrderFilled:
        """The fill of an order nobody here knows."""
        return ev.OrderFilled(
            ts_event=match.at_ns, trade_id=TradeId(f"{STRANGER}{row.id}"),
            client_order_id=ClientOrderId(f"{STRANGER}{row.order_id}"),
            instrument_id=self._tokens[row.symbol], side=_side(row), price=Price(match.price),
            qty=Qty(match.qty), fee=Cash(0),
        )  # fmt: skip


def match_of(row: ActivityRow) -> Match:
    """A FILL activity as a match. Raises ``AnswerInvalid``."""
    return Match(
        order_id=row.order_id, cum_qty=exact(row.cum_qty, "cum_qty"), qty=exact(row.qty, "qty"),
        price=exact(row.price, "price"), at_ns=nanoseconds(row.transaction_time, "fill"),
    )  # fmt: skip


def _side(row: ActivityRow) -> Side:
    """``sell_short`` would be a sale; this account has none."""
    if row.side not in {"buy", "sell"}:
        raise AnswerInvalid(f"a fill of side {row.side!r}; this bot neither shorts nor covers")
    return Side.BUY if row.side == "buy" else Side.SELL


def _notional(row: ActivityRow) -> int:
    """Exact: shares are whole."""
    return notional_down(Price(exact(row.price, "price")), Qty(exact(row.qty, "qty")))
