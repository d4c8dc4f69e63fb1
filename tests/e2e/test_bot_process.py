"""ArbHunter as a process of its own, without PM2: its signals, its exit codes, its memory of a loss."""

import asyncio
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fleet.clock import LiveClock
from fleet.config import Mode
from fleet.domain import events as ev
from fleet.domain.commands import (
    BundleId,
    ClientOrderId,
    Purpose,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.engine.state import fold
from fleet.journal.allowances import AllowanceBoard
from fleet.journal.fleet import FleetState, read_latch
from fleet.journal.store import JournalStore
from fleet.runtime.parts import FeedPart
from fleet.venues.port import FeedHealth
from tests.builders import c, p, q
from tests.e2e.fleet_home import FleetHome
from tests.e2e.pm2_home import until
from tests.proof import entries_of, prove_files

pytestmark = pytest.mark.slow


def ended(process: subprocess.Popen[bytes], within_s: float = 15.0) -> int:
    """The exit code of a process that is about to end."""
    return process.wait(within_s)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    home = FleetHome(tmp_path)
    with home.sandbox(), home.bot() as bot:
        home.ready(pid=bot.pid)
        home.filled()
        bot.send_signal(number)
        assert ended(bot, 14) == 0
    prove_files(tmp_path)
    _, journal = entries_of(tmp_path)
    last = journal[-1].event
    assert isinstance(last, ev.RunStopped)
    assert last.reason == f"signal {number.name}"
    events = [entry.event for entry in journal]
    at = max(n for n, e in enumerate(events) if isinstance(e, ev.TradingStateChanged))
    halted = events[at]
    assert isinstance(halted, ev.TradingStateChanged)
    assert halted.state is ev.TradingState.HALTED
    # After the halt it only hears what the venue still had to say, and then nothing is open.
    assert not [e for e in events[at:] if isinstance(e, ev.DecisionMade) and e.orders]
    assert not fold(events).orders.open
    assert home.status()["ready"] is False
    with FleetState(home.paths.fleet_db) as state:
        usage = AllowanceBoard(state, place="paper:sandbox", bot="", wallet="").usage()
        assert all(one.granted == one.used for one in usage), "the rest was given back"


def test_a_signal_ends_it_while_it_waits_for_the_market(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    with home.bot() as bot:
        until(lambda: "CATALOGUE not loaded yet" in home.log(), "it waits for the sandbox")
        started_s = time.monotonic()
        bot.send_signal(signal.SIGINT)
        assert ended(bot, 5) == 0
        assert time.monotonic() - started_s < 2.0


def test_a_duration_ends_it(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    with home.sandbox(), home.bot("--duration", "3") as bot:
        assert ended(bot) == 0
    assert "ran for 3 s as asked" in home.log()
    prove_files(tmp_path)


def test_bad_settings_are_told_all_at_once(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, ARB_TRADE_SIZE_USD="lots", ARB_MAX_ORDR_USD="5", ARB_PROFILE="wild")
    with home.bot() as bot:
        assert ended(bot) == 78
    said = (home.paths.logs / "arbhunter-out.log").read_text()
    for problem in ("ARB_TRADE_SIZE_USD='lots'", "did you mean ARB_MAX_ORDER_USD?", "ARB_PROFILE"):
        assert problem in said
    assert not home.paths.journal("arbhunter", Mode.PAPER).exists()


def test_a_twin_is_told_who_runs(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    with home.sandbox(), home.bot() as bot:
        home.ready(pid=bot.pid)
        with home.bot() as twin:
            assert ended(twin) == 75
        assert f"process {bot.pid} already holds" in home.log()
        assert home.ready() == bot.pid


def lose(home: FleetHome, price: str) -> None:
    """A journal and a ledger that agree on a day's loss: 100 shares bought at 0.90, sold for less."""
    now_ns = LiveClock().now_ns() - 10**9
    run_id = f"{now_ns:x}-1"
    journal = JournalStore(
        home.paths.journal("arbhunter", Mode.PAPER), bot="ArbHunter", mode="paper", run_id=run_id
    )
    ledger = JournalStore(
        home.paths.paper_ledger("arbhunter"), bot="ArbHunter", mode="paper-venue", run_id=run_id
    )
    deposit = ev.CashDeposited(
        ts_event=now_ns, ts_recv=now_ns, deposit_id="paper-start", amount=c("5000")
    )
    with journal, ledger:
        started = ev.RunStarted(
            ts_event=now_ns, ts_recv=now_ns, run_id=ev.RunId(run_id), bot="ArbHunter",
            mode="paper", version="0",
        )  # fmt: skip
        journal.write([started, deposit])
        ledger.write([deposit])
        for number, (side, at) in enumerate(((Side.BUY, "0.90"), (Side.SELL, price)), 1):
            facts = _traded(number, side, at, now_ns)
            journal.write([_decided(number, side, at, now_ns)])
            ledger.write(facts)
            journal.write(facts)


def _decided(number: int, side: Side, price: str, now_ns: int) -> ev.DecisionMade:
    order = SubmitOrder(
        client_order_id=ClientOrderId(f"o{number}"),
        bundle_id=BundleId("b1"),
        leg=0,
        purpose=Purpose.LEG,
        instrument_id=InstrumentId("gone"),
        side=side,
        price=p(price),
        qty=q("100"),
        tif=TimeInForce.FAK,
        ts=now_ns,
    )
    return ev.DecisionMade(ts_event=now_ns, ts_recv=now_ns, decision=number, orders=(order,))


def _traded(number: int, side: Side, price: str, now_ns: int) -> list[ev.Event]:
    order_id, trade_id = ClientOrderId(f"o{number}"), ev.TradeId(f"o{number}-0")
    return [
        ev.OrderAccepted(
            ts_event=now_ns,
            ts_recv=now_ns,
            client_order_id=order_id,
            venue_order_id=ev.VenueOrderId(f"paper-o{number}"),
        ),
        ev.OrderFilled(
            ts_event=now_ns,
            ts_recv=now_ns,
            trade_id=trade_id,
            client_order_id=order_id,
            instrument_id=InstrumentId("gone"),
            side=side,
            price=p(price),
            qty=q("100"),
            fee=c("0"),
        ),
        ev.FillSettled(
            ts_event=now_ns,
            ts_recv=now_ns,
            trade_id=trade_id,
            status=ev.SettlementStatus.CONFIRMED,
        ),
    ]


def test_a_day_loss_beyond_the_limit_survives_restarts(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, ARB_MAX_DAY_LOSS_USD="50", PAPER_CASH_USD="5000")
    lose(home, "0.30")
    with home.sandbox():
        for start in (1, 2):
            with home.bot() as bot:
                home.ready(pid=bot.pid)
                assert home.status()["day_pnl"] == "-60.00"
                goal = start * 2
                until(lambda: home.log().count("DAY_LOSS_REACHED") >= goal, "ideas are refused", 30)  # noqa: B023
                bot.send_signal(signal.SIGINT)
                assert ended(bot) == 0
    assert "ARB OPPORTUNITY" not in home.log()
    assert prove_files(tmp_path).orders == 2


def test_the_fleets_loss_sets_the_latch_for_good(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, FLEET_MAX_DAY_LOSS_USD="50", PAPER_CASH_USD="5000")
    lose(home, "0.30")
    with home.sandbox():
        with home.bot() as bot:
            assert ended(bot) == 78
        latch = read_latch(home.paths.fleet_db)
        assert latch is not None
        assert "the fleet lost $60.00" in latch.reason
        with home.bot() as bot:
            assert ended(bot) == 78
        assert "PREFLIGHT" in home.log()
    assert prove_files(tmp_path).orders == 2


class HalfSilent:
    """A feed whose last books never come."""

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to close."""

    def health(self) -> FeedHealth:
        """Connected; two snapshots short."""
        return FeedHealth(
            connections=1, connected=1, awaiting=2, data_age_ns=0, reconnects=0, rotations=0,
            frames=9, rejected=0,
        )  # fmt: skip


def test_a_book_that_never_comes_does_not_keep_the_bot_from_starting() -> None:
    """A market may end between its listing and the subscription: seen under PM2 at 22:20:00."""

    async def story() -> list[bool]:
        part = FeedPart(HalfSilent, patience_s=0.05)
        await part.start()
        seen = [part.settled]
        await asyncio.sleep(0.06)
        seen.append(part.settled)
        await part.restart()
        seen.append(part.settled)
        await part.stop()
        return [*seen, part.settled]

    assert asyncio.run(story()) == [False, True, False, False]
