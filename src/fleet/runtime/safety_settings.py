"""The settings of what keeps the fleet's money safe: limits over all bots, watchers, alerts."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.config import Secret, count, flag, positive_dollars, seconds, secret, setting
from fleet.domain.units import Cash


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyEnv:
    """What holds over all bots of one place (a mode and a feed) together."""

    max_exposure: Cash = setting(
        "FLEET_MAX_EXPOSURE_USD",
        positive_dollars,
        "10000",
        "the limit of all bots together in dollars at cost, over all wallets",
    )
    max_wallet: Cash = setting(
        "FLEET_MAX_WALLET_USD",
        positive_dollars,
        "5000",
        "the limit of one wallet in dollars at cost, over all bots that share it",
    )
    max_market: Cash = setting(
        "FLEET_MAX_MARKET_USD",
        positive_dollars,
        "1000",
        "the limit of one market in dollars at cost, over all bots",
    )
    max_set: Cash = setting(
        "FLEET_MAX_SET_USD",
        positive_dollars,
        "2000",
        "the limit of one outcome set in dollars at cost, over all bots",
    )
    max_turnover: Cash = setting(
        "FLEET_MAX_DAY_TURNOVER_USD",
        positive_dollars,
        "100000",
        "the limit of a UTC day's turnover in dollars, over all bots",
    )
    shared_wallet: bool = setting(
        "FLEET_SHARED_WALLET",
        flag,
        "false",
        "whether several bots trade on one wallet; each instrument is then claimed by one of them",
    )
    stale_feed_ns: int = setting(
        "FLEET_STALE_FEED_S",
        seconds,
        "15",
        "the silence of the feed in seconds after which a bot whose orders rest is halted",
    )
    reconcile_ns: int = setting(
        "FLEET_RECONCILE_S",
        seconds,
        "60",
        "the seconds between two comparisons of a running bot's journal with the venue's books",
    )
    resolutions_ns: int = setting(
        "FLEET_RESOLUTIONS_S",
        seconds,
        "60",
        "the seconds between two questions to the venue whether the markets of held tokens are"
        " resolved; the feed does not always tell",
    )
    max_errors: int = setting(
        "FLEET_MAX_ERRORS_PER_MINUTE",
        count,
        "30",
        "the number of errors handled within a minute above which a bot is halted",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEnv:
    """Where alerts go besides the log."""

    webhook: Secret = setting(
        "ALERT_WEBHOOK_URL",
        secret,
        Secret(""),
        "the address that alerts are posted to as JSON with a field `text`, as chat services take"
        " it; whoever knows it can post there, so it is kept like a password",
    )
