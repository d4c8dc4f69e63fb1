"""Sizing against a walk lot by lot, and against exact fractions."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.domain.instruments import FEE_STEP, FeeSchedule, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_down, notional_up
from fleet.engine.book import Book
from fleet.strategies.sizing import Offer, size_bundle, take
from tests.builders import instrument, market_id, no, p, yes

LOT = SCALE // 100
TICK = p("0.01")
LADDERS = st.lists(
    st.tuples(st.integers(1, 99), st.integers(1, 2_000)), min_size=1, max_size=4,
    unique_by=lambda level: level[0],
)  # fmt: skip
RATES = st.sampled_from(["0", "0.03", "0.04", "0.05", "0.07"])


def offer(number: int, side: Side, ladder: list[tuple[int, int]], rate: str) -> Offer:
    found = [(Price(index * TICK), Qty(lots * LOT)) for index, lots in ladder]
    book = Book(yes(number), TICK)
    book.replace(found if side is Side.SELL else [], found if side is Side.BUY else [], 1)
    return Offer(instrument(yes(number), no(number), market_id(number), rate=rate), side, book)


def exact_fee(schedule: FeeSchedule, price: int, qty: int) -> Fraction:
    """The fee in units of 1e-8 dollars, not rounded at all."""
    share = Fraction(price, SCALE)
    return Fraction(schedule.rate, SCALE) * share * (1 - share) * qty


def exact_cash(one: Offer, qty: int) -> Fraction:
    """What taking ``qty`` really brings (negative when paid), not rounded at all."""
    total, left = Fraction(0), qty
    for price, offered in one.book.levels(one.side):
        part = min(left, offered)
        gross = Fraction(price * part, SCALE)
        total += (gross if one.side is Side.SELL else -gross) - exact_fee(
            one.instrument.fees, price, part
        )
        left -= part
    assert not left
    return total


def a_share(one: Offer) -> int:
    """What one share costs at the touch, fee included; negative for what selling it brings."""
    price, _ = next(one.book.levels(one.side))
    fee = one.instrument.fees.per_share(price)
    return price + fee if one.side is Side.BUY else fee - price


def lot_by_lot(offers: list[Offer], payoff: int, trade_size: int, min_profit: int) -> int:
    """The walk of the module's docstring, one lot at a time."""
    lots = 0
    spent = [0] * len(offers)
    while True:
        cost, capital = 0, max(0, -payoff)
        prices = []
        for one in offers:
            seen, price = 0, None
            for level, offered in one.book.levels(one.side):
                seen += offered
                if seen >= (lots + 1) * LOT:
                    price = level
                    break
            if price is None:
                return lots * LOT
            unit = one.instrument.fees.per_share(price)
            unit = unit + price if one.side is Side.BUY else unit - price
            cost += unit
            capital += max(0, unit)
            prices.append(price)
        if (payoff - cost) * SCALE < min_profit * capital or payoff <= cost:
            return lots * LOT
        for index, price in enumerate(prices):
            spent[index] += notional_up(price, Qty(LOT))
        if max(spent) > trade_size:
            return lots * LOT
        lots += 1


@settings(max_examples=300)
@given(
    ladders=st.lists(LADDERS, min_size=1, max_size=3),
    side=st.sampled_from(Side),
    rate=RATES,
    payoff_cents=st.integers(1, 250),
    trade_dollars=st.integers(1, 20),
    min_profit=st.sampled_from([0, SCALE // 200, SCALE // 50]),
)
def test_a_size_is_what_a_patient_walk_finds(
    ladders: list[list[tuple[int, int]]],
    side: Side,
    rate: str,
    payoff_cents: int,
    trade_dollars: int,
    min_profit: int,
) -> None:
    offers = [offer(n, side, ladder, rate) for n, ladder in enumerate(ladders)]
    payoff = payoff_cents * (SCALE // 100) * (1 if side is Side.BUY else -1)
    trade_size = Cash(trade_dollars * SCALE)
    found = size_bundle(offers, payoff, trade_size=trade_size, min_profit=min_profit)
    slow = lot_by_lot(offers, payoff, trade_size, min_profit)
    if found is None:
        # Too little for the venue, or the rounding of the fees ate what was left.
        if not slow:
            return
        parts = [take(one, Qty(slow)) for one in offers]
        assert all(part is not None for part in parts)
        least = max(
            one.instrument.least_qty(part[1])
            for one, part in zip(offers, parts, strict=True)
            if part is not None
        )
        edge: int = sum(part[0] for part in parts if part is not None)
        edge += notional_down(Price(payoff), Qty(slow))
        hair = 1_000 * sum(len(ladder) for ladder in ladders)
        capital = 3 * len(offers) * slow
        assert slow < least or (edge - hair) * SCALE < min_profit * capital or edge <= hair
        return
    assert found.qty % LOT == 0
    assert abs(found.qty - slow) <= LOT
    for one, limit, depth in zip(offers, found.limits, found.depths, strict=True):
        assert depth == one.book.depth(one.side, limit) >= found.qty
        assert found.qty >= one.instrument.least_qty(limit)
        part = take(one, found.qty)
        assert part is not None
        assert part[1] == limit
        traded = [
            notional_up(price, qty) for price, qty in one.book.levels(one.side) if price == limit
        ]
        assert traded
    assert found.edge > 0
    assert found.edge * SCALE >= min_profit * found.outlay


@settings(max_examples=300)
@given(
    ladders=st.lists(LADDERS, min_size=1, max_size=3),
    side=st.sampled_from(Side),
    rate=RATES,
    margin=st.integers(1, SCALE),
)
def test_rounding_never_favours_us(
    ladders: list[list[tuple[int, int]]], side: Side, rate: str, margin: int
) -> None:
    offers = [offer(n, side, ladder, rate) for n, ladder in enumerate(ladders)]
    payoff = margin + sum(a_share(one) for one in offers)
    if side is Side.SELL and payoff >= 0:
        return  # the fees and the margin eat all that selling brings
    found = size_bundle(offers, payoff, trade_size=Cash(50 * SCALE), min_profit=0)
    if found is None:
        return  # too little for the venue
    gain = sum((exact_cash(one, found.qty) for one in offers), Fraction(payoff * found.qty, SCALE))
    assert found.edge <= gain
    least = Fraction(0 if payoff > 0 else -payoff * found.qty, SCALE)
    for one, limit in zip(offers, found.limits, strict=True):
        if one.side is Side.BUY:
            fee = exact_fee(one.instrument.fees, limit, found.qty)
            least += Fraction(limit * found.qty, SCALE) + fee
            assert -exact_cash(one, found.qty) <= least
    assert found.outlay >= least


@given(price=st.integers(0, SCALE), qty=st.integers(0, 10**6 * SCALE), rate=st.integers(0, SCALE))
def test_a_fee_and_a_notional_are_never_below_the_exact_one(
    price: int, qty: int, rate: int
) -> None:
    schedule = FeeSchedule(rate=rate)
    fee, least = schedule.fee(Price(price), Qty(qty)), exact_fee(schedule, price, qty)
    assert least <= fee < least + FEE_STEP
    assert fee % FEE_STEP == 0
    assert schedule.per_share(Price(price)) >= exact_fee(schedule, price, SCALE)
    exact = Fraction(price * qty, SCALE)
    assert notional_down(Price(price), Qty(qty)) <= exact <= notional_up(Price(price), Qty(qty))
    assert notional_up(Price(price), Qty(qty)) - notional_down(Price(price), Qty(qty)) <= 1
