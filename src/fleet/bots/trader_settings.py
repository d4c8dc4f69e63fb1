"""The Trader's settings in the environment."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.config import count, dollars, one_of, ratio, seconds, setting
from fleet.domain.units import Cash
from fleet.runtime.trader_tokens import Token, parse_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TraderEnv:
    """What the Trader trades, where, and how patient its wrapper is."""

    environment: str = setting(
        "TRADING_ENVIRONMENT",
        one_of("paper", "testnet", "live"),
        "paper",
        "what the Trader's live mode may touch: PAPER (nothing, live is refused), TESTNET (the"
        " venue's test host) or LIVE (real money)",
    )
    tokens: tuple[Token, ...] = setting(
        "SUPPORTED_TOKENS",
        parse_tokens,
        "BINANCE:ETHUSDT,BINANCE:BTCUSDT",
        "what the portfolio trades, as EXCHANGE:SYMBOL separated by commas; the first is traded if"
        " no --symbol is given",
    )
    log_level: str = setting(
        "LOG_LEVEL",
        one_of("debug", "info", "warning", "error"),
        "info",
        "the least important lines the Trader writes: DEBUG, INFO, WARNING or ERROR",
    )
    trials: int = setting(
        "TRADER_TRIALS", count, "60", "the trials of one training, in all its searches"
    )
    bars: int = setting(
        "TRADER_BARS", count, "20000", "the newest candles a training looks at; 0 is all"
    )
    model_age_ns: int = setting(
        "TRADER_MODEL_MAX_AGE_S",
        seconds,
        "604800",
        "the age in seconds up to which a model of the registry is traded without a new training",
    )
    capital: Cash = setting(
        "TRADER_CAPITAL_USD", dollars, "5000", "the dollars the portfolio divides among its tokens"
    )
    cap: int = setting(
        "TRADER_TOKEN_CAP", ratio, "0.4", "the largest share of the capital one token gets"
    )
    correlation: int = setting(
        "TRADER_MAX_CORRELATION",
        ratio,
        "0.8",
        "above this correlation of returns tokens count as one bet and share one cap",
    )
    exposure: int = setting(
        "TRADER_MAX_EXPOSURE", ratio, "0.8", "the largest share of the capital that is traded"
    )
    drawdown: int = setting(
        "TRADER_MAX_DRAWDOWN",
        ratio,
        "0.2",
        "the fall of the portfolio below its peak, as a share of it, that stops every bot",
    )
    reweight_ns: int = setting(
        "TRADER_REWEIGHT_S", seconds, "86400", "the seconds between two weighings of the tokens"
    )
    max_position: Cash = setting(
        "TRADER_MAX_POSITION_USD",
        dollars,
        "1000",
        "the most dollars one token's position may cost; FLEET_MAX_MARKET_USD bounds it too",
    )
    max_turnover: Cash = setting(
        "TRADER_MAX_DAY_TURNOVER_USD",
        dollars,
        "20000",
        "the limit of one token's turnover of a UTC day in dollars",
    )
    max_day_loss: Cash = setting(
        "TRADER_MAX_DAY_LOSS_USD",
        dollars,
        "50",
        "the realised loss of a UTC day in dollars after which a token's bot opens nothing new",
    )
    collar: int = setting(
        "TRADER_COLLAR",
        ratio,
        "0.005",
        "how far from a bar's close an order may be filled, as a share of the price",
    )
    heartbeat_ns: int = setting(
        "TRADER_HEARTBEAT_S", seconds, "300", "the seconds between two heartbeats of the wrapper"
    )
    notice_ns: int = setting(
        "TRADER_NOTICE_S", seconds, "3600", "the seconds between two notices of how it goes"
    )
    healthy_ns: int = setting(
        "TRADER_HEALTHY_RUN_S",
        seconds,
        "600",
        "the seconds a run lasts to count as healthy: the pause before a restart begins anew",
    )
