"""The sandbox's keys, wallets and heartbeats, in memory and over a restart of their file."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.request_reading import ApiError
from fleet.sandbox.trading.accounts import Accounts, AccountsError, Standing
from fleet.sandbox.trading.heartbeats import LIMIT_NS, Heartbeats
from fleet.sandbox.trading.login import CLOCK_TOLERANCE_S, Login
from fleet.venues.polymarket.auth import ApiCredentials, l1_headers, l2_headers
from fleet.venues.polymarket.contracts import POLYGON, SignatureType
from fleet.venues.polymarket.keys import SecretKey

KEY = SecretKey(b"\x01" * 32)
OTHER = SecretKey(b"\x02" * 32)
WALLET = "0x9999999999999999999999999999999999999999"
NOW_S = 1_760_000_000
PROXY, SAFE, DEPOSIT = (
    SignatureType.POLY_PROXY, SignatureType.POLY_GNOSIS_SAFE, SignatureType.POLY_1271,
)  # fmt: skip


def test_a_key_is_the_same_after_a_restart_and_its_secrets_are_not_in_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "var" / "accounts.db"
    accounts = Accounts(path)
    key = accounts.create(KEY.address, 0)
    assert key is not None
    assert accounts.create(KEY.address, 0) is None
    gone = accounts.create(KEY.address, 1)
    assert gone is not None
    accounts.delete(gone.owner)
    accounts.close()
    assert path.stat().st_mode & 0o777 == 0o600
    written = b"".join(p.read_bytes() for p in path.parent.iterdir())
    assert key.secret.encode() not in written
    assert key.passphrase.encode() not in written
    assert key.secret not in repr(key)
    assert key.passphrase not in repr(key)
    again = Accounts(path)
    assert again.derive(KEY.address, 0) == key
    assert again.derive(KEY.address, 1) is None
    assert again.create(KEY.address, 1) is None, "a deleted key's nonce is used up"
    assert again.derive(KEY.address, 2) is None
    assert again.keys_of(KEY.address) == [key.owner]
    assert Accounts().create(KEY.address, 0) != key, "another sandbox gives other keys"


def test_a_wallet_belongs_to_the_first_who_used_it(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    accounts = Accounts(path)
    accounts.create(OTHER.address, 0)
    assert accounts.claim(KEY.address, KEY.address, SignatureType.EOA)
    assert not accounts.claim(KEY.address, KEY.address, DEPOSIT)
    assert not accounts.claim(WALLET, KEY.address, SignatureType.EOA)
    assert not accounts.claim(OTHER.address, KEY.address, SAFE), "it has a key of its own"
    assert accounts.wallet(KEY.address, SAFE) is None
    assert accounts.claim(WALLET, KEY.address, SAFE)
    assert not accounts.claim(WALLET, OTHER.address, SAFE)
    assert not accounts.claim(WALLET, KEY.address, PROXY), "of that signature type for good"
    accounts.close()
    accounts = Accounts(path)
    assert accounts.claim(WALLET, KEY.address, SAFE)
    assert not accounts.claim(WALLET, OTHER.address, SAFE)
    assert accounts.wallet(KEY.address, SAFE) == WALLET
    assert accounts.wallet(KEY.address, SignatureType.EOA) == KEY.address
    key = accounts.create(KEY.address, 0)
    assert key is not None
    assert accounts.owners_of(WALLET) == [key.owner] == accounts.owners_of(KEY.address)


def test_standing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    accounts = Accounts(path)
    assert accounts.standing(KEY.address) is Standing.ACTIVE
    accounts.set_standing(KEY.address, Standing.BANNED)
    accounts.close()
    assert Accounts(path).standing(KEY.address) is Standing.BANNED


def test_a_file_that_is_none_is_told_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    path.write_text("not a database, but long enough to be read as one" * 40)
    with pytest.raises(AccountsError, match="move it away"):
        Accounts(path)
    with pytest.raises(AccountsError, match=r"accounts\.db"):
        Accounts(path / "below")


def test_heartbeats_lapse_and_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    now = [1_000 * NS_PER_SECOND]
    accounts = Accounts(path)
    beats = Heartbeats(accounts, lambda: now[0])
    assert beats.beat("key", "guess") == (False, "")
    right, first = beats.beat("key", "")
    assert right
    assert beats.beat("key", "") == (False, first)
    right, second = beats.beat("key", first)
    assert right
    assert second != first
    assert beats.lapsed(now[0] + LIMIT_NS) == []
    assert beats.lapsed(now[0] + LIMIT_NS + 1) == ["key"]
    accounts.close()
    accounts = Accounts(path)
    now[0] += 100 * NS_PER_SECOND
    restarted = Heartbeats(accounts, lambda: now[0])
    assert restarted.lapsed(now[0] + LIMIT_NS) == []
    right, wanted = restarted.beat("key", second)
    assert not right
    assert restarted.beat("key", wanted)[0]
    assert restarted.lapsed(now[0] + LIMIT_NS + 1) == ["key"]
    restarted.end("key")
    assert restarted.lapsed(now[0] + 10 * LIMIT_NS) == []
    assert Heartbeats(accounts, lambda: now[0]).lapsed(now[0] + 10 * LIMIT_NS) == []


# --- logins ---------------------------------------------------------------------------------------


def login(accounts: Accounts, now_s: int = NOW_S) -> Login:
    return Login(accounts, lambda: now_s * NS_PER_SECOND, prefix="/clob", chain_id=POLYGON)


def wallet_of(headers: dict[str, str], now_s: int = NOW_S) -> tuple[str, int]:
    request = make_mocked_request("POST", "/clob/auth/api-key", headers=headers)
    return login(Accounts(), now_s).wallet(request)


def test_a_wallet_s_login_is_believed_only_as_signed() -> None:
    good = l1_headers(KEY, chain_id=POLYGON, timestamp_s=NOW_S, nonce=7)
    assert wallet_of(good) == (KEY.address, 7)
    assert wallet_of(good | {"POLY_ADDRESS": KEY.address.lower()}) == (KEY.address, 7)
    assert wallet_of(good, NOW_S + CLOCK_TOLERANCE_S) == (KEY.address, 7)
    assert wallet_of(good, NOW_S - CLOCK_TOLERANCE_S) == (KEY.address, 7)
    wrong = [
        good | {"POLY_ADDRESS": OTHER.address},
        good | {"POLY_ADDRESS": "0x12"},
        good | {"POLY_NONCE": "8"},
        good | {"POLY_NONCE": "-1"},
        good | {"POLY_NONCE": str(1 << 256)},
        good | {"POLY_TIMESTAMP": str(NOW_S + 1)},
        good | {"POLY_TIMESTAMP": "now"},
        good | {"POLY_SIGNATURE": "0x" + "00" * 65},
        good | {"POLY_SIGNATURE": "0xzz"},
        {},
    ]
    for headers in wrong:
        with pytest.raises(ApiError) as caught:
            wallet_of(headers)
        assert (caught.value.status, caught.value.text) == (401, "Invalid L1 Request headers")
    for now_s in (NOW_S + CLOCK_TOLERANCE_S + 1, NOW_S - CLOCK_TOLERANCE_S - 1):
        with pytest.raises(ApiError):
            wallet_of(good, now_s)


def test_a_key_s_requests_are_believed_only_as_signed() -> None:
    accounts = Accounts()
    key = accounts.create(KEY.address, 0)
    assert key is not None
    credentials = ApiCredentials(
        address=key.address, api_key=key.owner, secret=key.secret, passphrase=key.passphrase
    )
    body = b'{"orderID":"0x12"}'
    good = l2_headers(credentials, NOW_S, "DELETE", "/order", body)

    def owner(
        headers: dict[str, str],
        *,
        method: str = "DELETE",
        path: str = "/clob/order",
        sent: bytes = body,
        now_s: int = NOW_S,
    ) -> str:
        request = make_mocked_request(method, path, headers=headers)
        request._read_bytes = sent
        return asyncio.run(login(accounts, now_s).key(request)).owner

    assert owner(good) == key.owner
    assert owner(good, path="/clob/order?next_cursor=MA==") == key.owner, "no query is signed"
    assert owner(good, now_s=NOW_S + CLOCK_TOLERANCE_S) == key.owner
    cases = [
        {"headers": good, "sent": body + b" "},
        {"headers": good, "method": "POST"},
        {"headers": good, "path": "/clob/orders"},
        {"headers": good, "path": "/order/clob"},
        {"headers": good, "now_s": NOW_S + CLOCK_TOLERANCE_S + 1},
        {"headers": good | {"POLY_PASSPHRASE": "x"}},
        {"headers": good | {"POLY_ADDRESS": OTHER.address}},
        {"headers": good | {"POLY_API_KEY": "x"}},
        {"headers": good | {"POLY_SIGNATURE": "x"}},
        {"headers": good | {"POLY_TIMESTAMP": ""}},
        {"headers": {}},
    ]
    for case in cases:
        with pytest.raises(ApiError) as caught:
            owner(**case)  # type: ignore[arg-type]
        assert (caught.value.status, caught.value.text) == (401, "Unauthorized/Invalid api key")
    accounts.delete(key.owner)
    with pytest.raises(ApiError):
        owner(good)


def test_the_file_is_one_that_sqlite_reads(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    accounts = Accounts(path)
    accounts.create(KEY.address, 0)
    accounts.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT address, nonce, deleted FROM api_key").fetchall() == [
        (KEY.address, "0", 0)
    ]
    db.close()
