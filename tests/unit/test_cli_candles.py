"""``fleet candles`` as a person types it: what it prints, stores and returns."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from fleet.cli.candle_progress import Bar
from fleet.cli.main import main
from fleet.research.candle_cache import CandleCache
from fleet.research.intervals import DAY, HOUR, MINUTE
from fleet.research.synthetic import START_NS, synthetic_candles
from tests.candle_servers import MS, BinanceServer

COUNT = 70
NAMES = ("open", "high", "low", "close", "volume")


def bars() -> list[tuple[float, ...]]:
    c = synthetic_candles(COUNT, seed=4, interval_ns=MINUTE)
    columns = (c.ts // MS, *(getattr(c, name) for name in NAMES))
    return [tuple(column[n].item() for column in columns) for n in range(COUNT)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    for name in ("ALPACA_API_KEY", "ALPACA_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def venue() -> Iterator[BinanceServer]:
    """A Binance on a thread of its own: the command runs an event loop itself."""
    server = BinanceServer(bars(), now_ms=START_NS // MS + COUNT * 60_000, page=1_000)
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with server.serving():
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    yield server
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    assert not thread.is_alive()
    loop.close()


def download(venue: BinanceServer, *more: str, symbols: tuple[str, ...] = ("ETHUSDT",)) -> int:
    words = ["candles", "download", *symbols, "--interval", "1m", "--since", "2024-01-01"]
    return main([*words, "--url", venue.url, *more])


def test_download_list_and_check(
    home: Path, venue: BinanceServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(venue) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "BINANCE:ETHUSDT 1m: 70 bars, 2024-01-01 00:00 to 2024-01-01 01:09 UTC",
        "  nothing found",
        "  70 bars added in 1 pages",
    ]
    assert told.err == ""
    assert main(["candles", "list", "--url", venue.url]) == 0
    line = capsys.readouterr().out.split()
    assert line[:4] == ["BINANCE:ETHUSDT", "1m", "70", "bars"]
    assert main(["candles", "check", "ETHUSDT", "--interval", "5m", "--url", venue.url]) == 0
    assert "5m: 14 bars" in capsys.readouterr().out


def test_another_host_has_a_cache_of_its_own_and_its_bars_say_so(
    home: Path, venue: BinanceServer, capsys: pytest.CaptureFixture[str]
) -> None:
    host = venue.url.removeprefix("http://")
    assert download(venue) == 0
    (file,) = home.rglob("*.parquet")
    folder = f"var/candles-{host.replace(':', '-')}"
    assert file.relative_to(home).as_posix() == f"{folder}/BINANCE/ETHUSDT/1m/2024.parquet"
    capsys.readouterr()
    assert main(["candles", "list"]) == 0
    assert "nothing is cached" in capsys.readouterr().out
    note = f"! candles of {host}, not of the venue itself: nobody traded at them"
    assert main(["candles", "check", "ETHUSDT", "--interval", "1m", "--url", venue.url]) == 0
    assert capsys.readouterr().out.splitlines()[0] == note
    moved = file.rename(home / "ETHUSDT_1m.parquet")
    assert main(["candles", "check", str(moved)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == note
    assert main(["candles", "list", "--url", "localhost"]) == 2
    assert "is no address" in capsys.readouterr().err


def test_a_venue_without_older_bars_is_told(
    home: Path, venue: BinanceServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(venue, "--since", "2023-06-01") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "  nothing before 2024-01-01 00:00: the venue has no older bars"


def test_as_json(home: Path, venue: BinanceServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert download(venue, "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    cached = CandleCache.under(home / "var", venue.url).load("BINANCE", "ETHUSDT", MINUTE)
    assert cached is not None
    assert (told["bars"], told["added"], told["digest"]) == (70, 70, cached.digest)
    assert main(["candles", "list", "--json", "--url", venue.url]) == 0
    assert json.loads(capsys.readouterr().out)[0]["bars"] == 70
    assert (
        main(["candles", "check", "ETHUSDT", "--interval", "1m", "--json", "--url", venue.url]) == 0
    )
    assert json.loads(capsys.readouterr().out)["usable"] is True


def test_one_symbol_that_fails_does_not_keep_the_other(
    home: Path, venue: BinanceServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(venue, symbols=("NOSUCH", "ETHUSDT")) == 1
    told = capsys.readouterr()
    assert "NOSUCH: BINANCE has no spot market NOSUCH" in told.err
    assert "70 bars added" in told.out


def test_what_cannot_be_used_is_an_error_with_its_code(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["candles", "download", "SPY", "--exchange", "alpaca"]) == 1
    assert "set ALPACA_API_KEY" in capsys.readouterr().err
    assert main(["candles", "download", "ETHUSDT", "--interval", "1y"]) == 2
    assert "is no interval" in capsys.readouterr().err
    assert main(["candles", "check", "ETHUSDT"]) == 2
    assert "not cached; see `fleet candles list`" in capsys.readouterr().err
    assert main(["candles", "check", "ETHUSDT_1h.parquet"]) == 2
    assert "there is no ETHUSDT_1h.parquet" in capsys.readouterr().err
    assert main(["candles", "list"]) == 0
    assert "nothing is cached" in capsys.readouterr().out
    (home / ".env").write_text("A=b")
    (home / ".env").chmod(0o644)
    assert main(["candles", "download", "ETHUSDT"]) == 78
    assert "chmod 600" in capsys.readouterr().err


def write(path: Path, interval_ns: int, **changed: list[float]) -> Path:
    c = synthetic_candles(96, seed=6, interval_ns=interval_ns)
    columns = {name: getattr(c, name) for name in NAMES} | changed
    pl.DataFrame({"ts": c.ts, **columns}).write_parquet(path)
    return path


def test_bars_that_cannot_be_used_are_told_and_fail_the_check(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(home / "ETHUSDT_1h.parquet", HOUR, close=[-1.0] * 96)
    assert main(["candles", "check", str(file)]) == 1
    told = capsys.readouterr().out
    assert "REFUSED price not above zero: 96" in told
    assert "--drop-bad" in told


def test_a_recording_is_compared_with_another(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quarters = write(home / "ETHUSDT_15m.parquet", 15 * MINUTE)
    c = synthetic_candles(96, seed=6, interval_ns=15 * MINUTE)
    hours = pl.DataFrame({"ts": c.ts, **{name: getattr(c, name) for name in NAMES}})
    hours = hours.group_by(pl.col("ts") // HOUR * HOUR, maintain_order=True).agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(),
        pl.col("close").last(), pl.col("volume").sum(),
    )  # fmt: skip
    file = home / "ETHUSDT_1h.parquet"
    hours.write_parquet(file)
    assert main(["candles", "check", str(file), "--against", str(quarters)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "against ETHUSDT_15m.parquet: 24 bars in both",
        "  no difference",
    ]
    unclosed = hours.with_columns(
        volume=pl.when(pl.col("ts") == START_NS + 5 * HOUR).then(1.0).otherwise("volume")
    )
    unclosed.write_parquet(file)
    assert main(["candles", "check", str(file), "--against", str(quarters)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == ("  volume differs: 1: 2024-01-01 05:00")
    assert main(["candles", "check", str(quarters), "--against", str(file)]) == 2
    assert "choose a multiple" in capsys.readouterr().err


def test_made_up_candles_say_so_first(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    c = synthetic_candles(50, seed=1, interval_ns=DAY)
    table = pl.DataFrame({"ts": c.ts, **{name: getattr(c, name) for name in NAMES}})
    file = home / "ETHUSDT_1d.parquet"
    table.write_parquet(file, metadata={"fleet.source": "synthetic"})
    assert main(["candles", "check", str(file)]) == 0
    assert capsys.readouterr().out.startswith("! SYNTHETIC CANDLES: no market made these")


def test_the_progress_bar_shows_what_it_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich takes it for a terminal.
    with Bar("ETHUSDT") as bar:
        bar(0.5, 12_000)
    assert "12,000 bars" in capsys.readouterr().err
