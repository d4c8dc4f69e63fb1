"""Replay over recordings made by hand: what must come out is known to the last unit."""

import argparse
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from fleet.cli import replay as command
from fleet.domain import events as ev
from fleet.domain.commands import StartTimer, TimeInForce
from fleet.domain.instruments import InstrumentId
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.journal.tape import FrameKind, Tape, TapeFrame
from fleet.runtime.replay import Replay, ReplayReport, ReplaySettings
from fleet.runtime.replay_files import replay_and_print
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.legs import ExecutionSettings
from fleet.venues.paper import PaperSettings
from fleet.venues.polymarket.universe_file import save_universe
from fleet.venues.polymarket.wire import Decoder
from tests.builders import MS, Scripted, Wishes, c, leg, no, order, plan, universe, yes

START_MS = 1_750_000_000_000
WORLD = universe(3, one_set=True, rate="0.02")
LIMITS = RiskLimits(max_order_notional=c("250"), max_market_exposure=c("500"))
SETTINGS = ReplaySettings(limits=LIMITS, paper=PaperSettings(cash=c("1000")))
FAIR, CHEAP = ("0.18", "0.23"), ("0.40", "0.45")
"""YES's bid and ask; with market 3 fair, the three NO cost 0.60 + 0.60 + 0.82, cheap, 1.80."""


def other(price: str) -> str:
    return f"{1 - float(price):.2f}"


def book(at_ms: int, token: InstrumentId, bid: str, ask: str, qty: str) -> TapeFrame:
    return framed(at_ms, {
        "event_type": "book", "market": f"m{token[1:]}", "asset_id": token,
        "timestamp": str(START_MS + at_ms), "hash": "x",
        "bids": [{"price": bid, "size": qty}], "asks": [{"price": ask, "size": qty}],
    })  # fmt: skip


def framed(at_ms: int, message: dict[str, Any]) -> TapeFrame:
    return TapeFrame((START_MS + at_ms) * MS, 0, json.dumps(message).encode())


def books(
    at_ms: int, yes_prices: tuple[str, str], numbers: Sequence[int], qty: str = "60"
) -> list[TapeFrame]:
    bid, ask = yes_prices
    frames = []
    for n in numbers:
        frames.append(book(at_ms, yes(n), bid, ask, qty))
        frames.append(book(at_ms, no(n), other(ask), other(bid), qty))
    return frames


def opening(at_ms: int) -> list[TapeFrame]:
    """Snapshots of all books; nothing is worth taking as long as market 3 is fair.

    Market 3 is the thinnest, so its leg is the probe.
    """
    return [*books(at_ms, CHEAP, (1, 2), "80"), *books(at_ms, FAIR, (3,))]


def moves(
    at_ms: int, before: tuple[str, str], after: tuple[str, str], numbers: Sequence[int] = (3,)
) -> list[TapeFrame]:
    """One frame a market: the levels of both books go from ``before`` to ``after``."""
    frames = []
    for n in numbers:
        changes = []
        for prices, size in ((before, "0"), (after, "60")):
            for side, price in zip(("BUY", "SELL"), prices, strict=True):
                opposite = "SELL" if side == "BUY" else "BUY"
                changes += [
                    {"asset_id": yes(n), "side": side, "price": price, "size": size},
                    {"asset_id": no(n), "side": opposite, "price": other(price), "size": size},
                ]
        frames.append(framed(at_ms, {
            "event_type": "price_change", "market": f"m{n}", "timestamp": str(START_MS + at_ms),
            "price_changes": changes,
        }))  # fmt: skip
    return frames


def trade(at_ms: int, token: InstrumentId, price: str, size: str) -> TapeFrame:
    return framed(at_ms, {
        "event_type": "last_trade_price", "market": "m1", "asset_id": token, "price": price,
        "size": size, "side": "SELL", "fee_rate_bps": "0", "timestamp": str(START_MS + at_ms),
    })  # fmt: skip


def quiet(since_ms: int, until_ms: int) -> list[TapeFrame]:
    """Something small each second, so that the recording is not silent."""
    frames = []
    for at_ms in range(since_ms, until_ms, 1_000):
        size = str(10 + at_ms // 1_000 % 7)
        frames.append(framed(at_ms, {
            "event_type": "price_change", "market": "m1", "timestamp": str(START_MS + at_ms),
            "price_changes": [
                {"asset_id": yes(1), "side": "BUY", "price": "0.05", "size": size},
                {"asset_id": no(1), "side": "SELL", "price": "0.95", "size": size},
            ],
        }))  # fmt: skip
    return frames


def story(back_ms: int = 10_500) -> list[TapeFrame]:
    """At 10 s the last NO is cheap too, at ``back_ms`` all is fair again."""
    return [
        *opening(0), *quiet(1_000, 10_000), *moves(10_000, FAIR, CHEAP), *quiet(10_001, 10_002),
        *moves(back_ms, CHEAP, FAIR), *quiet(back_ms + 500, 40_000),
    ]  # fmt: skip


def arbitrage(view: View) -> Arbitrage:
    settings = ArbSettings(
        trade_size=c("50"), execution=ExecutionSettings(rest_together=True), ladders=False
    )
    return Arbitrage(settings, view)


def replayed(frames: Sequence[TapeFrame], settings: ReplaySettings = SETTINGS) -> ReplayReport:
    return Replay(WORLD, settings, Decoder().decode, arbitrage).run(frames)


# --- a known set arbitrage ----------------------------------------------------------------------


def test_a_known_set_arbitrage_comes_out_to_the_last_unit() -> None:
    report = replayed(story())
    # 60 sets: 3 x 60 x 0.60 = 108.00 paid, 2 x 60 = 120.00 converted; each share's fee is
    # 0.02 x 0.6 x 0.4 = 0.0048, for 180 shares 0.864.
    assert report.pnl == c("11.136")
    assert report.fees == c("0.864")
    assert report.open_cost == 0
    assert report.orders == 4, "three legs and the conversion"
    assert report.refused == {}
    assert report.anomalies == ""
    ledger = report.ledger
    assert (ledger.tried, ledger.complete, ledger.partial, ledger.missed) == (1, 1, 0, 0)
    assert ledger.edge_expected == ledger.edge_realised == c("11.136")
    figures = report.figures
    assert figures["sightings"] == figures["real"] == figures["opportunities"] == 1
    assert figures["phantoms"] == figures["stale"] == 0
    assert figures["best_gross"] == c("0.2")
    quality = report.quality
    assert quality.frames == len(story())
    assert quality.rejected == quality.crossed == quality.gaps == 0
    assert quality.mirrored == quality.moments > 30


def test_no_arbitrage_no_order() -> None:
    report = replayed([*opening(0), *quiet(1_000, 40_000)])
    assert report.orders == report.pnl == 0
    assert report.ledger.tried == report.figures["sightings"] == 0
    assert report.command_hash == replayed([]).command_hash


def test_the_same_frames_give_the_same_hash_and_other_latency_another() -> None:
    first, second = replayed(story()), replayed(story())
    assert first.command_hash == second.command_hash
    slower = replace(SETTINGS, paper=replace(SETTINGS.paper, latency_ns=600 * MS))
    late = replayed(story(), slower)
    assert late.command_hash != first.command_hash
    assert late.pnl == 0
    assert (late.ledger.complete, late.ledger.missed) == (0, late.ledger.tried)


def test_what_arrives_in_the_same_instant_comes_before_the_market_data() -> None:
    seen_ms, latency_ms = 10_000, 60
    just = replayed(story(seen_ms + latency_ms))
    assert just.ledger.tried == 1
    assert just.fees > 0, "the first leg met the books as they were before this frame"
    early = replayed(story(seen_ms + latency_ms - 1))
    assert early.ledger.missed == 1
    assert early.fees == 0


# --- gaps ---------------------------------------------------------------------------------------


def silent_story(seconds: int) -> list[TapeFrame]:
    """After a silence, the last NO becomes cheap, without a new snapshot."""
    at_ms = 5_000 + seconds * 1_000
    return [
        *opening(0), *quiet(1_000, 5_001), *moves(at_ms, FAIR, CHEAP),
        *quiet(at_ms + 1, at_ms + 2), *moves(at_ms + 500, CHEAP, FAIR),
        *quiet(at_ms + 1_000, at_ms + 30_000),
    ]  # fmt: skip


def test_books_are_dropped_over_a_silence_and_stay_void() -> None:
    report = replayed(silent_story(40))
    assert report.quality.gaps == 1
    assert report.figures["sightings"] == report.orders == 0
    trusting = replayed(silent_story(40), replace(SETTINGS, watchdog_ns=0))
    assert trusting.quality.gaps == 0
    assert trusting.pnl == c("11.136")
    assert replayed(silent_story(29)).pnl == c("11.136")


def test_new_snapshots_after_a_silence_make_books_usable_again() -> None:
    frames = silent_story(40)
    at = next(i for i, f in enumerate(frames) if f.ts_recv >= (START_MS + 45_000) * MS)
    frames[at:at] = opening(45_000)
    assert replayed(frames).pnl == c("11.136")


def test_what_was_under_way_when_the_silence_began_ends_as_in_life() -> None:
    """The legs arrive long before the watchdog gives the connection up."""
    frames = [*opening(0), *quiet(1_000, 10_000), *moves(10_000, FAIR, CHEAP),
              *quiet(10_001, 10_002), *quiet(70_000, 80_000)]  # fmt: skip
    report = replayed(frames)
    assert report.quality.gaps == 1
    assert report.ledger.complete == 1
    assert report.pnl == c("11.136")


def test_a_connection_the_tape_says_was_lost_drops_its_books_only() -> None:
    mark = json.dumps({"instruments": [yes(1), no(1)], "reason": "reset by peer"}).encode()
    for kind in (FrameKind.DISCONNECTED, FrameKind.CONNECTED):
        replay = Replay(WORLD, SETTINGS, Decoder().decode, arbitrage)
        replay.run([*opening(0), TapeFrame((START_MS + 50) * MS, 0, mark, kind)])
        ready = {token for token, book in replay.state.books.items() if book.ready}
        assert ready == set(WORLD.instruments) - {yes(1), no(1)}
        assert replay.quality.frames == 6


# --- time ---------------------------------------------------------------------------------------


class Noting(Scripted):
    """Says what it is told at the first book change, and notes what it sees and when."""

    def __init__(self, *wishes: Any) -> None:
        super().__init__()
        self.wishes = wishes
        self.seen: list[tuple[str, int]] = []

    def on_event(self, event: ev.AnyEvent, view: View) -> Wishes:
        self.seen.append((type(event).__name__, view.now_ns // MS - START_MS))
        if isinstance(event, ev.BookChanged) and self.wishes:
            said, self.wishes = self.wishes, ()
            return said
        return ()


def noted(frames: Sequence[TapeFrame], *wishes: Any) -> list[tuple[str, int]]:
    strategy = Noting(*wishes)
    Replay(WORLD, SETTINGS, Decoder().decode, lambda _view: strategy).run(frames)
    return strategy.seen


def test_time_never_goes_back_and_ticks_come_each_second() -> None:
    frames = [*opening(0), *quiet(1_500, 5_000), *quiet(3_000, 3_001), *quiet(6_000, 9_000)]
    seen = noted(frames)
    times = [at for _, at in seen]
    assert times == sorted(times)
    ticks = [at for name, at in seen if name == "TimerFired"]
    # One for each second of the frames, then one for each of the half minute that lets things end.
    assert ticks == list(range(1_000, 39_000, 1_000))


def test_a_timer_fires_at_its_time_between_the_frames() -> None:
    timer = StartTimer(name="soon", at_ns=(START_MS + 1_300) * MS)
    seen = noted([*opening(0), *quiet(1_000, 4_000)], timer)
    assert ("TimerFired", 1_300) in seen


def test_a_resting_orders_fill_is_told_in_its_time() -> None:
    bundle = plan(leg(yes(), limit="0.30", qty="20"), leg(no(), limit="0.60", qty="20"))
    rest = structs.replace(order(0, qty="20", price="0.30"), tif=TimeInForce.GTC)
    frames = [*opening(0), *quiet(1_000, 2_000), trade(2_200, yes(), "0.29", "50"),
              *quiet(2_900, 4_000)]  # fmt: skip
    seen = noted(frames, bundle, rest)
    assert ("OrderAccepted", 1_100) in seen
    assert ("OrderFilled", 2_240) in seen


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """The story as a recording, with its catalogue."""
    path = tmp_path / "story.jsonl.gz"
    with gzip.open(path, "wb") as file:
        file.writelines(frame.payload + b"\n" for frame in story())
    save_universe(tmp_path, WORLD)
    return path


def printed(path: Path, *, as_json: bool) -> str:
    out = io.StringIO()
    code = replay_and_print(
        [path], build=arbitrage, limits=LIMITS, settings=SETTINGS, as_json=as_json, out=out
    )
    assert code == 0
    return out.getvalue()


def test_a_file_gives_what_its_frames_give(recording: Path) -> None:
    told = json.loads(printed(recording, as_json=True))
    assert told["command_hash"] == replayed(story()).command_hash
    assert (told["pnl"], told["fees"], told["bundles"]) == ("11.14", "0.86", 1)
    assert (told["opportunities"], told["phantoms"], told["gaps"]) == (1, 0, 0)


def test_a_tape_gives_the_same_hash_as_the_recording(recording: Path, tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    for frame in story():
        assert tape.write(*frame[:3])
    tape.close()
    save_universe(tmp_path / "tape", WORLD)
    (path,) = (tmp_path / "tape").glob("**/*.tape.zst")
    one, other_one = (json.loads(printed(x, as_json=True)) for x in (recording, path))
    assert one["command_hash"] == other_one["command_hash"]


def test_the_report_and_the_verdict_are_plain_words(recording: Path) -> None:
    told = printed(recording, as_json=False)
    for words in (
        "story.jsonl.gz", "100.00 % of", "1 real before fees, 1 after fees",
        "1 tried, all legs filled 100 %", "$11.14 after $0.86 fees",
        replayed(story()).command_hash,
        "Verdict: 1 opportunities after fees; paper P&L $11.14.",
    ):  # fmt: skip
        assert words in told


def test_no_opportunity_is_a_result_and_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "quiet.jsonl.gz"
    with gzip.open(path, "wb") as file:
        frames = [*opening(0), *quiet(1_000, 5_000)]
        file.writelines(frame.payload + b"\n" for frame in frames)
    assert "Verdict: no opportunity after fees" in printed(path, as_json=False)


def run_command(monkeypatch: pytest.MonkeyPatch, home: Path, *words: str) -> int:
    monkeypatch.setenv("FLEET_HOME", str(home))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_the_command_replays_and_takes_fee_latency_and_watchdog(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = recording.parent
    for latency, complete in (("60", 1), ("900", 0)):
        assert run_command(monkeypatch, home, str(recording), "--json", "--latency", latency) == 0
        assert json.loads(capsys.readouterr().out)["all_legs_filled"] == complete
    (home / ".env").write_text("ARB_SETS=perhaps\n")
    (home / ".env").chmod(0o600)
    assert run_command(monkeypatch, home, str(recording)) == 78
    assert "ARB_SETS='perhaps'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--fee-rate", "much"], ["--latency", "-1"], ["--watchdog", "x"], []]
)
def test_the_command_refuses_wrong_flags(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(monkeypatch, tmp_path, *(["x.jsonl.gz", *words] if words else []))
    assert caught.value.code == 2


def test_a_file_of_no_use_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, tmp_path, str(tmp_path / "nowhere.jsonl.gz")) == 2
    assert "nowhere.jsonl.gz" in capsys.readouterr().err


# --- memory -------------------------------------------------------------------------------------


def laps(count: int, frames: int) -> Iterator[TapeFrame]:
    """Endless play of four prices; nothing is ever worth taking."""
    prices = [("0.32", "0.37"), ("0.31", "0.36"), ("0.33", "0.38"), ("0.30", "0.35")]
    at_ms = 0
    yield from books(0, prices[0], (1, 2, 3))
    for number in range(count * frames):
        at_ms += 200
        before, after = prices[number % 4], prices[(number + 1) % 4]
        yield from moves(at_ms, before, after, (1, 2, 3))


def test_memory_stays_flat_however_long_the_recording_is() -> None:
    replay = Replay(WORLD, SETTINGS, Decoder().decode, arbitrage)
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for number, frame in enumerate(laps(10, 300)):
            replay.feed(frame)
            if number % 900 == 899:
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert replay.quality.rejected == 0
    assert len(sizes) == 10
    assert max(sizes[2:]) - sizes[1] < 20_000
