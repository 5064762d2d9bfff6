"""The real `panda_py.libfranka.Gripper` against franky-sim's gripper server, which speaks its protocol."""

import contextlib
import functools
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from robot_servers.arm_parts.probe import knock
from robot_servers.panda import PandaHand
from robot_servers.panda import hand as panda_hand
from serl_core.errors import RobotError

SERVER = Path(__file__).with_name("panda_hand_server.py")
HOST = "127.0.41.7"


class HandServer:
    """The server's process, and the commands that it got."""

    def __init__(self, object_m):
        self.lines = []
        arguments = [sys.executable, str(SERVER), HOST, str(object_m)]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "ready\n"
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()


@contextlib.contextmanager
def serving(object_m=0.0):
    server = HandServer(object_m)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def started():
    hand = PandaHand(HOST)
    hand.start()
    try:
        yield hand
    finally:
        hand.stop()


def wait_until(condition, timeout_s=20.0):
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, "it did not come to pass"
        time.sleep(0.005)


def test_it_opens_and_closes_at_the_speed_asked_for():
    with serving() as server, started() as hand:
        assert hand.position() == pytest.approx(0.75)
        hand.move(1.0, 0.1, 20.0)
        wait_until(lambda: hand.position() > 0.999)
        hand.move(0.0, 0.1, 30.0)
        wait_until(lambda: hand.position() < 0.001)
        assert server.lines[0].startswith("goal 0.0800 0.1000")
        assert server.lines[-1] == "goal 0.0000 0.1000 30.0"
        assert hand.fault() is None


def test_a_command_returns_at_once_and_the_newest_one_wins():
    with serving() as server, started() as hand:
        hand.move(1.0, 0.005, 20.0)  # 4 s long
        wait_until(lambda: server.lines)
        hand.move(0.9, 0.005, 20.0)
        hand.move(0.5, 0.1, 20.0)
        wait_until(lambda: hand.position() < 0.501)
        assert "stop" in server.lines
        assert server.lines[-1] == "goal 0.0400 0.1000 20.0"


def test_a_grip_that_meets_an_object_stays_closed_on_it():
    with serving(object_m=0.03) as server, started() as hand:
        hand.move(0.0, 0.1, 40.0)
        wait_until(lambda: hand.position() == pytest.approx(0.03 / 0.08, abs=0.001))
        time.sleep(0.3)
        assert server.lines == ["goal 0.0000 0.1000 40.0"]
        assert hand.fault() is None


def test_a_hand_that_falls_silent_is_a_fault_until_recover_connects_it_again():
    with serving() as server, started() as hand:
        server.stop()
        wait_until(lambda: hand.fault() is not None)
        assert hand.fault() == "gripper_lost"
        hand.move(1.0, 0.1, 20.0)
        with serving() as again:
            hand.recover()
            wait_until(lambda: hand.fault() is None)
            assert again.lines == []
            hand.move(1.0, 0.1, 20.0)
            wait_until(lambda: hand.position() > 0.999)


def test_a_hand_that_is_not_there_is_said_with_the_remedy():
    with pytest.raises(RobotError, match=rf"{HOST} has no hand .*port 1338 is closed.*--gripper none"):
        PandaHand(HOST).start()


def test_a_hand_that_takes_the_call_and_says_nothing_is_given_up(monkeypatch):
    """Once, libfranka's constructor was called on it: it waited for ever, and let no other Python thread run."""
    monkeypatch.setattr(panda_hand, "knock", functools.partial(knock, answer_s=0.2))
    with socket.create_server((HOST, 1338)), pytest.raises(RobotError, match=f"hand at {HOST} does not answer"):
        PandaHand(HOST).start()


def test_stop_leaves_no_thread_and_may_be_called_twice():
    with serving(), started() as hand:
        hand.move(1.0, 0.005, 20.0)
        hand.stop()
        hand.stop()
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("panda-hand")]


@pytest.mark.parametrize("part", ["_execute", "_take"])
def test_what_nobody_foresaw_is_a_fault_too_and_can_be_recovered(part, monkeypatch):
    """It ended one of the driver's threads without a word: the hand looked sound, and obeyed nobody."""

    def fail(*given):
        del given  # or pytest's log of the error keeps the hand's connection
        raise ValueError("unforeseen")

    with serving(), started() as hand:
        monkeypatch.setattr(hand, part, fail)
        hand.move(1.0, 0.1, 20.0)
        wait_until(lambda: hand.fault() == "gripper_lost")
        monkeypatch.undo()
        hand.recover()
        wait_until(lambda: hand.fault() is None)
        hand.move(1.0, 0.1, 20.0)
        wait_until(lambda: hand.position() > 0.999)
