"""What the Trader can be asked to trade: an exchange and a symbol of it, told from a text.

Only the shape is checked here, without a network: whether the venue lists the symbol is known when
its catalogue was read. Every error names the cure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

EXCHANGES: Final = ("BINANCE", "ALPACA")
QUOTES: Final = ("USDT", "USDC", "FDUSD")
"""The quote assets whose books the Trader keeps: one dollar each."""
_CRYPTO: Final = re.compile(r"[A-Z0-9]{2,15}")
_STOCK: Final = re.compile(r"[A-Z]{1,5}(\.[A-Z])?")


@dataclass(frozen=True, slots=True, order=True)
class Token:
    """One thing to trade."""

    exchange: str
    symbol: str

    def __str__(self) -> str:
        """``BINANCE:ETHUSDT``, which is also the instrument's id."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def slug(self) -> str:
        """As files and locks are named."""
        return f"trader-{self.exchange}-{self.symbol}".lower().replace(".", "-")


def parse_token(symbol: str, exchange: str, known: Iterable[Token] = ()) -> Token:
    """A token; ``known`` ones are suggested for misspelt ones. Raises ``ValueError``."""
    place = exchange.strip().upper()
    if place not in EXCHANGES:
        near = difflib.get_close_matches(place, EXCHANGES, n=1, cutoff=0.5)
        cure = f"did you mean {near[0]}?" if near else f"choose from {', '.join(EXCHANGES)}"
        raise ValueError(f"no exchange is called {exchange!r}: {cure}")
    plain = symbol.strip().upper().replace("/", "").replace("-", "")
    token = Token(place, plain)
    problem = _stock_problem(plain) if place == "ALPACA" else _crypto_problem(plain)
    if problem:
        names = [str(one) for one in known]
        near = difflib.get_close_matches(str(token), names, n=1, cutoff=0.8)
        cure = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{symbol!r} is no symbol of {place}: {problem}{cure}")
    return token


def _crypto_problem(symbol: str) -> str:
    quote = next((quote for quote in QUOTES if symbol.endswith(quote)), "")
    if not quote:
        return f"it must end with what it is priced in, {', '.join(QUOTES)}, such as ETHUSDT"
    if not _CRYPTO.fullmatch(symbol.removesuffix(quote)):
        return "a coin has 2 to 15 letters or digits before its quote, such as ETHUSDT"
    return ""


def _stock_problem(symbol: str) -> str:
    return "" if _STOCK.fullmatch(symbol) else "a stock has 1 to 5 letters, such as AAPL or BRK.B"


def parse_tokens(text: str) -> tuple[Token, ...]:
    """``BINANCE:ETHUSDT, ALPACA:AAPL`` as a setting has it; each once. Raises ``ValueError``."""
    found: dict[Token, None] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        exchange, colon, symbol = part.partition(":")
        if not colon:
            raise ValueError(f"{part.strip()!r}: write EXCHANGE:SYMBOL, such as BINANCE:ETHUSDT")
        token = parse_token(symbol, exchange)
        if token in found:
            raise ValueError(f"{token} is named twice: keep one of them")
        found[token] = None
    if not found:
        raise ValueError("expected EXCHANGE:SYMBOL, or several separated by commas")
    return tuple(found)
