"""What lets a row say that the machine, and not the software, broke a limit of time."""

import time

import psutil
import pytest

from tests.faults.machine import MAX_AWAY, Machine, processor_times, stolen_since, watched
from tests.faults.robot_rig import may_go_before_others


def of_share(away: float) -> Machine:
    machine = Machine()
    machine.away = away
    return machine


def test_the_share_is_of_all_the_time(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 50 50 4000 7000 0 100 200 30 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    begin = processor_times(stat)
    stat.write_text("cpu  160 60 70 4100 7000 0 100 210 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert stolen_since(begin, processor_times(stat)) == pytest.approx(10 / (60 + 10 + 20 + 100 + 10))


def test_where_the_system_does_not_tell_nothing_was_stolen(tmp_path):
    nothing = processor_times(tmp_path / "none")
    assert stolen_since(nothing, nothing) == 0.0


def test_a_machine_that_stands_still_for_a_while_is_seen():
    if not may_go_before_others():
        pytest.skip("what an ordinary thread is late by could be anybody's doing")
    with watched() as machine:
        begun_s = time.monotonic()
        (watcher,) = [child for child in psutil.Process().children() if "tests.faults.core_watch" in child.cmdline()]
        watcher.suspend()
        time.sleep(0.3)
        watcher.resume()
        time.sleep(0.2)
        took_s = time.monotonic() - begun_s
    assert machine.away > 0.2 / took_s


def test_a_limit_broken_by_the_software_fails():
    with pytest.raises(AssertionError), of_share(MAX_AWAY).limits_of_time():
        assert len("7 ms") < 1


def test_a_limit_broken_while_the_machine_was_away_is_not_shown():
    with pytest.raises(pytest.skip.Exception, match=r"away for 4\.0 % of the time"), of_share(0.04).limits_of_time():
        assert len("7 ms") < 1


def test_a_limit_that_was_kept_counts_however_little_the_machine_gave():
    with of_share(0.5).limits_of_time():
        pass
