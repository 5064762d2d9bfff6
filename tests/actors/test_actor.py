import itertools

import numpy as np
import pytest

from actors.actor import ActorLoop
from examples.ram_insertion import CONFIG
from serl_core.errors import ResetError
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason
from tests.actors.fakes import ListedTeleop, command, nothing, open_env, towards_target


def actor_loop(act=nothing, commands=(), *, robot=None, sleep=None, **changes):
    return ActorLoop(
        open_env(robot, **changes), act, ListedTeleop(commands), session="test", sleep=sleep or (lambda _: None)
    )


def test_each_transition_begins_with_the_observation_that_the_last_one_ended_with():
    loop = actor_loop(towards_target)
    steps = [loop.step() for _ in range(4)]
    for before, after in itertools.pairwise(steps):
        assert before.next_observation is after.observation
        assert not np.array_equal(before.observation.proprio, before.next_observation.proprio)


def test_the_next_episode_begins_with_an_observation_of_its_own():
    """Fault 13 of earlier systems: the next observation was taken across the end of an episode."""
    loop = actor_loop(time_limit_steps=2)
    steps = [loop.step() for _ in range(4)]
    assert steps[1].next_observation is not steps[2].observation
    assert not np.array_equal(steps[1].next_observation.proprio, steps[2].observation.proprio)


def test_identities_count_up_without_gaps():
    loop = actor_loop(time_limit_steps=2)
    loop.policy_version = 7
    provenances = [loop.step().provenance for _ in range(5)]
    assert [p.sequence for p in provenances] == [0, 1, 2, 3, 4]
    assert [p.episode for p in provenances] == [0, 0, 1, 1, 2]
    assert {(p.session, p.policy_version) for p in provenances} == {("test", 7)}
    stamps = [p.stamp_s for p in provenances]
    assert stamps == sorted(stamps)


def test_a_success_has_discount_0_and_reward_1():
    loop = actor_loop(towards_target)
    transition = loop.step()
    while transition.end is EndReason.RUNNING:
        assert (transition.reward, transition.discount) == (0.0, 1.0)
        transition = loop.step()
    assert (transition.end, transition.reward, transition.discount) == (EndReason.SUCCESS, 1.0, 0.0)


def test_a_time_limit_keeps_discount_1():
    """Fault 5 of earlier systems: a time limit was stored as terminal."""
    transition = actor_loop(time_limit_steps=1).step()
    assert (transition.end, transition.discount) == (EndReason.TIME_LIMIT, 1.0)


@pytest.mark.parametrize(
    ("mode", "end"), [(Mode.STOPPED, EndReason.OPERATOR_STOP), (Mode.FAULT, EndReason.ROBOT_FAULT)]
)
def test_a_stop_or_a_fault_keeps_discount_1_and_pays_nothing(mode, end):
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    loop = actor_loop(robot=robot)
    loop.step()
    robot.fail(mode, "reflex")
    transition = loop.step()
    assert (transition.end, transition.reward, transition.discount) == (end, 0.0, 1.0)


def test_after_a_fault_the_actor_waits_until_a_person_has_recovered_the_robot():
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    waits = []

    def sleep(duration_s):
        waits.append(duration_s)
        assert "recover" not in robot.calls  # nobody but the person may call it
        if len(waits) == 3:
            robot.recover()

    loop = actor_loop(robot=robot, sleep=sleep)
    loop.step()
    robot.fail(Mode.FAULT, "reflex")
    assert loop.step().end is EndReason.ROBOT_FAULT
    transition = loop.step()
    assert len(waits) == 3
    assert (transition.end, transition.provenance.episode) == (EndReason.RUNNING, 1)


def test_a_reset_that_fails_is_raised():
    class Blocked(FakeRobot):
        def sim_reset(self, seed=None, pose=None):
            raise ResetError("not at the start pose")

    with pytest.raises(ResetError):
        actor_loop(robot=Blocked(CONFIG.reset.pose, CONFIG.target_pose)).step()


def test_the_humans_action_is_executed_and_stored_in_place_of_the_policys():
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    loop = actor_loop(commands=[command(0.5)], robot=robot)
    transition = loop.step()
    assert transition.is_intervention
    np.testing.assert_array_equal(transition.action, np.full(6, 0.5, np.float32))
    sent, start = np.array(robot.state().reference_pose), robot.state().tcp_pose
    assert sent[2] < start[2] + 1e-12  # half speed downwards, the tool's +z


def test_the_hold_lasts_five_steps_on_the_robots_clock():
    loop = actor_loop(commands=[command(0.5)])
    assert [loop.step().is_intervention for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_hold_does_not_outlast_its_episode():
    loop = actor_loop(commands=[command(0.5)], time_limit_steps=2)
    assert [loop.step().is_intervention for _ in range(4)] == [True, True, False, False]


def test_the_stored_action_is_the_one_that_was_asked_for_also_where_the_clip_acts():
    bottom = (*CONFIG.target_pose[:2], CONFIG.box.low_m[2], *CONFIG.target_pose[3:])
    robot = FakeRobot(bottom, CONFIG.target_pose)
    env = open_env(robot)
    loop = ActorLoop(env, lambda _: np.array([0, 0, 1, 0, 0, 0], np.float32), ListedTeleop(), session="test")
    env.reset = lambda **_: type(env).reset(env, options={"start_pose": bottom})
    np.testing.assert_array_equal(loop.step().action, [0, 0, 1, 0, 0, 0])
    assert robot.state().tcp_pose[2] == pytest.approx(bottom[2])


def test_an_abandoned_episode_is_followed_by_a_new_one():
    loop = actor_loop()
    loop.step()
    loop.abandon_episode()
    assert loop.step().provenance.episode == 1
