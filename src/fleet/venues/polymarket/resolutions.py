"""Whether a market is resolved and what its tokens pay, asked of the CLOB.

The market channel's ``market_resolved`` may not come (reference 5.3, rs-clob-client #226), and
nobody hears it while the bot is down. ``/markets-by-token`` leads from a token to its market even
when the catalogue lists it no more; ``/markets/{condition}`` says the rest. A market pays only when
it is closed and the venue names exactly one winner, or none and says that it ended 50/50. Anything
else is not resolved: a closed market without a winner is still argued about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from fleet.domain.instruments import InstrumentId, MarketId
from fleet.domain.units import SCALE, Price
from fleet.venues.port import AnswerInvalid
from fleet.venues.transport import JsonClient

Payouts = tuple[tuple[InstrumentId, Price], ...]
_WHOLE: Final = Price(SCALE)
_HALF: Final = Price(SCALE // 2)
_NOTHING: Final = Price(0)


class _ByToken(msgspec.Struct):
    condition_id: str


class _Token(msgspec.Struct):
    token_id: str
    winner: bool = False


class _Market(msgspec.Struct):
    condition_id: str
    tokens: list[_Token]
    closed: bool = False
    neg_risk: bool = False
    is_50_50_outcome: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketStanding:
    """A market as the CLOB knows it now."""

    market_id: MarketId
    tokens: tuple[InstrumentId, InstrumentId]
    neg_risk: bool
    closed: bool
    payouts: Payouts
    """(token, dollars a share at 1e-8) of both tokens; empty while the market is not resolved."""


async def market_of(clob: JsonClient, token: InstrumentId) -> MarketId:
    """The market of a token, listed or not. Raises ``VenueError``."""
    found = await clob.get(f"/markets-by-token/{token}", _ByToken)
    return MarketId(found.condition_id)


async def standing_of(clob: JsonClient, market_id: MarketId) -> MarketStanding:
    """Where a market stands. Raises ``VenueError``, and ``AnswerInvalid`` for an odd answer."""
    found = await clob.get(f"/markets/{market_id}", _Market)
    tokens = [InstrumentId(token.token_id) for token in found.tokens]
    if found.condition_id.lower() != market_id.lower() or len(set(tokens)) != 2 or len(tokens) != 2:
        raise AnswerInvalid(f"/markets/{market_id}: another market, or not two tokens")
    return MarketStanding(
        market_id=market_id, tokens=(tokens[0], tokens[1]), neg_risk=found.neg_risk,
        closed=found.closed, payouts=_payouts(found, tokens),
    )  # fmt: skip


async def standing_of_token(clob: JsonClient, token: InstrumentId) -> MarketStanding:
    """Where the market of a token stands. Raises ``VenueError``."""
    standing = await standing_of(clob, await market_of(clob, token))
    if token not in standing.tokens:
        raise AnswerInvalid(f"token {token} is not of the market {standing.market_id} it led to")
    return standing


def _payouts(market: _Market, tokens: list[InstrumentId]) -> Payouts:
    winners = sum(token.winner for token in market.tokens)
    if not market.closed:
        return ()
    if winners == 1:
        won = [token.winner for token in market.tokens]
        return tuple(
            (token, _WHOLE if wins else _NOTHING) for token, wins in zip(tokens, won, strict=True)
        )
    if winners == 0 and market.is_50_50_outcome:
        return tuple((token, _HALF) for token in tokens)
    return ()
