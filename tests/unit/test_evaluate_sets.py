"""`fleet evaluate sets` on recordings made here, small enough to check by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cli.main import main
from fleet.research.set_episodes import (
    Ended,
    SetPoll,
    Trade,
    account,
    find_episodes,
    first_of_each_set,
    quantile,
)
from fleet.research.set_quotes import JUDGE_POLLS, RecordingError, read_recording
from fleet.research.set_report import render, to_json
from fleet.research.set_structure import Form, Standing, judge_structure
from fleet.research.set_verdict import Word, find, headline
from fleet.research.sets import Evaluation, Options, evaluate_sets

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP_S = 120
RANGES = ("lt10f", "gte10lt11f", "gte12f")
Quote = tuple[float | None, float | None]

CALM: Sequence[Quote] = ((0.33, 0.35), (0.33, 0.35), (0.31, 0.33))
"""Sum of asks 1.03, of bids 0.97, of mids 1.00: nothing to do, and the price rule agrees."""
CHEAP: Sequence[Quote] = ((0.28, 0.30),) * 3
"""Asks 0.90; fee 0.05 x 0.3 x 0.7 = 0.0105 a leg; 1 - 0.90 - 0.0315 = 0.0685."""
CHEAPISH: Sequence[Quote] = ((0.30, 0.32),) * 3
"""Asks 0.96; fee 0.05 x 0.32 x 0.68 = 0.01088 a leg; 1 - 0.96 - 0.03264 = 0.00736."""
DEAR: Sequence[Quote] = ((0.38, 0.39), (0.37, 0.38), (0.33, 0.34))
"""Bids 1.08; fees 0.01178 + 0.01166 + 0.01106 (up to 5 decimals); 0.08 - 0.0345 = 0.0455."""

Polls = Iterable[Sequence[Quote | None]]


class Folder:
    """Writes a recording: ``add`` sets with one row of quotes a poll, then ``write``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._quotes: list[Mapping[str, object]] = []
        self._legs: list[Mapping[str, object]] = []

    def add(
        self,
        prefix: str,
        polls: Polls,
        *,
        names: Sequence[str] = RANGES,
        y: Sequence[float | None] = (0.0, 1.0, 0.0),
        question: str = "Highest temperature?",
        category: str = "climate",
        outages: Mapping[int, int] | None = None,
    ) -> Folder:
        """Add a set; ``None`` leaves a leg's row out; ``outages`` maps a poll to its wait."""
        when = START
        for index, quotes in enumerate(polls):
            when += timedelta(seconds=(outages or {}).get(index, STEP_S if index else 0))
            for name, quote in zip(names, quotes, strict=True):
                if quote is not None:
                    self._quotes.append(
                        {
                            "ts": when.replace(tzinfo=None),
                            "slug": f"{prefix}-{name}",
                            "bid": quote[0],
                            "ask": quote[1],
                        }
                    )
        for name, value in zip(names, y, strict=True):
            self._legs.append(
                {
                    "slug": f"{prefix}-{name}",
                    "prefix": prefix,
                    "question": question,
                    "category": category,
                    "y": value,
                    "last_ts": (when + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S"),
                }
            )
        return self

    def write(self) -> Path:
        schema: dict[str, pl.DataType | type[pl.DataType]] = {
            "ts": pl.Datetime("ms"),
            "slug": pl.String,
            "bid": pl.Float64,
            "ask": pl.Float64,
        }
        pl.DataFrame(self._quotes, schema=schema).write_parquet(
            self.path / "multileg_quotes.parquet"
        )
        legs = pl.DataFrame(self._legs, infer_schema_length=None)
        legs.with_columns(pl.col("y").cast(pl.Float64)).write_csv(self.path / "multileg_legs.csv")
        return self.path


def calm(count: int = JUDGE_POLLS) -> list[Sequence[Quote | None]]:
    return [CALM] * count


def evaluate(folder: Folder, options: Options | None = None) -> Evaluation:
    return evaluate_sets(folder.write(), options or Options())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# Names


@pytest.mark.parametrize(
    ("legs", "question", "form", "exclusive", "exhaustive"),
    [
        (["lt74f", "gte74lt75f", "gte76f"], "High?", Form.BRACKETS_CLOSED, "proven", "proven"),
        (["lt5", "gte5lt7pt5", "gte7pt5"], "CPI?", Form.BRACKETS_CLOSED, "proven", "proven"),
        (["lt74f", "gte74lt75f", "gte78f"], "High?", Form.BRACKETS_OPEN, "proven", "refused"),
        (["gte74lt75f", "gte76f"], "High?", Form.BRACKETS_OPEN, "proven", "refused"),
        (["lt74f", "gte74lt75f"], "High?", Form.BRACKETS_OPEN, "proven", "refused"),
        # Half-open in one place and both-ends-in in another: one of the two readings has a gap.
        (["lt1", "gte1lt2", "gte2lt3", "gte4"], "N?", Form.BRACKETS_OPEN, "proven", "refused"),
        (["lt2pt5", "gte2pt5lt3", "gte3pt5"], "CPI?", Form.BRACKETS_OPEN, "proven", "refused"),
        (["lt74f", "gte70f"], "High?", Form.BRACKETS_OVERLAP, "refused", "refused"),
        (["gte70f", "gte80f"], "High?", Form.BRACKETS_OVERLAP, "refused", "refused"),
        (["14", "15", "16"], "A vs. B", Form.LEGS_NUMBERED, "refused", "refused"),
        (["3g", "4g", "5g"], "Goals of X", Form.LEGS_LADDER, "refused", "refused"),
        (["hud0", "hud5", "moo0", "moo5"], "Margin", Form.LEGS_LADDER, "refused", "refused"),
        (["jun30", "dec31"], "Peace by...?", Form.LEGS_LADDER, "refused", "refused"),
        (["abc", "def"], "Derby Final Qualifiers", Form.WORDING_SEVERAL, "refused", "refused"),
        (
            ["abc", "def"],
            "Who will finish in the Top 5?",
            Form.WORDING_SEVERAL,
            "refused",
            "refused",
        ),
        (["abc", "def"], "Grand Prix Qualifying Pole", Form.NAMED_OUTCOMES, "unproven", "unproven"),
        (["g2", "100t", "nrg"], "Winner", Form.NAMED_OUTCOMES, "unproven", "unproven"),
        (["abc"], "Winner", Form.LEGS_FEW, "refused", "refused"),
        (["abc", "abc"], "Winner", Form.LEGS_FEW, "refused", "refused"),
    ],
)
def test_names_decide_what_is_proven(
    legs: list[str], question: str, form: Form, exclusive: str, exhaustive: str
) -> None:
    found = judge_structure(questions=[question], legs=legs)
    assert (found.form, found.exclusive.value, found.exhaustive.value) == (
        form,
        exclusive,
        exhaustive,
    )


def test_two_questions_are_no_set() -> None:
    found = judge_structure(questions=["A?", "B?"], legs=["lt1", "gte1"])
    assert found.form is Form.QUESTIONS_MIXED
    assert found.exclusive is found.exhaustive is Standing.REFUSED


@given(st.permutations(["lt74f", "gte74lt75f", "gte76lt77f", "gte78f"]))
def test_the_order_of_legs_is_irrelevant(legs: list[str]) -> None:
    assert judge_structure(questions=["q"], legs=legs).form is Form.BRACKETS_CLOSED


# Moments and episodes, by hand


def test_buying_every_yes_by_hand(folder: Folder) -> None:
    folder.add("t-a", [*calm(), CHEAP, CHEAP, CHEAPISH, CALM, CALM])
    evaluation = evaluate(folder)
    moments = evaluation.moments[Trade.BUY_ALL_YES, "proven"]
    assert (moments.polls, moments.gross, moments.net, moments.taken) == (5, 3, 3, 3)
    assert (moments.sets, moments.taken_sets, moments.still) == (1, 1, 1)
    (episode,) = evaluation.episodes
    assert (episode.trade, episode.proven, episode.polls) == (Trade.BUY_ALL_YES, True, 3)
    assert (episode.seen_s, episode.bound_s) == (2 * STEP_S, 4 * STEP_S)
    assert episode.ended is Ended.CLOSED
    assert (episode.first.edge, episode.first.fee) == (6_850_000, 3_150_000)
    assert (episode.first.outlay, episode.first.payout) == (93_150_000, 100_000_000)
    # The last leg's last quote is two days after the last poll; entry is four polls before that.
    assert episode.locked_s == 2 * 86_400 + 4 * STEP_S
    paid = account([episode], delayed=False)
    assert (paid.takings, paid.outlay, paid.profit, paid.losses) == (1, 93_150_000, 6_850_000, 0)
    assert paid.yearly_return == 6_850_000 * 365 * 86_400 * 10**8 // (93_150_000 * 173_280)


def test_the_least_edge_and_the_fee_rate_are_options(folder: Folder) -> None:
    folder.add("t-a", [*calm(), CHEAP, CHEAP, CHEAPISH, CALM])
    path = folder.write()
    (dear,) = evaluate_sets(path, Options(min_edge=5_000_000)).episodes
    assert (dear.polls, dear.seen_s) == (2, STEP_S)
    (free,) = evaluate_sets(path, Options(fee_rate=0)).episodes
    assert (free.polls, free.first.edge, free.first.fee) == (3, 10_000_000, 0)
    # At three times the rate the fee of CHEAP is 0.0945 of an edge of 0.10, of CHEAPISH too much.
    (thrice,) = evaluate_sets(path, Options(fee_rate=15_000_000)).episodes
    assert (thrice.polls, thrice.first.edge) == (2, 550_000)


def test_buying_every_no_by_hand(folder: Folder) -> None:
    folder.add("t-a", [*calm(), DEAR, CALM])
    evaluation = evaluate(folder)
    (episode,) = evaluation.episodes
    assert episode.trade is Trade.BUY_ALL_NO
    assert (episode.first.edge, episode.first.fee) == (4_550_000, 3_450_000)
    # Three NOs at 0.62 + 0.63 + 0.67, and two of them pay.
    assert (episode.first.outlay, episode.first.payout) == (195_450_000, 200_000_000)
    # One poll later: bids 0.97, fees 0.011055 and 0.010695 rounded up to 0.01106 x 2 + 0.0107.
    assert episode.delayed is not None
    assert episode.delayed.edge == -3_000_000 - 3_282_000
    assert account([episode], delayed=True).profit == -6_282_000
    assert (episode.seen_s, episode.bound_s) == (0, 2 * STEP_S)


def test_a_leg_without_a_bid_is_left_out_of_the_no_side(folder: Folder) -> None:
    partly: Sequence[Quote] = ((0.60, 0.62), (0.50, 0.52), (None, 0.02))
    folder.add("t-a", [*calm(), partly, CALM])
    (episode,) = evaluate(folder).episodes
    # 0.10 before fees; 0.05 x (0.6 x 0.4 + 0.5 x 0.5) = 0.0245; two NOs cost 0.90, one pays.
    assert (episode.first.edge, episode.first.outlay) == (7_550_000, 92_450_000)
    assert episode.first.payout == 100_000_000


@pytest.mark.parametrize(
    ("y", "yes_profit", "no_profit"),
    [
        ((0.0, 1.0, 0.0), 6_850_000, 4_550_000),
        ((0.0, 0.0, 0.0), -93_150_000, 104_550_000),
        ((1.0, 1.0, 0.0), 106_850_000, -95_450_000),
        ((0.5, 0.5, 0.0), 6_850_000, 4_550_000),
    ],
)
def test_the_winners_decide_what_was_paid_and_refuse_nothing(
    folder: Folder, y: tuple[float, ...], yes_profit: int, no_profit: int
) -> None:
    folder.add("t-a", [*calm(), CHEAP, CALM, DEAR, CALM], y=y)
    evaluation = evaluate(folder)
    profits = {e.trade: account([e], delayed=False).profit for e in evaluation.episodes}
    assert profits == {Trade.BUY_ALL_YES: yes_profit, Trade.BUY_ALL_NO: no_profit}


def test_without_labels_the_pay_off_is_unknown_unless_the_names_settle_it(folder: Folder) -> None:
    polls = [*calm(), CHEAP, CALM]
    folder.add("t-a", polls, y=(None, 1.0, 0.0))
    folder.add("t-b", polls, y=(None, 0.0, 0.0))
    folder.add("t-c", polls, y=(None, 1.0, 0.0), names=("ann", "bob", "cy"), question="Winner")
    payouts = {e.set_id: e.first.payout for e in evaluate(folder).episodes}
    assert payouts == {"t-a": 100_000_000, "t-b": None, "t-c": None}
    unknown = account(evaluate(folder).episodes, delayed=False)
    assert (unknown.takings, unknown.unknown) == (1, 2)


# What must not be counted


def test_nothing_is_taken_before_the_price_rule_has_seen_enough(folder: Folder) -> None:
    folder.add("t-a", [*calm(JUDGE_POLLS - 1), CHEAP, CALM])
    evaluation = evaluate(folder)
    assert evaluation.episodes == ()
    assert evaluation.moments[Trade.BUY_ALL_YES, "unjudged"].taken == 1


def test_a_set_priced_away_from_one_is_refused(folder: Folder) -> None:
    low: Sequence[Quote] = ((0.24, 0.26),) * 3
    high: Sequence[Quote] = ((0.49, 0.51),) * 3
    folder.add("t-low", [low] * 40, names=("ann", "bob", "cy"), question="Winner")
    folder.add("t-high", [high] * 40, names=("ann", "bob", "cy"), question="Winner")
    folder.add("t-few", calm(5))
    evaluation = evaluate(folder)
    assert evaluation.refusals == {
        "t-low": "PRICES_BELOW_ONE",
        "t-high": "PRICES_ABOVE_ONE",
        "t-few": "PRICES_TOO_FEW",
    }
    assert evaluation.episodes == ()
    assert evaluation.moments[Trade.BUY_ALL_YES, "unjudged"].taken == 40
    assert evaluation.moments[Trade.BUY_ALL_NO, "unjudged"].taken == 40


def test_a_group_the_names_refuse_is_counted_apart(folder: Folder) -> None:
    folder.add("a-b-2026-01", [*calm(), CHEAP, CALM], names=("14", "15", "16"), question="A vs. B")
    evaluation = evaluate(folder)
    assert evaluation.refusals == {"a-b-2026-01": "LEGS_NUMBERED"}
    assert evaluation.moments[Trade.BUY_ALL_YES, "refused"].taken == 1
    assert evaluation.episodes == ()


def test_ranges_with_a_gap_may_be_sold_but_not_bought(folder: Folder) -> None:
    folder.add("t-a", [*calm(), CHEAP, CALM, DEAR, CALM], names=("lt10f", "gte10lt11f", "gte20f"))
    assert [e.trade for e in evaluate(folder).episodes] == [Trade.BUY_ALL_NO]


def test_a_leg_never_quoted_refuses_the_set_and_makes_phantoms_only(folder: Folder) -> None:
    folder.add("t-a", [(*CALM[:2], None)] * 40)
    evaluation = evaluate(folder)
    assert evaluation.refusals == {"t-a": "LEGS_UNQUOTED"}
    assert (evaluation.partial, evaluation.episodes) == (40, ())


def test_a_refused_group_that_lacks_a_leg_is_not_even_a_phantom(folder: Folder) -> None:
    folder.add("t-a", [(*CALM[:2], None)] * 40, names=("14", "15", "16"))
    assert evaluate(folder).partial == 0


def test_a_set_without_quotes_is_listed_but_not_seen(folder: Folder) -> None:
    folder.add("t-a", calm(40)).add("t-b", [(None, None, None)])
    evaluation = evaluate(folder)
    assert evaluation.refusals == {"t-b": "NOT_QUOTED"}
    assert "sets listed 2, seen 1, not quoted in this time 1" in render(evaluation)


@pytest.mark.parametrize("price", [0.0, 1.0, -0.5, 1.5, None, float("nan")])
def test_a_price_outside_zero_to_one_is_no_price(folder: Folder, price: float | None) -> None:
    folder.add("t-a", [((price, price), *CALM[1:])])
    (row,) = read_recording(folder.write()).polls.iter_rows(named=True)
    assert (row["asks"], row["bids"], row["complete"]) == (2, 2, True)
    assert (row["buyable"], row["sellable"]) == (False, True)
    assert (row["buy_cost"], row["sell_proceeds"]) == (68_000_000, 64_000_000)


def test_a_poll_that_lacks_a_leg_is_a_phantom(folder: Folder) -> None:
    folder.add("t-a", [*calm(), (CALM[0], CALM[1], None), CALM])
    evaluation = evaluate(folder)
    assert evaluation.partial == 1
    assert evaluation.episodes == ()
    assert evaluation.recording.polls.filter(~pl.col("complete")).height == 1


@pytest.mark.parametrize(
    "broken",
    [
        ((0.28, None), (0.28, 0.30), (0.28, 0.30)),
        ((0.28, float("nan")), (0.28, 0.30), (0.28, 0.30)),
        ((0.28, 0.0), (0.28, 0.30), (0.28, 0.30)),
        ((0.31, 0.30), (0.28, 0.30), (0.28, 0.30)),
        ((0.30, 0.30), (0.28, 0.30), (0.28, 0.30)),
    ],
    ids=["no ask", "nan", "ask of zero", "crossed", "locked"],
)
def test_a_poll_with_a_missing_or_crossed_price_is_not_bought(
    folder: Folder, broken: Sequence[Quote]
) -> None:
    folder.add("t-a", [*calm(), broken, CALM])
    assert evaluate(folder).episodes == ()


def test_an_outage_ends_an_episode_and_adds_nothing_to_it(folder: Folder) -> None:
    polls = [*calm(), CHEAP, CHEAP, CHEAP, CALM]
    folder.add("t-a", polls, outages={JUDGE_POLLS + 2: 86_400})
    evaluation = evaluate(folder)
    assert evaluation.recording.outages == 1
    (episode,) = evaluation.episodes
    assert (episode.polls, episode.seen_s, episode.bound_s) == (2, STEP_S, None)
    assert episode.ended is Ended.UNKNOWN
    # After the outage the price rule starts again, so the third cheap poll is not taken.
    assert evaluation.moments[Trade.BUY_ALL_YES, "unjudged"].taken == 1


def test_a_trade_that_cannot_be_priced_a_poll_later_is_unknown(folder: Folder) -> None:
    folder.add("t-a", [*calm(), CHEAP, ((0.28, None), *CALM[1:]), CALM])
    (episode,) = evaluate(folder).episodes
    assert episode.delayed is None
    assert account([episode], delayed=True).unknown == 1


def test_no_rule_looks_ahead(folder: Folder) -> None:
    wild = [CALM, CHEAP, DEAR, ((0.6, 0.7), (0.5, 0.6), (0.4, 0.5)), CHEAPISH]
    polls = [wild[(i * i + i // 7) % 5] for i in range(120)]
    path = folder.add("t-a", polls).write()
    whole = read_recording(path).polls
    for cut in (31, 60, 90):
        until = START + timedelta(seconds=cut * STEP_S)
        part = read_recording(path, until=until).polls
        assert part.height == cut
        assert part.equals(whole.head(cut))
    assert 0 < whole["judged"].sum() < 120


def test_after_and_until_choose_the_polls(folder: Folder) -> None:
    path = folder.add("t-a", calm(10)).write()
    after = START + timedelta(seconds=3 * STEP_S)
    until = START + timedelta(seconds=7 * STEP_S)
    recording = read_recording(path, after=after, until=until)
    assert (recording.start_s, recording.stop_s) == (
        int(after.timestamp()),
        int(until.timestamp()) - STEP_S,
    )
    assert recording.polls.height == 4


def test_an_unknown_category_pays_the_highest_rate(folder: Folder) -> None:
    folder.add("t-a", [*calm(), CHEAP, CALM], category="numismatics")
    evaluation = evaluate(folder)
    (episode,) = evaluation.episodes
    assert episode.first.fee == 3 * 1_470_000  # 0.07 x 0.3 x 0.7 a leg
    assert "Categories not in the fee table pay the highest rate: numismatics." in render(
        evaluation
    )


# Episodes and accounts alone


def poll(ts_s: int, edge: int, *, usable: bool = True, judged: bool = True) -> SetPoll:
    return SetPoll(
        ts_s=ts_s, usable=usable, judged=judged, edge=edge, fee=1, outlay=100 - edge, payout=100
    )


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.integers(-2, 3), st.booleans(), st.booleans()),
        max_size=60,
    )
)
def test_episodes_cover_the_open_polls_exactly_and_span_no_gap(
    rows: list[tuple[int, int, bool, bool]],
) -> None:
    now, polls = 0, []
    for step, edge, usable, judged in rows:
        now += step
        polls.append(poll(now, edge, usable=usable, judged=judged))
    found = find_episodes(
        polls,
        set_id="s",
        trade=Trade.BUY_ALL_YES,
        proven=True,
        min_edge=2,
        gap_s=300,
        end_s=now,
    )
    is_open = [p.usable and p.judged and p.edge >= 2 for p in polls]
    assert sum(e.polls for e in found) == sum(is_open)
    assert all(e.seen_s <= 300 * (e.polls - 1) for e in found)
    assert all(e.bound_s is None or e.seen_s < e.bound_s <= e.seen_s + 600 for e in found)
    assert all(e.locked_s >= 86_400 for e in found)
    for a, b in pairwise(found):
        assert a.first.ts_s + a.seen_s < b.first.ts_s


def test_the_first_of_each_set_is_the_earliest() -> None:
    polls = [poll(i * 100, 5 if i in {1, 3} else 0) for i in range(5)]
    found = find_episodes(
        polls,
        set_id="s",
        trade=Trade.BUY_ALL_NO,
        proven=False,
        min_edge=1,
        gap_s=250,
        end_s=0,
    )
    assert [e.first.ts_s for e in found] == [100, 300]
    assert [e.first.ts_s for e in first_of_each_set(reversed(found))] == [100]


def test_quantile_is_the_nearest_rank() -> None:
    assert quantile([], 0.5) is None
    assert [quantile(range(1, 11), q) for q in (0.1, 0.5, 0.9, 1.0)] == [1, 5, 9, 10]
    assert quantile([7], 0.5) == 7


# The verdict


def words(evaluation: Evaluation) -> dict[tuple[str, str], Word]:
    return {(f.trade.name, f.tier): f.word for f in find(evaluation)}


def later(count: int, *middle: Sequence[Quote]) -> list[Sequence[Quote | None]]:
    """A recording whose middle polls lie in its later half."""
    return [*calm(40), *middle, *calm(count)]


@pytest.mark.parametrize(
    ("middle", "sets", "options", "word"),
    [
        ([], 1, Options(), Word.NONE_BEFORE_FEES),
        ([((0.31, 0.33),) * 3], 1, Options(), Word.NONE_AFTER_FEES),
        ([CHEAPISH], 1, Options(min_edge=1_000_000), Word.EDGE_TOO_SMALL),
        ([CHEAP], 6, Options(), Word.GONE_ONE_POLL_LATER),
        ([CHEAP, CHEAP], 4, Options(), Word.SETS_TOO_FEW),
        ([CHEAP, CHEAP], 5, Options(min_yearly_return=10**11), Word.RETURN_TOO_LOW),
        ([CHEAP, CHEAP], 5, Options(), Word.CANDIDATE),
    ],
)
def test_the_word_follows_from_the_numbers(
    folder: Folder, middle: list[Sequence[Quote]], sets: int, options: Options, word: Word
) -> None:
    for index in range(sets):
        folder.add(f"t-{index}", later(5, *middle))
    evaluation = evaluate(folder, options)
    assert words(evaluation)["BUY_ALL_YES", "proven"] is word
    assert words(evaluation)["BUY_ALL_YES", "unproven"] is Word.NONE_BEFORE_FEES
    text = render(evaluation)
    assert f"buy every YES, proven by names: {word.name}" in text
    assert ("candidate" in headline(find(evaluation))) is (word is Word.CANDIDATE)


def test_what_only_prices_support_is_never_a_candidate(folder: Folder) -> None:
    for index in range(6):
        folder.add(
            f"t-{index}", later(5, CHEAP, CHEAP), names=("ann", "bob", "cy"), question="Winner"
        )
    evaluation = evaluate(folder)
    assert words(evaluation)["BUY_ALL_YES", "unproven"] is Word.PRICED_ONLY
    assert "nothing proves complete" in headline(find(evaluation))


def test_the_earlier_part_alone_proves_nothing(folder: Folder) -> None:
    folder.add("t-a", [*calm(), CHEAP, CHEAP, *calm(60)])
    assert words(evaluate(folder))["BUY_ALL_YES", "proven"] is Word.NOT_IN_LATER_PART


def test_a_later_part_without_labels_is_said_so(folder: Folder) -> None:
    folder.add("t-a", later(5, CHEAP, CHEAP), y=(None, 0.0, 0.0))
    assert words(evaluate(folder))["BUY_ALL_YES", "proven"] is Word.PAYOFF_UNKNOWN


def test_a_calm_recording_ends_in_no_opportunity(folder: Folder) -> None:
    folder.add("t-a", later(5, ((0.31, 0.33),) * 3))
    text = render(evaluate(folder))
    assert text.rstrip().endswith("In short: no opportunity after fees.")
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_recording_picked_by_winner_is_said_so(folder: Folder) -> None:
    folder.add("t-a", calm())
    note = "Every set here has exactly one winner"
    assert note in render(evaluate(folder))
    folder.add("t-b", calm(), y=(0.0, 0.0, 0.0))
    assert note not in render(evaluate(folder))


def test_the_json_holds_the_same_numbers(folder: Folder) -> None:
    folder.add("t-a", later(5, CHEAP, CHEAP))
    document = to_json(evaluate(folder))
    assert json.loads(json.dumps(document)) == document
    (finding,) = (f for f in document["findings"] if f["word"] == "SETS_TOO_FEW")
    assert finding["later"]["at_once"]["profit_e8"] == 6_850_000
    assert finding["later"]["seen_s_median"] == STEP_S
    assert document["size_known"] is False
    (row,) = (
        m for m in document["moments"] if (m["trade"], m["tier"]) == ("BUY_ALL_YES", "proven")
    )
    assert (row["gross"], row["net"], row["taken"]) == (2, 2, 2)


# The command


def run(*arguments: str) -> int:
    return main(["evaluate", "sets", *arguments])


def test_the_command_prints_the_report_and_writes_the_json(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder.add("t-a", [*calm(), CHEAP, CHEAPISH, CALM]).write()
    target = tmp_path / "sets.json"
    assert run("--data", str(path), "--min-edge", "0.05", "--json", str(target)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Outcome sets in {path}")
    assert "\nVerdict\n" in printed
    assert json.loads(target.read_text(encoding="utf-8"))["findings"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--min-edge", "half"], "write it like 0.05"),
        (["--min-edge", "1.5"], "is above 1"),
        (["--fee-rate", "-0.1"], "not zero or above"),
        (["--until", "yesterday"], "write it like 2026-07-14"),
    ],
)
def test_a_bad_option_names_the_cure(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--data", str(tmp_path), *arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_no_recording_names_what_is_expected(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--data", str(tmp_path / "nowhere")) == 2
    assert "expected a folder with multileg_quotes.parquet" in capsys.readouterr().err
    path = folder.add("t-a", calm()).write()
    assert run("--data", str(path), "--after", "2030-01-01") == 2
    assert "widen --after/--until" in capsys.readouterr().err
    assert run("--data", str(path), "--after", "2026-02-01", "--until", "2026-01-01") == 2
    assert "--after is not before --until" in capsys.readouterr().err
    assert run("--data", str(path), "--json", str(tmp_path / "no" / "x.json")) == 2
    assert "name a file in a writable folder" in capsys.readouterr().err


def test_damaged_files_are_refused_with_their_name(folder: Folder) -> None:
    path = folder.add("t-a", calm()).write()
    (path / "multileg_quotes.parquet").write_bytes(b"not parquet")
    with pytest.raises(RecordingError, match="multileg_quotes"):
        read_recording(path)
    pl.DataFrame({"ts": [1], "slug": ["a"]}).write_parquet(path / "multileg_quotes.parquet")
    with pytest.raises(RecordingError, match="lacks the columns bid, ask"):
        read_recording(path)
    pl.DataFrame({"ts": ["x"], "slug": ["t-a-lt10f"], "bid": [0.1], "ask": [0.2]}).write_parquet(
        path / "multileg_quotes.parquet"
    )
    with pytest.raises(RecordingError, match="not the expected table of quotes"):
        read_recording(path)
    (path / "multileg_legs.csv").write_text("slug,prefix\na,b\n", encoding="utf-8")
    with pytest.raises(RecordingError, match="lacks the columns question"):
        read_recording(path)


def test_an_outcome_outside_zero_to_one_and_a_leg_twice_are_refused(folder: Folder) -> None:
    path = folder.add("t-a", calm(), y=(0.0, 2.0, 0.0)).write()
    with pytest.raises(RecordingError, match=r"outside 0\.\.1"):
        read_recording(path)
    path = folder.add("t-a", calm()).write()
    with pytest.raises(RecordingError, match="lists a slug twice"):
        read_recording(path)


def test_a_leg_quoted_twice_in_a_poll_counts_once(folder: Folder) -> None:
    path = folder.add("t-a", calm(3)).write()
    quotes = pl.read_parquet(path / "multileg_quotes.parquet")
    pl.concat([quotes, quotes.head(2)]).write_parquet(path / "multileg_quotes.parquet")
    recording = read_recording(path)
    assert recording.polls["complete"].to_list() == [True] * 3
    assert recording.polls["buy_cost"].to_list() == [103_000_000] * 3


def test_the_documentation_names_every_form_and_every_word() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert [c.name for c in (*Form, *Word) if f"`{c.name}`" not in text] == []
