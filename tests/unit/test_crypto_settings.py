"""Binance's settings: which key and address an environment means, and what is told of a wrong one."""

import pickle

import pytest

from fleet.config import ConfigError, load
from fleet.runtime.crypto_settings import CryptoEnv, credentials_of, hosts_of
from fleet.venues.crypto.credentials import ApiCredentials, CredentialsError
from fleet.venues.crypto.hosts import CryptoHosts

KEY, HIDDEN = "k" * 63 + "1", "s" * 63 + "2"


def test_an_environment_is_a_key_and_an_address() -> None:
    env = load(CryptoEnv, {
        "BINANCE_LIVE_API_KEY": KEY, "BINANCE_LIVE_API_SECRET": HIDDEN,
        "BINANCE_SANDBOX_PORT": "9001",
    })  # fmt: skip
    assert credentials_of(env, "live").key == KEY
    assert hosts_of(env, "live").rest_url == "https://api.binance.com"
    assert hosts_of(env, "testnet").rest_url == "https://testnet.binance.vision"
    assert not hosts_of(env, "testnet").wallet_api
    assert hosts_of(env, "sandbox").ws_url == "ws://127.0.0.1:9001"
    assert hosts_of(env, "sandbox").local
    assert credentials_of(env, "sandbox").key != KEY


@pytest.mark.parametrize(
    ("settings", "environment", "told"),
    [
        ({}, "testnet", "BINANCE_TESTNET_API_KEY and BINANCE_TESTNET_API_SECRET are not both"),
        ({"BINANCE_LIVE_API_KEY": KEY}, "live", "are not both set"),
        ({"BINANCE_LIVE_API_KEY": KEY, "BINANCE_LIVE_API_SECRET": "short"}, "live", "64 letters"),
        ({"BINANCE_LIVE_API_KEY": KEY, "BINANCE_LIVE_API_SECRET": "-PRIVATE KEY-"}, "live", "HMAC"),
        ({}, "moon", "live, testnet or sandbox"),
    ],
)
def test_what_is_missing_is_named_and_what_is_secret_is_not(
    settings: dict[str, str], environment: str, told: str
) -> None:
    env = load(CryptoEnv, settings)
    with pytest.raises(ConfigError, match=told) as caught:
        credentials_of(env, environment)
    assert not any(value in str(caught.value) for value in settings.values())
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("window", ["0", "60001"])
def test_a_window_the_venue_refuses_is_refused_here(window: str) -> None:
    with pytest.raises(ConfigError, match="write 5000"):
        load(CryptoEnv, {"BINANCE_RECV_WINDOW_MS": window})


def test_a_key_pair_shows_itself_to_nobody() -> None:
    pair = ApiCredentials(KEY, HIDDEN)
    assert repr(pair) == str(pair) == "ApiCredentials(***)"
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(pair)
    with pytest.raises(CredentialsError) as caught:
        ApiCredentials(KEY, HIDDEN[:-1] + "!")
    assert HIDDEN[:20] not in str(caught.value)


def test_a_signature_is_the_one_of_binances_documentation() -> None:
    # The example of "SIGNED endpoint examples for POST /api/v3/order" of its API documentation.
    pair = ApiCredentials(
        "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
        "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j",
    )
    query = (
        b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1"
        b"&recvWindow=5000&timestamp=1499827319559"
    )
    assert pair.sign(query) == "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"


@pytest.mark.parametrize(
    "url", ["http://api.binance.com", "ftp://x", "https://api.binance.com/api", "nonsense"]
)
def test_an_address_in_the_clear_or_of_another_shape_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"clear|address|end after"):
        CryptoHosts(rest_url=url)
