"""A model's answer: a probability of YES and a few words, or nothing.

Strict on purpose. What is not exactly the JSON that was asked for is a failed sample: no number is
searched in prose, no fence is peeled off, no percentage is divided by a hundred. All that leaves
here is a number in [0, 1]; the words are kept for people and decide nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import exp, log
from typing import Annotated, Any, Final

import msgspec

from fleet.forecasting.wording import plain

ANSWER_CHARS_MAX: Final = 32_768
REASONING_MAX: Final = 1_000
EDGE: Final = 0.001
"""Samples are taken to lie in [EDGE, 1 - EDGE] where logits are averaged: the logit of 0 is not
finite, and one certain sample must not outvote all others."""


class AnswerInvalid(Exception):  # noqa: N818 - named for what was found
    """An answer that is not what was asked for."""


class AnswerFrame(msgspec.Struct, forbid_unknown_fields=True):
    """The object of ``prompts.ANSWER_SCHEMA``, with the limits of the number."""

    reasoning: str
    probability: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


def read_answer(content: str) -> tuple[float, str]:
    """The probability and the reasoning, made plain. Raises ``AnswerInvalid``."""
    if len(content) > ANSWER_CHARS_MAX:
        raise AnswerInvalid(f"the answer has {len(content)} characters")
    try:
        frame = msgspec.json.decode(content, type=AnswerFrame)
        json.loads(content, object_pairs_hook=_once)
    except (msgspec.MsgspecError, ValueError) as error:
        raise AnswerInvalid(f"the answer is not the JSON asked for: {error}") from None
    return abs(frame.probability), plain(frame.reasoning, REASONING_MAX)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two equal keys is meant nobody can say. Raises ``ValueError``."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def pooled(samples: Sequence[float], pool: str = "median") -> float:
    """One probability from independent samples in [0, 1]; there is at least one.

    ``median``, of an even number the mean logit of the two in the middle; ``trimmed``, the mean
    logit without the lowest and the highest where five or more are there; ``logit-mean``, of all.
    Logit means: Satopää et al., Int. J. Forecasting 30 (2014) 344.
    """
    ordered = sorted(samples)
    half = len(ordered) // 2
    if pool == "median" and len(ordered) % 2:
        return ordered[half]
    if pool == "median":
        ordered = ordered[half - 1 : half + 1]
    elif pool == "trimmed" and len(ordered) >= 5:
        ordered = ordered[1:-1]
    return _expit(sum(_logit(sample) for sample in ordered) / len(ordered))


def _logit(probability: float) -> float:
    bounded = min(max(probability, EDGE), 1.0 - EDGE)
    return log(bounded / (1.0 - bounded))


def _expit(logit: float) -> float:
    return 1.0 / (1.0 + exp(-logit))
