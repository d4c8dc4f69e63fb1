"""The ``Execution`` contract on Alpaca: alpaca-py and our venue over the local server, unchanged.

The clauses are those of every venue. Not run are the four that need what a stock exchange has not;
each is named with its reason, and what they say of orders is shown in ``test_stocks_venue.py``.
"""

import asyncio
from typing import Final

import pytest

from tests.contract.execution_clauses import CLAUSES, REPEATED, Clause, laws
from tests.contract.stocks_bench import StocksBench

NOT_HERE: Final = {
    "a_fak_that_meets_less_ends_after_its_fills": "it makes tokens to sell by a split",
    "a_fill_is_matched_then_mined_then_confirmed": "there is no chain: a fill is final",
    "a_split_and_a_merge_confirm_once_with_the_exact_cash": "shares are not split",
    "the_account_is_the_fold_of_the_facts": "it merges; the fold is checked elsewhere",
}
HERE: Final = [clause for clause in CLAUSES if clause.__name__ not in NOT_HERE]


async def hold(bench: StocksBench, clause: Clause) -> None:
    """Try one clause; the clauses about repeated news hear everything twice."""
    try:
        async with asyncio.timeout(60):
            await bench.open()
            if clause in REPEATED:
                bench.fault("stream-duplicate")
            await clause(bench)
            laws(bench)
    finally:
        await bench.close()
    assert not bench.failures


@pytest.mark.parametrize("clause", HERE, ids=lambda clause: clause.__name__)
def test_the_engine_may_rely_on_it(clause: Clause) -> None:
    asyncio.run(hold(StocksBench(), clause))


def test_every_exception_is_of_a_clause() -> None:
    assert set(NOT_HERE) <= {clause.__name__ for clause in CLAUSES}
    assert len(HERE) == len(CLAUSES) - len(NOT_HERE)
