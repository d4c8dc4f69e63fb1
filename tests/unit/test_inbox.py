"""The operators' inbox: durable, answered once by each seat, read from other processes."""

import multiprocessing
from pathlib import Path

import pytest

from fleet.journal.fleet import FleetState
from fleet.journal.inbox import Answer, AnswerState, Asked, OperatorInbox, superseded

SEAT = "ArbHunter paper sandbox"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


def said(asked: Asked, state: AnswerState, detail: str = "", seat: str = SEAT) -> Answer:
    return Answer(
        command_id=asked.id,
        seat=seat,
        bot=seat.split(maxsplit=1)[0],
        state=state,
        detail=detail,
        ts=5,
    )


def test_a_command_waits_until_it_is_answered_for_good(path: Path) -> None:
    with FleetState(path) as file:
        inbox = OperatorInbox(file)
        number = inbox.post("ArbHunter", "reduce", by="ann", ts=3, argument="too hot")
        [asked] = inbox.waiting("ArbHunter", SEAT)
        assert (asked.id, asked.action, asked.argument, asked.by) == (
            number, "reduce", "too hot", "ann",
        )  # fmt: skip
        assert inbox.waiting("PolyAI", "PolyAI paper sandbox") == []
        inbox.answer(said(asked, AnswerState.UNDER_WAY, "working"))
        assert inbox.waiting("ArbHunter", SEAT) == [asked]
        inbox.answer(said(asked, AnswerState.DONE, "reducing"))
        assert inbox.waiting("ArbHunter", SEAT) == []
        inbox.answer(said(asked, AnswerState.FAILED, "too late"))
        [answer] = inbox.answers(number)
        assert (answer.state, answer.detail) == (AnswerState.DONE, "reducing")


def test_what_was_asked_outlives_the_process_and_is_for_every_seat(path: Path) -> None:
    with FleetState(path) as file:
        OperatorInbox(file).post("*", "flatten", by="ann", ts=1)
    with FleetState(path) as file:
        inbox = OperatorInbox(file)
        [asked] = inbox.waiting("ArbHunter", SEAT)
        inbox.answer(said(asked, AnswerState.DONE))
        assert [one.action for one in inbox.waiting("ArbHunter", "ArbHunter live polymarket")] == [
            "flatten"
        ]
        assert [one.action for one in inbox.waiting("PolyAI", "PolyAI paper sandbox")] == [
            "flatten"
        ]


def test_only_known_actions_and_no_rewriting(path: Path) -> None:
    with FleetState(path) as file:
        inbox = OperatorInbox(file)
        with pytest.raises(ValueError, match="cancel-all"):
            inbox.post("*", "explode", by="ann", ts=1)
        inbox.post("*", "pause", by="ann", ts=1)
        for statement in ("UPDATE command SET by = 'bob'", "DELETE FROM command"):
            with pytest.raises(Exception, match="never"):
                file.db.execute(statement)


def test_only_the_newest_standing_order_counts(path: Path) -> None:
    with FleetState(path) as file:
        inbox = OperatorInbox(file)
        for action in ("reduce", "cancel-all", "flatten", "resume", "cancel-all"):
            inbox.post("*", action, by="ann", ts=1)
        asked = inbox.waiting("ArbHunter", SEAT)
        assert [one.action for one in superseded(asked)] == ["reduce", "flatten"]


def _answer_from_elsewhere(path: Path, bot: str) -> None:
    with FleetState(path) as file:
        inbox = OperatorInbox(file)
        for asked in inbox.waiting(bot, f"{bot} paper sandbox"):
            inbox.answer(said(asked, AnswerState.DONE, seat=f"{bot} paper sandbox"))


def test_many_bots_answer_one_command_at_the_same_time(path: Path) -> None:
    bots = [f"Bot{letter}" for letter in "ABCD"]
    spawn = multiprocessing.get_context("spawn")
    with FleetState(path) as file:
        inbox = OperatorInbox(file)
        number = inbox.post("*", "reduce", by="ann", ts=1)
        processes = [spawn.Process(target=_answer_from_elsewhere, args=(path, b)) for b in bots]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * 4
        assert [answer.bot for answer in inbox.answers(number)] == bots
