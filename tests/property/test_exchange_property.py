"""Whatever users do and wherever it dies, the exchange loses no money and repeats no order."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleet.domain.commands import OperationKind, TimeInForce
from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE
from fleet.sandbox.exchange.contract import (
    OperationRequest,
    OrderUpdate,
    Placement,
    PlacementStatus,
    Refused,
    TradeUpdate,
)
from tests.exchange_world import DELAYED, FREE, START_NS, TAXED, World, base

SLUGS = (FREE, TAXED, DELAYED, "port-city-mayor-0", "port-city-mayor-1")
WALLETS = ("ann", "bob")
TERMINAL = {SettlementStatus.CONFIRMED, SettlementStatus.FAILED}


class Trading(RuleBasedStateMachine):
    """Two users, few prices (so that they meet), the flow running, faults, deaths."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(
            Path(self.folder.name) / "x.db", still=False, speed=3, mispricing_every_s=2
        )
        self.requests: list[Any] = []
        self.accepted: set[str] = set()
        self.ended: dict[str, SettlementStatus] = {}

    def teardown(self) -> None:
        self.world.exchange.close()
        self.folder.cleanup()

    @initialize(retry=st.sampled_from([0.0, 0.5]), fail=st.sampled_from([0.0, 0.4]))
    def fund(self, retry: float, fail: float) -> None:
        self.rates = (retry, fail)
        self._set_rates()
        for wallet in WALLETS:
            self.world.fund(wallet, 500)
            self.world.split(wallet, 100, FREE)

    def _set_rates(self) -> None:
        faults = self.world.exchange.faults
        faults.retry_rate, faults.fail_rate = self.rates

    @rule(
        wallet=st.sampled_from(WALLETS),
        side=st.sampled_from(Side),
        slug=st.sampled_from(SLUGS),
        outcome=st.sampled_from([0, 1]),
        cents=st.one_of(st.integers(28, 45), st.integers(1, 99)),
        lots=st.integers(5, 60),
        tif=st.sampled_from([*TimeInForce, TimeInForce.GTC]),
        post_only=st.booleans(),
        life_s=st.integers(61, 90),
    )
    def place(self, **drawn: Any) -> None:
        tif = drawn["tif"]
        now_s = self.world.now_ns // 1_000_000_000
        request = self.world.request(
            drawn["wallet"],
            drawn["side"],
            drawn["lots"],
            f"{drawn['cents'] / 100:.2f}",
            tif,
            slug=drawn["slug"],
            outcome=drawn["outcome"],
            post_only=drawn["post_only"] and tif in {TimeInForce.GTC, TimeInForce.GTD},
            expiration_s=now_s + drawn["life_s"] if tif is TimeInForce.GTD else 0,
        )
        self.requests.append(request)
        self._post(request)

    def _post(self, request: Any) -> None:
        ledger = self.world.exchange.state.ledger
        token = "" if request.side is Side.BUY else request.token_id
        free = ledger.free(request.maker, token)
        try:
            placed = self.world.exchange.place(request, self.world.now_ns)
        except Refused as refused:
            assert ledger.free(request.maker, token) == free, "a refusal leaves no trace"
            if request.order_id in self.accepted:
                assert refused.text.endswith("Duplicated.")  # noqa: PT017 - either may happen
            return
        assert request.order_id not in self.accepted, "no order is taken twice"
        self.accepted.add(request.order_id)
        assert ledger.free(request.maker, token) >= 0
        self._within_limits(request, placed)

    @staticmethod
    def _within_limits(request: Any, placed: Placement) -> None:
        making, taking = placed.making_amount, placed.taking_amount
        assert making <= request.maker_amount
        if request.side is Side.SELL or request.tif in {TimeInForce.GTC, TimeInForce.GTD}:
            bought = taking if request.side is Side.BUY else making
            signed = request.taker_amount if request.side is Side.BUY else request.maker_amount
            assert bought <= signed
        if taking:
            # Never worse than signed, but for the cent by which a client rounds a market order.
            assert making * request.taker_amount <= taking * request.maker_amount + SCALE * 10_000
        if request.tif is TimeInForce.FOK and placed.status is PlacementStatus.MATCHED:
            left = request.maker_amount - making
            assert left * request.taker_amount < request.maker_amount * 10_000 or left == 0

    @precondition(lambda self: self.requests)
    @rule(at=st.integers(0, 1_000))
    def post_again(self, at: int) -> None:
        self._post(self.requests[at % len(self.requests)])

    @precondition(lambda self: self.requests)
    @rule(wallet=st.sampled_from(WALLETS), at=st.integers(0, 1_000), everything=st.booleans())
    def cancel(self, wallet: str, at: int, everything: bool) -> None:
        exchange, key = self.world.exchange, f"key-{wallet}"
        if everything:
            exchange.cancel_all(key, self.world.now_ns)
            assert all(o.status == "DELAYED" for o in exchange.orders(key))
        else:
            order_id = self.requests[at % len(self.requests)].order_id
            done = exchange.cancel(key, [order_id], self.world.now_ns)
            assert set(done.canceled) | set(done.not_canceled) == {order_id}

    @rule(
        wallet=st.sampled_from(WALLETS),
        kind=st.sampled_from(OperationKind),
        slug=st.sampled_from(SLUGS),
        shares=st.integers(1, 200),
        index_set=st.integers(0, 70),
    )
    def operate(
        self, wallet: str, kind: OperationKind, slug: str, shares: int, index_set: int
    ) -> None:
        market = self.world.market(slug)
        request = OperationRequest(
            wallet=wallet,
            kind=kind,
            amount=base(shares),
            condition_id=market.spec.condition_id,
            event_market_id=market.event.neg_risk_market_id,
            index_set=index_set,
        )
        try:
            digest = self.world.exchange.operate(request, self.world.now_ns)
        except Refused:
            return
        assert len(digest) == 66

    @rule(wallet=st.sampled_from(WALLETS), dollars=st.integers(-300, 200))
    def deposit(self, wallet: str, dollars: int) -> None:
        try:
            self.world.fund(wallet, dollars)
        except Refused:
            assert dollars < 0

    @rule(slug=st.sampled_from([TAXED, "port-city-mayor-1"]), winner=st.sampled_from([0, 1]),
          sure=st.integers(0, 9))  # fmt: skip
    def resolve(self, slug: str, winner: int, sure: int) -> None:
        if sure:
            return
        condition_id = self.world.market(slug).spec.condition_id
        try:
            self.world.exchange.resolve(condition_id, winner, self.world.now_ns)
        except Refused:
            return
        orders = self.world.exchange.state.active.values()
        assert all(o.condition_id != condition_id for o in orders)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.2, 5.0]))
    def step(self, seconds: float) -> None:
        self.world.step(seconds)

    @rule(after_s=st.sampled_from([0.0, 0.5, 40.0]))
    def die(self, after_s: float) -> None:
        self._hear()
        before = self._told()
        self.world.restart(after_s=after_s)
        self._set_rates()
        assert self._told() == before

    def _told(self) -> Any:
        exchange = self.world.exchange
        return [
            (
                exchange.cash(w), exchange.tokens(w), exchange.orders(f"key-{w}"),
                exchange.trades(f"key-{w}"), exchange.operations(w),
            )
            for w in WALLETS
        ]  # fmt: skip

    def _hear(self) -> None:
        for update in self.world.exchange.drain().updates:
            if isinstance(update, OrderUpdate):
                assert update.order.size_matched <= update.order.original_size
            elif isinstance(update, TradeUpdate):
                trade = update.trade
                assert trade.trade_id not in self.ended, "what ended stays ended"
                if trade.status in TERMINAL:
                    self.ended[trade.trade_id] = trade.status

    @invariant()
    def nothing_is_made_or_lost(self) -> None:
        self._hear()
        self.world.check()

    @invariant()
    def holds_are_what_orders_and_open_trades_owe(self) -> None:
        state = self.world.exchange.state
        for wallet in WALLETS:
            orders = [o for o in state.active.values() if o.maker == wallet]
            unmined = [
                t.view
                for t in state.trades.values()
                if t.view.status in {SettlementStatus.MATCHED, SettlementStatus.RETRYING}
            ]
            held = sum(o.held for o in orders if o.side is Side.BUY)
            owed = 0
            for view in unmined:
                if view.maker == wallet and view.side is Side.BUY:
                    owed += view.cash + view.fee_amount
                owed += sum(
                    f.price * f.size // SCALE
                    for f in view.makers
                    if f.maker == wallet and f.side is Side.BUY
                )
            assert state.ledger.held(wallet, "") == held + owed

    @invariant()
    def books_are_never_crossed_and_hold_every_order(self) -> None:
        resting: set[str] = set()
        for market in self.world.exchange.simulator.listings.markets:
            bid, ask = market.pool.bests()
            assert bid is None or ask is None or bid < ask or market.closed
            for order in market.pool.orders():
                assert order.remaining > 0
                assert order.ahead >= 0
                resting.add(order.order_id)
        active = self.world.exchange.state.active
        assert resting == {o.order_id for o in active.values() if o.status == "LIVE"}

    @invariant()
    def fills_sum_to_what_orders_say(self) -> None:
        state = self.world.exchange.state
        filled: dict[str, int] = {}
        for trade in state.trades.values():
            assert trade.view.size == sum(f.size for f in trade.view.makers)
            assert trade.view.matched_ns >= START_NS
            for fill in trade.view.makers:
                filled[fill.order_id] = filled.get(fill.order_id, 0) + fill.size
            taker = trade.view.taker_order_id
            filled[taker] = filled.get(taker, 0) + trade.view.size
        for order in state.active.values():
            assert filled.get(order.order_id, 0) == order.matched
            assert order.matched + order.remaining == order.size or order.spend


TestTrading = Trading.TestCase
TestTrading.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
