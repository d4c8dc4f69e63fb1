"""Journal bodies: a durable event to JSON and back, exactly.

A body is the event's fields as JSON. One thing is not left to the encoder: a refusal's code goes
by *name*, because the value of a ``RefusalCode`` is prose that may be reworded.

A kind whose fields change gets a higher ``VERSION`` and one row in ``UPCASTERS``: old bodies are
lifted step by step when read, never rewritten. A kind or version that is not known is damage
(``JournalDamaged``), not something to skip: a fold that leaves out a fact is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, get_type_hints

import msgspec

from fleet.domain.commands import BundleId, RefusalCode, Refused
from fleet.domain.events import DURABLE, DecisionMade, Event
from fleet.journal.database import RESTORE_CURE, JournalDamaged

Body = dict[str, Any]
Upcaster = Callable[[Body], Body]

UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = {}
"""(kind, version) -> what makes a body of the next version from it. None was needed so far."""


class _RefusedBody(msgspec.Struct, frozen=True, kw_only=True):
    """A ``Refused`` as it is written."""

    bundle_id: BundleId
    subject: str
    code: str
    detail: str


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
        self._decoders: dict[str, Callable[[bytes], Event]] = {}

    def encode(self, event: object) -> tuple[str, int, bytes]:
        """Kind, version and body of a durable event.

        Raises ``TypeError`` for anything that is not journalled: a programmer's error.
        """
        if not isinstance(event, Event) or self._kinds.get(event.KIND) is not type(event):
            raise TypeError(f"{type(event).__name__} is not a durable event")
        if type(event) is DecisionMade and event.refused:
            written: Any = tuple(map(_refused_body, event.refused))
            return event.KIND, event.VERSION, self._encode(_with_refused(event, written))
        return event.KIND, event.VERSION, self._encode(event)

    def decode(self, kind: str, version: int, body: bytes) -> Event:
        """The event of a stored body. Raises ``JournalDamaged`` if it cannot be read."""
        known = self._kinds.get(kind)
        if known is None:
            raise JournalDamaged(
                f"unknown kind {kind!r}: written by newer code, or damaged; run the code that"
                f" wrote it, or {RESTORE_CURE}"
            )
        try:
            if version != known.VERSION:
                body = self._lift(kind, version, known.VERSION, body)
            decoder = self._decoders.get(kind)
            if decoder is None:
                decoder = self._decoders[kind] = _decoder(known)
            return decoder(body)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            raise JournalDamaged(f"a {kind} cannot be read: {error}; {RESTORE_CURE}") from error

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


def _decoder(kind: type[Event]) -> Callable[[bytes], Event]:
    if kind is not DecisionMade:
        return msgspec.json.Decoder(kind).decode
    hints = get_type_hints(DecisionMade)
    hints["refused"] = tuple[_RefusedBody, ...]
    body_type = msgspec.defstruct(
        "DecisionBody",
        [
            (field.name, hints[field.name])
            if field.default is dataclasses.MISSING
            else (field.name, hints[field.name], field.default)
            for field in dataclasses.fields(DecisionMade)
        ],
        kw_only=True,
    )
    read = msgspec.json.Decoder(body_type).decode
    names = [field.name for field in dataclasses.fields(DecisionMade)]

    def decode(body: bytes) -> DecisionMade:
        raw = read(body)
        fields: dict[str, Any] = {name: getattr(raw, name) for name in names}
        fields["refused"] = tuple(map(_refused, fields["refused"]))
        return DecisionMade(**fields)

    return decode


def _refused_body(refused: Refused) -> _RefusedBody:
    return _RefusedBody(
        bundle_id=refused.bundle_id,
        subject=refused.subject,
        code=refused.code.name,
        detail=refused.detail,
    )


def _refused(body: _RefusedBody) -> Refused:
    return Refused(
        bundle_id=body.bundle_id,
        subject=body.subject,
        code=RefusalCode[body.code],
        detail=body.detail,
    )


def _with_refused(event: DecisionMade, written: Any) -> DecisionMade:
    """A copy fit for the encoder only: its refusals are bodies, not ``Refused``."""
    return dataclasses.replace(event, refused=written)
