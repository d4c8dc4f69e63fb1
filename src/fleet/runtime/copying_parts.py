"""The components of a bot that copies: the leaders it follows on its feed's chain, and KPIs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fleet.config import SANDBOX
from fleet.domain.units import format_dollars
from fleet.engine.copy_results import CopySummary, summary
from fleet.journal.leaders import leaders_file
from fleet.runtime.components import ComponentFailed, Node
from fleet.runtime.leader_part import LeaderPart, LeaderPlace
from fleet.runtime.leaders_follow import FollowLeaders
from fleet.runtime.listener_settings import ListenerEnv, listening_urls
from fleet.runtime.live_standing import live_hosts
from fleet.runtime.settings import PolymarketEnv, SandboxEnv
from fleet.runtime.spec import Workplace

NS_PER_MS: Final = 1_000_000


def follow_leaders(place: Workplace, *, manual: Sequence[str]) -> Node:
    """Whom ``place``'s bot follows. With play money whoever is watched is copied.

    The bot runs on without it: what was copied is still looked after.
    """
    loaded, feed = place.loaded, place.feed
    sandbox = loaded.of(SandboxEnv)
    hosts = live_hosts(feed, loaded.of(PolymarketEnv), sandbox)
    env = loaded.of(ListenerEnv)
    identity = place.board.identity

    def listen(wallets: tuple[str, ...]) -> LeaderPart:
        try:
            urls = listening_urls(env, feed, sandbox.port)
        except ValueError as error:
            raise ComponentFailed(str(error)) from error
        where = LeaderPlace(
            wallets=wallets,
            urls=urls,
            chain_id=hosts.chain_id,
            cursor=place.paths.chain_cursor(identity.bot.lower(), identity.mode, feed),
            bot=identity.bot,
            mode=identity.mode,
            feed=feed,
            data_url=hosts.data_url,
        )
        return LeaderPart(where, env, place.runner.put_facts, place.clock)

    leaders = FollowLeaders(
        place.state,
        leaders_file(place.paths.var, feed),
        feed,
        place.clock,
        place.runner.put_facts,
        manual=manual,
        copy_watched=feed == SANDBOX,
        listen=listen,
    )
    _show_copies(place)
    return Node(component=leaders, required=False)


def _show_copies(place: Workplace) -> None:
    """The KPIs of copying, beside those that are shown already."""
    board, state = place.board, place.state
    kpis, lines = board.kpis, board.kpi_lines
    # The summary reads every bundle there ever was: the log's minute is often enough for it.
    newest: dict[str, float] = {}

    def told() -> Sequence[str]:
        found = summary(state)
        newest.clear()
        newest.update(copy_figures(found))
        return [*lines(), copy_line(found)]

    board.kpis = lambda: {**kpis(), **newest}
    board.kpi_lines = told


def copy_figures(found: CopySummary) -> dict[str, float]:
    """The figures as the status file has them; what is not known is left out."""
    figures: dict[str, float] = {
        "copies": found.copies,
        "copies_ended": found.ended,
        "copies_won": found.won,
        "leader_won": found.leader_won,
    }
    if found.slippage_bps is not None:
        figures["slippage_bps"] = found.slippage_bps
    if found.lag_p50_ns is not None and found.lag_p99_ns is not None:
        figures["lag_ms_p50"] = found.lag_p50_ns / NS_PER_MS
        figures["lag_ms_p99"] = found.lag_p99_ns / NS_PER_MS
    return figures


def copy_line(found: CopySummary) -> str:
    """The KPIs of copying as one line a person can grep for."""
    share = f"{found.won / found.ended:.0%}" if found.ended else "unknown"
    theirs = f"{found.leader_won / found.ended:.0%}" if found.ended else "unknown"
    slippage = "unknown" if found.slippage_bps is None else f"{found.slippage_bps} bps"
    lags = (found.lag_p50_ns, found.lag_p99_ns)
    p50, p99 = ("unknown" if lag is None else f"{lag / NS_PER_MS:.0f} ms" for lag in lags)
    return (
        f"KPI copies={found.copies} ended={found.ended} success={share} leader_success={theirs}"
        f" result=${format_dollars(found.result)}"
        f" leader_result=${format_dollars(found.leader_result)}"
        f' slippage="{slippage}" lag_p50="{p50}" lag_p99="{p99}"'
    )
