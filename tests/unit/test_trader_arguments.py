"""The Trader's command line: what is understood, and what is refused with its cure."""

from pathlib import Path

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.runtime.trader_arguments import MODES, parse
from fleet.runtime.trader_tokens import Token, parse_token, parse_tokens

ETH = Token("BINANCE", "ETHUSDT")


def test_no_mode_means_paper_and_no_symbol_the_first_supported_one() -> None:
    request = parse([], (ETH,))
    assert request.mode == "paper"
    assert request.token is None
    assert not request.continuous.auto_restart


@pytest.mark.parametrize("mode", MODES)
def test_mode_is_a_word_or_a_flag(mode: str) -> None:
    assert parse([mode], ()).mode == parse(["--mode", mode], ()).mode == mode


def test_the_promised_command() -> None:
    request = parse(["blank", "--symbol", "eth/usdt", "--exchange", "binance", "--debug"], ())
    assert (request.mode, request.token, request.debug) == ("blank", ETH, True)
    stock = parse(["backtest", "--symbol", "AAPL", "--exchange", "ALPACA"], ())
    assert stock.token == Token("ALPACA", "AAPL")


def test_the_dashboard_with_a_mode_is_the_dashboard() -> None:
    assert parse(["gui", "--mode", "paper", "--symbol", "ETHUSDT"], ()).mode == "gui"
    assert parse(["paper", "--gui"], ()).gui


def test_continuous_mode_as_promised() -> None:
    words = "--infinite --auto-restart --max-restarts 5 --restart-delay 60 --duration 3600 --paper"
    asked = parse(words.split(), ()).continuous
    assert (asked.infinite, asked.auto_restart, asked.duration_s) == (True, True, 3600.0)
    policy = asked.policy(7)
    assert (policy.delay_ns, policy.restarts_max, policy.healthy_ns) == (60 * NS_PER_SECOND, 5, 7)
    usual = parse(["--auto-restart"], ()).continuous.policy(7)
    assert usual.restarts_max == 1000
    assert usual.delay_ns == 30 * NS_PER_SECOND
    assert usual.delay_max_ns == 3600 * NS_PER_SECOND


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("peper", "choose from blank, backtest, paper"),
        ("--mode peper", "choose from blank, backtest, paper"),
        ("live --mode paper", "live and paper: give one"),
        ("live --paper", "live and paper: give one"),
        ("paper --symbol ETHUSD", "did you mean BINANCE:ETHUSDT?"),
        ("paper --symbol E", "it must end with what it is priced in"),
        ("paper --symbol USDT", "a coin has 2 to 15 letters"),
        ("paper --symbol ETHUSDT --exchange BINANCEE", "did you mean BINANCE?"),
        ("paper --symbol ETHUSDT --exchange KRAKEN", "choose from BINANCE, ALPACA"),
        ("paper --symbol TOOLONG --exchange ALPACA", "a stock has 1 to 5 letters"),
        ("paper --exchange BINANCE", "--exchange goes with --symbol"),
        ("blank --auto-restart", "--auto-restart goes with live, paper, portfolio"),
        ("backtest --duration 5", "--duration goes with live, paper, portfolio"),
        ("paper --max-restarts 3", "--max-restarts goes with --auto-restart"),
        ("paper --restart-delay 3", "--restart-delay goes with --auto-restart"),
        ("paper --duration 0", "above 0"),
        ("paper --duration soon", "not a number of seconds"),
        ("paper --auto-restart --max-restarts -1", "no whole number"),
        ("live --unproven", "only play money may trade unproven"),
        ("paper --rule sma_cross", "--rule goes with --unproven"),
        ("paper --unproven --rule magic", "invalid choice: 'magic'"),
        ("paper --feed polymarket", "invalid choice: 'polymarket'"),
        ("portfolio --symbol ETHUSDT", "leave --symbol and --data out"),
        ("blank --data /nowhere/at.all", "there is no such file"),
        ("blank --wat", "unrecognized arguments: --wat"),
        ("blank extra", "unrecognized arguments: extra"),
    ],
)
def test_what_is_wrong_ends_with_code_2_and_the_cure(
    words: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words.split(), (ETH,))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "usage: run_trader.py" in told
    assert cure in told


def test_data_may_be_any_file_there_is(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.touch()
    assert parse(["blank", "--data", str(file)], ()).data == file


def test_tokens_of_a_setting() -> None:
    found = parse_tokens("binance:ETHUSDT, ALPACA:BRK.B,")
    assert [str(token) for token in found] == ["BINANCE:ETHUSDT", "ALPACA:BRK.B"]
    assert found[1].slug == "trader-alpaca-brk-b"


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("ETHUSDT", "write EXCHANGE:SYMBOL"),
        ("BINANCE:ETHUSDT,binance:eth/usdt", "named twice"),
        (" , ", "expected EXCHANGE:SYMBOL"),
        ("NOWHERE:ETHUSDT", "choose from BINANCE, ALPACA"),
    ],
)
def test_tokens_that_are_none_are_refused_with_the_cure(text: str, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        parse_tokens(text)


def test_a_symbol_is_suggested_only_if_it_is_near() -> None:
    with pytest.raises(ValueError, match="is no symbol of BINANCE") as told:
        parse_token("ZZZZ", "BINANCE", (ETH,))
    assert "did you mean" not in str(told.value)
