"""The resolved record: what a forecaster said, what the market said, what happened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """One forecast whose question is answered. ``outcome`` is 1.0 for YES, 0.0 for NO.

    ``price`` is the market's probability of YES when the forecast was made, ``None`` without one.
    """

    question_id: str
    forecaster: str
    category: str
    probability: float
    price: float | None
    outcome: float
    made_ns: int
    resolved_ns: int
    source: str = ""
    event_id: str = ""
    closes_ns: int = 0
    """When the question was to close, 0 when not known. Answers that come before it are mostly YES:
    a record that counts them sooner is biased (decision 0019)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """A calibrated forecast blended with the market price.

    ``weight`` is the share of the forecaster in logit space, 0 where it has not shown skill against
    the price; ``deviation`` the standard error of ``probability``. ``verdict`` says in words what
    was shown or that no edge was found.
    """

    probability: float
    weight: float
    deviation: float
    verdict: str
