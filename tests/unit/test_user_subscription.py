"""The first frame of the user websocket carries the very credentials it was made of."""

import base64
import hashlib
import hmac
import json

import pytest

from fleet.venues.polymarket.auth import ApiCredentials


@pytest.mark.parametrize("length", [1, 32, 64, 100])
def test_the_subscription_and_the_signature_use_the_secret_given(length: int) -> None:
    raw = bytes(range(length))
    secret = base64.urlsafe_b64encode(raw).decode()
    made = ApiCredentials(address="0xa", api_key="id", secret=secret, passphrase="words")
    auth = json.loads(made.subscription())["auth"]
    assert auth == {"apiKey": "id", "secret": secret, "passphrase": "words"}
    digest = hmac.digest(raw, b"message", hashlib.sha256)
    assert made.hmac(b"message") == base64.urlsafe_b64encode(digest).decode()
