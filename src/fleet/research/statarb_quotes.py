"""Read recorded best quotes as a universe and its polls, ready to be fed to an engine.

Two recordings are known, told apart by their files: crypto markets with the prices of their
underlyings, and groups of legs polled together with their winners. Quotes become integers at 1e-8
once, on reading. A side without a price is 0, never a guess. Only the YES book is recorded: the NO
book is its mirror, as it is at the venue.

Events none of whose markets could ever be a leg are left out, which changes no decision. Outcomes
are hindsight: they settle what is still held at the end and decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import polars as pl

from fleet.domain.instruments import (
    FeeSchedule,
    Instrument,
    InstrumentId,
    Ladder,
    Market,
    MarketId,
    OutcomeSet,
    SetId,
    Universe,
)
from fleet.domain.units import SCALE, Price
from fleet.research.set_quotes import FEE_RATES, UNKNOWN_FEE_RATE
from fleet.research.set_structure import Standing, judge_structure
from fleet.strategies.statarb_relations import read_threshold
from fleet.venues.polymarket.ladders import Candidate, find_ladders

NS: Final = 1_000_000_000
GONE_S: Final = 900
"""A market that was not polled for so long has no book any more; polls are 1 to 3 minutes apart."""
REFERENCE_S: Final = 600
"""An underlying's price older than this is not known."""
LEAST_QUOTES: Final = 40
"""Two-sided quotes below which a market could never pass the coverage of a window."""
LEAST_MID: Final = 5 * SCALE // 100
GRID: Final = 10_000
"""Prices are whole multiples of 1e-4; recordings hold them as binary fractions."""
TICKS: Final = (SCALE // 100, SCALE // 1_000, GRID)

Quote = tuple[MarketId, Price, Price]
"""Market, best bid and best ask of YES; 0 for a side without a price."""


class QuotesError(ValueError):
    """The folder holds no recording that can be read, or nothing in the asked time."""


@dataclass(frozen=True, slots=True)
class Poll:
    """One moment: all two-sided quotes, the books that changed, and the markets that went."""

    at_s: int
    quotes: tuple[Quote, ...]
    changed: tuple[Quote, ...]
    gone: tuple[MarketId, ...]
    references: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRecording:
    """A universe and what was quoted. ``outcomes`` is market -> (second, payout of YES)."""

    name: str
    universe: Universe
    polls: Sequence[Poll]
    outcomes: Mapping[MarketId, tuple[int, Price]]
    rows: int
    spacing_s: int
    listed: int
    """Markets in the recording, those left out included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """One market as a recording describes it."""

    id: MarketId
    question: str
    event: str
    title: str
    leg: str
    category: str
    end_ns: int = 0
    outcome: tuple[int, Price] | None = None


def read_quotes(
    folder: Path, *, days: float | None = None, events: int | None = None
) -> QuoteRecording:
    """Read ``folder``; only its first ``days``, and the ``events`` with most quotes, if given.

    Raises ``QuotesError`` if the folder is no such recording, or nothing is left of it.
    """
    groups = (folder / "multileg_quotes.parquet").is_file()
    if not groups and not (folder / "underlying_prices.parquet").is_file():
        raise QuotesError(
            f"{folder} is no recording of quotes; expected multileg_quotes.parquet with"
            " multileg_legs.csv, or quotes.parquet with markets.parquet and"
            " underlying_prices.parquet, such as $FLEET_DATA/orderbook/tsl_crypto_markets_2min"
        )
    try:
        listings, quotes, references = (_read_groups if groups else _read_crypto)(folder)
    except (pl.exceptions.PolarsError, OSError, LookupError, ValueError, TypeError) as error:
        raise QuotesError(f"{folder} cannot be read as recorded quotes: {error}") from error
    if quotes.is_empty():
        raise QuotesError(f"{folder} holds no quote of a listed market")
    if days is not None:
        end_s = int(quotes["at_s"][0] + days * 86_400)
        quotes = quotes.filter(pl.col("at_s") < end_s)
    kept = _worth_reading(listings, quotes, events)
    if not kept:
        raise QuotesError(
            f"no market of {folder} is quoted often enough in the asked time to be tested;"
            " take more --days"
        )
    known = {listing.id: listing for listing in kept}
    quotes = quotes.filter(pl.col("market").is_in(list(known)))
    return QuoteRecording(
        name=folder.name,
        universe=_universe(kept, _finest_ticks(quotes)),
        polls=_polls(quotes, references),
        outcomes={one.id: one.outcome for one in kept if one.outcome is not None},
        rows=quotes.height,
        spacing_s=_spacing(quotes),
        listed=len(listings),
    )


def _units(name: str) -> pl.Expr:
    """A price as an integer at 1e-8; 0 for none and for what is not inside (0, 1)."""
    value = (pl.col(name).cast(pl.Float64).fill_nan(None) * (SCALE // GRID)).round() * GRID
    inside = (value > 0) & (value < SCALE)
    return pl.when(inside).then(value).otherwise(0).cast(pl.Int64).fill_null(0)


def _ordered(quotes: pl.DataFrame) -> pl.DataFrame:
    """One row a market and second, in time; a crossed quote has no sides."""
    sound = (pl.col("bid") == 0) | (pl.col("ask") == 0) | (pl.col("bid") < pl.col("ask"))
    cleaned = [
        pl.when(sound).then(pl.col(name)).otherwise(0).alias(name) for name in ("bid", "ask")
    ]
    return (
        quotes.with_columns(cleaned)
        .unique(["at_s", "market"], keep="last", maintain_order=True)
        .sort("at_s", "market")
    )


def _read_groups(
    folder: Path,
) -> tuple[list[_Listing], pl.DataFrame, dict[str, list[tuple[int, int]]]]:
    """Groups of legs that were polled together, with the winner of each."""
    legs = pl.read_csv(folder / "multileg_legs.csv", infer_schema_length=None)
    listings = []
    for row in legs.iter_rows(named=True):
        known, last = row["y"], row["last_ts"]
        settled = None
        if known in {0.0, 1.0} and last:
            end = datetime.fromisoformat(last).replace(tzinfo=UTC)
            settled = (int(end.timestamp()), Price(int(known) * SCALE))
        listings.append(
            _Listing(
                id=MarketId(row["slug"]),
                question=row["question"] or "",
                event=row["prefix"],
                title=row["question"] or "",
                leg=str(row["slug"]).removeprefix(f"{row['prefix']}-"),
                category=(row["category"] or "").lower(),
                outcome=settled,
            )
        )
    quotes = pl.scan_parquet(folder / "multileg_quotes.parquet").select(
        pl.col("ts").dt.epoch("s").alias("at_s"),
        pl.col("slug").alias("market"),
        _units("bid").alias("bid"),
        _units("ask").alias("ask"),
    )
    return listings, _ordered(quotes.collect(engine="streaming")), {}


def _read_crypto(
    folder: Path,
) -> tuple[list[_Listing], pl.DataFrame, dict[str, list[tuple[int, int]]]]:
    """Crypto markets by id, with the prices of their underlyings."""
    listings = []
    for row in pl.read_parquet(folder / "markets.parquet").iter_rows(named=True):
        end = row["end_date"]
        moment = datetime.fromisoformat(end).replace(tzinfo=UTC) if end else None
        listings.append(
            _Listing(
                id=MarketId(row["market_id"]),
                question=row["question"] or "",
                event=row["event_id"] or "",
                title=row["event_title"] or "",
                leg=row["slug"] or "",
                category="crypto",
                end_ns=int(moment.timestamp()) * NS if moment else 0,
            )
        )
    quotes = pl.scan_parquet(folder / "quotes.parquet").select(
        pl.col("ts").dt.epoch("s").alias("at_s"),
        pl.col("market_id").cast(pl.String).alias("market"),
        _units("best_bid").alias("bid"),
        _units("best_ask").alias("ask"),
    )
    found = _ordered(quotes.collect(engine="streaming"))
    return listings, found, _references(folder / "underlying_prices.parquet")


def _references(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Symbol -> (second, dollars at 1e-8) in time; two tables are stacked in the file."""
    table = pl.read_parquet(path).with_columns(pl.col("timestamp_utc").dt.epoch("s").alias("at_s"))
    symbols = [name for name in table.columns if name.isupper()]
    wide = table.filter(pl.col("asset").is_null()).select(
        "at_s", *(pl.col(name).cast(pl.Float64, strict=False) for name in symbols)
    )
    tall = wide.unpivot(index="at_s", variable_name="asset", value_name="price_usd")
    told = table.filter(pl.col("asset").is_not_null()).select("at_s", "asset", "price_usd")
    both = pl.concat([tall, told.cast({"price_usd": pl.Float64})]).drop_nulls()
    both = both.filter(pl.col("price_usd") > 0).sort("at_s", maintain_order=True)
    return {
        str(key[0]): [(at_s, round(price * SCALE)) for at_s, _, price in frame.iter_rows()]
        for key, frame in both.partition_by("asset", as_dict=True).items()
    }


def _worth_reading(
    listings: Sequence[_Listing], quotes: pl.DataFrame, events: int | None
) -> list[_Listing]:
    """The markets of events of which some market could ever be a leg."""
    two_sided = quotes.filter((pl.col("bid") > 0) & (pl.col("ask") > 0))
    middle = (pl.col("bid") + pl.col("ask")) // 2
    counts = two_sided.group_by("market").agg(
        pl.len().alias("quotes"),
        middle.is_between(LEAST_MID, SCALE - LEAST_MID).any().alias("middling"),
    )
    lively = counts.filter((pl.col("quotes") >= LEAST_QUOTES) & pl.col("middling"))
    often = dict(lively.select("market", "quotes").iter_rows())
    weight: dict[str, int] = {}
    for listing in listings:
        if listing.id in often:
            weight[listing.event] = weight.get(listing.event, 0) + often[listing.id]
    best = sorted(weight, key=lambda name: (-weight[name], name))[:events]
    chosen = set(best)
    return [listing for listing in listings if listing.event in chosen]


def _finest_ticks(quotes: pl.DataFrame) -> dict[str, Price]:
    """The coarsest usual grid that holds every quote of a market."""
    fits = [
        ((pl.col(side) % tick) == 0).all().alias(f"{side}{tick}")
        for tick in TICKS
        for side in ("bid", "ask")
    ]
    found: dict[str, Price] = {}
    for row in quotes.group_by("market").agg(fits).iter_rows(named=True):
        fine = (t for t in TICKS if row[f"bid{t}"] and row[f"ask{t}"])
        found[row["market"]] = Price(next(fine, GRID))
    return found


def _universe(listings: Sequence[_Listing], ticks: Mapping[str, Price]) -> Universe:
    markets: dict[MarketId, Market] = {}
    instruments: dict[InstrumentId, Instrument] = {}
    by_event: dict[str, list[_Listing]] = {}
    for one in listings:
        yes, no = InstrumentId(f"{one.id}:YES"), InstrumentId(f"{one.id}:NO")
        by_event.setdefault(one.event, []).append(one)
        markets[one.id] = Market(
            id=one.id, question=one.question, yes=yes, no=no, category=one.category,
            event_id=one.event, end_ns=one.end_ns,
        )  # fmt: skip
        fees = FeeSchedule(rate=FEE_RATES.get(one.category, UNKNOWN_FEE_RATE))
        tick = ticks.get(one.id, TICKS[0])
        for token, other, outcome in ((yes, no, "Yes"), (no, yes, "No")):
            instruments[token] = Instrument(
                id=token, market_id=one.id, complement=other, outcome=outcome, tick=Price(tick),
                fees=fees,
            )  # fmt: skip
    sets: list[OutcomeSet] = []
    ladders: list[Ladder] = []
    for event, legs in by_event.items():
        if _covers_everything([markets[leg.id] for leg in legs], legs):
            ids = tuple(leg.id for leg in legs)
            sets.append(OutcomeSet(id=SetId(event), title=legs[0].title, markets=ids))
        else:
            candidates = [
                Candidate(
                    market_id=leg.id, question=leg.question, group_title="", end_ns=leg.end_ns
                )
                for leg in legs
            ]
            ladders += find_ladders(event, legs[0].title, candidates)
    return Universe(
        instruments=instruments, markets=markets, sets=tuple(sets), ladders=tuple(ladders)
    )


def _covers_everything(markets: Sequence[Market], legs: Sequence[_Listing]) -> bool:
    """Whether names prove that exactly one leg wins: ranges that leave no gap and no overlap."""
    if len(legs) < 3:
        return False
    thresholds = [read_threshold(market) for market in markets]
    ranges = [(one.low, one.high) for one in thresholds if one is not None]
    if len(ranges) == len(markets):
        ranges.sort(key=lambda r: r[0] or 0)
        joined = all(a[1] == b[0] for a, b in pairwise(ranges))
        return joined and ranges[0][0] is None and ranges[-1][1] is None
    structure = judge_structure(
        questions=[leg.question for leg in legs], legs=[leg.leg for leg in legs]
    )
    return structure.exclusive is structure.exhaustive is Standing.PROVEN


def _spacing(quotes: pl.DataFrame) -> int:
    """The usual seconds between two polls of one market."""
    steps = quotes.sort("market", "at_s").select(pl.col("at_s").diff().over("market"))
    return int(steps.to_series().drop_nulls().quantile(0.5, interpolation="nearest") or 0)


def _polls(quotes: pl.DataFrame, references: Mapping[str, list[tuple[int, int]]]) -> list[Poll]:
    polls: list[Poll] = []
    last: dict[MarketId, tuple[int, int]] = {}
    seen: dict[MarketId, int] = {}
    markets = {name: MarketId(name) for name in quotes["market"].unique().to_list()}
    cursors = dict.fromkeys(references, 0)
    for (at_s,), frame in quotes.group_by(["at_s"], maintain_order=True):
        second = int(str(at_s))
        two_sided: list[Quote] = []
        changed: list[Quote] = []
        for name, bid, ask in frame.select("market", "bid", "ask").iter_rows():
            market = markets[name]
            quote = (market, Price(bid), Price(ask))
            seen[market] = second
            if bid and ask:
                two_sided.append(quote)
            if last.get(market) != (bid, ask):
                last[market] = (bid, ask)
                changed.append(quote)
        gone = [m for m, at in seen.items() if second - at > GONE_S and any(last[m])]
        for market in gone:
            last[market] = (0, 0)
        polls.append(
            Poll(second, tuple(two_sided), tuple(changed), tuple(gone),
                 tuple(_newest(references, cursors, second)))
        )  # fmt: skip
    return polls


def _newest(
    references: Mapping[str, list[tuple[int, int]]], cursors: dict[str, int], second: int
) -> Iterable[tuple[str, int]]:
    """The newest price of each underlying that is not too old; nothing of the future."""
    for symbol, told in references.items():
        at = cursors[symbol]
        while at < len(told) and told[at][0] <= second:
            at += 1
        cursors[symbol] = at
        if at and second - told[at - 1][0] <= REFERENCE_S:
            yield symbol, told[at - 1][1]
