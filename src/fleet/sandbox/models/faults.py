"""What model endpoints and news sources do wrong, when told to: by name, rate and place.

A fault strikes a request of a place (``chat``, ``embeddings``, ``news``, ``rss``) with its rate, or
the next ``times`` requests. The same seed and the same order of requests bring the same strikes.
Set by hand or through ``faults`` under the routes' prefix, in the words of ``/sandbox/faults``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

CATALOGUE: Final[Mapping[str, str]] = {
    "rate_limited": "429 with Retry-After `seconds`",
    "rate_limited_bare": "429 without Retry-After",
    "no_credit": "429 insufficient_quota: waiting does not help",
    "bad_key": "401, with the key in the text",
    "server_error": "500 with a JSON error",
    "gateway_error": "502 with a page of HTML",
    "slow": "the answer comes `seconds` late",
    "no_answer": "nothing comes for `seconds`, then the connection ends",
    "cut": "the body ends in the middle, and with it the connection",
    "huge": "a body without end",
    "compressed": "a gzip body nobody asked for",
    "broken_body": "a body that is not JSON (or XML)",
    "wrong_body": "JSON of another shape",
    "prose": "the model's words are prose",
    "wrong_schema": "the model's JSON has other keys",
    "outside": "a probability of 1.7",
    "not_a_number": "a probability of NaN",
    "refusal": "the model refuses",
    "length": "the answer is cut off by its length",
    "no_choices": "a completion without a choice",
    "no_usage": "no usage is told",
    "costly": "the endpoint reports a cost of `seconds` dollars",
}
"""Every fault by name; the last ones are of ``chat`` alone."""


class ModelFault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One rule. ``times`` 0 is without end; ``where`` empty is every place."""

    name: str
    rate: float = 1.0
    times: int = 0
    where: tuple[str, ...] = ()
    seconds: float = 1.0


class ModelFaults:
    """The rules in force."""

    def __init__(self, seed: int = 0) -> None:
        """None is; ``seed`` decides when the later ones strike."""
        self.struck: Counter[str] = Counter()
        self._rules: dict[str, ModelFault] = {}
        self._left: dict[str, int] = {}
        self._chance = random.Random(f"model-faults:{seed}")  # noqa: S311 - no secret

    def put(self, rule: ModelFault) -> None:
        """Bring a rule into force in place of the one of that name. Raises ``ValueError``."""
        if rule.name not in CATALOGUE:
            raise ValueError(
                f"no fault is called {rule.name!r}; use one of: {', '.join(CATALOGUE)}"
            )
        if not 0.0 <= rule.rate <= 1.0 or rule.times < 0 or rule.seconds < 0:
            raise ValueError(f"{rule.name}: rate in 0..1, times and seconds not negative")
        self._rules[rule.name] = rule
        self._left[rule.name] = rule.times

    def clear(self, name: str | None = None) -> None:
        """Heal everything, or one fault."""
        for known in [*self._rules] if name is None else [name]:
            self._rules.pop(known, None)

    def strike(self, place: str) -> ModelFault | None:
        """What goes wrong with this request, if anything; one thing at most."""
        for rule in [*self._rules.values()]:
            if rule.where and place not in rule.where:
                continue
            if rule.rate < 1.0 and self._chance.random() >= rule.rate:
                continue
            if rule.times:
                self._left[rule.name] -= 1
                if not self._left[rule.name]:
                    del self._rules[rule.name]
            self.struck[rule.name] += 1
            return rule
        return None

    def report(self) -> dict[str, Any]:
        """Rules and counters, for the control API."""
        return {
            "rules": [msgspec.to_builtins(rule) for rule in self._rules.values()],
            "struck": dict(self.struck),
            "known": dict(CATALOGUE),
        }
