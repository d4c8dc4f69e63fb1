"""Whatever happened: the image of a prefix and the later entries equal the fold of all entries.

Two sources of entries: the walks of the engine's own property (histories that can happen), and a
soup of durable events whose ids collide on purpose (histories that cannot, full of anomalies).
The image goes through a real file each time.
"""

from __future__ import annotations

import random
import tempfile
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.domain.events import DURABLE, Event
from fleet.domain.units import SCALE
from fleet.engine.image import StateImage, image_of, restore
from fleet.engine.state import State, fold
from fleet.journal import snapshot
from fleet.journal.snapshot import Head
from tests.builders import durable, universe
from tests.property.test_engine_property import CASHES, STEPS, World

HEAD = Head(bot="b", mode="paper", stamp="s", seq=1, crc=2)
WORLD = universe(2)


def through_a_file(state: State) -> State:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "b.snapshot"
        snapshot.write(path, HEAD, image_of(state))
        found = snapshot.read(path)
        assert found is not None
        assert found.head == HEAD
        return restore(found.image(StateImage), WORLD)


def told_alike(one: State, other: State) -> None:
    """Every durable field is the same, and so is the order of what has one."""
    assert durable(one) == durable(other)
    first, second = image_of(one), image_of(other)
    assert first == second
    for name in ("fills", "positions"):
        assert list(getattr(first.portfolio, name)) == list(getattr(second.portfolio, name))
    assert list(first.resolved) == list(second.resolved)


def hangs_together(state: State) -> None:
    """What is in two places is one object: a change in one place is seen in the other."""
    for order_id, order in state.orders.open.items():
        assert state.orders.get(order_id) is order
    for bundle_id, bundle in state.bundles.open.items():
        assert state.bundles.get(bundle_id) is bundle
    kept = {id(s): s for _, s in state.bundles._operations.values()}
    for bundle in state.bundles._bundles.values():
        for operation in bundle.operations:
            assert kept[id(operation)] is operation


def prove(events: list[Event], cuts: list[int]) -> None:
    whole = fold(events, WORLD)
    for cut in cuts:
        state = through_a_file(fold(events[:cut], WORLD))
        told_alike(state, fold(events[:cut], WORLD))
        hangs_together(state)
        for event in events[cut:]:
            state.apply(event)
        told_alike(state, whole)
        hangs_together(state)


@pytest.mark.parametrize("seed", range(12))
def test_a_walk_of_the_engine_resumes_anywhere(seed: int) -> None:
    by = random.Random(seed)
    world = World()
    world.failures = bool(seed % 2)
    world.start(CASHES[seed // 2 % 2])
    for _ in range(150):
        by.choice(STEPS)(world, by)
    entries = world.rig.entries
    assert len(entries) > 60
    prove(entries, [by.randint(0, len(entries)) for _ in range(6)])


def anything(hint: Any, name: str, by: random.Random) -> Any:
    """Some value of a field's type; ids from so few that they collide."""
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    if get_origin(hint) in {Union, UnionType}:
        return anything(by.choice(get_args(hint)), name, by)
    if get_origin(hint) is tuple:
        kind, *rest = get_args(hint)
        if rest != [...]:
            return tuple(anything(one, name, by) for one in (kind, *rest))
        # A bundle has legs, and orders name one of the first.
        least = 1 if name == "legs" else 0
        return tuple(anything(kind, name, by) for _ in range(by.randint(least, 2)))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return some(hint, by)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return by.choice(list(hint))
    if hint is int:
        return by.choice([0, by.randint(1, 40)]) if name == "decision" else number(name, by)
    return {str: by.choice("abcd"), bool: by.random() < 0.5, type(None): None}[hint]


def number(name: str, by: random.Random) -> int:
    return 0 if name == "leg" else by.choice([-1, 0, 1, 5, 10]) * SCALE + by.randint(0, 2)


def some(kind: type[Any], by: random.Random) -> Any:
    hints = get_type_hints(kind)
    return kind(**{name: anything(hints[name], name, by) for name in kind.__struct_fields__})


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 120), cut=st.floats(0, 1))
def test_a_soup_of_events_resumes_anywhere(seed: int, size: int, cut: float) -> None:
    by = random.Random(seed)
    kinds = [DURABLE[kind] for kind in sorted(DURABLE)]
    events: list[Event] = []
    decision = 0
    for _ in range(size):
        event: Event = some(by.choice(kinds + [DURABLE["DecisionMade"]] * 4), by)
        if event.KIND == "DecisionMade" and by.random() < 0.9:
            decision += 1
            event = msgspec.structs.replace(event, decision=decision)
        events.append(event)
    prove(events, [int(cut * len(events))])
