import numpy as np

from actors.actor import ActorLoop
from actors.teleop.scripted import ExpertSkill, ScriptedTeleop
from examples.reach import CONFIG, TARGET_POSE, TASK
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.resets import start_grid
from serl_core.envs.task import load_task
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason


def test_the_task_is_found_by_its_name():
    assert load_task("reach").config == CONFIG


def test_the_expert_reaches_the_target_from_every_start_well_within_the_time_limit():
    with ArmEnv(TASK, FakeRobot(TARGET_POSE, TARGET_POSE), seed=0) as env:
        teleop = ScriptedTeleop(TASK, env, skill=ExpertSkill(), seed=0, is_demonstrating=True)
        loop = ActorLoop(env, lambda _: np.zeros(6, np.float32), teleop, session="test")
        lengths = []
        while len(lengths) < 20:
            transition = loop.step()
            if transition.end is not EndReason.RUNNING:
                assert transition.end is EndReason.SUCCESS
                lengths.append(env.steps)
    assert max(lengths) < CONFIG.time_limit_steps / 2
    assert np.mean(lengths) > 3  # a start is rarely at the target


def test_no_start_pose_leaves_the_box_by_a_step_of_the_action():
    for start in start_grid(CONFIG.reset, 50):
        assert CONFIG.box.contains(tuple(start[:3]), margin_m=0.01)
