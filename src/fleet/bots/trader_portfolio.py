"""All supported tokens at once: validated in parallel, weighed, each kept in a process of its own.

A token that cannot be traded is skipped and its reason told; if none is left, nothing is started.
Paper only: a live portfolio waits for the live gate of its venues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from fleet.bots.trader_launch import NAME, Launch
from fleet.bots.trader_paper import command, feed_of, wrapped
from fleet.bots.trader_validation import validate
from fleet.clock import LiveClock
from fleet.domain.units import SCALE, Cash, format_dollars
from fleet.runtime.kept_process import Command
from fleet.runtime.safety_settings import SafetyEnv
from fleet.runtime.spec import EXIT_STAY_DOWN
from fleet.runtime.trader_allocation import (
    capped_groups,
    dollars_of,
    inverse_volatility,
    related,
)
from fleet.runtime.trader_console import EXIT_INTERRUPTED, complain, say
from fleet.runtime.trader_portfolio import PortfolioFile, PortfolioManager, PortfolioSettings
from fleet.runtime.trader_research import Validation
from fleet.runtime.trader_tokens import Token

SLUG: Final = "trader-portfolio"
LEAST: Final = Cash(10 * SCALE)
"""Dollars below which no share is worth an order (Binance's minimum notional is 5, 2026-11)."""


def portfolio(launch: Launch) -> int:
    """Trade all tokens on paper until stopped."""
    file = PortfolioFile(launch.paths, feed_of(launch))
    try:
        stopped = file.read().stopped
    except (OSError, ValueError, KeyError) as error:
        complain(f"{NAME} portfolio: {file.path} cannot be read ({error}): repair or remove it")
        return EXIT_STAY_DOWN
    if stopped:
        complain(
            f"{NAME} portfolio: stopped by its drawdown; find out why, then remove {file.path} and"
            " run `fleet resume`"
        )
        return EXIT_STAY_DOWN
    tokens = _tradable(launch)
    if launch.request.rule:
        say([f"UNPROVEN portfolio: the plain rule {launch.request.rule}, with simulated money"])
    else:
        try:
            tokens = _passed(launch, tokens, asyncio.run(validate(launch, tokens)))
        except KeyboardInterrupt:
            complain(f"{NAME} portfolio: interrupted while validating; what was recorded stays")
            return EXIT_INTERRUPTED
    shares = _worthwhile(_allowed(launch, weigh(launch, tokens)))
    if not shares:
        complain(f"{NAME} portfolio: no token is left to trade; nothing was started")
        return EXIT_STAY_DOWN
    return _run(launch, [token for token in tokens if str(token) in shares], shares, file)


def _run(
    launch: Launch, tokens: Sequence[Token], shares: Mapping[str, Cash], file: PortfolioFile
) -> int:
    named = {str(token): token for token in tokens}

    def child(name: str, share: Cash) -> Command:
        return command(launch, named[name], share)

    async def reweigh() -> Mapping[str, Cash]:
        fresh = await asyncio.to_thread(weigh, launch, tokens)
        return _worthwhile(_allowed(launch, fresh))

    env = launch.env
    watcher = PortfolioManager(
        PortfolioSettings(
            capital=env.capital, drawdown_ppm=env.drawdown * 1_000_000 // SCALE,
            reweight_ns=env.reweight_ns,
        ),
        launch.paths, LiveClock(), file=file, shares=shares, reweigh=reweigh, command=child,
        bots={
            name: (f"{NAME}-{name}", launch.paths.status(token.slug))
            for name, token in named.items()
        },
    )  # fmt: skip
    say(f"{name}: ${format_dollars(share)}" for name, share in shares.items())
    code = wrapped(launch, [child(name, share) for name, share in shares.items()], SLUG,
                   watcher.watch)  # fmt: skip
    say([f"SUMMARY portfolio: made ${format_dollars(watcher.result())}"])
    return code


def _tradable(launch: Launch) -> list[Token]:
    """The tokens whose exchange has a feed here; the others are told."""
    for token in launch.env.tokens:
        if token.exchange != "BINANCE":
            complain(f"SKIPPED {token}: {token.exchange} has no running feed here yet")
    return [token for token in launch.env.tokens if token.exchange == "BINANCE"]


def _passed(
    launch: Launch, tokens: Sequence[Token], found: Mapping[Token, Validation | str]
) -> list[Token]:
    """The tokens that may be traded; the others are told with their reasons."""
    kept = []
    for token in tokens:
        answer = found[token]
        if isinstance(answer, str):
            complain(f"SKIPPED {token}: {answer}")
        elif answer.passed or launch.request.unproven:
            mark = "" if answer.passed else "UNPROVEN "
            say([f"{mark}{token}: model {answer.model}"])
            kept.append(token)
        else:
            complain(f"SKIPPED {token}: the model {answer.model} did not pass: {answer.reason}")
    return kept


def weigh(launch: Launch, tokens: Sequence[Token]) -> dict[str, Cash]:
    """Each token's dollars: inverse volatility, a cap for each and for what moves together."""
    if not tokens:
        return {}
    env = launch.env
    jobs = [launch.job(token, trials=env.trials, bars=env.bars) for token in tokens]
    moves = launch.research.moves(jobs)
    cap = env.cap / SCALE
    shares = inverse_volatility(moves.volatilities, cap)
    groups = related(moves.correlations, list(shares), env.correlation / SCALE)
    shares = capped_groups(shares, groups, cap)
    whole, most = sum(shares.values()), env.exposure / SCALE
    scale = min(1.0, most / whole) if whole else 0.0
    return dollars_of({name: share * scale for name, share in shares.items()}, env.capital)


def _allowed(launch: Launch, shares: Mapping[str, Cash]) -> dict[str, Cash]:
    """Shares no larger than what the limits over all bots leave each: a fair part of each limit.

    A bot that wished for more would be refused at every bar.
    """
    safety = launch.loaded.of(SafetyEnv)
    limits = {
        "FLEET_MAX_MARKET_USD": safety.max_market, "FLEET_MAX_WALLET_USD": safety.max_wallet,
        "FLEET_MAX_EXPOSURE_USD": safety.max_exposure,
    }  # fmt: skip
    name, least = min(limits.items(), key=lambda pair: pair[1])
    most = Cash(least // max(1, len(shares)))
    if any(share > most for share in shares.values()):
        say([f"shares are at most ${format_dollars(most)}: {name} among {len(shares)} bots"])
    return {token: min(share, most) for token, share in shares.items()}


def _worthwhile(shares: Mapping[str, Cash]) -> dict[str, Cash]:
    return {name: share for name, share in shares.items() if share >= LEAST}
