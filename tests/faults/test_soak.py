"""Two minutes of `make soak`: the three programs, a fault each 20 s, and what came of it."""

import sys
from contextlib import ExitStack

import pytest

from benchmarks.soak import FAULTS, soak
from benchmarks.soak_lab import Lab, Program


@pytest.fixture
def lab(tmp_path):
    with ExitStack() as stack:
        lab = Lab(tmp_path, 0, stack)
        for program in lab.programs:
            program.log.touch()
        yield lab


def test_a_fault_that_nobody_sees_is_told(lab):
    lab.actor.log.write_text("a word of before\n")
    lab.begin_fault()
    assert lab.missing_signs(("learner",), "a word") == [
        "none of the metrics learner",
        "no line like 'a word' in a log",
    ]
    lab.scrape()  # nobody answers: none of them runs
    assert lab.missing_signs(("learner",), "a word") == ["no line like 'a word' in a log"]
    with lab.actor.log.open("a") as log:
        log.write("a word\n")
    assert lab.missing_signs(("learner",), "a word") == []


def test_a_program_that_ends_by_itself_is_told_and_one_that_is_killed_is_not(lab, tmp_path):
    program = Program("brief", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path, tmp_path / "brief.metrics")
    lab.programs = (program,)
    program.start()
    assert program._process.wait() == 3
    lab.keep_running()
    assert lab.breaches == ["the brief ended by itself, with status 3"]
    program.kill()
    lab.keep_running()
    program.kill()
    assert len(lab.breaches) == 1


@pytest.mark.long
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
