"""A wallet's private key, and the few primitives of Ethereum its signatures need.

Invariants: a ``SecretKey`` shows itself in no repr, pickle or copy, and no exception raised here
holds a secret in one of its own frames; signing is deterministic (RFC 6979). Keccak is the native
one of safe-pysha3, the curve is libsecp256k1 through coincurve.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NoReturn

from coincurve import PrivateKey, PublicKey
from coincurve._libsecp256k1 import ffi, lib
from sha3 import keccak_256

_CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# coincurve's own binding of libsecp256k1, without the layers that cost 1 us a signature.
_new: Final = ffi.new
_sign: Final = lib.secp256k1_ecdsa_sign_recoverable
_serialize: Final = lib.secp256k1_ecdsa_recoverable_signature_serialize_compact
_SIGNATURE: Final = "secp256k1_ecdsa_recoverable_signature *"
_COMPACT: Final = "unsigned char[64]"
_PARITY: Final = "int *"
_RFC_6979: Final = ffi.NULL
"""As the nonce function: libsecp256k1's default, the deterministic nonce of RFC 6979."""


class SigningError(ValueError):
    """Something that cannot be signed as given; never carries a secret."""


def keccak(payload: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not NIST SHA3-256, which pads differently)."""
    digest: bytes = keccak_256(payload).digest()
    return digest


class SecretKey:
    """A wallet's private key: signs digests, tells its address, and shows nothing else."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        """Hold 32 secret bytes. Raises ``SigningError`` if they are no secp256k1 key."""
        # Checked here and wiped before raising: coincurve would raise with the key in its frame.
        if not _is_key(secret):
            secret = b""
            raise SigningError("the private key is not 32 bytes in the range of secp256k1")
        self._key = PrivateKey(secret)
        self.address: Final = address_of(self._key.public_key)

    @classmethod
    def from_hex(cls, text: str) -> SecretKey:
        """Read 64 hex digits, with or without 0x. Raises ``SigningError`` without quoting them."""
        try:
            secret = bytes.fromhex(text.strip().removeprefix("0x"))
        except ValueError:
            secret = b""
        text = ""
        if not _is_key(secret):
            secret = b""
            raise SigningError(
                "the private key must be 64 hex digits, with or without 0x, in the range of "
                "secp256k1"
            )
        return cls(secret)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes: 65 bytes r, s, v with v 27 or 28, deterministic, low s.

        Raises ``SigningError`` for another length.
        """
        return self.sign_digests((digest,))[0]

    def sign_digests(self, digests: Sequence[bytes]) -> list[bytes]:
        """``sign_digest`` of each, one right after the other: the curve's tables stay in cache.

        The secret goes to the C function from where it lies: into no copy and no frame. The context
        is coincurve's, blinded with random bytes when it was made.
        """
        context = self._key.context.ctx
        signature, compact, parity = _new(_SIGNATURE), _new(_COMPACT), _new(_PARITY)
        text = ffi.buffer(compact)
        signatures = []
        for digest in digests:
            # A shorter one would be read beyond its end.
            if len(digest) != 32 or not _sign(
                context, signature, digest, self._key.secret, _RFC_6979, ffi.NULL
            ):
                raise SigningError("only 32 bytes can be signed, with a key of secp256k1")
            _serialize(context, compact, parity, signature)
            signatures.append(text[:] + (b"\x1c" if parity[0] else b"\x1b"))
        return signatures

    def __repr__(self) -> str:
        return f"SecretKey({getattr(self, 'address', 'refused')})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a SecretKey cannot be pickled or copied")


@lru_cache(maxsize=256)
def checksum_address(address: str) -> str:
    """``address`` in the mixed case of EIP-55.

    Raises ``SigningError`` unless it is 0x and 40 hex digits whose case, if mixed, is right.
    """
    digits = address.removeprefix("0x")
    lower = digits.lower()
    if len(digits) != 40 or len(address) != 42 or not set(lower) <= set("0123456789abcdef"):
        raise SigningError(f"{address!r} is no address: 0x and 40 hex digits")
    nibbles = keccak(lower.encode()).hex()
    mixed = "".join(
        c.upper() if int(n, 16) >= 8 else c for c, n in zip(lower, nibbles, strict=False)
    )
    if digits not in {lower, digits.upper(), mixed}:
        raise SigningError(f"{address} has a wrong checksum; is a digit mistyped?")
    return "0x" + mixed


def recover_address(digest: bytes, signature: bytes) -> str:
    """The address of the key that made the 65-byte ``signature`` (v 27 or 28) of ``digest``.

    Raises ``SigningError`` if it is no signature.
    """
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise SigningError("a signature is 65 bytes that end in 27 or 28")
    compact = signature[:64] + bytes((signature[64] - 27,))
    try:
        public = PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except ValueError as error:
        raise SigningError("no key can have made this signature") from error
    return address_of(public)


def address_of(public: PublicKey) -> str:
    """The checksummed address of a public key: the last 20 bytes of its Keccak."""
    return checksum_address("0x" + keccak(public.format(compressed=False)[1:])[12:].hex())


def _is_key(secret: bytes) -> bool:
    return len(secret) == 32 and 0 < int.from_bytes(secret, "big") < _CURVE_ORDER
