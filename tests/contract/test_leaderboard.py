"""The sandbox's leaderboard, read by the fleet's own reads over a real socket."""

import httpx

from fleet.domain.instruments import Side
from fleet.domain.units import SCALE
from fleet.venues.polymarket.data_reads import DataReads
from fleet.venues.transport import JsonClient
from tests.contract.live_bench import LOCAL, LiveBench, play


def test_the_leaderboard_is_what_the_ledger_says() -> None:
    async def story(bench: LiveBench) -> None:
        instrument = bench.liquid()[0]
        _, ask = bench.best(instrument.id)
        assert ask is not None
        http = JsonClient(bench.hosts.data_url, LOCAL)
        try:
            reads = DataReads(http)
            assert await reads.leaderboard() == [], "nobody has traded"
            await bench.ended(bench.submit(instrument, Side.BUY, ask, "10"))
            await bench.quiet()
            (trade,) = bench.server.exchange.trades(bench.owner)
            (rank,) = await reads.leaderboard(period="day", count=5)
            assert rank.wallet == bench.key.address
            assert rank.volume == trade.cash * 100
            # It holds what it paid for at the middle of the spread, less the fee: a small loss.
            (held,) = await reads.positions(bench.key.address)
            assert rank.pnl == held.total_pnl
            assert -SCALE < rank.pnl < 0
            (seen,) = (await reads.trades(bench.key.address)).trades
            assert (seen.taker, seen.qty, seen.price) == (True, trade.size * 100, trade.price)
        finally:
            await http.close()
        url = f"{bench.hosts.data_url}/v2/leaderboard"
        async with httpx.AsyncClient() as client:
            for wrong in ({"time_period": "year"}, {"sort_by": "LUCK"}, {"limit": "0"}):
                assert (await client.get(url, params=wrong)).status_code in {400, 422}

    play(story)
