"""Chaotic lives of the live bot on the sandbox: they hold, and broken parts are found out.

`make chaos SEEDS=1000` lives many more. The second half sabotages one part at a time, as a bug
would: if the checks of a life passed all the same, they would be worth nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fleet.domain import events as ev
from fleet.sandbox.server import SandboxSettings
from fleet.venues.polymarket import live_fills, live_orders
from fleet.venues.polymarket.client import ClobClient
from tests import chaos_bot, chaos_sandbox
from tests.chaos_bot import Killed, Point
from tests.chaos_checks import Posted
from tests.chaos_world import Schedule, Step, play

SEEDS = range(1, 21)
TRIES = range(1, 31)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A life warns of everything that is done to it."""
    logger = logging.getLogger("fleet")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def test_twenty_lives_hold_and_see_what_there_is_to_see() -> None:
    struck: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        report = play(seed)
        struck.update(report.struck)
        seen.update(
            {
                "orders": report.seen.orders, "fills": report.seen.fills,
                "failed": report.seen.failed, "operations": report.seen.operations,
                "bot": report.bot_kills, "sandbox": report.sandbox_kills,
                "agreements": report.seen.reconciled,
            }
        )  # fmt: skip
    assert seen["agreements"] > len(SEEDS)
    assert min(seen.values()) > 0, seen
    assert len(struck) >= 12, struck
    assert sum(struck.values()) > 500


def test_the_same_seed_is_the_same_life() -> None:
    first, again = play(3), play(3)
    assert str(first) == str(again)
    assert first.points == again.points
    assert Schedule.of(3) == Schedule.of(3) != Schedule.of(4)


@pytest.mark.parametrize("point", list(Point), ids=lambda point: point.name.lower())
def test_a_kill_at_each_point_is_recovered_from(point: Point) -> None:
    """Nothing else goes wrong; the bot dies there up to three times a life, if it comes by."""
    for seed in range(101, 107):
        steps = tuple(Step(at_s, kill="bot", point=point) for at_s in (3.0, 9.0, 15.0))
        schedule = Schedule(seed=seed, length_s=20.0, steps=steps, together=seed % 2 == 0)
        if play(seed, schedule).points.get(point.value, 0):
            return
    pytest.fail(f"no life came by: {point.value}")


# --- sabotage ---------------------------------------------------------------------------------


def found_out() -> str:
    """What the first life says that does not hold."""
    for seed in TRIES:
        try:
            play(seed)
        except (Exception, Killed) as error:  # noqa: BLE001 - any failure is a find
            return f"{seed}: {type(error).__name__} {error}"
    pytest.fail(f"{len(TRIES)} lives held with a broken part")


def test_a_fill_told_under_a_new_name_each_time_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, sightings = live_fills.fills_of, itertools.count()

    def fills_of(*arguments: Any) -> list[ev.OrderFilled]:
        number = next(sightings)
        return [
            msgspec.structs.replace(fill, trade_id=ev.TradeId(f"{fill.trade_id}-{number}"))
            for fill in real(*arguments)
        ]

    monkeypatch.setattr(live_orders, "fills_of", fills_of)
    assert found_out()


def test_a_survey_that_shows_no_trades_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer that is believed: the fills a dead stream did not tell are never learnt."""

    async def trades(_: ClobClient, **__: object) -> list[object]:
        return []

    monkeypatch.setattr(ClobClient, "trades", trades)
    assert found_out()


def test_an_id_that_is_not_journalled_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = chaos_bot.MortalJournal.write

    def write(self: chaos_bot.MortalJournal, events: Sequence[ev.Event]) -> int:
        kept = [event for event in events if not isinstance(event, ev.OrderSigned)]
        return real(self, kept) if kept else 0

    monkeypatch.setattr(chaos_bot.MortalJournal, "write", write)
    assert found_out()


def test_an_exchange_that_forgets_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(**settings: Any) -> SandboxSettings:
        return replace(SandboxSettings(**settings), state=None)

    monkeypatch.setattr(chaos_sandbox, "SandboxSettings", forgetful)
    assert found_out()


def test_an_order_sent_under_a_second_signature_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Posted.posted
    bent = itertools.count(1)

    def posted(self: Posted, body: bytes) -> None:
        real(self, body)
        if b'"salt"' in body and next(bent) == 3:
            real(self, body.replace(b'"makerAmount":"', b'"makerAmount":"1'))

    monkeypatch.setattr(Posted, "posted", posted)
    assert "signed over two different orders" in found_out()
