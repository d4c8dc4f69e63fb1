"""The components of a bot that copies: the leaders it follows, on the chain of its feed."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.config import SANDBOX
from fleet.journal.leaders import leaders_file
from fleet.runtime.components import ComponentFailed, Node
from fleet.runtime.leader_part import LeaderPart, LeaderPlace
from fleet.runtime.leaders_follow import FollowLeaders
from fleet.runtime.listener_settings import ListenerEnv, listening_urls
from fleet.runtime.live_standing import live_hosts
from fleet.runtime.settings import PolymarketEnv, SandboxEnv
from fleet.runtime.spec import Workplace


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
    return Node(component=leaders, required=False)
