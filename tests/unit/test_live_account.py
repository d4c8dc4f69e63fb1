"""Balances of many tokens: one reading of the chain instead of two requests each."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet.domain.instruments import InstrumentId
from fleet.domain.units import Qty
from fleet.venues.polymarket import live_account
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.contracts import is_position_id
from fleet.venues.polymarket.live_account import MANY, Account
from fleet.venues.port import TransportFailed

POSITION = next(str(n << 248 | 7) for n in range(256) if is_position_id(n << 248 | 7))


class Clob:
    """Answers every balance with 5 and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def refresh_balance(self, token: str = "", *, position: bool = False) -> None:
        self.asked.append(token)

    async def balance(self, token: str = "", *, position: bool = False) -> Any:
        return SimpleNamespace(amount=5)


def tokens(count: int) -> list[InstrumentId]:
    return [InstrumentId(str(1_000 + number)) for number in range(count)]


def read(
    wanted: Sequence[InstrumentId], *, down: bool = False, chain: bool = True
) -> tuple[dict[InstrumentId, Qty], Clob, list[int]]:
    clob, calls = Clob(), []

    async def on_chain(some: Sequence[InstrumentId]) -> Mapping[InstrumentId, Qty]:
        calls.append(len(some))
        if down:
            raise TransportFailed("the node is away", sent=False)
        return {token: Qty(7) for token in some}

    account = Account(cast("ClobClient", clob), "0xw", on_chain=on_chain if chain else None)
    return asyncio.run(account._holdings(wanted)), clob, calls


def test_few_tokens_are_asked_of_the_venue() -> None:
    held, clob, calls = read(tokens(MANY))
    assert (len(clob.asked), calls) == (MANY, [])
    assert set(held.values()) == {5}


def test_many_are_read_from_the_chain_at_once() -> None:
    held, clob, calls = read(tokens(300))
    assert (clob.asked, calls) == ([], [300])
    assert len(held) == 300
    assert set(held.values()) == {7}


def test_positions_of_the_new_protocol_are_still_asked_of_the_venue() -> None:
    wanted = [*tokens(MANY), InstrumentId(POSITION)]
    held, clob, calls = read(wanted)
    assert (clob.asked, calls) == ([POSITION], [MANY])
    assert held[InstrumentId(POSITION)] == 5


@pytest.mark.parametrize(("down", "chain"), [(True, True), (False, False)])
def test_without_a_node_every_token_is_asked_of_the_venue(down: bool, chain: bool) -> None:
    held, clob, _ = read(tokens(MANY + 5), down=down, chain=chain)
    assert len(clob.asked) == len(held) == MANY + 5
    assert live_account.MANY == MANY
