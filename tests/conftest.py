"""What every test runs under: strict rank promotion, a compilation cache that speeds up repeats, no stop-watch,
and the scheduling that it began with."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "serl" / "jax"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

settings.register_profile("serl", deadline=None)  # the machine may be busy
settings.load_profile("serl")


@pytest.fixture(autouse=True)
def ordinary_scheduling() -> Iterator[None]:
    """libfranka lets a thread that controls an arm go before all others, and all that later tests start from it."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    if os.sched_getscheduler(0) != before[0]:
        os.sched_setscheduler(0, *before)
