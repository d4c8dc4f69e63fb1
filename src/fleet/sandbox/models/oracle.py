"""What the local "model" answers: the price it reads in the prompt, with some noise. Pure.

It is no language model. It understands nothing, knows nothing of the world and reads no news: a
forecaster that shows skill against it shows nothing. It is there so that every line of code between
a question and a probability can run without a key and without a network, the same way each time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from math import exp, log, sqrt
from typing import Any, Final

PRICE: Final = re.compile(r'(?<!\\)"market_price": ?([01](?:\.\d+)?)')
DIMENSIONS: Final = 384
_WORD: Final = re.compile(r"\w+")


def probability(prompt: str, *, seed: str, noise: float) -> float:
    """The stated market price (0.5 without one) moved by up to ``noise`` in its logit."""
    found = PRICE.search(prompt)
    price = min(max(float(found[1]), 0.01), 0.99) if found else 0.5
    digest = hashlib.sha256(f"{seed}|{prompt}".encode()).digest()
    move = (int.from_bytes(digest[:8], "big") / 2.0**63 - 1.0) * noise
    return round(1.0 / (1.0 + exp(-(log(price / (1.0 - price)) + move))), 4)


def completion(
    request: Mapping[str, Any], *, contents: Sequence[str], created_s: int, fault: str = ""
) -> dict[str, Any]:
    """A chat completion with one choice for each of ``contents``."""
    words = "".join(str(message.get("content", "")) for message in request["messages"])
    refused = fault == "refusal"
    body: dict[str, Any] = {
        "id": f"chatcmpl-{hashlib.sha256(words.encode()).hexdigest()[:24]}",
        "object": "chat.completion",
        "created": created_s,
        "model": request["model"],
        "choices": [
            {
                "index": index,
                "finish_reason": "length" if fault == "length" else "stop",
                "logprobs": None,
                "message": {
                    "role": "assistant",
                    "content": None if refused else content,
                    "refusal": "I cannot help with that." if refused else None,
                },
            }
            for index, content in enumerate(contents)
        ],
        "usage": {
            "prompt_tokens": len(words) // 4 + 1,
            "completion_tokens": sum(len(content) for content in contents) // 4 + 1,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    usage = body["usage"]
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    if fault == "no_choices":
        body["choices"] = []
    if fault == "no_usage":
        del body["usage"]
    return body


def content_of(value: float, fault: str = "") -> str:
    """The words of one answer, right or as a fault has them."""
    match fault:
        case "prose":
            return f"I would say about {value:.0%}, but it is hard to know."
        case "wrong_schema":
            return json.dumps({"answer": "YES", "confidence": value, "size_usd": 5000})
        case "outside":
            return json.dumps({"reasoning": "sure", "probability": 1.7})
        case "not_a_number":
            return '{"reasoning": "hm", "probability": NaN}'
        case "length":
            return '{"reasoning": "it is a long st'
    return json.dumps({"reasoning": "The price, a little moved.", "probability": value})


def embedding(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A unit vector; texts that share words are near each other. Not a learned embedding."""
    total = [0.0] * dimensions
    for word in _WORD.findall(text.casefold()):
        spread = hashlib.shake_256(word.encode()).digest(dimensions)
        for place, byte in enumerate(spread):
            total[place] += byte - 127.5
    length = sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


def as_base64(vector: Sequence[float]) -> str:
    """Little-endian float32, as the protocol's base64 encoding wants them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
