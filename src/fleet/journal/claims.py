"""Which bot may trade which instrument of a wallet that several bots share.

A wallet belongs to one bot by default, and nothing here is needed. On a shared wallet the tokens of
one instrument are one heap: two bots that trade it could each sell what the other bought. So every
instrument of a shared wallet is claimed by exactly one bot.

A claim has no end, for the same reason as an allowance: a bot that was killed may hold the tokens.
The bot itself gives back what it neither holds nor has orders in; ``release_all`` is for a person
who retires a bot. Every claim has a higher number (``token``) than all before it on the same
instrument, so a bot that was retired while it slept finds out by ``lost``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.journal.fleet_file import FleetFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a bot got (instrument -> token) and what others hold (instrument -> bot)."""

    held: Mapping[str, int]
    refused: Mapping[str, str]


class ClaimBoard:
    """The claims on one wallet, in one ``fleet.db``."""

    def __init__(self, file: FleetFile, *, wallet: str, bot: str) -> None:
        """Speak for ``bot`` on ``wallet``."""
        self._file = file
        self._wallet = wallet
        self._bot = bot

    def claim(self, instruments: Iterable[str]) -> Claims:
        """Claim all that nobody else holds; what was ours already stays ours under its number."""
        held: dict[str, int] = {}
        refused: dict[str, str] = {}
        with self._file.transaction("claim"):
            before = self._all()
            for instrument in instruments:
                bot, token = before.get(instrument, ("", 0))
                if bot not in {"", self._bot}:
                    refused[instrument] = bot
                    continue
                held[instrument] = token if bot else token + 1
                if not bot:
                    self._put(instrument, self._bot, token + 1)
        return Claims(held=held, refused=refused)

    def release(self, instruments: Iterable[str]) -> None:
        """Give back what is ours among ``instruments``: nothing held, nothing ordered there."""
        with self._file.transaction("give back"):
            self._free(self._bot, set(instruments))

    def release_all(self, bot: str) -> int:
        """Take every claim from ``bot``, which a person has retired; how many there were."""
        with self._file.transaction("give back"):
            return self._free(bot, None)

    def lost(self, claims: Mapping[str, int]) -> list[str]:
        """The instruments of ``claims`` that are not ours under that number any more, in order."""
        now = self._all()
        return sorted(i for i, token in claims.items() if now.get(i) != (self._bot, token))

    # -- inside --------------------------------------------------------------------------------

    def _all(self) -> dict[str, tuple[str, int]]:
        rows = self._file.rows(
            "SELECT instrument, bot, token FROM claim WHERE wallet = ?", self._wallet
        )
        return {instrument: (bot, token) for instrument, bot, token in rows}

    def _put(self, instrument: str, bot: str, token: int) -> None:
        self._file.db.execute(
            "INSERT OR REPLACE INTO claim(wallet, instrument, bot, token) VALUES (?, ?, ?, ?)",
            (self._wallet, instrument, bot, token),
        )

    def _free(self, bot: str, instruments: set[str] | None) -> int:
        freed = 0
        for instrument, (holder, token) in self._all().items():
            if holder == bot and (instruments is None or instrument in instruments):
                self._put(instrument, "", token)
                freed += 1
        return freed
