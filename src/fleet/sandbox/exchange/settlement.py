"""From match to chain: what a trade moves, when, and what can go wrong on the way.

Theory of operation. A match moves nothing: it only *holds* what each party owes. When the trade is
MINED, everything moves at once, or nothing does: if a wallet no longer owns what it owes, or the
faults say so, the trade is FAILED and every hold is let go.

    MATCHED  ──► MINED | RETRYING | FAILED
    RETRYING ──► MINED | FAILED
    MINED    ──► CONFIRMED

Chance comes from a stream per trade (seed, trade id, step), so it depends neither on how time is
cut nor on restarts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import log
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price
from fleet.sandbox.exchange.accounts import CASH
from fleet.sandbox.exchange.contract import TradeView
from fleet.sandbox.exchange.orders import cash_of

MINED_SIGMA: Final = 0.4
"""With a median of 2.0 s: p10 1.2 s, p90 3.3 s (measured 1.1, 2.0, 3.0; reference 5.3)."""
RETRY_BEFORE_FAILURE: Final = 0.5
"""Share of failures that are retried once before (our choice)."""
OPEN: Final = frozenset(
    {SettlementStatus.MATCHED, SettlementStatus.RETRYING, SettlementStatus.MINED}
)
UNMINED: Final = frozenset({SettlementStatus.MATCHED, SettlementStatus.RETRYING})


@dataclass(slots=True, kw_only=True)
class SettlementFaults:
    """How trades settle, changeable at run time: shares of trades in 0..1, and a median time."""

    seed: str = "0"
    retry_rate: float = 0.0
    fail_rate: float = 0.0
    mined_s: float = 2.0
    confirmed_s: float = 4.0
    delay_rate: float = 0.0
    """Share of the taking orders that are held back ``delay_s`` before they match."""
    delay_s: float = 1.0

    def delay_ns(self, order_id: str) -> int:
        """How long a taking order is held back beyond what its market does; mostly 0."""
        if not self.delay_rate or self.stream(order_id, "delay").random() >= self.delay_rate:
            return 0
        return int(self.delay_s * NS_PER_SECOND)

    def stream(self, trade_id: str, step: str) -> random.Random:
        """The chance of one step of one trade: simulation, not secrets."""
        return random.Random(f"{self.seed}:{trade_id}:{step}")  # noqa: S311


@dataclass(slots=True, kw_only=True, eq=False)
class Trade:
    """A trade on its way. ``doomed`` ones fail after their retry."""

    number: int
    view: TradeView
    due_ns: int
    doomed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Movements:
    """What a trade moves on chain: (wallet, asset, amount) out and in, fee, collateral."""

    out: tuple[tuple[str, str, int], ...]
    into: tuple[tuple[str, str, int], ...]
    fee: int
    locked: int
    """Base units split (MINT, positive) or merged (MERGE, negative)."""


def movements(trade: TradeView) -> Movements:
    """Work out what each party pays and gets; parts among the flow itself move nothing."""
    out: list[tuple[str, str, int]] = []
    into: list[tuple[str, str, int]] = []
    locked = 0
    buys = trade.side is Side.BUY
    for fill in trade.makers:
        if not fill.owner and not trade.owner:
            continue
        same = fill.token_id == trade.token_id
        price = fill.price if same else Price(SCALE - fill.price)
        parties = (
            (trade.maker, trade.side, trade.token_id, price),
            (fill.maker, fill.side, fill.token_id, fill.price),
        )
        for wallet, side, token, paid in parties:
            cash = (wallet, CASH, cash_of(paid, fill.size))
            shares = (wallet, token, fill.size)
            out.append(cash if side is Side.BUY else shares)
            into.append(shares if side is Side.BUY else cash)
        if not same:
            locked += fill.size if buys else -fill.size
    if trade.fee_amount:
        if buys:
            out.append((trade.maker, CASH, trade.fee_amount))
        else:
            into.append((trade.maker, CASH, -trade.fee_amount))
    return Movements(out=tuple(out), into=tuple(into), fee=trade.fee_amount, locked=locked)


def first_wait_ns(trade_id: str, faults: SettlementFaults) -> int:
    """From the match to the chain."""
    rng = faults.stream(trade_id, "first")
    seconds = rng.lognormvariate(log(faults.mined_s), MINED_SIGMA) if faults.mined_s > 0 else 0.0
    return int(seconds * NS_PER_SECOND)


def next_step(trade: Trade, faults: SettlementFaults) -> tuple[SettlementStatus, bool, int]:
    """What a due trade becomes, whether it is doomed, and nanoseconds to its next step."""
    status = trade.view.status
    rng = faults.stream(trade.view.trade_id, status.value)
    luck, again = rng.random(), rng.random()
    wait_ns = int(rng.lognormvariate(0.0, MINED_SIGMA) * faults.mined_s * NS_PER_SECOND)
    confirm_ns = int(rng.lognormvariate(0.0, MINED_SIGMA) * faults.confirmed_s * NS_PER_SECOND)
    if status is SettlementStatus.MINED:
        return SettlementStatus.CONFIRMED, False, 0
    if status is SettlementStatus.RETRYING:
        if trade.doomed:
            return SettlementStatus.FAILED, True, 0
        return SettlementStatus.MINED, False, confirm_ns
    if luck < faults.fail_rate:
        if again < RETRY_BEFORE_FAILURE:
            return SettlementStatus.RETRYING, True, wait_ns
        return SettlementStatus.FAILED, True, 0
    if luck < faults.fail_rate + faults.retry_rate:
        return SettlementStatus.RETRYING, False, wait_ns
    return SettlementStatus.MINED, False, confirm_ns
