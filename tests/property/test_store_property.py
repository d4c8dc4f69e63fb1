"""Properties of the journal: what is written is read, and damage never passes for truth."""

import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.domain.events import DURABLE, Event
from fleet.journal.codec import Codec
from fleet.journal.database import JournalError
from fleet.journal.store import JournalReader, JournalStore, MemoryJournal

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    if get_origin(hint) is tuple:
        arguments = get_args(hint)
        if arguments[1:] == (...,):
            return st.lists(values(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*map(values, arguments))
    if get_origin(hint) in {Union, UnionType}:
        return st.one_of(*map(values, get_args(hint)))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return instances(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    known = {int: INT64, str: TEXT, bool: st.booleans(), type(None): st.none()}
    return known[hint]


def instances(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any instance of a record."""
    hints = get_type_hints(kind)
    fields = {name: values(hints[name]) for name in kind.__struct_fields__}
    return st.builds(kind, **fields)


EVENTS: st.SearchStrategy[Event] = st.sampled_from(sorted(DURABLE)).flatmap(
    lambda kind: instances(DURABLE[kind])
)
BATCHES = st.lists(st.lists(EVENTS, max_size=4), max_size=6)


@pytest.mark.parametrize("kind", sorted(DURABLE))
def test_every_durable_kind_survives_its_body(kind: str) -> None:
    codec = Codec()

    @settings(max_examples=30, deadline=None)
    @given(event=instances(DURABLE[kind]))
    def survives(event: Event) -> None:
        written_kind, version, body = codec.encode(event)
        assert written_kind == kind
        assert codec.decode(written_kind, version, body) == event

    survives()


@settings(max_examples=40, deadline=None)
@given(batches=BATCHES, reopen=st.sets(st.integers(0, 5)))
def test_a_file_and_a_memory_tell_the_same_story(
    batches: list[list[Event]], reopen: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.db"
        memory = MemoryJournal(run_id="r")
        store = JournalStore(path, bot="b", mode="paper", run_id="r")
        for number, batch in enumerate(batches):
            if number in reopen:
                store.close()
                store = JournalStore(path, bot="b", mode="paper", run_id="r")
            assert store.write(batch) == memory.write(batch)
        for after in range(store.last_seq + 1):
            assert list(store.read(after)) == list(memory.read(after))
        assert store.check() == memory.last_seq
        store.close()


def sound_file(place: str, events: Sequence[Event]) -> tuple[Path, bytes]:
    path = Path(place) / "a.db"
    with JournalStore(path, bot="b", mode="paper", run_id="r") as store:
        store.write(events)
    return path, path.read_bytes()


def told_or_true(path: Path, truth: Sequence[Event]) -> None:
    """Reading gives the truth or a ``JournalError``: never anything else."""
    try:
        with JournalReader(path, immutable=True) as reader:
            reader.check()
            found = [entry.event for entry in reader.read()]
    except JournalError:
        return
    assert found == list(truth)


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(EVENTS, min_size=1, max_size=20),
    where=st.floats(0, 1, exclude_max=True),
    mask=st.integers(1, 255),
)
def test_a_flipped_byte_is_told_or_harmless(events: list[Event], where: float, mask: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        path, content = sound_file(place, events)
        damaged = bytearray(content)
        damaged[int(where * len(content))] ^= mask
        path.write_bytes(damaged)
        told_or_true(path, events)


@settings(max_examples=60, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=20), keep=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_told(events: list[Event], keep: float) -> None:
    with tempfile.TemporaryDirectory() as place:
        path, content = sound_file(place, events)
        path.write_bytes(content[: int(keep * len(content))])
        with pytest.raises(JournalError), JournalReader(path, immutable=True) as reader:
            reader.check()
