"""The settings of the gate to real money: what must hold before a bot may trade live.

The wallet and its keys are ``WalletEnv`` beside the other shared settings; here is no secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet.config import (
    count,
    dollars,
    milliseconds,
    ratio,
    setting,
    text,
)
from fleet.domain.units import Cash


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEnv:
    """What a live start asks for; docs/live.md explains each."""

    confirm: str = setting(
        "LIVE_CONFIRM",
        text,
        "",
        "the phrase that allows one bot to trade live on one UTC day, ENABLE LIVE, the bot's name"
        " and the day; it is no secret, and it is asked for on a terminal when it is not given",
    )
    clock_skew_max_ns: int = setting(
        "LIVE_CLOCK_SKEW_MAX_MS",
        milliseconds,
        "2000",
        "how far this machine's clock may be from the venue's, in milliseconds",
    )
    wallet_max: Cash = setting(
        "LIVE_WALLET_MAX_USD",
        dollars,
        "5000",
        "the dollars in the trading wallet above which `fleet doctor` warns: a key on a server"
        " should guard little",
    )
    smoke_wait_ns: int = setting(
        "LIVE_SMOKE_WAIT_MS",
        milliseconds,
        "20000",
        "how long the smoke order's cancellation may take to be proven, in milliseconds",
    )
    feed_lag_ns: int = setting(
        "LIVE_SHADOW_FEED_LAG_MS",
        milliseconds,
        "20",
        "how late a quote reaches this machine, in milliseconds, until it has been measured",
    )
    taker_delay_ns: int = setting(
        "LIVE_SHADOW_TAKER_DELAY_MS",
        milliseconds,
        "50",
        "how long the venue is taken to hold back an order that takes, in milliseconds",
    )
    hold_ns: int = setting(
        "LIVE_SHADOW_HOLD_MS",
        milliseconds,
        "1000",
        "how long after an order's arrival its level is watched, in milliseconds",
    )
    parity_days: int = setting(
        "LIVE_PARITY_DAYS", count, "10", "the UTC days of paper that parity needs"
    )
    parity_orders: int = setting(
        "LIVE_PARITY_ORDERS", count, "20", "the judged orders that make a UTC day count"
    )
    parity_age_days: int = setting(
        "LIVE_PARITY_MAX_AGE_DAYS",
        count,
        "7",
        "the age in days of the newest day that counts after which parity must be shown anew",
    )
    parity_kept: int = setting(
        "LIVE_PARITY_KEPT",
        ratio,
        "0.9",
        "the share of promised fills the live quotes must have kept, with 95 % confidence",
    )
    parity_slippage_bps: int = setting(
        "LIVE_PARITY_SLIPPAGE_BPS",
        count,
        "20",
        "the mean worsening of the price against the promise, in basis points, at most",
    )
    parity_slippage_tail_bps: int = setting(
        "LIVE_PARITY_SLIPPAGE_P95_BPS",
        count,
        "200",
        "the worsening of the price that 95 of 100 orders stay under, in basis points, at most",
    )
    parity_phantom: int = setting(
        "LIVE_PARITY_PHANTOM",
        ratio,
        "0.5",
        "the share of fills on quotes that were withdrawn untraded while watched, at most",
    )
    parity_unknown: int = setting(
        "LIVE_PARITY_UNKNOWN",
        ratio,
        "0.1",
        "the share of orders whose arrival met no usable book or whose end is not known, at most",
    )
    stage_days: int = setting(
        "LIVE_STAGE_DAYS",
        count,
        "5",
        "the live UTC days in parity after which the limits go from 10 % to 50 %, and to 100 %",
    )
    stage_orders: int = setting(
        "LIVE_STAGE_ORDERS", count, "5", "the judged live orders that make a live day count"
    )
