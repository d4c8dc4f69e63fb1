"""The questions the sandbox asks: the tables behind ``universe``. Invented, no real events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from fleet.domain.units import SCALE, Price

CENT: Final = Price(SCALE // 100)
MILL: Final = Price(SCALE // 1000)

GroupKind = Literal["single", "set", "by_date", "above"]


@dataclass(frozen=True, slots=True)
class Leg:
    """One market of a group."""

    title: str
    question: str
    fair: float
    placeholder: bool = False


@dataclass(frozen=True, slots=True)
class GroupRow:
    """An outcome set or a ladder; ``days`` is the time to its end."""

    slug: str
    title: str
    category: str
    kind: GroupKind
    tick: Price
    days: int
    volatility: float
    legs: tuple[Leg, ...]
    augmented: bool = False


# One row a line or two reads best here.
# fmt: off
YES_NO: Final = ("Yes", "No")

# slug, question, category, fair, tick, days to the end, outcomes
SINGLES: Final[tuple[tuple[str, str, str, float, Price, int, tuple[str, str]], ...]] = (
    ("btc-green-week", "Will Bitcoin close the week green?", "crypto", 0.56, CENT, 5,
     YES_NO),
    ("eth-new-high-month", "Will Ethereum set a new high this month?", "crypto", 0.22, CENT, 20,
     YES_NO),
    ("sol-flips-bnb", "Will Solana pass BNB by market value this month?", "crypto", 0.31, CENT, 25,
     YES_NO),
    ("stablecoin-depeg", "Will a top five stablecoin trade below 0.99 this month?", "crypto", 0.03,
     MILL, 25, YES_NO),
    ("harbor-vs-comets", "Harbor Gulls vs. Canyon Comets", "sports", 0.47, CENT, 1,
     ("Harbor Gulls", "Canyon Comets")),
    ("foundry-vs-pines", "Foundry Nine vs. Pine Barons", "sports", 0.61, CENT, 1,
     ("Foundry Nine", "Pine Barons")),
    ("lakes-vs-mesa", "Lake City Herons vs. Mesa Sparks", "sports", 0.38, CENT, 2,
     ("Lake City Herons", "Mesa Sparks")),
    ("delta-vs-summit", "Delta Kings vs. Summit Rams", "sports", 0.72, CENT, 2,
     ("Delta Kings", "Summit Rams")),
    ("bay-vs-prairie", "Bay Lanterns vs. Prairie Owls", "sports", 0.53, CENT, 3,
     ("Bay Lanterns", "Prairie Owls")),
    ("perfect-game-season", "Will there be a perfect game this season?", "sports", 0.12, CENT, 60,
     YES_NO),
    ("senate-bill-passes", "Will the transit bill pass the upper house?", "politics", 0.64, CENT,
     14, YES_NO),
    ("minister-resigns", "Will the transport minister resign this quarter?", "politics", 0.18, CENT,
     40, YES_NO),
    ("turnout-above-60", "Will turnout be above 60 percent?", "politics", 0.44, CENT, 30,
     YES_NO),
    ("referendum-called", "Will a referendum be called this year?", "politics", 0.27, CENT, 40,
     YES_NO),
    ("cpi-above-3", "Will yearly inflation print above 3.0 percent?", "economics", 0.41, CENT, 12,
     YES_NO),
    ("jobs-above-150k", "Will payrolls rise by more than 150,000?", "economics", 0.58, CENT, 9,
     YES_NO),
    ("recession-this-year", "Will a recession be declared this year?", "economics", 0.06, MILL, 40,
     YES_NO),
    ("strait-reopens", "Will the northern strait reopen this month?", "geopolitics", 0.35, CENT, 20,
     YES_NO),
    ("summit-held", "Will the spring summit be held in person?", "geopolitics", 0.79, CENT, 35,
     YES_NO),
    ("embargo-lifted", "Will the grain embargo be lifted this quarter?", "geopolitics", 0.24, CENT,
     40, YES_NO),
    # Begins above 0.96, so its tick becomes finer about two minutes after the start.
    ("budget-signed", "Will the budget be signed by the deadline?", "politics", 0.982, CENT, 10,
     YES_NO),
)

GROUPS: Final = (
    GroupRow("port-city-mayor", "Who will be elected mayor of Port City?", "politics", "set",
             CENT, 6,
     0.004, (
         Leg("Ada Lindqvist", "Will Ada Lindqvist be elected mayor of Port City?", 0.34),
         Leg("Bruno Castellan", "Will Bruno Castellan be elected mayor of Port City?", 0.24),
         Leg("Chidi Okafor", "Will Chidi Okafor be elected mayor of Port City?", 0.17),
         Leg("Dara Whitlock", "Will Dara Whitlock be elected mayor of Port City?", 0.12),
         Leg("Emil Sorensen", "Will Emil Sorensen be elected mayor of Port City?", 0.08),
         Leg("Another person", "Will another person be elected mayor of Port City?", 0.05))),
    GroupRow("central-bank-decision", "Central bank decision this month?", "economics", "set",
             MILL, 8,
     0.004, (
         Leg("50+ bps cut", "Will the bank cut by 50 or more basis points?", 0.06),
         Leg("25 bps cut", "Will the bank cut by 25 basis points?", 0.38),
         Leg("No change", "Will the bank leave its rate unchanged?", 0.43),
         Leg("25 bps rise", "Will the bank raise by 25 basis points?", 0.09),
         Leg("50+ bps rise", "Will the bank raise by 50 or more basis points?", 0.04))),
    GroupRow("coast-league-champion", "Coast League champion", "sports", "set", CENT, 30, 0.004, (
        Leg("Harbor Gulls", "Will the Harbor Gulls win the Coast League?", 0.31),
        Leg("Foundry Nine", "Will Foundry Nine win the Coast League?", 0.22),
        Leg("Delta Kings", "Will the Delta Kings win the Coast League?", 0.15),
        Leg("Bay Lanterns", "Will the Bay Lanterns win the Coast League?", 0.10),
        Leg("Team A", "Will Team A win the Coast League?", 0.05, placeholder=True),
        Leg("Team B", "Will Team B win the Coast League?", 0.04, placeholder=True),
        Leg("Other", "Will another team win the Coast League?", 0.13)), augmented=True),
    GroupRow("ceasefire-by", "Ceasefire in the delta region by...?", "geopolitics", "by_date",
             CENT, 0,
     0.006, (
         Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.30),
         Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.335),
         Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.37),
         Leg("", "Will there be a ceasefire in the delta region by {date}?", 0.41))),
    GroupRow("bitcoin-above", "Bitcoin above ___ on {date}?", "crypto", "above", CENT, 3, 0.008, (
        Leg("110,000", "Will the price of Bitcoin be above $110,000 on {date}?", 0.6),
        Leg("110,500", "Will the price of Bitcoin be above $110,500 on {date}?", 0.55),
        Leg("111,000", "Will the price of Bitcoin be above $111,000 on {date}?", 0.5),
        Leg("111,500", "Will the price of Bitcoin be above $111,500 on {date}?", 0.45),
        Leg("112,000", "Will the price of Bitcoin be above $112,000 on {date}?", 0.4))),
)
# fmt: on
