"""What the venue has no path for: giving wallets money, restricting accounts, resolving markets.

``POST /sandbox/deposit {"wallet", "amount", "owner"?, "signature_type"?, "approve"?}``: ``amount``
is a decimal text of pUSD, negative to take away; ``owner`` and ``signature_type`` (1 to 3) say
whose wallet it is, which the first order would say otherwise; ``approve`` (default true) grants
the exchanges' allowances. ``GET /sandbox/wallet/{wallet}``: what the ledger holds for it, exactly.
``POST /sandbox/account {"address", "standing"}``: ``active``, ``closed_only`` or ``banned``.
``POST /sandbox/resolve {"market", "winner"}``: 0 for the first outcome, 1 for the second.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from aiohttp import web

from fleet.domain.units import SCALE, UnitsError, parse_units
from fleet.sandbox.exchange.contract import BASE_UNIT
from fleet.sandbox.request_reading import ApiError, json_answer
from fleet.sandbox.trading.accounts import Standing
from fleet.sandbox.trading.desk import Desk
from fleet.venues.polymarket.contracts import SignatureType
from fleet.venues.polymarket.keys import SigningError, checksum_address


class DepositFrame(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /sandbox/deposit."""

    wallet: str
    amount: str
    owner: str = ""
    signature_type: Literal[0, 1, 2, 3] = 0
    approve: bool = True


class StandingFrame(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /sandbox/account."""

    address: str
    standing: Standing


class ResolveFrame(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /sandbox/resolve."""

    market: str
    winner: Literal[0, 1]


class OperatorRoutes:
    """Handlers of one desk."""

    def __init__(self, desk: Desk) -> None:
        """Act on the accounts and markets of ``desk``."""
        self._desk = desk

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register every route under ``prefix``."""
        router.add_post(f"{prefix}/deposit", self._deposit)
        router.add_get(f"{prefix}/wallet/{{wallet}}", self._wallet)
        router.add_post(f"{prefix}/account", self._account)
        router.add_post(f"{prefix}/resolve", self._resolve)

    async def _deposit(self, request: web.Request) -> web.Response:
        frame: DepositFrame = _decoded(await request.read(), DepositFrame)
        wallet = _address(frame.wallet)
        amount = _base_units(frame.amount)
        kind = SignatureType(frame.signature_type)
        if frame.owner:
            if not self._desk.accounts.claim(wallet, _address(frame.owner), kind):
                raise ApiError(
                    400,
                    f"{wallet} is not {frame.owner}'s by signature type {int(kind)}: an address"
                    " owns itself by type 0, and another wallet belongs to the first who used it",
                )
        elif kind is not SignatureType.EOA:
            raise ApiError(400, "say the owner of a wallet of signature type 1 to 3")
        if frame.approve:
            self._desk.approvals.grant(wallet)
        self._desk.exchange.deposit(wallet, amount, self._desk.now_ns())
        self._desk.publish()
        return json_answer({"wallet": wallet, "balance": str(self._desk.exchange.cash(wallet))})

    async def _wallet(self, request: web.Request) -> web.Response:
        wallet = _address(request.match_info["wallet"])
        return json_answer(
            {
                "wallet": wallet,
                "cash": str(self._desk.exchange.cash(wallet)),
                "tokens": {t: str(n) for t, n in self._desk.exchange.tokens(wallet).items()},
            }
        )

    async def _account(self, request: web.Request) -> web.Response:
        frame: StandingFrame = _decoded(await request.read(), StandingFrame)
        address = _address(frame.address)
        self._desk.accounts.set_standing(address, frame.standing)
        return json_answer({"address": address, "standing": frame.standing.value})

    async def _resolve(self, request: web.Request) -> web.Response:
        frame: ResolveFrame = _decoded(await request.read(), ResolveFrame)
        self._desk.exchange.resolve(frame.market, frame.winner, self._desk.now_ns())
        self._desk.publish()
        return json_answer({"market": frame.market, "winner": frame.winner})


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise ApiError(400, str(error)) from None


def _address(text: str) -> str:
    try:
        return checksum_address(text)
    except SigningError as error:
        raise ApiError(400, str(error)) from None


def _base_units(text: str) -> int:
    try:
        amount, rest = divmod(parse_units(text), SCALE // BASE_UNIT)
    except UnitsError as error:
        raise ApiError(400, str(error)) from None
    if rest:
        raise ApiError(400, f"{text} has more than six decimals")
    return amount
