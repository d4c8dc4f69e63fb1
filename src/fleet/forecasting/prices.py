"""What a model costs: dollars per million tokens, from a built-in table or the user's own setting.

Prices are cash at 1e-8 dollars, costs are rounded up, so that no sum of calls is told too low. A
model that is in neither table is refused: a budget that guesses prices is no budget.

The built-in table holds OpenAI's published standard prices (its pricing page, looked up 2025-12 and
again through lists of 2026-03 to 2026-06 that name the same figures). Prices change; what is set in
``POLYAI_LLM_PRICES`` wins, and an endpoint's own reported cost wins where it is larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fleet.domain.units import Cash, UnitsError, parse_units

PER: Final = 1_000_000
"""Tokens that a price is for."""


class PriceUnknown(Exception):  # noqa: N818 - named for what happened
    """Nobody told what this model costs; the text names the cure."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars at 1e-8 per million tokens read, written, and read from the endpoint's cache."""

    read: Cash
    written: Cash
    cached: Cash

    def cost(self, read: int, written: int, cached: int = 0) -> Cash:
        """The cost of a call; ``cached`` of the ``read`` tokens came from the cache. Rounded up."""
        cached = max(0, min(cached, read))
        total = (read - cached) * self.read + cached * self.cached + written * self.written
        return Cash(-(-total // PER))


def _price(read: str, written: str, cached: str = "") -> Price:
    """Raises ``ValueError`` for what is no price."""
    try:
        amounts = [Cash(parse_units(text)) for text in (read, written, cached or read)]
    except UnitsError as error:
        raise ValueError("write dollars per million tokens such as 0.15/0.60") from error
    if min(amounts) < 0:
        raise ValueError("a price is not negative")
    return Price(*amounts)


PUBLISHED: Final[Mapping[str, tuple[str, str, str]]] = {
    "gpt-5.1": ("1.25", "10", "0.125"),
    "gpt-5": ("1.25", "10", "0.125"),
    "gpt-5-mini": ("0.25", "2", "0.025"),
    "gpt-5-nano": ("0.05", "0.40", "0.005"),
    "gpt-4.1": ("2", "8", "0.50"),
    "gpt-4.1-mini": ("0.40", "1.60", "0.10"),
    "gpt-4.1-nano": ("0.10", "0.40", "0.025"),
    "gpt-4o": ("2.50", "10", "1.25"),
    "gpt-4o-mini": ("0.15", "0.60", "0.075"),
    "o3": ("2", "8", "0.50"),
    "o4-mini": ("1.10", "4.40", "0.275"),
}
"""Dollars per million tokens: read, written, read from the cache. OpenRouter names the same models
``openai/NAME`` and passes the price on."""


class PriceTable:
    """The published prices under the user's own."""

    def __init__(self, own: Iterable[tuple[str, Price]] = ()) -> None:
        """``own`` overrules what is published."""
        self._own = dict(own)

    def of(self, model: str) -> Price:
        """The price of a model. Raises ``PriceUnknown``."""
        if model in self._own:
            return self._own[model]
        published = PUBLISHED.get(model.removeprefix("openai/"))
        if published is None:
            raise PriceUnknown(
                f"what {model!r} costs is not known: set"
                f" POLYAI_LLM_PRICES={model}=READ/WRITTEN in dollars per million tokens"
                " (0/0 for a local model)"
            )
        return _price(*published)


def prices(value: str) -> tuple[tuple[str, Price], ...]:
    """``MODEL=READ/WRITTEN[/CACHED]``, comma-separated. Raises ``ValueError``."""
    found: dict[str, Price] = {}
    for entry in filter(None, (part.strip() for part in value.split(","))):
        model, sign, amounts = entry.rpartition("=")
        parts = amounts.split("/")
        if not sign or not model.strip() or len(parts) not in {2, 3}:
            raise ValueError("expected MODEL=READ/WRITTEN such as my-model=0.15/0.60")
        found[model.strip()] = _price(*parts)
    return tuple(found.items())
