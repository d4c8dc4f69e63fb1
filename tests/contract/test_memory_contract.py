"""What every memory must do, for real: the embedded one, and Postgres with and without its index."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.port import Item, Kind, Memory, MemoryFailed
from tests.contract.memory_worlds import (
    Database,
    Directory,
    World,
    fresh_database,
    postgres_server,
)

NEVER = 2**62
PLACES = ["embedded", "postgres", "postgres-index"]


def item(number: int, text: str = "", known: int = 100, kind: Kind = Kind.RESOLVED) -> Item:
    return Item(id=f"i{number:04}", kind=kind, text=text or f"question {number}", known_ns=known)


def ids(memory: Memory, text: str, **asked: object) -> list[str]:
    found = memory.search(text, **{"before_ns": NEVER, **asked})  # type: ignore[arg-type]
    return [one.item.id for one in found]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="run-") as runtime,
        pytest.MonkeyPatch.context() as set_,
    ):
        # The server's package looks for a directory of the user's session.
        set_.setenv("XDG_RUNTIME_DIR", runtime)
        with postgres_server() as address:
            yield address


def _world(place: str, folder: Path, request: pytest.FixtureRequest) -> World:
    if place == "embedded":
        return Directory(folder)
    address = fresh_database(request.getfixturevalue("server"), f"w{os.getpid()}")
    exact = {"exact_rows": 0} if place == "postgres-index" else {}
    return Database(address, folder / "embeddings.db", **exact)


@pytest.fixture(params=PLACES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return _world(request.param, tmp_path, request)


@pytest.fixture
def memory(world: World) -> Iterator[Memory]:
    opened = world.open()
    yield opened
    opened.close()


# --- what is in it --------------------------------------------------------------------------------


def test_empty_is_empty(memory: Memory) -> None:
    assert memory.search("anything", before_ns=NEVER) == []
    assert memory.items() == []
    assert memory.get(Kind.NEWS, "a") is None
    assert memory.count() == dict.fromkeys(Kind, 0)
    assert memory.add([]) == 0


def test_every_field_comes_back(memory: Memory) -> None:
    full = Item(
        id="0xabc/ü",
        kind=Kind.FORECAST,
        text="Will Bitcoin close above $100,000?\n«Ja» \N{ROCKET} עברית",
        known_ns=1_760_000_000_123_456_789,
        category="crypto",
        source="polymarket",
        outcome=0.0,
        price=0.1 + 0.2,
        facts={"model": "x", "samples": [0.1, None, True], "nested": {"a\0": "\ud800"}},
    )
    bare = Item(id="0xabc/ü", kind=Kind.NEWS, text="", known_ns=-5)
    assert memory.add([full, bare]) == 2
    assert memory.get(Kind.FORECAST, full.id) == full
    assert memory.get(Kind.NEWS, full.id) == bare
    assert memory.get(Kind.RESOLVED, full.id) is None
    assert memory.items() == [bare, full]


def test_rows_are_listed_by_moment_and_id(memory: Memory) -> None:
    memory.add([item(3, known=5), item(1, known=7), item(2, known=5, kind=Kind.NEWS)])
    memory.add([item(10, known=5), item(2, known=5)])
    assert [one.id for one in memory.items(Kind.RESOLVED)] == ["i0002", "i0003", "i0010", "i0001"]
    assert [(one.id, one.kind) for one in memory.items()][:2] == [
        ("i0002", Kind.NEWS),
        ("i0002", Kind.RESOLVED),
    ]
    assert memory.count() == {Kind.RESOLVED: 4, Kind.FORECAST: 0, Kind.NEWS: 1}


def test_adding_again_replaces(memory: Memory) -> None:
    assert memory.add([item(1, "gold price"), item(2, "rain in Spain")]) == 2
    assert memory.add([item(1, "gold price")]) == 0
    later = Item(
        id="i0001", kind=Kind.RESOLVED, text="gold price", known_ns=300, outcome=1.0, price=0.4
    )
    assert memory.add([later]) == 0
    assert memory.get(Kind.RESOLVED, "i0001") == later
    assert ids(memory, "gold price", before_ns=300) == ["i0002"]
    moved = item(1, "snow in Norway", known=300)
    assert memory.add([moved, item(3, "sun"), moved]) == 1
    assert memory.search("snow in Norway", before_ns=NEVER)[0].similarity == pytest.approx(1)
    assert ids(memory, "gold price", top=9) and memory.count()[Kind.RESOLVED] == 3
    for found in memory.search("gold price", before_ns=NEVER, top=9):
        assert found.similarity < 0.5


def test_the_last_of_two_rows_in_one_call_counts(memory: Memory) -> None:
    assert memory.add([item(1, "first"), item(1, "second", known=7)]) == 1
    assert memory.items() == [item(1, "second", known=7)]


def test_what_was_added_is_there_after_opening_again(world: World) -> None:
    first = world.open()
    first.add([item(n, f"topic {n} of the series") for n in range(40)])
    before = first.search("topic 7 of the series", before_ns=NEVER, top=40)
    first.close()
    first.close()
    again = world.open()
    assert again.search("topic 7 of the series", before_ns=NEVER, top=40) == before
    assert before[0].item == item(7, "topic 7 of the series")
    again.close()


@pytest.mark.parametrize(
    "bad",
    [
        Item(id="", kind=Kind.NEWS, text="x", known_ns=1),
        Item(id="a\0b", kind=Kind.NEWS, text="x", known_ns=1),
        Item(id="a", kind=Kind.NEWS, text="x", known_ns=2**63),
        Item(id="a", kind=Kind.NEWS, text="x", known_ns=1, price=float("nan")),
        Item(id="a", kind=Kind.NEWS, text="x", known_ns=1, outcome=1.5),
        Item(id="a", kind=Kind.NEWS, text="x", known_ns=1, facts={"a": object()}),
        Item(id="a", kind=Kind.NEWS, text="x", known_ns=1, facts={"a": float("inf")}),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_of_the_call_stays(
    memory: Memory, bad: Item
) -> None:
    with pytest.raises(MemoryFailed):
        memory.add([item(1), bad])
    assert memory.items() == []


def test_odd_characters_and_huge_texts_are_kept(memory: Memory) -> None:
    huge = "the central bank raised rates " * 100_000
    memory.add([item(1, huge), item(2, "nul \0 and \ud800 here"), item(3, " \n\t")])
    assert memory.get(Kind.RESOLVED, "i0001") == item(1, huge)
    assert memory.get(Kind.RESOLVED, "i0002") == item(2, "nul \ufffd and ? here")
    assert ids(memory, "did the central bank raise rates \ud800\0?", top=1) == ["i0001"]
    assert len(ids(memory, "", top=5)) == 3


# --- searching ------------------------------------------------------------------------------------


def test_the_nearest_come_first_with_their_similarity(memory: Memory) -> None:
    texts = ["bitcoin above 100000 in march", "bitcoin above 90000 in march", "rain in london"]
    memory.add([item(n, text) for n, text in enumerate(texts)])
    found = memory.search(texts[0], before_ns=NEVER)
    assert [one.item.id for one in found] == ["i0000", "i0001", "i0002"]
    vectors = HashedNgrams().embed(texts).astype(np.float64)
    assert [one.similarity for one in found] == pytest.approx(vectors @ vectors[0], abs=1e-9)


def test_three_unless_told_otherwise(memory: Memory) -> None:
    memory.add([item(n) for n in range(10)])
    assert len(memory.search("question", before_ns=NEVER)) == 3
    assert len(memory.search("question", before_ns=NEVER, top=50)) == 10
    assert memory.search("question", before_ns=NEVER, top=0) == []


def test_equally_near_rows_come_by_id(memory: Memory) -> None:
    memory.add([item(n, "the same words", known=n) for n in reversed(range(120))])
    memory.add([item(5, "the same words", kind=Kind.NEWS)])
    assert ids(memory, "the same words", top=7) == [f"i000{n}" for n in (0, 1, 2, 3, 4, 5, 5)]
    assert ids(memory, "nothing of it, x") == ["i0000", "i0001", "i0002"]
    assert ids(memory, "?!", top=2) == ["i0000", "i0001"]


def test_only_the_kinds_asked_for(memory: Memory) -> None:
    memory.add([item(n, "oil price", kind=kind) for n, kind in enumerate(Kind)])
    for number, kind in enumerate(Kind):
        assert ids(memory, "oil price", kinds=[kind]) == [f"i{number:04}"]
    assert ids(memory, "oil price", kinds=[Kind.NEWS, Kind.RESOLVED]) == ["i0000", "i0002"]


def test_excluded_ids_stay_out_and_others_take_their_place(memory: Memory) -> None:
    memory.add([item(n, "oil price") for n in range(60)])
    memory.add([item(0, "oil price", kind=Kind.NEWS)])
    out = [f"i{n:04}" for n in range(50)] + ["never heard of"]
    assert ids(memory, "oil price", exclude=out) == ["i0050", "i0051", "i0052"]


def test_nothing_from_the_moment_on(memory: Memory) -> None:
    memory.add([item(n, "oil price", known=n) for n in range(5)])
    assert ids(memory, "oil price", before_ns=3, top=9) == ["i0000", "i0001", "i0002"]
    assert ids(memory, "oil price", before_ns=0) == []
    assert len(ids(memory, "oil price", before_ns=2**70, top=9)) == 5
    assert ids(memory, "oil price", before_ns=-(2**70)) == []


def test_a_filter_that_leaves_few_of_many_still_finds_them(memory: Memory) -> None:
    rng = np.random.default_rng(1)
    words = np.array([f"word{n}" for n in range(60)])
    many = [item(n, " ".join(rng.choice(words, 8)), known=1_000 + n) for n in range(1_000)]
    few = [item(9_000 + n, f"aside of it all {n}", known=n) for n in range(4)]
    memory.add([*many, *few])
    # The four are the farthest of all from what is asked, and the only ones known in time.
    found = ids(memory, "word1 word2 word3 word4", before_ns=1_000, top=9)
    assert sorted(found) == [one.id for one in few]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["rates rise", "rates fall", "rates", "war ends", "a war", "", "é"]),
        st.integers(0, 6),
        st.sampled_from(Kind),
        st.integers(0, 9),
    ),
    max_size=25,
)


@pytest.mark.parametrize("place", PLACES)
def test_the_answer_is_what_comparing_everything_gives(
    place: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    memory = _world(place, tmp_path_factory.mktemp("memory"), request).open()
    embedder = HashedNgrams()
    kept: dict[tuple[Kind, str], Item] = {}

    @settings(max_examples=40)
    @given(
        EVENTS,
        st.integers(-1, 8),
        st.integers(1, 6),
        st.lists(st.sampled_from(Kind), unique=True),
        st.lists(st.integers(0, 9).map(lambda n: f"i{n:04}"), max_size=3),
    )
    def check(
        events: list[tuple[str, int, Kind, int]],
        before: int,
        top: int,
        kinds: list[Kind],
        exclude: list[str],
    ) -> None:
        # One memory for all examples: each adds to what those before it left.
        items = [item(n, text, known, kind) if text else
                 Item(id=f"i{n:04}", kind=kind, text="", known_ns=known)
                 for text, known, kind, n in events]  # fmt: skip
        fresh = len({(one.kind, one.id) for one in items} - set(kept))
        assert memory.add(items) == fresh
        kept.update({(one.kind, one.id): one for one in items})
        query = embedder.embed(["rates of war"])[0].astype(np.float64)
        expected = []
        for one in kept.values():
            if (
                one.known_ns < before
                and one.kind in (kinds or list(Kind))
                and one.id not in exclude
            ):
                vector = embedder.embed([one.text])[0].astype(np.float64)
                expected.append((-float((vector * query).sum()), one.id, one.kind.value, one))
        found = memory.search(
            "rates of war", before_ns=before, top=top, kinds=kinds, exclude=exclude
        )
        assert [one.item for one in found] == [one for *_, one in sorted(expected)][:top]
        assert memory.items() == sorted(
            kept.values(), key=lambda one: (one.known_ns, one.id, one.kind.value)
        )

    check()
    memory.close()


def test_both_stores_name_the_same_rows(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rng = np.random.default_rng(2)
    words = np.array([f"term{n}" for n in range(300)])
    texts = [" ".join(rng.choice(words, 9)) for _ in range(800)]
    items = [item(n, text, known=n) for n, text in enumerate(texts)]
    embedded = _world("embedded", tmp_path / "here", request).open()
    postgres = _world("postgres", tmp_path, request).open()
    for memory in (embedded, postgres):
        assert memory.add(items) == len(items)
    for asked in (*texts[:20], "term1", "term1 term2 term3", ""):
        for before in (300, NEVER):
            here = embedded.search(asked, before_ns=before, top=10)
            assert here == postgres.search(asked, before_ns=before, top=10)
    embedded.close()
    postgres.close()


# --- others ---------------------------------------------------------------------------------------


class _Reversed(HashedNgrams):
    """Another embedder: the same vectors from behind."""

    name = "reversed"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ascontiguousarray(super().embed(texts)[:, ::-1])


def test_another_embedder_embeds_what_is_there_and_compares_with_its_own(world: World) -> None:
    first, other = world.open(), world.open(_Reversed())
    first.add([item(1, "gold price"), item(2, "silver price")])
    assert ids(other, "gold price", top=1) == ["i0001"]
    other.add([item(1, "copper price"), item(3, "gold price")])
    for memory in (first, other):
        found = memory.search("gold price", before_ns=NEVER)
        assert found[0].item.id == "i0003"
        assert found[0].similarity == pytest.approx(1)
        assert len(found) == 3
    first.close()
    other.close()


def test_a_reader_sees_what_another_process_adds(world: World) -> None:
    reader = world.open()
    assert reader.search("news", before_ns=NEVER) == []
    process = multiprocessing.get_context("fork").Process(target=_add, args=(world, 0, 1, 7))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert len(reader.search("news", before_ns=NEVER, top=99)) == 7
    reader.close()


def test_readers_and_two_writers_at_once(world: World) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add, args=(world, n, 12, 20)) for n in range(2)]
    for writer in writers:
        writer.start()
    reader = world.open()
    while any(writer.is_alive() for writer in writers):
        for found in reader.search("news of item", before_ns=NEVER, top=20):
            assert found.item.text.startswith("news of item")
            expected = HashedNgrams().embed([found.item.text, "news of item"]).astype(np.float64)
            assert found.similarity == pytest.approx(float(expected[0] @ expected[1]), abs=1e-7)
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    # Both wrote the same ids again and again, and ten of their own.
    assert reader.count()[Kind.NEWS] == 20 + 2 * 10
    assert len(reader.search("news", before_ns=NEVER, top=99)) == 40
    reader.close()


def _add(world: World, writer: int, rounds: int, rows: int) -> None:
    memory = world.open()
    for turn in range(rounds):
        memory.add(
            [
                Item(
                    id=f"n{n}",
                    kind=Kind.NEWS,
                    text=f"news of item {n} version {turn * 2 + writer}",
                    known_ns=n,
                )
                for n in range(rows)
            ]
        )
        if rounds > 1 and turn < 10:
            own = f"w{writer}-{turn}"
            memory.add([Item(id=own, kind=Kind.NEWS, text=f"news of item {own}", known_ns=1)])
    memory.close()
