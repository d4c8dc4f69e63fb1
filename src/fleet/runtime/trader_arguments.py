"""The Trader's command line: ``MODE --symbol ETHUSDT --exchange BINANCE`` and its flags.

Wrong ones end the process with code 2, usage and the cure. What is decided here is what was asked
for, not whether it may be done.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.runtime.continuous import RestartPolicy
from fleet.runtime.trader_tokens import Token, parse_token

DEFAULT_MODE: Final = "paper"
MODES: Final[Mapping[str, str]] = {
    "blank": "the whole pipeline in small: 4 trials, few candles, a report",
    "backtest": "train and validate a model, report with pictures, keep it in the registry",
    "paper": "validate, then trade with live prices and simulated orders (the default)",
    "live": "validate, then trade for real, through every gate of docs/live.md",
    "portfolio": "all SUPPORTED_TOKENS, each in a process of its own",
    "research": "compare what studies and models have found; no trading",
    "gui": "the dashboard; it is not built yet",
}
PLAIN_RULES: Final = ("sma_cross", "breakout", "mean_reversion", "buy_and_hold")
TRADING: Final = frozenset({"paper", "live", "portfolio"})
"""The modes that run until they are stopped."""
EPILOG: Final = (
    "Exit codes: 0 done, or asked to stop; 2 wrong command line; 69 not available yet; 75 a twin is"
    " running; 78 stay down until a person has repaired something; 130 interrupted before the end;"
    " 1 a restart may heal it. See docs/trader.md."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuous:
    """What was asked of continuous mode."""

    infinite: bool = False
    auto_restart: bool = False
    restarts_max: int = 1_000
    delay_s: float = 30.0
    duration_s: float | None = None

    def policy(self, healthy_ns: int) -> RestartPolicy:
        """As the wrapper takes it. An hour is the longest pause, unless a longer one was asked."""
        delay_ns = round(self.delay_s * NS_PER_SECOND)
        return RestartPolicy(
            delay_ns=delay_ns, delay_max_ns=max(RestartPolicy().delay_max_ns, delay_ns),
            restarts_max=self.restarts_max, healthy_ns=healthy_ns,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for. ``token`` is nothing when no symbol was named."""

    mode: str
    token: Token | None
    gui: bool
    debug: bool
    dry_run: bool
    interval: str
    data: Path | None
    trials: int | None
    seed: int
    unproven: bool
    rule: str
    """A plain rule to trade instead of a model; empty for a model."""
    feed: str
    """``sandbox`` for the local server, ``venue`` for the venue itself."""
    continuous: Continuous
    share: int | None
    """A portfolio's dollars for this token at 1e-8; nothing outside a portfolio."""
    answer: Path | None
    """Where a backtest for a portfolio leaves its validation."""
    kept_by: int
    """The wrapper that started this process, 0 if none did."""


def parse(argv: Sequence[str], known: Sequence[Token]) -> Request:
    """Read the command line; ``known`` tokens are suggested for misspelt ones."""
    parser = _parser()
    # Flags may stand before the mode, as in `--debug paper`.
    given = parser.parse_intermixed_args(argv)
    mode = _mode(parser, given)
    if given.exchange and not given.symbol:
        parser.error("--exchange goes with --symbol SYMBOL, such as --symbol ETHUSDT")
    token = None
    if given.symbol:
        try:
            token = parse_token(given.symbol, given.exchange or "BINANCE", known)
        except ValueError as error:
            parser.error(str(error))
    return _checked(parser, given, mode, token)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_trader.py",
        description="Trade coins and stocks by closed candles: train, validate, paper, live.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    told = "; ".join(f"{name}: {text}" for name, text in MODES.items())
    parser.add_argument("what", nargs="?", metavar="MODE", help=told)
    parser.add_argument("--mode", metavar="MODE", help="the same as MODE")
    parser.add_argument("--symbol", metavar="SYMBOL", help="what to trade, such as ETHUSDT or AAPL")
    parser.add_argument("--exchange", metavar="NAME", help="BINANCE (default) or ALPACA")
    parser.add_argument("--interval", default="1h", metavar="LENGTH", help="of a candle: 1h")
    parser.add_argument("--data", type=Path, metavar="FILE", help="candles to train on")
    parser.add_argument("--trials", type=_whole, metavar="N", help="trials of a training")
    parser.add_argument("--seed", type=_whole, default=1, metavar="N", help="of all chance: 1")
    parser.add_argument("--gui", action="store_true", help="with the dashboard (not built yet)")
    parser.add_argument("--debug", action="store_true", help="write every line: LOG_LEVEL=DEBUG")
    parser.add_argument("--paper", action="store_true", help="the same as --mode paper")
    parser.add_argument("--dry-run", action="store_true", help="make the checks, print them, end")
    parser.add_argument(
        "--unproven", action="store_true",
        help="paper only: trade simulated money even if the validation was not passed",
    )  # fmt: skip
    parser.add_argument(
        "--rule", metavar="NAME", choices=PLAIN_RULES,
        help=f"with --unproven: trade a plain rule, no model: {', '.join(PLAIN_RULES)}",
    )  # fmt: skip
    parser.add_argument(
        "--feed", choices=("venue", "sandbox"), default="venue",
        help="paper: prices of the venue (default) or of the local Binance on this machine",
    )  # fmt: skip
    kept = parser.add_argument_group("continuous mode")
    kept.add_argument(
        "--infinite", action="store_true", help="until stopped; --duration is a cycle"
    )
    kept.add_argument("--auto-restart", action="store_true", help="a wrapper starts it again")
    kept.add_argument("--max-restarts", type=_whole, metavar="N", help="at most: 1000")
    kept.add_argument("--restart-delay", type=_positive, metavar="SECONDS", help="the first: 30")
    kept.add_argument("--duration", type=_positive, metavar="SECONDS", help="stop, or begin anew")
    parser.add_argument("--share", type=_cash, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kept-by", type=_whole, default=0, help=argparse.SUPPRESS)
    return parser


def _mode(parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """The one mode all that was said agrees on; ``gui --mode paper`` is the dashboard."""
    named = [name for name in (given.what, given.mode) if name is not None]
    if given.paper:
        named.append(DEFAULT_MODE)
    for name in named:
        if name not in MODES:
            parser.error(f"no mode is called {name!r}: choose from {', '.join(MODES)}")
    if given.what == "gui":
        return "gui"
    if len(set(named)) > 1:
        parser.error(f"two modes were asked for, {' and '.join(dict.fromkeys(named))}: give one")
    return named[0] if named else DEFAULT_MODE


def _checked(
    parser: argparse.ArgumentParser, given: argparse.Namespace, mode: str, token: Token | None
) -> Request:
    """Refuse flags that would be ignored: who wrote one believes it does something."""
    kept = {
        "--infinite": given.infinite, "--auto-restart": given.auto_restart,
        "--duration": given.duration is not None,
    }  # fmt: skip
    if mode not in TRADING:
        for flag, said in kept.items():
            if said:
                parser.error(f"{flag} goes with {', '.join(sorted(TRADING))}, not with {mode}")
    for flag, value in (
        ("--max-restarts", given.max_restarts), ("--restart-delay", given.restart_delay),
    ):  # fmt: skip
        if value is not None and not given.auto_restart:
            parser.error(f"{flag} goes with --auto-restart: without it nothing is started again")
    if given.unproven and mode not in {"portfolio", DEFAULT_MODE}:
        parser.error("--unproven goes with paper and portfolio: only play money may trade unproven")
    if given.rule and not given.unproven:
        parser.error("--rule goes with --unproven: no validation stands behind a plain rule")
    if mode == "portfolio" and (token or given.data):
        parser.error("portfolio trades SUPPORTED_TOKENS of .env: leave --symbol and --data out")
    if given.data is not None and not given.data.exists():
        parser.error(f"--data {given.data}: there is no such file")
    return Request(
        mode=mode, token=token, gui=given.gui, debug=given.debug, dry_run=given.dry_run,
        interval=given.interval, data=given.data, trials=given.trials, seed=given.seed,
        unproven=given.unproven, rule=given.rule or "", feed=given.feed,
        share=given.share, answer=given.answer, kept_by=given.kept_by,
        continuous=Continuous(
            infinite=given.infinite, auto_restart=given.auto_restart,
            restarts_max=1_000 if given.max_restarts is None else given.max_restarts,
            delay_s=30.0 if given.restart_delay is None else given.restart_delay,
            duration_s=given.duration,
        ),
    )  # fmt: skip


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _cash(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds above 0")
    return value
