"""py-clob-client-v2 from two decided orders to the signed request that would post them.

Uses its own classes as its ``create_market_order`` and ``post_orders`` do, without their network
calls: build and sign two FAK orders, make the JSON body of POST /orders, sign the headers.
coincurve is installed, which its signing library picks up by itself.

Run by bench/run.py with the Python of bench/.peers: ``clob_client.py COUNT``.
"""

from __future__ import annotations

import json
import sys

import coincurve
from eth_keys.backends import get_backend_class
from frames import NO, YES
from py_clob_client_v2.clob_types import (
    ApiCreds,
    CreateOrderOptions,
    MarketOrderArgsV2,
    RequestArgs,
)
from py_clob_client_v2.headers.headers import create_level_2_headers
from py_clob_client_v2.order_builder.builder import OrderBuilder
from py_clob_client_v2.order_utils.model.order_data_v2 import order_to_json_v2
from py_clob_client_v2.signer import Signer
from timing import report, summary, time_each

KEY = "01" * 32
OWNER = "7f3a2c10-9b5e-4d21-8c77-0123456789ab"


def main() -> None:
    """Time COUNT pairs of orders and print the summary as one JSON line."""
    count = int(sys.argv[1])
    backend = get_backend_class().__name__
    if backend != "CoinCurveECCBackend":
        sys.exit(f"signing would use {backend}, not coincurve {coincurve.__name__}")
    signer = Signer(KEY, 137)
    builder = OrderBuilder(signer)
    creds = ApiCreds(
        api_key=OWNER, api_secret="AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", api_passphrase="x"
    )
    options = CreateOrderOptions(tick_size="0.01", neg_risk=False)

    def two_orders(_frame: bytes) -> None:
        payload = []
        for token in (YES, NO):
            args = MarketOrderArgsV2(token_id=token, amount=47.04, side="BUY", price=0.48)
            order = builder.build_market_order(args, options, version=2)
            payload.append(order_to_json_v2(order, OWNER, "FAK"))
        body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
        request = RequestArgs(
            method="POST", request_path="/orders", body=payload, serialized_body=body
        )
        create_level_2_headers(signer, creds, request, 1_760_000_000)

    for _ in range(20):
        two_orders(b"")
    report(dict(summary(time_each(two_orders, [b""] * count))))


if __name__ == "__main__":
    main()
