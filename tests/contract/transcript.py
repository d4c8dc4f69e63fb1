"""A transcript: what a live venue and a server said to each other, fit to be kept and replayed.

JSON lines. The first says where it comes from; then, for each clause of the suite, one line with
its name and the lines of its conversation in the order they happened, ``ms`` after its begin:

    ask     a request that *does* something (an order, a cancel, a transaction), and its number
    answer  the answer to the ask of that number
    read    a request that only asks, with its answer, at the moment of the answer
    open    the user channel was joined
    frame   one frame of the user channel

What differs from one telling to the next is a name in braces: the wallet, the API key, our orders
and transactions (in the order they were signed); and so are the market and its tokens, to be read. Signatures, salts and times are stars. So nothing
in a transcript is secret, and nothing in it belongs to one key: whoever replays it has another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

SECRET_ANSWERS: Final = ("/auth/derive-api-key", "/auth/api-key")
LOGIN: Final = ("apiKey", "secret", "passphrase")
STARRED: Final = frozenset({"signature", "salt", "timestamp"})
"""Fields of an order that no two tellings share."""
LONG: Final = 100
UNLIMITED: Final = str(2**256 - 1)
MS: Final = 1_000_000


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that happened. ``what`` is ask, answer, read, open or frame."""

    ms: int
    what: str
    key: str = ""
    """Of a request: method, path, sorted query, and the shape of its body."""
    number: int = 0
    status: int = 200
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    text: str = ""
    like: int = 0
    """In the file: the line of the clause, counted from 1, whose text this one has too."""


class Head(msgspec.Struct, kw_only=True):
    """Where a transcript comes from, and the market it was made in."""

    recorded_from: str
    note: str
    recorded_on: str
    confirmations: int
    """Blocks after which the recorded bot took a transaction for final."""
    market: dict[str, Any]
    instruments: list[dict[str, Any]]


@dataclass
class Names:
    """The words that stand for what one telling calls its own, and back again."""

    by_word: dict[str, str] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def wallet(self, address: str) -> None:
        """An address occurs with capitals, and in call data without its 0x."""
        self.by_word["{wallet}"] = address
        self.by_word["{wallet_hex}"] = address[2:].lower()

    def market(self, condition: str, yes: str, no: str) -> None:
        """Long numbers that everybody shares; only for the sake of the reader."""
        self.by_word |= {"{market}": condition, "{yes}": yes, "{no}": no, "{unlimited}": UNLIMITED}

    def key(self, answer: Mapping[str, str]) -> None:
        """An API key, as the login answered."""
        for name in LOGIN:
            self.by_word[f"{{{name}}}"] = answer[name]

    def number(self, kind: str, value: str) -> None:
        """The next order or transaction; the same one again is the same."""
        if value not in self.by_word.values():
            self.count[kind] = self.count.get(kind, 0) + 1
            self.by_word[f"{{{kind}:{self.count[kind]}}}"] = value

    def hide(self, text: str) -> str:
        """Words for values."""
        for word, value in self.by_word.items():
            text = text.replace(value, word)
        return text

    def show(self, text: str) -> str:
        """Values for words."""
        for word, value in self.by_word.items():
            text = text.replace(word, value)
        return text


def is_act(method: str, path: str, body: bytes) -> bool:
    """Whether a request does something, so that what comes after it depends on it."""
    if path == "/rpc":
        return b"eth_sendRawTransaction" in body
    quiet = path.endswith("/heartbeats") or "/auth/" in path
    return method in {"POST", "DELETE"} and not quiet


def may_repeat(key: str) -> bool:
    """Whether the same request again is harmless: a cancel, never an order."""
    return key.startswith("DELETE ")


def key_of(method: str, path: str, query: Mapping[str, str], body: bytes, names: Names) -> str:
    """What makes two requests the same."""
    told = {**query, **({"after": "*"} if "after" in query else {})}
    asked = "&".join(f"{name}={value}" for name, value in sorted(told.items()))
    text = f"{method} {path}" + (f"?{asked}" if asked else "")
    if path.endswith("/heartbeats"):
        return text
    return names.hide(f"{text} {_shape(body)}" if body else text)


def _shape(body: bytes) -> str:
    asked = json.loads(body)
    if isinstance(asked, dict) and "jsonrpc" in asked:
        method, params = asked["method"], asked.get("params", [])
        if method == "eth_sendRawTransaction":
            params = ["*"]
        elif params and isinstance(params[-1], str) and params[-1][2:].isalnum():
            # The number of a block is another one each time; a hash or an address is longer.
            params = [*params[:-1], "*" if 2 < len(params[-1]) < 20 and params[-1][:2] == "0x"
                      else params[-1]]  # fmt: skip
        return f"{method} {json.dumps(params)}"
    return json.dumps(_starred(asked), sort_keys=True)


def _starred(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "*" if k in STARRED else _starred(v) for k, v in value.items()}
    return [_starred(v) for v in value] if isinstance(value, list) else value


def without_id(body: bytes) -> str:
    """A JSON-RPC answer without the number its asker gave it."""
    answer = json.loads(body)
    answer.pop("id", None)
    return json.dumps(answer)


def write(path: Path, head: Head, clauses: Mapping[str, list[Line]]) -> None:
    """Write a transcript."""
    lines = [msgspec.json.encode(head)]
    for name, said in clauses.items():
        lines.append(msgspec.json.encode({"clause": name}))
        lines += map(msgspec.json.encode, _folded(said))
    path.write_bytes(b"\n".join(lines) + b"\n")


def read(path: Path) -> tuple[Head, dict[str, list[Line]]]:
    """Read a transcript."""
    rows = iter(path.read_bytes().splitlines())
    head = msgspec.json.decode(next(rows), type=Head)
    return head, dict(_clauses(rows))


def _clauses(rows: Iterator[bytes]) -> Iterator[tuple[str, list[Line]]]:
    said: list[Line] = []
    for row in rows:
        if row.startswith(b'{"clause"'):
            said = []
            yield json.loads(row)["clause"], said
        else:
            line = msgspec.json.decode(row, type=Line)
            if line.like:
                line.text, line.like = said[line.like - 1].text, 0
            said.append(line)


def _folded(said: list[Line]) -> Iterator[Line]:
    """Long texts once, and then by the line they stand in."""
    first: dict[str, int] = {}
    for number, line in enumerate(said, 1):
        like = first.setdefault(line.text, number) if len(line.text) > LONG else number
        yield line if like == number else structs.replace(line, text="", like=like)


def thinned(said: list[Line]) -> list[Line]:
    """Without what says nothing new: the same answer to the same question, nothing in between."""
    kept: list[Line] = []
    latest: dict[str, Line] = {}
    for line in said:
        if line.what != "read":
            latest.clear()
        elif (before := latest.get(line.key)) is not None and before.text == line.text:
            continue
        else:
            latest[line.key] = line
        kept.append(line)
    return kept
