"""What a wallet's history comes to: costs, profit, rows of the Data API."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from fleet.domain.commands import OperationKind
from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price
from fleet.sandbox.exchange.contract import MakerFill, OperationView, TradeView
from fleet.sandbox.simulator import MarketSimulator, SimulatorSettings
from fleet.sandbox.trading import holdings

SECOND = 1_000_000_000
START_NS = 1_790_000_000 * SECOND
SIMULATOR = MarketSimulator(SimulatorSettings(mispricing_every_s=0), START_NS)
LISTINGS = SIMULATOR.listings
MARKET = LISTINGS.markets[0]
YES, NO = MARKET.spec.tokens
WALLET, OTHER = "0x" + "11" * 20, "0x" + "22" * 20


def trade(
    number: int,
    side: Side,
    size: int,
    cash: int,
    *,
    maker: str = WALLET,
    makers: tuple[MakerFill, ...] = (),
    status: SettlementStatus = SettlementStatus.MINED,
) -> TradeView:
    return TradeView(
        trade_id=f"trade-{number}",
        taker_order_id="0x01",
        condition_id=MARKET.spec.condition_id,
        token_id=YES,
        outcome="Yes",
        side=side,
        size=size,
        cash=cash,
        price=Price(cash * SCALE // size),
        fee_amount=1_000,
        fee_rate_bps=700,
        status=status,
        matched_ns=START_NS + number * SECOND,
        updated_ns=START_NS + number * SECOND,
        owner="key",
        maker=maker,
        transaction_hash="0x02",
        makers=makers,
    )


def operation(
    kind: OperationKind | None, cash: int, tokens: Mapping[str, int], at_s: int
) -> OperationView:
    return OperationView(
        wallet=WALLET,
        kind=kind,
        cash=cash,
        tokens=tokens,
        condition_id=MARKET.spec.condition_id,
        event_market_id="",
        transaction_hash="0x03",
        at_ns=START_NS + at_s * SECOND,
    )


def row(token: str, size: int, costs: Mapping[str, holdings.Cost]) -> dict[str, Any]:
    made = holdings.position_row(WALLET, token, size, costs[token], LISTINGS)
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(made))
    return decoded


def test_buys_are_averaged_and_sells_realise() -> None:
    fills = holdings.fills_of(
        WALLET,
        [
            trade(3, Side.SELL, 5_000_000, 3_000_000),
            trade(1, Side.BUY, 10_000_000, 4_000_000),
            trade(2, Side.BUY, 10_000_000, 6_000_000),
            trade(4, Side.BUY, 90_000_000, 9_000_000, status=SettlementStatus.FAILED),
            trade(5, Side.BUY, 90_000_000, 9_000_000, status=SettlementStatus.MATCHED),
        ],
    )
    assert [fill.trade_id for fill in fills] == ["trade-1", "trade-2", "trade-3"]
    costs = holdings.costs(fills, [], LISTINGS)
    told = row(YES, 15_000_000, costs)
    assert told["avg_price"] == 0.5
    assert told["total_size"] == 20
    assert told["entry_cost_usdc"] == 7.5
    assert told["realized_pnl"] == 0.5, "5 sold at 0.6, bought at 0.5"
    assert told["entry_fees_usdc"] == 0.003
    assert told["status"] == "OPEN"
    assert told["current_value"] == told["current_price"] * 15
    assert row(YES, 0, costs)["status"] == "CLOSED"


def test_a_maker_s_part_is_its_own_token_and_pays_no_fee() -> None:
    part = MakerFill(
        order_id="0x09", owner="mine", maker=WALLET, token_id=NO, outcome="No",
        side=Side.BUY, price=Price(40_000_000), size=10_000_000,
    )  # fmt: skip
    (fill,) = holdings.fills_of(
        WALLET, [trade(1, Side.BUY, 10_000_000, 6_000_000, maker=OTHER, makers=(part,))]
    )
    assert (fill.taker, fill.token_id, fill.cash, fill.fee) == (False, NO, 4_000_000, 0)
    told = holdings.trade_row(WALLET, fill, LISTINGS)
    assert json.loads(msgspec.json.encode(told))["price"] == 0.4
    assert (told["outcome"], told["outcome_index"]) == ("No", 1)


def test_split_merge_and_redeem_move_costs() -> None:
    split = operation(OperationKind.SPLIT, -20_000_000, {YES: 20_000_000, NO: 20_000_000}, 1)
    merge = operation(OperationKind.MERGE, 5_000_000, {YES: -5_000_000, NO: -5_000_000}, 2)
    redeem = operation(OperationKind.REDEEM, 15_000_000, {YES: -15_000_000}, 3)
    costs = holdings.costs([], [split, merge], LISTINGS)
    assert row(NO, 15_000_000, costs)["avg_price"] == 0.5
    assert row(NO, 15_000_000, costs)["realized_pnl"] == 0
    costs = holdings.costs([], [split, merge, redeem], LISTINGS)
    assert row(YES, 0, costs)["realized_pnl"] == 7.5, "15 shares at 0.5 paid 15"


def test_activity_names_what_happened() -> None:
    rows = [
        holdings.activity_of_operation(WALLET, one, LISTINGS)
        for one in (
            operation(None, 100_000_000, {}, 1),
            operation(None, -1_000_000, {}, 2),
            operation(OperationKind.CONVERT, 0, {YES: 1_000_000, NO: -1_000_000}, 3),
        )
    ]
    assert [r["type"] for r in rows] == ["DEPOSIT", "WITHDRAWAL", "CONVERSION"]
    assert json.loads(msgspec.json.encode(rows[1]))["usdc_size"] == 1
    gone = holdings.trade_row(
        WALLET,
        holdings.fills_of(WALLET, [trade(1, Side.BUY, 10_000_000, 4_000_000)])[0],
        MarketSimulator(SimulatorSettings(seed=8), START_NS).listings,
    )
    assert (gone["outcome_index"], gone["title"]) == (999, "")


def test_mergeable_and_value() -> None:
    costs = holdings.costs(
        [], [operation(OperationKind.SPLIT, -1, {YES: 1_000_000, NO: 1_000_000}, 1)], LISTINGS
    )
    held = {YES: 1_000_000, NO: 1_000_000}
    rows = [holdings.position_row(WALLET, t, held[t], costs[t], LISTINGS) for t in held]
    holdings.mark_mergeable(rows, held)
    assert [r["mergeable"] for r in rows] == [True, True]
    assert holdings.value_of(held, LISTINGS) == 1_000_000, "a pair is worth a dollar"
    holdings.mark_mergeable(rows, {YES: 1})
