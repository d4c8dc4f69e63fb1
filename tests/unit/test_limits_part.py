"""A bot's part of the limits over all bots, from real engines over one real ``fleet.db``."""

import asyncio
from pathlib import Path

import pytest

from fleet.clock import ManualClock
from fleet.domain.commands import RefusalCode
from fleet.domain.instruments import SetId
from fleet.engine.risk import RiskLimits
from fleet.journal.allowances import AllowanceBoard, Scope, Usage
from fleet.journal.claims import ClaimBoard
from fleet.journal.fleet import FleetState
from fleet.runtime.limits import LimitsPart
from fleet.runtime.safety_settings import SafetyEnv
from tests.builders import (
    DAY,
    NS,
    Rig,
    c,
    leg,
    market_id,
    no,
    order,
    orders_of,
    plan,
    universe,
    yes,
)

NOW = 10 * DAY + NS
CAPS = SafetyEnv(
    max_exposure=c("100"), max_wallet=c("60"), max_market=c("40"), max_set=c("50"),
    max_turnover=c("200"),
)  # fmt: skip
pair = plan(leg(yes(), "10", "0.50"), leg(no(), "10", "0.50"))


class Bot:
    """One bot: an engine of its own, a part of the limits, one ``fleet.db`` with the others."""

    def __init__(self, path: Path, name: str, *, shared: bool = False) -> None:
        self.rig = Rig(universe(2, one_set=True), limits=RiskLimits())
        self.rig.open_market(at=NOW)
        self.clock = ManualClock(NOW)
        self.fleet = FleetState(path)
        wallet = "shared" if shared else f"w-{name}"
        self.board = AllowanceBoard(self.fleet, place="live:x", bot=name, wallet=wallet)
        self.lost: list[str] = []
        self.part = LimitsPart(
            self.board, CAPS, self.rig.state, self.rig.engine.risk, self.clock, wallet=wallet,
            claims=ClaimBoard(self.fleet, wallet=wallet, bot=name) if shared else None,
            on_lost=self.lost.append,
        )  # fmt: skip

    def refused(self) -> list[RefusalCode]:
        """What a pair of ten dollars is refused for."""
        verdict = self.rig.engine.risk.check([pair], self.rig.state)
        return [one.code for one in verdict.refused]

    def buy(self) -> None:
        """Open the pair for real: ten dollars are reserved."""
        assert orders_of(self.rig.wish(pair, order(0), order(1, no())))

    def usage(self) -> dict[tuple[str, str], Usage]:
        return {(one.scope, one.bot): one for one in self.board.usage()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


def test_nothing_is_allowed_before_the_first_answer(path: Path) -> None:
    assert Bot(path, "ArbHunter").refused() == [RefusalCode.FLEET_EXPOSURE_REACHED]


def test_alone_a_bot_has_all_of_every_limit(path: Path) -> None:
    bot = Bot(path, "ArbHunter")
    bot.part.beat()
    allowance = bot.rig.engine.risk.allowance
    assert allowance is not None
    assert (allowance.fleet, allowance.wallet) == (c("100"), c("60"))
    assert (allowance.turnover, allowance.day) == (c("200"), 10)
    assert dict(allowance.markets) == {market_id(1): c("40"), market_id(2): c("40")}
    assert dict(allowance.sets) == {SetId("s1"): c("50")}
    assert allowance.instruments is None
    assert bot.refused() == []


def test_what_is_used_is_told_in_every_scope(path: Path) -> None:
    bot = Bot(path, "ArbHunter")
    bot.part.beat()
    bot.buy()
    bot.clock.advance(6 * NS)
    bot.part.beat()
    used = {scope: one.used for (scope, _), one in bot.usage().items() if one.used}
    ten = c("10")
    assert used == {
        "fleet": ten, "wallet:w-ArbHunter": ten, "market:m1": ten, "set:s1": ten,
        "turnover:1970-01-11": ten,
    }  # fmt: skip


def test_two_bots_share_and_never_pass_a_cap_together(path: Path) -> None:
    arb, poly = Bot(path, "ArbHunter"), Bot(path, "PolyAI")
    for _ in range(3):
        arb.part.beat()
        poly.part.beat()
    assert arb.refused() == poly.refused() == []
    granted: dict[str, int] = {}
    for (scope, _), one in arb.usage().items():
        granted[scope] = granted.get(scope, 0) + one.granted
    assert granted["fleet"] == c("100")
    assert granted["market:m1"] == c("40")
    assert granted["set:s1"] == c("50")
    assert granted["turnover:1970-01-11"] == c("200")
    assert granted["wallet:w-ArbHunter"] == granted["wallet:w-PolyAI"] == c("30")


def test_an_orderly_stop_gives_back_all_but_what_is_used(path: Path) -> None:
    arb, poly = Bot(path, "ArbHunter"), Bot(path, "PolyAI")
    arb.part.beat()
    arb.buy()
    poly.part.beat()
    assert poly.refused() == [RefusalCode.FLEET_EXPOSURE_REACHED]
    asyncio.run(arb.part.stop())
    assert arb.refused() == [RefusalCode.FLEET_EXPOSURE_REACHED]
    poly.part.beat()
    allowance = poly.rig.engine.risk.allowance
    assert allowance is not None
    assert allowance.markets[market_id(1)] == c("30")
    assert allowance.sets[SetId("s1")] == c("40")


def test_what_is_held_of_a_market_that_left_the_catalogue_keeps_its_grants(path: Path) -> None:
    before = Bot(path, "ArbHunter")
    before.part.beat()
    before.buy()  # And it is killed: nobody wrote down what it uses.
    after = Bot(path, "ArbHunter")
    after.rig.state.orders = before.rig.state.orders
    known = after.rig.state.universe
    del known.instruments[yes()], known.instruments[no()], known.markets[market_id(1)]
    after.part = LimitsPart(
        after.board, CAPS, after.rig.state, after.rig.engine.risk, after.clock, wallet="w-ArbHunter"
    )
    # Chaos seed 178: the set it is in is still known, and what it holds there is not counted.
    others = AllowanceBoard(after.fleet, place="live:x", bot="PolyAI", wallet="w-PolyAI")
    wish = {"set:s1": Scope(cap=c("50"), used=0, want=c("50"))}
    after.part.beat()
    others.refresh(wish, NOW)
    after.part.beat()
    asyncio.run(after.part.stop())
    assert others.refresh(wish, NOW + 60 * NS) == {}
    usage = after.usage()
    assert usage["market:m1", "ArbHunter"].granted == c("40")
    assert usage["set:s1", "ArbHunter"].granted == c("50")


def test_a_file_that_cannot_be_written_allows_nothing_new(path: Path) -> None:
    bot = Bot(path, "ArbHunter")
    bot.part.beat()
    bot.buy()
    bot.fleet.db.execute("PRAGMA query_only=ON")
    bot.clock.advance(6 * NS)
    bot.part.beat()
    assert not bot.part.health().ok
    allowance = bot.rig.engine.risk.allowance
    assert allowance is not None
    assert allowance.fleet == c("10")
    bot.fleet.db.execute("PRAGMA query_only=OFF")
    bot.part.beat()
    allowance = bot.rig.engine.risk.allowance
    assert allowance is not None
    assert allowance.fleet == c("100")


def test_a_new_day_has_a_turnover_of_its_own(path: Path) -> None:
    bot = Bot(path, "ArbHunter")
    bot.part.beat()
    bot.clock.advance(DAY)
    bot.part.beat()
    assert bot.refused() == [RefusalCode.DAY_TURNOVER_REACHED], "the engine's day is still the old"
    assert ("turnover:1970-01-11", "ArbHunter") not in bot.usage()
    assert bot.usage()[("turnover:1970-01-12", "ArbHunter")].granted == c("200")


def test_on_a_shared_wallet_the_first_bot_has_the_instruments(path: Path) -> None:
    arb, poly = Bot(path, "ArbHunter", shared=True), Bot(path, "PolyAI", shared=True)
    for _ in range(2):
        arb.part.beat()
        poly.part.beat()
    assert arb.refused() == []
    assert poly.refused() == [RefusalCode.INSTRUMENT_UNCLAIMED]
    arb.buy()
    asyncio.run(arb.part.stop())
    late = Bot(path, "EliteMimic", shared=True)
    late.part.beat()
    allowance = late.rig.engine.risk.allowance
    assert allowance is not None
    assert allowance.instruments == frozenset({yes(2), no(2)}), "what is in use stays claimed"


def test_a_claim_that_was_taken_away_is_noticed(path: Path) -> None:
    arb = Bot(path, "ArbHunter", shared=True)
    arb.part.beat()
    ClaimBoard(arb.fleet, wallet="shared", bot="x").release_all("ArbHunter")
    arb.part.beat()
    assert arb.lost == ["4 instruments of the shared wallet are another bot's now"]
    assert arb.refused() == [RefusalCode.INSTRUMENT_UNCLAIMED]
