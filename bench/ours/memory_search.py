"""One search of the retrieval memory among ROWS vectors of 384, against sorting all of them.

``ours`` is ``EmbeddedMemory.search`` as PolyAI calls it: the query's vector from the cache, a look
for rows of other processes, the filter by moment, exact cosine, the three rows read from SQLite.
``argsort`` is what one writes first: the whole matrix times the query, the filter, a full sort; its
rows are not read. Both go over the same mapped file and must name the same rows.

Run by bench/run.py: ``memory_search.py ROWS FOLDER``. The naive way uses BLAS
with the threads it is given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from timing import report

from fleet.forecasting.embedded_memory import EmbeddedMemory, matrix_name
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.port import Item, Kind
from fleet.forecasting.vectors import Matrix, unit_rows

DIM = 384
QUERIES = 60
NEVER = 2**62


class Drawn:
    """Vectors drawn by number: what a search costs does not depend on what they mean."""

    name = "drawn"
    dim = DIM

    def embed(self, texts: Sequence[str]) -> Any:
        """One row a text, from the number it ends with."""
        rows = np.empty((len(texts), DIM))
        for place, text in enumerate(texts):
            rows[place] = np.random.default_rng(int(text.rpartition(" ")[2])).standard_normal(DIM)
        return unit_rows(rows, count=len(texts), dim=DIM, who=self.name)


def main() -> None:
    """Fill, search, sort, compare; print one JSON line."""
    rows, folder = int(sys.argv[1]), Path(sys.argv[2]) / "memory"
    memory = EmbeddedMemory(folder, CachedEmbedder(Drawn(), folder / "embeddings.db"))
    begun = time.perf_counter()
    for start in range(0, rows, 5_000):
        memory.add(
            [
                Item(id=f"i{n:07}", kind=Kind.RESOLVED, text=f"question {n}", known_ns=n)
                for n in range(start, min(rows, start + 5_000))
            ]
        )
    load_s = time.perf_counter() - begun
    memory.close()
    begun = time.perf_counter()
    memory = EmbeddedMemory(folder, CachedEmbedder(Drawn(), folder / "embeddings.db"))
    open_s = time.perf_counter() - begun
    before_mb = psutil.Process().memory_info().rss / 1e6

    matrix = Matrix(folder / matrix_name(Drawn.name), name=Drawn.name, dim=DIM).rows(rows)
    known = np.arange(rows)
    queries = [f"asked {10_000_000 + n}" for n in range(QUERIES)]
    vectors = memory.embedder.embed(queries)
    taken: dict[str, list[float]] = {"ours": [], "half": [], "argsort": []}
    for query, vector in zip(queries, vectors, strict=True):
        begun = time.perf_counter()
        found = memory.search(query, before_ns=NEVER)
        taken["ours"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        memory.search(query, before_ns=rows // 2)
        taken["half"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        similarities = matrix @ vector
        similarities[known >= NEVER] = -2
        best = np.argsort(-similarities)[:3]
        taken["argsort"].append(time.perf_counter() - begun)
        if [f"i{n:07}" for n in best] != [one.item.id for one in found]:
            sys.exit("the two disagree")
    after_mb = psutil.Process().memory_info().rss / 1e6
    memory.close()
    report(
        {
            "p50_ms": median(taken["ours"]) * 1e3,
            "p99_ms": sorted(taken["ours"])[QUERIES * 99 // 100] * 1e3,
            "half_p50_ms": median(taken["half"]) * 1e3,
            "argsort_p50_ms": median(taken["argsort"]) * 1e3,
            "open_s": open_s,
            "load_s": load_s,
            "rss_growth_mb": after_mb - before_mb,
        }
    )


if __name__ == "__main__":
    main()
