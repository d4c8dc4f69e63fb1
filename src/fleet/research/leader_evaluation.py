"""Choose leaders on the earlier part of a recording, copy them on the later part, say what it paid.

The choice is made by ``score`` and ``judge`` at the split, from what was known then. The copies are
every later trade of the chosen, replayed with costs. They are set beside random lists of the same
size and the list of those who had won most, with intervals over events. Where a recording has no
prices after a trade, they are assumed, and the result says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from fleet.clock import NS_PER_DAY, NS_PER_SECOND
from fleet.domain.instruments import Side
from fleet.domain.units import Price
from fleet.research.copyability import (
    CENT,
    AssumedPrices,
    CopyRules,
    RecordedPrints,
    replay,
)
from fleet.research.leader_boards import (
    BOARDS_FILE,
    BOARDS_FOLDER,
    BoardEvaluation,
    evaluate_boards,
)
from fleet.research.leader_gate import MARKETS_MIN, Reason, Verdict, judge
from fleet.research.leader_history import MarketResult, WalletHistory, market_results
from fleet.research.leader_records import (
    LEDGER_FILE,
    LEDGER_FOLDER,
    PRINTS,
    RecordingError,
    WalletRecords,
    read_prints,
    read_wallets,
)
from fleet.research.leader_scores import (
    ScoreRules,
    WalletScore,
    bet_of,
    dollars,
    edge_of,
    score,
    settled_bets,
)
from fleet.research.leader_statistics import SEED, Interval, luck_p_value

TOP: Final = 5
"""How many wallets a list has where nothing else says it."""
DRAWS: Final = 1_000
SLIPPAGES: Final = (0, CENT // 2, CENT, 2 * CENT)
DELAYS_S: Final = (2, 15, 60, 300)
"""The chain's delay, and those of the data APIs (reference 6.2, 7.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to evaluate. ``slippage`` is dollars a share at 1e-8 where prices are not recorded."""

    split_ns: int | None = None
    slippage: Price = Price(CENT)
    draws: int = DRAWS
    seed: int = SEED


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """What copying one list in the later part paid; dollars. ``edge`` None if nothing was copied.

    ``luck_p`` is the chance of that by luck at the prices paid if markets of one event go together,
    ``luck_p_apart`` if every market goes its own way. ``won`` are the markets that paid.
    """

    name: str
    wallets: tuple[str, ...]
    active: int
    markets: int
    stake: float
    pnl: float
    edge: Interval | None
    luck_p: float
    luck_p_apart: float
    won: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayCost:
    """Copying whole markets' recorded prints at one delay. ``cost`` is cents a dollar bought."""

    delay_s: int
    wanted: float
    fill_ratio: float
    cost_cents: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All numbers of the report; ``boards`` and ``delays`` are None and empty without their data.

    ``random_edges`` are those of the random lists, sorted; ``by_slippage`` what every list earns at
    other slippages; ``categories`` is everybody's later part by category.
    """

    folder: str
    options: Options
    records: WalletRecords
    split_ns: int
    scores: tuple[WalletScore, ...]
    verdicts: tuple[Verdict, ...]
    lists: tuple[CopyResult, ...]
    random_edges: tuple[float, ...]
    random_size: int
    untimed_later: int
    by_slippage: Mapping[int, tuple[tuple[str, Interval | None], ...]]
    categories: Mapping[str, CopyResult]
    boards: BoardEvaluation | None = None
    delays: tuple[DelayCost, ...] = ()
    prints_repeated: int = 0
    prints_count: int = 0

    @property
    def gate(self) -> CopyResult:
        """The list the gate chose."""
        return self.lists[0]

    @property
    def copied(self) -> tuple[str, ...]:
        """Wallets that pass the gate."""
        return tuple(v.wallet for v in self.verdicts if v.copied)


def evaluate_leaders(folder: Path, options: Options) -> Evaluation:
    """Evaluate every recording of wallets under ``folder``. Raises ``RecordingError``."""
    ledger = folder if (folder / LEDGER_FILE).exists() else folder / LEDGER_FOLDER
    if not (ledger / LEDGER_FILE).exists():
        raise RecordingError(
            f"{folder} holds neither {LEDGER_FILE} nor a folder {LEDGER_FOLDER} with it;"
            " name the folder `trades` of the recorded data"
        )
    records = read_wallets(ledger)
    split = default_split(records) if options.split_ns is None else options.split_ns
    if not records.start_ns < split < records.stop_ns:
        raise RecordingError(
            f"--split {day(split)} is outside the recording, {day(records.start_ns)} to"
            f" {day(records.stop_ns)}; choose a day between"
        )
    rules = ScoreRules(source=AssumedPrices(slippage=options.slippage))
    scores = tuple(score(h, split, rules) for h in records.histories if _traded_by(h, split))
    verdicts = tuple(judge(scores))
    later = later_copies(records.histories, split, options.slippage)
    lists = _lists(scores, verdicts, later)
    size = len(lists[0].wallets) or len(lists[1].wallets) or TOP
    boards = folder / BOARDS_FOLDER
    prints = folder.joinpath(*PRINTS)
    board = delays = None
    if (boards / BOARDS_FILE).exists():
        board = evaluate_boards(boards, draws=options.draws, seed=options.seed)
    if prints.exists():
        delays = delay_costs(prints)
    return Evaluation(
        folder=str(folder),
        options=options,
        records=records,
        split_ns=split,
        scores=scores,
        verdicts=verdicts,
        lists=lists,
        random_edges=random_edges(later, size, options),
        random_size=size,
        untimed_later=sum(_untimed(records, later)),
        by_slippage={
            slippage: _edges(lists, later_copies(records.histories, split, Price(slippage)))
            for slippage in SLIPPAGES
        },
        categories=_categories(later),
        boards=board,
        delays=() if delays is None else delays[0],
        prints_repeated=0 if delays is None else delays[1],
        prints_count=0 if delays is None else delays[2],
    )


def default_split(records: WalletRecords) -> int:
    """Midnight UTC after half of the picks whose wallets have timed outcomes were made."""
    timed = sorted(
        trade.ts_ns
        for history in records.histories
        if any(r.known_ns is not None for r in history.resolutions.values())
        for trade in history.trades
    )
    if len(timed) < 2:
        raise RecordingError("no outcome has a time, so nothing can be chosen point in time")
    return (timed[len(timed) // 2] // NS_PER_DAY + 1) * NS_PER_DAY


def later_copies(
    histories: Iterable[WalletHistory], split_ns: int, slippage: Price
) -> dict[str, list[MarketResult]]:
    """Wallet -> settled copies of what it traded after the split.

    Markets it was in before are left out: a copier that starts at the split has no part in them.
    """
    source = AssumedPrices(slippage=slippage)
    found = {}
    for history in histories:
        before = {t.market_id for t in history.trades if t.ts_ns <= split_ns}
        trades = tuple(
            t for t in history.trades if t.ts_ns > split_ns and t.market_id not in before
        )
        if trades:
            copied = replay(replace(history, trades=trades), CopyRules(), source)
            found[history.wallet] = settled_bets(market_results(copied.history))
    return {wallet: results for wallet, results in found.items() if results}


def _traded_by(history: WalletHistory, split_ns: int) -> bool:
    return bool(history.trades) and history.trades[0].ts_ns <= split_ns


def _untimed(records: WalletRecords, later: Mapping[str, Sequence[MarketResult]]) -> Iterable[bool]:
    for history in records.histories:
        for result in later.get(history.wallet, []):
            yield history.resolutions[result.market_id].known_ns is None


def copy_result(
    name: str, wallets: Sequence[str], later: Mapping[str, Sequence[MarketResult]]
) -> CopyResult:
    """Copying all of ``wallets`` together."""
    results = [r for wallet in wallets for r in later.get(wallet, [])]
    return CopyResult(
        name=name,
        wallets=tuple(wallets),
        active=sum(wallet in later for wallet in wallets),
        markets=len(results),
        stake=dollars(sum(r.stake for r in results)),
        pnl=dollars(sum(r.pnl or 0 for r in results)),
        edge=edge_of(results),
        luck_p=luck_p_value([bet_of(r) for r in results]),
        luck_p_apart=luck_p_value([bet_of(r) for r in results], together=False),
        won=sum((r.pnl or 0) > 0 for r in results),
    )


def _lists(
    scores: Sequence[WalletScore],
    verdicts: Sequence[Verdict],
    later: Mapping[str, Sequence[MarketResult]],
) -> tuple[CopyResult, ...]:
    """The gate, the plain gate, winners so far, the top-P&L list, and everybody."""
    passed = [v.wallet for v in verdicts if v.copied]
    plain = [
        s.wallet
        for s, v in zip(scores, verdicts, strict=True)
        if s.resolved_markets >= MARKETS_MIN
        and not {Reason.MARKET_MAKER, Reason.WASH_TRADER} & set(v.reasons)
        and s.recent_copy_edge is not None
        and s.recent_copy_edge.estimate > 0
    ]
    by_pnl = sorted((s for s in scores if s.resolved_markets), key=lambda s: (-s.pnl, s.wallet))
    won = [s.wallet for s in scores if s.copy_edge is not None and s.copy_edge.estimate > 0]
    return (
        copy_result("the gate", passed, later),
        copy_result("plain gate", plain, later),
        copy_result("had paid before", won, later),
        copy_result(f"top {TOP} by P&L", [s.wallet for s in by_pnl[:TOP]], later),
        copy_result("everybody", list(later), later),
    )


def _edges(
    lists: Sequence[CopyResult], later: Mapping[str, Sequence[MarketResult]]
) -> tuple[tuple[str, Interval | None], ...]:
    """The same lists at other prices."""
    return tuple(
        (one.name, edge_of([r for wallet in one.wallets for r in later.get(wallet, [])]))
        for one in lists
    )


def random_edges(
    later: Mapping[str, Sequence[MarketResult]], size: int, options: Options
) -> tuple[float, ...]:
    """Returns of copying ``size`` wallets drawn blindly from those active later, sorted."""
    rng = np.random.default_rng(options.seed)
    wallets = sorted(later)
    stakes = np.array([dollars(sum(r.stake for r in later[w])) for w in wallets])
    pnls = np.array([dollars(sum(r.pnl or 0 for r in later[w])) for w in wallets])
    size = min(size, len(wallets))
    found = []
    for _ in range(options.draws):
        drawn = rng.choice(len(wallets), size=size, replace=False)
        if stakes[drawn].sum() > 0:
            found.append(float(pnls[drawn].sum() / stakes[drawn].sum()))
    return tuple(sorted(found))


def _categories(later: Mapping[str, Sequence[MarketResult]]) -> dict[str, CopyResult]:
    names = sorted({r.category for results in later.values() for r in results})
    return {
        name: copy_result(
            name, list(later), {w: [r for r in rs if r.category == name] for w, rs in later.items()}
        )
        for name in names
    }


def delay_costs(path: Path) -> tuple[tuple[DelayCost, ...], int, int]:
    """Copy every buyer of recorded prints at each delay; also repeats left out, and prints.

    Only buys above 2 and below 98 cents, where a cent is not the whole price.
    """
    prints, histories, repeated = read_prints(path)
    found = []
    for delay_s in DELAYS_S:
        source = RecordedPrints(prints)
        wanted = bought = slippage = 0
        for history in histories:
            buys = tuple(
                t for t in history.trades if t.side is Side.BUY and 2 * CENT < t.price < 98 * CENT
            )
            replayed = replay(
                replace(history, trades=buys),
                CopyRules(delay_ns=delay_s * NS_PER_SECOND),
                source,
            )
            wanted += replayed.wanted
            bought += replayed.bought
            slippage += replayed.slippage
        found.append(
            DelayCost(
                delay_s=delay_s,
                wanted=dollars(wanted),
                fill_ratio=bought / wanted if wanted else 0.0,
                cost_cents=100 * slippage / bought if bought else 0.0,
            )
        )
    return tuple(found), repeated, sum(len(p) for p in prints.values())


def day(ts_ns: int) -> str:
    """A UTC day for a person."""
    return datetime.fromtimestamp(ts_ns / NS_PER_SECOND, UTC).strftime("%Y-%m-%d")
