"""What lets a row say that the machine, and not the software, broke a limit of time."""

import pytest

from tests.faults.machine import MAX_STOLEN, ProcessorTimes, limits_of_time, processor_times, stolen_since


def test_the_share_is_of_what_was_wanted(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 50 50 4000 7000 0 100 200 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    begin = processor_times(stat)
    stat.write_text("cpu  160 60 70 9000 9000 0 100 210 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert stolen_since(begin, processor_times(stat)) == pytest.approx(10 / (60 + 10 + 20 + 10))


def test_where_the_system_does_not_tell_nothing_was_stolen(tmp_path):
    assert processor_times(tmp_path / "none") == ProcessorTimes(0.0, 0.0)
    assert stolen_since(ProcessorTimes(0.0, 0.0), ProcessorTimes(0.0, 0.0)) == 0.0


def test_a_limit_broken_by_the_software_fails():
    with pytest.raises(AssertionError), limits_of_time(MAX_STOLEN):
        assert len("7 ms") < 1


def test_a_limit_broken_while_the_machine_was_away_is_not_shown():
    with pytest.raises(pytest.skip.Exception, match=r"took 4\.0 % of the processor time"), limits_of_time(0.04):
        assert len("7 ms") < 1


def test_a_limit_that_was_kept_counts_however_little_the_machine_gave():
    with limits_of_time(0.5):
        pass
