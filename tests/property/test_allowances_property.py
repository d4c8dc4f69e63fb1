"""Any number of bots that spend, are killed, come back and stop: never above the cap together."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fleet.journal.allowances import AllowanceBoard, Scope
from fleet.journal.claims import ClaimBoard
from fleet.journal.fleet import FleetState

BOTS = ("ArbHunter", "PolyAI", "EliteMimic")
SCOPES = ("fleet", "market:m1")
TOKENS = ("t1", "t2")
bots = st.sampled_from(BOTS)
eighths = st.integers(0, 8)
GREED = 10**9


class Desk:
    """One bot: what it has really spent (its journal), and what its process has in memory."""

    def __init__(self, file: FleetState, bot: str) -> None:
        self.file = file
        self.bot = bot
        self.spent = dict.fromkeys(SCOPES, 0)
        self.board: AllowanceBoard | None = None
        self.allowed: dict[str, int] = {}

    def start(self) -> None:
        self.board = AllowanceBoard(self.file, place="live:sandbox", bot=self.bot, wallet="w")
        self.allowed = {}

    def refresh(self, caps: dict[str, int], now_ns: int, want: int) -> None:
        if self.board is not None:
            wishes = {s: Scope(cap=caps[s], used=self.spent[s], want=want) for s in SCOPES}
            self.allowed = self.board.refresh(wishes, now_ns)


class Limits(RuleBasedStateMachine):
    """Spending needs an allowance in memory, and nothing else; the sum must hold all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        # A connection for each bot, as each is a process of its own.
        self.desks = {
            bot: Desk(self.stack.enter_context(FleetState(folder / "fleet.db")), bot)
            for bot in BOTS
        }
        self.caps = dict.fromkeys(SCOPES, 1000)
        self.now_ns = 0

    @initialize(fleet=st.integers(0, 1000), market=st.integers(1, 500))
    def choose(self, fleet: int, market: int) -> None:
        self.caps = {"fleet": fleet, "market:m1": market}

    @rule(bot=bots, want=st.sampled_from([0, 100, GREED]), eighth=eighths)
    def live(self, bot: str, want: int, eighth: int) -> None:
        """Start if it does not run (its memory empty, its journal not), ask, and spend some."""
        desk = self.desks[bot]
        if desk.board is None:
            desk.start()
        desk.refresh(self.caps, self.now_ns, want)
        self.spend(bot, eighth)

    @rule(bot=bots, eighth=eighths)
    def spend(self, bot: str, eighth: int) -> None:
        """Use a part of what memory says is allowed, whatever happened on disk since."""
        desk = self.desks[bot]
        for scope in SCOPES:
            room = max(0, desk.allowed.get(scope, 0) - desk.spent[scope])
            desk.spent[scope] += room * eighth // 8

    @rule(bot=bots, eighth=eighths)
    def earn_back(self, bot: str, eighth: int) -> None:
        desk = self.desks[bot]
        for scope in SCOPES:
            desk.spent[scope] -= desk.spent[scope] * eighth // 8

    @rule(bot=bots)
    def kill(self, bot: str) -> None:
        self.desks[bot].board, self.desks[bot].allowed = None, {}

    @rule(bot=bots)
    def stop(self, bot: str) -> None:
        desk = self.desks[bot]
        if desk.board is not None:
            desk.board.give_back(desk.spent)
            desk.board, desk.allowed = None, {}

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * 1_000_000_000

    @invariant()
    def together_never_above_the_cap(self) -> None:
        for scope, cap in self.caps.items():
            assert sum(desk.spent[scope] for desk in self.desks.values()) <= cap

    @invariant()
    def what_is_on_disk_covers_what_is_spent(self) -> None:
        usage = AllowanceBoard(
            self.desks[BOTS[0]].file, place="live:sandbox", bot="Nobody", wallet="w"
        ).usage()
        for scope, cap in self.caps.items():
            assert sum(one.granted for one in usage if one.scope == scope) <= cap
        granted = {(one.bot, one.scope): one.granted for one in usage}
        for bot, scope, spent in self._spent():
            assert granted.get((bot, scope), 0) >= spent

    def _spent(self) -> Iterator[tuple[str, str, int]]:
        for bot, desk in self.desks.items():
            for scope, spent in desk.spent.items():
                yield bot, scope, spent

    def teardown(self) -> None:
        self.stack.close()


class Sharing(RuleBasedStateMachine):
    """Bots of one wallet claim, give back, are retired by a person, and go on as if they did not
    know: what each finds to be still its own is nobody else's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.boards = {
            bot: ClaimBoard(
                self.stack.enter_context(FleetState(folder / "fleet.db")), wallet="w", bot=bot
            )
            for bot in BOTS
        }
        self.claims: dict[str, dict[str, int]] = {bot: {} for bot in BOTS}

    @rule(bot=bots, tokens=st.sets(st.sampled_from(TOKENS), min_size=1))
    def claim(self, bot: str, tokens: set[str]) -> None:
        self.claims[bot] |= self.boards[bot].claim(sorted(tokens)).held

    @rule(bot=bots, token=st.sampled_from(TOKENS))
    def release(self, bot: str, token: str) -> None:
        self.boards[bot].release([token])
        self.claims[bot].pop(token, None)

    @rule(bot=bots, retired=bots)
    def retire(self, bot: str, retired: str) -> None:
        self.boards[bot].release_all(retired)

    @invariant()
    def an_instrument_is_one_bots(self) -> None:
        for token in TOKENS:
            holders = [
                bot
                for bot, claims in self.claims.items()
                if token in claims and not self.boards[bot].lost({token: claims[token]})
            ]
            assert len(holders) <= 1

    def teardown(self) -> None:
        self.stack.close()


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
