"""Whom a bot follows: the list, the settings, and who must still be listened to."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from fleet.clock import ManualClock
from fleet.domain import events as ev
from fleet.domain.commands import BundleId
from fleet.domain.units import Cash, Qty
from fleet.engine.standing import Standing, StandingLeg
from fleet.engine.state import State
from fleet.journal.leaders import LeaderStore, ScoreRecord, leaders_file
from fleet.runtime.components import ComponentFailed, Health
from fleet.runtime.leader_part import LeaderPart
from fleet.runtime.leaders_follow import FollowLeaders
from tests.builders import NS, universe, yes

NOW = 1_795_000_000 * NS
ANNA, BERT = "0x" + "a" * 40, "0x" + "b" * 40


class Ear:
    """A listener that only notes whom it listens to."""

    def __init__(self, wallets: tuple[str, ...]) -> None:
        self.wallets = wallets
        self.on = False

    async def start(self) -> None:
        self.on = True

    async def stop(self) -> None:
        self.on = False

    def health(self) -> Health:
        return Health(ok=self.on)


class Place:
    """A bot's state, its list, and the listeners that were made."""

    def __init__(self, tmp_path: Path, *manual: str, copy_watched: bool = False) -> None:
        self.state = State(universe(1))
        self.file = leaders_file(tmp_path, "polymarket")
        self.ears: list[Ear] = []
        self.follow = FollowLeaders(
            self.state, self.file, "polymarket", ManualClock(NOW), self._take,
            manual=manual, copy_watched=copy_watched, listen=self._listen,
        )  # fmt: skip

    def _take(self, facts: Sequence[ev.Event]) -> None:
        for fact in facts:
            self.state.apply(fact)

    def _listen(self, wallets: tuple[str, ...]) -> LeaderPart:
        self.ears.append(Ear(wallets))
        return cast("LeaderPart", cast("Any", self.ears[-1]))

    def listed(self, *wallets: str, scored: str = "") -> None:
        with LeaderStore(self.file, feed="polymarket") as store:
            for wallet in wallets:
                store.watch(wallet, NOW - NS, "test")
            if scored:
                store.record([ScoreRecord(wallet=scored, scored_ns=NOW - NS, as_of_ns=NOW - NS,
                                          copied=True, verdict="passed", p_value=0.001,
                                          body="{}")])  # fmt: skip

    def look(self) -> None:
        asyncio.run(self.follow.look())

    @property
    def copied(self) -> dict[str, bool]:
        return {wallet: one.copied for wallet, one in self.state.leaders.chosen.items()}


def test_without_a_list_nobody_but_the_wallets_of_the_settings(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.look()
    assert place.copied == {}
    named = Place(tmp_path, ANNA)
    named.look()
    assert named.copied == {ANNA: False}, "named is watched, not copied"
    assert named.ears[-1].wallets == (ANNA,)


def test_only_who_passed_is_copied_and_play_money_copies_everybody(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.listed(ANNA, BERT, scored=ANNA)
    place.look()
    assert place.copied == {ANNA: True, BERT: False}
    play = Place(tmp_path, copy_watched=True)
    play.look()
    assert play.copied == {ANNA: True, BERT: True}


def test_a_changed_list_starts_a_new_listener_and_an_unchanged_one_does_not(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    place.listed(ANNA)
    place.look()
    place.look()
    assert [ear.wallets for ear in place.ears] == [(ANNA,)]
    place.listed(BERT)
    place.look()
    assert [ear.wallets for ear in place.ears] == [(ANNA,), (ANNA, BERT)]
    assert [ear.on for ear in place.ears] == [False, True]


def test_a_list_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.listed(ANNA, scored=ANNA)
    place.look()
    place.file.write_bytes(b"no database any more" * 100)
    place.look()
    assert place.copied == {ANNA: True}
    assert not place.follow.health().ok


def test_who_was_dropped_is_listened_to_while_copies_are_held(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.listed(ANNA, scored=ANNA)
    place.look()
    leg = StandingLeg(yes(1), Qty(5), Cash(3), Qty(5))
    place.state.bundles.standings._standing[BundleId("b1")] = Standing(
        bundle_id=BundleId("b1"), idea="COPY", key=f"{ANNA}|m1|{yes(1)}", opened_ns=NOW, number=1,
        legs=[leg],
    )  # fmt: skip
    with LeaderStore(place.file, feed="polymarket") as store:
        store.drop(ANNA, NOW - 1, "test")
    place.look()
    assert place.copied == {}
    assert place.ears[-1].wallets == (ANNA,)


def test_an_address_that_is_missing_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path, ANNA)

    def nowhere(_wallets: tuple[str, ...]) -> LeaderPart:
        raise ComponentFailed("ELITE_RPC_WS_URLS is empty")

    place.follow._listen = nowhere
    with pytest.raises(ComponentFailed, match="ELITE_RPC_WS_URLS"):
        place.look()
