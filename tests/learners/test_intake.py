import os
import threading
import time

import pytest

from learners.intake import MAX_UNSAVED, Intake
from serl_core.errors import ConfigError, DataError
from tests.serl_core.agents.toy import stream


class Link:
    """Gives what it has, once."""

    def __init__(self):
        self.waiting = []
        self.acknowledged = []

    def receive(self, timeout_s):
        taken, self.waiting = self.waiting, []
        if not taken:
            threading.Event().wait(min(timeout_s, 0.005))
        return taken

    def acknowledge(self, session, sequence):
        self.acknowledged.append((session, sequence))


class Log:
    """Refuses writes while it is full."""

    def __init__(self):
        self.appended = []
        self.synced = {}
        self.is_full = False
        self.refused = threading.Event()
        self.saved = threading.Event()
        self.may_save = threading.Event()
        self.may_save.set()
        self.refusals = 0
        self.unsaved = 0
        self.policies = {}

    def append(self, transitions):
        if self.is_full:
            self.refused.set()
            raise DataError("no room")
        known = {step.provenance.sequence for step in self.appended}
        self.appended.extend(step for step in transitions if step.provenance.sequence not in known)

    def save_ended(self):
        self.policies["save"] = os.sched_getscheduler(0)
        self.may_save.wait(60.0)
        if self.refusals:
            self.refusals -= 1
            raise DataError("no room for a file")
        self.saved.set()

    def sync(self):
        self.policies["sync"] = os.sched_getscheduler(0)
        if self.appended:
            self.synced = {"line": self.appended[-1].provenance.sequence}

    def synced_sequences(self):
        return dict(self.synced)


def until(condition):
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def taken(intake, count):
    steps = []
    while len(steps) < count:
        steps += intake.take(60.0)
    return steps


def test_what_is_taken_is_on_the_disk_and_acknowledged_in_order():
    link, log = Link(), Log()
    intake = Intake(link, log, list)
    with intake.in_background():
        for begin in range(0, 30, 10):
            link.waiting = stream(0, 30)[begin : begin + 10]
            steps = taken(intake, 10)
            assert [step.provenance.sequence for step in steps] == list(range(begin, begin + 10))
            assert log.synced == {"line": begin + 9}
            assert link.acknowledged[-1] == ("line", begin + 9)
    assert intake.left_over() == []


def test_a_full_disk_is_tried_again_and_nothing_is_acknowledged_meanwhile():
    link, log = Link(), Log()
    intake = Intake(link, log, list, retry_s=0.005)
    log.is_full = True
    with intake.in_background():
        link.waiting = stream(0, 5)
        assert log.refused.wait(60.0)
        assert link.acknowledged == []
        assert intake.waiting == 0
        log.is_full = False
        assert len(taken(intake, 5)) == 5
    assert intake.refused_writes >= 1
    assert link.acknowledged == [("line", 4)]


def test_a_full_disk_does_not_keep_a_program_from_ending():
    link, log = Link(), Log()
    intake = Intake(link, log, list, retry_s=60.0)
    log.is_full = True
    with intake.in_background():
        link.waiting = stream(0, 5)
        assert log.refused.wait(60.0)
    assert log.appended == []


def test_what_does_not_fit_is_told_to_who_takes_and_never_logged():
    def refuse(_):
        raise DataError("it does not fit")

    link, log = Link(), Log()
    intake = Intake(link, log, refuse)
    with intake.in_background():
        link.waiting = stream(0, 5)
        with pytest.raises(DataError, match="does not fit"):
            intake.take(60.0)
    assert log.appended == []


def test_what_nobody_has_taken_is_left_over():
    link, log = Link(), Log()
    intake = Intake(link, log, list)
    with intake.in_background():
        link.waiting = stream(0, 5)
        while intake.waiting < 5:
            threading.Event().wait(0.005)
    assert len(intake.left_over()) == 5


def test_a_file_that_takes_long_keeps_no_acknowledgement_waiting():
    """The thread that acknowledges wrote an episode's file, and synced it."""
    link, log = Link(), Log()
    log.may_save.clear()
    intake = Intake(link, log, list)
    with intake.in_background():
        until(lambda: "save" in log.policies)
        link.waiting = stream(0, 5)
        assert len(taken(intake, 5)) == 5
        assert link.acknowledged[-1] == ("line", 4)
        assert not log.saved.is_set()
        log.may_save.set()
        assert log.saved.wait(60.0)


def test_while_too_many_episodes_wait_for_their_files_the_actors_keep_what_they_make():
    """They are held in memory: a backlog of the actors grew it by as much as the disk was behind."""
    link, log = Link(), Log()
    intake = Intake(link, log, list)
    log.unsaved = MAX_UNSAVED + 1
    with intake.in_background():
        link.waiting = stream(0, 5)
        assert intake.take(0.1) == []
        assert len(link.waiting) == 5
        log.unsaved = MAX_UNSAVED
        assert len(taken(intake, 5)) == 5


def test_a_file_that_is_refused_is_counted_and_tried_again(caplog):
    link, log = Link(), Log()
    log.refusals = 2
    intake = Intake(link, log, list, retry_s=0.005)
    with intake.in_background():
        assert log.saved.wait(60.0)
    assert intake.refused_writes == 2
    assert "no room for a file; trying again, the episode stays in its journal" in caplog.text


def test_what_acknowledges_may_go_before_others_and_what_saves_does_not():
    link, log = Link(), Log()
    intake = Intake(link, log, list, goes_before_others=True)
    before = os.sched_getscheduler(0)
    link.waiting = stream(0, 5)
    try:
        with intake.in_background():
            taken(intake, 5)
            until(lambda: "save" in log.policies)
    except ConfigError as refusal:  # of a system that does not allow it
        assert "--real-time-priority" in str(refusal)  # noqa: PT017
    else:
        assert log.policies == {"sync": os.SCHED_FIFO, "save": os.SCHED_OTHER}
    assert os.sched_getscheduler(0) == before
