"""Cash, positions and profit: a fold of deposits, fills, settlements and token operations.

Invariant, at every moment: ``cash + sum(cost of positions) == deposited + realised``. Fees are in:
a BUY's fee raises the cost of what was bought, a SELL's fee lowers what it brought. Cost is average
cost; taking part of a position takes the same part of its cost, rounded so that the rest is exact.

A fill is not final: the tokens it brought are *unsettled* until MINED, and FAILED takes it back to
the last unit. Applying the same fill, settlement or operation twice equals applying it once.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from fleet.domain.commands import OperationId
from fleet.domain.events import (
    CashDeposited,
    FillSettled,
    OperationConfirmed,
    OrderFilled,
    SettlementStatus,
    TradeId,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import ZERO_CASH, ZERO_QTY, Cash, Qty, notional_down, notional_up

NS_PER_DAY = 86_400 * 1_000_000_000
_MINED: Final = SettlementStatus.MINED
_FINAL: Final = frozenset({SettlementStatus.CONFIRMED, SettlementStatus.FAILED})


class Position(Struct, gc=False):
    """Shares held, what they cost with fees, and how many of them are not settled yet."""

    qty: Qty = ZERO_QTY
    cost: Cash = ZERO_CASH
    unsettled: Qty = ZERO_QTY

    @property
    def settled(self) -> Qty:
        """The shares that may be sold, merged or converted."""
        return Qty(max(0, self.qty - self.unsettled))

    def take(self, qty: Qty) -> Cash:
        """Take shares out and return the cost that leaves with them."""
        cost = Cash(self.cost * qty // self.qty) if 0 < qty < self.qty else self.cost
        if qty <= 0:
            return ZERO_CASH
        self.qty = Qty(self.qty - qty)
        self.cost = Cash(self.cost - cost)
        return cost

    def put(self, qty: Qty, cost: Cash) -> None:
        """Add shares at a cost."""
        self.qty = Qty(self.qty + qty)
        self.cost = Cash(self.cost + cost)


class _Fill(Struct, gc=False):
    """What is needed to take a fill back."""

    instrument_id: InstrumentId
    side: Side
    qty: Qty
    cash: Cash
    cost: Cash
    realised: Cash
    fee: Cash
    status: SettlementStatus = SettlementStatus.MATCHED


class PortfolioImage(Struct, frozen=True, kw_only=True):
    """Everything a portfolio knows, as one record."""

    cash: Cash
    deposited: Cash
    realised: Cash
    fees: Cash
    positions: dict[InstrumentId, Position]
    day: int
    day_realised: Cash
    day_turnover: Cash
    anomaly: str
    fills: dict[TradeId, _Fill]
    operations: set[OperationId]
    deposits: set[str]


class Portfolio:
    """What we own and what it has earned."""

    __slots__ = (
        "_deposits",
        "_fills",
        "_operations",
        "anomaly",
        "cash",
        "day",
        "day_realised",
        "day_turnover",
        "deposited",
        "fees",
        "positions",
        "realised",
    )

    def __init__(self) -> None:
        """Nothing owned, nothing earned."""
        self.cash = ZERO_CASH
        self.deposited = ZERO_CASH
        self.realised = ZERO_CASH
        self.fees = ZERO_CASH
        self.positions: dict[InstrumentId, Position] = {}
        self.day = 0
        """The UTC day (days since the epoch) the two figures below belong to."""
        self.day_realised = ZERO_CASH
        self.day_turnover = ZERO_CASH
        self.anomaly = ""
        self._fills: dict[TradeId, _Fill] = {}
        self._operations: set[OperationId] = set()
        self._deposits: set[str] = set()

    def image(self) -> PortfolioImage:
        """All of it as one record, which shares its parts: store it before anything moves on."""
        return PortfolioImage(
            cash=self.cash,
            deposited=self.deposited,
            realised=self.realised,
            fees=self.fees,
            positions=self.positions,
            day=self.day,
            day_realised=self.day_realised,
            day_turnover=self.day_turnover,
            anomaly=self.anomaly,
            fills=self._fills,
            operations=self._operations,
            deposits=self._deposits,
        )

    def restore(self, image: PortfolioImage) -> None:
        """Become what ``image`` shows; it belongs to this portfolio from now on."""
        self.cash = image.cash
        self.deposited = image.deposited
        self.realised = image.realised
        self.fees = image.fees
        self.positions = image.positions
        self.day = image.day
        self.day_realised = image.day_realised
        self.day_turnover = image.day_turnover
        self.anomaly = image.anomaly
        self._fills = image.fills
        self._operations = image.operations
        self._deposits = image.deposits

    @property
    def cost(self) -> Cash:
        """What all positions cost."""
        if not self.positions:
            return ZERO_CASH
        return Cash(sum([p.cost for p in self.positions.values()]))

    def position(self, instrument_id: InstrumentId) -> Position:
        """The position in one token (an empty one if there is none)."""
        return self.positions.get(instrument_id) or Position()

    def roll_day(self, ts_ns: int) -> None:
        """Start a new UTC day if ``ts_ns`` lies in one; days never go back."""
        day = ts_ns // NS_PER_DAY
        if day > self.day:
            self.day = day
            self.day_realised = ZERO_CASH
            self.day_turnover = ZERO_CASH

    def deposit(self, event: CashDeposited) -> None:
        """Take cash in (or out, if negative), once per deposit id."""
        if event.deposit_id in self._deposits:
            return
        self._deposits.add(event.deposit_id)
        self.cash = Cash(self.cash + event.amount)
        self.deposited = Cash(self.deposited + event.amount)

    def fill(self, event: OrderFilled) -> bool:
        """Count a fill; false if it was counted before."""
        if event.trade_id in self._fills:
            return False
        self.roll_day(event.ts_event or event.ts_recv)
        position = self.positions.setdefault(event.instrument_id, Position())
        if event.side is Side.BUY:
            paid = Cash(notional_up(event.price, event.qty) + event.fee)
            position.put(event.qty, paid)
            position.unsettled = Qty(position.unsettled + event.qty)
            record = _Fill(event.instrument_id, Side.BUY, event.qty, Cash(-paid), paid, ZERO_CASH,
                           event.fee)  # fmt: skip
        else:
            if event.qty > position.qty:
                self.anomaly = f"sold {event.qty} of {position.qty} {event.instrument_id}"
            taken = Qty(min(event.qty, position.qty))
            cost = position.take(taken)
            got = Cash(notional_down(event.price, event.qty) - event.fee)
            record = _Fill(event.instrument_id, Side.SELL, taken, got, cost, Cash(got - cost),
                           event.fee)  # fmt: skip
        self._fills[event.trade_id] = record
        self.cash = Cash(self.cash + record.cash)
        self.fees = Cash(self.fees + event.fee)
        self.day_turnover = Cash(self.day_turnover + abs(record.cash))
        self._realise(record.realised)
        self._drop_if_empty(event.instrument_id)
        return True

    def settle(self, event: FillSettled) -> None:
        """Move a fill towards finality; MINED frees its tokens, FAILED reverses it."""
        fill = self._fills.get(event.trade_id)
        if fill is None:
            self.anomaly = f"settlement {event.status.value} of unknown fill {event.trade_id}"
            return
        was, status = fill.status, event.status
        if was is status or was in _FINAL:
            return
        was_free = was is _MINED
        if was_free and status not in _FINAL:
            return  # A late report: mined is mined, and its tokens are not freed twice.
        fill.status = status
        if status is SettlementStatus.FAILED:
            self.roll_day(event.ts_event or event.ts_recv)
            self._reverse(fill, freed=was_free)
        elif not was_free and (status is _MINED or status is SettlementStatus.CONFIRMED):
            self._free(fill)

    def _free(self, fill: _Fill) -> None:
        position = self.positions.get(fill.instrument_id)
        if position is not None and fill.side is Side.BUY:
            position.unsettled = Qty(max(0, position.unsettled - fill.qty))

    def _reverse(self, fill: _Fill, *, freed: bool) -> None:
        position = self.positions.setdefault(fill.instrument_id, Position())
        self.cash = Cash(self.cash - fill.cash)
        self.fees = Cash(self.fees - fill.fee)
        if fill.side is Side.BUY:
            if not freed:
                position.unsettled = Qty(max(0, position.unsettled - fill.qty))
            if position.qty < fill.qty:
                self.anomaly = f"failed fill of {fill.instrument_id} was already spent"
            removed = position.take(Qty(min(fill.qty, position.qty)))
            self._realise(Cash(fill.cost - removed))
        else:
            position.put(fill.qty, fill.cost)
            self._realise(Cash(-fill.realised))
        self._drop_if_empty(fill.instrument_id)

    def operate(self, event: OperationConfirmed) -> bool:
        """Count a split, merge, convert or redeem; false if it was counted before.

        The cost of the burnt tokens less the cash received stays as the cost of the minted ones
        (in equal parts); what the minted ones do not carry is profit or loss.
        """
        if event.operation_id in self._operations:
            return False
        self._operations.add(event.operation_id)
        self.roll_day(event.ts_event or event.ts_recv)
        burnt = ZERO_CASH
        for instrument_id, qty in event.burn:
            position = self.positions.setdefault(instrument_id, Position())
            if qty > position.qty:
                self.anomaly = f"{event.kind.value} burnt {qty} of {position.qty} {instrument_id}"
            burnt = Cash(burnt + position.take(Qty(min(qty, position.qty))))
            self._drop_if_empty(instrument_id)
        carried = Cash(max(0, burnt - event.cash)) if event.mint else ZERO_CASH
        share, rest = divmod(carried, len(event.mint)) if event.mint else (0, 0)
        for index, (instrument_id, qty) in enumerate(event.mint):
            position = self.positions.setdefault(instrument_id, Position())
            position.put(qty, Cash(share + (rest if index == 0 else 0)))
        self.cash = Cash(self.cash + event.cash)
        self._realise(Cash(event.cash - burnt + carried))
        return True

    def _realise(self, amount: Cash) -> None:
        self.realised = Cash(self.realised + amount)
        self.day_realised = Cash(self.day_realised + amount)

    def _drop_if_empty(self, instrument_id: InstrumentId) -> None:
        position = self.positions.get(instrument_id)
        if position and not position.qty and not position.cost and not position.unsettled:
            del self.positions[instrument_id]

    def settlement(self, trade_id: TradeId) -> SettlementStatus | None:
        """The settlement status of a fill; nothing if it was never counted."""
        fill = self._fills.get(trade_id)
        return fill.status if fill else None

    def deposits(self) -> frozenset[str]:
        """The ids of all deposits that were counted."""
        return frozenset(self._deposits)

    def knows_deposit(self, deposit_id: str) -> bool:
        """Whether this deposit was already counted."""
        return deposit_id in self._deposits

    def trades(self) -> frozenset[TradeId]:
        """The ids of all fills ever counted."""
        return frozenset(self._fills)

    def unsettled_trades(self) -> list[TradeId]:
        """The fills that are neither CONFIRMED nor FAILED yet, oldest first."""
        return [trade_id for trade_id, fill in self._fills.items() if fill.status not in _FINAL]

    def day_loss(self, now_ns: int) -> Cash:
        """What was lost (positive) in realised profit and fees on the UTC day of ``now_ns``."""
        if self.day_realised >= 0 or now_ns // NS_PER_DAY > self.day:
            return ZERO_CASH
        return Cash(-self.day_realised)

    def turnover(self, now_ns: int) -> Cash:
        """What was bought and sold on the UTC day of ``now_ns``."""
        return self.day_turnover if now_ns // NS_PER_DAY <= self.day else ZERO_CASH
