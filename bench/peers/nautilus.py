"""NautilusTrader's Polymarket path from frame to decision, with its own classes, no network.

``bare``: the adapter's decoder and schemas make order-book deltas, which are applied to the
library's ``OrderBook`` of each token; then YES + NO is compared with a dollar, fees included.
``engine``: the adapter's ``PolymarketDataClient`` handles the raw frame, its ``DataEngine`` keeps
the books and publishes, and an actor subscribed to both tokens makes the same comparison. The
engine is the synchronous one: the queue and task switch of the live engine would only add to it.

Run by bench/run.py with the Python of bench/.peers: ``nautilus.py bare|engine FRAMES``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import msgspec
from frames import MARKET, NO, YES
from nautilus_trader.adapters.polymarket.common.constants import POLYMARKET_VENUE
from nautilus_trader.adapters.polymarket.common.parsing import parse_instrument
from nautilus_trader.adapters.polymarket.common.symbol import get_polymarket_instrument_id
from nautilus_trader.adapters.polymarket.config import PolymarketDataClientConfig
from nautilus_trader.adapters.polymarket.data import PolymarketDataClient
from nautilus_trader.adapters.polymarket.providers import PolymarketInstrumentProvider
from nautilus_trader.adapters.polymarket.schemas.book import PolymarketQuotes
from nautilus_trader.adapters.polymarket.websocket.types import MARKET_WS_MESSAGE
from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.actor import Actor
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.core.datetime import millis_to_nanos
from nautilus_trader.data.engine import DataEngine
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.data import BookOrder, OrderBookDelta, OrderBookDeltas
from nautilus_trader.model.enums import BookAction, BookType, OrderSide, RecordFlag
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.model.instruments import BinaryOption
from nautilus_trader.portfolio.portfolio import Portfolio
from py_clob_client.client import ClobClient
from timing import read_frames, report, summary, time_each

FEE_RATE = 0.05


def instruments() -> dict[str, BinaryOption]:
    """Both tokens as the adapter's provider would load them."""
    info = {
        "condition_id": MARKET,
        "question": "Will it?",
        "minimum_tick_size": 0.01,
        "minimum_order_size": 5,
        "end_date_iso": "2030-01-01",
        "maker_base_fee": 0,
        "taker_base_fee": 0,
    }
    return {
        token: parse_instrument(info, token, outcome, 0)
        for token, outcome in ((YES, "Yes"), (NO, "No"))
    }


class Check:
    """Whether buying both tokens at their best asks pays after fees, or selling both at the bids."""

    def __init__(self, yes: OrderBook, no: OrderBook) -> None:
        """Compare these two books."""
        self.yes = yes
        self.no = no
        self.found = 0

    def __call__(self) -> None:
        """Count an opportunity, if there is one; fees are only reckoned for a gross profit."""
        ask, other_ask = self.yes.best_ask_price(), self.no.best_ask_price()
        if ask is not None and other_ask is not None:
            cost = ask.as_double() + other_ask.as_double()
            if cost < 1.0 and 1.0 - cost > _fees(ask.as_double(), other_ask.as_double()):
                self.found += 1
        bid, other_bid = self.yes.best_bid_price(), self.no.best_bid_price()
        if bid is not None and other_bid is not None:
            gain = bid.as_double() + other_bid.as_double()
            if gain > 1.0 and gain - 1.0 > _fees(bid.as_double(), other_bid.as_double()):
                self.found += 1


def _fees(first: float, second: float) -> float:
    return FEE_RATE * (first * (1 - first) + second * (1 - second))


def bare() -> tuple[Callable[[bytes], None], Check]:
    """Decoder, schemas and books alone."""
    tokens = instruments()
    books = {t.id: OrderBook(t.id, book_type=BookType.L2_MBP) for t in tokens.values()}
    by_token = {token: (i, books[i.id]) for token, i in tokens.items()}
    decode = msgspec.json.Decoder(MARKET_WS_MESSAGE).decode
    clock = LiveClock()
    check = Check(books[tokens[YES].id], books[tokens[NO].id])

    def handle(frame: bytes) -> None:
        message = decode(frame)
        now = clock.timestamp_ns()
        if isinstance(message, PolymarketQuotes):
            # The adapter's own loop (its parse_to_deltas would book both tokens as one).
            for change in message.price_changes:
                instrument, book = by_token[change.asset_id]
                order = BookOrder(
                    side=OrderSide.BUY if change.side.value == "BUY" else OrderSide.SELL,
                    price=instrument.make_price(float(change.price)),
                    size=instrument.make_qty(float(change.size)),
                    order_id=0,
                )
                delta = OrderBookDelta(
                    instrument_id=instrument.id,
                    action=BookAction.UPDATE if order.size > 0 else BookAction.DELETE,
                    order=order,
                    flags=RecordFlag.F_LAST,
                    sequence=0,
                    ts_event=millis_to_nanos(float(message.timestamp)),
                    ts_init=now,
                )
                book.apply(OrderBookDeltas(instrument.id, [delta]))
        else:
            instrument, book = by_token[message.asset_id]
            book.apply(message.parse_to_snapshot(instrument=instrument, ts_init=now))
        check()

    return handle, check


class Watcher(Actor):
    """Keeps an eye on both books; its check runs once for each change the engine publishes."""

    def watch(self, ids: tuple[InstrumentId, InstrumentId]) -> None:
        """Subscribe to both tokens; the engine keeps their books in the cache."""
        self.ids = ids
        self.check: Check | None = None
        for instrument_id in ids:
            self.subscribe_order_book_deltas(instrument_id, book_type=BookType.L2_MBP)

    def on_order_book_deltas(self, _deltas: OrderBookDeltas) -> None:
        """Decide on the books as they now are."""
        check = self.check
        if check is None:
            yes, no = (self.cache.order_book(i) for i in self.ids)
            if yes is None or no is None:
                return
            check = self.check = Check(yes, no)
        check()


class OfflineClient(PolymarketDataClient):
    """The adapter's data client, whose subscriptions open no socket."""

    async def _subscribe_asset_book(self, _instrument_id: InstrumentId) -> None:
        return


def engine() -> tuple[Callable[[bytes], None], Watcher]:
    """Data client, message bus, data engine, cache and an actor, wired as the library wires them."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    clock = LiveClock()
    bus = MessageBus(trader_id=TraderId("BENCH-001"), clock=clock)
    cache = Cache()
    portfolio = Portfolio(msgbus=bus, cache=cache, clock=clock)
    data_engine = DataEngine(msgbus=bus, cache=cache, clock=clock)
    http = ClobClient("http://127.0.0.1:9")
    provider = PolymarketInstrumentProvider(http, clock)
    client = OfflineClient(
        loop=loop,
        http_client=http,
        msgbus=bus,
        cache=cache,
        clock=clock,
        instrument_provider=provider,
        config=PolymarketDataClientConfig(),
        name=POLYMARKET_VENUE.value,
    )
    data_engine.register_client(client)
    for instrument in instruments().values():
        cache.add_instrument(instrument)
    actor = Watcher()
    actor.register_base(portfolio=portfolio, msgbus=bus, cache=cache, clock=clock)
    client.start()
    data_engine.start()
    actor.start()
    ids = (get_polymarket_instrument_id(MARKET, YES), get_polymarket_instrument_id(MARKET, NO))

    async def subscribe() -> None:
        actor.watch(ids)
        await asyncio.sleep(0.05)

    loop.run_until_complete(subscribe())
    # What the adapter gives its websocket client as the handler of every frame.
    return client._handle_raw_ws_message, actor  # noqa: SLF001


def main() -> None:
    """Time every frame and print the summary as one JSON line."""
    kind, path = sys.argv[1], sys.argv[2]
    handle, witness = bare() if kind == "bare" else engine()
    frames = read_frames(path)
    taken = time_each(handle, frames)
    check = witness if isinstance(witness, Check) else witness.check
    if check is None or check.yes.best_bid_price() is None:
        sys.exit("the frames never reached the books")
    top = [str(p()) for p in (check.yes.best_bid_price, check.yes.best_ask_price,
                              check.no.best_bid_price, check.no.best_ask_price)]  # fmt: skip
    report({**summary(taken), "found": check.found, "top": top})


if __name__ == "__main__":
    main()
