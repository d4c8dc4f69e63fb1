"""Parity beside a paper session: real clock, real loop, real file."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.bots.known import KNOWN
from fleet.clock import NS_PER_MS, LiveClock
from fleet.config import Mode, Paths, load_all
from fleet.domain import events as ev
from fleet.domain.commands import Approved
from fleet.engine.state import State
from fleet.journal.database import JournalForeign
from fleet.runtime.execution import PaperExecution
from fleet.runtime.live_standing import shadows
from fleet.runtime.parity_part import parity
from fleet.runtime.parity_store import ParityStore
from fleet.runtime.spec import Loaded
from fleet.venues.account import AccountQuery
from fleet.venues.paper import PaperSettings, PaperVenue
from tests.builders import q, snapshot, submit, universe, yes

NOTHING = AccountQuery(
    open_orders=frozenset(), known_trades=frozenset(), unsettled_trades=frozenset(),
    pending_operations=frozenset(),
)  # fmt: skip


class Memory:
    """A paper ledger nobody reads."""

    def write(self, events: object) -> int:
        return 0


def settings(**values: str) -> Loaded:
    return Loaded(items=load_all(KNOWN, values, KNOWN))


async def session(paths: Paths) -> list[str]:
    """One order on paper with its shadow; the kinds of facts the venue answered."""
    clock = LiveClock()
    loaded = settings(LIVE_SHADOW_HOLD_MS="20", LIVE_SHADOW_TAKER_DELAY_MS="5", SANDBOX_PORT="1")
    state = State(universe())
    state.apply(snapshot(yes(), asks=[("0.50", "100")], at=clock.now_ns()))
    venue = PaperVenue(
        settings=PaperSettings(latency_ns=5 * NS_PER_MS, answer_ns=5 * NS_PER_MS),
        instruments=state.universe.instruments, books=state.books, ledger=Memory(),
        now_ns=clock.now_ns(),
    )  # fmt: skip
    told: list[str] = []
    with parity(
        paths=paths, bot="b", mode=Mode.PAPER, feed="sandbox", state=state, clock=clock,
        loaded=loaded, clob_url="http://127.0.0.1:1",
    ) as parts:  # fmt: skip

        def facts(events: Sequence[ev.Event]) -> None:
            told.extend(event.KIND for event in events)
            parts.recorder(events)

        execution = parts.watched(PaperExecution(venue, clock, facts, pytest.fail))
        assert execution.name == "paper"
        nodes = parts.nodes()
        assert [(node.component.name, node.required) for node in nodes] == [
            ("round-trip", False), ("parity", False),
        ]  # fmt: skip
        for node in nodes:
            await node.component.start()
        execution.submit(Approved(submit(qty="10", price="0.50")))
        execution.observe(ev.TradePrinted(0, 0, yes(), submit().side, submit().price, q("1")))
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.01)
                parts.recorder.beat()
                if parts.recorder.written:
                    break
        execution.cancel(submit().client_order_id)
        assert (await execution.account(NOTHING)).tokens[yes()] == q("10")
        execution.close()
        for node in nodes:
            await node.component.stop()
    return told


def test_a_paper_order_and_its_shadow_end_up_in_the_file(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    told = asyncio.run(session(paths))
    assert told[:2] == ["OrderAccepted", "OrderFilled"]
    (row,) = shadows(paths, "b", Mode.PAPER, "sandbox")
    assert (row.fill_qty, row.quote_qty, row.firm_qty, row.ended) == (
        q("10"), q("10"), q("10"), True
    )  # fmt: skip
    # Nothing answers at the sandbox's port: the assumed latency holds, and the delay on top.
    assert row.latency_ns == 65 * NS_PER_MS
    assert shadows(paths, "b", Mode.LIVE, "sandbox") == []


def test_a_file_of_another_mode_is_refused(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    file = paths.parity("b", Mode.PAPER)
    ParityStore(file, bot="b", mode=Mode.LIVE.value, feed="sandbox").close()

    async def opened() -> None:
        with parity(
            paths=paths, bot="b", mode=Mode.PAPER, feed="sandbox", state=State(universe()),
            clock=LiveClock(), loaded=settings(), clob_url="",
        ):  # fmt: skip
            pytest.fail("it was opened")

    with pytest.raises(JournalForeign):
        asyncio.run(opened())
