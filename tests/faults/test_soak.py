"""Two minutes of `make soak`: the three programs, a fault each 20 s, and what came of it."""

import pytest

from benchmarks.soak import FAULTS, soak

pytestmark = pytest.mark.long


def test_two_minutes_of_faults_lose_nothing_and_leave_nothing_behind(tmp_path, request):
    lines = []
    seed = int(request.config.getoption("--fault-seed"))
    outcome = soak(tmp_path, 120.0, seed, lines.append)
    assert outcome.problems == []
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.faults == len(lines) >= 3
    assert outcome.logged >= outcome.made > 100
    assert outcome.audit_lines > 10
    names = {fault.name for fault in FAULTS}
    assert {line.split()[1] for line in lines} <= names
