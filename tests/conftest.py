"""Shared by all tests: how hypothesis runs, and where the recorded data lies."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The suite tries the same examples each time, so that a commit either passes or does not; `make soak`
# tries new ones until it is stopped.
settings.register_profile(
    "fleet",
    deadline=None,
    print_blob=True,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "soak", parent=settings.get_profile("fleet"), derandomize=False, max_examples=5_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE_NAME", "fleet"))


@pytest.fixture(autouse=True)
def usual_recursion_limit() -> None:
    """Python's own limit: py_ecc, which the signing oracle pulls in, raises it for the process.

    With a raised limit a hostile frame of ten thousand brackets overflows the C stack of a thread.
    """
    sys.setrecursionlimit(1_000)


@pytest.fixture(scope="session")
def fleet_data() -> Path:
    """The folder of recordings; skips without FLEET_DATA, fails if it names nothing."""
    named = os.environ.get("FLEET_DATA")
    if not named:
        pytest.skip("FLEET_DATA is not set: no recorded data")
    folder = Path(named)
    assert folder.is_dir(), f"FLEET_DATA is {folder}, which is no folder"
    return folder
