"""What followed wallets were seen to do, and what we decided about it: a fold of the journal.

It knows who is copied, what each wallet got and gave up since it is watched, which of its purchases
may still be copied, and which were copied or refused. All of it comes from journalled facts, so a
restart copies nothing twice. A sighting is told by its id: told twice it counts once; undone it
counts for nothing until it is told again. A transaction that is mined again in another block may
come under another id (a log's index is the block's): the same change at the same price of the same
transaction is the same trade, with the decision that was made about it.

Ids are remembered for ``HORIZON`` blocks; what is told later than that cannot be told from a
repetition and is only counted. Once a market is resolved, its tokens are followed no more.
It decides nothing; ``fleet.strategies.mimic`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from fleet.domain.commands import BundleId, OpenBundle
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.knowledge import (
    CopyRefused,
    Followed,
    LeaderMoved,
    LeadersChosen,
    LeaderTraded,
    SightingUndone,
)
from fleet.domain.units import ZERO_CASH, ZERO_QTY, Cash, Price, Qty
from fleet.engine.leader_holding import Holding, Sighting

HORIZON: Final = 43_200
"""Blocks: a day of Polygon at two seconds each (polygon.technology, block time, read 2026-11)."""
LAGS_MAX: Final = 1_000
NS_PER_DAY: Final = 86_400 * 1_000_000_000
_HASH: Final = 66
"""A transaction hash: 0x and 64 digits; with it an id begins."""
Place = tuple[str, InstrumentId]
"""A wallet and a token."""


class LeaderTotals(Struct):
    """What was told and decided, over the whole journal."""

    told: int = 0
    repeated: int = 0
    late: int = 0
    """Told so late that it may be a repetition."""
    undone: int = 0
    undone_unknown: int = 0
    remined: int = 0
    """Undone, and told again."""
    candidates: int = 0
    """Purchases of copied wallets."""
    canceled: int = 0
    """Undone before they were decided about."""
    copied: int = 0
    refused: dict[str, int] = {}
    """By reason."""


class LeadersImage(Struct, frozen=True, kw_only=True):
    """All of it: the entries whose ids are known in the order they were told, the older sorted."""

    chosen: list[Followed]
    entries: list[Sighting]
    newest_block: int
    told: int
    day: int
    day_budget: Cash
    lags: list[int]
    totals: LeaderTotals


class Leaders:
    """The fold. Single-threaded; mutated by the facts of the journal and nothing else."""

    def __init__(self) -> None:
        """Nobody is followed and nothing was seen."""
        self.chosen: dict[str, Followed] = {}
        self.totals = LeaderTotals()
        self.lags: list[int] = []
        """From the oldest block a copy answers to, to its decision, in ns; the newest last."""
        self._seen: dict[str, list[Sighting]] = {}
        self._holdings: dict[Place, Holding] = {}
        self._waiting: dict[Place, dict[str, Sighting]] = {}
        self._copies: dict[BundleId, list[Sighting]] = {}
        self._gone: dict[str, list[Sighting]] = {}
        """What was undone, by transaction."""
        self._paid: dict[InstrumentId, Price] = {}
        self._newest = self._told = self._day = 0
        self._day_budget = ZERO_CASH

    # --- what strategies ask ------------------------------------------------------------------

    def copies(self, wallet: str) -> bool:
        """Whether the trades of a wallet are copied now."""
        followed = self.chosen.get(wallet)
        return followed is not None and followed.copied

    def waiting(self) -> Sequence[Place]:
        """Where purchases may still be copied, the longest waiting first."""
        return sorted(self._waiting, key=lambda place: self._first(place).number)

    def _first(self, place: Place) -> Sighting:
        return min(self._waiting[place].values(), key=_number)

    def candidates(self, wallet: str, token: InstrumentId) -> Sequence[Sighting]:
        """The purchases of one token that may still be copied, in the order they were told."""
        return sorted(self._waiting.get((wallet, token), {}).values(), key=_number)

    def held(self, wallet: str, token: InstrumentId) -> Qty:
        """What a wallet holds of a token, of what it was seen to get."""
        holding = self._holdings.get((wallet, token))
        return holding.held if holding is not None else ZERO_QTY

    def left(self, sighting: Sighting) -> Qty:
        """How much of a purchase the wallet still has."""
        holding = self._holdings.get((sighting.wallet, sighting.token))
        return holding.left(sighting) if holding is not None else ZERO_QTY

    def answered(self, bundle_id: BundleId) -> Sequence[Sighting]:
        """The purchases a bundle copies."""
        return tuple(self._copies.get(bundle_id, ()))

    def earned(self, sighting: Sighting) -> Cash:
        """What the leader's shares of a purchase that are gone have brought."""
        holding = self._holdings.get((sighting.wallet, sighting.token))
        return holding.earned(sighting) if holding is not None else ZERO_CASH

    def day_budget(self, now_ns: int) -> Cash:
        """What the copies opened on this UTC day may cost, filled or not."""
        return self._day_budget if now_ns // NS_PER_DAY == self._day else ZERO_CASH

    # --- facts --------------------------------------------------------------------------------

    def choose(self, event: LeadersChosen) -> None:
        """These are followed from now on."""
        self.chosen = {followed.wallet: followed for followed in event.leaders}

    def traded(self, event: LeaderTraded) -> None:
        """A wallet bought or sold."""
        sign = 1 if event.side is Side.BUY else -1
        change = sign * max(0, event.qty)
        self._tell(event, {event.instrument_id: change}, event.price)

    def moved(self, event: LeaderMoved) -> None:
        """A wallet's tokens changed without a trade."""
        changes: dict[InstrumentId, int] = {}
        for token, change in event.changes:
            changes[token] = changes.get(token, 0) + change
        self._tell(event, changes, Price(0))

    def undone(self, event: SightingUndone) -> None:
        """A sighting's block is gone; it counts for nothing until it is told again."""
        entries = self._seen.get(event.sighting_id)
        if entries is None:
            self.totals.undone_unknown += 1
            return
        for entry in entries:
            if entry.undone_ns:
                continue
            self.totals.undone += 1
            self.totals.canceled += entry.open
            self._wait_no_more(entry)
            entry.undone_ns = max(1, event.ts_recv)
            self._gone.setdefault(entry.id[:_HASH], []).append(entry)
            self._changed(entry)

    def refused(self, event: CopyRefused) -> None:
        """We will not copy these."""
        for entry in self._of(event.sightings, event.instrument_id):
            if entry.bundle or entry.refused:
                continue
            self._wait_no_more(entry)
            entry.refused = event.reason.value
            counts = self.totals.refused
            counts[entry.refused] = counts.get(entry.refused, 0) + 1

    def copied(self, plan: OpenBundle, now_ns: int) -> None:
        """A bundle was opened that copies what it ``answers``."""
        day = now_ns // NS_PER_DAY
        if day != self._day:
            self._day, self._day_budget = day, ZERO_CASH
        self._day_budget = Cash(self._day_budget + plan.budget)
        token = plan.legs[0].instrument_id
        entries = [one for one in self._of(plan.answers, token) if not one.bundle]
        for entry in entries:
            self._wait_no_more(entry)
            entry.basis = self.left(entry)
            entry.bundle = plan.bundle_id
            self.totals.copied += 1
        if entries:
            self._copies.setdefault(plan.bundle_id, []).extend(entries)
            began_ns = min(entry.ts_event or entry.ts_recv for entry in entries)
            self.lags.append(max(0, now_ns - began_ns))
            del self.lags[:-LAGS_MAX]

    def resolve(self, token: InstrumentId, payout: Price) -> None:
        """A token pays: it is followed no more, and what was seen of it only tells how it went."""
        self._paid[token] = payout
        for place in [place for place in self._holdings if place[1] == token]:
            entries = self._holdings[place].entries
            if not any(entry.bundle for entry in entries):
                del self._holdings[place]
                for entry in entries:
                    entry.loose = True

    # --- inside -------------------------------------------------------------------------------

    def _tell(
        self, event: LeaderTraded | LeaderMoved, changes: Mapping[InstrumentId, int], price: Price
    ) -> None:
        self.totals.told += 1
        if event.block < self._newest - HORIZON:
            self.totals.late += 1
            return
        known = self._seen.get(event.sighting_id)
        if known is not None:
            self._tell_again(known, event)
            return
        purchase = isinstance(event, LeaderTraded) and self.copies(event.wallet)
        entries: list[Sighting] = []
        for token, change in changes.items():
            entry = Sighting(
                event.sighting_id, event.wallet, token, change, price, event.block, event.ts_event,
                event.ts_recv, self._told, purchase and change > 0, loose=token in self._paid,
            )  # fmt: skip
            self._told += 1
            self._inherit(entry)
            self.totals.candidates += entry.open
            self._keep(entry)
            entries.append(entry)
        if entries:
            self._seen[event.sighting_id] = entries
        if event.block > self._newest:
            self._newest = event.block
            self._forget()

    def _tell_again(self, known: Sequence[Sighting], event: LeaderTraded | LeaderMoved) -> None:
        """A repetition, or a sighting that was undone and is part of the chain again."""
        gone = [entry for entry in known if entry.undone_ns and not self._is_there(entry.moved)]
        self.totals.repeated += not gone
        for entry in gone:
            holding = None if entry.loose else self._holdings.get((entry.wallet, entry.token))
            if holding is not None:
                holding.remove(entry)
            self._is_back(entry)
            entry.block = event.block
            self._inherit(entry)
            self._keep(entry)

    def _is_there(self, name: str) -> bool:
        """Whether a sighting is part of the chain, as far as it was told."""
        return any(not entry.undone_ns for entry in self._seen.get(name, ()))

    def _is_back(self, entry: Sighting) -> None:
        self.totals.remined += 1
        entry.undone_ns = 0
        name = entry.id[:_HASH]
        self._gone[name] = [one for one in self._gone[name] if one is not entry]
        if not self._gone[name]:
            del self._gone[name]

    def _inherit(self, entry: Sighting) -> None:
        """Take over the decision about the same trade, which was undone under another id."""
        if len(entry.id) < _HASH or entry.bundle:
            return
        like = (entry.wallet, entry.token, entry.change, entry.price)
        twins = [
            one for one in self._gone.get(entry.id[:_HASH], ())
            if (one.wallet, one.token, one.change, one.price) == like and not one.moved
        ]  # fmt: skip
        if not twins:
            return
        twin = min(twins, key=_number)
        entry.candidate, entry.refused = twin.candidate, twin.refused
        entry.bundle, entry.basis = twin.bundle, twin.basis
        twin.bundle, twin.basis, twin.refused = BundleId(""), ZERO_QTY, ""
        twin.moved, entry.moved = entry.id, ""
        if entry.bundle:
            copies = self._copies[entry.bundle]
            copies[copies.index(twin)] = entry

    def _keep(self, entry: Sighting) -> None:
        """Put an entry where it belongs."""
        place = entry.wallet, entry.token
        if entry.open:
            self._waiting.setdefault(place, {})[entry.id] = entry
        if not entry.loose:
            self._holdings.setdefault(place, Holding()).add(entry)

    def _changed(self, entry: Sighting) -> None:
        holding = self._holdings.get((entry.wallet, entry.token))
        if holding is not None:
            holding.changed()

    def _wait_no_more(self, entry: Sighting) -> None:
        place = entry.wallet, entry.token
        waiting = self._waiting.get(place, {})
        waiting.pop(entry.id, None)
        if not waiting:
            self._waiting.pop(place, None)

    def _of(self, sightings: Sequence[str], token: InstrumentId) -> list[Sighting]:
        return [
            entry for name in sightings for entry in self._seen.get(name, ())
            if entry.token == token
        ]  # fmt: skip

    def _forget(self) -> None:
        """Forget ids beyond the horizon, and holdings that ended there and are nobody's copy."""
        while self._seen:
            name = next(iter(self._seen))
            entries = self._seen[name]
            if any(entry.block >= self._newest - HORIZON for entry in entries):
                return
            del self._seen[name]
            for entry in entries:
                entry.forgotten = True
                self._wait_no_more(entry)
                self._gone.pop(entry.id[:_HASH], None)
                place = entry.wallet, entry.token
                holding = self._holdings.get(place)
                if holding is not None and not holding.held and all(
                    one.forgotten and not one.bundle for one in holding.entries
                ):  # fmt: skip
                    del self._holdings[place]

    # --- image --------------------------------------------------------------------------------

    def image(self) -> LeadersImage:
        """All of it as one record, shared with this fold."""
        old = [
            entry for holding in self._holdings.values() for entry in holding.entries
            if entry.forgotten
        ]  # fmt: skip
        old.sort(key=lambda entry: (entry.wallet, entry.token, *entry.place))
        return LeadersImage(
            chosen=list(self.chosen.values()),
            entries=[*old, *self._known()],
            newest_block=self._newest,
            told=self._told,
            day=self._day,
            day_budget=self._day_budget,
            lags=self.lags,
            totals=self.totals,
        )

    def _known(self) -> Iterator[Sighting]:
        for entries in self._seen.values():
            yield from entries

    def restore(self, image: LeadersImage, paid: Mapping[InstrumentId, Price]) -> None:
        """Become what ``image`` shows, with what resolved tokens pay."""
        self.chosen = {followed.wallet: followed for followed in image.chosen}
        self._newest, self._told = image.newest_block, image.told
        self._day, self._day_budget = image.day, image.day_budget
        self.lags, self.totals, self._paid = image.lags, image.totals, dict(paid)
        for entry in image.entries:
            if not entry.forgotten:
                self._seen.setdefault(entry.id, []).append(entry)
            self._restore_entry(entry)

    def _restore_entry(self, entry: Sighting) -> None:
        place = entry.wallet, entry.token
        if entry.undone_ns and not entry.forgotten:
            self._gone.setdefault(entry.id[:_HASH], []).append(entry)
        if entry.open and not entry.forgotten:
            self._waiting.setdefault(place, {})[entry.id] = entry
        if not entry.loose:
            self._holdings.setdefault(place, Holding()).add(entry)
        if entry.bundle:
            self._copies.setdefault(entry.bundle, []).append(entry)


def _number(entry: Sighting) -> int:
    return entry.number
