"""What is watched, and that a quiet look sees what a full look sees."""

import random

import pytest

from fleet.domain.commands import OperationKind
from fleet.domain.instruments import Side, Universe
from fleet.domain.units import SCALE, Price, Qty
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.strategies.watches import UNREACHABLE, MarketWatch, Watch, build_watches
from tests.builders import changed, no, p, snapshot, universe, yes

BUY, SELL = Side.BUY, Side.SELL


def watched(
    world: Universe, *, complement: bool = True, sets: bool = True, ladders: bool = True
) -> tuple[State, dict[str, MarketWatch], dict[str, Watch]]:
    """The state, the market watches by token, and all watches by idea and key."""
    state = State(world)
    markets = build_watches(View(state), complement=complement, sets=sets, ladders=ladders)
    found = {f"{w.idea} {w.key}": w for m in markets.values() for w in m.watches}
    return state, {str(token): market for token, market in markets.items()}, found


def legs(watch: Watch) -> list[tuple[str, Side]]:
    return [(str(offer.instrument.id), offer.side) for offer in watch.offers]


def test_a_market_is_watched_both_ways() -> None:
    _, markets, found = watched(universe(1))
    assert list(found) == ["COMPLEMENT_BUY m1", "COMPLEMENT_SELL m1"]
    buy, sell = found["COMPLEMENT_BUY m1"], found["COMPLEMENT_SELL m1"]
    assert legs(buy) == [("y1", BUY), ("n1", BUY)]
    assert (buy.payoff, buy.start, buy.finish, buy.held) == (
        SCALE, None, OperationKind.MERGE, False,
    )  # fmt: skip
    assert legs(sell) == [("y1", SELL), ("n1", SELL)]
    assert (sell.payoff, sell.start, sell.finish) == (
        -SCALE, OperationKind.SPLIT, OperationKind.MERGE,
    )  # fmt: skip
    assert markets["y1"] is markets["n1"]


def test_a_complete_set_is_watched_on_both_sides() -> None:
    _, markets, found = watched(universe(3, one_set=True, end_ns=9), complement=False)
    assert list(found) == ["SET_NO s1", "SET_YES s1"]
    nos, yeses = found["SET_NO s1"], found["SET_YES s1"]
    assert legs(nos) == [(f"n{n}", BUY) for n in (1, 2, 3)]
    assert (nos.payoff, nos.finish, nos.held) == (2 * SCALE, OperationKind.CONVERT, False)
    assert legs(yeses) == [(f"y{n}", BUY) for n in (1, 2, 3)]
    assert (yeses.payoff, yeses.finish, yeses.held, yeses.end_ns) == (SCALE, None, True, 9)
    assert all(markets[f"y{n}"].watches == [nos, yeses] for n in (1, 2, 3))


def test_the_end_of_a_held_set_is_unknown_if_one_end_is() -> None:
    _, _, found = watched(universe(3, one_set=True), complement=False)
    assert found["SET_YES s1"].end_ns == 0


@pytest.mark.parametrize("world", [universe(3, one_set=True, augmented=True),
                                   universe(1, one_set=True)])  # fmt: skip
def test_an_augmented_or_tiny_set_is_not_watched(world: Universe) -> None:
    _, _, found = watched(world, complement=False)
    assert found == {}


def test_a_ladder_is_watched_from_the_rarer_to_the_likelier() -> None:
    """m1 implies m2 implies m3: YES of the likelier and NO of the rarer pay at least a dollar."""
    _, markets, found = watched(universe(3, ladder=True, end_ns=9), complement=False)
    assert {key: legs(watch) for key, watch in found.items()} == {
        "LADDER l1:m1:m2": [("y2", BUY), ("n1", BUY)],
        "LADDER l1:m1:m3": [("y3", BUY), ("n1", BUY)],
        "LADDER l1:m2:m3": [("y3", BUY), ("n2", BUY)],
    }
    assert all(watch.held and watch.payoff == SCALE for watch in found.values())
    assert all(watch.end_ns == 9 for watch in found.values())
    assert [len(markets[f"y{n}"].watches) for n in (1, 2, 3)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("switches", "ideas"),
    [
        ({"complement": False, "sets": False, "ladders": False}, set()),
        ({"complement": True, "sets": False, "ladders": False},
         {"COMPLEMENT_BUY", "COMPLEMENT_SELL"}),
        ({"complement": False, "sets": True, "ladders": False}, {"SET_NO", "SET_YES"}),
        ({"complement": False, "sets": False, "ladders": True}, {"LADDER"}),
    ],
)  # fmt: skip
def test_each_idea_has_its_switch(switches: dict[str, bool], ideas: set[str]) -> None:
    _, markets, found = watched(universe(3, one_set=True, ladder=True), **switches)
    assert {watch.idea for watch in found.values()} == ideas
    assert len(markets) == 6


def test_a_gross_edge_is_what_the_best_prices_leave() -> None:
    state, _, found = watched(universe(1))
    buy, sell = found["COMPLEMENT_BUY m1"], found["COMPLEMENT_SELL m1"]
    assert buy.total == 2 * UNREACHABLE
    assert buy.gross_edge() < 0
    state.apply(snapshot(yes(), [("0.45", "1")], [("0.46", "1")]))
    state.apply(snapshot(no(), [("0.49", "1")], [("0.51", "1")]))
    for watch in (buy, sell):
        watch.refresh()
    assert (buy.gross_edge(), sell.gross_edge()) == (p("0.03"), -p("0.06"))
    state.apply(snapshot(no(), [], [], at=1))
    for watch in (buy, sell):
        watch.refresh()
    assert buy.gross_edge() < -900 * SCALE
    assert sell.gross_edge() < -900 * SCALE


# --- coherence --------------------------------------------------------------------------------


def test_a_market_alone_needs_books_of_one_moment() -> None:
    state, _, found = watched(universe(1))
    watch = found["COMPLEMENT_BUY m1"]
    assert not watch.coherent()
    state.apply(snapshot(yes(), at=5))
    assert not watch.coherent()
    state.apply(snapshot(no(), at=5))
    assert watch.coherent()
    state.apply(changed(6, (yes(), BUY, "0.49", "1")))
    assert not watch.coherent()
    state.apply(changed(6, (no(), SELL, "0.51", "1")))
    assert watch.coherent()
    state.apply(changed(6, (no(), BUY, "0.51", "1")))
    assert not watch.coherent()


def test_a_market_of_a_set_is_of_one_moment_if_its_books_mirror() -> None:
    state, _, found = watched(universe(2, one_set=True), complement=False)
    watch = found["SET_NO s1"]
    for n in (1, 2):
        state.apply(snapshot(yes(n), [("0.48", "1")], [("0.52", "1")], at=n))
        state.apply(snapshot(no(n), [("0.48", "1")], [("0.52", "1")], at=n + 5))
    assert watch.coherent()
    state.apply(changed(9, (yes(2), BUY, "0.49", "1")))
    assert not watch.coherent()
    state.apply(changed(10, (no(2), SELL, "0.51", "1")))
    assert watch.coherent()
    state.apply(changed(11, (yes(1), SELL, "0.51", "1")))
    assert not watch.coherent()


def test_a_frame_changes_both_books_or_not() -> None:
    _, markets, _ = watched(universe(2))
    both = changed(1, (yes(), BUY, "0.4", "1"), (no(), SELL, "0.6", "1")).changes
    assert markets["y1"].both_in(both)
    assert not markets["y2"].both_in(both)
    assert not markets["y1"].both_in(both[:1])
    other = changed(1, (yes(2), BUY, "0.4", "1")).changes
    assert markets["y1"].both_in([*both[::-1], *other])
    assert markets["y1"].both_in([*other, *both])
    assert not markets["y1"].both_in([*other, *both[:1], *other])


# --- the quiet look ---------------------------------------------------------------------------


def test_a_quiet_market_is_quiet() -> None:
    state, markets, found = watched(universe(1))
    market = markets["y1"]
    assert market.quiet()
    for token in (yes(), no()):
        state.apply(snapshot(token))
    assert market.quiet()
    state.apply(changed(1, (yes(), SELL, "0.47", "1")))
    assert not market.quiet()
    state.apply(changed(2, (yes(), SELL, "0.47", "0")))
    assert market.quiet()
    market.alert = True
    assert not market.quiet()
    market.alert = False
    state.apply(changed(3, (yes(), BUY, "0.53", "1")))
    assert not market.quiet()
    assert found["COMPLEMENT_BUY m1"].sighted_ns == 0


def test_a_sighted_set_is_never_quiet() -> None:
    _, markets, found = watched(universe(2, one_set=True), complement=False)
    assert markets["y1"].quiet()
    found["SET_YES s1"].sighted_ns = 5
    assert not markets["y1"].quiet()
    assert not markets["n2"].quiet()


@pytest.mark.parametrize("seed", range(12))
def test_running_sums_equal_a_full_refresh(seed: int) -> None:
    """``quiet`` of the touched market brings every sum up to date and misses no bargain."""
    by = random.Random(seed)
    world = universe(4, one_set=True, ladder=True)
    state, markets, found = watched(world)
    tokens = sorted(world.instruments)
    for token in tokens:
        state.apply(snapshot(token, at=1))
    for market in markets.values():
        market.quiet()
    for at in range(2, 500):
        token = by.choice(tokens)
        if by.random() < 0.03:
            state.apply(snapshot(token, [], [], at=at))
        else:
            price = Price(by.randint(1, 99) * SCALE // 100)
            change = (token, by.choice([BUY, SELL]), price, Qty(by.choice([0, 0, 1]) * SCALE))
            state.apply(changed(at)._replace(changes=[change]))
        quiet = markets[token].quiet()
        for watch in found.values():
            if len(watch.markets) > 1:
                total, costs = watch.total, list(watch.costs)
                watch.refresh()
                assert (watch.total, watch.costs) == (total, costs)
            else:
                watch.refresh()
        bargain = any(w.gross_edge() > 0 for w in markets[token].watches)
        assert quiet is not bargain
