"""What leaders hold: lots, late and repeated sightings, undone ones, the horizon, and the image."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, LegPlan, OpenBundle
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.knowledge import COPY_REFUSAL_MEANING, CopyRefusal, CopyRefused
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.leaders import HORIZON, LAGS_MAX, Leaders
from fleet.engine.state import fold
from tests.builders import DAY, NS, c, market_id, no, p, q, universe, yes
from tests.mimic_world import ANN, LEE, chosen, moved, traded, undone

HASH = "0x" + "f" * 64


def leaders(*events: ev.Event) -> Leaders:
    return fold([chosen(LEE), *events], universe(2)).leaders


def sold(name: str, qty: str, price: str = "0.50", **more: Any) -> ev.LeaderTraded:
    return traded(name, qty, price, side=Side.SELL, **more)


def copy_of(*names: str, bundle: str = "b1", token: InstrumentId | None = None) -> OpenBundle:
    leg = LegPlan(instrument_id=token or yes(), side=Side.BUY, qty=q("10"), limit=p("0.5"),
                  unwind=p("0.01"))  # fmt: skip
    return OpenBundle(
        bundle_id=BundleId(bundle), idea="COPY", key="k", legs=(leg,), start=None, finish=None,
        payoff=p("0.5"), budget=c("5"), edge=Cash(0), answers=names,
    )  # fmt: skip


def test_every_reason_has_words() -> None:
    assert set(COPY_REFUSAL_MEANING) == set(CopyRefusal)


def test_a_loss_takes_the_same_part_of_every_lot() -> None:
    fold_of = leaders(
        traded("a", "100", block=1), traded("b", "300", block=2), sold("s", "100", block=3),
        traded("c", "60", block=4),
    )  # fmt: skip
    assert fold_of.held(LEE, yes()) == q("360")
    lefts = [fold_of.left(one) for one in fold_of.candidates(LEE, yes())]
    assert lefts == [q("75"), q("225"), q("60")]


def test_who_has_nothing_left_begins_anew() -> None:
    fold_of = leaders(
        traded("a", "100", block=1), sold("s", "500", block=2), traded("b", "10", block=3)
    )
    assert [fold_of.left(one) for one in fold_of.candidates(LEE, yes())] == [0, q("10")]
    assert fold_of.held(LEE, yes()) == q("10")


def test_the_order_of_the_chain_counts_not_that_of_the_telling() -> None:
    told = [
        traded("a", "100", block=1), sold("s", "50", block=2), traded("b", "50", block=3),
        sold("t", "25", block=4),
    ]  # fmt: skip
    want = leaders(*told)
    for order in ([3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        got = leaders(*(told[n] for n in order))
        assert got.held(LEE, yes()) == want.held(LEE, yes()) == q("75")
        lefts = {one.id: got.left(one) for one in got.candidates(LEE, yes())}
        assert lefts == {"a": q("37.5"), "b": q("37.5")}


def test_within_a_block_gains_come_first() -> None:
    assert leaders(sold("s", "100"), traded("a", "100")).held(LEE, yes()) == 0


def test_moves_change_several_tokens_at_once() -> None:
    fold_of = leaders(
        moved("m", (yes(), "10"), (no(), "10"), block=1, kind=ev.MoveKind.SPLIT),
        moved("n", (yes(), "-4"), (yes(), "-1"), block=2),
    )  # fmt: skip
    assert (fold_of.held(LEE, yes()), fold_of.held(LEE, no())) == (q("5"), q("10"))
    assert not fold_of.waiting()
    assert fold_of.held(ANN, yes()) == 0


def test_what_is_told_twice_counts_once() -> None:
    fold_of = leaders(traded("a"), traded("a"), traded("a", block=7))
    assert fold_of.held(LEE, yes()) == q("100")
    assert (fold_of.totals.told, fold_of.totals.repeated) == (3, 2)
    assert len(fold_of.candidates(LEE, yes())) == 1


def test_what_is_undone_never_was_until_it_is_told_again() -> None:
    events: list[ev.Event] = [traded("a", "100", block=1), traded("b", "100", block=2)]
    fold_of = leaders(*events, undone("a", at=5))
    assert fold_of.held(LEE, yes()) == q("100")
    assert [one.id for one in fold_of.candidates(LEE, yes())] == ["b"]
    assert leaders(*events, undone("a"), undone("a")).totals.undone == 1
    back = leaders(*events, undone("a"), traded("a", "100", block=3))
    assert back.held(LEE, yes()) == q("200")
    assert [one.id for one in back.candidates(LEE, yes())] == ["a", "b"]
    assert leaders(undone("never")).totals.undone_unknown == 1


def test_an_undone_sale_gives_back_what_it_took() -> None:
    fold_of = leaders(traded("a", "100", block=1), sold("s", "60", block=2), undone("s"))
    assert fold_of.held(LEE, yes()) == q("100")


def test_a_decision_follows_its_trade_into_another_block() -> None:
    fold_of = leaders(traded(HASH + "-1", block=1))
    fold_of.copied(copy_of(HASH + "-1"), 2 * NS)
    fold_of.undone(undone(HASH + "-1"))
    fold_of.traded(traded(HASH + "-8", block=2))
    assert not fold_of.candidates(LEE, yes())
    (answered,) = fold_of.answered(BundleId("b1"))
    assert (answered.id, fold_of.left(answered)) == (HASH + "-8", q("100"))
    # The old log is told once more, late: a repetition.
    fold_of.traded(traded(HASH + "-1", block=1))
    assert fold_of.held(LEE, yes()) == q("100")
    # Until the new block is gone too and the old one is back after all, with its decision.
    fold_of.undone(undone(HASH + "-8"))
    fold_of.traded(traded(HASH + "-1", block=1))
    assert not fold_of.candidates(LEE, yes())
    (answered,) = fold_of.answered(BundleId("b1"))
    assert (answered.id, fold_of.left(answered)) == (HASH + "-1", q("100"))


def test_another_trade_of_the_same_transaction_is_another_trade() -> None:
    fold_of = leaders(traded(HASH + "-1", block=1), undone(HASH + "-1"))
    fold_of.traded(traded(HASH + "-8", "99", block=2))
    assert [one.id for one in fold_of.candidates(LEE, yes())] == [HASH + "-8"]


def test_a_refusal_and_a_copy_end_the_waiting() -> None:
    fold_of = leaders(traded("a"), traded("b"), traded("c"))
    fold_of.refused(CopyRefused(sightings=("a", "gone"), wallet=LEE, instrument_id=yes(),
                                reason=CopyRefusal.PRICE_RAN))  # fmt: skip
    fold_of.copied(copy_of("b"), 3 * NS)
    assert [one.id for one in fold_of.candidates(LEE, yes())] == ["c"]
    assert fold_of.waiting() == [(LEE, yes())]
    # Neither can be decided about again.
    fold_of.refused(CopyRefused(sightings=("a", "b"), wallet=LEE, instrument_id=yes(),
                                reason=CopyRefusal.NOT_COPIED))  # fmt: skip
    assert fold_of.totals.refused == {"PRICE_RAN": 1}
    fold_of.copied(copy_of("b", bundle="b2"), 3 * NS)
    assert not fold_of.answered(BundleId("b2"))
    assert fold_of.lags == [2 * NS]


def test_the_day_counts_what_copies_may_cost() -> None:
    fold_of = leaders()
    fold_of.copied(copy_of(), NS)
    fold_of.copied(copy_of(bundle="b2"), 2 * NS)
    assert fold_of.day_budget(DAY - 1) == c("10")
    assert fold_of.day_budget(DAY) == 0
    fold_of.copied(copy_of(bundle="b3"), DAY)
    assert fold_of.day_budget(DAY) == c("5")


def test_only_the_newest_lags_are_kept() -> None:
    fold_of = leaders()
    for number in range(LAGS_MAX + 5):
        fold_of.traded(traded(f"a{number}"))
        fold_of.copied(copy_of(f"a{number}", bundle=f"b{number}"), NS + number)
    assert (len(fold_of.lags), fold_of.lags[0]) == (LAGS_MAX, 5)


def test_beyond_the_horizon_a_repetition_cannot_be_told_and_is_not_taken() -> None:
    fold_of = leaders(traded("a", block=10), sold("s", "100", block=11))
    fold_of.traded(traded("b", block=12 + HORIZON))
    fold_of.traded(traded("a", block=10))
    assert fold_of.totals.late == 1
    assert fold_of.held(LEE, yes()) == q("100")
    assert [one.id for one in fold_of.candidates(LEE, yes())] == ["b"]


def test_a_resolved_token_is_followed_no_more() -> None:
    resolution = ev.MarketResolved(
        market_id=market_id(), payouts=((yes(), Price(SCALE)), (no(), Price(0)))
    )
    fold_of = leaders(traded("a"), resolution, traded("b"))
    assert fold_of.held(LEE, yes()) == 0
    assert [one.id for one in fold_of.candidates(LEE, yes())] == ["a", "b"]  # To be refused.


def test_sales_tell_what_each_lot_earned() -> None:
    fold_of = leaders(
        traded("a", "100", "0.40", block=1), sold("s", "50", "0.60", block=2),
        traded("b", "50", "0.50", block=3), sold("t", "50", "0.80", block=4),
    )  # fmt: skip
    first, second = fold_of.candidates(LEE, yes())
    # Of a: 50 at 0.60, then half of the other 50 at 0.80; of b half at 0.80.
    assert (fold_of.earned(first), fold_of.earned(second)) == (c("50"), c("20"))
    assert (fold_of.left(first), fold_of.left(second)) == (q("25"), q("25"))
    fold_of.traded(sold("u", "50", "1", block=5))
    assert (fold_of.earned(first), fold_of.earned(second)) == (c("75"), c("45"))


@pytest.mark.parametrize("count", [2_000])
def test_many_logs_of_one_block_are_taken_in_any_order(count: int) -> None:
    fold_of = leaders(*(traded(f"a{n * 7919 % count}", "1") for n in range(count)))
    assert fold_of.held(LEE, yes()) == Qty(count * SCALE)
