from gymnasium.utils.env_checker import check_env

from examples.ram_insertion import CONFIG, TASK
from serl_core.envs.arm_env import ArmEnv
from serl_core.testing.fakes import FakeRobot


def test_gymnasium_checks_the_environment():
    with ArmEnv(TASK, FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)) as env:
        check_env(env, skip_render_check=True)
