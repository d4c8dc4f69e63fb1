"""Who we are to the venue: login and header vectors, wallet keys, and secrets that stay secret."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from types import TracebackType

import pytest
from coincurve import PrivateKey

from fleet.venues.polymarket.auth import ApiCredentials, l1_headers, l2_headers
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.keys import SecretKey, SigningError, checksum_address
from fleet.venues.polymarket.signing import OrderSigner

SECRET = bytes([1]) * 32
ADDRESS = "0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1"
OWNER = "00000000-0000-0000-0000-000000000001"


def test_the_login_matches_its_vector() -> None:
    headers = l1_headers(SecretKey(SECRET), chain_id=POLYGON, timestamp_s=1760000000)
    assert headers == {
        "POLY_ADDRESS": ADDRESS,
        "POLY_SIGNATURE": (
            "0x39fb062ac2ac3dbddeddc003602b87262dc256ac12b026caf3e34b9a0493efc0"
            "480608acf2d6304739400d55fc17fcbe5042761f7d673e91a93278db61bdde5f1b"
        ),
        "POLY_TIMESTAMP": "1760000000",
        "POLY_NONCE": "0",
    }


def credentials(secret: str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=") -> ApiCredentials:
    return ApiCredentials(address=ADDRESS, api_key=OWNER, secret=secret, passphrase="open sesame")


def test_the_request_headers_match_their_vector() -> None:
    headers = l2_headers(credentials(), 1760000000, "DELETE", "/order", b'{"orderID":"0x12"}')
    assert headers == {
        "POLY_ADDRESS": ADDRESS,
        "POLY_SIGNATURE": "OUD3bJcHsRBhi6YuEKmo-eNIOXfHTYuiO8n_uMEUuGo=",
        "POLY_TIMESTAMP": "1760000000",
        "POLY_API_KEY": OWNER,
        "POLY_PASSPHRASE": "open sesame",
    }


@pytest.mark.parametrize("path", ["/data/orders?id=1", "order"])
def test_headers_are_not_signed_for_a_path_the_venue_would_not_hash(path: str) -> None:
    with pytest.raises(SigningError, match="no query"):
        l2_headers(credentials(), 1760000000, "GET", path)


@pytest.mark.parametrize("secret", ["", "not base64!", "AQE", "AQ EB"])
def test_a_secret_that_is_not_base64_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(SigningError) as caught:
        credentials(secret)
    assert "not base64!" not in str(caught.value)
    assert "AQ" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["0x12", "1a642f0E3c3aF545E7AcBD38b07251B3990914F1", "0x" + "g" * 40]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SigningError, match="40 hex digits"):
        checksum_address(address)


def test_a_mistyped_address_is_caught_by_its_checksum() -> None:
    assert checksum_address(ADDRESS.lower()) == ADDRESS
    with pytest.raises(SigningError, match="checksum"):
        checksum_address(ADDRESS.replace("E3c3", "e3c3"))


@pytest.mark.parametrize(
    "text",
    ["", "0x", "01" * 31, "01" * 33, "zz" * 32, "00" * 32, "ff" * 32, "0x" + "fe" * 31],
)
def test_what_is_no_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(SigningError) as caught:
        SecretKey.from_hex(text)
    if len(text) > 2:
        assert text not in str(caught.value)


def test_a_key_is_read_with_or_without_its_prefix() -> None:
    assert SecretKey.from_hex("0x" + SECRET.hex()).address == ADDRESS
    assert SecretKey.from_hex(SECRET.hex() + "\n").address == ADDRESS


def frame_values(trace: TracebackType | None) -> str:
    """The repr of every local of our own module in a traceback, as a log would show it."""
    shown = []
    while trace is not None:
        if "/fleet/venues/" in trace.tb_frame.f_code.co_filename:
            shown.append(repr(trace.tb_frame.f_locals))
        trace = trace.tb_next
    assert shown
    return "".join(shown)


@pytest.mark.parametrize("text", ["ee" * 31, "ff" * 32, "ee" * 31 + "zz"])
def test_a_refused_key_is_in_no_frame_of_its_traceback(text: str) -> None:
    with pytest.raises(SigningError) as caught:
        SecretKey.from_hex(text)
    error: BaseException | None = caught.value
    while error is not None:
        shown = frame_values(error.__traceback__)
        assert text[:16] not in shown
        assert repr(bytes.fromhex(text[:16]))[2:-1] not in shown
        error = error.__context__


def test_refused_credentials_are_in_no_frame_of_their_traceback() -> None:
    with pytest.raises(SigningError) as caught:
        credentials("secret!secret")
    shown = frame_values(caught.value.__traceback__)
    assert "secret!secret" not in shown
    assert "open sesame" not in shown


def test_secrets_show_in_no_repr_pickle_or_copy() -> None:
    key, creds = SecretKey(SECRET), credentials()
    account = OrderSigner(key)
    for shown in (repr(key), str(key), repr(account), repr(creds), f"{creds} {key}"):
        assert SECRET.hex() not in shown
        assert repr(SECRET)[2:-1] not in shown
        assert "sesame" not in shown
        assert "AQEB" not in shown
    for secret in (key, creds, account):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(secret)
        with pytest.raises(TypeError, match="cannot be pickled"):
            copy.deepcopy(secret)


def digests(count: int) -> list[bytes]:
    return [sha256(number.to_bytes(4, "big")).digest() for number in range(count)]


def by_coincurve(digest: bytes) -> bytes:
    """What coincurve's own Python says: r, s and the recovery id, which goes on the wire as v."""
    signature = PrivateKey(SECRET).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([27 + signature[64]])


def test_a_signature_is_the_one_coincurve_makes() -> None:
    assert SecretKey(SECRET).sign_digests(digests(200)) == [by_coincurve(d) for d in digests(200)]
    assert SecretKey(SECRET).sign_digest(digests(1)[0]) == by_coincurve(digests(1)[0])
    assert SecretKey(SECRET).sign_digests([]) == []


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_only_32_bytes_are_signed(length: int) -> None:
    key = SecretKey(SECRET)
    with pytest.raises(SigningError, match="only 32 bytes") as caught:
        key.sign_digests([bytes(32), bytes(length)])
    assert repr(SECRET)[2:-1] not in frame_values(caught.value.__traceback__)


def test_two_threads_that_sign_do_not_share_what_they_write_to() -> None:
    key, batches = SecretKey(SECRET), [digests(300), digests(300)[::-1]] * 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(key.sign_digests, batches))
    assert found == [[by_coincurve(d) for d in batch] for batch in batches]
