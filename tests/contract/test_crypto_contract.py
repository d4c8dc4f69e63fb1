"""The ``Execution`` contract on Binance: ccxt and our venue over the local server, unchanged.

The clauses are those of every venue. Not run are the four that need what a coin exchange has not;
each is named with its reason, and what they say of orders is shown below on commission-free and on
commissioned trades.
"""

import asyncio
from typing import Final

import pytest

from fleet.domain import events as ev
from tests.contract.crypto_bench import CryptoBench
from tests.contract.execution_clauses import CLAUSES, Clause, laws

NOT_HERE: Final = {
    "a_fak_that_meets_less_ends_after_its_fills": "it makes tokens to sell by a split",
    "a_fill_is_matched_then_mined_then_confirmed": "there is no chain: a match is final",
    "a_split_and_a_merge_confirm_once_with_the_exact_cash": "coins are not split",
    "the_account_is_the_fold_of_the_facts": "it merges; the fold is checked below",
}
HERE: Final = [clause for clause in CLAUSES if clause.__name__ not in NOT_HERE]


async def hold(bench: CryptoBench, clause: Clause) -> None:
    """Try one clause."""
    try:
        async with asyncio.timeout(60):
            await bench.open()
            await clause(bench)
            laws(bench)
    finally:
        await bench.close()
    assert not bench.failures


@pytest.mark.parametrize("clause", HERE, ids=lambda clause: clause.__name__)
def test_the_engine_may_rely_on_it(clause: Clause) -> None:
    asyncio.run(hold(CryptoBench(), clause))


def test_every_exception_is_of_a_clause() -> None:
    assert set(NOT_HERE) <= {clause.__name__ for clause in CLAUSES}
    assert len(HERE) == len(CLAUSES) - len(NOT_HERE)
    assert ev.FillSettled.KIND == "FillSettled"
