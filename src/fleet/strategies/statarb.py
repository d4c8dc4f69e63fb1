"""Statistical arbitrage: groups of markets that ought to move together, bought when they do not.

Theory of operation. Samples of all prices arrive as events and fill a history on an even grid
(``statarb_history``). Every so often the relations of the universe (``statarb_relations``) are
tested on it, estimated on the first part of the window and proven on the part after it
(``statarb_fit``). At every scan a proven spread that stands ``entry_z`` standard deviations from
its mean, and would bring more by coming back than entry and exit cost, is bought
(``statarb_positions``). A position ends when the spread is back, at a stop, after some half-lives,
when the relation fails its test, or when a market nears its end.

It keeps nothing that a restart must not forget: the history is replayed as the same events, and
what is held is told by the view. Only the rest after a bad exit is forgotten. Times of scans and
fits are steps of the clock's own grid, so that they fall on the same samples after a restart.

A kind of relation stakes money only if an evaluation has proven it (``allowed``), or if the
settings say that unproven kinds may, which is for the sandbox. Otherwise it only watches and counts
what it would have done; ``verdict`` says so in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.domain.commands import BundleId, Intent, OpenBundle
from fleet.domain.events import AnyEvent, PricesSampled, TradingState
from fleet.domain.instruments import InstrumentId, MarketId
from fleet.domain.units import SCALE, Cash, Price
from fleet.engine.standing import Standing
from fleet.engine.view import View
from fleet.strategies.legs import ExecutionSettings, first_step
from fleet.strategies.statarb_fit import Fit, FitSettings, Signal, fit, signals
from fleet.strategies.statarb_history import History
from fleet.strategies.statarb_positions import (
    IDEA,
    EntryRules,
    Reason,
    Refusal,
    entry,
    exit_bundle,
    held_high,
    marked,
)
from fleet.strategies.statarb_relations import Kind, Relation, Relations

MINUTE_NS = 60 * 1_000_000_000
HOUR_NS = 60 * MINUTE_NS
NO_EDGE = "no edge found"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatArbSettings:
    """What is traded and how. Ratios and z values are at 1e-8 (2.5 is 250,000,000), cash too.

    ``formation`` and ``validation`` are steps of ``step_ns``, which must not be shorter than the
    time between two samples. ``allowed`` are the kinds that an evaluation has proven.
    """

    scan_ns: int = 5 * MINUTE_NS
    refit_ns: int = 30 * MINUTE_NS
    step_ns: int = 3 * MINUTE_NS
    formation: int = 120
    validation: int = 80
    entry_z: int = 2 * SCALE
    exit_z: int = SCALE // 2
    stop_z: int = 5 * SCALE
    cost_margin: int = SCALE * 3 // 2
    """The expected reversion must be so many times the cost of the way in and out."""
    stop_loss: int = SCALE // 4
    """The share of what a position cost that may be lost before it is sold."""
    half_lives_held: int = 4
    max_hold_ns: int = 12 * HOUR_NS
    end_margin_ns: int = 2 * HOUR_NS
    """So long before a market's end nothing is held any more."""
    rest_ns: int = 2 * HOUR_NS
    """How long a relation is left alone after an exit that was no reversion."""
    slippage: Price = Price(SCALE // 200)
    unwind_slippage: Price = Price(3 * SCALE // 100)
    max_position: Cash = Cash(50 * SCALE)
    max_group: Cash = Cash(100 * SCALE)
    """Most dollars in markets that share an underlying, an event, a set or a ladder."""
    max_positions: int = 8
    max_entries: int = 2
    """So many positions are opened in one scan."""
    false_discovery: int = SCALE // 10
    broken_level: int = SCALE // 10
    """A held spread that is no longer stationary at this level, out of sample, is given up."""
    min_half_life: int = SCALE
    """In steps, at 1e-8: what reverts within a step is gone before it can be bought."""
    max_half_life: int = 20 * SCALE
    min_mid: int = 5 * SCALE // 100
    max_candidates: int = 400
    max_pairs: int = 100
    max_legs: int = 12
    allowed: tuple[Kind, ...] = ()
    stake_unproven: bool = False
    execution: ExecutionSettings = field(
        default_factory=lambda: ExecutionSettings(rest_together=True)
    )


class StatArb:
    """Says which spreads to open and close; whoever calls it works the bundles that are open."""

    def __init__(self, settings: StatArbSettings, view: View) -> None:
        """Read the universe once; nothing is known of prices yet."""
        self.settings = settings
        self._relations = Relations(view.universe, max_legs=settings.max_legs)
        symbols = sorted({one.symbol for one in self._relations.thresholds.values()})
        self._history = History(
            tuple(view.universe.markets),
            symbols,
            step_ns=settings.step_ns,
            rows=settings.formation + settings.validation,
        )
        self._fit = Fit()
        self._fit_settings = FitSettings(
            formation=settings.formation,
            validation=settings.validation,
            false_discovery=settings.false_discovery,
            broken_level=settings.broken_level,
            min_half_life=settings.min_half_life,
            max_half_life=settings.max_half_life,
            min_mid=settings.min_mid,
            max_candidates=settings.max_candidates,
            max_pairs=settings.max_pairs,
        )
        self._rules = EntryRules(
            entry_z=settings.entry_z,
            exit_z=settings.exit_z,
            cost_margin=settings.cost_margin,
            slippage=settings.slippage,
            unwind_slippage=settings.unwind_slippage,
        )
        self._scanned = self._fitted = -1
        self._watched: dict[str, None] = {}
        """What the last scan would have opened; one spread is counted once while it stands out."""
        self._resting: dict[str, int] = {}
        """Until when a relation is left alone; what a restart forgets."""
        self._counts: Counter[str] = Counter()

    def propose(
        self, event: AnyEvent, view: View, next_id: Callable[[], BundleId]
    ) -> Sequence[Intent]:
        """The bundles to open now, with their first orders; only samples of prices matter."""
        if not isinstance(event, PricesSampled) or not self._history.add(event):
            return ()
        self._counts["samples"] += 1
        settings = self.settings
        at_ns = event.ts_event or event.ts_recv
        standing = [one for one in view.standing.values() if one.idea == IDEA]
        held = {one.key: known for one in standing if (known := self._relations.named(one.key))}
        age_ns = view.now_ns - at_ns
        # Samples of before a restart come in a burst: only the newest fits among them matter.
        if at_ns // settings.refit_ns != self._fitted and age_ns <= 2 * settings.refit_ns:
            self._fitted = at_ns // settings.refit_ns
            self._fit = fit(
                self._history, self._relations, self._fit_settings, tuple(held.values())
            )
            self._counts["fits"] += 1
            for one in self._fit.tested.values():
                self._counts[f"tested_{one.relation.kind.value}"] += 1
                self._counts[f"proven_{one.relation.kind.value}"] += one.proven
        scanning = at_ns // settings.scan_ns != self._scanned
        self._scanned = at_ns // settings.scan_ns
        wanted = {one.key: one for one in self._fit.proven} if scanning else {}
        found = signals(
            self._history, self._relations, self._fit.strips,
            tuple((wanted | held).values()), self._history.rows,
        )  # fmt: skip
        if view.trading is TradingState.HALTED or age_ns > settings.step_ns:
            return ()  # What stood somewhere long ago is no reason to trade on the books of now.
        wishes: list[Intent] = []
        for plan in self._exits(standing, held, found, view, next_id):
            wishes += [plan, *first_step(plan, view, settings.execution)]
        if view.trading is not TradingState.ACTIVE:
            return wishes
        ripe = [one for key, one in found.items() if key in wanted and self._ripe(one)]
        self._counts["signals"] += len(ripe)
        for plan in self._entries(ripe, view, next_id) if scanning else ():
            wishes += [plan, *first_step(plan, view, settings.execution)]
        return wishes

    def figures(self) -> Mapping[str, int]:
        """Counters since the start of the process; ``opportunities`` are entries wished for."""
        counts = {"opportunities": 0, "watched": 0, "samples": 0, "fits": 0} | dict(self._counts)
        return {
            **counts,
            "candidates": self._fit.candidates,
            "proven_relations": len(self._fit.proven),
        }

    def verdict(self) -> str:
        """What it may stake on and why, in words for the log."""
        kinds = [kind.value for kind in self.settings.allowed]
        seen = f"{len(self._fit.proven)} of {self._fit.candidates} relations hold out of sample"
        if kinds:
            return f"spreads: may stake on {', '.join(kinds)}, proven by evaluation; {seen}"
        if self.settings.stake_unproven:
            return f"spreads: {NO_EDGE} by any evaluation; stakes play money only; {seen}"
        return f"spreads: {NO_EDGE} by any evaluation; watches and stakes nothing; {seen}"

    # --- the way in ---------------------------------------------------------------------------

    def _ripe(self, signal: Signal) -> bool:
        away = abs(signal.z)
        return self.settings.entry_z <= away < self.settings.stop_z

    def _entries(
        self, ripe: Sequence[Signal], view: View, next_id: Callable[[], BundleId]
    ) -> Iterator[OpenBundle]:
        """Those furthest out first; the limits count what was just opened."""
        busy, used, positions = self._at_stake(view)
        opened = 0
        before, self._watched = self._watched, {}
        for signal in sorted(ripe, key=lambda one: (-abs(one.z), one.relation.key)):
            relation = signal.relation
            if opened >= self.settings.max_entries or positions >= self.settings.max_positions:
                return
            if any(market in busy for market, _ in relation.legs):
                continue
            if self._resting.get(relation.key, 0) > view.now_ns or not self._long_enough(
                relation, view
            ):
                continue
            groups = self._relations.groups(relation)
            room = min(
                int(self.settings.max_position),
                *(self.settings.max_group - used.get(group, 0) for group in groups),
            )
            if room <= 0:
                self._counts[f"refused_{Refusal.ROOM.value}"] += 1
                continue
            staked = relation.kind in self.settings.allowed or self.settings.stake_unproven
            plan = entry(signal, view, self._rules, room, next_id if staked else _nobody)
            if isinstance(plan, Refusal):
                self._counts[f"refused_{plan.value}"] += 1
                continue
            if not staked:
                self._counts["watched"] += relation.key not in before
                self._watched[relation.key] = None
                continue
            self._counts["opportunities"] += 1
            opened += 1
            positions += 1
            for market, _ in relation.legs:
                busy[market] = None
            for group in groups:
                used[group] = used.get(group, 0) + plan.budget
            yield plan

    def _long_enough(self, relation: Relation, view: View) -> bool:
        """Whether no leg's market ends before a position would have had its time."""
        least = self.settings.end_margin_ns + self._patience_ns(relation.key)
        ends = [view.universe.markets[market].end_ns for market, _ in relation.legs]
        return all(not end or end - view.now_ns > least for end in ends)

    def _at_stake(self, view: View) -> tuple[dict[MarketId, None], dict[str, int], int]:
        """Markets anybody holds or works, dollars by group, and how many positions are ours."""
        busy: dict[MarketId, None] = {}
        used: Counter[str] = Counter()
        positions = 0
        touched: list[InstrumentId] = [
            *(token for token, position in view.positions.items() if position.qty > 0),
            *(order.instrument_id for order in view.open_orders.values()),
        ]
        for standing in view.standing.values():
            touched += [leg.instrument_id for leg in standing.legs]
            if standing.idea == IDEA:
                positions += 1
                self._count(standing.key, standing.cost, used)
        for bundle in view.open_bundles.values():
            touched += [leg.instrument_id for leg in bundle.plan.legs]
            if bundle.plan.idea == IDEA and not bundle.plan.exits:
                positions += 1
                self._count(bundle.plan.key, bundle.plan.budget, used)
        for token in touched:
            if view.knows(token):
                busy[view.instrument(token).market_id] = None
        return busy, used, positions

    def _count(self, key: str, cash: int, used: Counter[str]) -> None:
        relation = self._relations.named(key)
        for group in self._relations.groups(relation) if relation is not None else ():
            used[group] += cash

    # --- the way out --------------------------------------------------------------------------

    def _exits(
        self,
        standing: Sequence[Standing],
        held: Mapping[str, Relation],
        found: Mapping[str, Signal],
        view: View,
        next_id: Callable[[], BundleId],
    ) -> Iterator[OpenBundle]:
        leaving = {bundle.plan.exits for bundle in view.open_bundles.values()}
        for position in standing:
            if position.bundle_id in leaving:
                continue
            reason = self._reason(position, held.get(position.key), found.get(position.key), view)
            if reason is None:
                continue
            plan = exit_bundle(
                position, view, slippage=self.settings.unwind_slippage, next_id=next_id
            )
            if plan is None:
                self._counts["stuck"] += 1
                continue
            self._counts[f"exits_{reason.value}"] += 1
            if reason is not Reason.REVERTED:
                self._resting[position.key] = view.now_ns + self.settings.rest_ns
            yield plan

    def _reason(
        self, position: Standing, relation: Relation | None, signal: Signal | None, view: View
    ) -> Reason | None:
        """Why a position ought to be closed now; nothing if it ought not (or nobody can tell)."""
        settings = self.settings
        high = held_high(relation, position, view) if relation is not None else None
        if signal is not None and high is not None:
            away = signal.z if high else -signal.z
            if away <= settings.exit_z:
                return Reason.REVERTED
            if away >= settings.stop_z:
                return Reason.STOP
        worth = marked(position, view)
        if worth is not None:
            lost = position.cost - worth
            if lost * SCALE >= settings.stop_loss * position.cost:
                return Reason.LOSS
        if view.now_ns - position.opened_ns >= self._patience_ns(position.key):
            return Reason.TIME
        tested = self._fit.tested.get(position.key)
        if tested is not None and tested.broken:
            return Reason.BROKEN
        for leg in position.legs:
            market = self._market(leg.instrument_id, view)
            end_ns = view.universe.markets[market].end_ns if market is not None else 0
            if end_ns and end_ns - view.now_ns <= settings.end_margin_ns:
                return Reason.END
        return None

    def _patience_ns(self, key: str) -> int:
        """How long a position of this relation may last: some half-lives, within bounds."""
        settings = self.settings
        tested = self._fit.tested.get(key)
        if tested is None or not tested.half_life:
            return settings.max_hold_ns
        wanted = settings.half_lives_held * tested.half_life * settings.step_ns // SCALE
        return min(settings.max_hold_ns, max(2 * settings.step_ns, wanted))

    @staticmethod
    def _market(token: InstrumentId, view: View) -> MarketId | None:
        return view.instrument(token).market_id if view.knows(token) else None


def _nobody() -> BundleId:
    """The id of a bundle that is only watched."""
    return BundleId("watched")


def proven_kinds(document: Mapping[str, object]) -> tuple[Kind, ...]:
    """The kinds of relation that an evaluation file (``fleet evaluate statarb --json``) proves.

    Raises ``ValueError`` if the document is none.
    """
    named = document.get("proven") if document.get("subject") == "statarb" else None
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise ValueError(
            "this is no evaluation of statistical arbitrage; write one with"
            " `fleet evaluate statarb --data DIR --json FILE`"
        )
    unknown = [name for name in named if name not in Kind.__members__]
    if unknown:
        raise ValueError(f"no such kinds of relation: {', '.join(unknown)}; write the file anew")
    return tuple(Kind[name] for name in named)
