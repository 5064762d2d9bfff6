"""The parts of `make soak`: what it looks at, what it tells, and its stub actors."""

import json
import sys
import threading
from contextlib import ExitStack
from itertools import islice, pairwise

import pytest

from benchmarks.soak import FAULTS, grown, main
from benchmarks.soak_lab import Lab, Program
from benchmarks.soak_stub import EPISODE_STEPS, TASK, steps
from serl_core.envs.task import load_task
from serl_core.transport.schema import misfit
from serl_core.transport.zmq_transport import ZmqLearnerLink
from serl_core.types import EndReason


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


def test_an_actor_acts_again_once_all_three_tell_that_its_steps_are_made_and_acknowledged(lab, monkeypatch):
    """The soak took for that what a learner acknowledged of before its death, and struck while it was starting."""

    def told(made, acked, **others):
        return {"robot": {}, "actor": {"transitions_made": made, "transitions_acked": acked}} | others

    not_yet = [
        told(100.0, 50.0),
        told(110.0, 100.0),  # the learner acknowledges what it had
        told(110.0, 100.0, learner={}),
        told(120.0, 102.0, learner={}),
        told(103.0, 103.0, learner={}),  # another actor
        told(103.0, 109.0, learner={}),
        {"robot": {}, "learner": {}},
        told(1.0, 0.0, learner={}),
        told(3.0, 3.0, learner={}),
    ]
    scrapes = iter([*not_yet, told(4.0, 3.0, learner={}), None])
    monkeypatch.setattr(lab, "keep_running", lambda: None)
    monkeypatch.setattr(lab, "scrape", lambda: next(scrapes))
    monkeypatch.setattr("time.sleep", lambda _: None)
    lab.wait_until_acting("a fault")
    assert next(scrapes) is None


def test_a_stop_must_show_in_the_actors_log_and_by_its_name_in_the_audit_log(lab):
    (line,) = [fault.line for fault in FAULTS if fault.name == "stopped_and_resumed"]
    lab.audit.write_text('{"event":"stop"}\n')
    lab.begin_fault()
    lab.scrape()
    missing = [f"no line like {line!r} in a log"]
    with lab.actor.log.open("a") as log, lab.audit.open("a") as audit:
        audit.write('{"event":"fault"}\n')
        audit.flush()
        assert lab.missing_signs(("actor",), line) == missing
        log.write("the arm is latched by 'joint_speed'\n")
        log.flush()
        assert lab.missing_signs(("actor",), line) == missing
        audit.write('{"event":"stop"}\n')
        audit.flush()
        assert lab.missing_signs(("actor",), line) == []


def test_what_a_program_holds_is_looked_at_over_each_of_its_lives():
    flat = [{"fds": 40.0, "rss_bytes": 1e8}] * 9
    leaking = [{"fds": 40.0 + number} for number in range(9)]
    assert grown([flat, []], "fds", 9) == grown([flat, flat[:2]], "rss_bytes", 9) == 0.0
    assert grown([flat, leaking], "fds", 9) == 6.0
    # An actor that was killed and comes back takes its descriptors with it and brings them again.
    away = [{"fds": 38.0, "link_connected": 8.0}] * 5
    back = [{"fds": 40.0, "link_connected": 9.0}] * 6
    assert grown([away + back], "fds", 9) == 0.0
    assert grown([away + back + [{"fds": 41.0, "link_connected": 9.0}] * 6], "fds", 9) == 1.0


def test_the_folder_of_another_soak_is_refused(tmp_path, monkeypatch, capsys):
    """What the other one made counted as lost."""
    (tmp_path / "actor").mkdir()
    monkeypatch.setattr(sys, "argv", ["soak.py", "--run", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert f"--run {tmp_path} holds a soak already" in capsys.readouterr().err


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


def test_a_stubs_transitions_follow_one_another_and_fit_the_task():
    spec = load_task(TASK).config.env_spec()
    made = list(islice(steps("cafe", spec, 0), 2 * EPISODE_STEPS))
    assert [misfit(step, spec) for step in made] == [None] * len(made)
    assert [step.provenance.sequence for step in made] == list(range(len(made)))
    assert [i for i, step in enumerate(made) if step.end != EndReason.RUNNING] == [EPISODE_STEPS - 1, len(made) - 1]
    assert all(a.next_observation is b.observation for a, b in pairwise(made[:EPISODE_STEPS]))


def test_a_stub_that_is_told_to_end_delivers_what_it_has_made(tmp_path):
    received, statuses = [], []
    with ExitStack() as stack:
        link = stack.enter_context(ZmqLearnerLink(load_task(TASK).config.digest()))
        (stub,) = Lab(tmp_path, 0, stack, stubs=1, stub_hz=200.0).stubs
        stub = Program("stub", [*stub._arguments, "--learner", link.address], tmp_path, tmp_path / "unread")
        stack.callback(stub.kill)
        stub.start()
        ending = threading.Thread(target=lambda: statuses.append(stub.end()))
        while not statuses:
            received += link.receive(0.05)
            if received:
                link.acknowledge(received[-1].provenance.session, received[-1].provenance.sequence)
            if len(received) > 100 and ending.ident is None:
                ending.start()
    assert statuses == [0]
    made = json.loads((tmp_path / "actor" / "stub-0.jsonl").read_text().splitlines()[-1])["env_steps"]
    assert len(received) == made
    assert [step.provenance.sequence for step in received] == list(range(len(received)))
