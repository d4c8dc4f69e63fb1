"""The pure parts of the Alpaca venue: fees, hours, proofs, numbers, secrets, settings."""

import asyncio
import datetime as dt
import pickle
import subprocess
import sys
import time

import pytest
from alpaca.trading.client import TradingClient

from fleet.clock import NS_PER_SECOND
from fleet.config import ConfigError, load
from fleet.domain.instruments import InstrumentError, Side
from fleet.domain.units import SCALE, Price, Qty, parse_cash, parse_price
from fleet.runtime.stock_settings import StocksEnv, credentials_of, hosts_of
from fleet.sandbox.alpaca.server import KEY, SECRET
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed, VenueError
from fleet.venues.stocks.catalog import build_universe
from fleet.venues.stocks.client import AlpacaClient, ClientSettings
from fleet.venues.stocks.credentials import CredentialsError, StockCredentials
from fleet.venues.stocks.fees import TAF_MAX, RegulatoryFees
from fleet.venues.stocks.hosts import StockHosts, live_hosts, sandbox_hosts
from fleet.venues.stocks.hours import TradingHours
from fleet.venues.stocks.outcomes import Verdict, absent, judge
from fleet.venues.stocks.wire import AssetRow, CalendarRow, exact, iso, nanoseconds, rounded

HUNDRED, SHARES = parse_price("100"), Qty(100 * SCALE)


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * NS_PER_SECOND


# --- fees ---------------------------------------------------------------------------------------


def test_the_fee_of_a_sale_is_what_the_schedule_says() -> None:
    fees = RegulatoryFees()
    # $10,000 at $27.80 a million is $0.278; 100 shares at $0.000166 are $0.0166.
    assert fees.fee(HUNDRED, SHARES) == parse_cash("0.2946")
    assert fees.charged(Side.SELL, HUNDRED, SHARES) == parse_cash("0.2946")
    assert fees.charged(Side.BUY, HUNDRED, SHARES) == 0
    assert fees.per_share(HUNDRED) * 100 >= fees.fee(HUNDRED, SHARES)


def test_the_activity_fee_is_capped_a_trade_and_everything_rounds_up() -> None:
    fees = RegulatoryFees(rate=0)
    assert fees.fee(HUNDRED, Qty(60_000 * SCALE)) == TAF_MAX
    assert RegulatoryFees(rate=1, taf=0).fee(Price(1), Qty(SCALE)) == 1


# --- hours --------------------------------------------------------------------------------------

WEEK = [
    CalendarRow(date="2026-11-25", open="09:30", close="16:00", session_open="0400",
                session_close="2000"),
    CalendarRow(date="2026-11-27", open="09:30", close="13:00", session_open="0400",
                session_close="1700"),
]  # fmt: skip
"""Around Thanksgiving: Thursday closed, Friday short."""


@pytest.mark.parametrize(
    ("moment", "regular", "extended"),
    [
        ("2026-11-25T08:59:59+00:00", False, False),
        ("2026-11-25T09:00:00+00:00", False, True),
        ("2026-11-25T14:30:00+00:00", True, True),
        ("2026-11-25T20:59:59+00:00", True, True),
        ("2026-11-25T21:00:00+00:00", False, True),
        ("2026-11-26T15:00:00+00:00", False, False),
        ("2026-11-27T17:59:59+00:00", True, True),
        ("2026-11-27T18:00:00+00:00", False, True),
        ("2026-11-30T15:00:00+00:00", False, False),
    ],
)
def test_the_market_is_open_when_the_calendar_says(
    moment: str, regular: bool, extended: bool
) -> None:
    assert TradingHours(WEEK).is_open(at(moment)) is regular
    assert TradingHours(WEEK, extended=True).is_open(at(moment)) is extended
    assert TradingHours(WEEK, extended=True).is_regular(at(moment)) is regular


def test_the_next_open_is_named_over_a_holiday_and_where_it_is_not_known() -> None:
    hours = TradingHours(WEEK)
    assert hours.next_open_words(at("2026-11-25T22:00:00+00:00")) == (
        "closed until 2026-11-27T14:30:00Z"
    )
    assert hours.next_open_words(at("2026-11-27T22:00:00+00:00")) == (
        "closed; the calendar ends here"
    )
    assert not TradingHours(()).is_open(at("2026-11-25T15:00:00+00:00")), "not known is closed"
    assert hours.known_until_ns == at("2026-11-27T18:00:00+00:00")


def test_summer_time_moves_the_session() -> None:
    hours = TradingHours([CalendarRow(date="2026-07-01", open="09:30", close="16:00")])
    assert hours.is_open(at("2026-07-01T13:30:00+00:00"))
    assert not hours.is_open(at("2026-07-01T20:00:00+00:00"))


@pytest.mark.parametrize(
    ("date", "opens"), [("2026-11-25", "25:30"), ("yesterday", "09:30"), ("2026-11-25", "16:30")]
)
def test_a_calendar_that_is_none_is_refused(date: str, opens: str) -> None:
    with pytest.raises(AnswerInvalid, match="calendar"):
        TradingHours([CalendarRow(date=date, open=opens, close="16:00")])


# --- proofs -------------------------------------------------------------------------------------


def refused(status: int, body: str) -> RequestRefused:
    return RequestRefused("order", status=status, body=body)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (refused(403, '{"code":40310000,"message":"insufficient buying power"}'), "REJECTED"),
        (refused(422, '{"code":42210000,"message":"invalid limit_price"}'), "REJECTED"),
        (refused(422, '{"code":40010001,"message":"client_order_id must be unique"}'), "DUPLICATE"),
        (refused(403, "<html>Forbidden</html>"), "UNKNOWN"),
        (refused(422, '["message"]'), "UNKNOWN"),
        (refused(404, '{"message":"not found"}'), "UNKNOWN"),
        (refused(429, '{"message":"too many requests."}'), "UNKNOWN"),
        (refused(500, '{"code":50010000,"message":"internal server error"}'), "UNKNOWN"),
        (refused(504, ""), "UNKNOWN"),
        (TransportFailed("x", sent=True), "UNKNOWN"),
        (TransportFailed("x", sent=False), "REJECTED"),
        (AnswerInvalid("x"), "UNKNOWN"),
    ],
)
def test_only_proof_rejects_an_order(error: VenueError, verdict: str) -> None:
    assert judge(error) is Verdict[verdict]


def test_absence_is_said_in_alpacas_words_or_not_at_all() -> None:
    assert absent(refused(404, '{"code":40410000,"message":"order not found"}'))
    assert not absent(refused(404, "<html>no such page</html>"))
    assert not absent(refused(403, '{"message":"order not found"}'))
    assert not absent(TransportFailed("x", sent=True))


# --- numbers and times --------------------------------------------------------------------------


def test_numbers_are_exact_or_refused() -> None:
    assert exact("189.3750000000", "price") == parse_price("189.375")
    assert exact("12", "qty") == 12 * SCALE
    assert rounded(189.37, "price") == parse_price("189.37")
    assert rounded("99999.999999999", "cash") == parse_cash("100000")
    for wrong in ("", "1e3", "12 shares"):
        with pytest.raises(AnswerInvalid):
            exact(wrong, "qty")
    for strange in ("NaN", "Infinity", None, "ten"):
        with pytest.raises(AnswerInvalid):
            rounded(strange, "price")


def test_times_keep_their_nanoseconds_and_need_a_zone() -> None:
    moment = nanoseconds("2026-11-20T09:30:00.123456789-05:00", "t")
    assert moment == at("2026-11-20T14:30:00+00:00") + 123_456_789
    assert nanoseconds("2026-11-20T14:30:00Z", "t") == at("2026-11-20T14:30:00+00:00")
    assert nanoseconds(iso(moment), "t") == moment - 789
    for wrong in ("2026-11-20T14:30:00", "soon"):
        with pytest.raises(AnswerInvalid):
            nanoseconds(wrong, "t")


# --- catalogue ----------------------------------------------------------------------------------


def test_what_cannot_be_traded_is_refused_with_the_cure() -> None:
    good = AssetRow(symbol="AAPL", status="active", tradable=True)
    (instrument,) = build_universe([good], RegulatoryFees()).instruments.values()
    assert (instrument.tick, instrument.lot, instrument.ceiling) == (SCALE // 100, SCALE, 0)
    assert instrument.quantize_price(parse_price("189.378"), Side.BUY) == parse_price("189.37")
    for bad in (
        AssetRow(symbol="X", status="inactive", tradable=False),
        AssetRow(symbol="BTC/USD", status="active", tradable=True, asset_class="crypto"),
    ):
        with pytest.raises(InstrumentError, match="leave it out"):
            build_universe([bad], RegulatoryFees())


# --- secrets and settings -----------------------------------------------------------------------


def test_keys_show_themselves_to_nobody() -> None:
    pair = StockCredentials(KEY, SECRET)
    client = AlpacaClient(sandbox_hosts(1), pair)
    assert SECRET not in repr(pair) + repr(client) + str(vars(client))
    with pytest.raises(TypeError):
        pickle.dumps(pair)
    with pytest.raises(CredentialsError) as cut:
        StockCredentials(KEY, "short")
    assert "short" not in str(cut.value).replace("cut short", "")


def test_settings_name_what_is_missing_and_where_each_environment_is() -> None:
    env = load(StocksEnv, {})
    assert credentials_of(env, "sandbox").reveal() == (KEY, SECRET)
    with pytest.raises(ConfigError, match="ALPACA_API_KEY and ALPACA_SECRET_KEY are not both set"):
        credentials_of(env, "live")
    with pytest.raises(ConfigError, match="no environment 'moon'"):
        hosts_of(env, "moon")
    full = load(StocksEnv, {"ALPACA_API_KEY": "PK12345678", "ALPACA_SECRET_KEY": "s" * 40})
    assert credentials_of(full, "live").reveal()[0] == "PK12345678"
    assert hosts_of(full, "live") == live_hosts()
    assert hosts_of(full, "testnet").trading_url == "https://paper-api.alpaca.markets"
    assert hosts_of(full, "sandbox").local
    with pytest.raises(ConfigError, match="ALPACA_FEED"):
        load(StocksEnv, {"ALPACA_FEED": "otc"})


def test_keys_never_travel_in_the_clear() -> None:
    with pytest.raises(ValueError, match="in the clear"):
        StockHosts(trading_url="http://api.alpaca.markets")
    with pytest.raises(ValueError, match=r"outside 1\.\.65535"):
        sandbox_hosts(0)


# --- the client ---------------------------------------------------------------------------------


def test_an_address_nobody_answers_is_known_not_to_have_been_reached() -> None:
    async def ask() -> None:
        client = AlpacaClient(sandbox_hosts(9), StockCredentials(KEY, SECRET))
        with pytest.raises(TransportFailed) as failed:
            await client.clock()
        assert not failed.value.sent
        await client.close()
        with pytest.raises(TransportFailed, match="closed"):
            await client.clock()

    asyncio.run(ask())


def test_a_call_that_never_left_the_queue_is_known_not_to_be_sent() -> None:
    async def ask() -> None:
        settings = ClientSettings(threads=1, total_s=0.2)
        client = AlpacaClient(sandbox_hosts(9), StockCredentials(KEY, SECRET), settings=settings)
        long = asyncio.create_task(client._call(lambda: time.sleep(1), "long"))
        await asyncio.sleep(0.05)
        with pytest.raises(TransportFailed) as queued:
            await client.clock()
        assert not queued.value.sent
        with pytest.raises(TransportFailed) as running:
            await long
        assert running.value.sent
        await client.close()

    asyncio.run(ask())


def test_alpaca_py_still_has_what_is_turned_off_in_it() -> None:
    client = TradingClient("k", "s", url_override="http://127.0.0.1:9")
    assert client._retry > 0, "its own repeats; ours is 0"
    assert callable(client._session.mount)


def test_who_does_not_trade_stocks_does_not_pay_for_alpaca_py() -> None:
    code = (
        "import sys, fleet.venues.stocks.execution, fleet.venues.stocks.feed;"
        "sys.exit('alpaca' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
