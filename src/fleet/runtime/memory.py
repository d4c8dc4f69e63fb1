"""Memory of a process that must not pause: what lives long is kept out of garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

THRESHOLD: Final = 50_000
"""Allocations between two looks at young objects; the default of 700 costs 20 % of a replay."""


def settle() -> None:
    """Call once when everything that lives as long as the process has been made.

    A full collection over catalogue and books takes tens of milliseconds, in the middle of a
    decision; what is made from now on is small and mostly freed by reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)


def sweep() -> None:
    """Free the circles that clients of the web leave behind; milliseconds, as what ``settle`` froze
    is not looked at. For parts that use such clients, at their own quiet moments.
    """
    gc.collect()


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: for making much that stays and leaves no cycles."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
