import os
import signal
import subprocess
import sys

import pytest

from serl_core.errors import ConfigError
from serl_core.failpoints import Failpoint, arm, failpoint, find_failpoints


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")


def test_a_point_that_is_not_armed_does_nothing():
    arm("another:1")
    failpoint("this")


def test_the_nth_pass_raises_and_no_other():
    arm("this:3:raise")
    failpoint("this")
    failpoint("this")
    with pytest.raises(Failpoint, match="the failpoint this was armed"):
        failpoint("this")
    failpoint("this")


def test_several_points_stand_side_by_side():
    arm("one:1:raise,two:2:raise")
    failpoint("two")
    for name in ("one", "two"):
        with pytest.raises(Failpoint):
            failpoint(name)


def test_the_environment_makes_a_process_kill_itself():
    """Nothing runs after it: no finally, no atexit."""
    code = "from serl_core.failpoints import failpoint\ntry:\n failpoint('a')\nfinally:\n print('here')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "SERL_FAILPOINT": "a:1"}, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


@pytest.mark.parametrize("text", ["a", "a:0", "a:x", "a:1:explode", "a:-1"])
def test_what_is_no_failpoint_is_refused(text):
    with pytest.raises(ConfigError, match="SERL_FAILPOINT"):
        arm(text)


def test_points_are_found_without_running_them(tmp_path):
    (tmp_path / "a.py").write_text('failpoint("one")\nraise SystemExit\n')
    (tmp_path / "b.py").write_text('def f():\n    failpoint("two")\n')
    assert [(place.name, place.line) for place in find_failpoints([tmp_path])] == [("one", 1), ("two", 2)]


def test_a_name_that_is_not_written_out_is_refused(tmp_path):
    (tmp_path / "a.py").write_text("failpoint(name)\n")
    with pytest.raises(ConfigError, match=r"a\.py:1"):
        list(find_failpoints([tmp_path]))
