"""The ``Execution`` contract, run unchanged on paper, on a real sandbox and on a recording of one.

The recording is made by ``scripts/record_transcript.py``; docs/live.md says how to make one of the
real venue.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.contract import transcript
from tests.contract.execution_bench import Bench, PaperBench
from tests.contract.execution_clauses import CLAUSES, REPEATED, Clause, laws
from tests.contract.execution_wire import ReplayBench, SandboxBench

TRANSCRIPT: Final = Path(__file__).parents[1] / "data" / "transcripts" / "sandbox.jsonl"
LEAST: Final = {
    ("paper", "repeated_news_of_a_fill_adds_nothing"):
        "paper has no wire that could say a thing twice; shown by its account saying it again",
    ("paper", "a_fak_that_meets_nothing_ends_without_fills"):
        "rejected, as the venue rejects it; live posts a FAK BUY as GTC and cancels it",
    ("paper", "after_a_crash_the_account_tells_what_was_missed"):
        "what rests on paper ends with the process, and the account says so; live it rests on",
    ("sandbox", "a_rejected_order_says_why_and_leaves_no_trace"):
        "off the tick and below the minimum never reach the venue: the guard does not sign them",
    ("transcript", "a_rejected_order_says_why_and_leaves_no_trace"):
        "the same",
    ("transcript", "after_a_crash_the_account_tells_what_was_missed"):
        "the server forgets nothing in between, because it is a recording",
}  # fmt: skip
"""Where a venue shows less of a clause than the words say, and why. No clause is left out."""


def paper(_: str) -> Bench:
    return PaperBench()


def sandbox(_: str) -> Bench:
    return SandboxBench()


def replayed(path: Path, clause: str) -> Bench:
    head, clauses = transcript.read(path)
    return ReplayBench(head, clauses[clause])


VENUES: Final[dict[str, Callable[[str], Bench]]] = {
    "paper": paper, "sandbox": sandbox, "transcript": partial(replayed, TRANSCRIPT),
}  # fmt: skip
# A recording of another host joins by lying beside it.
VENUES.update(
    (f"transcript of {path.stem}", partial(replayed, path))
    for path in sorted(TRANSCRIPT.parent.glob("*.jsonl"))
    if path != TRANSCRIPT
)


async def hold(bench: Bench, clause: Clause) -> None:
    """Try one clause on one venue."""
    bench.repeats = clause in REPEATED
    try:
        async with asyncio.timeout(100):
            await bench.open()
            await clause(bench)
            laws(bench)
    finally:
        await bench.close()
    assert not bench.failures


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
def test_the_engine_may_rely_on_it(venue: str, clause: Clause) -> None:
    asyncio.run(hold(VENUES[venue](clause.__name__), clause))


def test_every_clause_was_recorded_and_every_exception_is_of_a_clause() -> None:
    head, clauses = transcript.read(TRANSCRIPT)
    names = [clause.__name__ for clause in CLAUSES]
    assert list(clauses) == names
    assert "sandbox" in head.recorded_from
    assert "sandbox" in head.note
    assert {name for _, name in LEAST} <= set(names)
    assert {venue for venue, _ in LEAST} <= VENUES.keys()
    assert TRANSCRIPT.stat().st_size < 200_000
