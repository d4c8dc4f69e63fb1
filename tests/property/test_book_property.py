"""The book against the simplest book there is: two dicts."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price, Qty
from fleet.engine.book import Book
from tests.builders import p, yes

TICKS = st.sampled_from([p("0.1"), p("0.01"), p("0.0025")])
QTYS = st.integers(0, 3).map(lambda n: Qty(n * SCALE))
SIDES = st.sampled_from(Side)


class BookMachine(RuleBasedStateMachine):
    """Any sequence of snapshots, changes and voids."""

    @initialize(tick=TICKS)
    def start(self, tick: Price) -> None:
        self.book = Book(yes(), tick)
        self.sides: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self.ready = False
        self.epoch = 0

    def on_grid(self, data: st.DataObject) -> Price:
        return Price(data.draw(st.integers(1, SCALE // self.book.tick - 1)) * self.book.tick)

    def forget(self) -> None:
        self.sides = {Side.BUY: {}, Side.SELL: {}}
        self.ready = False

    @rule(data=st.data(), side=SIDES, qty=QTYS)
    def change(self, data: st.DataObject, side: Side, qty: Qty) -> None:
        price = self.on_grid(data)
        self.book.apply(side, price, qty)
        self.sides[side][price] = qty

    @rule(side=SIDES, price=st.integers(-SCALE, 2 * SCALE))
    def change_off_the_grid(self, side: Side, price: int) -> None:
        if price % self.book.tick or not 0 < price < SCALE:
            self.book.apply(side, Price(price), Qty(1))
            self.forget()

    @rule(data=st.data(), bids=st.lists(QTYS, max_size=5), asks=st.lists(QTYS, max_size=5))
    def snapshot(self, data: st.DataObject, bids: list[Qty], asks: list[Qty]) -> None:
        new = {
            Side.BUY: [(self.on_grid(data), qty) for qty in bids],
            Side.SELL: [(self.on_grid(data), qty) for qty in asks],
        }
        assert self.book.replace(new[Side.BUY], new[Side.SELL], 1)
        self.sides = {side: dict(found) for side, found in new.items()}
        self.ready = True

    @rule()
    def snapshot_off_the_grid(self) -> None:
        assert not self.book.replace([(Price(1), Qty(1))], [], 1)
        self.forget()

    @rule(tick=st.none() | TICKS)
    def void(self, tick: Price | None) -> None:
        self.epoch += tick is not None and tick != self.book.tick
        self.book.void(tick)
        self.forget()

    def shown(self, side: Side) -> list[tuple[int, int]]:
        """The levels of one side, best first."""
        found = [(price, qty) for price, qty in self.sides[side].items() if qty]
        return sorted(found, reverse=side is Side.BUY)

    @invariant()
    def the_best_pointers_are_those_of_a_naive_search(self) -> None:
        bids, asks = self.shown(Side.BUY), self.shown(Side.SELL)
        book = self.book
        assert (book.bid, book.bid_qty) == (bids[0] if bids else (0, 0))
        assert (book.ask, book.ask_qty) == (asks[0] if asks else (SCALE, 0))
        assert list(book.levels(Side.BUY)) == asks
        assert list(book.levels(Side.SELL)) == bids
        assert book.epoch == self.epoch

    @invariant()
    def a_usable_book_is_never_crossed(self) -> None:
        bids, asks = self.shown(Side.BUY), self.shown(Side.SELL)
        crossed = bool(bids and asks and bids[0][0] >= asks[0][0])
        assert self.book.crossed is crossed
        assert self.book.usable is (self.ready and not crossed)

    @invariant()
    def depth_is_the_sum_to_the_limit(self) -> None:
        middle = SCALE // 2
        asks = sum(qty for price, qty in self.shown(Side.SELL) if price <= middle)
        bids = sum(qty for price, qty in self.shown(Side.BUY) if price >= middle)
        assert self.book.depth(Side.BUY, Price(middle)) == asks
        assert self.book.depth(Side.SELL, Price(middle)) == bids


TestBook = BookMachine.TestCase
