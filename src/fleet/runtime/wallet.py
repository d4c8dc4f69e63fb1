"""The trading wallet's settings, its key, and the address its funds must be at.

Invariants: the key's text is read here and handed to ``SecretKey`` at once; no exception raised
here quotes it. A key file that others may read is refused. Nothing here signs or sends.

The addresses of proxies and Safes follow from the key (CREATE2); factories and code hashes as in
the official clients' configuration (read 2026-11). A deposit wallet's does not follow by a rule we
have tested, so it is not worked out: the venue's own answer and the smoke order tell.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from fleet.config import ConfigError, Paths, load, read_env_file, settings_of
from fleet.runtime.settings import WalletEnv
from fleet.venues.polymarket.contracts import SignatureType
from fleet.venues.polymarket.keys import SecretKey, SigningError, checksum_address, keccak

SAFE_FACTORY: Final = "0xaacFeEa03eb1561C4e67d661e40682Bd20E3541b"
SAFE_CODE_HASH: Final = "2bce2127ff07fb632d16c8347c4ebf501f4841168bed00d9e6ef715ddb6fcecf"
PROXY_FACTORY: Final = "0xaB45c5A4B0c941a2F231C04C3f49182e1A254052"
PROXY_CODE_HASH: Final = "d21df8dc65880a8606f09fe0ce3df9b8869287ab0b058be05aa9e8af6330a00b"
KEY_BYTES_MAX: Final = 4_096


def load_wallet(paths: Paths, environ: Mapping[str, str], bot: str = "") -> WalletEnv:
    """The wallet of a bot (its slug). Raises ``ConfigError``.

    A bot that has a file of its own, ``wallets/BOT.env``, has its wallet from there alone: a key of
    one bot is never mixed with the address of another. Otherwise the settings come from ``.env``,
    overruled by the environment.
    """
    own = paths.wallet_file(bot)
    if bot and own.exists():
        pairs = read_env_file(own, _pairs)
        wrong = sorted(pairs.keys() - {setting.key for _, setting in settings_of(WalletEnv)})
        if wrong:
            raise ConfigError([f"{key} in {own} is no setting of a wallet" for key in wrong])
        return load(WalletEnv, pairs)
    pairs = read_env_file(paths.env_file, _pairs)
    return load(WalletEnv, {**pairs, **environ})


def _pairs(file: Path) -> dict[str, str | None]:
    return dotenv_values(stream=io.StringIO(file.read_text(encoding="utf-8")), interpolate=False)


def read_key(wallet: WalletEnv) -> SecretKey:
    """The key that signs. Raises ``ConfigError``, which never quotes it."""
    if wallet.key_file is not None:
        return _key_of_file(wallet.key_file)
    if not wallet.private_key:
        problem = (
            "there is no key: set POLYMARKET_PRIVATE_KEY in .env, or POLYMARKET_KEY_FILE to a file"
            " of mode 0600 that holds it"
        )
        raise ConfigError([problem])
    return _key_of(wallet.private_key.reveal(), "POLYMARKET_PRIVATE_KEY")


def _key_of_file(file: Path) -> SecretKey:
    try:
        mode = file.stat().st_mode
        if mode & 0o077:
            raise ConfigError([f"{file} can be read by others: run `chmod 600 {file}`"])
        with file.open(encoding="ascii") as lines:
            return _key_of(lines.readline(KEY_BYTES_MAX), f"the first line of {file}")
    except OSError as error:
        raise ConfigError(
            [f"POLYMARKET_KEY_FILE {file} cannot be read: {error.strerror}; correct the path"]
        ) from error
    except UnicodeDecodeError:
        # Its text would quote what it could not read, so it is not told and not chained.
        problem = f"the first line of {file} is not 64 hex digits: put the key there alone"
    raise ConfigError([problem])


def _key_of(text: str, where: str) -> SecretKey:
    try:
        return SecretKey.from_hex(text)
    except SigningError as error:
        problem = f"{where}: {error}"
    finally:
        text = ""
    raise ConfigError([problem])


def funder_of(wallet: WalletEnv, signer: str) -> str | None:
    """The address the funds are at: as configured, or for ``eoa`` the key's own."""
    if wallet.signature_type is SignatureType.EOA:
        return wallet.funder or signer
    return wallet.funder


def expected_funder(kind: SignatureType, signer: str) -> str | None:
    """The only address a wallet of this kind can have for this key, if there is a known rule."""
    own = bytes.fromhex(signer[2:])
    match kind:
        case SignatureType.EOA:
            return signer
        case SignatureType.POLY_PROXY:
            return _create2(PROXY_FACTORY, keccak(own), PROXY_CODE_HASH)
        case SignatureType.POLY_GNOSIS_SAFE:
            return _create2(SAFE_FACTORY, keccak(bytes(12) + own), SAFE_CODE_HASH)
        case SignatureType.POLY_1271:
            return None


def _create2(factory: str, salt: bytes, code_hash: str) -> str:
    """EIP-1014: the last 20 bytes of keccak(0xff, factory, salt, code hash)."""
    packed = b"\xff" + bytes.fromhex(factory[2:]) + salt + bytes.fromhex(code_hash)
    return checksum_address("0x" + keccak(packed)[12:].hex())
