"""Stories as text: events in, decisions out. ``test_stories`` tells them and compares.

A story is a file of lines. A line that begins with ``| `` is what the bot did in answer to the line
above it; all other lines are told to the bot, one event each, or are comments (``#``). Telling a
story writes the ``|`` lines anew, so a story is its own snapshot.

    world 2 [set] [ladder] [rate=0.05] [ends=30]   markets; the end in days (first line of a story)
    at 2000                          the time, in milliseconds from the start
    quotes 1 0.48 0.52 [100]         both mirrored books of a market, in two snapshots
    frame y1 SELL 0.44 50; n1 ...    level changes of one frame
    lost y1 n1                       the feed of these tokens is gone
    accept|lose|cancel|reject o1     what the venue says of an order
    fill o1 50 0.44 [0.01]           shares, price, fee; trades are t1, t2, ...
    settle t1 MINED                  what the chain says of a trade
    confirm|refuse x1                what the chain says of an operation
    trading HALTED                   what an operator decides
    resolve 1 YES                    how a question is answered
    tick                             time passes
    crash                            the process dies; another folds the journal and is halted
    money                            shows cash, positions and the ledger
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    CancelOrder,
    ClientOrderId,
    Command,
    RequestForecast,
    RunOperation,
    StartTimer,
    SubmitOrder,
)
from fleet.domain.events import SettlementStatus, TradingState
from fleet.domain.instruments import InstrumentId, Side, Universe
from fleet.domain.units import SCALE, format_dollars, format_units
from fleet.engine.engine import Strategy
from fleet.engine.state import fold
from fleet.engine.view import View
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from tests.builders import (
    DAY,
    MS,
    NS,
    Rig,
    changed,
    confirmed,
    deposit,
    filled,
    market_id,
    no,
    p,
    settled,
    snapshot,
    tick,
    trading,
    universe,
    yes,
)


def retold(text: str, teller: Teller | None = None) -> str:
    """The story with its ``|`` lines written anew."""
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("|")]
    teller = teller or Teller()
    told: list[str] = []
    for line in lines:
        told.append(line)
        if line and not line.startswith("#"):
            told += [f"| {answer}" for answer in teller.tell(line)]
    return "\n".join(told) + "\n"


class Teller:
    """ArbHunter, an operator, a venue and a chain, all played from one script."""

    def strategy(self, view: View) -> Strategy:
        """The strategy of each process of the story."""
        return Arbitrage(ArbSettings(), view)

    def __init__(self) -> None:
        self.world: Universe
        self.rig: Rig
        self.now = NS
        self.trades = 0
        self.trading = TradingState.HALTED

    def tell(self, line: str) -> Iterator[str]:
        """One line; what the bot did about it."""
        word, _, rest = line.partition(" ")
        words = rest.split()
        match word:
            case "world":
                self.start(words)
            case "at":
                self.now = NS + int(words[0]) * MS
            case "crash":
                self.restart()
                orders, bundles = self.rig.state.orders.open, self.rig.state.bundles.open
                yield f"{len(orders)} orders in flight, {len(bundles)} bundles open"
            case "money":
                yield from self.money()
            case _:
                for event in self.events(word, words, rest):
                    for command in self.rig.say(event):
                        yield spoken(command)
        if word != "world" and self.rig.state.trading is not self.trading:
            self.trading = self.rig.state.trading
            yield f"{self.trading.value}: {self.rig.state.trading_reason}"

    def start(self, words: list[str]) -> None:
        options = dict(word.split("=") for word in words if "=" in word)
        self.world = universe(
            int(words[0]),
            rate=options.get("rate", "0"),
            end_ns=int(options.get("ends", "0")) * DAY,
            one_set="set" in words,
            ladder="ladder" in words,
        )
        self.rig = Rig(self.world, strategy=self.strategy)
        self.rig.say(deposit("1000"))

    def restart(self) -> None:
        """Another process over the same journal: halted, its books void."""
        entries = self.rig.entries
        self.rig = Rig(self.world, strategy=self.strategy, state=fold(entries, self.world))
        self.rig.journal.write(entries)
        self.rig.say(
            ev.RunStarted(
                ts_recv=self.now, run_id=ev.RunId("again"), bot="b", mode="paper", version="1"
            )
        )

    def events(self, word: str, words: list[str], rest: str) -> list[ev.AnyEvent]:
        now = self.now
        match word:
            case "quotes":
                return quotes(now, words)
            case "frame":
                return [changed(now, *(level(part) for part in rest.split(";")))]
            case "lost":
                tokens = tuple(InstrumentId(name) for name in words)
                return [ev.FeedDisconnected(
                    ts_recv=now, connection="c", instruments=tokens, reason="gone"
                )]  # fmt: skip
            case "trading":
                return [trading(TradingState(words[0]), at=now, reason="asked to")]
            case "tick":
                return [tick(now)]
            case "settle":
                return [settled(words[0], SettlementStatus(words[1]), at=now)]
            case "resolve":
                number = int(words[0])
                won = SCALE if words[1] == "YES" else 0
                payouts = ((yes(number), p(format_units(won))),
                           (no(number), p(format_units(SCALE - won))))  # fmt: skip
                return [ev.MarketResolved(
                    ts_recv=now, market_id=market_id(number), payouts=payouts
                )]  # fmt: skip
            case "confirm" | "refuse":
                return [self.chain(word, words[0])]
            case _:
                return [self.venue(word, words)]

    def chain(self, word: str, name: str) -> ev.Event:
        operation = next(x for x in self.rig.state.bundles.pending.values()
                         if x.operation_id == name)  # fmt: skip
        if word == "confirm":
            return confirmed(operation, at=self.now)
        return ev.OperationRejected(
            ts_event=self.now, ts_recv=self.now, operation_id=operation.operation_id, reason="no"
        )

    def venue(self, word: str, words: list[str]) -> ev.Event:
        now, name = self.now, ClientOrderId(words[0])
        match word:
            case "fill":
                order = self.rig.state.orders.get(name)
                assert order is not None, f"{name} was never sent"
                self.trades += 1
                return filled(
                    name, words[1], words[2], trade=f"t{self.trades}", at=now,
                    fee=words[3] if len(words) > 3 else "0",
                    token=order.instrument_id, side=order.side,
                )  # fmt: skip
            case "accept":
                return ev.OrderAccepted(
                    ts_recv=now, client_order_id=name, venue_order_id=ev.VenueOrderId(f"v{name}")
                )
            case "reject":
                return ev.OrderRejected(ts_recv=now, client_order_id=name, reason="no match")
            case "cancel":
                return ev.OrderCanceled(ts_recv=now, client_order_id=name, reason="rest killed")
            case "lose":
                return ev.SubmitUnknown(ts_recv=now, client_order_id=name, reason="timeout")
            case _:
                raise ValueError(f"no story has the word {word!r}")

    def money(self) -> Iterator[str]:
        state = self.rig.state
        book, totals = state.portfolio, state.bundles.totals
        yield f"cash {format_dollars(book.cash)}, realised {format_dollars(book.realised)}"
        for token, position in sorted(book.positions.items()):
            if position.qty:
                yield (f"{format_units(position.qty)} {token} for {format_dollars(position.cost)},"
                       f" {format_units(position.settled)} settled")  # fmt: skip
        yield (f"tried {totals.tried}, complete {totals.complete}, partial {totals.partial},"
               f" missed {totals.missed}, unwinds {totals.unwinds}"
               f" for {format_dollars(totals.unwind_cost)}")  # fmt: skip
        yield (f"edge expected {format_dollars(totals.edge_expected)},"
               f" realised {format_dollars(totals.edge_realised)}")  # fmt: skip
        yield from self.figures()

    def figures(self) -> Iterator[str]:
        seen = {k: v for k, v in self.rig.engine.strategy.figures().items()
                if k in {"sightings", "phantoms", "stale", "real", "opportunities"}}  # fmt: skip
        yield ", ".join(f"{name} {count}" for name, count in seen.items())


def quotes(at: int, words: list[str]) -> list[ev.AnyEvent]:
    number, (bid, ask) = int(words[0]), words[1:3]
    qty = words[3] if len(words) > 3 else "100"
    no_bid, no_ask = format_units(SCALE - p(ask)), format_units(SCALE - p(bid))
    return [
        snapshot(yes(number), [(bid, qty)], [(ask, qty)], at=at),
        snapshot(no(number), [(no_bid, qty)], [(no_ask, qty)], at=at),
    ]


def level(text: str) -> tuple[InstrumentId, Side, str, str]:
    token, side, price, qty = text.split()
    return InstrumentId(token), Side(side), price, qty


def spoken(command: Command) -> str:
    """A command in one line."""
    match command:
        case CancelOrder():
            return f"cancel {command.client_order_id}"
        case RequestForecast():
            return f"asks for {command.market_id}"
        case StartTimer():
            return f"timer {command.name}"
        case Approved(request=SubmitOrder() as order):
            return (f"{order.client_order_id} {order.bundle_id}.{order.leg} {order.purpose.value}:"
                    f" {order.side.value} {format_units(order.qty)} {order.instrument_id}"
                    f" @ {format_units(order.price)} {order.tif.value}")  # fmt: skip
        case Approved(request=RunOperation() as operation):
            return (f"{operation.operation_id} {operation.bundle_id} {operation.kind.value}"
                    f" {operation.subject} for {format_dollars(operation.cash)}")  # fmt: skip
    raise AssertionError(command)
