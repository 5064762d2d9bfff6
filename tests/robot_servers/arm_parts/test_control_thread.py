import threading
import time

from robot_servers.arm_parts.control_thread import ControlThread


def never():
    raise AssertionError("it did not die")


def test_it_ticks_until_stopped_and_can_be_started_again():
    ticks = []
    thread = ControlThread("test-loop", 0.001, lambda: ticks.append(time.monotonic()) or True, never)
    for _ in range(2):
        ticks.clear()
        thread.start()
        while len(ticks) < 5:
            time.sleep(0.001)
        thread.stop()
        count = len(ticks)
        time.sleep(0.01)
        assert len(ticks) == count
    thread.stop()


def test_it_ends_when_the_tick_says_so():
    ticks = []
    thread = ControlThread("test-loop", 0.001, lambda: len(ticks) < 3 and (ticks.append(1) or True), never)
    thread.start()
    while any(each.name == "test-loop" for each in threading.enumerate()):
        time.sleep(0.001)
    assert len(ticks) == 3


def test_a_tick_that_raises_ends_it_and_is_told(caplog):
    died = threading.Event()
    thread = ControlThread("test-loop", 0.001, lambda: 1 / 0, died.set)
    thread.start()
    assert died.wait(10.0)
    thread.stop()
    assert "control loop test-loop died" in caplog.text


def test_the_tick_itself_may_stop_it():
    ticks = []
    thread = ControlThread("test-loop", 0.001, lambda: ticks.append(1) or thread.stop() or True, never)
    thread.start()
    while any(each.name == "test-loop" for each in threading.enumerate()):
        time.sleep(0.001)
    assert len(ticks) == 1


def test_a_late_tick_is_counted_and_not_made_up_for():
    ticks = []

    def tick():
        ticks.append(time.monotonic())
        if len(ticks) == 1:
            time.sleep(0.08)
        return len(ticks) < 4

    thread = ControlThread("test-loop", 0.02, tick, never)
    thread.start()
    while any(each.name == "test-loop" for each in threading.enumerate()):
        time.sleep(0.001)
    assert thread.overruns >= 1
    assert ticks[2] - ticks[1] > 0.015
