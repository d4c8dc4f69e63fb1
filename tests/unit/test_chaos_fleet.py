"""What a chaos run asks of fleet.db and of the exchange: each check against what breaks just this."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleet.clock import NS_PER_SECOND, ManualClock
from fleet.domain import events as ev
from fleet.domain.units import SCALE
from fleet.journal.allowances import AllowanceBoard, Scope
from fleet.journal.fleet import FleetState
from tests.builders import canceled, filled, submit, universe, yes
from tests.chaos_bot import BOT, KEY, Conditions
from tests.chaos_fleet import PLACE, FleetWatch
from tests.chaos_ledger import ExchangeWatch
from tests.chaos_loop import VirtualLoop
from tests.chaos_mortal import Mortal
from tests.proof import Disproved

S = NS_PER_SECOND
ORDER = submit("o1", yes(1), "10", "0.50")
DECIDED = ev.DecisionMade(decision=1, orders=(ORDER,))
SIGNED = ev.OrderSigned(
    client_order_id=ORDER.client_order_id, venue_order_id=ev.VenueOrderId("0xa")
)


class Scene:
    """A fleet.db, a watch over it, and processes of the bot."""

    def __init__(self, path: Path) -> None:
        self.fleet, self.clock, self.loop = FleetState(path), ManualClock(100 * S), VirtualLoop()
        self.watch = FleetWatch(
            path, "w", universe(2, one_set=True), Conditions(fleet=100, fleet_market=60, fleet_set=80),
            None, self.loop, self.clock,
        )  # fmt: skip

    def life(self, number: int) -> Mortal:
        nobody: Any = None
        return Mortal(f"bot-{number}", number, self.loop, nobody, lambda _: None)

    def leased(self, number: int) -> Mortal:
        life = self.life(number)
        now_ns = self.clock.now_ns()
        life.lease = self.fleet.acquire("w", BOT, number, 30 * S, now_ns, predecessor_dead=True)
        return life


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "fleet.db")
    yield scene
    scene.watch.close()
    scene.fleet.close()
    scene.loop.close()


def test_only_the_newest_lease_lets_sign_and_only_while_it_runs(scene: Scene) -> None:
    with pytest.raises(Disproved, match="without a lease"):
        scene.watch.may_act(scene.life(1), "signs")
    first = scene.leased(1)
    scene.watch.may_act(first, "signs")
    second = scene.leased(2)
    scene.watch.may_act(second, "signs")
    with pytest.raises(Disproved, match="under lease 1, ArbHunter holds 2"):
        scene.watch.may_act(first, "signs")
    scene.clock.advance(31 * S)
    with pytest.raises(Disproved, match="0 s after its lease ran out"):
        scene.watch.may_act(second, "signs")


def test_nothing_is_sent_once_a_halt_can_have_been_seen(scene: Scene) -> None:
    life = scene.leased(1)
    scene.watch.latched_s = scene.loop.time()
    scene.watch.may_send(life)
    scene.watch.latched_s = scene.loop.time() - 1.0
    with pytest.raises(Disproved, match="after the fleet was halted"):
        scene.watch.may_send(life)
    life.stopped_s = scene.loop.time()  # It stood still meanwhile, and has not looked yet.
    scene.watch.may_send(life)


def test_one_process_at_a_time_has_the_journal(scene: Scene) -> None:
    first, second = scene.life(1), scene.life(2)
    scene.watch.opened(first)
    with pytest.raises(Disproved, match="bot-2 opens the journal while bot-1"):
        scene.watch.opened(second)
    first.dead = True
    scene.watch.opened(second)


def test_caps_hold_over_all_bots(scene: Scene) -> None:
    neighbour: Any = SimpleNamespace(used={"fleet": 40 * SCALE, "set:s1": 30 * SCALE})
    scene.watch._neighbour = neighbour
    scene.watch.within_caps({"m1": 50 * SCALE}, 0)
    assert scene.watch.fullest == 1.0
    scene.watch.within_caps({"m1": 50 * SCALE + 1}, loose=1)
    for stake, word in (
        ({"m1": 50 * SCALE + 1}, "in set:s1"), ({"m1": 61 * SCALE}, "above its cap"),
        ({"elsewhere": 60 * SCALE + 1}, "in fleet"),
    ):  # fmt: skip
        with pytest.raises(Disproved, match=word):
            scene.watch.within_caps(stake, 0)


def test_grants_add_up_to_no_more_than_caps_and_cover_what_is_at_stake(scene: Scene) -> None:
    ours = AllowanceBoard(scene.fleet, place=PLACE, bot=BOT, wallet="w")
    scopes = {name: Scope(cap=50 * SCALE, used=0, want=50 * SCALE) for name in ("fleet", "market:m1",
              "set:s1")}  # fmt: skip
    ours.refresh(scopes, 1)
    scene.watch.grants({"m1": 50 * SCALE}, 0)
    with pytest.raises(Disproved, match="granted 5000000000"):
        scene.watch.grants({"m1": 50 * SCALE + 1}, 0)
    other = AllowanceBoard(scene.fleet, place=PLACE, bot="Other", wallet="v")
    other.refresh({"market:m1": Scope(cap=10**12, used=0, want=11 * SCALE)}, 1)
    with pytest.raises(Disproved, match="granted in market:m1, above its cap"):
        scene.watch.grants({}, 0)


# --- the exchange's ledger --------------------------------------------------------------------


def ledger(*, size: int = 0, active: bool = False, known: bool = True) -> ExchangeWatch:
    """A watch whose exchange has matched ``size`` base units of the one order it knows."""
    view = SimpleNamespace(taker_order_id="0xa", size=size, makers=())
    state: Any = SimpleNamespace(
        owners={"0xa": "me"} if known else {}, active={"0xa": None} if active else {},
        trades={"t1": SimpleNamespace(view=view)}, trades_of={"me": ["t1"]},
    )  # fmt: skip
    watch = ExchangeWatch(KEY.address, lambda: state)
    watch.take([DECIDED, SIGNED])
    return watch


REJECTED = ev.OrderRejected(client_order_id=ORDER.client_order_id, reason="no answer")


def test_a_rejection_must_be_true_then_and_for_ever() -> None:
    ledger(known=False).take([REJECTED])
    ledger().take([REJECTED])  # It rested and was cancelled: nothing came of it.
    for lie in (ledger(active=True), ledger(size=1)):
        with pytest.raises(Disproved, match="the exchange has it"):
            lie.take([REJECTED])
    watch = ledger(known=False)
    watch.take([REJECTED])
    with pytest.raises(Disproved, match="before the exchange took it"):
        watch.accepted(["0xa"])


def test_an_end_and_a_fill_must_be_the_exchanges() -> None:
    fill = filled(ORDER, "4", "0.50", trade="t1")
    ledger(size=4_000_000).take([fill, canceled("o1")])
    for wrong, events, word in (
        (ledger(size=3_000_000), [fill], "fills of 400000000, the exchange of 300000000"),
        (ledger(), [filled(ORDER, "4", "0.50", trade="t2")], "no trade of the exchange"),
        (ledger(size=4_000_000), [canceled("o1")], "over with fills of 0, the exchange has 400000000"),
        (ledger(active=True), [canceled("o1")], "still rests"),
    ):  # fmt: skip
        with pytest.raises(Disproved, match=word):
            wrong.take(events)


def test_what_the_exchange_cannot_be_asked_about_is_asked_when_it_is_back() -> None:
    up: list[Any] = []
    watch = ExchangeWatch(KEY.address, lambda: up[0] if up else None)
    watch.take([DECIDED, SIGNED, REJECTED])
    up.append(SimpleNamespace(owners={"0xa": "me"}, active={"0xa": 1}, trades={}, trades_of={}))
    with pytest.raises(Disproved, match="the exchange has it"):
        watch.take([])


def body(salt: int) -> bytes:
    zero = "0x" + "00" * 32
    order = {
        "salt": salt, "maker": KEY.address, "signer": KEY.address, "tokenId": "1",
        "makerAmount": "5000000", "takerAmount": "10000000", "side": "BUY", "signatureType": 0,
        "timestamp": "1", "expiration": "0", "metadata": zero, "builder": zero, "signature": "0x",
    }  # fmt: skip
    return json.dumps({"order": order, "owner": "me", "orderType": "GTC"}).encode()


def test_what_leaves_is_in_the_journal_and_under_its_own_salt() -> None:
    watch = ledger()
    salt = watch.salt_of(ORDER.client_order_id)
    with pytest.raises(Disproved, match="in no journal") as found:
        watch.posted(body(salt))
    watch.signed["o1"] = str(found.value).split()[1]
    watch.posted(body(salt))
    with pytest.raises(Disproved, match="in no journal") as found:
        watch.posted(body(salt + 1))
    watch.signed["o2"] = str(found.value).split()[1]
    with pytest.raises(Disproved, match="of no order that was decided"):
        watch.posted(body(salt + 1))


def test_an_order_nobody_wrote_down_is_found_at_the_end() -> None:
    watch = ledger()
    watch.at_the_end()
    watch.signed.clear()
    with pytest.raises(Disproved, match="no journal knows"):
        watch.at_the_end()
    watch.others.add("0xa")
    watch.at_the_end()
