"""Write an evaluation of outcome sets as a text a person reads and as a flat JSON document.

Money stays integer at 1e-8 (``*_e8`` in the JSON) and is only formatted here. Must not decide
anything: counts come from ``sets``, words from ``set_verdict``.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fleet.domain.units import SCALE
from fleet.research.set_episodes import Account, Ended, Episode, Trade, quantile
from fleet.research.set_quotes import FEE_RATES, JUDGE_POLLS, PRICE_BAND
from fleet.research.set_structure import Form
from fleet.research.set_verdict import Finding, Part, find, headline
from fleet.research.sets import NOT_QUOTED, REFUSALS, TIERS, Evaluation, winners_by_count

_TIER_TEXT = {
    "refused": "refused by names",
    "unjudged": "price rule not met",
    "unproven": "prices agree only",
    "proven": "proven by names",
}


def render(evaluation: Evaluation) -> str:
    """The whole report as text, folded at 100 columns, ending in the verdict."""
    findings = find(evaluation)
    lines = [
        *_head(evaluation),
        "",
        *_sieves(evaluation),
        "",
        *_moments(evaluation),
        "",
    ]
    for finding in findings:
        if finding.earlier.episodes or finding.later.episodes:
            lines += [*_finding(evaluation, finding), ""]
    lines += [*_limits(evaluation), "", *_verdict(evaluation, findings)]
    return "".join(f"{_wrap(line)}\n" for line in lines)


def _wrap(line: str) -> str:
    """Fold a long line under its own indent; tables are narrower and stay as they are."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return (
        textwrap.fill(
            line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        if len(line) > 100
        else line
    )


def _time(ts_s: int) -> str:
    return datetime.fromtimestamp(ts_s, UTC).strftime("%Y-%m-%d %H:%M")


def _money(value: int) -> str:
    """Dollars with four decimals, rounded half away from zero."""
    tenths, rest = divmod(abs(value), 10_000)
    tenths += rest >= 5_000
    return f"{'-' if value < 0 and tenths else ''}{tenths // 10_000}.{tenths % 10_000:04d}"


def _percent(ratio: int | None) -> str:
    return "unknown" if ratio is None else f"{ratio * 100 / SCALE:.1f}%"


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _head(evaluation: Evaluation) -> list[str]:
    r = evaluation.recording
    seen = int(r.polls["set"].n_unique())
    return [
        f"Outcome sets in {evaluation.folder}",
        (
            f"  {r.quotes:,} quotes, {_time(r.start_s)} to {_time(r.stop_s)} UTC, one poll every"
            f" {r.spacing_s} s, {r.outages} outages"
        ),
        f"  sets listed {len(r.sets)}, seen {seen}, not quoted in this time {len(r.sets) - seen}",
        (
            f"  earlier part before {_time(evaluation.split_s)}, later part from then on; nothing"
            " is fitted on either"
        ),
    ]


def _sieves(evaluation: Evaluation) -> list[str]:
    r = evaluation.recording
    codes = Counter(code for code in evaluation.refusals.values() if code != NOT_QUOTED)
    seen = set(r.polls["set"].unique().to_list())
    why = {info.structure.form.value: info.structure.why for info in r.sets} | REFUSALS
    lines = ["Refused sets, by the first rule failed (all of these can be applied live)"]
    lines += [f"  {count:4d}  {code}: {why[code]}" for code, count in codes.most_common()]
    kept = [i for i in r.sets if i.index in seen and i.set_id not in evaluation.refusals]
    closed = sum(i.structure.form is Form.BRACKETS_CLOSED for i in kept)
    blind = [i for i in kept if not i.payoff_known]
    counts = ", ".join(f"{n} sets with {w}" for w, n in winners_by_count(r).items())
    total = r.polls.height
    complete = r.polls.filter("complete").height
    lines += [
        (
            f"  {len(kept):4d}  kept, of which {closed} are proven exclusive and exhaustive by the"
            " ranges in their names"
        ),
        (
            f"  Price rule: the median sum of mids over the {JUDGE_POLLS} polls before (since the"
            f" last outage) within {PRICE_BAND / SCALE:.2f} of 1."
        ),
        (
            f"  Hindsight, data quality only: {len(blind)} kept sets lack labels and are left out"
            " of the accounts."
        ),
        f"  Labelled winners a set: {counts}.",
        (
            f"  Polls: {total:,} of a set, {complete:,} with all its legs, {total - complete:,}"
            " with a leg missing (not used);"
        ),
        (
            f"  {r.polls.filter(r.polls['complete'] & r.polls['crossed']).height} complete ones"
            " have a leg whose bid is not below its ask (not used)."
        ),
        f"  {evaluation.partial} polls look below 1 after fees only because a leg is missing.",
    ]
    return lines


def _moments(evaluation: Evaluation) -> list[str]:
    least = _money(evaluation.options.min_edge)
    lines = [
        "Moments (polls of a set), one share a leg",
        "  buy every YES: 1 - sum(ask) - fees. buy every NO: sum(bid) - 1 - fees, NO at 1 - bid.",
        (
            f"  {'trade':14} {'tier':19} {'polls':>7} {'gross>0':>8} {'net>0':>7}"
            f" {'net>=' + least:>12} {'in sets':>8} {'unmoved':>8}"
        ),
    ]
    for trade in Trade:
        for tier in TIERS:
            m = evaluation.moments[trade, tier]
            lines.append(
                f"  {trade.value:14} {_TIER_TEXT[tier]:19} {m.polls:7,} {m.gross:8,} {m.net:7,}"
                f" {m.taken:12,} {m.taken_sets:8} {m.still:8,}"
            )
    return [*lines, "  unmoved: of those, the sums are exactly those of the poll before."]


def _finding(evaluation: Evaluation, finding: Finding) -> list[str]:
    title = f"{finding.trade.value}, {_TIER_TEXT[finding.tier]}"
    lines = [f"Episodes: {title}, edge after fees at least {_money(evaluation.options.min_edge)}"]
    for name, part in (("earlier", finding.earlier), ("later", finding.later)):
        lines += [f"  {name} part: {len(part.episodes)} episodes", *_lengths(part.episodes)]
        if part.episodes:
            lines += _accounts(evaluation, part)
    return lines


def _lengths(episodes: Sequence[Episode]) -> list[str]:
    if not episodes:
        return []
    closed = [e for e in episodes if e.bound_s is not None]
    bounds = [e.bound_s for e in closed if e.bound_s is not None]
    seen = [e.seen_s for e in episodes]
    single = sum(e.polls == 1 for e in episodes)
    ended = sum(e.ended is Ended.UNKNOWN for e in episodes)
    gross = [e.first.edge + e.first.fee for e in episodes]
    times = [(e.first.edge + e.first.fee) * 10 // max(e.first.fee, 1) for e in episodes]
    return [
        (
            f"    seen for: median {_duration(quantile(seen, 0.5))}, p90"
            f" {_duration(quantile(seen, 0.9))}"
            f" ({single} at one poll only, which is 0)"
        ),
        (
            f"    at most, between the polls around: median {_duration(quantile(bounds, 0.5))},"
            f" p90 {_duration(quantile(bounds, 0.9))} ({len(closed)} with both seen)"
        ),
        f"    end not seen (outage, a leg missing, rule lapsed, end of recording): {ended}",
        (
            f"    edge a set at the first poll: median {_money(quantile(gross, 0.5) or 0)} before"
            " fees,"
            f" {_money(quantile([e.first.edge for e in episodes], 0.5) or 0)} after;"
            f" it ends at {(quantile(times, 0.5) or 0) / 10:.1f} times the fee"
        ),
    ]


def _accounts(evaluation: Evaluation, part: Part) -> list[str]:
    least = evaluation.options.min_yearly_return
    worth = sum(e.yearly_expected >= least for e in part.episodes)
    rows = (
        ("every episode, at once", part.prompt),
        ("every episode, one poll later", part.delayed),
        ("first of each set, at once", part.once_prompt),
        ("first of each set, one poll later", part.once_delayed),
    )
    lines = [
        (
            f"    {'held to resolution':34} {'taken':>6} {'sets':>5} {'outlay':>11} {'profit':>9}"
            f" {'losses':>6} {'a year':>9} {'unknown':>8}"
        )
    ]
    lines += [
        f"    {name:34} {a.takings:6} {a.sets:5} {_money(a.outlay):>11} {_money(a.profit):>9}"
        f" {a.losses:6} {_percent(a.yearly_return):>9} {a.unknown:8}"
        for name, a in rows
    ]
    return [*lines, f"    expected yearly return at least {_percent(least)}: {worth} episodes"]


def _limits(evaluation: Evaluation) -> list[str]:
    r = evaluation.recording
    seen = {i.index for i in r.sets} & set(r.polls["set"].unique().to_list())
    strange = sorted({i.category for i in r.sets if i.index in seen} - set(FEE_RATES))
    paid = sorted({(i.category or "none", i.fee_rate) for i in r.sets if i.index in seen})
    rates = [f"{category} {rate / SCALE:.3f}" for category, rate in paid]
    lines = [
        "What these numbers cannot say",
        (
            "  Size: unknown. There is no depth, so no sum here is a profit anyone could have made;"
            " it is a share a leg."
        ),
        "  The NO side is not recorded: its ask is taken as 1 - the YES bid (mirrored books).",
        "  Legs of one poll are read in one pass, not in one instant.",
        (
            "  Ranges such as 74-75, 76-77 are read as whole numbers with both ends in. Read"
            " strictly they leave gaps: buying every YES rests on that reading and on the price"
            " rule, buying every NO does not."
        ),
        (
            "  The name rules, the window and the band were written with a recording of July 2026"
            " in view; only later recordings judge them."
        ),
        f"  Fees: rate x p x (1 - p) a share, rounded up to 5 decimals: {', '.join(rates)}.",
        "  They are the main venue's schedule; a US venue may charge differently (--fee-rate).",
        (
            "  Locked time ends at the set's last quote, at least one day: resolution is later,"
            " so the return a year is an upper bound."
        ),
        (
            "  A year: as if the capital could always be employed so; episodes come and go, so it"
            " cannot."
        ),
        (
            "  A set whose legs were listed at different times is judged with all of them: that is"
            " hindsight, in the careful direction."
        ),
    ]
    if strange and evaluation.options.fee_rate is None:
        lines.append(
            f"  Categories not in the fee table pay the highest rate: {', '.join(strange)}."
        )
    if set(winners_by_count(r)) == {1}:
        lines.append(
            "  Every set here has exactly one winner: it was picked that way, so the pay-off cannot"
            " show a set that failed."
        )
    return lines


def _verdict(evaluation: Evaluation, findings: Sequence[Finding]) -> list[str]:
    lines = ["Verdict"]
    for trade in Trade:
        total = sum(evaluation.moments[trade, tier].net for tier in TIERS)
        proven = evaluation.moments[trade, "proven"].net
        lines.append(
            f"  {trade.value}: {total:,} moments look good after fees; {total - proven:,} of them"
            " are in groups not proven, or not yet judged."
        )
    for f in findings:
        lines.append(f"  {f.trade.value}, {_TIER_TEXT[f.tier]}: {f.word.name}: {f.word.value}.")
        late = f.later.delayed
        if late.takings:
            lines.append(
                f"    later part, one poll later: {_money(late.profit)} on {_money(late.outlay)}"
                f" laid out, {late.losses} of {late.takings} lost, {late.sets} sets"
            )
    return [*lines, f"  In short: {headline(findings)}"]


def _account_json(a: Account) -> dict[str, Any]:
    return {
        "takings": a.takings,
        "sets": a.sets,
        "outlay_e8": a.outlay,
        "profit_e8": a.profit,
        "edge_expected_e8": a.edge_expected,
        "losses": a.losses,
        "yearly_return_e8": a.yearly_return,
        "unknown": a.unknown,
    }


def _part_json(part: Part) -> dict[str, Any]:
    bounds = [e.bound_s for e in part.episodes if e.bound_s is not None]
    seen = [e.seen_s for e in part.episodes]
    return {
        "episodes": len(part.episodes),
        "end_unknown": sum(e.ended is Ended.UNKNOWN for e in part.episodes),
        "seen_s_median": quantile(seen, 0.5),
        "seen_s_p90": quantile(seen, 0.9),
        "bound_s_median": quantile(bounds, 0.5),
        "bound_s_p90": quantile(bounds, 0.9),
        "at_once": _account_json(part.prompt),
        "one_poll_later": _account_json(part.delayed),
        "first_of_set_at_once": _account_json(part.once_prompt),
        "first_of_set_one_poll_later": _account_json(part.once_delayed),
    }


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The same numbers for a program: money and ratios are integers at 1e-8 (``*_e8``)."""
    r = evaluation.recording
    findings = find(evaluation)
    return {
        "quotes": r.quotes,
        "start_s": r.start_s,
        "stop_s": r.stop_s,
        "split_s": evaluation.split_s,
        "poll_spacing_s": r.spacing_s,
        "outages": r.outages,
        "sets_listed": len(r.sets),
        "sets_seen": int(r.polls["set"].n_unique()),
        "set_polls": r.polls.height,
        "set_polls_complete": r.polls.filter("complete").height,
        "partial_phantoms": evaluation.partial,
        "refusals": dict(sorted(evaluation.refusals.items())),
        "winners_a_set": {str(k): v for k, v in winners_by_count(r).items()},
        "moments": [
            {
                "trade": trade.name,
                "tier": tier,
                "polls": m.polls,
                "gross": m.gross,
                "net": m.net,
                "taken": m.taken,
                "taken_sets": m.taken_sets,
                "unmoved": m.still,
            }
            for (trade, tier), m in evaluation.moments.items()
        ],
        "findings": [
            {
                "trade": f.trade.name,
                "tier": f.tier,
                "word": f.word.name,
                "earlier": _part_json(f.earlier),
                "later": _part_json(f.later),
            }
            for f in findings
        ],
        "size_known": False,
        "verdict": headline(findings),
    }
