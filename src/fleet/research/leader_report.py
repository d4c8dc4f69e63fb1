"""Write an evaluation of leaders as text a person reads and as JSON. Decides nothing."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE
from fleet.research.leader_boards import BoardEvaluation
from fleet.research.leader_evaluation import CopyResult, Evaluation
from fleet.research.leader_gate import FALSE_DISCOVERY_RATE, MARKETS_MIN, Reason
from fleet.research.leader_scores import interval_json
from fleet.research.leader_statistics import Interval
from fleet.research.leader_verdict import share_below, word_of

WIDTH = 100


def render(evaluation: Evaluation) -> str:
    """The whole report, folded at 100 columns, ending in the verdict."""
    lines = [
        *_head(evaluation),
        "",
        *_choice(evaluation),
        "",
        *_lists(evaluation),
        "",
        *_costs(evaluation),
    ]
    if evaluation.boards is not None:
        lines += ["", *_boards(evaluation.boards)]
    lines += ["", *_limits(evaluation), "", *_verdict(evaluation)]
    return "".join(f"{_wrap(line)}\n" for line in lines)


def _wrap(line: str) -> str:
    if len(line) <= WIDTH:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def when(ts_ns: int) -> str:
    """UTC minutes for a person."""
    return datetime.fromtimestamp(ts_ns / NS_PER_SECOND, UTC).strftime("%Y-%m-%d %H:%M")


def cents(interval: Interval | None) -> str:
    """A return on stake as cents a dollar, with its interval."""
    if interval is None:
        return "nothing copied"
    if interval.clusters < 2:
        return f"{100 * interval.estimate:+.1f} [one event: unknown]"
    return f"{100 * interval.estimate:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def _head(e: Evaluation) -> list[str]:
    r = e.records
    trades = [t.ts_ns for h in r.histories for t in h.trades]
    earlier = sum(ts <= e.split_ns for ts in trades)
    reasons = "; ".join(f"{n} {why}" for why, n in sorted(r.left_out.items()))
    return [
        f"Leaders in {e.folder}",
        f"  {r.rows:,} rows, {len(trades):,} picks with an outcome, {len(r.histories)} wallets",
        f"  left out: {reasons}",
        f"  chosen on {when(r.start_ns)} to {when(e.split_ns)} UTC ({earlier} picks)",
        f"  copied on {when(e.split_ns)} to {when(r.stop_ns)} UTC ({len(trades) - earlier} picks)",
    ]


def _choice(e: Evaluation) -> list[str]:
    counts = Counter(reason for v in e.verdicts for reason in v.reasons)
    lines = [
        f"The gate at {when(e.split_ns)}: {len(e.copied)} of {len(e.scores)} candidates pass",
        *(f"  {counts[reason]:4d}  {reason.value}" for reason in Reason if counts[reason]),
    ]
    table = sorted(
        zip(e.scores, e.verdicts, strict=True), key=lambda p: (-p[0].resolved_markets, p[0].wallet)
    )
    lines += [
        "  Those with most resolved markets (cents a dollar, 90% interval over events; p: luck):",
        (
            f"  {'wallet':12} {'markets':>7} {'events':>6} {'P&L':>9} {'recent copies':>22}"
            f" {'p':>6} {'q':>5}  verdict"
        ),
    ]
    for one, verdict in table[:8]:
        why = "copied" if verdict.copied else ", ".join(r.name for r in verdict.reasons)
        lines.append(
            f"  {one.wallet[:12]} {one.resolved_markets:7} {one.resolved_events:6}"
            f" {one.pnl:9,.0f} {cents(one.recent_copy_edge):>22} {one.p_value:6.3f}"
            f" {verdict.q_value:5.2f}  {why}"
        )
    return lines


def _lists(e: Evaluation) -> list[str]:
    edges = e.random_edges
    lines = [
        f"Copied later, {e.options.slippage / SCALE:.3f} dollars a share worse, taker's fee paid",
        (
            f"  {'list':15} {'wallets':>7} {'markets':>7} {'won':>4} {'stake':>8} {'profit':>7}"
            f"  {'cents a dollar [90%]':24} luck p"
        ),
    ]
    lines += [_list_line(one) for one in e.lists]
    lines.append(
        f"  plain gate: {MARKETS_MIN} markets, no maker, no wash, recent copy edge above 0, without"
        " intervals or luck; had paid before: copies of all they did had; everybody: all recorded."
    )
    if edges:
        low, mid, high = (edges[int(len(edges) * q)] for q in (0.05, 0.5, 0.95))
        lines.append(
            f"  {len(edges)} blind draws of {e.random_size} wallets: median {100 * mid:+.1f},"
            f" 90% between {100 * low:+.1f} and {100 * high:+.1f} cents a dollar"
        )
        for one in e.lists[:4]:
            if one.edge is not None:
                share = share_below(edges, one.edge.estimate)
                lines.append(f"    {one.name}: better than {100 * share:.0f}% of them")
    lines.append(
        "  luck p: chance that break-even bets at the same prices pay as much, if markets of one"
        " event go together (first) or each its own way (second)."
    )
    lines.append("  By category, everybody:")
    for name, one in e.categories.items():
        lines.append(f"    {name:12} {one.markets:4} markets  {cents(one.edge)} cents a dollar")
    return lines


def _list_line(one: CopyResult) -> str:
    luck = f"{one.luck_p:.2f} / {one.luck_p_apart:.2f}" if one.markets else ""
    active = f"{one.active}/{len(one.wallets)}"
    return (
        f"  {one.name:15} {active:>7} {one.markets:7} {one.won:4} {one.stake:8,.0f} {one.pnl:7,.0f}"
        f"  {cents(one.edge):24} {luck}"
    ).rstrip()


def _costs(e: Evaluation) -> list[str]:
    lines = ["What the costs do: cents a dollar at other slippages (dollars a share)"]
    for slippage, edges in e.by_slippage.items():
        told = "; ".join(
            f"{name}: {100 * edge.estimate:+.1f}" for name, edge in edges if edge is not None
        )
        lines.append(f"  {slippage / SCALE:.3f}  {told or 'nothing copied'}")
    if e.delays:
        lines.append(
            f"  Delay, measured on {e.prints_count:,} recorded prints of one event (a sample of"
            " one, around news):"
        )
        lines += [
            f"    {d.delay_s:4} s  {100 * d.fill_ratio:.0f}% of the dollars wanted can be had"
            f" within five minutes and five cents, at {d.cost_cents:+.1f} cents a dollar"
            for d in e.delays
        ]
        lines.append(
            "    Below zero is no gain: what is still for sale at the leader's price is what has"
            " begun to fall."
        )
    return lines


def _boards(b: BoardEvaluation) -> list[str]:
    lines = [
        f"Leaderboards: {b.rows:,} rows of {b.wallets} wallets",
        f"  chosen on {when(b.start_ns)} to {when(b.split_ns)} UTC",
        f"  followed on {when(b.split_ns)} to {when(b.stop_ns)} UTC",
        (
            f"  {b.steps:,} steps between snapshots are read, {b.steps_unusable} are not (a window"
            " closed, or the wallet was away)"
        ),
    ]
    for one in b.lists:
        margin = "unknown" if one.margin is None else cents(one.margin)
        lines.append(
            f"  {one.name}: {one.chosen} wallets, {one.unknown} cannot be followed, {one.winners}"
            f" won, {one.pnl:+,.0f} dollars in all, {margin} cents a dollar traded"
        )
    if b.random_margins:
        low, high = (b.random_margins[int(len(b.random_margins) * q)] for q in (0.05, 0.95))
        lines.append(
            f"  {len(b.random_margins)} blind draws from the same boards: 90% between"
            f" {100 * low:+.1f} and {100 * high:+.1f} cents a dollar traded"
        )
    lines.append(
        f"  Rank correlation of margins, earlier with later: {b.persistence:+.2f} over {b.pairs}"
        f" wallets (one-sided p {b.persistence_p:.2f})"
    )
    lines.append(
        "  Who is still on a board is there because it did well or trades much: these margins are"
        " too kind. They are the wallet's own; a copier pays fee and slippage on top."
    )
    return lines


def _limits(e: Evaluation) -> list[str]:
    return [
        "What these numbers cannot say",
        (
            "  The ledger was backfilled: its author scored picks after the fact and chose which"
            " wallets to keep. Whoever lost everything may be missing, so every edge is too kind."
        ),
        (
            "  There is no price or depth after a pick: a copy is assumed to get its whole size"
            f" {e.options.slippage / SCALE:.3f} dollars a share worse, at most 500 dollars a market"
            " and half of the leader's."
        ),
        (
            f"  {e.records.untimed} outcomes have no time: none of them helped to choose;"
            f" {e.untimed_later} later copies are judged by such an outcome."
        ),
        (
            f"  {e.records.sold_early} positions were sold in part at prices nobody recorded and"
            " are judged as if held to the end; ledger picks have no exits at all."
        ),
        "  A pick is an average price: the fills behind it, and who was maker, are not recorded.",
        (
            "  Fees are today's by category, the highest where the category is unknown; when many"
            " of these picks were made there was none."
        ),
    ]


def _verdict(e: Evaluation) -> list[str]:
    lines = ["Verdict"]
    plain = e.lists[1]
    if plain.edge is not None and not e.copied:
        lines.append(
            f"  The plain gate (without the test against luck) chose {len(plain.wallets)}"
            f" wallets: copying them paid {cents(plain.edge)} cents a dollar in {plain.markets}"
            f" markets of {plain.edge.clusters} events, {plain.won} of them won. Break-even bets at"
            f" those prices do as well in {100 * plain.luck_p:.0f} of 100 lives if an event's"
            f" markets go together, in {100 * plain.luck_p_apart:.0f} if each goes its own way."
        )
    if e.boards is not None and e.boards.lists and e.boards.lists[-1].margin is not None:
        lines.append(
            "  Whoever stayed on the leaderboards won"
            f" {cents(e.boards.lists[-1].margin)} cents a dollar traded, for itself. A copier pays"
            f" {100 * e.options.slippage / SCALE:.1f} cents a share and the fee on top."
        )
    best = max((s.resolved_events for s in e.scores), default=0)
    lines.append(
        f"  The longest record at the split has {best} events; the gate asks {MARKETS_MIN} resolved"
        f" markets and a false-discovery rate of {FALSE_DISCOVERY_RATE:.0%} over"
        f" {len(e.scores)} candidates. Not passing is not proof of no skill."
    )
    word = word_of(e)
    return [*lines, f"  In short: {word.name}: {word.value}."]


def score_lines(wallet: str, verdict: str, body: Mapping[str, Any]) -> list[str]:
    """One wallet's score as text: ``body`` is the JSON of ``WalletScore`` with its q-value."""
    style, edge = body["style"], body["recent_copy_edge"]
    if edge is None:
        told = "nothing recent to copy"
    else:
        low, high = edge["low"], edge["high"]
        bounds = "unknown" if low is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
        told = (
            f"recent copies {100 * edge['estimate']:+.1f} cents a dollar ({bounds}) in"
            f" {body['recent_markets']} markets of {edge['clusters']} events"
        )
    marks = ", ".join(style["marks"]) or "none"
    priced = "measured" if body["copy_measured"] else "assumed in part or all"
    return [
        f"{wallet}: {verdict}",
        (
            f"  {style['trades']} trades, {body['resolved_markets']} resolved markets,"
            f" {body['open_markets']} open, {body['unaccounted_markets']} unaccounted;"
            f" P&L after fees {body['pnl']:+,.2f} on {body['stake']:,.2f}"
        ),
        f"  {told}; luck p {body['p_value']:.3f}, q {body['q_value']:.2f}; prices {priced}",
        f"  maker marks: {marks}; wash share {style['wash_share']:.2f}",
    ]


# --- JSON ---------------------------------------------------------------------------------------


def to_json(e: Evaluation) -> dict[str, Any]:
    """The same numbers for a program: times in nanoseconds, money in dollars, returns as ratios."""
    word = word_of(e)
    return {
        "start_ns": e.records.start_ns,
        "split_ns": e.split_ns,
        "stop_ns": e.records.stop_ns,
        "rows": e.records.rows,
        "left_out": dict(e.records.left_out),
        "candidates": [
            {
                **one.as_json(),
                "copied": verdict.copied,
                "reasons": [r.name for r in verdict.reasons],
                "q_value": verdict.q_value,
            }
            for one, verdict in zip(e.scores, e.verdicts, strict=True)
        ],
        "lists": [_copy_json(one) for one in e.lists],
        "random": {"size": e.random_size, "edges": list(e.random_edges)},
        "by_slippage": {
            str(slippage): {name: interval_json(edge) for name, edge in edges}
            for slippage, edges in e.by_slippage.items()
        },
        "categories": {name: _copy_json(one) for name, one in e.categories.items()},
        "delays": [
            {"delay_s": d.delay_s, "fill_ratio": d.fill_ratio, "cost_cents": d.cost_cents}
            for d in e.delays
        ],
        "boards": None if e.boards is None else _boards_json(e.boards),
        "word": word.name,
        "verdict": word.value,
    }


def _copy_json(one: CopyResult) -> dict[str, Any]:
    return {
        "name": one.name,
        "wallets": list(one.wallets),
        "active": one.active,
        "markets": one.markets,
        "won": one.won,
        "stake": one.stake,
        "pnl": one.pnl,
        "edge": interval_json(one.edge),
        "luck_p": one.luck_p,
        "luck_p_apart": one.luck_p_apart,
    }


def _boards_json(b: BoardEvaluation) -> dict[str, Any]:
    lists: Sequence[dict[str, Any]] = [
        {
            "name": one.name,
            "chosen": one.chosen,
            "unknown": one.unknown,
            "winners": one.winners,
            "pnl": one.pnl,
            "margin": interval_json(one.margin),
        }
        for one in b.lists
    ]
    return {
        "start_ns": b.start_ns,
        "split_ns": b.split_ns,
        "stop_ns": b.stop_ns,
        "lists": lists,
        "persistence": None if math.isnan(b.persistence) else b.persistence,
        "persistence_p": b.persistence_p,
        "pairs": b.pairs,
    }
