"""The short way to a size never differs from the long one."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.events import Level
from fleet.domain.instruments import FeeSchedule, Instrument, InstrumentId, MarketId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.book import Book
from fleet.strategies.sizing import Offer, _at_best, _tops, _walk

TICK = Price(SCALE // 100)


@st.composite
def offers(draw: st.DrawFn) -> tuple[list[Offer], int]:
    selling = draw(st.booleans())
    count = 2 if selling else draw(st.integers(2, 5))
    found: list[Offer] = []
    for index in range(count):
        instrument = Instrument(
            id=InstrumentId(f"t{index}"), market_id=MarketId("m"), complement=InstrumentId("x"),
            outcome="Yes", tick=TICK,
            fees=FeeSchedule(rate=draw(st.sampled_from([0, 4_000_000, 7_000_000]))),
        )  # fmt: skip
        levels: list[Level] = [
            (Price(tick * TICK), Qty(shares * SCALE))
            for tick, shares in draw(
                st.dictionaries(st.integers(1, 99), st.sampled_from([5, 50, 98, 300]), max_size=4)
            ).items()
        ]
        book = Book(instrument.id, TICK)
        assert book.replace(levels if selling else [], [] if selling else levels, 1)
        found.append(Offer(instrument, Side.SELL if selling else Side.BUY, book))
    if selling:
        return found, -SCALE
    return found, draw(st.sampled_from([SCALE, (count - 1) * SCALE]))


@given(
    case=offers(),
    trade_size=st.sampled_from([Cash(20 * SCALE), Cash(100 * SCALE), Cash(5_000 * SCALE)]),
    min_profit=st.sampled_from([0, SCALE // 200, SCALE // 20]),
)
def test_the_best_levels_decide_as_the_joint_walk_would(
    case: tuple[list[Offer], int], trade_size: Cash, min_profit: int
) -> None:
    legs, payoff = case
    tops = _tops(legs)
    if tops is None:
        assert _walk(legs, payoff, trade_size, min_profit) == 0
        return
    short = _at_best(legs, tops, payoff, trade_size, min_profit)
    if short is not None:
        assert short == _walk(legs, payoff, trade_size, min_profit)
