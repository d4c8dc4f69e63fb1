"""One round of scoring: read the candidates, score them, judge them together, make the records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fleet.journal.leaders import ScoreRecord
from fleet.research.copyability import AssumedPrices, PriceSource
from fleet.research.leader_fetch import LeaderFetch
from fleet.research.leader_gate import judge
from fleet.research.leader_history import WalletHistory
from fleet.research.leader_records import LEDGER_FILE, LEDGER_FOLDER, RecordingError, read_wallets
from fleet.research.leader_scores import ScoreRules, score
from fleet.venues.polymarket.data_reads import DataReads, Period
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.keys import checksum_address
from fleet.venues.transport import HttpSettings, JsonClient

PER_SECOND: Final = 10
"""Half of the reads a second that ``HttpSettings`` allows by itself: bots read from here too."""


async def read_histories(
    hosts: Hosts, wallets: Sequence[str], now_ns: int, *, period: Period, count: int, measure: int
) -> tuple[list[WalletHistory], PriceSource]:
    """Histories of ``wallets``, or of the leaderboard if there are none, and prices to copy at.

    ``measure`` markets a wallet are priced by others' trades; 0 assumes. Raises ``VenueError``.
    """
    settings = HttpSettings(per_second=PER_SECOND, burst=PER_SECOND)
    data, clob = JsonClient(hosts.data_url, settings), JsonClient(hosts.clob_url, settings)
    try:
        reads = DataReads(data)
        if not wallets:
            ranks = await reads.leaderboard(period=period, count=count)
            wallets = list(dict.fromkeys(checksum_address(rank.wallet) for rank in ranks))
        fetch = LeaderFetch(reads, clob)
        histories = [await fetch.history(wallet, now_ns) for wallet in wallets]
        source: PriceSource = AssumedPrices()
        if measure:
            source = await fetch.prints(histories, measure)
        return histories, source
    finally:
        await data.close()
        await clob.close()


def judged_recording(
    folder: Path, as_of_ns: int | None, now_ns: int, earlier: Mapping[str, float]
) -> list[ScoreRecord]:
    """Score the wallets of recorded picks at an instant, by default the recording's end.

    Raises ``RecordingError``.
    """
    inner = folder if (folder / LEDGER_FILE).exists() else folder / LEDGER_FOLDER
    records = read_wallets(inner)
    at_ns = records.stop_ns if as_of_ns is None else as_of_ns
    traded = [h for h in records.histories if h.trades[0].ts_ns <= at_ns]
    if not traded:
        raise RecordingError(f"{inner} has no pick by then; choose a later --as-of")
    return judged(traded, at_ns, now_ns, earlier, AssumedPrices())


def judged(
    histories: Sequence[WalletHistory],
    as_of_ns: int,
    now_ns: int,
    earlier: Mapping[str, float],
    source: PriceSource,
) -> list[ScoreRecord]:
    """Score and judge candidates together, those with most resolved markets first."""
    scores = [score(history, as_of_ns, ScoreRules(source=source)) for history in histories]
    verdicts = {v.wallet: v for v in judge(scores, earlier_p_values=earlier)}
    scores.sort(key=lambda one: (-one.resolved_markets, one.wallet))
    return [
        ScoreRecord(
            wallet=checksum_address(one.wallet),
            scored_ns=now_ns,
            as_of_ns=as_of_ns,
            copied=verdicts[one.wallet].copied,
            verdict=verdicts[one.wallet].words,
            p_value=one.p_value if one.recent_copy_edge is not None else None,
            body=json.dumps(
                one.as_json()
                | {
                    "q_value": verdicts[one.wallet].q_value,
                    "reasons": [reason.name for reason in verdicts[one.wallet].reasons],
                }
            ),
        )
        for one in scores
    ]
