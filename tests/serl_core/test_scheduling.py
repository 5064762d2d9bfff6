import gc
import os
import sys
import threading

import pytest

from serl_core.errors import ConfigError
from serl_core.scheduling import (
    NICE,
    PRIORITY,
    before_others,
    go_after_others,
    go_before_others,
    go_behind,
    go_with_others,
    spare_what_stays,
)


def test_threads_started_afterwards_go_first_too(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, policy, param: asked.append((pid, policy, param)))
    go_before_others()
    assert asked == [(0, os.SCHED_FIFO, os.sched_param(PRIORITY))]


def test_a_thread_that_asked_hands_it_on():
    found = []

    def ask():
        try:
            go_before_others()
        except ConfigError:
            return  # this system does not allow it, which the next test is about
        child = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
        child.start()
        child.join()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found in ([], [os.SCHED_FIFO])


def test_a_thread_goes_behind_the_one_before_others_that_started_it(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: os.SCHED_FIFO)
    monkeypatch.setattr(os, "sched_getparam", lambda pid: os.sched_param(PRIORITY))
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, policy, param: asked.append((pid, policy, param)))
    go_behind()
    assert asked == [(0, os.SCHED_FIFO, os.sched_param(PRIORITY - 1))]


def test_under_ordinary_scheduling_nobody_goes_behind(monkeypatch):
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: os.SCHED_OTHER)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("changed"))
    go_behind()


def test_a_thread_may_go_with_others(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *call: asked.append(call))
    go_with_others()
    assert asked == [(0, os.SCHED_OTHER, os.sched_param(0))]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_a_thread_that_goes_after_others_takes_none_along():
    found = []

    def go() -> None:
        go_after_others()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert found == [NICE]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_threads_started_before_others_do_not_take_their_starter_along(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, policy, param: asked.append(policy))
    with before_others(is_wanted=False):
        pass
    assert asked == []
    with before_others():
        assert asked == [os.SCHED_FIFO]
    assert asked == [os.SCHED_FIFO, os.SCHED_OTHER]


def test_a_system_that_does_not_allow_it_says_how(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(ConfigError, match=r"--real-time-priority.*not permitted.*rtprio 10"):
        go_before_others()


def test_what_a_program_is_made_of_is_not_looked_through_again():
    before = len(gc.get_objects())
    try:
        spare_what_stays()
        assert gc.get_freeze_count() > before / 2
        assert len(gc.get_objects()) < before / 2
    finally:
        gc.unfreeze()
