"""The phrase, the smoke order, and the files that keep paper and live apart."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.clock import NS_PER_SECOND, ManualClock
from fleet.config import Mode, Paths
from fleet.domain.events import VenueOrderId
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE, Price, Qty
from fleet.journal.database import JournalForeign, JournalUnavailable
from fleet.journal.store import JournalStore
from fleet.runtime.findings import Finding, Result
from fleet.runtime.gate_store import GateStore, SmokeRecord, SmokeState, StageRecord
from fleet.runtime.live_gate import PhraseRefused, expected_phrase, require_phrase
from fleet.runtime.parity_store import ParityStore
from fleet.runtime.smoke import POLL_S, BeforeSend, Smoke, SmokeOrder, smoke_order
from fleet.venues.port import RequestRefused, TransportFailed
from tests.builders import universe, yes

NOON = 1_795_176_000 * NS_PER_SECOND  # 2026-11-20 12:00:00 UTC
DAY = 86_400 * NS_PER_SECOND
PHRASE = "ENABLE LIVE ArbHunter 2026-11-20"


# --- the phrase -----------------------------------------------------------------------------------


def refused(given: str, *, at_ns: int = NOON, ask: Callable[[str], str] | None = None) -> str:
    with pytest.raises(PhraseRefused) as caught:
        require_phrase("ArbHunter", ManualClock(at_ns), given=given, ask=ask)
    return str(caught.value)


def test_the_phrase_names_the_bot_and_the_utc_day() -> None:
    assert expected_phrase("ArbHunter", NOON) == PHRASE
    assert expected_phrase("ArbHunter", NOON + DAY // 2 - 1) == PHRASE
    assert expected_phrase("ArbHunter", NOON + DAY // 2).endswith("2026-11-21")


@pytest.mark.parametrize(
    "given", [PHRASE, f"  {PHRASE} ", PHRASE.replace("ArbHunter", "ARBHUNTER")]
)
def test_the_phrase_of_today_opens(given: str) -> None:
    require_phrase("ArbHunter", ManualClock(NOON), given=given, ask=None)


@pytest.mark.parametrize(
    "given",
    [
        PHRASE.replace("20", "19"), PHRASE.replace("-20", "-21"), PHRASE.replace("ArbHunter", "PolyAI"),
        PHRASE.lower(), PHRASE + " yes", "ENABLE LIVE ArbHunter", "yes",
    ],
)  # fmt: skip
def test_any_other_phrase_is_refused_and_the_right_one_is_told(given: str) -> None:
    told = refused(given, ask=lambda _prompt: PHRASE)
    assert PHRASE in told and "LIVE_CONFIRM" in told


def test_yesterdays_phrase_does_not_live_past_midnight() -> None:
    assert "2026-11-21" in refused(PHRASE, at_ns=NOON + DAY // 2)


def test_without_a_terminal_and_without_the_variable_it_stays_shut() -> None:
    told = refused("")
    assert PHRASE in told and "LIVE_CONFIRM" in told


def test_a_terminal_is_asked_once_and_shown_what_to_type() -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return PHRASE

    require_phrase("ArbHunter", ManualClock(NOON), given="", ask=ask)
    assert len(prompts) == 1 and PHRASE in prompts[0] and "REAL MONEY" in prompts[0]
    assert PHRASE in refused("", ask=lambda _: "y")


def test_a_terminal_that_is_closed_refuses() -> None:
    def ask(_prompt: str) -> str:
        raise EOFError

    assert PHRASE in refused("", ask=ask)


def test_a_prompt_that_waits_past_midnight_wants_the_new_day() -> None:
    clock = ManualClock(NOON + DAY // 2 - 1)

    def ask(_prompt: str) -> str:
        clock.advance(2)
        return PHRASE

    with pytest.raises(PhraseRefused, match="2026-11-21"):
        require_phrase("ArbHunter", clock, given="", ask=ask)


# --- the smoke order ------------------------------------------------------------------------------

ORDER = SmokeOrder(instrument_id=InstrumentId("7"), price=Price(SCALE // 100), qty=Qty(5 * SCALE))
WAIT_NS = 20 * NS_PER_SECOND


class Killed(BaseException):
    """The process died here."""


@dataclass
class Venue:
    """A venue's open orders and trades, and what goes wrong with it."""

    clock: ManualClock
    resting: set[VenueOrderId] = field(default_factory=set)
    trades: set[VenueOrderId] = field(default_factory=set)
    refusal: str = ""
    lost: bool = False
    """The answer to the post is lost; the order arrives after ``late_ns``, if at all."""
    late_ns: int | None = None
    cancels: int = 0
    deaf: bool = False
    """It says yes to cancels and does nothing."""
    down: bool = False
    fills: bool = False
    kill: str = ""
    coming: dict[VenueOrderId, int] = field(default_factory=dict)
    posted: int = 0

    async def place_post_only(
        self, instrument_id: InstrumentId, price: Price, qty: Qty, before_send: BeforeSend
    ) -> VenueOrderId:
        self.posted += 1
        order_id = VenueOrderId(f"0x{self.posted:064x}")
        before_send(order_id)
        if self.kill == "before the post":
            raise Killed
        if self.refusal:
            raise RequestRefused(self.refusal, status=400, body=self.refusal)
        if self.lost:
            if self.late_ns is not None:
                self.coming[order_id] = self.clock.now_ns() + self.late_ns
            raise TransportFailed("no answer", sent=True)
        self.resting.add(order_id)
        if self.kill == "after the post":
            raise Killed
        return order_id

    async def cancel(self, order_id: VenueOrderId) -> bool:
        self._arrive()
        self.cancels += 1
        if self.down:
            raise TransportFailed("down", sent=True)
        if self.fills and order_id in self.resting:
            self.trades.add(order_id)
        here = order_id in self.resting
        if not self.deaf:
            self.resting.discard(order_id)
        return here

    async def open_orders(self) -> set[VenueOrderId]:
        self._arrive()
        if self.down:
            raise TransportFailed("down", sent=True)
        return set(self.resting)

    async def traded(self, order_id: VenueOrderId) -> bool:
        return order_id in self.trades

    def _arrive(self) -> None:
        for order_id, at_ns in list(self.coming.items()):
            if at_ns <= self.clock.now_ns():
                del self.coming[order_id]
                self.resting.add(order_id)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def venue(clock: ManualClock) -> Venue:
    return Venue(clock)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GateStore]:
    with GateStore(tmp_path / "gate.db", bot="ArbHunter", feed="sandbox") as store:
        yield store


def smoked(venue: Venue, store: GateStore) -> Finding:
    async def sleep(seconds: float) -> None:
        assert seconds == POLL_S
        venue.clock.advance(int(seconds * NS_PER_SECOND))

    return asyncio.run(Smoke(venue, store, venue.clock, wait_ns=WAIT_NS, sleep=sleep).run(ORDER))


def states(store: GateStore) -> list[SmokeState]:
    return [record.state for record in store.smokes()]


def test_a_smoke_order_is_placed_cancelled_and_proven(venue: Venue, store: GateStore) -> None:
    finding = smoked(venue, store)
    assert finding.result is Result.OK and finding.found.startswith("5 @ 0.01 placed")
    assert venue.resting == set() and venue.posted == 1
    (record,) = store.smokes()
    assert (record.state, record.price, record.qty) == (SmokeState.ENDED, ORDER.price, ORDER.qty)
    assert store.smoke_ids() == {record.order_id}


def test_a_refused_order_fails_with_the_venues_words(venue: Venue, store: GateStore) -> None:
    venue.refusal = "not enough balance / allowance"
    finding = smoked(venue, store)
    assert finding.result is Result.FAILED and "not enough balance" in finding.found
    assert states(store) == [SmokeState.REFUSED] and venue.cancels == 0


@pytest.mark.parametrize("late_s", [None, 0, 5, 19])
def test_an_unanswered_post_is_looked_for_and_ended(
    venue: Venue, store: GateStore, late_s: int | None
) -> None:
    venue.lost = True
    venue.late_ns = None if late_s is None else late_s * NS_PER_SECOND
    finding = smoked(venue, store)
    assert finding.result is Result.UNKNOWN
    assert venue.clock.now_ns() - NOON >= WAIT_NS
    assert venue.resting == set() and venue.coming == {}
    assert states(store) == [SmokeState.ENDED]


@pytest.mark.parametrize("kill", ["before the post", "after the post"])
def test_a_crash_leaves_nothing_resting_unnoticed(
    venue: Venue, store: GateStore, kill: str
) -> None:
    venue.kill = kill
    with pytest.raises(Killed):
        smoked(venue, store)
    assert states(store) == [SmokeState.SIGNED]
    assert len(venue.resting) == (kill == "after the post")
    venue.kill = ""
    assert smoked(venue, store).ok
    assert states(store) == [SmokeState.ENDED, SmokeState.ENDED] and venue.resting == set()


def test_an_old_order_is_ended_before_a_new_one_is_placed(venue: Venue, store: GateStore) -> None:
    venue.kill = "after the post"
    with pytest.raises(Killed):
        smoked(venue, store)
    venue.kill, venue.down = "", True
    assert smoked(venue, store).result is Result.UNKNOWN
    assert venue.posted == 1 and states(store) == [SmokeState.SIGNED]


def test_a_cancel_that_does_nothing_fails(venue: Venue, store: GateStore) -> None:
    venue.deaf = True
    finding = smoked(venue, store)
    assert finding.result is Result.FAILED and "still open" in finding.found
    assert "fleet cancel-all --direct" in finding.cure and venue.cancels > 1
    assert states(store) == [SmokeState.SIGNED]


def test_a_fill_is_told_and_stops_the_start(venue: Venue, store: GateStore) -> None:
    venue.fills = True
    finding = smoked(venue, store)
    assert finding.result is Result.FAILED and finding.found.endswith("filled")
    assert states(store) == [SmokeState.FILLED]


def test_the_order_is_the_smallest_and_the_farthest() -> None:
    instruments = universe(3).instruments
    a, b = instruments[yes(1)], instruments[yes(2)]
    tick = a.tick
    quotes = [(a, Price(40 * tick), Price(42 * tick)), (b, Price(60 * tick), Price(61 * tick))]
    order = smoke_order(quotes)
    assert order == SmokeOrder(instrument_id=b.id, price=b.tick, qty=b.min_qty)
    near = [(a, Price(10 * tick), Price(42 * tick)), (a, Price(0), Price(42 * tick)),
            (a, Price(50 * tick), Price(50 * tick))]  # fmt: skip
    assert smoke_order(near) is None
    assert smoke_order([]) is None


# --- files ----------------------------------------------------------------------------------------


def test_paper_and_live_never_share_a_file() -> None:
    paths = Paths(root=Path("home"))
    for name in (paths.journal, paths.parity):
        files = {
            name("arbhunter", mode, feed) for mode in Mode for feed in ("sandbox", "polymarket")
        }
        assert len(files) == 6
    assert paths.gate("arbhunter", "polymarket") != paths.gate("arbhunter")


def test_a_journal_of_paper_is_refused_as_one_of_live(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    JournalStore(path, bot="ArbHunter", mode=Mode.PAPER.value, run_id="r").close()
    with pytest.raises(JournalForeign, match="the paper journal of ArbHunter, not the live"):
        JournalStore(path, bot="ArbHunter", mode=Mode.LIVE.value, run_id="r")


def test_parity_of_another_mode_market_or_bot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parity.db"
    ParityStore(path, bot="arbhunter", mode="paper", feed="sandbox").close()
    ParityStore(path, bot="arbhunter", mode="paper", feed="sandbox", read_only=True).close()
    for bot, mode, feed in (
        ("arbhunter", "live", "sandbox"),
        ("arbhunter", "paper", "polymarket"),
        ("polyai", "paper", "sandbox"),
    ):
        with pytest.raises(JournalForeign):
            ParityStore(path, bot=bot, mode=mode, feed=feed)
    with pytest.raises(JournalForeign):
        GateStore(path, bot="arbhunter", feed="sandbox")
    with pytest.raises(JournalUnavailable):
        GateStore(tmp_path / "none.db", bot="arbhunter", feed="sandbox", read_only=True)


def test_the_gate_file_forgets_nothing(store: GateStore) -> None:
    assert store.stage() is None
    first = StageRecord(ts=NOON, day="2026-11-20", percent=10, reason="first")
    second = StageRecord(ts=NOON + DAY, day="2026-11-21", percent=50, reason="5 live days")
    store.record_stage(first)
    store.record_stage(second)
    assert store.stage() == second and store.stages() == [first, second]
    store.smoke_signed(
        SmokeRecord(
            order_id=VenueOrderId("0x1"), ts=NOON, instrument_id=InstrumentId("7"),
            price=Price(1), qty=Qty(1), state=SmokeState.SIGNED,
        )
    )  # fmt: skip
    for statement in ("DELETE FROM stage", "UPDATE stage SET percent = 100", "DELETE FROM smoke"):
        with pytest.raises(Exception, match="never"):
            store.db.execute(statement)
