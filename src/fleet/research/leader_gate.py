"""Copied or only watched: the binary gate, and every reason a wallet does not pass.

Published evidence says that the size of a score tells nothing and that a plain gate beats random
choice (issue 5), so nothing here ranks. All candidates of one choice are judged together, because
of many wallets some look skilled by luck; a wallet that was looked at before counts again. Nobody
passing is a normal answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fleet.research.leader_scores import WalletScore
from fleet.research.leader_statistics import benjamini_hochberg

MARKETS_MIN: Final = 30
"""Resolved markets below which nothing is said of a wallet (issue 5)."""
FALSE_DISCOVERY_RATE: Final = 0.10
UNACCOUNTED_MAX: Final = 0.2
"""Share of markets whose shares came from nowhere above which the record is not a record."""


class Reason(Enum):
    """The closed list of reasons not to copy."""

    MARKETS_FEW = f"fewer than {MARKETS_MIN} resolved markets"
    MARKET_MAKER = "trades like a market maker, whose spread and rebates nobody can copy"
    WASH_TRADER = "trades with itself"
    HISTORY_INCOMPLETE = "sold shares in too many markets that it never bought in this history"
    NOTHING_RECENT = "nothing recent is resolved and could have been copied"
    COPY_EDGE_UNPROVEN = "copying it lately, late and with costs, did not surely pay"
    LUCK_NOT_EXCLUDED = "of so many candidates, luck alone makes one like it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``copied``, or only watched on paper for ``reasons``. ``q_value``: see ``judge``."""

    wallet: str
    copied: bool
    reasons: tuple[Reason, ...]
    q_value: float

    @property
    def status(self) -> str:
        """``copied`` or ``watched``."""
        return "copied" if self.copied else "watched"

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        if self.copied:
            return "copied: passes every part of the gate"
        return "watched on paper, not copied: " + "; ".join(r.value for r in self.reasons)


def judge(
    scores: Sequence[WalletScore],
    *,
    earlier_p_values: Mapping[str, float] | None = None,
    markets_min: int = MARKETS_MIN,
    rate: float = FALSE_DISCOVERY_RATE,
) -> list[Verdict]:
    """Judge candidates together, in the order given.

    ``earlier_p_values`` are those of other wallets looked at before (wallet -> p): choosing among
    them all, one at a time, is still choosing among them all. The q-value of a wallet is
    Benjamini and Hochberg's over everybody there was anything to test of; 1 for the others.
    """
    mine = {s.wallet for s in scores}
    others = [p for w, p in (earlier_p_values or {}).items() if w not in mine]
    tested = [s for s in scores if s.recent_copy_edge is not None]
    found = benjamini_hochberg([*(s.p_value for s in tested), *others])
    q_values = {s.wallet: q for s, q in zip(tested, found, strict=False)}
    return [_verdict(one, q_values.get(one.wallet, 1.0), markets_min, rate) for one in scores]


def _verdict(one: WalletScore, q_value: float, markets_min: int, rate: float) -> Verdict:
    reasons = []
    markets = one.resolved_markets + one.open_markets + one.unaccounted_markets
    if one.resolved_markets < markets_min:
        reasons.append(Reason.MARKETS_FEW)
    if one.style.market_maker:
        reasons.append(Reason.MARKET_MAKER)
    if one.style.wash_trader:
        reasons.append(Reason.WASH_TRADER)
    if one.unaccounted_markets > UNACCOUNTED_MAX * max(1, markets):
        reasons.append(Reason.HISTORY_INCOMPLETE)
    recent = one.recent_copy_edge
    if recent is None:
        reasons.append(Reason.NOTHING_RECENT)
    elif not recent.low > 0:
        reasons.append(Reason.COPY_EDGE_UNPROVEN)
    if recent is not None and q_value > rate:
        reasons.append(Reason.LUCK_NOT_EXCLUDED)
    return Verdict(wallet=one.wallet, copied=not reasons, reasons=tuple(reasons), q_value=q_value)
