"""One token on paper: validated, then traded until stopped, under a wrapper if that was asked for.

A model that did not pass is not traded, not even on paper, unless ``--unproven`` asks for it: then
every start says that nothing speaks for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fleet.bots.trader_bot import RULES, Acting, spec_of
from fleet.bots.trader_bot import paper as trade
from fleet.bots.trader_launch import NAME, Launch
from fleet.bots.trader_validation import validate
from fleet.clock import NS_PER_SECOND
from fleet.config import SANDBOX
from fleet.domain.units import Cash
from fleet.runtime.continuous import EXIT_UNAVAILABLE
from fleet.runtime.guardian import GuardianSettings
from fleet.runtime.kept_process import Command
from fleet.runtime.safety_settings import AlertEnv
from fleet.runtime.spec import EXIT_STAY_DOWN
from fleet.runtime.trader_console import complain, say
from fleet.runtime.trader_research import ResearchFailed, Validation
from fleet.runtime.trader_tokens import Token
from fleet.runtime.wrapping import Beside, Wrapper

PERFORMANCE: Final = ("trading", "pnl", "day_pnl", "trades", "opportunities", "errors")
"""What a notice tells of a bot's status file."""


def paper(launch: Launch) -> int:
    """Paper trading of one token, in this process or under a wrapper."""
    if launch.token.exchange != "BINANCE":
        complain(
            f"{NAME} paper: {launch.token.exchange} has no running feed here yet; `backtest` works,"
            " and BINANCE trades on paper"
        )
        return EXIT_UNAVAILABLE
    if launch.request.continuous.auto_restart:
        return wrapped(launch, [command(launch, launch.token)], launch.token.slug)
    acting = chosen(launch, launch.token)
    if acting is None:
        return EXIT_STAY_DOWN
    share = None if launch.request.share is None else Cash(launch.request.share)
    code = trade(
        spec_of(launch.token, launch.request.interval, acting, share), launch.loaded, launch.paths,
        launch.environ, feed=feed_of(launch), duration_s=duration_of(launch),
        debug=launch.request.debug,
    )  # fmt: skip
    if not launch.request.kept_by:  # A wrapper tells it when all have ended.
        say(_summary_lines(str(launch.token), performance(launch, launch.token.slug)))
    return code


def chosen(launch: Launch, token: Token) -> Acting | None:
    """What trades ``token``; nothing, with the reason told, if nothing may."""
    request = launch.request
    if request.rule:
        say([f"UNPROVEN {token}: the plain rule {request.rule}, with simulated money"])
        return Acting(rule=RULES[request.rule])
    found = validated(launch, token)
    if not found.passed:
        complain(f"{NAME} {token}: the model {found.model} did not pass: {found.reason}")
        if not request.unproven:
            complain("it is not traded; --unproven trades it all the same, with simulated money")
            return None
        say([f"UNPROVEN {token}: a model that did not pass, with simulated money"])
    rule, scorer, bars = launch.research.acting(launch.paths.root, found.model, token)
    return Acting(rule=rule, scorer=scorer, bars=bars)


def validated(launch: Launch, token: Token) -> Validation:
    """A fresh passed validation of the registry, or one made now. Raises ``ResearchFailed``."""
    found = asyncio.run(validate(launch, (token,), shown=True))[token]
    if isinstance(found, str):
        raise ResearchFailed(found)
    say([f"{token}: trades the model {found.model}"] if found.passed else [])
    return found


def feed_of(launch: Launch) -> str:
    """The feed's name: the local server's, or the exchange's own."""
    return SANDBOX if launch.request.feed == SANDBOX else launch.token.exchange.lower()


def duration_of(launch: Launch) -> float | None:
    """How long to run; ``--infinite`` without a wrapper means until stopped."""
    asked = launch.request.continuous
    if asked.infinite and not asked.auto_restart and asked.duration_s is not None:
        complain("--infinite runs until stopped: --duration is left aside (no --auto-restart)")
        return None
    return asked.duration_s


def command(launch: Launch, token: Token, share: Cash | None = None) -> Command:
    """The child that trades ``token`` for a wrapper; it tells the wrapper's end from the kernel."""
    request, asked = launch.request, launch.request.continuous
    words = [
        sys.executable, str(launch.home / "run_trader.py"), "paper", "--symbol", token.symbol,
        "--exchange", token.exchange, "--interval", request.interval, "--seed", str(request.seed),
        "--feed", request.feed, "--kept-by", str(os.getpid()),
    ]  # fmt: skip
    for flag, value in (
        ("--data", request.data), ("--trials", request.trials), ("--rule", request.rule or None),
        ("--duration", asked.duration_s), ("--share", share),
    ):  # fmt: skip
        words += [] if value is None else [flag, str(value)]
    words += ["--unproven"] if request.unproven else []
    words += ["--debug"] if request.debug else []
    return Command(
        name=str(token), words=words, environ=dict(launch.environ), home=launch.home,
        duration_s=asked.duration_s, pulse=launch.paths.status(token.slug),
    )  # fmt: skip


def wrapped(
    launch: Launch, commands: Sequence[Command], slug: str, beside: Beside | None = None
) -> int:
    """Keep children until they may not be kept or a signal asks; the exit code."""
    slugs = {str(token): token.slug for token in (launch.token, *launch.env.tokens)}
    wrapper = Wrapper(
        name=f"{NAME} wrapper",
        slug=f"{slug}-wrapper",
        paths=launch.paths,
        policy=launch.request.continuous.policy(launch.env.healthy_ns),
        guarding=GuardianSettings(
            heartbeat_s=launch.env.heartbeat_ns / NS_PER_SECOND,
            notice_s=launch.env.notice_ns / NS_PER_SECOND,
        ),
        webhook=launch.loaded.of(AlertEnv).webhook,
        performance=lambda name: performance(launch, slugs[name]),
    )
    code = wrapper.run(commands, beside)
    for one in commands:
        say(_summary_lines(one.name, performance(launch, slugs[one.name])))
    return code


def performance(launch: Launch, slug: str) -> Mapping[str, Any]:
    """What a bot last said of its trading; empty if it said nothing yet."""
    try:
        status = json.loads(launch.paths.status(slug).read_text())
        return {key: status[key] for key in PERFORMANCE}
    except (OSError, ValueError, KeyError):
        return {}


def _summary_lines(name: str, figures: Mapping[str, Any]) -> list[str]:
    told = "  ".join(f"{key}={value}" for key, value in figures.items() if key != "trading")
    return [f"SUMMARY {name}: {told or 'it never ran'}"]
