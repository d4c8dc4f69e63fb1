"""The default embedder: hashed words and character n-grams, projected to one fixed length.

No weights to fetch, no torch, no scikit-learn (which costs 155 MB of memory to import): numpy and
the standard library. A text becomes a bag of features: words, pairs of neighbouring words, and the
character 3- and 4-grams of each word, which catch inflections and misspellings. Each feature is
hashed to 32 bits (CRC-32) and spread by SplitMix64 to eight signed places of the vector: a sparse
random projection (Achlioptas 2003; Kane and Nelson 2014), which keeps inner products up to an error
of about 1 / sqrt(dim). Counts are dampened (1 + ln tf), words that every question holds count
little, and a row has length 1.

Invariant: the same text gives the same bits on every machine and with every version of its
libraries. So the random numbers come from the hash, not from a generator that may change, and
everything is summed in integers; only the last division is floating point, and IEEE 754 says what
that gives. Whatever changes a vector must change ``NAME``: stored vectors are compared with new
ones.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME: Final = "hashed-ngrams-v1"
DIM: Final = 384
PLACES: Final = 8
"""Places a feature is spread to. More lowers the variance of collisions little, and costs time."""

WORD, PAIR, GRAM, BOILERPLATE = 256, 128, 64, 16
"""Weights of one occurrence, in 1/256. Chosen on the earlier part of the resolved questions
(docs/memory.md): the grams of a word together weigh about as much as the word."""

GRAM_LENGTHS: Final = (3, 4)
WORDS_MAX: Final = 20_000
"""Words of a text that are read: what an article says, it has said by then."""
WORD_CHARS_MAX: Final = 64

_TOKEN: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_COMMON: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "before",
        "between",
        "but",
        "by",
        "can",
        "did",
        "do",
        "does",
        "during",
        "end",
        "for",
        "from",
        "had",
        "has",
        "have",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "market",
        "may",
        "more",
        "no",
        "not",
        "of",
        "on",
        "or",
        "other",
        "question",
        "resolve",
        "resolved",
        "resolves",
        "resolution",
        "shall",
        "than",
        "that",
        "the",
        "their",
        "there",
        "these",
        "this",
        "to",
        "under",
        "until",
        "was",
        "were",
        "what",
        "when",
        "which",
        "who",
        "will",
        "with",
        "would",
        "yes",
    ]
)
"""Words of nearly every question: grammar, and the wording of markets."""

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""SplitMix64's constants: Steele, Lea and Flood, OOPSLA 2014."""


class HashedNgrams:
    """``Embedder`` of hashed words and character n-grams; pure, so any thread may call it."""

    name = NAME
    dim = DIM

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), 384) float32, rows of length 1; 0 for a text without a letter or digit."""
        rows = np.zeros((len(texts), DIM), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = _vector(text)
        return rows


def _vector(text: str) -> NDArray[np.float32]:
    counts: dict[int, int] = {}
    weights: dict[int, int] = {}
    for feature, weight in _features(text):
        key = crc32(feature)
        counts[key] = counts.get(key, 0) + 1
        weights.setdefault(key, weight)
    if not counts:
        return np.zeros(DIM, dtype=np.float32)
    amounts = [weights[key] * _dampened(count) for key, count in counts.items()]
    return _projected(np.fromiter(counts, np.uint64, len(counts)), np.array(amounts, np.int64))


def _dampened(count: int) -> int:
    """1 + ln(count), in 1/256: rounded, so that no library's last bit shows."""
    return 256 if count == 1 else round(256 * (1 + math.log(count)))


def _features(text: str) -> Iterator[tuple[bytes, int]]:
    """The features of a text with the weight of each."""
    before = ""
    # A character of NFKC may be eighteen of another form; nobody reads beyond the limit.
    folded = unicodedata.normalize("NFKC", text[: WORDS_MAX * 16]).casefold()
    for number, match in enumerate(_TOKEN.finditer(folded)):
        if number == WORDS_MAX:
            return
        word = match[0].replace(",", "")[:WORD_CHARS_MAX]
        if word in _COMMON:
            yield b"w" + word.encode(), BOILERPLATE
            continue
        yield b"w" + word.encode(), WORD
        if before:
            yield f"p{before} {word}".encode(), PAIR
        before = word
        padded = f"_{word}_".encode()
        for length in GRAM_LENGTHS:
            for start in range(len(padded) - length + 1):
                yield b"g" + padded[start : start + length], GRAM


def _projected(keys: NDArray[np.uint64], amounts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Spread each key to its places with its signs, sum, and scale to length 1."""
    salts = np.arange(1, PLACES + 1, dtype=np.uint64)
    mixed = (keys[:, None] + (salts << np.uint64(32))) * np.uint64(_GOLDEN)
    for shift, factor in _MIX:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    places = (mixed >> np.uint64(1)) % np.uint64(DIM)
    signed = np.where(mixed & np.uint64(1), amounts[:, None], -amounts[:, None])
    sums = np.zeros(DIM, dtype=np.int64)
    np.add.at(sums, places.astype(np.intp).ravel(), signed.ravel())
    length = math.sqrt(int(np.dot(sums, sums)))
    return (sums / length if length else sums).astype(np.float32)
