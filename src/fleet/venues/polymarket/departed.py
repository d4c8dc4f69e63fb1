"""The instruments of tokens that left the catalogue while something of theirs was still open.

Gamma lists open markets; an order, a fill or a position may outlive its market by hours, over a
restart. Its fills must carry their fee all the same, or the journal and the venue never agree
again, so the rules of such a market are read from the CLOB alone. Nobody trades on them: they are
not in the universe.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from fleet import logs
from fleet.domain.instruments import FeeSchedule, Instrument, InstrumentError, InstrumentId
from fleet.domain.units import Price, Qty
from fleet.venues.polymarket.listings import Oddity, exact_units
from fleet.venues.polymarket.resolutions import market_of
from fleet.venues.port import AnswerInvalid, RequestRefused
from fleet.venues.transport import JsonClient


class _Token(msgspec.Struct):
    t: InstrumentId
    o: str


class _Fees(msgspec.Struct):
    r: Decimal
    e: Decimal = Decimal(1)


class _Market(msgspec.Struct):
    t: list[_Token]
    mts: Decimal
    mos: Decimal
    nr: bool = False
    fd: _Fees | None = None


async def departed_instruments(
    clob: JsonClient, tokens: Iterable[InstrumentId]
) -> dict[InstrumentId, Instrument]:
    """The instruments of ``tokens``. Those the venue forgot are left out, with a warning.

    Raises ``TransportFailed`` if the venue does not answer.
    """
    found: dict[InstrumentId, Instrument] = {}
    for token in tokens:
        try:
            found[token] = await _read(clob, token)
        except (RequestRefused, AnswerInvalid, InstrumentError, Oddity) as error:
            logs.get("catalog").warning("MARKET forgotten by the venue", token=token,
                                        reason=str(error))  # fmt: skip
    return found


async def _read(clob: JsonClient, token: InstrumentId) -> Instrument:
    market_id = await market_of(clob, token)
    rules = await clob.get(f"/clob-markets/{market_id}", _Market)
    outcomes = {one.t: one.o for one in rules.t}
    others = [one.t for one in rules.t if one.t != token]
    fees = rules.fd or _Fees(r=Decimal(0))
    if token not in outcomes or len(others) != 1 or fees.e != int(fees.e):
        raise Oddity(f"market {market_id} has other tokens, or a fee of no known kind")
    return Instrument(
        id=token, market_id=market_id, complement=others[0], outcome=outcomes[token],
        tick=Price(exact_units(rules.mts, "tick")), min_qty=Qty(exact_units(rules.mos, "minimum")),
        fees=FeeSchedule(rate=exact_units(fees.r, "fee rate"), exponent=int(fees.e)),
        neg_risk=rules.nr,
    )  # fmt: skip
