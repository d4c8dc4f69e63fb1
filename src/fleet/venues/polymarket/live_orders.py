"""What is known of our orders at the venue, from every source, told to the engine once. Pure.

Theory of operation. Four sources speak of an order: the answer to its POST, the user stream, the
REST lists, and the answers to cancels. They come in any order, twice, or not at all; each is proof
of something. The desk keeps for each order what is proven and turns the *new* part into facts:

    SENT      the POST is under way
    UNKNOWN   no proof either way (``SubmitUnknown``); looked for until there is
    WORKING   the venue has it: it rests, or is delayed
    ENDING    the venue said it is over, but not every fill of it has been seen
    CLOSED    nothing more is to come (a late settlement aside)

*The end comes last.* ``OrderCanceled`` is told only when every share the venue counts as matched
has come as a fill and every trade it named has been seen. A source that gives those figures (the
stream's CANCELLATION, the answer of a FAK) is proof at once; a bare "canceled" is not, and then two
surveys a second apart must show no new fill.

*Absence is proven by two looks.* A survey reads the open orders, then the trades, then each unknown
order by its id. An order in none of them is absent, if the survey began late enough for it to have
arrived: ``SILENT_NS`` after a POST was given up unanswered (that is after our own 10 s of waiting;
the longest taker delay is seconds), ``ANSWERED_NS`` after one that was. A second look
``SECOND_LOOK_NS`` later must say the same; then, and only then, it is ``OrderRejected``.

*A FAK BUY is made by hand* (``guard`` says why): it was posted as GTC, and whatever is left of it
is cancelled as soon as its POST is answered, or lost, and again until the venue says it is gone.
While it is delayed the venue refuses, and we ask again.

Everything is driven by the times handed in; the desk sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId
from fleet.domain.events import TradeId, VenueOrderId
from fleet.domain.units import SCALE
from fleet.venues.polymarket.live_fills import FINAL, FeesOf, Ours, fills_of
from fleet.venues.polymarket.outcomes import DELAYED, GONE, Outcome, Verdict
from fleet.venues.polymarket.tracked_order import Phase, Tracked
from fleet.venues.polymarket.wire_user import UserOrder, UserTrade

SILENT_NS: Final = 15 * NS_PER_SECOND
ANSWERED_NS: Final = 2 * NS_PER_SECOND
SECOND_LOOK_NS: Final = NS_PER_SECOND
CANCEL_AGAIN_NS: Final = 100 * NS_PER_MS
CANCEL_FAILED_NS: Final = NS_PER_SECOND
DUST: Final = SCALE // 100
"""Fills may differ from what the venue counts by 0.01 share (reference 4.5)."""
ABSENT: Final = "the venue never had it: twice in no list, long after it was sent"
VANISHED: Final = "it is no longer at the venue"
REST_KILLED: Final = "the rest of a FAK order is killed"
EXPIRED: Final = "CANCELED_EXPIRED_ORDER"
DEAD: Final = ("CANCELED", "INVALID")
_RANK: Final = {
    ev.SettlementStatus.MATCHED: 0,
    ev.SettlementStatus.RETRYING: 1,
    ev.SettlementStatus.MINED: 2,
    ev.SettlementStatus.CONFIRMED: 3,
    ev.SettlementStatus.FAILED: 3,
}


class OrderDesk:
    """All our orders at one venue. Facts pile up in order; ``take`` hands them out."""

    def __init__(self, fees_of: FeesOf) -> None:
        """No orders. ``fees_of`` tells a token's fee schedule."""
        self.ours: dict[VenueOrderId, Ours] = {}
        self.unknown_trades = 0
        """Trades seen that none of our orders is in."""
        self.fees_of = fees_of
        self._tracked: dict[ClientOrderId, Tracked] = {}
        self._open: dict[ClientOrderId, Tracked] = {}
        self._settled: dict[TradeId, ev.SettlementStatus] = {}
        self._unsettled: dict[TradeId, int] = {}
        self._facts: list[ev.Event] = []

    # --- what is there ------------------------------------------------------------------------

    def take(self) -> list[ev.Event]:
        """The facts since the last call, in order."""
        facts, self._facts = self._facts, []
        return facts

    def get(self, client_order_id: ClientOrderId) -> Tracked | None:
        """One order, if the desk ever had it."""
        return self._tracked.get(client_order_id)

    def open(self) -> Iterator[Tracked]:
        """The orders that are not closed, oldest first."""
        return iter(tuple(self._open.values()))

    @property
    def urgent(self) -> bool:
        """Whether some order waits for a look at the venue."""
        return any(tracked.urgent for tracked in self._open.values())

    @property
    def busy(self) -> bool:
        """Whether anything is open or unsettled."""
        return bool(self._open or self._unsettled)

    def oldest_ns(self, now_ns: int) -> int:
        """From when on trades may still say something new."""
        moments = [tracked.ours.submitted_ns for tracked in self._open.values()]
        return min([*moments, *self._unsettled.values()], default=now_ns)

    def due_cancels(self, now_ns: int) -> list[Tracked]:
        """The orders to cancel now; they are not named again until an answer asks for it."""
        due = [t for t in self._open.values() if 0 < t.cancel_due_ns <= now_ns]
        for tracked in due:
            tracked.cancel_due_ns = 0
        return due

    # --- ours ---------------------------------------------------------------------------------

    def resume(self, ours: Ours, *, accepted: bool, is_open: bool) -> None:
        """An order of an earlier run of this journal; what happened since is not known."""
        tracked = Tracked(
            ours=ours,
            phase=Phase.CLOSED if not is_open else Phase.WORKING if accepted else Phase.UNKNOWN,
            told=accepted or not is_open,
            lost_ns=ours.submitted_ns,
        )
        tracked.gone = is_open
        if is_open and tracked.by_hand:
            tracked.cancel_due_ns = 1
        self._add(tracked)

    def sent(self, ours: Ours) -> None:
        """An order is signed, journalled, and about to be posted."""
        self._add(Tracked(ours=ours))

    def _add(self, tracked: Tracked) -> None:
        self._tracked[tracked.ours.client_order_id] = tracked
        self.ours[tracked.ours.venue_order_id] = tracked.ours
        if tracked.phase is not Phase.CLOSED:
            self._open[tracked.ours.client_order_id] = tracked

    def ask_cancel(self, client_order_id: ClientOrderId, now_ns: int) -> None:
        """The engine wants it cancelled."""
        tracked = self._open.get(client_order_id)
        if tracked is None:
            self._facts.append(
                ev.CancelRejected(
                    ts_event=now_ns, ts_recv=now_ns, client_order_id=client_order_id,
                    reason="the order is already canceled or matched",
                )
            )  # fmt: skip
            return
        tracked.asked = True
        tracked.cancel_due_ns = tracked.cancel_due_ns or now_ns

    # --- answers ------------------------------------------------------------------------------

    def answered(self, client_order_id: ClientOrderId, outcome: Outcome, now_ns: int) -> None:
        """What the answer to the POST proved."""
        tracked = self._tracked[client_order_id]
        stamp = {"ts_event": now_ns, "ts_recv": now_ns}
        if tracked.phase is Phase.CLOSED:
            return
        if outcome.verdict is Verdict.REJECTED and not tracked.told:
            self._close(tracked, ev.OrderRejected(
                **stamp, client_order_id=client_order_id, reason=outcome.reason))  # fmt: skip
            return
        if outcome.verdict in {Verdict.UNKNOWN, Verdict.REJECTED} and not tracked.told:
            tracked.phase, tracked.lost_ns, tracked.silent = Phase.UNKNOWN, now_ns, outcome.silent
            self._facts.append(ev.SubmitUnknown(
                **stamp, client_order_id=client_order_id, reason=outcome.reason))  # fmt: skip
        elif outcome.verdict in {Verdict.ACCEPTED, Verdict.DUPLICATE}:
            self._accept(tracked, now_ns)
            tracked.matched = max(tracked.matched, outcome.matched_qty)
            tracked.trades.update(outcome.trade_ids)
            tracked.gone = outcome.verdict is Verdict.DUPLICATE
            self._judge_status(tracked, outcome, now_ns)
        if tracked.by_hand and tracked.phase in {Phase.WORKING, Phase.UNKNOWN}:
            tracked.cancel_due_ns = now_ns

    def _judge_status(self, tracked: Tracked, outcome: Outcome, now_ns: int) -> None:
        if outcome.status != "matched" or not tracked.matched:
            return
        if tracked.matched >= tracked.ours.qty:
            self._end(tracked, "matched", now_ns, proven=True)
        elif not tracked.rests:
            self._end(tracked, REST_KILLED, now_ns, proven=True)

    def canceled(self, venue_order_id: VenueOrderId, now_ns: int) -> None:
        """A cancel was answered with "canceled": it is dead, but its last fills may not be here."""
        tracked = self._find(venue_order_id)
        if tracked is None or tracked.phase is Phase.CLOSED:
            return
        self._accept(tracked, now_ns)
        self._end(tracked, "asked to" if tracked.asked else REST_KILLED, now_ns, proven=False)

    def cancel_refused(self, venue_order_id: VenueOrderId, reason: str, now_ns: int) -> None:
        """The venue would not cancel it: delayed (ask again), gone (look), or another reason."""
        tracked = self._find(venue_order_id)
        if tracked is None or tracked.phase is Phase.CLOSED:
            return
        if DELAYED in reason:
            self._accept(tracked, now_ns)
            tracked.cancel_due_ns = now_ns + CANCEL_AGAIN_NS
        elif any(text in reason for text in GONE):
            # Over, or not arrived yet: a look tells, and it must be asked for again if it rests.
            tracked.gone = True
        else:
            tracked.cancel_due_ns = now_ns + CANCEL_FAILED_NS

    def cancel_lost(self, venue_order_id: VenueOrderId, now_ns: int) -> None:
        """A cancel had no answer; it is harmless to ask again."""
        tracked = self._find(venue_order_id)
        if tracked is not None and tracked.phase is not Phase.CLOSED:
            tracked.gone = True
            tracked.cancel_due_ns = now_ns + CANCEL_FAILED_NS

    # --- sightings ----------------------------------------------------------------------------

    def order_seen(self, order: UserOrder, now_ns: int) -> None:
        """The stream or a list shows one of our orders."""
        tracked = self._find(order.order_id)
        if tracked is None or tracked.phase is Phase.CLOSED:
            return
        self._accept(tracked, now_ns)
        tracked.matched = max(tracked.matched, order.matched_qty)
        tracked.trades.update(order.trade_ids)
        dead = order.action == "CANCELLATION" or order.status.startswith(DEAD)
        if dead:
            self._end(tracked, order.status or "canceled", now_ns, proven=True)
        elif order.matched_qty >= tracked.ours.qty:
            self._end(tracked, "matched", now_ns, proven=True)
        elif order.status == "MATCHED" and not tracked.rests:
            # Delayed at first, so its POST could not say it.
            self._end(tracked, REST_KILLED, now_ns, proven=True)
        else:
            self._try_close(tracked, now_ns)

    def trade_seen(self, trade: UserTrade, now_ns: int) -> bool:
        """The stream or a list shows a trade; whether one of our orders is in it."""
        fills = fills_of(trade, self.ours, self.fees_of)
        if not fills:
            self.unknown_trades += 1
            return False
        for fill in fills:
            tracked = self._tracked[fill.client_order_id]
            if fill.trade_id not in self._settled:
                self._accept(tracked, now_ns)
                self._settled[fill.trade_id] = ev.SettlementStatus.MATCHED
                tracked.filled += fill.qty
                self._facts.append(fill)
            tracked.seen.add(trade.trade_id)
            self._settle(fill, trade)
        if trade.status in FINAL:
            self._unsettled.pop(trade.trade_id, None)
        else:
            self._unsettled.setdefault(trade.trade_id, trade.ts_event)
        for client_order_id in dict.fromkeys(fill.client_order_id for fill in fills):
            self._try_close(self._tracked[client_order_id], now_ns)
        return True

    def _settle(self, fill: ev.OrderFilled, trade: UserTrade) -> None:
        """Tell a step of the settlement, once and never backwards."""
        known = self._settled[fill.trade_id]
        if known in FINAL or _RANK[trade.status] < _RANK[known] or trade.status is known:
            return
        self._settled[fill.trade_id] = trade.status
        self._facts.append(
            ev.FillSettled(
                ts_event=trade.ts_event, ts_recv=trade.ts_recv,
                trade_id=fill.trade_id, status=trade.status,
            )
        )  # fmt: skip

    def surveyed(
        self, listed: Mapping[VenueOrderId, UserOrder], began_ns: int, now_ns: int
    ) -> None:
        """A whole look: ``listed`` is what is open, and every trade up to then has been shown.

        ``began_ns`` is when the look began; it says nothing about what was sent later.
        """
        for tracked in self.open():
            order = listed.get(tracked.ours.venue_order_id)
            if order is not None:
                tracked.absent_ns = 0
                self.order_seen(order, now_ns)
                self._still_there(tracked, now_ns)
            elif tracked.phase is not Phase.SENT:
                self._not_there(tracked, began_ns, now_ns)

    def _still_there(self, tracked: Tracked, now_ns: int) -> None:
        if tracked.phase is Phase.ENDING and tracked.end == VANISHED and not tracked.proven:
            # It was only not listed (a delayed order may not be): it rests after all.
            tracked.phase, tracked.end, tracked.calm_ns = Phase.WORKING, "", 0
        if tracked.phase is not Phase.WORKING:
            return
        refused = tracked.gone and tracked.asked
        tracked.gone = False
        if tracked.by_hand:
            tracked.cancel_due_ns = tracked.cancel_due_ns or now_ns
        elif refused and not tracked.cancel_due_ns:
            tracked.asked = False
            self._facts.append(
                ev.CancelRejected(
                    ts_event=now_ns, ts_recv=now_ns,
                    client_order_id=tracked.ours.client_order_id, reason="the order still rests",
                )
            )  # fmt: skip

    def _not_there(self, tracked: Tracked, began_ns: int, now_ns: int) -> None:
        if not tracked.told:
            late_ns = tracked.lost_ns + (SILENT_NS if tracked.silent else ANSWERED_NS)
            if began_ns < late_ns:
                return
            if not tracked.absent_ns:
                tracked.absent_ns = began_ns
            elif began_ns - tracked.absent_ns >= SECOND_LOOK_NS:
                self._close(tracked, ev.OrderRejected(
                    ts_event=now_ns, ts_recv=now_ns,
                    client_order_id=tracked.ours.client_order_id, reason=ABSENT))  # fmt: skip
            return
        if began_ns <= tracked.told_ns:
            return
        if not tracked.end:
            self._end(tracked, VANISHED, now_ns, proven=False)
        if not tracked.calm_ns:
            tracked.calm_ns = began_ns
        elif began_ns - tracked.calm_ns >= SECOND_LOOK_NS:
            tracked.proven = True
            self._try_close(tracked, now_ns)

    # --- steps --------------------------------------------------------------------------------

    def _find(self, venue_order_id: VenueOrderId) -> Tracked | None:
        ours = self.ours.get(venue_order_id)
        return self._tracked[ours.client_order_id] if ours is not None else None

    def _accept(self, tracked: Tracked, now_ns: int) -> None:
        if tracked.phase in {Phase.SENT, Phase.UNKNOWN}:
            tracked.phase = Phase.WORKING
        if not tracked.told:
            tracked.told, tracked.told_ns = True, now_ns
            self._facts.append(ev.OrderAccepted(
                ts_event=now_ns, ts_recv=now_ns,
                client_order_id=tracked.ours.client_order_id,
                venue_order_id=tracked.ours.venue_order_id,
            ))  # fmt: skip

    def _end(self, tracked: Tracked, reason: str, now_ns: int, *, proven: bool) -> None:
        tracked.end = tracked.end or reason
        tracked.proven = tracked.proven or proven
        tracked.cancel_due_ns = 0
        if tracked.phase is not Phase.CLOSED:
            tracked.phase = Phase.ENDING
        self._try_close(tracked, now_ns)

    def _try_close(self, tracked: Tracked, now_ns: int) -> None:
        whole = tracked.filled >= tracked.ours.qty
        known = tracked.filled + DUST >= tracked.matched and tracked.trades <= tracked.seen
        if tracked.phase is Phase.CLOSED or not (
            whole or (tracked.end and tracked.proven and known)
        ):
            return
        if whole:
            self._close(tracked, None)
            return
        stamp = {"ts_event": now_ns, "ts_recv": now_ns}
        kind = ev.OrderExpired if EXPIRED in tracked.end else None
        client_order_id = tracked.ours.client_order_id
        self._close(
            tracked,
            kind(**stamp, client_order_id=client_order_id)
            if kind is not None
            else ev.OrderCanceled(**stamp, client_order_id=client_order_id, reason=tracked.end),
        )

    def _close(self, tracked: Tracked, fact: ev.Event | None) -> None:
        tracked.phase, tracked.last = Phase.CLOSED, fact
        tracked.cancel_due_ns = 0
        self._open.pop(tracked.ours.client_order_id, None)
        if fact is not None:
            self._facts.append(fact)
