"""Whether this computer can keep the arm's pace."""

import pytest

from robot_servers.arm_parts.realtime import check_realtime
from serl_core.errors import ConfigError


def test_a_realtime_kernel_with_the_right_limits_passes(tmp_path):
    flag = tmp_path / "realtime"
    flag.write_text("1\n")
    check_realtime(flag, 99)


def test_a_kernel_that_is_not_realtime_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match=r"PREEMPT_RT.*--ignore-realtime"):
        check_realtime(tmp_path / "none", 99)


def test_a_user_without_the_priority_is_refused_with_the_remedy(tmp_path):
    flag = tmp_path / "realtime"
    flag.write_text("1\n")
    with pytest.raises(ConfigError, match=r"rtprio 99.*limits\.conf"):
        check_realtime(flag, 0)
