"""The gate lets skill through, and nobody else: not luck, not makers, not short or old records."""

from dataclasses import replace
from random import Random

import pytest

from fleet.clock import NS_PER_DAY
from fleet.research.leader_gate import Reason, judge
from fleet.research.leader_history import WalletHistory
from fleet.research.leader_scores import WalletScore, score
from tests.leader_builders import START_NS, bettor, history, trade


def wallet(number: int) -> str:
    return f"0x{number:040x}"


def bets(number: int, chance: float, *, days: int = 80, price: str = "0.5") -> WalletHistory:
    random = Random(number)
    return bettor([random.random() < chance for _ in range(days)], price, wallet=wallet(number))


def end(days: int) -> int:
    return START_NS + (days + 1) * NS_PER_DAY


def scored(made: WalletHistory, days: int = 80) -> WalletScore:
    return score(made, end(days))


@pytest.fixture(scope="module")
def fair() -> list[WalletScore]:
    """A hundred wallets whose copier breaks even: half a dollar and a cent a bet, half of 51."""
    return [scored(bets(number, 0.51, days=40), 40) for number in range(1, 101)]


def test_a_skilled_wallet_passes() -> None:
    (verdict,) = judge([scored(bets(1, 0.75))])
    assert verdict.copied, verdict.words
    assert verdict.status == "copied"
    assert verdict.reasons == ()


def test_wallets_without_skill_do_not_pass_however_many_are_looked_at(
    fair: list[WalletScore],
) -> None:
    assert min(s.p_value for s in fair) < 0.05, "some of so many look skilled"
    assert not any(v.copied for v in judge(fair))


def test_a_skilled_one_is_found_among_many_without(fair: list[WalletScore]) -> None:
    verdicts = judge([*fair, scored(bets(999, 0.85))])
    assert [v.wallet for v in verdicts if v.copied] == [wallet(999)]


def test_wallets_looked_at_one_at_a_time_count_all_the_same(fair: list[WalletScore]) -> None:
    lucky = min(fair, key=lambda s: s.p_value)
    alone = judge([lucky])[0]
    others = {s.wallet: s.p_value for s in fair}
    among = judge([lucky], earlier_p_values=others)[0]
    assert alone.copied, "alone it would pass: luck found it"
    assert among.reasons == (Reason.LUCK_NOT_EXCLUDED,)
    assert among.q_value == next(v.q_value for v in judge(fair) if v.wallet == lucky.wallet)


def test_favourites_that_always_win_prove_nothing() -> None:
    one = scored(bettor([True] * 60, "0.97", wallet=wallet(1)), 60)
    assert one.recent_copy_edge is not None
    assert one.recent_copy_edge.low > 0, "an interval alone would copy it"
    (verdict,) = judge([one])
    assert verdict.reasons == (Reason.LUCK_NOT_EXCLUDED,)


def test_twenty_nine_markets_are_one_too_few() -> None:
    for days, few in ((29, True), (30, False)):
        (verdict,) = judge([scored(bettor([True] * days, "0.3", wallet=wallet(1)), days)])
        assert (Reason.MARKETS_FEW in verdict.reasons) is few
        assert verdict.copied is not few


def test_an_edge_that_costs_eat_is_no_edge_to_copy() -> None:
    # Half a cent better than fair: the wallet earns it, a copier pays a cent.
    one = scored(bettor([n % 200 < 101 for n in range(400)], "0.5", wallet=wallet(1)), 400)
    assert one.pnl > 0
    assert one.copy_edge is not None
    assert one.copy_edge.estimate < 0
    assert Reason.COPY_EDGE_UNPROVEN in judge([one])[0].reasons


def test_old_skill_is_not_recent() -> None:
    (verdict,) = judge([score(bets(1, 0.75), end(80) + 200 * NS_PER_DAY)])
    assert verdict.reasons == (Reason.NOTHING_RECENT,)


def test_a_maker_is_not_copied_however_well_it_does() -> None:
    trades = []
    for n in range(60):
        for k in range(3):
            at = n * 86_400 + k * 200
            trades += [
                trade(f"m{n}", "BUY", "0.40", f"{50 + k}", at_s=at),
                trade(f"m{n}", "SELL", "0.55", f"{50 + k}", at_s=at + 90),
            ]
    one = scored(history(trades), 60)
    assert one.pnl > 0
    assert Reason.MARKET_MAKER in judge([one])[0].reasons


def test_a_record_with_holes_is_not_one() -> None:
    made = bets(1, 0.75)
    sales = [trade(f"gap{n}", "SELL", "0.9", "50", at_s=n) for n in range(30)]
    one = scored(replace(made, trades=(*sales, *made.trades)))
    assert one.unaccounted_markets == 30
    assert Reason.HISTORY_INCOMPLETE in judge([one])[0].reasons


def test_a_score_counts_what_it_says() -> None:
    one = scored(bettor([True, False, True], "0.4", wallet=wallet(1)), 3)
    assert (one.resolved_markets, one.won, one.open_markets) == (3, 2, 0)
    assert one.pnl == pytest.approx(2 * 60 - 40)
    assert one.stake == pytest.approx(120)
    assert one.edge is not None
    assert one.edge.estimate == pytest.approx(80 / 120)
    assert one.holding_ns == NS_PER_DAY
    assert one.categories["sports"].pnl == pytest.approx(80)
    told = one.as_json()
    assert told["style"]["market_maker"] is False
    assert told["edge"]["clusters"] == 3


def test_a_wallet_that_did_nothing_is_watched_with_reasons() -> None:
    (verdict,) = judge([score(history([]), START_NS)])
    assert verdict.reasons == (Reason.MARKETS_FEW, Reason.NOTHING_RECENT)
    assert verdict.words.startswith("watched on paper, not copied: fewer than 30")
