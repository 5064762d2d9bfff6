"""A request that the control thread carries out for another."""

import threading

import pytest

from robot_servers.franky import errand as errand_module
from robot_servers.franky.errand import Errand
from robot_servers.limits import Refusal
from serl_core.errors import RobotError


def test_what_the_call_raises_is_for_the_one_that_waits():
    def fail():
        raise RobotError("not at rest")

    errand = Errand(fail)
    threading.Thread(target=errand.run).start()
    with pytest.raises(Refusal, match="does not take the payload: not at rest"):
        errand.wait("the payload")


def test_a_call_that_nobody_waits_for_any_more_is_not_made(monkeypatch):
    """A recovery was made whenever the arm answered again, long after the client had been told that it had failed."""
    monkeypatch.setattr(errand_module, "PATIENCE_S", 0.01)
    calls = []
    errand = Errand(lambda: calls.append(1))
    with pytest.raises(Refusal, match="did not answer to the recovery"):
        errand.wait("the recovery")
    errand.run()
    assert calls == []


def test_a_call_that_is_refused_is_not_waited_for_nor_made():
    calls = []
    errand = Errand(lambda: calls.append(1))
    errand.refuse(RobotError("it is at fault: reflex"))
    with pytest.raises(Refusal, match="does not take the payload: it is at fault: reflex"):
        errand.wait("the payload")
    errand.run()
    assert calls == []
