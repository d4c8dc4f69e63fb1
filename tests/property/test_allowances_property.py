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

BOTS = ("ArbHunter", "PolyAI", "EliteMimic", "Trader")
SCOPES = ("fleet", "market:m1", "set:s1")
TOKENS = ("t1", "t2", "t3")
bots = st.sampled_from(BOTS)
scopes = st.sampled_from(SCOPES)
amounts = st.integers(0, 400)


class Desk:
    """One bot: what it has really spent (its journal), and what its process has in memory."""

    def __init__(self, file: FleetState, bot: str) -> None:
        self.file = file
        self.bot = bot
        self.spent = dict.fromkeys(SCOPES, 0)
        self.tokens: set[str] = set()
        self.claims: dict[str, int] = {}
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

    @initialize(caps=st.tuples(amounts, amounts, st.integers(1, 2000)))
    def choose(self, caps: tuple[int, int, int]) -> None:
        self.caps = dict(zip(SCOPES, caps, strict=True))

    @rule(bot=bots)
    def start(self, bot: str) -> None:
        """Also what a restart after ``kill -9`` looks like: the memory is gone, the journal not."""
        self.desks[bot].start()

    @rule(bot=bots, want=st.integers(0, 3000))
    def refresh(self, bot: str, want: int) -> None:
        self.desks[bot].refresh(self.caps, self.now_ns, want)

    @rule(bot=bots, scope=scopes, amount=amounts)
    def spend(self, bot: str, scope: str, amount: int) -> None:
        desk = self.desks[bot]
        if desk.board is not None and desk.spent[scope] + amount <= desk.allowed.get(scope, 0):
            desk.spent[scope] += amount

    @rule(bot=bots, scope=scopes, amount=amounts)
    def earn_back(self, bot: str, scope: str, amount: int) -> None:
        desk = self.desks[bot]
        desk.spent[scope] = max(0, desk.spent[scope] - amount)

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

    @rule(bot=bots, tokens=st.sets(st.sampled_from(TOKENS)))
    def claim(self, bot: str, tokens: set[str]) -> None:
        desk = self.desks[bot]
        desk.claims |= ClaimBoard(desk.file, wallet="w", bot=bot).claim(sorted(tokens)).held

    @rule(bot=bots, token=st.sampled_from(TOKENS))
    def unclaim(self, bot: str, token: str) -> None:
        desk = self.desks[bot]
        ClaimBoard(desk.file, wallet="w", bot=bot).release([token])
        desk.claims.pop(token, None)

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

    @invariant()
    def an_instrument_is_one_bots(self) -> None:
        for token in TOKENS:
            holders = [
                bot
                for bot, desk in self.desks.items()
                if token in desk.claims
                and not ClaimBoard(desk.file, wallet="w", bot=bot).lost({token: desk.claims[token]})
            ]
            assert len(holders) <= 1

    def teardown(self) -> None:
        self.stack.close()


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
