"""A score never sees what came after: any future, told or untold, leaves it as it is."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import FeeSchedule, Side
from fleet.domain.units import SCALE, Price, Qty
from fleet.research.copyability import AssumedPrices, CopyRules, replay
from fleet.research.leader_gate import judge
from fleet.research.leader_history import (
    LeaderTrade,
    MarketFacts,
    Resolution,
    Role,
    WalletHistory,
    market_results,
    ordered,
)
from fleet.research.leader_scores import score
from tests.leader_builders import LOST, START_NS, WON

HOUR_NS = 3_600 * NS_PER_SECOND
SPLIT_NS = START_NS + 100 * HOUR_NS
MARKETS = [f"m{n}" for n in range(6)]


def trades(first_h: int, last_h: int, size: int) -> st.SearchStrategy[list[LeaderTrade]]:
    return st.lists(
        st.builds(
            LeaderTrade,
            ts_ns=st.integers(first_h, last_h).map(lambda h: START_NS + h * HOUR_NS),
            market_id=st.sampled_from(MARKETS),
            outcome=st.integers(0, 1),
            side=st.sampled_from(Side),
            price=st.integers(1, 99).map(lambda c: Price(c * SCALE // 100)),
            qty=st.integers(1, 2_000).map(lambda n: Qty(n * SCALE)),
            role=st.sampled_from(Role),
        ),
        max_size=size,
    )


def ends(first_h: int, last_h: int) -> st.SearchStrategy[dict[str, Resolution]]:
    return st.dictionaries(
        st.sampled_from(MARKETS),
        st.builds(
            Resolution,
            payouts=st.sampled_from([WON, LOST]),
            known_ns=st.integers(first_h, last_h).map(lambda h: START_NS + h * HOUR_NS),
        ),
    )


def made(past: Sequence[LeaderTrade], resolutions: dict[str, Resolution]) -> WalletHistory:
    return WalletHistory(
        wallet="0x" + "ab" * 20,
        trades=ordered(past),
        markets={
            m: MarketFacts(
                event_id=m[:2], category="sports", fees=FeeSchedule(rate=5 * SCALE // 100)
            )
            for m in MARKETS
        },
        resolutions=resolutions,
    )


@settings(max_examples=60)
@given(
    past=trades(0, 100, 25),
    known=ends(0, 100),
    future=trades(101, 400, 25),
    later=ends(101, 400),
    untimed=st.dictionaries(
        st.sampled_from(MARKETS),
        st.builds(Resolution, payouts=st.sampled_from([WON, LOST]), known_ns=st.none()),
    ),
)
def test_no_future_changes_a_score(
    past: list[LeaderTrade],
    known: dict[str, Resolution],
    future: list[LeaderTrade],
    later: dict[str, Resolution],
    untimed: dict[str, Resolution],
) -> None:
    alone = score(made(past, known), SPLIT_NS)
    with_future = score(made([*past, *future], untimed | later | known), SPLIT_NS)
    assert with_future == alone
    assert judge([with_future]) == judge([alone])


@settings(max_examples=60)
@given(past=trades(0, 100, 40), known=ends(0, 400))
def test_a_copier_holds_no_more_than_it_bought_and_is_never_short(
    past: list[LeaderTrade], known: dict[str, Resolution]
) -> None:
    rules = CopyRules()
    found = replay(made(past, known), rules, AssumedPrices())
    results = market_results(found.history)
    assert not any(result.unaccounted for result in results)
    # The cap holds at the leader's prices; what is paid is a cent a share more.
    shares = {r.market_id: 0 for r in results}
    for one in found.history.trades:
        if one.side is Side.BUY:
            shares[one.market_id] += one.qty
    for result in results:
        assert result.stake <= rules.market_cap + shares[result.market_id] // 100 + SCALE
    for copy, resolution in ((t, known.get(t.market_id)) for t in found.history.trades):
        assert resolution is None or resolution.known_ns is None or copy.ts_ns < resolution.known_ns


@settings(max_examples=60)
@given(past=trades(0, 100, 30), known=ends(0, 100))
def test_profit_is_cash_flow_plus_payoff(
    past: list[LeaderTrade], known: dict[str, Resolution]
) -> None:
    """The fold by lots agrees with one sum over all flows, which knows no lots."""
    history = made(past, known)
    for result in market_results(history):
        if result.pnl is None:
            continue
        mine = [t for t in history.trades if t.market_id == result.market_id]
        fees = history.facts(result.market_id).fees
        flow = 0
        held = [0, 0]
        for one in mine:
            sign = 1 if one.side is Side.BUY else -1
            held[one.outcome] += sign * one.qty
            flow -= sign * one.price * one.qty // SCALE
            flow -= 0 if one.role is Role.MAKER else fees.fee(one.price, one.qty)
        pays = known[result.market_id].payouts if result.market_id in known else (0, 0)
        flow += sum(pay * qty // SCALE for pay, qty in zip(pays, held, strict=True))
        assert abs(flow - result.pnl) <= len(mine) + 2
        kept = result.held[0][0] + result.held[1][0]
        payoff = sum(pay * qty // SCALE for pay, (_, qty) in zip(pays, result.held, strict=True))
        assert abs(result.exited_pnl + payoff - kept - result.pnl) <= 2 * len(mine) + 2


def test_the_score_does_depend_on_the_past() -> None:
    """The first test would pass of a score that sees nothing."""
    past = [
        LeaderTrade(
            ts_ns=START_NS, market_id="m0", outcome=0, side=Side.BUY,
            price=Price(SCALE // 2), qty=Qty(SCALE * 10),
        )
    ]  # fmt: skip
    ended = {"m0": Resolution(payouts=WON, known_ns=START_NS + HOUR_NS)}
    known = score(made(past, ended), SPLIT_NS)
    assert known.resolved_markets == 1
    late = {"m0": replace(ended["m0"], known_ns=SPLIT_NS + 1)}
    assert score(made(past, late), SPLIT_NS).resolved_markets == 0
