"""What copies have at stake, by leader and token, and what all copied leaders want together.

Pure sums over the view. A copy is a bundle "COPY" whose key names the leader, the market and the
token; what it holds is its standing while it is closed, and its plan while it is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleet.domain.commands import BundleId
from fleet.domain.instruments import Instrument, InstrumentId, MarketId
from fleet.domain.units import SCALE, Cash, Price, Qty, shares_for
from fleet.engine.standing import Standing, StandingLeg
from fleet.engine.view import View
from fleet.strategies.correlation import Groups, Stakes, cost_at

IDEA: Final = "COPY"
EXIT: Final = "COPY_EXIT"


def key_of(wallet: str, market_id: MarketId, token: InstrumentId) -> str:
    """The key of a copy."""
    return f"{wallet}|{market_id}|{token}"


def under_way(key: str, view: View) -> bool:
    """Whether a copy of this key is open."""
    return any(b.plan.idea == IDEA and b.plan.key == key for b in view.open_bundles.values())


@dataclass(frozen=True, slots=True)
class Held:
    """One closed copy that still holds something."""

    bundle_id: BundleId
    key: str
    wallet: str
    market_id: MarketId
    leg: StandingLeg

    @property
    def token(self) -> InstrumentId:
        """What it holds."""
        return self.leg.instrument_id


def copies_held(view: View) -> list[Held]:
    """All of them, oldest first; what left the universe cannot be sold and is left out."""
    found = [_held(standing) for standing in view.standing.values() if standing.idea == IDEA]
    return [one for one in found if one is not None and view.knows(one.token)]


def _held(standing: Standing) -> Held | None:
    wallet, market_id, token = standing.key.split("|")
    for leg in standing.legs:
        if leg.instrument_id == token and leg.left > 0:
            return Held(standing.bundle_id, standing.key, wallet, MarketId(market_id), leg)
    return None


def followed_wallets(view: View) -> dict[str, None]:
    """Whose trades matter: the copied wallets, and those whose copies are held or under way.

    Who stops copying a wallet must keep watching it until its copies are sold.
    """
    wallets = dict.fromkeys(w for w, one in view.leaders.chosen.items() if one.copied)
    keys = [standing.key for standing in view.standing.values() if standing.idea == IDEA]
    keys += [b.plan.key for b in view.open_bundles.values() if b.plan.idea == IDEA]
    return wallets | dict.fromkeys(key.split("|")[0] for key in keys)


class CopyStakes:
    """What is at stake now; copies wished in the same moment are added."""

    def __init__(self, view: View, groups: Groups) -> None:
        """Add up standing and open copies, and everything else in their markets."""
        self._view = view
        self._all = Stakes(view, groups, IDEA)
        self._position: dict[str, int] = {}
        self._leader: dict[str, int] = {}
        self._shares: dict[InstrumentId, int] = {}
        self._wallets = followed_wallets(view)
        self._day: int = view.leaders.day_budget(view.now_ns)
        for standing in view.standing.values():
            if standing.idea == IDEA:
                self._add(standing.key, standing.cost, sum(leg.left for leg in standing.legs))
        for bundle in view.open_bundles.values():
            if bundle.plan.idea == IDEA:
                cost = max(bundle.plan.budget, bundle.spent)
                self._add(bundle.plan.key, cost, bundle.plan.legs[0].qty)

    def _add(self, key: str, cost: int, shares: int) -> None:
        wallet, _, token = key.split("|")
        self._position[key] = self._position.get(key, 0) + cost
        self._leader[wallet] = self._leader.get(wallet, 0) + cost
        name = InstrumentId(token)
        self._shares[name] = self._shares.get(name, 0) + shares

    def add(self, key: str, market_id: MarketId, budget: Cash, shares: Qty) -> None:
        """Count a copy wished in this moment."""
        self._add(key, budget, shares)
        self._all.add(market_id, budget)
        self._day += budget

    def position(self, key: str) -> Cash:
        """Dollars in one leader's token."""
        return Cash(self._position.get(key, 0))

    def leader(self, wallet: str) -> Cash:
        """Dollars in all copies of one leader."""
        return Cash(self._leader.get(wallet, 0))

    def market(self, market_id: MarketId) -> Cash:
        """Dollars in one market, whoever bought."""
        return self._all.market(market_id)

    @property
    def day(self) -> Cash:
        """What the copies opened today may cost."""
        return Cash(self._day)

    @property
    def free_cash(self) -> Cash:
        """Cash that nothing under way may still spend."""
        return Cash(self._view.cash - self._all.reserved)

    def shares(self, token: InstrumentId) -> Qty:
        """Our copied shares of a token, held and under way."""
        return Qty(self._shares.get(token, 0))

    def wanted(self, token: InstrumentId, other: InstrumentId, ratio: int) -> Qty | None:
        """How many copied shares all leaders together justify; nothing if none is opposed."""
        return wanted_together(self._view, self._wallets, token, other, ratio)


def affordable(instrument: Instrument, limit: Price, most: Qty, room: Cash) -> Qty:
    """As many whole lots as ``room`` pays for at ``limit``, with the fee of all in one sum."""
    unit = Price(limit + instrument.fees.per_share(limit))
    qty = instrument.quantize_qty(min(most, shares_for(room, unit)))
    while qty > 0 and cost_at(limit, qty, instrument.fees.fee(limit, qty)) > room:
        qty = Qty(qty - instrument.lot)
    return qty


def wanted_together(
    view: View,
    wallets: dict[str, None],
    token: InstrumentId,
    other: InstrumentId,
    ratio: int,
) -> Qty | None:
    """``ratio`` of the leaders' shares of ``token`` beyond those of its complement.

    Nothing, which is no bound, if none of them holds the complement.
    """
    against = sum(view.leaders.held(wallet, other) for wallet in wallets)
    if not against:
        return None
    favour = sum(view.leaders.held(wallet, token) for wallet in wallets)
    return Qty(max(0, favour - against) * ratio // SCALE)
