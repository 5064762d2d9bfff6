import numpy as np
import pytest

from actors.intervention import NEVER_S, arbitrate
from actors.teleop.choice import NoTeleop, TeleopKind, check_person, check_scripted
from serl_core.errors import ConfigError
from serl_core.robots.messages import Health
from serl_core.testing.conformance import check_teleop
from serl_core.types import ActionBlock, ActionSpec

SPEC = ActionSpec((ActionBlock("twist", 6),))
REAL = Health(backend="franky", clock="real_time", is_simulated=False)
SIMULATED = Health(backend="sim", clock="lockstep", is_simulated=True)


@pytest.mark.parametrize("kind", [TeleopKind.AUTO, TeleopKind.SCRIPTED])
def test_the_scripted_human_acts_in_simulation_and_where_there_is_no_arm(kind):
    check_scripted(kind, SIMULATED, is_mock=False)
    check_scripted(kind, REAL, is_mock=True)


def test_on_a_real_robot_somebody_must_say_who_is_at_the_device():
    with pytest.raises(
        ConfigError, match=r"'franky' is real, so say who .* --teleop spacemouse or browser, or --teleop none"
    ):
        check_scripted(TeleopKind.AUTO, REAL, is_mock=False)


def test_the_scripted_human_never_acts_on_a_real_robot():
    with pytest.raises(
        ConfigError, match=r"--teleop scripted: .* 'franky' is real; give --teleop spacemouse, browser or none"
    ):
        check_scripted(TeleopKind.SCRIPTED, REAL, is_mock=False)


def test_a_person_is_refused_where_time_runs_faster_than_people():
    check_person(REAL)
    with pytest.raises(ConfigError, match=r"'sim' runs in lockstep, .* --clock real_time"):
        check_person(SIMULATED)


def test_with_nobody_at_the_device_the_policy_acts_at_once():
    check_teleop(NoTeleop(SPEC), SPEC.size)
    policy = np.full(6, 0.25, np.float32)
    choice = arbitrate(policy, NoTeleop(SPEC).read(), 10.0, NEVER_S)
    assert not choice.is_intervention
    np.testing.assert_array_equal(choice.action, policy)
