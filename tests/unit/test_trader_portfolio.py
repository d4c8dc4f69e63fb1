"""The portfolio manager: what it adds up, when it stops all, what it renews; validation."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from fleet.bots.trader import main
from fleet.bots.trader_launch import Launch
from fleet.bots.trader_portfolio import weigh
from fleet.bots.trader_settings import TraderEnv
from fleet.bots.trader_validation import validate
from fleet.clock import ManualClock
from fleet.config import Paths, load
from fleet.domain.units import SCALE, Cash
from fleet.journal.fleet import FleetState
from fleet.journal.inbox import OperatorInbox
from fleet.runtime.continuous import RestartPolicy
from fleet.runtime.kept_process import Command, KeptProcess
from fleet.runtime.spec import Loaded
from fleet.runtime.trader_allocation import Drawdown
from fleet.runtime.trader_arguments import parse
from fleet.runtime.trader_portfolio import PortfolioFile, PortfolioManager, PortfolioSettings
from fleet.runtime.trader_research import Job, Moves, Validation
from fleet.runtime.trader_tokens import Token
from tests.unit.test_trader_launch import Recorded, validation

ETH, BTC = Token("BINANCE", "ETHUSDT"), Token("BINANCE", "BTCUSDT")
CAPITAL = Cash(1_000 * SCALE)


class Told:
    """Alerts that were raised."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def __call__(self, code: str, text: str, remedy: str = "") -> None:
        self.codes.append(code)


class House:
    """A portfolio of two bots whose status files the test writes."""

    def __init__(self, root: Path, reweight_ns: int = 1 << 60) -> None:
        self.paths = Paths(root=root)
        self.clock = ManualClock(10**18)
        self.file = PortfolioFile(self.paths, "sandbox")
        self.fresh: dict[str, Cash] = {}
        self.told = Told()
        self.manager = PortfolioManager(
            PortfolioSettings(capital=CAPITAL, drawdown_ppm=200_000, reweight_ns=reweight_ns),
            self.paths, self.clock, file=self.file, reweigh=self._reweigh, command=self.command,
            shares={str(token): Cash(500 * SCALE) for token in (ETH, BTC)},
            bots={
                str(token): (f"Trader-{token}", self.paths.status(token.slug))
                for token in (ETH, BTC)
            },
        )  # fmt: skip

    async def _reweigh(self) -> Mapping[str, Cash]:
        return self.fresh

    def command(self, name: str, share: Cash) -> Command:
        return Command(name=name, words=["sleep", str(share)], environ={}, home=self.paths.root)

    def says(self, token: Token, pnl: str) -> None:
        file = self.paths.status(token.slug)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"pnl": pnl}))

    def look(self, kept: list[KeptProcess] | None = None) -> None:
        """One look of the watch."""

        async def once() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(self.manager.watch(kept or [], self.told), 0.05)

        asyncio.run(once())

    def asked(self, token: Token) -> list[str]:
        with FleetState(self.paths.fleet_db) as fleet:
            waiting = OperatorInbox(fleet).waiting(f"Trader-{token}", "seat")
        return [one.action for one in waiting]


def test_what_bots_made_is_added_up_and_the_last_word_of_one_that_died_stands(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)
    assert house.manager.result() == 0
    house.says(ETH, "12.50")
    house.says(BTC, "-2.25")
    assert house.manager.result() == 1_025 * SCALE // 100
    house.paths.status(ETH.slug).write_text("{")
    assert house.manager.result() == 1_025 * SCALE // 100


def test_a_fall_from_the_peak_asks_every_bot_to_flatten_once_and_for_ever(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.says(ETH, "100")
    house.look()
    house.says(ETH, "-119.99")  # $219.99 below the peak of $1100: a hair under a fifth.
    house.look()
    assert not house.told.codes
    house.says(BTC, "-0.01")
    house.look()
    house.look()
    assert house.told.codes == ["PORTFOLIO DRAWDOWN"]
    assert house.asked(ETH) == house.asked(BTC) == ["flatten"]
    assert house.file.read() == Drawdown(peak=Cash(100 * SCALE), stopped=True)


def test_the_peak_survives_a_restart(tmp_path: Path) -> None:
    first = House(tmp_path)
    first.says(BTC, "500")
    first.look()
    second = House(tmp_path)
    second.says(BTC, "199")
    second.look()
    assert second.told.codes == ["PORTFOLIO DRAWDOWN"]


def test_a_stopped_portfolio_is_not_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = PortfolioFile(Paths(root=tmp_path), "binance")
    file.write(Drawdown(stopped=True))
    environ = {"FLEET_HOME": str(tmp_path)}
    assert main(["portfolio"], environ, tmp_path, Recorded()) == 78
    assert f"then remove {file.path}" in capsys.readouterr().err
    file.path.write_text("not json")
    assert main(["portfolio"], environ, tmp_path, Recorded()) == 78
    assert "repair or remove it" in capsys.readouterr().err


def test_only_a_bot_whose_share_changed_enough_is_renewed(tmp_path: Path) -> None:
    house = House(tmp_path, reweight_ns=0)
    house.fresh = {str(ETH): Cash(449 * SCALE), str(BTC): Cash(451 * SCALE)}
    policy = RestartPolicy()
    kept = [
        KeptProcess(
            house.command(str(token), Cash(500 * SCALE)), policy, house.clock,
            lambda *_: None,
        )
        for token in (ETH, BTC)
    ]  # fmt: skip
    house.look(kept)
    assert [one.command.words[1] for one in kept] == [str(449 * SCALE), str(500 * SCALE)]


def launch(home: Path, research: Recorded, *words: str, **environ: str) -> Launch:
    env = load(TraderEnv, environ)
    return Launch(
        request=parse(["portfolio", *words], env.tokens), env=env, loaded=Loaded(items=[env]),
        paths=Paths(root=home), home=home, environ=dict(environ), research=research,
    )  # fmt: skip


def test_capital_goes_by_inverse_volatility_within_caps(tmp_path: Path) -> None:
    class Moving(Recorded):
        correlation = 0.1

        def moves(self, jobs: object) -> Moves:
            return Moves(
                volatilities={str(ETH): 0.9, str(BTC): 0.45},
                correlations={(str(ETH), str(BTC)): self.correlation},
            )

    research = Moving()
    usual = launch(tmp_path, research, TRADER_TOKEN_CAP="0.7", TRADER_MAX_EXPOSURE="1")
    dollars = {name: share // SCALE for name, share in weigh(usual, (ETH, BTC)).items()}
    assert dollars == {str(ETH): 1666, str(BTC): 3333}
    research.correlation = 0.95
    together = {name: share // SCALE for name, share in weigh(usual, (ETH, BTC)).items()}
    assert together == {str(ETH): 1166, str(BTC): 2333}  # One bet: seven tenths of $5000.
    half = launch(tmp_path, research, TRADER_TOKEN_CAP="0.7", TRADER_MAX_EXPOSURE="0.35")
    assert sum(weigh(half, (ETH, BTC)).values()) // SCALE in {1749, 1750}


VALIDATION = """
import json, sys
words = sys.argv
symbol, answer = words[words.index("--symbol") + 1], words[words.index("--answer") + 1]
if symbol == "BTCUSDT":
    sys.exit("Trader backtest: no candles of BTCUSDT")
found = {found!r}
json.dump(found | {{"token": symbol}}, open(answer, "w"))
"""


def test_tokens_are_validated_in_processes_and_a_failing_one_says_why(tmp_path: Path) -> None:
    (tmp_path / "run_trader.py").write_text(VALIDATION.format(found=validation().plain()))
    found = asyncio.run(validate(launch(tmp_path, Recorded()), (ETH, BTC)))
    answer = found[ETH]
    assert isinstance(answer, Validation)
    assert answer.passed
    assert found[BTC] == "Trader backtest: no candles of BTCUSDT"


def test_a_fresh_model_is_not_validated_again(tmp_path: Path) -> None:
    class Fresh(Recorded):
        def fresh(self, job: Job, age_ns: int, now_ns: int) -> Validation | None:
            return validation()

    found = asyncio.run(validate(launch(tmp_path, Fresh()), (ETH,)))
    assert found == {ETH: validation()}


def test_a_portfolio_of_which_nothing_is_left_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"FLEET_HOME": str(tmp_path), "SUPPORTED_TOKENS": "ALPACA:AAPL"}
    assert main(["portfolio"], environ, tmp_path, Recorded()) == 78
    told = capsys.readouterr().err
    assert "SKIPPED ALPACA:AAPL" in told
    assert "no token is left" in told
