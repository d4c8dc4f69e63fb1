"""Stories of EliteMimic, told like all others, with some words more.

leaders lee ann                  who is copied from now on; anybody else is watched
minute 10, second 5              the time, in minutes and in seconds from the start
lee buys 100 y1 0.50 [age=5] [block=7] [as=a]   a leader's trade: shares, token, price; seconds since
lee sells 100 y1 0.50            its block, its block, its id (the next letters if it is not said)
lee merges|redeems|sends|gets|splits|converts 50 y1 [n1]   tokens that change without a trade
undone a                         the block of a sighting is gone
forecast 1 0.65 [0.5] [0.5]      a market's blend, its weight, the price it was made at
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.domain import events as ev
from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.knowledge import CopyRefused
from fleet.domain.units import format_dollars
from fleet.engine.copy_results import copy_results, summary
from fleet.engine.engine import Strategy
from fleet.engine.view import View
from fleet.strategies.mimic_settings import MimicSettings
from tests.builders import NS
from tests.forecast_bot import MINUTE, forecast
from tests.mimic_world import ASKS_NOBODY, MimicBot, chosen, moved, traded, undone
from tests.scenarios.story import Teller

MOVES = {
    "merges": ev.MoveKind.MERGE, "redeems": ev.MoveKind.REDEEM, "sends": ev.MoveKind.TRANSFER,
    "gets": ev.MoveKind.TRANSFER, "splits": ev.MoveKind.SPLIT, "converts": ev.MoveKind.CONVERT,
}  # fmt: skip


class MimicTeller(Teller):
    """EliteMimic in ArbHunter's place; ``ai`` among the words of the world asks the forecaster."""

    def strategy(self, view: View) -> Strategy:
        self.bot = MimicBot(self.settings, view)
        return self.bot

    def __init__(self) -> None:
        super().__init__()
        self.settings = ASKS_NOBODY
        self.block = self.names = self.entries = 0

    def tell(self, line: str) -> Iterator[str]:
        word, _, rest = line.partition(" ")
        if word == "world" and "ai" in rest.split():
            self.settings = MimicSettings()
        if word in {"minute", "second"}:
            self.now = NS + int(rest) * (MINUTE if word == "minute" else NS)
            return
        yield from super().tell(line)
        yield from self.refusals()

    def refusals(self) -> Iterator[str]:
        entries = self.rig.entries
        for event in entries[self.entries :]:
            if isinstance(event, CopyRefused):
                detail = f": {event.detail}" if event.detail else ""
                names = " ".join(event.sightings)
                yield f"refuses {names} of {event.wallet}, {event.reason.value}{detail}"
        self.entries = len(entries)

    def restart(self) -> None:
        super().restart()
        self.entries = len(self.rig.entries)

    def events(self, word: str, words: list[str], rest: str) -> list[ev.AnyEvent]:
        if word == "leaders":
            return [chosen(*words, at=self.now)]
        if word == "undone":
            return [undone(words[0], at=self.now)]
        if word == "forecast":
            weight, price = (words[2:] + ["0.5", "0.5"][len(words) - 2 :])[:2]
            number = int(words[0])
            asked = self.bot.trader.approvals.asked.get(MarketId(f"m{number}"))
            request = asked.request_id if asked is not None else "nobody's"
            return [forecast(number, words[1], at=self.now, weight=weight, price=price,
                             request=request)]  # fmt: skip
        if words and (words[0] in {"buys", "sells"} or words[0] in MOVES):
            return [self.leader(word, words[0], words[1:])]
        return super().events(word, words, rest)

    def leader(self, wallet: str, does: str, words: list[str]) -> ev.Event:
        said = dict(word.split("=") for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        self.block = int(said.get("block", self.block + 1))
        if "as" not in said:
            self.names += 1
        name = said.get("as", f"s{self.names}")
        if does in MOVES:
            sign = "" if does in {"gets", "splits"} else "-"
            changes = [(InstrumentId(token), sign + plain[0]) for token in plain[1:]]
            return moved(name, *changes, wallet=wallet, at=self.now, block=self.block,
                         kind=MOVES[does])  # fmt: skip
        return traded(
            name, plain[0], plain[2], wallet=wallet, token=InstrumentId(plain[1]),
            side=Side.BUY if does == "buys" else Side.SELL, at=self.now, block=self.block,
            age=int(said.get("age", "0")) * NS,
        )  # fmt: skip

    def figures(self) -> Iterator[str]:
        state = self.rig.state
        found = copy_results(state)
        kpi = summary(state, found)
        yield (f"copies {kpi.copies}, ended {kpi.ended}, won {kpi.won} (leaders {kpi.leader_won}),"
               f" made {format_dollars(kpi.result)} (leaders {format_dollars(kpi.leader_result)}),"
               f" slippage {kpi.slippage_bps} bps")  # fmt: skip
