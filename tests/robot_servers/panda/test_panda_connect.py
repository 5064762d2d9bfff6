import fake_panda
import numpy as np
import panda_py
import pytest
from panda_py import constants, libfranka

from robot_servers.limits import SafetyLimits
from robot_servers.panda import connect as panda_connect
from robot_servers.panda.connect import connect
from serl_core.errors import ConfigError, RobotError

IP = "127.0.0.9"


@pytest.fixture
def arm(monkeypatch):
    arm = fake_panda.FakeArm()
    monkeypatch.setattr(panda_py, "Panda", type("Panda", (fake_panda.Panda,), {"arm": arm}))
    monkeypatch.setattr(panda_connect, "knock", lambda *_: None)
    return arm


@pytest.mark.parametrize(
    ("mode", "error", "said"),
    [
        (libfranka.RobotMode.kReflex, "joint_reflex", "in a reflex .*joint_reflex.* start again"),
        (libfranka.RobotMode.kIdle, "joint_velocity_violation", "in a reflex"),
        (libfranka.RobotMode.kUserStopped, None, "user stop or enabling device; release"),
        (libfranka.RobotMode.kMove, None, "another program moves the arm"),
        (libfranka.RobotMode.kGuiding, None, "kGuiding; unlock its joints and activate FCI"),
        (libfranka.RobotMode.kOther, None, "kOther; unlock"),
    ],
)
def test_an_arm_that_is_not_free_is_refused_untouched(arm, mode, error, said):
    arm.reflex(error, mode)
    with pytest.raises(RobotError, match=said):
        connect(IP, SafetyLimits(), enforce_realtime=False)
    assert [call[0] for call in arm.calls] == ["connect"]
    assert arm.mode == mode


def test_an_fr3_is_refused(arm):
    arm.low, arm.high = constants.JOINT_LIMITS_LOWER_FR3, constants.JOINT_LIMITS_UPPER_FR3
    with pytest.raises(RobotError, match=r"an FR3, not a Panda.*--backend franky"):
        connect(IP, SafetyLimits(), enforce_realtime=False)
    assert not np.allclose(arm.low, constants.JOINT_LIMITS_LOWER)


def test_what_libfranka_says_comes_with_a_remedy(arm, monkeypatch):
    def refuse(*_):
        raise RuntimeError("libfranka: Connection to FCI refused.")

    monkeypatch.setattr(panda_py, "Panda", refuse)
    with pytest.raises(RobotError, match=r"127\.0\.0\.9: libfranka: Connection to FCI refused.*FCI is active in Desk"):
        connect(IP, SafetyLimits(), enforce_realtime=False)


def test_another_protocol_version_names_the_build_to_install(arm, monkeypatch):
    def refuse(*_):
        raise panda_py.IncompatibleVersionError(server_version=9, library_version=5)

    monkeypatch.setattr(panda_py, "Panda", refuse)
    with pytest.raises(RobotError, match=r"protocol version 9.*libfranka\s+0\.17\.0"):
        connect(IP, SafetyLimits(), enforce_realtime=False)


def test_a_computer_without_real_time_is_refused_before_anything_is_sent(arm, monkeypatch):
    def refuse():
        raise ConfigError("no real-time kernel")

    monkeypatch.setattr(panda_connect, "check_realtime", refuse)
    with pytest.raises(ConfigError, match="no real-time kernel"):
        connect(IP, SafetyLimits(), enforce_realtime=True)
    assert arm.calls == []


def test_real_time_is_enforced_in_the_library_too(arm, monkeypatch):
    monkeypatch.setattr(panda_connect, "check_realtime", lambda: None)
    connect(IP, SafetyLimits(), enforce_realtime=True)
    connect(IP, SafetyLimits(), enforce_realtime=False)
    configs = [call[2] for call in arm.named("connect")]
    assert configs == [libfranka.RealtimeConfig.kEnforce, libfranka.RealtimeConfig.kIgnore]
