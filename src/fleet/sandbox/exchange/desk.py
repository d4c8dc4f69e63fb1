"""Order entry: checks, matching, resting, cancelling, delays, expiry.

Theory of operation. An order is first *planned* against the pool (``matching.plan``), then its
funds are checked for exactly that plan, and only then is anything changed; a refusal leaves no
trace, and the refused id may come again. An accepted id never may. A match makes one trade: what
each party owes is held (see ``settlement``), the makers' own holds are let go.

    posted ──► refused (no trace)
       │
       ├──► DELAYED ──► UNMATCHED
       │       │
       ▼       ▼
      LIVE ──► MATCHED (also a FAK whose rest was killed)
       │
       └──► CANCELED...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.sandbox.exchange import orders as status
from fleet.sandbox.exchange.accounts import CASH
from fleet.sandbox.exchange.contract import (
    Cancelled,
    OrderChange,
    OrderRequest,
    Placement,
    PlacementStatus,
    Refused,
)
from fleet.sandbox.exchange.matching import cash_for, fee_for, fills_whole, plan, size_of
from fleet.sandbox.exchange.orders import (
    GTD_LOST_S,
    MIN_TAKING,
    RESTS,
    Order,
    base_text,
    cash_of,
    check_kind,
    invalid,
    own_price,
    read_terms,
)
from fleet.sandbox.exchange.settling import Settling
from fleet.sandbox.exchange.state import ExchangeState
from fleet.sandbox.exchange.trades import make_trade
from fleet.sandbox.liquidity import Taken
from fleet.sandbox.listing import MarketState
from fleet.sandbox.maker_flow import TakerTrade
from fleet.sandbox.market_frames import Frame

UNFUNDED_TEXT: Final = "not enough balance / allowance"
FOK_TEXT: Final = "order couldn't be fully filled. FOK orders are fully filled or killed."
FAK_TEXT: Final = (
    "no orders found to match with FAK order. "
    "FAK orders are partially filled or killed if no match is found."
)


class OrderDesk:
    """Takes orders and cancels them; the flow's trades with users' orders come here too."""

    def __init__(self, state: ExchangeState, settling: Settling) -> None:
        """Work on ``state``; matches are handed to ``settling``."""
        self._state = state
        self._settling = settling

    def place(self, request: OrderRequest, now_ns: int) -> Placement:
        """Take an order. Raises ``Refused``."""
        state = self._state
        if request.order_id in state.owners:
            raise invalid(request.order_id, "Duplicated.")
        market, outcome = state.listed(request.token_id)
        check_kind(request, now_ns)
        terms = read_terms(request, market.tick)
        yes_price = own_price(terms.price, outcome)
        order = Order(
            order_id=request.order_id,
            yes_buy=(request.side is Side.BUY) == (outcome == 0),
            yes_price=yes_price,
            remaining=0 if terms.spend else terms.size,
            owner=request.owner,
            maker=request.maker,
            condition_id=market.spec.condition_id,
            token_id=request.token_id,
            outcome=outcome,
            outcome_name=market.spec.outcomes[outcome],
            side=request.side,
            price=terms.price,
            size=terms.size,
            spend=terms.spend,
            tif=request.tif,
            post_only=request.post_only,
            expiration_s=request.expiration_s,
            created_ns=now_ns,
            sequence=state.order_count + 1,
        )
        parts = plan(order, market.pool)
        self._check_taking(order, parts)
        self._check_funds(order, market, parts, least=request.maker_amount)
        usual_ns = market.spec.taker_delay_ms * NS_PER_MS
        delay_ns = self._settling.delay_ns(order.order_id, usual_ns) if parts else 0
        state.know(market)
        state.order_count = order.sequence
        state.owners[order.order_id] = order.owner
        if delay_ns:
            order.due_ns = now_ns + delay_ns
            return self._delay(order, market, parts, now_ns)
        return self._carry_out(order, market, parts, now_ns)

    def _check_taking(self, order: Order, parts: Sequence[Taken]) -> None:
        """What an order may not do where the book stands now."""
        if order.post_only and parts:
            raise Refused(400, "invalid post-only order: order crosses book")
        if order.tif is TimeInForce.FAK and not parts:
            raise Refused(400, FAK_TEXT)
        if order.tif is TimeInForce.FOK and not fills_whole(order, parts):
            raise Refused(400, FOK_TEXT)
        if not parts:
            return
        if order.side is Side.BUY:
            worth = order.spend or cash_of(order.price, order.size)
        else:
            best = own_price(parts[0].yes_price, order.outcome)
            worth = cash_of(best, order.size)
        if worth < MIN_TAKING:
            raise Refused(
                400,
                f"invalid amount for a marketable {order.side.value} order "
                f"(${base_text(worth)}), min size: $1",
            )

    def _check_funds(
        self, order: Order, market: MarketState, parts: Sequence[Taken], *, least: int
    ) -> None:
        """Refuse what the maker cannot pay: at least what was signed, and the fee on top."""
        needed = max(least, self._needed(order, market, parts))
        if self._state.ledger.free(order.maker, order.asset) < needed:
            raise Refused(400, UNFUNDED_TEXT)

    @staticmethod
    def _needed(order: Order, market: MarketState, parts: Sequence[Taken]) -> int:
        """What an order pays with if it takes ``parts`` and its rest rests."""
        if order.side is Side.SELL:
            return order.remaining if order.tif in RESTS else size_of(parts)
        cash = cash_for(parts, order.outcome) + fee_for(parts, market.spec.fees)
        rest = order.remaining - size_of(parts) if order.tif in RESTS else 0
        return cash + cash_of(order.price, rest)

    def _delay(
        self, order: Order, market: MarketState, parts: Sequence[Taken], now_ns: int
    ) -> Placement:
        """Hold an order back, with its money: makers may step away meanwhile, it may not."""
        state = self._state
        order.status = status.DELAYED
        least = order.remaining
        if order.side is Side.BUY:
            least = order.spend or cash_of(order.price, order.size)
            least = max(
                least + fee_for(parts, market.spec.fees), self._needed(order, market, parts)
            )
            least = min(least, state.ledger.free(order.maker, CASH))
        self._hold(order, least)
        state.active[order.order_id] = order
        self.schedule(order)
        state.tell(order, OrderChange.PLACEMENT, now_ns)
        return Placement(order_id=order.order_id, status=PlacementStatus.DELAYED)

    def _carry_out(
        self, order: Order, market: MarketState, parts: Sequence[Taken], now_ns: int
    ) -> Placement:
        """Match what was planned and rest what is left. The order is funded and allowed."""
        state = self._state
        change = OrderChange.PLACEMENT if not order.due_ns else OrderChange.UPDATE
        trade_ids: tuple[str, ...] = ()
        cash = cash_for(parts, order.outcome)
        if parts:
            before = market.pool.bests()
            market.pool.apply(parts)
            order.matched += size_of(parts)
            order.remaining = max(0, order.remaining - size_of(parts))
            trade_ids = (self._trade(market, order, order.yes_buy, parts, now_ns),)
            made = TakerTrade(order.yes_buy, tuple(market.pool.matches(parts)))
            state.frames += state.simulator.traded(
                market, made, now_ns, before, outcome=order.outcome
            )
        if order.tif in RESTS and order.remaining:
            order.status = status.LIVE
            self._hold(order, order.resting_hold())
            before = market.pool.bests()
            market.pool.add(order)
            state.active[order.order_id] = order
            if order.tif is TimeInForce.GTD:
                self.schedule(order)
            state.level_changed(market, order, before, now_ns)
        else:
            order.status = status.MATCHED
            state.active.pop(order.order_id, None)
        state.tell(order, change, now_ns)
        taken = size_of(parts)
        buys = order.side is Side.BUY
        return Placement(
            order_id=order.order_id,
            status=PlacementStatus.MATCHED if parts else PlacementStatus.LIVE,
            making_amount=cash if buys else taken,
            taking_amount=taken if buys else cash,
            trade_ids=trade_ids,
        )

    def users_hit(
        self,
        market: MarketState,
        yes_buy: bool,  # noqa: FBT001
        parts: Sequence[Taken],
        now_ns: int,
    ) -> None:
        """The flow took users' orders from the pool, and perhaps some of its own."""
        self._trade(market, None, yes_buy, parts, now_ns)

    def _trade(
        self,
        market: MarketState,
        taker: Order | None,
        yes_buy: bool,  # noqa: FBT001
        parts: Sequence[Taken],
        now_ns: int,
    ) -> str:
        """Make the trade of a match that the pool has carried out; its id."""
        trade = make_trade(self._state, market, taker, yes_buy=yes_buy, parts=parts, now_ns=now_ns)
        trade_id = trade.view.trade_id
        if taker is not None:
            taker.trade_ids.append(trade_id)
        self._makers_filled(parts, trade_id, now_ns)
        self._settling.begin(trade)
        return trade_id

    def _makers_filled(self, parts: Iterable[Taken], trade_id: str, now_ns: int) -> None:
        """Let go what the filled makers held; their trade holds it from now on."""
        for part in parts:
            order = part.order
            if not isinstance(order, Order):
                continue
            self._hold(order, order.resting_hold())
            order.matched += part.size
            order.trade_ids.append(trade_id)
            if not order.remaining:
                order.status = status.MATCHED
                del self._state.active[order.order_id]
            self._state.tell(order, OrderChange.UPDATE, now_ns)

    def _hold(self, order: Order, amount: int) -> None:
        """Make an order hold exactly ``amount``."""
        self._state.ledger.hold(order.maker, order.asset, amount - order.held)
        order.held = amount

    def schedule(self, order: Order) -> None:
        """Have an order's next moment come: the end of its delay, or of its life."""
        order_id, simulator = order.order_id, self._state.simulator
        if order.status == status.DELAYED:
            due_ns = order.due_ns
            simulator.at(max(due_ns, simulator.now_ns), lambda now: self._undelay(order_id, now))
        elif order.tif is TimeInForce.GTD:
            due_ns = (order.expiration_s - GTD_LOST_S) * NS_PER_SECOND
            simulator.at(max(due_ns, simulator.now_ns), lambda now: self._expire(order_id, now))

    def _undelay(self, order_id: str, now_ns: int) -> list[Frame]:
        """The delay is over: match against what is there now."""
        state = self._state
        order = state.active.get(order_id)
        if order is None or order.status != status.DELAYED:
            return []
        market = state.simulator.listings.by_condition[order.condition_id]
        parts = plan(order, market.pool)
        self._hold(order, 0)
        needed = self._needed(order, market, parts)
        unmatched = (order.tif is TimeInForce.FAK and not parts) or (
            order.tif is TimeInForce.FOK and not fills_whole(order, parts)
        )
        published = len(state.frames)
        if unmatched:
            self._end(order, status.UNMATCHED, now_ns)
        elif state.ledger.free(order.maker, order.asset) < needed:
            self._end(order, status.UNFUNDED, now_ns)
        else:
            self._carry_out(order, market, parts, now_ns)
        return state.take_frames(published)

    def _expire(self, order_id: str, now_ns: int) -> list[Frame]:
        published = len(self._state.frames)
        order = self._state.active.get(order_id)
        if order is not None and order.status == status.LIVE:
            self._withdraw(order, status.EXPIRED, now_ns)
        return self._state.take_frames(published)

    def _withdraw(self, order: Order, became: str, now_ns: int) -> None:
        """Take a resting order out of its book and end it."""
        market = self._state.simulator.listings.by_condition[order.condition_id]
        if order.status == status.LIVE:
            before = market.pool.bests()
            market.pool.remove(order)
            if not market.closed:
                self._state.level_changed(market, order, before, now_ns)
        self._end(order, became, now_ns)

    def lapse(self, order: Order, now_ns: int) -> None:
        """End an order of a market that ended while the exchange did not run."""
        self._end(order, status.RESOLVED, now_ns)

    def _end(self, order: Order, became: str, now_ns: int) -> None:
        self._hold(order, 0)
        order.status = became
        del self._state.active[order.order_id]
        self._state.tell(order, OrderChange.CANCELLATION, now_ns)

    def cancel(self, owner: str, order_ids: Iterable[str], now_ns: int) -> Cancelled:
        """Cancel an API key's orders by id."""
        state, canceled, kept = self._state, [], {}
        for order_id in dict.fromkeys(order_ids):
            order = state.active.get(order_id)
            if state.owners.get(order_id) != owner:
                kept[order_id] = "order not found"
            elif order is None:
                kept[order_id] = "the order is already canceled or matched"
            elif order.status == status.DELAYED:
                kept[order_id] = "cannot cancel because the order is in pending/delayed status"
            else:
                self._withdraw(order, status.CANCELED, now_ns)
                canceled.append(order_id)
        return Cancelled(canceled=tuple(canceled), not_canceled=kept)

    def resolved(self, market: MarketState, now_ns: int) -> None:
        """A market was resolved: its orders die."""
        condition_id = market.spec.condition_id
        for order in [o for o in self._state.active.values() if o.condition_id == condition_id]:
            self._withdraw(order, status.RESOLVED, now_ns)

    def recheck(self, wallet: str, asset: str, now_ns: int) -> None:
        """A balance fell: cancel the wallet's youngest resting orders that it no longer covers."""
        ledger = self._state.ledger
        if ledger.free(wallet, asset) >= 0:
            return
        for order in reversed(list(self._state.active.values())):
            if (order.maker, order.asset, order.status) == (wallet, asset, status.LIVE):
                self._withdraw(order, status.UNFUNDED, now_ns)
                if ledger.free(wallet, asset) >= 0:
                    return
