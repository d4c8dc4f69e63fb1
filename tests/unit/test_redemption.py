"""Resolved markets: one redemption for both tokens, none twice, and what each does to the books."""

from fleet.domain import events as ev
from fleet.domain.commands import OperationKind, RunOperation
from fleet.domain.events import TradingState
from fleet.domain.instruments import InstrumentId
from fleet.engine.view import View
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.redemption import PAUSE_NS, TRIES_WAITED_FOR, WRITE_OFF_NS
from tests.builders import (
    MINED,
    NS,
    Rig,
    c,
    confirmed,
    filled,
    market_id,
    no,
    operations_of,
    p,
    q,
    settled,
    tick,
    trading,
    universe,
    yes,
)

GONE = InstrumentId("left-the-catalogue")


class Holder:
    """ArbHunter with tokens it bought in an earlier life."""

    def __init__(self) -> None:
        def made(view: View) -> Arbitrage:
            return Arbitrage(ArbSettings(), view)

        self.rig = Rig(universe(3), strategy=made)
        self.rig.open_market()
        self.now = NS

    def hold(
        self, token: InstrumentId, qty: str, price: str = "0.5", *, mined: bool = True
    ) -> None:
        name = f"t-{token}"
        self.rig.state.apply(filled("old", qty, price, trade=name, token=token, at=self.now))
        self.rig.state.anomaly = ""
        if mined:
            self.rig.say(settled(name, MINED, at=self.now))

    def answer(self, *prices: tuple[InstrumentId, str], market: str = "m1") -> None:
        payouts = tuple((token, p(price)) for token, price in prices)
        self.rig.say(
            ev.MarketResolved(
                ts_event=self.now, ts_recv=self.now, market_id=market_id(int(market[1:])),
                payouts=payouts,
            )
        )  # fmt: skip

    def tick(self, after: int = NS) -> list[RunOperation]:
        self.now += after
        return operations_of(self.rig.say(tick(self.now)))

    def done(self, operation: RunOperation) -> None:
        self.rig.say(confirmed(operation, at=self.now))

    def fail(self, operation: RunOperation) -> None:
        self.rig.say(
            ev.OperationRejected(
                ts_event=self.now, ts_recv=self.now, operation_id=operation.operation_id,
                reason="result for condition not received yet",
            )
        )  # fmt: skip


def test_both_tokens_of_a_market_are_one_redemption() -> None:
    made = Holder()
    made.hold(yes(), "10", "0.4")
    made.hold(no(), "7", "0.5")
    made.answer((yes(), "1"), (no(), "0"))
    (redeem,) = made.tick()
    assert (redeem.kind, redeem.subject) == (OperationKind.REDEEM, market_id())
    assert redeem.burn == ((yes(), q("10")), (no(), q("7")))
    assert (redeem.mint, redeem.cash) == ((), c("10"))
    assert made.tick(PAUSE_NS) == made.tick(PAUSE_NS) == [], "it is under way"
    before = made.rig.state.portfolio.cash
    made.done(redeem)
    book = made.rig.state.portfolio
    assert book.positions == {}
    assert book.cash == before + c("10")
    # 10 dollars for tokens that cost 4 and 3.50: realised, of this day, and in the ledger.
    assert book.realised == book.day_realised == c("2.5")
    assert made.rig.state.bundles.totals.redeemed == c("10")
    assert made.tick(WRITE_OFF_NS) == []


def test_a_token_that_came_while_the_redemption_is_under_way_waits_for_its_end() -> None:
    made = Holder()
    made.hold(yes(), "10")
    made.answer((yes(), "1"), (no(), "0"))
    (redeem,) = made.tick()
    made.hold(no(), "7")
    assert made.tick(WRITE_OFF_NS) == []
    made.done(redeem)
    (rest,) = made.tick(WRITE_OFF_NS)
    assert (rest.burn, rest.cash) == (((no(), q("7")),), 0)


def test_half_a_dollar_each_is_paid_on_both_sides() -> None:
    made = Holder()
    made.hold(yes(), "10")
    made.hold(no(), "4")
    made.answer((yes(), "0.5"), (no(), "0.5"))
    assert [one.cash for one in made.tick()] == [c("7")]


def test_unsettled_tokens_keep_the_whole_market_waiting() -> None:
    made = Holder()
    made.hold(yes(), "10")
    made.hold(no(), "10", mined=False)
    made.answer((yes(), "1"), (no(), "0"))
    assert made.tick() == []
    made.rig.say(settled(f"t-{no()}", MINED, at=made.now))
    assert len(made.tick()) == 1


def test_a_rejected_redemption_is_asked_for_again_more_and_more_rarely() -> None:
    made = Holder()
    made.hold(yes(), "10")
    made.answer((yes(), "1"), (no(), "0"))
    (redeem,) = made.tick()
    for pause_ns in (PAUSE_NS, 2 * PAUSE_NS, 4 * PAUSE_NS):
        made.fail(redeem)
        assert made.tick(pause_ns - 1) == []
        (redeem,) = made.tick(1)
    made.done(redeem)
    assert made.rig.state.portfolio.positions == {}


def test_worthless_tokens_are_written_off_later_and_after_the_winners() -> None:
    made = Holder()
    made.hold(yes(1), "10", "0.3")
    made.hold(yes(2), "10", "0.6")
    made.answer((yes(1), "0"), (no(1), "1"))
    assert made.tick() == []
    made.answer((yes(2), "1"), (no(2), "0"), market="m2")
    (paying,) = made.tick(WRITE_OFF_NS)
    assert paying.subject == market_id(2)
    assert made.tick() == []
    made.done(paying)
    (worthless,) = made.tick()
    assert (worthless.subject, worthless.cash) == (market_id(1), 0)
    made.done(worthless)
    book = made.rig.state.portfolio
    assert (book.positions, book.cost, book.realised) == ({}, 0, c("1"))


def test_a_winner_that_is_never_paid_does_not_keep_the_losers_for_ever() -> None:
    made = Holder()
    made.hold(yes(1), "10", "0.3")
    made.hold(yes(2), "10", "0.6")
    made.answer((yes(1), "0"), (no(1), "1"))
    made.answer((yes(2), "1"), (no(2), "0"), market="m2")
    made.tick(WRITE_OFF_NS - NS)
    asked: list[str] = []
    for _ in range(TRIES_WAITED_FOR + 2):
        for operation in list(made.rig.state.bundles.pending.values()):
            made.fail(operation)
        asked += [operation.subject for operation in made.tick(PAUSE_NS << 8)]
    assert asked.count(market_id(1)) >= 1
    assert asked[: TRIES_WAITED_FOR - 1] == [market_id(2)] * (TRIES_WAITED_FOR - 1)


def test_a_token_that_left_the_catalogue_is_redeemed_by_its_market() -> None:
    made = Holder()
    made.hold(GONE, "10", "0.4")
    made.answer((GONE, "1"), (InstrumentId("other"), "0"), market="m77")
    (redeem,) = made.tick()
    assert (redeem.subject, redeem.burn) == (market_id(77), ((GONE, q("10")),))
    made.done(redeem)
    assert made.rig.state.portfolio.realised == c("6")


def test_while_halted_nothing_is_redeemed() -> None:
    made = Holder()
    made.hold(yes(), "10")
    made.answer((yes(), "1"), (no(), "0"))
    made.rig.say(trading(TradingState.HALTED, at=made.now))
    assert made.tick() == []
    made.rig.say(trading(TradingState.REDUCING, at=made.now))
    assert len(made.tick()) == 1, "reducing is no reason to leave money with the venue"


def test_two_answers_that_differ_halt() -> None:
    made = Holder()
    made.answer((yes(), "1"), (no(), "0"))
    made.answer((yes(), "1"), (no(), "0"))
    assert not made.rig.state.trading_reason.count("resolved twice")
    made.answer((yes(), "0"), (no(), "1"))
    assert made.rig.state.trading is TradingState.HALTED
    assert "resolved twice" in made.rig.state.trading_reason
    assert made.rig.state.resolved[yes()].price == p("1")


def test_a_resolved_market_has_no_book_any_more() -> None:
    made = Holder()
    assert made.rig.state.books[yes()].usable
    made.answer((yes(), "1"), (no(), "0"))
    assert not made.rig.state.books[yes()].usable
    assert not made.rig.state.books[no()].usable
