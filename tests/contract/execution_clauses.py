"""The ``Execution`` contract: what the engine may rely on, whatever the venue is.

Each clause is written once, in commands out and facts back, and says nothing of a venue. Figures
come from the depth the venue shows, so that a clause holds on any market with both sides quoted.
``laws`` hold in every clause and are checked after each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, OperationKind, TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_up
from fleet.engine.state import State
from fleet.venues.account import AccountQuery
from tests.contract.execution_bench import Bench

BUY, SELL, GTC = Side.BUY, Side.SELL, TimeInForce.GTC
FEW, MORE = Qty(6 * SCALE), Qty(10 * SCALE)
Clause = Callable[[Bench], Awaitable[None]]
ENDS: Final = (ev.OrderRejected, ev.OrderCanceled, ev.OrderExpired)


# --- orders -------------------------------------------------------------------------------------


async def a_resting_order_is_accepted_once_and_cancels(bench: Bench) -> None:
    order = bench.submit(BUY, bench.instrument.tick, "100", GTC)
    await bench.until(lambda: bool(bench.kinds(order)), "it should be accepted")
    assert await bench.reconcile() == ""
    assert order in bench.state.orders.open
    bench.execution.cancel(order)
    await bench.ended(order)
    assert bench.kinds(order) == ["OrderAccepted", "OrderCanceled"]
    await bench.agree()


async def a_cancel_of_what_is_not_open_changes_nothing(bench: Bench) -> None:
    order = bench.submit(BUY, bench.instrument.tick, "100", GTC)
    await bench.until(lambda: bool(bench.kinds(order)), "it should be accepted")
    bench.execution.cancel(order)
    await bench.ended(order)
    before = await bench.truth()
    for name in (order, ClientOrderId("nobody's")):
        bench.execution.cancel(name)
    await bench.until(
        lambda: [f.KIND for f in bench.told].count("CancelRejected") == 2, "both are refused"
    )
    assert bench.kinds(order) == ["OrderAccepted", "OrderCanceled", "CancelRejected"]
    assert bench.kinds(ClientOrderId("nobody's")) == ["CancelRejected"]
    assert await bench.truth() == before
    await bench.agree()


async def a_fak_that_meets_enough_fills_wholly(bench: Bench) -> None:
    ask, shown = (await bench.depth(BUY, bench.yes))[0]
    assert shown >= FEW, "the clause needs more depth than it takes"
    # A limit beyond the best price must not make it buy more, or dearer.
    order = bench.submit(BUY, Price(ask + bench.instrument.tick), FEW)
    await bench.ended(order)
    assert bench.filled(order) == FEW
    assert bench.kinds(order) == ["OrderAccepted"] + ["OrderFilled"] * len(bench.fills(order))
    assert {fill.price for fill in bench.fills(order)} == {ask}
    paid = sum(notional_up(fill.price, fill.qty) + fill.fee for fill in bench.fills(order))
    assert sum(fill.fee for fill in bench.fills(order)) == bench.instrument.fees.fee(ask, FEW)
    await bench.agree()
    assert bench.state.portfolio.cash == opening(bench) - paid
    assert bench.held() == {bench.yes: FEW}


async def a_fak_that_meets_less_ends_after_its_fills(bench: Bench) -> None:
    ask, shown = (await bench.depth(BUY, bench.yes))[0]
    order = bench.submit(BUY, ask, Qty(shown + MORE))
    await bench.ended(order)
    assert bench.filled(order) == shown
    kinds = bench.kinds(order)
    assert kinds[0] == "OrderAccepted"
    assert set(kinds[1:-1]) == {"OrderFilled"}
    assert kinds[-1] == "OrderCanceled"
    await bench.quiet()
    # And a sale, of more than is bid for.
    bid, wanted = (await bench.depth(SELL, bench.yes))[0]
    assert wanted <= shown, "the clause needs a bid smaller than what it bought"
    bench.operate(OperationKind.SPLIT, "8")
    await bench.quiet()
    sold = bench.submit(SELL, bid, Qty(wanted + 8 * SCALE))
    await bench.ended(sold)
    assert bench.filled(sold) == wanted
    assert bench.kinds(sold)[-2:] == ["OrderFilled", "OrderCanceled"]
    await bench.agree()
    assert bench.held() == {bench.yes: Qty(shown + 8 * SCALE - wanted), bench.no: Qty(8 * SCALE)}


async def a_fak_that_meets_nothing_ends_without_fills(bench: Bench) -> None:
    ask, _ = (await bench.depth(BUY, bench.yes))[0]
    before = await bench.truth()
    order = bench.submit(BUY, Price(ask - bench.instrument.tick), FEW)
    await bench.ended(order)
    assert bench.kinds(order) in (["OrderRejected"], ["OrderAccepted", "OrderCanceled"])
    await bench.agree()
    assert (await bench.truth()).cash == before.cash
    assert not bench.held()


async def a_rejected_order_says_why_and_leaves_no_trace(bench: Bench) -> None:
    ask, _ = (await bench.depth(BUY, bench.yes))[0]
    tick, before = bench.instrument.tick, await bench.truth()
    too_dear = Qty((before.cash * SCALE // ask // SCALE + 10) * SCALE)
    wrong = {
        "off the tick": bench.submit(BUY, Price(ask + tick // 2), FEW),
        "below the minimum": bench.submit(BUY, ask, Qty(bench.instrument.min_qty - SCALE)),
        "no money": bench.submit(BUY, ask, too_dear),
        "not owned": bench.submit(SELL, Price(ask - 2 * tick), FEW),
    }
    await bench.ended(*wrong.values())
    for why, order in wrong.items():
        assert bench.kinds(order) == ["OrderRejected"], why
    reasons = [f.reason for f in bench.told if isinstance(f, ev.OrderRejected)]
    assert all(len(reason) > 10 for reason in reasons), reasons
    await bench.agree()
    after = await bench.truth()
    assert (after.cash, after.tokens) == (before.cash, before.tokens)


async def one_client_order_id_is_one_order(bench: Bench) -> None:
    ask, _ = (await bench.depth(BUY, bench.yes))[0]
    order = bench.submit(BUY, ask, FEW)
    bench.again(order)
    await bench.ended(order)
    bench.again(order)
    await bench.quiet()
    assert bench.filled(order) == FEW
    before = {fill.trade_id for fill in bench.fills(order)}
    await bench.crash()
    bench.again(order)
    await bench.agree()
    # A new life may be told old news; it knows them by their ids.
    assert {fill.trade_id for fill in bench.fills()} <= before
    assert bench.held() == {bench.yes: FEW}


# --- fills and settlement -----------------------------------------------------------------------


async def repeated_news_of_a_fill_adds_nothing(bench: Bench) -> None:
    ask, _ = (await bench.depth(BUY, bench.yes))[0]
    order = bench.submit(BUY, ask, FEW)
    await bench.ended(order)
    await bench.agree()
    fills, said = bench.fills(), len(bench.told)
    assert sum(fill.qty for fill in fills) == FEW
    ids = {fill.trade_id for fill in fills}
    assert len(ids) == len(fills)
    forgetful = AccountQuery(
        open_orders=frozenset({order}), known_trades=frozenset(), unsettled_trades=frozenset(ids),
        pending_operations=frozenset(), tokens=frozenset({bench.yes}),
    )  # fmt: skip
    for _ in range(2):
        facts = (await bench.execution.account(forgetful)).facts
        assert {f.trade_id for f in facts if isinstance(f, ev.OrderFilled)} == ids
        for fact in facts:
            bench.state.apply(fact)
    assert len(bench.told) == said
    await bench.agree()
    assert bench.held() == {bench.yes: FEW}


async def a_fill_is_matched_then_mined_then_confirmed(bench: Bench) -> None:
    ask, _ = (await bench.depth(BUY, bench.yes))[0]
    order = bench.submit(BUY, ask, FEW)
    await bench.quiet()
    for fill in bench.fills(order):
        steps = [f for f in bench.told if getattr(f, "trade_id", "") == fill.trade_id]
        assert steps[0] is fill
        settled = [f.status.value for f in steps if isinstance(f, ev.FillSettled)]
        assert settled == ["MINED", "CONFIRMED"]
    await bench.agree()


async def tokens_that_are_not_settled_are_not_oversold(bench: Bench) -> None:
    ask, _ = (await bench.depth(BUY, bench.yes))[0]
    bid, wanted = (await bench.depth(SELL, bench.yes))[0]
    assert wanted >= 2 * FEW, "the clause needs a bid for twice what it sells"
    bench.submit(BUY, ask, FEW)
    await bench.until(lambda: bool(bench.fills()), "it should fill")
    early = bench.submit(SELL, bid, FEW)
    await bench.quiet()
    sold = bench.filled(early)
    assert (bench.kinds(early) == ["OrderRejected"]) == (sold == 0)
    rest = bench.submit(SELL, bid, FEW)
    once_more = bench.submit(SELL, bid, FEW)
    await bench.ended(rest, once_more)
    await bench.agree()
    assert sold + bench.filled(rest) + bench.filled(once_more) == FEW
    assert not bench.held()


# --- operations ---------------------------------------------------------------------------------


async def a_split_and_a_merge_confirm_once_with_the_exact_cash(bench: Bench) -> None:
    cash = bench.state.portfolio.cash
    split = bench.operate(OperationKind.SPLIT, "20")
    await bench.quiet()
    merge = bench.operate(OperationKind.MERGE, "15")
    await bench.quiet()
    too_much = bench.operate(OperationKind.MERGE, "15")
    await bench.quiet()
    done = [f for f in bench.told if isinstance(f, ev.OperationConfirmed)]
    assert [(f.operation_id, f.cash) for f in done] == [
        (split, Cash(-20 * SCALE)), (merge, Cash(15 * SCALE)),
    ]  # fmt: skip
    assert set(done[0].mint) == {(bench.yes, 20 * SCALE), (bench.no, 20 * SCALE)}
    assert set(done[1].burn) == {(bench.yes, 15 * SCALE), (bench.no, 15 * SCALE)}
    refused = [f for f in bench.told if isinstance(f, ev.OperationRejected)]
    assert [f.operation_id for f in refused] == [too_much]
    assert refused[0].reason
    await bench.agree()
    assert bench.state.portfolio.cash == cash - 5 * SCALE
    assert bench.held() == {bench.yes: Qty(5 * SCALE), bench.no: Qty(5 * SCALE)}


# --- the account --------------------------------------------------------------------------------


async def the_account_is_the_fold_of_the_facts(bench: Bench) -> None:
    for token in (bench.yes, bench.no):
        ask, _ = (await bench.depth(BUY, token))[0]
        bench.submit(BUY, ask, FEW, token=token)
        await bench.quiet()
        await bench.agree()
    bid, _ = (await bench.depth(SELL, bench.yes))[0]
    bench.submit(SELL, bid, bench.instrument.min_qty)
    await bench.agree()
    bench.operate(OperationKind.MERGE, "1")
    await bench.agree()
    # The same books come of the facts alone, in a journal that knows nothing.
    truth = await bench.execution.account(everything(bench))
    fresh = State(bench.universe)
    deposits = [f for f in bench.adopted if isinstance(f, ev.CashDeposited)]
    for fact in (*deposits, *bench.told):
        fresh.apply(fact)
    assert fresh.portfolio.cash == truth.cash
    assert {t: pos.qty for t, pos in fresh.portfolio.positions.items() if pos.qty} == truth.tokens


async def after_a_crash_the_account_tells_what_was_missed(bench: Bench) -> None:
    ask, _ = (await bench.depth(BUY, bench.yes))[0]
    resting = bench.submit(BUY, bench.instrument.tick, "100", GTC)
    await bench.until(lambda: bool(bench.kinds(resting)), "it should be accepted")
    bench.deaf = True
    lost = bench.submit(BUY, ask, FEW)
    await bench.until(lambda: bench.filled(lost) == FEW, "the venue should say it to deaf ears")
    missed = {fill.trade_id for fill in bench.fills(lost)}
    never = bench.submit(BUY, ask, FEW)
    unsent = bench.operate(OperationKind.SPLIT, "10")
    await bench.crash()
    truth = await bench.truth()
    assert truth.absent_orders == (never,), "of what left, no absence is proven"
    assert truth.absent_operations == (unsent,)
    # A venue that looks around as it connects may have said it by itself before it was asked.
    told = {f.trade_id for f in (*truth.facts, *bench.told) if isinstance(f, ev.OrderFilled)}
    assert told == missed
    assert await bench.reconcile() == ""
    rest = bench.state.orders.get(resting)
    assert rest is not None
    if rest.open:
        bench.execution.cancel(resting)
    await bench.quiet()
    await bench.agree()
    ended = {name: bench.state.orders.get(name) for name in (lost, never, resting)}
    states = {name: order.status.value for name, order in ended.items() if order is not None}
    assert states == {lost: "FILLED", never: "REJECTED", resting: "CANCELED"}
    assert bench.held() == {bench.yes: FEW}


CLAUSES: Final[tuple[Clause, ...]] = (
    a_resting_order_is_accepted_once_and_cancels,
    a_cancel_of_what_is_not_open_changes_nothing,
    a_fak_that_meets_enough_fills_wholly,
    a_fak_that_meets_less_ends_after_its_fills,
    a_fak_that_meets_nothing_ends_without_fills,
    a_rejected_order_says_why_and_leaves_no_trace,
    one_client_order_id_is_one_order,
    repeated_news_of_a_fill_adds_nothing,
    a_fill_is_matched_then_mined_then_confirmed,
    tokens_that_are_not_settled_are_not_oversold,
    a_split_and_a_merge_confirm_once_with_the_exact_cash,
    the_account_is_the_fold_of_the_facts,
    after_a_crash_the_account_tells_what_was_missed,
)
REPEATED: Final = frozenset({repeated_news_of_a_fill_adds_nothing})
"""Clauses in which everything on the user channel comes twice, where there is one."""


def opening(bench: Bench) -> Cash:
    """The money the journal began with."""
    return Cash(sum(f.amount for f in bench.adopted if isinstance(f, ev.CashDeposited)))


def everything(bench: Bench) -> AccountQuery:
    """The question of a journal that knows its tokens and no fact."""
    return AccountQuery(
        open_orders=frozenset(), known_trades=frozenset(), unsettled_trades=frozenset(),
        pending_operations=frozenset(), tokens=frozenset({bench.yes, bench.no}),
    )  # fmt: skip


def laws(bench: Bench) -> None:
    """What holds of everything said in each life of the bot, whatever was done."""
    known = {f.trade_id for f in bench.adopted if isinstance(f, ev.OrderFilled)}
    for life in bench.lives:
        fills: dict[ev.TradeId, ev.OrderFilled] = {}
        steps: dict[ev.TradeId, list[ev.SettlementStatus]] = {}
        filled: dict[ClientOrderId, int] = {}
        accepted: set[ClientOrderId] = set()
        over: set[ClientOrderId] = set()
        for fact in life:
            match fact:
                case ev.OrderAccepted():
                    assert fact.client_order_id not in accepted | over, fact
                    accepted.add(fact.client_order_id)
                case ev.OrderFilled():
                    order = bench.requests[fact.client_order_id]
                    assert fact.trade_id not in fills, f"{fact} was told twice"
                    assert fact.client_order_id not in over, f"{fact} came after the end"
                    worse = fact.price - order.price if order.side is BUY else (
                        order.price - fact.price)  # fmt: skip
                    assert worse <= 0, f"{fact} is worse than {order.price}"
                    assert fact.fee >= 0
                    assert (fact.side, fact.instrument_id) == (order.side, order.instrument_id)
                    fills[fact.trade_id] = fact
                    sum_now = filled.get(fact.client_order_id, 0) + fact.qty
                    assert 0 < fact.qty <= sum_now <= order.qty, fact
                    filled[fact.client_order_id] = sum_now
                case ev.FillSettled():
                    # A fill of an earlier life may settle in this one.
                    first = life is bench.lives[0]
                    heard = fact.trade_id in fills or (not first and fact.trade_id in known)
                    assert heard, f"{fact} came before its fill"
                    told = steps.setdefault(fact.trade_id, [])
                    assert fact.status not in told, fact
                    assert ev.SettlementStatus.CONFIRMED not in told, fact
                    told.append(fact.status)
                case _ if isinstance(fact, ENDS):
                    assert fact.client_order_id not in over, f"{fact} is a second end"
                    over.add(fact.client_order_id)
                case _:
                    pass
        known |= fills.keys()
