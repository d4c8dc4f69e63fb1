"""The one object that holds the trading key, and the narrow things it will sign.

Theory of operation. A ``SigningGuard`` takes the key at construction and never gives it back: it
has no method that returns it, no attribute without a mangled name, no repr, pickle or copy that
shows it. It signs three things and nothing else:

- an *order* it builds itself from an approved ``SubmitOrder``: a known token, a price on that
  token's grid, a quantity above the minimum and in whole hundredths, a notional within the limit,
  for the exchange contract that settles the token;
- the *login* to the venue (ClobAuth), whose text the guard knows by heart;
- *transactions* of the closed list in ``chain_transactions``.

Each signature is made only while the wallet's lease is held: a second engine on the same wallet
must not be able to sign. A refusal is a ``GuardRefused`` with a code that can be counted.

How an order becomes one and only one order. Its salt is a hash of the wallet and the client order
id, its timestamp the moment of the decision, its amounts follow from price and quantity alone. So
the same ``SubmitOrder`` always has the same id, here, in another process and after a restart, and
there is no way to sign a second order for one client order id: a retry is the same order.

What is asked of the venue, and why (reference 4.3 and 4.5):

- every order is *limit-sized*: ``qty`` shares, and price x qty dollars. A FOK or FAK BUY would be
  sized in dollars, would spend them all and so buy *more* shares than approved wherever the book is
  better than its limit, and its dollars would be cut to whole cents;
- therefore a FAK BUY goes out as GTC and its rest is cancelled at once (``live_orders``);
- a FAK SELL is sized in shares by the venue itself and goes out as FAK; so does a FOK SELL;
- a FOK BUY has no honest form here and is refused; so is GTD, whose end no command says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NoReturn

from fleet.clock import NS_PER_MS
from fleet.domain.commands import SubmitOrder, TimeInForce
from fleet.domain.events import VenueOrderId
from fleet.domain.instruments import Instrument, InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, format_dollars, format_units, notional_up
from fleet.venues.polymarket.amounts import AmountError, limit_amounts
from fleet.venues.polymarket.auth import l1_headers
from fleet.venues.polymarket.chain_transactions import TransactionSigner
from fleet.venues.polymarket.contracts import POLYGON, ContractError, SignatureType
from fleet.venues.polymarket.keys import SecretKey, SigningError, keccak
from fleet.venues.polymarket.signing import (
    MAX_SALT,
    ExchangeOrder,
    OrderSigner,
    SignedOrder,
    wire_body,
)

FINEST_TICK: Final = Price(10_000)
"""The venue's finest grid (reference 4.5); amounts of a limit order are the same on every grid."""


class GuardCode(Enum):
    """Why nothing was signed; a closed list."""

    LEASE_LOST = "LEASE_LOST"
    TOKEN_UNKNOWN = "TOKEN_UNKNOWN"  # noqa: S105 - an outcome token, no secret
    PRICE_OFF_GRID = "PRICE_OFF_GRID"
    QTY_INVALID = "QTY_INVALID"
    NOTIONAL_ABOVE_LIMIT = "NOTIONAL_ABOVE_LIMIT"
    KIND_NOT_OFFERED = "KIND_NOT_OFFERED"
    FIELDS_INVALID = "FIELDS_INVALID"


class GuardRefused(Exception):  # noqa: N818 - named for what happened
    """The guard did not sign; ``code`` says why, the text what to do."""

    def __init__(self, code: GuardCode, text: str) -> None:
        """Keep the code and say it with the reason."""
        super().__init__(f"{code.value}: {text}")
        self.code = code


_BUY: Final = Side.BUY
_FAK: Final = TimeInForce.FAK
_FOK: Final = TimeInForce.FOK
_GTC: Final = TimeInForce.GTC
_GTD: Final = TimeInForce.GTD
_UNSIGNED: Final = GuardRefused(GuardCode.FIELDS_INVALID, "not signed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningLimits:
    """The hardest limits there are: nothing beyond them is ever signed, whoever asks."""

    max_order_notional: Cash = Cash(500 * SCALE)

    def __post_init__(self) -> None:
        """Refuse a limit that permits nothing or anything."""
        if self.max_order_notional <= 0:
            raise ValueError("max_order_notional must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOrder:
    """A signed order as it is posted: its id, its exact bytes, and the kind the venue is told."""

    venue_order_id: VenueOrderId
    body: bytes
    wire_tif: TimeInForce


class SigningGuard:
    """Holds the key of one wallet and signs what it may."""

    def __init__(
        self,
        key: SecretKey,
        *,
        instruments: Mapping[InstrumentId, Instrument],
        lease_alive: Callable[[], bool],
        limits: SigningLimits | None = None,
        tick_of: Callable[[InstrumentId], Price] | None = None,
        chain_id: int = POLYGON,
        signature_type: SignatureType = SignatureType.EOA,
        funder: str | None = None,
    ) -> None:
        """Take the key; the caller should drop its own reference.

        ``tick_of`` tells a token's grid as it is now (by default the catalogue's). Raises
        ``SigningError`` or ``ContractError`` for a wallet or chain that cannot trade.
        """
        self.__key = key
        self.__orders = OrderSigner(
            key, chain_id=chain_id, signature_type=signature_type, funder=funder
        )
        self._instruments = instruments
        self._lease_alive = lease_alive
        self._limits = limits or SigningLimits()
        self._tick_of = tick_of or (lambda token: instruments[token].tick)
        self.address: Final = key.address
        self.wallet: Final = self.__orders.maker
        self.chain_id: Final = chain_id
        self.signature_type: Final = signature_type
        self.signed = 0
        """Orders signed in this process."""

    def __repr__(self) -> str:
        return f"SigningGuard({self.address}, wallet={self.wallet})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a SigningGuard cannot be pickled or copied")

    # --- orders -------------------------------------------------------------------------------

    def venue_order_id(self, request: SubmitOrder) -> VenueOrderId:
        """The id this order has at the venue, signed or not. Raises ``GuardRefused``."""
        return VenueOrderId(self.__orders.order_id(self._build(request)))

    def sign_order(self, request: SubmitOrder, owner: str, *, post_only: bool = False) -> WireOrder:
        """Sign one approved order; ``owner`` is the API key's id. Raises ``GuardRefused``.

        ``post_only`` (a GTC that must not take) is not part of what is signed, only of the bytes.
        """
        (wire,) = self.sign_orders([request], owner, post_only=post_only)
        if isinstance(wire, GuardRefused):
            raise wire
        return wire

    def sign_orders(
        self, requests: Sequence[SubmitOrder], owner: str, *, post_only: bool = False
    ) -> list[WireOrder | GuardRefused]:
        """Sign each order or say why not, in the order given; all are hashed first, then signed."""
        made: list[WireOrder | GuardRefused] = []
        built: list[tuple[int, SubmitOrder, ExchangeOrder]] = []
        for index, request in enumerate(requests):
            try:
                self._check(request)
                order = self._build(request)
                self._require_lease()
            except GuardRefused as refusal:
                made.append(refusal)
            else:
                built.append((index, request, order))
                made.append(_UNSIGNED)
        for (index, request, _), signed in zip(
            built, self.__orders.sign_all([order for _, _, order in built]), strict=True
        ):
            made[index] = self._posted(signed, request, owner, post_only=post_only)
        return made

    def _posted(
        self, signed: SignedOrder, request: SubmitOrder, owner: str, *, post_only: bool
    ) -> WireOrder | GuardRefused:
        wire_tif = wire_tif_of(request)
        try:
            body = wire_body(signed, owner, wire_tif, post_only=post_only)
        except SigningError as error:
            return GuardRefused(GuardCode.FIELDS_INVALID, str(error))
        self.signed += 1
        return WireOrder(venue_order_id=VenueOrderId(signed.order_id), body=body, wire_tif=wire_tif)

    def _check(self, request: SubmitOrder) -> None:
        instrument = self._instruments.get(request.instrument_id)
        if instrument is None:
            raise GuardRefused(
                GuardCode.TOKEN_UNKNOWN, f"token {request.instrument_id} is not in the catalogue"
            )
        if request.tif is _GTD or (request.tif is _FOK and request.side is _BUY):
            raise GuardRefused(
                GuardCode.KIND_NOT_OFFERED,
                f"a {request.tif.value} {request.side.value} is not offered here; use FAK or GTC",
            )
        tick = self._tick_of(request.instrument_id)
        if request.price % tick or not tick <= request.price <= SCALE - tick:
            raise GuardRefused(
                GuardCode.PRICE_OFF_GRID,
                f"{format_units(request.price)} is not on the grid of {format_units(tick)}",
            )
        if request.qty < instrument.min_qty or request.qty % instrument.lot:
            raise GuardRefused(
                GuardCode.QTY_INVALID,
                f"{format_units(request.qty)} shares: whole lots of {format_units(instrument.lot)},"
                f" at least {format_units(instrument.min_qty)}",
            )
        notional = notional_up(request.price, request.qty)
        # As in ``engine.risk``: what is bought puts money at stake. A sale sends away no more than
        # is held, and what has grown, or was bought at a higher stage, must find its way out.
        if notional > self._limits.max_order_notional and request.side is _BUY:
            raise GuardRefused(
                GuardCode.NOTIONAL_ABOVE_LIMIT,
                f"{format_dollars(notional)} dollars, at most "
                f"{format_dollars(self._limits.max_order_notional)} are ever signed",
            )

    def _build(self, request: SubmitOrder) -> ExchangeOrder:
        instrument = self._instruments.get(request.instrument_id)
        if request.ts < 0:
            raise GuardRefused(GuardCode.FIELDS_INVALID, f"time {request.ts} is before 1970")
        try:
            return self.__orders.order(
                token_id=request.instrument_id,
                side=request.side,
                amounts=limit_amounts(request.side, request.price, request.qty, FINEST_TICK),
                neg_risk=instrument is not None and instrument.neg_risk,
                salt=salt_of(self.wallet, request.client_order_id),
                timestamp_ms=request.ts // NS_PER_MS,
            )
        except (AmountError, SigningError, ContractError) as error:
            raise GuardRefused(GuardCode.FIELDS_INVALID, str(error)) from error

    # --- the login ----------------------------------------------------------------------------

    def login_headers(self, timestamp_s: int, nonce: int = 0) -> dict[str, str]:
        """The L1 headers of the API-key endpoints. Raises ``GuardRefused`` without the lease."""
        self._require_lease()
        return l1_headers(self.__key, chain_id=self.chain_id, timestamp_s=timestamp_s, nonce=nonce)

    def transactions(self) -> TransactionSigner:
        """A signer of this wallet's token operations, under the same lease; it shows no key either.

        Raises ``ContractError`` for a chain without the venue's adapters.
        """
        return TransactionSigner(self.__key, chain_id=self.chain_id, permit=self._require_lease)

    def _require_lease(self) -> None:
        if not self._lease_alive():
            raise GuardRefused(
                GuardCode.LEASE_LOST,
                f"the lease of wallet {self.wallet} is not held; is another engine running on it?",
            )


def wire_tif_of(request: SubmitOrder) -> TimeInForce:
    """The kind the venue is told: a FAK BUY rests for a moment and is cancelled by hand."""
    if request.tif is _FAK and request.side is _BUY:
        return _GTC
    return request.tif


def salt_of(wallet: str, client_order_id: str) -> int:
    """The salt of an order: the same for the same wallet and client order id, below 2^53."""
    digest = keccak(f"{wallet.lower()}:{client_order_id}".encode())
    return int.from_bytes(digest[:8], "big") % MAX_SALT
