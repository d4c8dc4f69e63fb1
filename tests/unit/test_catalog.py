"""The universe from a loopback server that answers as Gamma and the CLOB do, and the ladder rule."""

import asyncio
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.instruments import MarketId
from fleet.domain.units import SCALE
from fleet.venues.polymarket.catalog import Catalog, CatalogError, CatalogSettings, load_catalog
from fleet.venues.polymarket.ladders import Candidate, find_ladders
from fleet.venues.port import RequestRefused
from fleet.venues.transport import HttpSettings, JsonClient

FRAMES = Path(__file__).parents[1] / "data" / "polymarket"
NOW = 1_790_000_000 * 10**9
END = "2027-03-01T00:00:00Z"
END_NS = 1_803_859_200 * 10**9
Json = dict[str, Any]


def condition(number: int) -> str:
    return f"0x{number:064x}"


def gamma_market(number: int, **fields: Any) -> Json:
    """A tradable market; a value of ``...`` removes a field."""
    market: Json = json.loads((FRAMES / "gamma_market.json").read_text())
    market |= {
        "id": str(number),
        "conditionId": condition(number),
        "question": f"Question {number}?",
        "clobTokenIds": json.dumps([f"{number}1", f"{number}2"]),
        **fields,
    }
    return {key: value for key, value in market.items() if value is not ...}


def clob_market(market: Json, **fields: Any) -> Json:
    """What the CLOB says of it."""
    tokens = [f"{market['id']}1", f"{market['id']}2"]
    if market.get("version") == "v2":
        tokens = market.get("positionIds", tokens)
    found: Json = json.loads((FRAMES / "clob_market.json").read_text())
    found |= {
        "c": market["conditionId"],
        "t": [{"t": t, "o": o} for t, o in zip(tokens, ["Yes", "No"], strict=True)],
        "nr": bool(market.get("negRisk")),
        **fields,
    }
    return {key: value for key, value in found.items() if value is not ...}


def event(number: int, markets: list[Json], **fields: Any) -> Json:
    return {
        "id": f"e{number}", "title": f"Event {number}", "markets": markets,
        "tags": [{"id": "1", "slug": "all", "label": "All"},
                 {"id": "2", "slug": "politics", "label": "Politics"}], **fields,
    }  # fmt: skip


class Venue:
    """Pages of events, and the CLOB's answers by condition id (404 for the others)."""

    def __init__(self, *pages: list[Json]) -> None:
        self.pages = [list(page) for page in pages]
        self.rules = {
            m["conditionId"]: clob_market(m)
            for page in pages for e in page for m in e["markets"]
            if isinstance(m, dict) and "conditionId" in m
        }  # fmt: skip
        self.queries: list[dict[str, str]] = []
        self.gamma_status = 200

    async def events(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        number = int(request.query.get("after_cursor", "c0")[1:])
        more = number + 1 < len(self.pages)
        body: Json = {"events": self.pages[number]}
        if more:
            body["next_cursor"] = f"c{number + 1}"
        return web.json_response(body, status=self.gamma_status)

    async def clob(self, request: web.Request) -> web.Response:
        rules = self.rules.get(request.match_info["id"])
        if rules is None:
            return web.json_response({"error": "market not found"}, status=404)
        return web.json_response(rules)

    def load(self, settings: CatalogSettings | None = None) -> Catalog:
        async def main() -> Catalog:
            app = web.Application()
            app.router.add_get("/events/keyset", self.events)
            app.router.add_get("/clob-markets/{id}", self.clob)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host = f"http://127.0.0.1:{runner.addresses[0][1]}"
            fast = HttpSettings(per_second=10_000, burst=1_000, attempts=1)
            gamma, clob = JsonClient(host, fast), JsonClient(host, fast)
            try:
                return await load_catalog(gamma, clob, settings or CatalogSettings(), now_ns=NOW)
            finally:
                await gamma.close()
                await clob.close()
                await runner.cleanup()

        return asyncio.run(main())


def load_one(market: Json, **rules: Any) -> Catalog:
    """A universe of a sound market, and of this one if it is tradable."""
    venue = Venue([event(1, [gamma_market(900)]), event(2, [market])])
    found = clob_market(market, **rules)
    venue.rules[market["conditionId"]] = found
    return venue.load()


def left_out(market: Json, **rules: Any) -> str:
    """Why this market was left out; the sound one beside it is loaded all the same."""
    catalog = load_one(market, **rules)
    assert set(catalog.universe.markets) == {condition(900)}
    (reason,) = catalog.left_out
    assert catalog.left_out[reason] == 1
    return reason


def test_a_market_with_its_rules() -> None:
    catalog = load_one(gamma_market(1), mts=0.001, mos=15)
    market = catalog.universe.markets[MarketId(condition(1))]
    assert (market.yes, market.no, market.category, market.event_id) == (
        "11",
        "12",
        "politics",
        "e2",
    )
    assert market.end_ns == END_NS and not market.neg_risk
    yes = catalog.universe.instruments[market.yes]
    assert (yes.complement, yes.outcome) == ("12", "Yes")
    assert (yes.tick, yes.min_qty) == (SCALE // 1000, 15 * SCALE), (
        "the CLOB's tick, the larger minimum"
    )
    assert (yes.fees.rate, yes.fees.exponent) == (4_000_000, 1)
    assert catalog.left_out == {}


def test_protocol_v2_trades_position_ids_and_v1_never_does() -> None:
    ids = ["777", "778"]
    v2 = load_one(gamma_market(1, version="v2", positionIds=ids, clobTokenIds=...))
    assert v2.universe.markets[MarketId(condition(1))].yes == "777"
    v1 = load_one(gamma_market(1, positionIds=ids))
    assert v1.universe.markets[MarketId(condition(1))].yes == "11"
    old = load_one(gamma_market(1, version=...))
    assert old.universe.markets[MarketId(condition(1))].yes == "11"


@pytest.mark.parametrize(
    ("gamma_rate", "clob_rate", "expected"),
    [(0.04, 0.04, 4), (0.03, 0.05, 5), (0.072, 0.07, 7.2), (None, 0.05, 5), (0.04, None, 4)],
    ids=str,
)
def test_the_dearer_of_two_fees(
    gamma_rate: float | None, clob_rate: float | None, expected: float
) -> None:
    schedule = {"rate": gamma_rate, "exponent": 1} if gamma_rate is not None else None
    fd: Any = {"r": clob_rate, "e": 1, "to": True} if clob_rate is not None else ...
    catalog = load_one(gamma_market(1, feeSchedule=schedule), fd=fd)
    fees = catalog.universe.instruments[catalog.universe.markets[MarketId(condition(1))].yes].fees
    assert fees.rate == round(expected * 1_000_000)


def test_the_smaller_exponent_is_the_dearer() -> None:
    catalog = load_one(gamma_market(1, feeSchedule={"rate": 0.04, "exponent": 2}))
    assert all(leg.fees.exponent == 1 for leg in catalog.universe.instruments.values())


def test_no_fee_is_believed_only_where_none_is_enabled() -> None:
    free = load_one(gamma_market(1, feesEnabled=False, feeSchedule=...), fd=...)
    market = free.universe.markets[MarketId(condition(1))]
    assert free.universe.instruments[market.yes].fees.rate == 0
    assert left_out(gamma_market(1, feeSchedule=...), fd=...) == "fees enabled but no schedule"


ODD: list[tuple[Json, Json, str]] = [
    ({"closed": True}, {}, "closed"),
    ({"active": False}, {}, "closed"),
    ({"acceptingOrders": False}, {}, "not accepting orders"),
    ({"enableOrderBook": False}, {}, "not accepting orders"),
    ({"conditionId": "0x12"}, {}, "condition id unreadable"),
    ({"clobTokenIds": "[1, 2"}, {"t": []}, "clobTokenIds unreadable"),
    ({"clobTokenIds": ...}, {"t": []}, "clobTokenIds unreadable"),
    ({"clobTokenIds": '["11"]'}, {}, "not two outcomes with two tokens"),
    ({"clobTokenIds": '["11", "11"]'}, {}, "not two outcomes with two tokens"),
    ({"clobTokenIds": '["11", "x"]'}, {}, "token id unreadable"),
    ({"clobTokenIds": '["9001", "9002"]'}, {}, "token listed twice"),
    ({"outcomes": '["Yes","No","Maybe"]'}, {}, "not two outcomes with two tokens"),
    ({"outcomes": ...}, {}, "outcomes missing or misshapen"),
    ({"question": 7}, {}, "question missing or misshapen"),
    ({"version": "v3"}, {}, "version 'v3' unknown"),
    ({"version": "v2"}, {}, "not two outcomes with two tokens"),
    ({}, {"t": [{"t": "12", "o": "Yes"}, {"t": "11", "o": "No"}]}, "CLOB and Gamma name different tokens"),
    ({}, {"nr": True}, "CLOB and Gamma name different markets"),
    ({}, {"c": condition(5)}, "CLOB and Gamma name different markets"),
    ({}, {"mts": 0.03}, "rules not tradable"),
    ({}, {"mts": 0}, "rules not tradable"),
    ({}, {"mts": 1e-9}, "tick finer than 1e-8"),
    ({}, {"mos": -5}, "minimum out of range"),
    ({}, {"mts": ...}, "CLOB answer unreadable"),
    ({"feeSchedule": {"rate": 0.05, "exponent": 1.5}}, {"fd": ...}, "fee exponent not whole"),
    ({}, {"fd": {"r": 7, "e": 1}}, "rules not tradable"),
    ({"feeSchedule": {"exponent": 1}}, {}, "rate missing or misshapen"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "rules", "reason"), ODD, ids=[f"{n}" for n in range(len(ODD))])
def test_an_odd_market_is_left_out_and_the_rest_loaded(
    fields: Json, rules: Json, reason: str
) -> None:
    assert left_out(gamma_market(1, **fields), **rules) == reason


def test_a_market_not_yet_in_the_clob_is_left_out() -> None:
    venue = Venue([event(1, [gamma_market(900), gamma_market(1)])])
    del venue.rules[condition(1)]
    assert venue.load().left_out == {"not yet in the CLOB (404)": 1}


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
), st.data())  # fmt: skip
def test_any_field_may_be_anything(value: Any, data: st.DataObject) -> None:
    """One odd value in one listed market: it is loaded or left out, and the other is loaded."""
    import msgspec

    from fleet.venues.polymarket.listings import GammaEvent, Oddity, read_market

    market = gamma_market(1)
    market[data.draw(st.sampled_from(sorted(market)))] = value
    raw = msgspec.Raw(json.dumps(market).encode())
    try:
        read = read_market(raw, GammaEvent(id="e"), "", liquidity_min=0)
    except Oddity as oddity:
        outcome = str(oddity)
    else:
        outcome = " ".join(read.tokens)
    assert outcome


def test_unreadable_events_are_counted() -> None:
    venue = Venue([event(1, [gamma_market(900)])])
    venue.pages[0] += [{"title": "no id"}, {"id": "e9", "markets": [5, {"conditionId": 3}]}, 7]  # type: ignore[list-item]
    catalog = venue.load()
    assert len(catalog.universe.markets) == 1
    assert sum(catalog.left_out.values()) == 4


def test_pages_are_followed_to_the_last() -> None:
    venue = Venue(*[[event(n, [gamma_market(n)])] for n in range(1, 4)])
    assert len(venue.load().universe.markets) == 3
    assert [q.get("after_cursor") for q in venue.queries] == [None, "c1", "c2"]
    assert venue.queries[0] == {
        "limit": "100", "closed": "false", "order": "volume24hr", "ascending": "false",
    }  # fmt: skip


def test_an_event_that_moved_to_the_next_page_is_read_once() -> None:
    twice = event(1, [gamma_market(1)])
    catalog = Venue([twice], [deepcopy(twice), event(2, [gamma_market(2)])]).load()
    assert len(catalog.universe.markets) == 2 and catalog.left_out == {}


def test_limits() -> None:
    pages = [[event(n, [gamma_market(10 * n + i) for i in range(3)])] for n in range(1, 5)]
    catalog = Venue(*pages).load(CatalogSettings(markets_max=7))
    assert len(catalog.universe.markets) == 6, "whole events only"
    assert catalog.left_out["over the limit of markets"] == 6
    assert len(Venue(*pages).load(CatalogSettings(pages_max=2)).universe.markets) == 6


def test_categories_and_liquidity() -> None:
    sport = event(2, [gamma_market(2)], tags=[{"slug": "sports", "label": "Sports"}])
    thin = gamma_market(3, liquidityNum=50.5)
    page = [event(1, [gamma_market(1), thin]), sport]
    settings = CatalogSettings(categories=("politics",), liquidity_min=100)
    catalog = Venue(page).load(settings)
    assert set(catalog.universe.markets) == {condition(1)}
    assert catalog.left_out == {"liquidity below the limit": 1}


def test_an_empty_universe_is_an_error_that_says_why() -> None:
    venue = Venue([event(1, [gamma_market(1, closed=True), gamma_market(2)])])
    venue.rules.clear()
    with pytest.raises(CatalogError, match=r"1 closed, 1 not yet in the CLOB"):
        venue.load()


def test_gamma_refusing_is_an_error() -> None:
    venue = Venue([event(1, [gamma_market(1)])])
    venue.gamma_status = 403
    with pytest.raises(RequestRefused, match="HTTP 403"):
        venue.load()


# --- outcome sets -------------------------------------------------------------------------------


def leg(number: int, title: str, **fields: Any) -> Json:
    return gamma_market(
        number, negRisk=True, negRiskMarketID="0xset", groupItemTitle=title, **fields
    )


def load_set(*legs: Json, **fields: Any) -> Catalog:
    return Venue(
        [event(1, list(legs), **{"negRisk": True, "negRiskMarketID": "0xset"} | fields)]
    ).load()


def test_a_complete_set() -> None:
    catalog = load_set(leg(1, "Ann"), leg(2, "Bob"), leg(3, "Other", negRiskOther=True))
    (group,) = catalog.universe.sets
    assert group.complete and group.id == "0xset"
    assert group.markets == (condition(1), condition(2), condition(3))
    assert catalog.universe.instruments[catalog.universe.markets[group.markets[0]].yes].neg_risk


@pytest.mark.parametrize(
    "spoiled", [{"closed": True}, {"acceptingOrders": False}, {"clobTokenIds": "odd"}, {"question": None}],
    ids=str,
)  # fmt: skip
def test_a_set_with_a_leg_left_out_is_not_complete(spoiled: Json) -> None:
    (group,) = load_set(leg(1, "Ann"), leg(2, "Bob"), leg(3, "Cyd", **spoiled)).universe.sets
    assert not group.complete
    assert group.placeholders == {condition(3)} and len(group.markets) == 2


def test_an_augmented_set_lists_its_named_legs_only() -> None:
    legs = [leg(1, "Ann Lee"), leg(2, "Bob"), leg(3, "Person A"), leg(4, "Team BC"), leg(5, "Other"),
            leg(6, "Another person"), leg(7, ""), leg(8, "Rest", negRiskOther=True)]  # fmt: skip
    catalog = load_set(*legs, negRiskAugmented=True)
    (group,) = catalog.universe.sets
    assert group.augmented and not group.complete
    assert set(catalog.universe.markets) == {condition(1), condition(2)}
    assert catalog.left_out == {"placeholder of an augmented set": 6}
    assert group.placeholders == {condition(n) for n in range(3, 9)}


def test_legs_of_two_neg_risk_markets_are_no_set() -> None:
    stray = leg(2, "Bob") | {"negRiskMarketID": "0xother"}
    assert load_set(leg(1, "Ann"), stray).universe.sets == ()
    plain = gamma_market(3, groupItemTitle="Cyd")
    assert load_set(leg(1, "Ann"), leg(2, "Bob"), plain).universe.sets == ()


# --- ladders --------------------------------------------------------------------------------------

Rung = tuple[str, str, str]


def ladder_of(*rungs: Rung) -> list[list[int]]:
    """The ladders among (question, group title, end date), as positions."""
    from fleet.venues.polymarket.listings import end_time_ns

    candidates = [
        Candidate(
            market_id=MarketId(str(n)),
            question=q,
            group_title=t,
            end_ns=end_time_ns(end or None, NOW),
        )
        for n, (q, t, end) in enumerate(rungs)
    ]
    return [[int(m) for m in found.rungs] for found in find_ladders("e", "Event", candidates)]


def dated(*dates: tuple[str, str], text: str = "Will it rain in Oslo by {}?") -> list[Rung]:
    return [(text.format(date), date, end) for date, end in dates]


def priced(
    *numbers: str, text: str = "Will gold be above {} on June 30?", end: str = END
) -> list[Rung]:
    return [(text.format(number), number, end) for number in numbers]


def test_dates_rise() -> None:
    rungs = dated(
        ("March 31", "2027-03-31"), ("January 31", "2027-01-31"), ("June 30", "2027-06-30")
    )
    assert ladder_of(*rungs) == [[1, 0, 2]]


def test_dates_with_years_cross_the_turn_of_the_year() -> None:
    rungs = dated(("January 31, 2028", ""), ("December 31, 2027", ""))
    assert ladder_of(*rungs) == [[1, 0]]
    bare = dated(("January 31", "2028-01-31"), ("December 31", "2028-01-01"))
    assert ladder_of(*bare) == [[1, 0]]


def test_thresholds_fall_for_above_and_rise_for_below() -> None:
    assert ladder_of(*priced("$100", "$1,200.50", "$90k")) == [[2, 1, 0]]
    below = priced("$100", "$90", text="Will gold dip to {} in June?")
    assert ladder_of(*below) == [[1, 0]]
    assert ladder_of(*priced("3.5%", "4%", text="Will rates be at least {} in June?")) == [[1, 0]]


def test_two_ladders_in_one_event() -> None:
    up = priced("$120", "$130", text="Will gold reach {} in June?")
    down = priced("$90", "$80", text="Will gold dip to {} in June?")
    assert sorted(ladder_of(*up, *down)) == [[1, 0], [3, 2]]


DOUBTFUL: list[tuple[str, list[Rung]]] = [
    ("one rung", priced("$1")),
    ("the same rung twice", priced("$1", "$1.0")),
    ("different texts", [*priced("$1"), *priced("$2", text="Will silver be above {} on June 30?")]),
    ("a word that turns it round", priced("$1", "$2", text="Will gold not be above {} on June 30?")),
    ("a contraction", priced("$1", "$2", text="Gold won't be above {} on June 30?")),
    ("staying", priced("$1", "$2", text="Will gold stay above {} until June 30?")),
    ("a range", [("Will gold be between $1 and $2?", "", END), ("Will gold be between $2 and $3?", "", END)]),
    ("hit", priced("$1", "$2", text="Will gold hit {} in June?")),
    ("different ends", [*priced("$1"), *priced("$2", end="2027-04-01")]),
    ("two phrases", priced("$1", "$2", text="Will gold be above {} by June 30?")),
    ("a title of another number", [(q, "7", e) for q, _, e in priced("$1", "$2")]),
    ("until a date", dated(("March 31", "2027-03-31"), ("June 30", "2027-06-30"), text="Will he stay until {}?")),
    ("a year nobody says", dated(("March 31", ""), ("June 30", ""))),
    ("an end that is not the date", dated(("March 31", "2027-06-30"), ("June 30", "2027-09-30"))),
    ("no such date", dated(("February 30, 2027", ""), ("June 31, 2027", ""))),
    ("ends against the dates", dated(("March 31, 2027", "2027-09-01"), ("June 30, 2027", "2027-04-01"))),
]  # fmt: skip


@pytest.mark.parametrize(("why", "rungs"), DOUBTFUL, ids=[why for why, _ in DOUBTFUL])
def test_in_doubt_there_is_no_ladder(why: str, rungs: list[Rung]) -> None:
    assert ladder_of(*rungs) == [], why


def test_a_doubtful_rung_spares_the_others() -> None:
    rungs = [*priced("$1", "$2"), ("Will gold remain above $3 on June 30?", "$3", END)]
    assert ladder_of(*rungs) == [[1, 0]]


def test_sets_have_no_ladders_and_other_events_do() -> None:
    rungs = priced("$1", "$2")
    markets = [
        gamma_market(n, question=q, groupItemTitle=t) for n, (q, t, _) in enumerate(rungs, 1)
    ]
    catalog = Venue([event(1, markets)]).load()
    assert [found.rungs for found in catalog.universe.ladders] == [(condition(2), condition(1))]
    legs = [leg(n, t, question=q) for n, (q, t, _) in enumerate(rungs, 1)]
    assert load_set(*legs).universe.ladders == ()


# --- recorded objects -----------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["gamma_markets.json", "gamma_market_updown.json", "gamma_event_crypto_updown.json"]
)
def test_recorded_gamma_objects_are_read(fleet_data: Path, name: str) -> None:
    import msgspec

    from fleet.venues.polymarket.listings import GammaEvent, read_market

    file = fleet_data / "contract_fixtures" / "hugompt_microstructure_lab" / name
    rows = json.loads(file.read_text())
    rows = rows if isinstance(rows, list) else [rows]
    markets = [m for row in rows for m in row.get("markets", [row])]
    assert markets
    for market in markets:
        raw = msgspec.Raw(json.dumps(market).encode())
        read = read_market(raw, GammaEvent(id="e"), "", liquidity_min=0)
        assert read.gamma.fee_schedule is not None and len(set(read.tokens)) == 2
