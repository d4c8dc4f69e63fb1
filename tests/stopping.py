"""How a program of long runs ends when it is told to: by unwinding, so that nothing is left behind.

PM2's daemon, exchanges and bots outlive whoever started them; what ends them stands in ``finally``
and ``with``, which the default action of SIGTERM never reaches.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final, NoReturn

STOPPED: Final = 128 + signal.SIGTERM


class Stopped(KeyboardInterrupt):
    """SIGTERM came. Like Ctrl-C, it is no failure of what ran."""


def end_in_order() -> None:
    """Let SIGTERM unwind this process; a second one does not disturb what the first began."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped
