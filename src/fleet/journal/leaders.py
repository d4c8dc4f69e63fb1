"""The list of wallets EliteMimic looks at: who is on it, and every score anyone was ever given.

One SQLite file (``var/leaders.sqlite``) with several readers; ``fleet leaders`` writes it. Nothing
is ever removed: a wallet is put on the list and dropped from it by rows that say when, and a score
is a row, so that ``followed(as_of)`` can be asked for any instant of the past. Bots only read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.journal.record_file import Kind, RecordFile

LEADERS: Final = Kind(
    application_id=0x464C4C44,  # FLLD
    version=1,
    ddl="""
CREATE TABLE score(
    id INTEGER PRIMARY KEY,
    scored_ns INTEGER NOT NULL,
    as_of_ns INTEGER NOT NULL,
    wallet TEXT NOT NULL,
    copied INTEGER NOT NULL CHECK (copied IN (0, 1)),
    verdict TEXT NOT NULL,
    p_value REAL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX score_wallet ON score(wallet, scored_ns);
CREATE TABLE listing(
    id INTEGER PRIMARY KEY,
    ts INTEGER NOT NULL,
    wallet TEXT NOT NULL,
    listed INTEGER NOT NULL CHECK (listed IN (0, 1)),
    why TEXT NOT NULL
) STRICT;
CREATE TRIGGER score_never_changes BEFORE UPDATE ON score
BEGIN SELECT raise(ABORT, 'scores never change'); END;
CREATE TRIGGER score_never_goes BEFORE DELETE ON score
BEGIN SELECT raise(ABORT, 'scores are never removed'); END;
CREATE TRIGGER listing_never_changes BEFORE UPDATE ON listing
BEGIN SELECT raise(ABORT, 'the history of the list never changes'); END;
CREATE TRIGGER listing_never_goes BEFORE DELETE ON listing
BEGIN SELECT raise(ABORT, 'the history of the list is never removed'); END;
""",
)
SCORE_VALID_NS: Final = 30 * 86_400 * 1_000_000_000
"""A score older than this lets nobody be copied: what a wallet did a month ago is not recent."""
COPIED: Final = "copied"
WATCHED: Final = "watched"
UNSCORED: Final = "watched on paper, not copied: never scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """One score: what was known at ``as_of_ns``, judged at ``scored_ns``; ``body`` is JSON.

    ``p_value`` is None where there was nothing to test.
    """

    wallet: str
    scored_ns: int
    as_of_ns: int
    copied: bool
    verdict: str
    p_value: float | None
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """A wallet on the list. ``status`` is ``copied`` or ``watched``; ``scored_ns`` 0 if never."""

    wallet: str
    status: str
    verdict: str
    score_json: str
    scored_ns: int

    @classmethod
    def unscored(cls, wallet: str) -> Leader:
        """A wallet nobody has scored."""
        return cls(wallet=wallet, status=WATCHED, verdict=UNSCORED, score_json="", scored_ns=0)


def leaders_file(var: Path, feed: str) -> Path:
    """``var/leaders.sqlite`` of the sandbox; a real market's list is never mixed with it."""
    return var / ("leaders.sqlite" if feed == "sandbox" else f"leaders-{feed}.sqlite")


class LeaderStore(RecordFile):
    """The open file of one market place. Every method raises ``JournalError``."""

    def __init__(self, path: Path, *, feed: str, read_only: bool = False) -> None:
        """Open it, making it if there is none and it may be written."""
        super().__init__(path, LEADERS, {"feed": feed}, read_only=read_only)

    def record(self, scores: Sequence[ScoreRecord]) -> None:
        """Keep scores that were made together, all or none."""
        with self.transaction("record scores in"):
            self.db.executemany(
                "INSERT INTO score(scored_ns, as_of_ns, wallet, copied, verdict, p_value, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (s.scored_ns, s.as_of_ns, s.wallet, int(s.copied), s.verdict, s.p_value, s.body)
                    for s in scores
                ],
            )

    def watch(self, wallet: str, now_ns: int, why: str) -> bool:
        """Put a wallet on the list; false if it is there already."""
        return self._list(wallet, now_ns, why, listed=True)

    def drop(self, wallet: str, now_ns: int, why: str) -> bool:
        """Take a wallet off the list; false if it is not on it."""
        return self._list(wallet, now_ns, why, listed=False)

    def listed(self, as_of_ns: int) -> list[str]:
        """The wallets on the list at an instant, in the order they came onto it."""
        return [
            wallet
            for wallet, listed in self.rows(
                "SELECT wallet, listed FROM listing WHERE id IN"
                " (SELECT max(id) FROM listing WHERE ts <= ? GROUP BY wallet) ORDER BY id",
                as_of_ns,
            )
            if listed
        ]

    def latest(self, as_of_ns: int) -> Mapping[str, ScoreRecord]:
        """The newest score of every wallet ever scored, by that instant."""
        return {
            wallet: ScoreRecord(
                wallet=wallet, scored_ns=scored, as_of_ns=as_of, copied=bool(copied),
                verdict=verdict, p_value=p_value, body=body,
            )
            for wallet, scored, as_of, copied, verdict, p_value, body in self.rows(
                "SELECT wallet, scored_ns, as_of_ns, copied, verdict, p_value, body FROM score"
                " WHERE id IN (SELECT max(id) FROM score WHERE scored_ns <= ? GROUP BY wallet)"
                " ORDER BY wallet",
                as_of_ns,
            )
        }  # fmt: skip

    def followed(self, as_of_ns: int, manual: Sequence[str] = ()) -> list[Leader]:
        """Who was followed at an instant, and how: the list, then ``manual`` wallets not on it.

        A wallet is copied only if its newest score by then passed the gate and was not older than
        ``SCORE_VALID_NS``; any other is watched, whoever put it on the list.
        """
        scores = self.latest(as_of_ns)
        wallets = dict.fromkeys([*self.listed(as_of_ns), *manual])
        return [_leader(wallet, scores.get(wallet), as_of_ns) for wallet in wallets]

    def _list(self, wallet: str, now_ns: int, why: str, *, listed: bool) -> bool:
        with self.transaction("change the list of leaders in"):
            last = self.rows(
                "SELECT listed FROM listing WHERE wallet = ? ORDER BY id DESC LIMIT 1", wallet
            )
            if bool(last and last[0][0]) is listed:
                return False
            self.db.execute(
                "INSERT INTO listing(ts, wallet, listed, why) VALUES (?, ?, ?, ?)",
                (now_ns, wallet, int(listed), why),
            )
        return True


def _leader(wallet: str, score: ScoreRecord | None, as_of_ns: int) -> Leader:
    if score is None:
        return Leader.unscored(wallet)
    stale = as_of_ns - score.scored_ns > SCORE_VALID_NS
    verdict = score.verdict
    if stale and score.copied:
        verdict = "watched on paper, not copied: its score is too old; score it again"
    return Leader(
        wallet=wallet,
        status=COPIED if score.copied and not stale else WATCHED,
        verdict=verdict,
        score_json=score.body,
        scored_ns=score.scored_ns,
    )
