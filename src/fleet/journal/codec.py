"""Journal bodies: a durable event to JSON and back, exactly.

A body is the event's fields as JSON; an enumeration goes by its value, which is its name.

A kind whose fields change gets a higher ``VERSION`` and one row in ``UPCASTERS``: old bodies are
lifted step by step when read, never rewritten. A kind or version that is not known is damage
(``JournalDamaged``), not something to skip: a fold that leaves out a fact is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from fleet.domain.events import DURABLE, Event
from fleet.journal.database import RESTORE_CURE, JournalDamaged

Body = dict[str, Any]
Upcaster = Callable[[Body], Body]

UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = {}
"""(kind, version) -> what makes a body of the next version from it. None was needed so far."""


class Codec:
    """Encodes and decodes the kinds it was given; the shipped ones by default."""

    __slots__ = ("_decoders", "_encode", "_kinds", "_upcasters")

    def __init__(
        self,
        kinds: Mapping[str, type[Event]] = DURABLE,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> None:
        self._kinds = kinds
        self._upcasters = upcasters
        self._encode = msgspec.json.Encoder().encode
        self._decoders: dict[tuple[str, int], Callable[[bytes], Event]] = {}

    def encode(self, event: object) -> tuple[str, int, bytes]:
        """Kind, version and body of a durable event.

        Raises ``TypeError`` for anything that is not journalled: a programmer's error.
        """
        if not isinstance(event, Event) or self._kinds.get(event.KIND) is not type(event):
            raise TypeError(f"{type(event).__name__} is not a durable event")
        return event.KIND, event.VERSION, self._encode(event)

    def decode(self, kind: str, version: int, body: bytes) -> Event:
        """The event of a stored body. Raises ``JournalDamaged`` if it cannot be read."""
        decoder = self._decoders.get((kind, version))
        if decoder is None:
            decoder = self._decoders[kind, version] = self._decoder(kind, version)
        try:
            return decoder(body)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            raise JournalDamaged(f"a {kind} cannot be read: {error}; {RESTORE_CURE}") from error

    def _decoder(self, kind: str, version: int) -> Callable[[bytes], Event]:
        known = self._kinds.get(kind)
        if known is None:
            raise JournalDamaged(
                f"unknown kind {kind!r}: written by newer code, or damaged; run the code that"
                f" wrote it, or {RESTORE_CURE}"
            )
        decode: Callable[[bytes], Event] = msgspec.json.Decoder(known).decode
        wanted = known.VERSION
        if version == wanted:
            return decode
        return lambda body: decode(self._lift(kind, version, wanted, body))

    def _lift(self, kind: str, version: int, wanted: int, body: bytes) -> bytes:
        content: Body = msgspec.json.decode(body, type=dict)
        for step in range(version, wanted):
            upcaster = self._upcasters.get((kind, step))
            if upcaster is None:
                break
            content = upcaster(content)
        else:
            if version < wanted:
                return self._encode(content)
        raise JournalDamaged(
            f"{kind} has version {version}, this code reads {wanted}; run the code that wrote it"
        )
