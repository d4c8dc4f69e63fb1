"""What a strategy may see of the state. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, ClientOrderId, OperationId, RunOperation
from fleet.domain.instruments import Instrument, InstrumentId, MarketId, Universe
from fleet.domain.units import Cash, notional_down
from fleet.engine.book import Book
from fleet.engine.bundle import Bundle
from fleet.engine.leaders import Leaders
from fleet.engine.orders import Order
from fleet.engine.portfolio import Position
from fleet.engine.standing import Standing
from fleet.engine.state import Payout, State


class View:
    """What a strategy may see. Nothing here changes anything."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        """Look at ``state``."""
        self._state = state

    @property
    def universe(self) -> Universe:
        """The instruments, markets, sets and ladders."""
        return self._state.universe

    @property
    def now_ns(self) -> int:
        """The engine's time: the newest receive time of any event."""
        return self._state.now_ns

    @property
    def moment_ns(self) -> int:
        """The newest venue time of market data."""
        return self._state.moment_ns

    @property
    def trading(self) -> ev.TradingState:
        """Whether trading is allowed."""
        return self._state.trading

    @property
    def operator(self) -> str:
        """The newest standing order of a person: resume, reduce, flatten or pause."""
        return self._state.operator

    @property
    def cash(self) -> Cash:
        """Cash, in-flight orders not taken off."""
        return self._state.portfolio.cash

    @property
    def open_bundles(self) -> Mapping[BundleId, Bundle]:
        """The bundles under way."""
        return self._state.bundles.open

    @property
    def open_orders(self) -> Mapping[ClientOrderId, Order]:
        """The orders that may still trade."""
        return self._state.orders.open

    @property
    def pending_operations(self) -> Mapping[OperationId, RunOperation]:
        """The token operations whose outcome is not known."""
        return self._state.bundles.pending

    @property
    def resolved(self) -> Mapping[InstrumentId, Payout]:
        """What the tokens of resolved markets pay."""
        return self._state.resolved

    @property
    def forecasts(self) -> Mapping[MarketId, ev.ForecastReceived]:
        """The newest forecast of each market that is not resolved."""
        return self._state.forecasts

    @property
    def standing(self) -> Mapping[BundleId, Standing]:
        """What closed bundles bought and still hold, oldest first."""
        return self._state.bundles.standings.all

    @property
    def leaders(self) -> Leaders:
        """What followed wallets did, and what was decided about it. To be asked, not told."""
        return self._state.leaders

    def newest_bundle(self, idea: str, key: str) -> Bundle | None:
        """The bundle of this idea and key that opened last, open or closed."""
        return self._state.bundles.newest(idea, key)

    @property
    def positions(self) -> Mapping[InstrumentId, Position]:
        """What is held."""
        return self._state.portfolio.positions

    def book(self, instrument_id: InstrumentId) -> Book:
        """The book of one instrument; it stays the same object for the life of the engine."""
        return self._state.books[instrument_id]

    def knows(self, instrument_id: InstrumentId) -> bool:
        """Whether the instrument is in the universe; an older journal may name one that is not."""
        return instrument_id in self._state.universe.instruments

    def instrument(self, instrument_id: InstrumentId) -> Instrument:
        """One instrument of the universe."""
        return self._state.universe.instruments[instrument_id]

    def position(self, instrument_id: InstrumentId) -> Position:
        """The position in one token."""
        return self._state.portfolio.position(instrument_id)

    def next_bundle_id(self, offset: int = 0) -> BundleId:
        """An id no bundle of this journal ever had or will have.

        It is made of the number of the decision that will record it, because a bundle that risk
        refuses is not counted anywhere; ``offset`` tells the bundles of one decision apart.
        """
        number = self._state.decisions + 1
        return BundleId(f"b{number}.{offset}" if offset else f"b{number}")

    def marked_value(self) -> Cash:
        """What all positions would bring at the best bids of usable books, before fees.

        A position whose book is not usable is counted at its cost: unknown is not zero.
        """
        total = 0
        for instrument_id, position in self._state.portfolio.positions.items():
            book = self._state.books.get(instrument_id)
            if book is not None and book.usable and book.best_bid:
                total += notional_down(book.bid, position.qty)
            else:
                total += position.cost
        return Cash(total)
