import dataclasses

import msgspec
import numpy as np
import pytest

from actors.teleop.scripted import ExpertSkill, ScriptedTeleop, StuckDetector
from examples.ram_insertion import CONFIG, TASK
from serl_core.errors import ConfigError
from serl_core.testing.fakes import FakeRobot

AWAY = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state()
PERFECT = ExpertSkill(speed=1.0, noise=0.0)


class Watched:
    """An episode whose tool is moved by hand."""

    def __init__(self):
        self.state = AWAY
        self.steps = 0

    def advance(self, progress_m=0.0):
        x, y, z, *rotation = self.state.tcp_pose
        self.state = msgspec.structs.replace(self.state, tcp_pose=(x, y, z - progress_m, *rotation))
        self.steps += 1

    def begin(self):
        self.state, self.steps = AWAY, 0


def teleop(view, skill=PERFECT, seed=0, **options):
    return ScriptedTeleop(TASK, view, skill=skill, seed=seed, **options)


def engaged_steps(device, view, steps, progress_m=0.0):
    seen = []
    for _ in range(steps):
        seen.append(device.read().is_engaged)
        view.advance(progress_m)
    return seen


def after_a_step(device, view):
    view.advance()
    return device.read()


def test_it_makes_up_its_mind_once_a_step_however_often_it_is_read():
    """In real time the actor reads every 20 ms: the noise and the patience are of steps all the same."""
    view = Watched()
    device = teleop(view, ExpertSkill(noise=0.1), is_demonstrating=True)
    first = device.read()
    assert device.read() is first
    assert not np.array_equal(after_a_step(device, view).action, first.action)


def test_after_15_steps_without_progress_it_helps_for_8_steps_then_hands_back():
    view = Watched()
    # The first reading is the nearest so far; then 15 readings without progress.
    seen = engaged_steps(teleop(view), view, 50)
    assert seen == [False] * 16 + [True] * 8 + [False] * 15 + [True] * 8 + [False] * 3


def test_it_never_helps_while_there_is_progress():
    view = Watched()
    assert not any(engaged_steps(teleop(view), view, 25, progress_m=0.0021))


def test_progress_below_2_mm_adds_up():
    view = Watched()
    assert not any(engaged_steps(teleop(view), view, 60, progress_m=0.0005))


def test_a_new_episode_forgets_the_last_one():
    view, device = Watched(), None
    device = teleop(view)
    assert not any(engaged_steps(device, view, 16))
    view.begin()
    assert not any(engaged_steps(device, view, 16))
    view.begin()
    assert any(engaged_steps(device, view, 18))
    view.begin()
    assert not any(engaged_steps(device, view, 16))


def test_when_it_does_not_help_it_hands_back_at_once():
    command = teleop(Watched()).read()
    assert command.hands_back
    np.testing.assert_array_equal(command.action, np.zeros(6))


def test_demonstrating_it_is_always_engaged():
    view = Watched()
    assert all(engaged_steps(teleop(view, is_demonstrating=True), view, 30))


def test_the_skill_scales_the_experts_action():
    full, half = (
        teleop(Watched(), ExpertSkill(speed=speed, noise=0.0), is_demonstrating=True).read().action
        for speed in (1.0, 0.5)
    )
    np.testing.assert_allclose(half, full / 2)
    np.testing.assert_array_equal(full, TASK.expert(AWAY))


def test_the_noise_comes_from_the_seed_and_has_the_set_size():
    def actions(seed):
        view = Watched()
        device = teleop(view, ExpertSkill(speed=0.5, noise=0.1), seed, is_demonstrating=True)
        return np.array([after_a_step(device, view).action for _ in range(500)])

    np.testing.assert_array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))
    np.testing.assert_allclose(actions(1).std(0), 0.1, rtol=0.15)


def test_its_actions_stay_in_range_whatever_the_noise():
    view = Watched()
    device = teleop(view, ExpertSkill(speed=1.0, noise=1.0), is_demonstrating=True)
    assert max(np.abs(after_a_step(device, view).action).max() for _ in range(100)) <= 1.0


def test_the_patience_and_the_help_can_be_set():
    view = Watched()
    device = teleop(view, detector=StuckDetector(patience_steps=2, help_steps=1))
    assert engaged_steps(device, view, 7) == [False] * 3 + [True] + [False] * 2 + [True]


def test_a_task_without_an_expert_has_no_scripted_human():
    with pytest.raises(ConfigError, match="'ram_insertion': has no scripted expert"):
        ScriptedTeleop(dataclasses.replace(TASK, expert=None), Watched(), skill=PERFECT, seed=0)


@pytest.mark.parametrize("bad", [{"speed": 0.0}, {"speed": 1.5}, {"noise": -0.1}, {"noise": float("nan")}])
def test_a_skill_outside_the_possible_is_refused(bad):
    with pytest.raises(ConfigError, match=f"ExpertSkill.{next(iter(bad))}"):
        ExpertSkill(**bad)
