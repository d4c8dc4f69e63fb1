"""Frame bytes to decision through the whole engine, strategy included, when nothing is to be done.

Run by bench/run.py: ``decision.py FRAMES``.
"""

from __future__ import annotations

import sys

from bot import START_NS, MemoryJournal, active_engine
from timing import read_frames, report, summary, time_each

from fleet.venues.polymarket.wire import Decoder


def main() -> None:
    """Time every frame and print the summary as one JSON line."""
    frames = read_frames(sys.argv[1])
    journal = MemoryJournal()
    engine = active_engine(journal)
    before = len(journal.events)
    decode, handle = Decoder().decode, engine.handle
    clock_ns = START_NS
    commands = 0

    def on_frame(frame: bytes) -> None:
        nonlocal clock_ns, commands
        clock_ns += 1_000_000
        for event in decode(frame, clock_ns):
            commands += len(handle(event))

    taken = time_each(on_frame, frames)
    books = engine.state.books
    if commands or len(journal.events) != before or engine.state.rejected_frames:
        sys.exit(f"these frames must lead to nothing, yet {commands} commands came")
    if not all(book.usable for book in books.values()):
        sys.exit("the frames never reached the books")
    top = [format(p / 1e8, ".2f") for book in books.values() for p in (book.bid, book.ask)]
    report({**summary(taken), "top": top})


if __name__ == "__main__":
    main()
