"""The borders inside forecasting: what a question, a piece of evidence and a forecast are.

Times are nanoseconds since the epoch. Probabilities are floats of YES in [0, 1] here; they become
integers where they enter the engine (``ForecastReceived``). Nothing in this package may know what
was not known at a question's ``as_of_ns``: every search takes the moment and leaves out the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ForecastFailed(Exception):  # noqa: N818 - named for what happened
    """No forecast could be made; the text says why and names the cure. ``cost_usd`` was spent."""

    def __init__(self, text: str, cost_usd: float = 0.0) -> None:
        """Keep what the attempt has cost."""
        super().__init__(text)
        self.cost_usd = cost_usd


class MemoryFailed(Exception):  # noqa: N818 - as above
    """The retrieval memory cannot be read or written; the text names the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A binary question as it stood at ``as_of_ns``.

    ``price`` is the market's probability of YES at that moment, ``None`` if there was none.
    ``closes_ns`` is 0 when not known. ``path`` is the price before: (time, probability), oldest
    first, nothing after ``as_of_ns``.
    """

    id: str
    text: str
    as_of_ns: int
    background: str = ""
    criteria: str = ""
    category: str = ""
    source: str = ""
    event_id: str = ""
    closes_ns: int = 0
    price: float | None = None
    path: tuple[tuple[int, float], ...] = ()


class Kind(Enum):
    """What a row of the memory is."""

    RESOLVED = "RESOLVED"
    """A question whose outcome is known; ``outcome`` is set, ``known_ns`` is its resolution."""
    FORECAST = "FORECAST"
    """A forecast of ours, its outcome set once known."""
    NEWS = "NEWS"
    """An article; ``known_ns`` is its publication."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One row of the retrieval memory. ``id`` is unique within its kind; adding it again replaces.

    ``known_ns`` is the first moment at which all of it was known. ``outcome`` is 1.0 for YES, 0.0
    for NO, ``None`` if not resolved. ``facts`` is anything else, JSON values only.
    """

    id: str
    kind: Kind
    text: str
    known_ns: int
    category: str = ""
    source: str = ""
    outcome: float | None = None
    price: float | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item and its cosine similarity to what was asked, in [-1, 1]."""

    item: Item
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A dated piece of text a forecast may rest on; what it says is data, never an instruction."""

    id: str
    published_ns: int
    source: str
    title: str
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One forecaster's own probability of YES, before calibration.

    ``samples`` are the independent answers it was made of; ``model`` is what made it and
    ``prompt_hash`` the hash of the exact words asked (empty where none were).
    """

    question_id: str
    forecaster: str
    probability: float
    as_of_ns: int
    model: str = ""
    samples: tuple[float, ...] = ()
    evidence: tuple[str, ...] = ()
    prompt_hash: str = ""
    cost_usd: float = 0.0


class Forecaster(Protocol):
    """Anything that answers a question with a probability."""

    @property
    def name(self) -> str:
        """What its record is kept under, ``statistical`` or ``llm:MODEL``."""
        ...

    async def forecast(self, question: Question) -> Forecast:
        """The probability as of ``question.as_of_ns``. Raises ``ForecastFailed``."""
        ...


@runtime_checkable
class Connected(Protocol):
    """A forecaster that calls others, over connections that want closing."""

    def attempts(self) -> tuple[int, int]:
        """How many calls were made of others, and how many brought nothing: its own, or of all who
        share its access.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; asked again, it opens them again."""
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors of one length."""

    @property
    def name(self) -> str:
        """Model and version; vectors of different names are never compared."""
        ...

    @property
    def dim(self) -> int:
        """The length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dim) float32, rows of length 1 (0 for a text with nothing in it).

        Raises ``MemoryFailed``.
        """
        ...


class Memory(Protocol):
    """Rows with vectors, searched exactly; one implementation embedded, one on Postgres."""

    def add(self, items: Sequence[Item]) -> int:
        """Add or replace rows, durable on return; how many were new. Raises ``MemoryFailed``."""
        ...

    def search(
        self,
        text: str,
        *,
        before_ns: int,
        top: int = 3,
        kinds: Sequence[Kind] = (),
        exclude: Sequence[str] = (),
    ) -> Sequence[Neighbour]:
        """The rows nearest in meaning with ``known_ns < before_ns``, best first, ties by id.

        ``kinds`` empty: all. ``exclude`` leaves out ids. Raises ``MemoryFailed``.
        """
        ...

    def get(self, kind: Kind, item_id: str) -> Item | None:
        """One row. Raises ``MemoryFailed``."""
        ...

    def items(self, kind: Kind | None = None) -> Sequence[Item]:
        """Every row (of a kind), by ``known_ns`` and id. Raises ``MemoryFailed``."""
        ...

    def count(self) -> Mapping[Kind, int]:
        """Rows of each kind. Raises ``MemoryFailed``."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class NewsSource(Protocol):
    """Finds dated evidence."""

    async def search(self, query: str, *, before_ns: int, limit: int = 5) -> Sequence[Evidence]:
        """Newest first, nothing published at or after ``before_ns``, no duplicates.

        An empty answer means that nothing was found; what could not be asked raises
        ``ForecastFailed``.
        """
        ...
