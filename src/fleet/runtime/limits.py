"""A bot's part of the limits over all bots, asked for beside the hot path.

Each second ``LimitsPart`` says what the bot uses in every scope and asks for what it wants
(``fleet.journal.allowances``); what it gets becomes the engine's new ``Allowance`` in the same
breath, so that no decision falls between the two. If the file cannot be written, nobody knows what
is granted: the bot may then use no more than it uses already. Before the first answer it may use
nothing.

On a shared wallet it also claims the instruments it may trade (``fleet.journal.claims``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from fleet.domain.instruments import InstrumentId, MarketId, SetId, Side
from fleet.domain.units import Cash, notional_up
from fleet.engine.allowance import Allowance, by_outcome_set, exposure_by_market
from fleet.engine.exposure import reserved_budget
from fleet.engine.risk import Risk
from fleet.engine.state import State
from fleet.journal.allowances import TURNOVER, AllowanceBoard, Scope
from fleet.journal.claims import ClaimBoard
from fleet.journal.database import JournalError
from fleet.runtime.components import Health
from fleet.runtime.parts import Periodic
from fleet.runtime.safety_settings import SafetyEnv

LIMITS_S: Final = 1.0
FLEET: Final = "fleet"
WALLET: Final = "wallet:"
MARKET: Final = "market:"
SET: Final = "set:"


class LimitsPart(Periodic):
    """Keeps one engine's allowance in step with ``fleet.db``."""

    def __init__(
        self,
        board: AllowanceBoard,
        caps: SafetyEnv,
        state: State,
        risk: Risk,
        clock: Clock,
        *,
        wallet: str,
        claims: ClaimBoard | None = None,
        on_lost: Callable[[str], None] = lambda _why: None,
    ) -> None:
        """Allow ``risk`` what ``board`` grants on ``wallet``.

        ``claims`` only for a shared wallet; ``on_lost`` is told when somebody took a claim away.
        """
        super().__init__("limits", LIMITS_S)
        self._board = board
        self._caps = caps
        self._state = state
        self._risk = risk
        self._clock = clock
        self._wallet = WALLET + wallet
        self._claims = claims
        self._on_lost = on_lost
        self._claimed: Mapping[str, int] | None = None
        self._made_of: object = None
        self._problem = ""
        self._set_of = {
            market_id: group.id for group in state.universe.sets for market_id in group.markets
        }
        want = risk.limits.max_market_exposure
        self._idle = {
            **{MARKET + m: self._scope(caps.max_market, 0, want) for m in state.universe.markets},
            **{SET + s: self._scope(caps.max_set, 0) for s in set(self._set_of.values())},
        }
        self._log = logs.get("limits")
        risk.allowance = Allowance()

    def beat(self) -> None:
        """Say what is used, get what is allowed."""
        now_ns = self._clock.now_ns()
        departed = self._departed()
        scopes = self._scopes(now_ns, departed=departed)
        try:
            self._claim()
            granted = self._board.refresh(scopes, now_ns, keep=departed > 0)
        except JournalError as error:
            if not self._problem:
                self._log.error("LIMITS not renewed: nothing new is opened", reason=str(error))
            self._problem = f"the limits over all bots cannot be renewed: {error}"
            granted = {name: scope.used for name, scope in scopes.items()}
        else:
            self._problem = ""
        made_of = (granted, departed, self._claimed, now_ns // NS_PER_DAY)
        if made_of != self._made_of:
            self._risk.allowance = self._allowance(granted, now_ns, departed)
            self._made_of = made_of

    async def stop(self) -> None:
        """Give back what is not used; after a crash the next start does that."""
        await super().stop()
        self._risk.allowance, self._made_of = Allowance(), None
        departed = self._departed()
        scopes = self._scopes(self._clock.now_ns(), departed=departed)
        try:
            used = {name: scope.used for name, scope in scopes.items() if not scope.unsure}
            self._board.give_back(used, keep=departed > 0)
            if self._claims is not None and self._claimed:
                self._claims.release(self._claimed.keys() - self._in_use())
        except JournalError as error:
            self._log.warning("LIMITS not given back", reason=str(error))

    def health(self) -> Health:
        """Unhealthy while the limits cannot be renewed."""
        return Health(ok=False, detail=self._problem) if self._problem else super().health()

    # -- inside --------------------------------------------------------------------------------

    @staticmethod
    def _scope(cap: Cash, used: int, want: Cash | None = None) -> Scope:
        return Scope(cap=cap, used=max(0, used), want=cap if want is None else want)

    def _scopes(self, now_ns: int, *, departed: int) -> dict[str, Scope]:
        state, caps, own = self._state, self._caps, self._risk.limits
        reserved = reserved_budget(state)
        held = state.portfolio.cost + reserved
        turnover = state.portfolio.turnover(now_ns) + reserved
        by_market = exposure_by_market(state)
        scopes = dict(self._idle)
        for market_id, used in by_market.items():
            scopes[MARKET + market_id] = self._scope(caps.max_market, used, own.max_market_exposure)
        for set_id, used in by_outcome_set(by_market, self._set_of).items():
            scopes[SET + set_id] = self._scope(caps.max_set, used)
        if departed:  # Of which set nobody can say.
            for name, scope in scopes.items():
                if name.startswith(SET):
                    scopes[name] = replace(scope, unsure=True)
        wallet = own.max_wallet_exposure
        scopes[FLEET] = self._scope(caps.max_exposure, held, wallet)
        scopes[self._wallet] = self._scope(caps.max_wallet, held, wallet)
        scopes[TURNOVER + _day(now_ns)] = self._scope(
            caps.max_turnover, turnover, own.max_day_turnover
        )
        return scopes

    def _allowance(self, granted: Mapping[str, int], now_ns: int, departed: int) -> Allowance:
        return Allowance(
            fleet=Cash(granted.get(FLEET, 0)),
            wallet=Cash(granted.get(self._wallet, 0)),
            turnover=Cash(granted.get(TURNOVER + _day(now_ns), 0)),
            day=now_ns // NS_PER_DAY,
            markets={
                MarketId(name.removeprefix(MARKET)): Cash(amount)
                for name, amount in granted.items()
                if name.startswith(MARKET)
            },
            sets={
                SetId(name.removeprefix(SET)): Cash(max(0, amount - departed))
                for name, amount in granted.items()
                if name.startswith(SET)
            },
            set_of=self._set_of,
            instruments=self._mine(),
        )

    def _departed(self) -> int:
        """What is at stake in markets the catalogue does not have (any more), dollars at 1e-8."""
        state = self._state
        known = state.universe.instruments
        stake = 0
        for token, position in state.portfolio.positions.items():
            if token not in known and token not in state.resolved:
                stake += position.cost
        for order in state.orders.open.values():
            if order.instrument_id not in known and order.side is Side.BUY:
                stake += notional_up(order.price, order.remaining)
        return stake

    def _mine(self) -> frozenset[InstrumentId] | None:
        if self._claims is None:
            return None
        return frozenset(InstrumentId(token) for token in self._claimed or ())

    def _claim(self) -> None:
        if self._claims is None:
            return
        if self._claimed is None:
            found = self._claims.claim(sorted(self._state.universe.instruments))
            self._claimed = found.held
            if found.refused:
                others = ", ".join(sorted(set(found.refused.values())))
                self._log.warning("INSTRUMENTS of other bots are not traded",
                                  count=len(found.refused), bots=others)  # fmt: skip
        elif lost := self._claims.lost(self._claimed):
            self._claimed = {t: n for t, n in self._claimed.items() if t not in set(lost)}
            self._on_lost(f"{len(lost)} instruments of the shared wallet are another bot's now")

    def _in_use(self) -> set[str]:
        """Tokens that are held, ordered, or part of an open bundle: the claim stays."""
        state = self._state
        tokens: set[str] = {t for t, position in state.portfolio.positions.items() if position.qty}
        tokens |= {order.instrument_id for order in state.orders.open.values()}
        for bundle in state.bundles.open.values():
            tokens |= {leg.instrument_id for leg in bundle.plan.legs}
        return tokens


def _day(now_ns: int) -> str:
    return datetime.fromtimestamp(now_ns // NS_PER_SECOND, UTC).date().isoformat()
