"""The market simulator: deterministic, consistent, mispriced only where it says so."""

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain.units import SCALE, Qty, parse_price, parse_qty
from fleet.sandbox.listing import GroupState, MarketState
from fleet.sandbox.market_frames import Frame, book_object
from fleet.sandbox.mispricing import WORTHWHILE_RETURN, least_shares
from fleet.sandbox.questions import MILL
from fleet.sandbox.simulator import (
    TICK_CHANGE_DELAY_NS,
    MarketSimulator,
    SimulatorSettings,
)
from fleet.sandbox.universe import UPDOWN_SECONDS

START_NS = 1_795_000_000 * NS_PER_SECOND


def simulator(**settings: Any) -> MarketSimulator:
    return MarketSimulator(SimulatorSettings(**settings), START_NS)


def run(found: MarketSimulator, seconds: float, *, step_ms: int = 100) -> list[Frame]:
    frames: list[Frame] = []
    end_ns = found.now_ns + int(seconds * NS_PER_SECOND)
    while found.now_ns < end_ns:
        frames += found.step(min(end_ns, found.now_ns + step_ms * NS_PER_MS))
    return frames


def market(found: MarketSimulator, slug: str) -> MarketState:
    return next(m for m in found.listings.markets if m.spec.slug == slug)


def test_same_seed_same_frames_however_the_time_is_cut() -> None:
    whole = simulator().step(START_NS + 30 * NS_PER_SECOND)
    assert whole == run(simulator(), 30, step_ms=7)
    assert whole == run(simulator(), 30, step_ms=1_000)
    assert len(whole) > 500


def test_another_seed_lists_other_ids_and_moves_otherwise() -> None:
    one, other = simulator(seed=1), simulator(seed=2)
    assert not set(one.listings.by_token) & set(other.listings.by_token)
    assert set(one.listings.by_token) == set(simulator(seed=1).listings.by_token)
    assert [f.payload for f in run(one, 5)] != [f.payload for f in run(other, 5)]


def test_time_does_not_go_back() -> None:
    found = simulator()
    found.step(START_NS + NS_PER_SECOND)
    with pytest.raises(ValueError, match="went back"):
        found.step(START_NS)


def test_frames_come_in_order_of_time_and_never_from_the_future() -> None:
    found = simulator(speed=5)
    previous = START_NS
    for _ in range(100):
        for frame in found.step(found.now_ns + 100 * NS_PER_MS):
            assert previous <= frame.at_ns <= found.now_ns
            previous = frame.at_ns


@pytest.mark.parametrize(
    ("setting", "value"),
    [("speed", 0.0), ("speed", 1e3), ("mispricing_every_s", 0.5), ("mispricing_every_s", -1.0)],
)
def test_settings_out_of_range_are_refused(setting: str, value: float) -> None:
    settings: dict[str, Any] = {setting: value}
    with pytest.raises(ValueError, match=setting):
        SimulatorSettings(**settings)


class ClientBooks:
    """What a client that only reads frames knows: price text -> size text by token and side."""

    def __init__(self, found: MarketSimulator) -> None:
        self.levels: dict[tuple[str, str], dict[str, str]] = {}
        self.bests: dict[str, tuple[str, str]] = {}
        for state in found.listings.markets:
            for outcome in (0, 1):
                self.snapshot(book_object(state, outcome))

    def snapshot(self, book: dict[str, Any]) -> None:
        for side, key in (("BUY", "bids"), ("SELL", "asks")):
            levels = {level["price"]: level["size"] for level in book[key]}
            self.levels[book["asset_id"], side] = levels

    def apply(self, message: dict[str, Any]) -> None:
        if message["event_type"] == "book":
            self.snapshot(message)
        elif message["event_type"] == "price_change":
            for change in message["price_changes"]:
                levels = self.levels[change["asset_id"], change["side"]]
                if change["size"] == "0":
                    levels.pop(change["price"], None)
                else:
                    levels[change["price"]] = change["size"]
                self.bests[change["asset_id"]] = (change["best_bid"], change["best_ask"])

    def best(self, token: str) -> tuple[int, int]:
        bids = [parse_price(p) for p in self.levels[token, "BUY"]]
        asks = [parse_price(p) for p in self.levels[token, "SELL"]]
        return max(bids, default=0), min(asks, default=SCALE)


def test_a_client_that_folds_the_frames_holds_the_books() -> None:
    """Snapshots and changes together lose nothing: levels, best prices, mirrors, never crossed."""
    found = simulator(speed=4)
    client = ClientBooks(found)
    for frame in run(found, 90):
        message = json.loads(frame.payload)
        if message["event_type"] == "new_market":
            state = found.listings.by_token[message["assets_ids"][0]][0]
            for outcome in (0, 1):
                client.snapshot(book_object(state, outcome))
        client.apply(message)
        if message["event_type"] == "price_change":
            for token in {c["asset_id"] for c in message["price_changes"]}:
                bid, ask = client.best(token)
                assert bid < ask
                assert client.bests[token] == (
                    next(c["best_bid"] for c in message["price_changes"] if c["asset_id"] == token),
                    next(c["best_ask"] for c in message["price_changes"] if c["asset_id"] == token),
                )
                assert parse_price(client.bests[token][0]) == bid
                assert parse_price(client.bests[token][1]) == ask
    for state in found.listings.markets:
        if state.closed:
            continue
        for outcome in (0, 1):
            book = book_object(state, outcome)
            token = book["asset_id"]
            assert client.levels[token, "BUY"] == {x["price"]: x["size"] for x in book["bids"]}
            assert client.levels[token, "SELL"] == {x["price"]: x["size"] for x in book["asks"]}
        yes, no = state.spec.tokens
        mirrored = {
            (SCALE - parse_price(p)): parse_qty(s) for p, s in client.levels[no, "SELL"].items()
        }
        assert mirrored == {
            parse_price(p): parse_qty(s) for p, s in client.levels[yes, "BUY"].items()
        }


def overpriced(group: GroupState) -> int:
    """By how much a group's own prices contradict one another now, before fees (0: not at all)."""
    if group.event.kind == "set" and not group.event.augmented:
        bids = sum(m.best(0, buy=True) or 0 for m in group.markets)
        asks = sum(m.best(0, buy=False) or SCALE for m in group.markets)
        return max(0, bids - SCALE, SCALE - asks)
    if group.event.kind in {"by_date", "above"}:
        pairs = zip(group.rungs, group.rungs[1:], strict=False)
        return max((a.best(0, buy=True) or 0) - (b.best(0, buy=False) or SCALE) for a, b in pairs)
    return 0


def test_nothing_is_mispriced_but_what_the_truth_records() -> None:
    found = simulator(speed=4, mispricing_every_s=4)
    standing: Counter[str] = Counter()
    for _ in range(1_800):
        found.step(found.now_ns + 50 * NS_PER_MS)
        now = {m.event_slug for m in found.truth if m.start_ns <= found.now_ns < m.end_ns}
        for group in found.listings.groups.values():
            if group.event.slug not in now:
                assert overpriced(group) <= 0, group.event.slug
            elif overpriced(group) > 0:
                standing[group.event.slug] += 1
    assert len(standing) == 4, "both sets and both ladders are mispriced now and then"
    assert "coast-league-champion" not in {m.event_slug for m in found.truth}


def test_the_truth_says_what_the_books_offer() -> None:
    found = simulator(mispricing_every_s=3)
    seen = 0
    for _ in range(2_400):
        found.step(found.now_ns + 50 * NS_PER_MS)
        for made in found.truth:
            if not made.start_ns <= found.now_ns < made.end_ns:
                continue
            seen += 1
            for leg in made.legs:
                state, outcome = found.listings.by_token[leg.token_id]
                assert state.spec.outcomes[outcome] == leg.outcome
                # The best price stands for as long as the record says; nobody improves on it.
                assert state.best(outcome, buy=False) == leg.price
                assert leg.fee == state.spec.fees.per_share(leg.price)
                if made.worthwhile:
                    assert state.depth(outcome, buy=False) >= Qty(least_shares(leg.price) * SCALE)
    assert seen > 200


def test_worthwhile_ones_come_often_enough_and_most_others_are_not() -> None:
    found = simulator(timed_markets=False)
    run(found, 600, step_ms=1_000)
    good = [m for m in found.truth if m.worthwhile]
    assert 25 <= len(good) <= 60, "one every 15 s on average"
    assert found.worthwhile == len(good)
    assert len(found.truth) == found.mispricings >= 1.5 * len(good)
    assert all(0.3 <= (m.end_ns - m.start_ns) / NS_PER_SECOND <= 3.0 for m in found.truth)
    assert all(m.net_edge >= WORTHWHILE_RETURN * m.cost for m in good)
    assert sum(m.start_ns < START_NS + 120 * NS_PER_SECOND for m in good) >= 4
    assert {m.kind for m in good} == {"set_buy_no", "set_buy_yes", "ladder"}


def test_none_are_made_when_switched_off() -> None:
    found = simulator(mispricing_every_s=0)
    run(found, 60, step_ms=1_000)
    assert found.mispricings == 0
    assert not found.truth


def test_payouts_are_what_the_bundles_must_pay() -> None:
    """Every way the world can end pays at least the recorded payout."""
    found = simulator(mispricing_every_s=2)
    run(found, 120, step_ms=1_000)
    for made in found.truth:
        states = [found.listings.by_token[leg.token_id] for leg in made.legs]
        if made.kind == "ladder":
            # earlier NO + later YES: (neither, later only, both) happen.
            (first, first_outcome), (second, second_outcome) = states
            assert (first_outcome, second_outcome) == (1, 0)
            rungs = next(g.rungs for g in found.listings.groups.values() if g.event is first.event)
            assert rungs.index(second) == rungs.index(first) + 1
            worlds = [(False, False), (False, True), (True, True)]
            assert min((not a) + b for a, b in worlds) * SCALE == made.payout
        else:
            assert {s.spec.slug for s, _ in states} == {m.slug for m in states[0][0].event.markets}
            outcome = 0 if made.kind == "set_buy_yes" else 1
            assert {o for _, o in states} == {outcome}
            n = len(states)
            assert made.payout == (SCALE if outcome == 0 else (n - 1) * SCALE)


def test_a_price_past_the_edge_brings_the_finer_tick_and_fresh_books() -> None:
    found = simulator()
    state = market(found, "budget-signed")
    before = state.tick
    frames = run(found, TICK_CHANGE_DELAY_NS / NS_PER_SECOND + 60)
    mine = [f for f in frames if set(f.assets) & set(state.spec.tokens)]
    at = next(i for i, f in enumerate(mine) if f.event_type == "tick_size_change")
    changed = [json.loads(f.payload) for f in mine[at : at + 2]]
    assert [m["asset_id"] for m in changed] == list(state.spec.tokens)
    assert {(m["old_tick_size"], m["new_tick_size"]) for m in changed} == {("0.01", "0.001")}
    assert [f.event_type for f in mine[at + 2 : at + 4]] == ["book", "book"]
    assert before != state.tick == MILL
    assert json.loads(mine[at + 2].payload)["tick_size"] == "0.001"


def test_a_timed_market_resolves_and_the_next_is_listed() -> None:
    found = simulator()
    first = next(m for m in found.listings.markets if m.spec.slug.startswith("btc-updown"))
    frames = run(found, UPDOWN_SECONDS + 1, step_ms=1_000)
    resolved = [json.loads(f.payload) for f in frames if f.event_type == "market_resolved"]
    listed = [json.loads(f.payload) for f in frames if f.event_type == "new_market"]
    assert [m["market"] for m in resolved] == [first.spec.condition_id]
    assert resolved[0]["winning_asset_id"] == first.spec.tokens[first.winner or 0]
    assert resolved[0]["winning_outcome"] in {"Up", "Down"}
    assert first.closed
    assert listed[0]["condition_id"] in found.listings.by_condition
    end_ms = int(resolved[0]["timestamp"])
    late = [f for f in frames if f.at_ns > end_ms * NS_PER_MS and first.spec.tokens[0] in f.assets]
    assert late == [], "a resolved market is silent"


def test_old_resolved_markets_are_forgotten() -> None:
    found = simulator(mispricing_every_s=0, speed=0.02)
    before = len(found.listings.by_token)
    for _ in range(20):
        found.step(found.now_ns + UPDOWN_SECONDS * NS_PER_SECOND)
    assert len(found.listings.by_token) == before + 2 * 12


def test_a_trade_is_told_by_books_and_prints_of_the_same_moment() -> None:
    found = simulator(speed=4)
    by_moment: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for frame in run(found, 120):
        message = json.loads(frame.payload)
        if "market" in message:
            by_moment[frame.at_ns, message["market"]].append(message)
    prints = 0
    for messages in by_moment.values():
        trades = [m for m in messages if m["event_type"] == "last_trade_price"]
        if not trades:
            continue
        prints += len(trades)
        kinds = [m["event_type"] for m in messages]
        assert kinds[:2] == ["book", "book"]
        assert len({(m["asset_id"], m["side"]) for m in trades}) == 1
        own = next(
            m
            for m in messages
            if m["event_type"] == "book" and m["asset_id"] == trades[-1]["asset_id"]
        )
        assert own["last_trade_price"] == trades[-1]["price"]
        assert all(parse_qty(m["size"]) > 0 for m in trades)
    assert prints > 50


def test_mispricings_do_not_wear_a_set_down_to_one_outcome() -> None:
    found = simulator(mispricing_every_s=3, timed_markets=False)
    run(found, 1_200, step_ms=5_000)
    for group in found.listings.groups.values():
        if group.event.kind == "set":
            fairs = group.latent.fairs()
            assert sum(fairs) == pytest.approx(1.0)
            assert max(fairs) < 0.75
            assert all(m.book.best_bid for m in group.markets)
