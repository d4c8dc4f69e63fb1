"""What a person reads: log lines for each thing that happened, made from durable facts.

The reporter sits behind the journal: it sees events after they are safe on disk, so a line in the
log is never ahead of the truth. Every line of a bot carries its mode and feed in the label of the
log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fleet import logs
from fleet.domain import events as ev
from fleet.domain.commands import BundleId, OpenBundle
from fleet.domain.instruments import InstrumentId, MarketId
from fleet.domain.units import SCALE, format_dollars, format_units
from fleet.engine.bundle import Bundle
from fleet.engine.engine import Journal
from fleet.engine.state import State

EXECUTED: Final = frozenset({"COMPLETE", "HELD", "SOLD"})


class ReportingJournal:
    """A journal that tells its readers what it has safely written."""

    def __init__(self, journal: Journal, *readers: Callable[[Sequence[ev.Event]], None]) -> None:
        """Write to ``journal``, then tell each of ``readers``."""
        self._journal = journal
        self._readers = readers

    def write(self, events: Sequence[ev.Event]) -> int:
        """Append durably, then tell."""
        seq = self._journal.write(events)
        for read in self._readers:
            read(events)
        return seq


class Reporter:
    """Turns durable facts into log lines and counts."""

    def __init__(self, state: State, *, opportunity: str) -> None:
        """``opportunity`` is the word a bundle's opening is logged under."""
        self._state = state
        self._opportunity = opportunity
        self._log = logs.get("trading")
        self.executed = 0
        self.fills = 0

    def __call__(self, events: Sequence[ev.Event]) -> None:
        """Log what a person should know of."""
        for event in events:
            match event:
                case ev.DecisionMade():
                    self._decision(event)
                case ev.OrderFilled():
                    self._fill(event)
                case ev.ForecastReceived():
                    self._forecast(event)
                case ev.ForecastFailed():
                    self._log.warning(
                        "FORECAST FAILED", market=self._question(event.market_id),
                        forecaster=event.forecaster, reason=event.reason,
                    )  # fmt: skip
                case ev.CopyRefused():
                    self._log.info(
                        "COPY REFUSED", reason=event.reason.value, detail=event.detail,
                        market=self.name(event.instrument_id), leader=event.wallet,
                        trades=len(event.sightings),
                    )  # fmt: skip
                case ev.OrderRejected():
                    self._log.info(
                        "ORDER REJECTED", order=event.client_order_id, reason=event.reason
                    )
                case ev.SubmitUnknown():
                    self._log.warning(
                        "ORDER UNKNOWN", order=event.client_order_id, reason=event.reason
                    )
                case ev.OperationConfirmed():
                    self._log.info(
                        event.kind.value, operation=event.operation_id,
                        cash=format_dollars(event.cash),
                    )  # fmt: skip
                case ev.OperationRejected():
                    self._log.warning(
                        "OPERATION REJECTED", operation=event.operation_id, reason=event.reason
                    )
                case ev.TradingStateChanged():
                    self._log.info(f"TRADING {event.state.value}", by=event.by, reason=event.reason)
                case ev.ReconciliationFailed():
                    self._log.error("RECONCILIATION FAILED", difference=event.difference)
                case ev.Reconciled():
                    self._log.info("RECONCILED", venue=event.venue, adopted=event.adopted)
                case _:
                    pass

    def _forecast(self, event: ev.ForecastReceived) -> None:
        self._log.info(
            "FORECAST", market=self._question(event.market_id), forecaster=event.forecaster,
            says=_percent(event.raw, SCALE), price=_percent(event.price, SCALE),
            blend=_percent(event.blend, SCALE), weight=_percent(event.weight, SCALE),
            verdict=event.verdict,
        )  # fmt: skip

    def _question(self, market_id: MarketId) -> str:
        market = self._state.universe.markets.get(market_id)
        return market.question if market is not None else market_id

    def _decision(self, event: ev.DecisionMade) -> None:
        for plan in event.opened:
            self._log.info(
                "EXIT" if plan.exits else self._opportunity,
                idea=plan.idea,
                market=self._about(plan),
                bundle=plan.bundle_id,
                legs=len(plan.legs),
                sets=format_units(plan.legs[0].qty),
                outlay=f"${format_dollars(plan.budget)}",
                edge=f"${format_dollars(plan.edge)}",
                edge_pct=_percent(plan.edge, plan.budget),
            )
        for refusal in event.refused:
            self._log.info(
                "REFUSED", code=refusal.code.value, what=refusal.subject, detail=refusal.detail
            )
        for close in event.closed:
            self._closed(close.bundle_id, close.outcome)

    def _closed(self, bundle_id: BundleId, outcome: str) -> None:
        bundle = self._state.bundles.get(bundle_id)
        if bundle is None:
            return
        word = "EXECUTED" if outcome in EXECUTED else f"BUNDLE {outcome}"
        self.executed += outcome in EXECUTED
        self._log.info(
            word,
            idea=bundle.plan.idea,
            market=self._about(bundle.plan),
            bundle=bundle.id,
            sets=format_units(bundle.matched),
            cash=f"${format_dollars(bundle.cash)}",
            expected=f"${format_dollars(_share(bundle))}",
            pnl=f"${format_dollars(self._state.portfolio.realised)}",
        )

    def _fill(self, event: ev.OrderFilled) -> None:
        self.fills += 1
        self._log.info(
            f"FILLED {event.side.value}",
            qty=format_units(event.qty),
            price=format_units(event.price),
            fee=f"${format_units(event.fee)}",
            what=self.name(event.instrument_id),
            order=event.client_order_id,
        )

    def _about(self, plan: OpenBundle) -> str:
        return self.name(plan.legs[0].instrument_id) if plan.legs else plan.key

    def name(self, instrument_id: InstrumentId) -> str:
        """An instrument in words a person knows."""
        instrument = self._state.universe.instruments.get(instrument_id)
        if instrument is None:
            return f"{instrument_id[:12]}..."
        market = self._state.universe.markets[instrument.market_id]
        return f"{instrument.outcome} {market.slug or market.question}"


def _share(bundle: Bundle) -> int:
    """The edge that was planned for as much of the bundle as really filled."""
    planned = min(leg.qty for leg in bundle.plan.legs)
    return bundle.plan.edge * bundle.matched // planned if planned else 0


def _percent(part: int, whole: int) -> str:
    hundredths = part * 10_000 // whole if whole else 0
    return f"{hundredths // 100}.{hundredths % 100:02d}%"
