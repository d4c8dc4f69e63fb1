"""Files of candles are recognised, read to the nanosecond, or refused with the cure."""

import json
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fleet.research.candle_files import FileCandles, read_file
from fleet.research.candles import SYNTHETIC_NOTE, load_file
from fleet.research.intervals import (
    DAY,
    HOUR,
    MINUTE,
    CandlesError,
    format_interval,
    format_time,
    parse_interval,
    to_local,
    to_utc,
)

FIRST_MS = 1_704_067_200_000
TABLE = {
    "open": [10.0, 11.0, 12.5],
    "high": [11.0, 13.0, 12.75],
    "low": [9.5, 10.5, 12.0],
    "close": [11.0, 12.5, 12.25],
    "volume": [5.0, 0.25, 7.0],
}


def times(scale: int) -> list[int]:
    return [(FIRST_MS + n * 60_000) * scale // 1_000 for n in range(3)]


def assert_read(found: FileCandles, interval_ns: int = MINUTE) -> None:
    assert found.rows.ts.tolist() == [FIRST_MS * 10**6 + n * MINUTE for n in range(3)]
    for name, column in TABLE.items():
        assert getattr(found.rows, name).tolist() == column
    assert found.interval_ns == interval_ns


@pytest.mark.parametrize("scale", [1, 1_000, 1_000_000, 1_000_000_000])
def test_parquet_with_times_in_any_unit(tmp_path: Path, scale: int) -> None:
    file = tmp_path / "ETHUSDT_1m_2024-01.parquet"
    pl.DataFrame({"ts": times(scale), **TABLE}).write_parquet(file)
    found = read_file(file)
    assert_read(found)
    assert (found.symbol, found.exchange) == ("ETHUSDT", "FILE")
    assert found.source == "file:ETHUSDT_1m_2024-01.parquet"


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_parquet_with_dates_of_any_unit_and_zone(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    file = tmp_path / "ETHUSDT_1m.parquet"
    dates = pl.Series(times(1_000)).cast(pl.Datetime("ms"))
    if zone is not None:
        dates = dates.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    dates = dates.dt.cast_time_unit(unit)  # type: ignore[arg-type]
    pl.DataFrame({"Open Time": dates, **TABLE}).write_parquet(file)
    assert_read(read_file(file))


def test_a_feather_file_of_freqtrade(tmp_path: Path) -> None:
    file = tmp_path / "ETH_USDT-1m.feather"
    dates = pl.Series(times(1_000)).cast(pl.Datetime("ms", "UTC"))
    pl.DataFrame({"date": dates, **TABLE}).write_ipc(file)
    found = read_file(file, exchange="binance")
    assert_read(found)
    assert (found.symbol, found.exchange) == ("ETHUSDT", "BINANCE")


def test_freqtrades_json(tmp_path: Path) -> None:
    file = tmp_path / "ETH_USDT-1m.json"
    file.write_text(
        json.dumps([list(row) for row in zip(times(1_000), *TABLE.values(), strict=True)])
    )
    assert_read(read_file(file))


def test_csv_with_a_header_and_written_dates(tmp_path: Path) -> None:
    file = tmp_path / "ETHUSDT-1m.csv"
    lines = ["Date,Open,High,Low,Close,Volume"]
    for n in range(3):
        numbers = ",".join(str(column[n]) for column in TABLE.values())
        lines.append(f"2024-01-01 00:0{n}:00,{numbers}")
    file.write_text("\n".join(lines))
    assert_read(read_file(file))


@pytest.mark.parametrize("scale", [1_000, 1_000_000], ids=["ms", "us since 2025"])
@pytest.mark.parametrize("zipped", [False, True])
def test_binances_own_dumps(tmp_path: Path, scale: int, zipped: bool) -> None:
    lines = [
        ",".join([str(ts), *(str(column[n]) for column in TABLE.values()), "0,0,0,0,0,0"])
        for n, ts in enumerate(times(scale))
    ]
    folder = tmp_path / "binance"
    folder.mkdir()
    file = folder / f"ETHUSDT-1m-2024-01.{'zip' if zipped else 'csv'}"
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("ETHUSDT-1m-2024-01.csv", "\n".join(lines))
    else:
        file.write_text("\n".join(lines))
    found = read_file(file)
    assert_read(found)
    assert (found.symbol, found.exchange) == ("ETHUSDT", "BINANCE")


def test_a_file_says_itself_that_it_is_synthetic(tmp_path: Path) -> None:
    file = tmp_path / "ETHUSDT_1m.parquet"
    told = {"fleet.source": "synthetic", "fleet.symbol": "MADEUP", "fleet.exchange": "NOWHERE"}
    pl.DataFrame({"ts": times(1_000), **TABLE}).write_parquet(file, metadata=told)
    loaded = load_file(file)
    assert loaded.candles.synthetic
    assert loaded.candles.symbol == "MADEUP"
    assert loaded.notes == (SYNTHETIC_NOTE,)


def test_what_the_caller_names_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "ETHUSDT_1m.parquet"
    pl.DataFrame({"ts": times(1_000), **TABLE}).write_parquet(file)
    found = read_file(file, symbol="btc/usdt", exchange="kraken")
    assert (found.symbol, found.exchange) == ("BTCUSDT", "KRAKEN")


# --- refused, with the cure ------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


HEADER = "ts,open,high,low,close,volume\n"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.xlsx", "", "no known format; known are Parquet"),
        ("ETHUSDT_1m.csv", HEADER, "holds no bars"),
        ("ETHUSDT_1m.csv", "ts,open,high,low,close\n1,2,3,4,5\n", "it lacks volume"),
        ("ETHUSDT_1m.csv", "a,open,high,low,close,volume\n1,2,3,4,5,6\n", "it lacks a time"),
        (
            "ETHUSDT_1m.csv",
            HEADER + "soon,1,1,1,1,1\n",
            "times that cannot be read, such as 'soon'",
        ),
        ("ETHUSDT_1m.csv", HEADER + "17,1,1,1,1,1\n", "no time from 1990"),
        ("ETHUSDT_1m.csv", HEADER + "1704067200,1,1,one,1,1\n", "a field that is no number"),
        ("ETHUSDT_1m.csv", HEADER + ",1,1,1,1,1\n", "1 rows without a time"),
        ("ETHUSDT_1m.csv", "1704067200000,1,1,1,1,1\n", "no header and 6 columns"),
        ("prices.csv", HEADER + "1704067200,1,1,1,1,1\n", "tells no symbol; give it with --symbol"),
        ("ETHUSDT.csv", HEADER + "1704067200,1,1,1,1,1\n", "tells no symbol"),
        ("ETHUSDT_1m.json", "{", "is no JSON"),
        ("ETHUSDT_1m.json", '{"a": 1}', "is no list of"),
        ("ETHUSDT_1m.parquet", "PAR1 and no more", "cannot be read"),
        ("ETHUSDT_1m.feather", "nothing", "cannot be read"),
        ("ETHUSDT_1m.zip", "nothing", "cannot be read as a zip"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(CandlesError, match=told):
        read_file(write(tmp_path / name, text))


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(CandlesError, match=r"there is no .*give --data a file"):
        read_file(tmp_path / "ETHUSDT_1m.parquet")
    with pytest.raises(CandlesError, match="no Lean minute files"):
        read_file(tmp_path)


def test_a_name_that_tells_another_interval_than_the_times(tmp_path: Path) -> None:
    file = tmp_path / "ETHUSDT_1h.parquet"
    pl.DataFrame({"ts": times(1_000), **TABLE}).write_parquet(file)
    with pytest.raises(CandlesError, match="should hold 1h bars, but most are 1m apart"):
        read_file(file)
    with pytest.raises(CandlesError, match="most are 1m apart"):
        read_file(file, interval="1s")
    assert_read(read_file(file, interval="1m"))


def test_one_bar_without_an_interval(tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", HEADER + "1704067200,1,1,1,1,1\n")
    with pytest.raises(CandlesError, match="give its interval with --interval"):
        read_file(file, symbol="X")
    assert read_file(file, symbol="X", interval="5m").interval_ns == 5 * MINUTE


def test_a_zip_of_two_files(tmp_path: Path) -> None:
    file = tmp_path / "two.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", "1")
        archive.writestr("b.csv", "1")
    with pytest.raises(CandlesError, match="holds 2 files"):
        read_file(file)


# --- Lean's ----------------------------------------------------------------------------------------


def lean(path: Path, *lines: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("body.csv", "\n".join(lines))
    return path


def test_leans_minutes_are_new_yorks_and_ten_thousandths(tmp_path: Path) -> None:
    file = lean(
        tmp_path / "spy" / "20131004_trade.zip",
        "34200000,1676500,1676600,1676400,1676500,20000",
        "34260000,1676500,1676500,1676500,1676500,300",
    )
    found = read_file(file)
    assert [format_time(int(ts)) for ts in found.rows.ts] == [
        "2013-10-04 13:30",
        "2013-10-04 13:31",
    ]
    assert found.rows.high[0] == 167.66
    assert found.rows.volume.tolist() == [20_000.0, 300.0]
    assert (found.symbol, found.exchange, found.interval_ns) == ("SPY", "ALPACA", MINUTE)


def test_leans_quotes_become_middles_where_both_sides_are_known(tmp_path: Path) -> None:
    file = lean(
        tmp_path / "spy" / "20240108_quote.zip",
        "34200000,1000000,1002000,999000,1001000,5,1001000,1003000,1000000,1002000,5",
        "34260000,,,,,,1001000,1003000,1000000,1002000,5",
    )
    rows = read_file(file, interval="1m").rows
    assert [format_time(int(ts)) for ts in rows.ts] == ["2024-01-08 14:30"]
    assert [column[0] for column in rows.columns] == [100.05, 100.25, 99.95, 100.15, 0.0]


def test_a_lean_file_with_a_row_of_another_kind(tmp_path: Path) -> None:
    file = lean(tmp_path / "daily" / "spy.zip", "20240108 00:00,1,1,1,1,1", "yesterday,1,1,1,1,1")
    with pytest.raises(CandlesError, match="is no Lean file"):
        read_file(file)


@pytest.mark.realdata
def test_every_recorded_file_of_candles_is_read(fleet_data: Path) -> None:
    root = fleet_data / "candles"
    files = [*root.rglob("*.parquet"), *root.rglob("*.zip")]
    found = {file.relative_to(root).as_posix(): read_file(file) for file in files}
    assert len(found) >= 40
    for name, one in found.items():
        assert (np.diff(one.rows.ts) >= one.interval_ns - HOUR).all(), name
        assert one.exchange == ("ALPACA" if "lean" in name else "BINANCE")
    days = found["lean_us_equity_minute/daily/spy.zip"]
    assert (days.symbol, format_interval(days.interval_ns), len(days.rows)) == ("SPY", "1d", 5_849)
    assert days.rows.close[-1] == 396.33
    opening = to_local(found["lean_us_equity_minute/hour/spy.zip"].rows.ts, "America/New_York")
    assert set((opening % DAY // HOUR).tolist()) == set(range(9, 16))


@pytest.mark.realdata
def test_a_folder_of_lean_days_is_one_series(fleet_data: Path) -> None:
    folder = fleet_data / "candles/lean_us_equity_minute/minute/spy"
    found = read_file(folder)
    assert len(found.rows) == 5_786
    assert (np.diff(found.rows.ts) > 0).all()
    assert found.symbol == "SPY"


# --- intervals and zones ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1m", "5m", "15m", "1h", "4h", "1d", "1w", "90m", "30s"])
def test_an_interval_reads_as_it_is_written(text: str) -> None:
    assert format_interval(parse_interval(text)) == text


@pytest.mark.parametrize("text", ["", "m", "0m", "1M", "1.5h", "-1m", "1 h", "hour", "1y"])
def test_an_interval_that_is_none(text: str) -> None:
    with pytest.raises(CandlesError, match=r"interval|month"):
        parse_interval(text)


def test_new_yorks_clock_and_back_over_both_changes() -> None:
    year = np.arange(1_704_067_200, 1_735_689_600, 3_600, dtype=np.int64) * 10**9
    local = to_local(year, "America/New_York")
    assert {int(shift) // HOUR for shift in np.unique(year - local)} == {4, 5}
    twice = np.flatnonzero(to_utc(local, "America/New_York") != year)
    assert [format_time(int(year[n])) for n in twice] == ["2024-11-03 06:00"]
