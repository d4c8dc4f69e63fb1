"""Dealing instruments to connections; the sockets themselves are met in tests/e2e."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.instruments import InstrumentId, Market, MarketId
from fleet.venues.polymarket.feed import MarketFeed, deal_shards, token_groups
from fleet.venues.polymarket.shard import ASSETS_MAX

Group = tuple[InstrumentId, ...]
group_lists = st.lists(
    st.lists(st.integers(0, 300).map(lambda n: InstrumentId(str(n))), max_size=4).map(tuple),
    max_size=120,
)


@given(group_lists, st.integers(4, 50))
def test_every_token_once_and_no_shard_too_full(groups: list[Group], assets_max: int) -> None:
    shards = deal_shards(groups, assets_max)
    dealt = [token for shard in shards for token in shard]
    assert sorted(dealt) == sorted({token for group in groups for token in group})
    assert all(0 < len(shard) <= assets_max for shard in shards)


@given(st.integers(1, 300))
def test_the_two_tokens_of_a_market_share_a_connection(markets: int) -> None:
    groups = [(InstrumentId(f"y{n}"), InstrumentId(f"n{n}")) for n in range(markets)]
    shards = deal_shards(groups, ASSETS_MAX)
    assert len(shards) == -(-2 * markets // ASSETS_MAX)
    where = {token: number for number, shard in enumerate(shards) for token in shard}
    assert all(where[yes] == where[no] for yes, no in groups)


def test_a_group_larger_than_a_connection_is_refused() -> None:
    group = tuple(InstrumentId(str(n)) for n in range(5))
    with pytest.raises(ValueError, match="5 tokens does not fit 4"):
        deal_shards([group], 4)


def test_groups_of_markets() -> None:
    market = Market(id=MarketId("m"), question="?", yes=InstrumentId("y"), no=InstrumentId("n"))
    assert token_groups([market]) == [("y", "n")]


def test_a_feed_without_instruments_is_refused() -> None:
    with pytest.raises(ValueError, match="no instruments"):
        MarketFeed("ws://127.0.0.1:1/ws/market", [()], lambda _events: None)
