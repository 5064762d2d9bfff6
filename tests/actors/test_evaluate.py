import json

import av
import numpy as np
import pytest

from actors.evaluate import evaluate
from examples.ram_insertion import CONFIG
from serl_core.config import RewardConfig, RewardKind
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.resets import start_grid
from serl_core.errors import ConfigError, RobotFault
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot
from tests.actors.fakes import nothing, open_env, towards_target
from tests.serl_core.envs.test_arm_env_vision import FakeVision, task


def test_an_evaluation_is_the_same_each_time():
    starts = start_grid(CONFIG.reset, 4)
    assert evaluate(open_env(), towards_target, starts) == evaluate(open_env(), towards_target, starts)


def test_each_trial_begins_where_the_grid_says():
    starts = start_grid(CONFIG.reset, 3)
    result = evaluate(open_env(), towards_target, starts)
    np.testing.assert_array_equal([trial.start_pose for trial in result.trials_detail], starts)


def test_a_policy_that_knows_the_way_succeeds_and_its_cycles_are_timed_in_robot_time():
    result = evaluate(open_env(), towards_target, start_grid(CONFIG.reset, 5))
    assert (result.successes, result.success_rate) == (5, 1.0)
    cycles_s = [trial.steps / CONFIG.control_hz for trial in result.trials_detail]
    assert [trial.cycle_s for trial in result.trials_detail] == cycles_s
    assert result.median_cycle_s == np.median(cycles_s)
    assert min(cycles_s) <= result.median_cycle_s <= result.p90_cycle_s <= max(cycles_s)


def test_a_policy_that_does_nothing_fails_and_has_no_cycle_time():
    result = evaluate(open_env(time_limit_steps=3), nothing, start_grid(CONFIG.reset, 2))
    assert (result.successes, result.median_cycle_s, result.p90_cycle_s) == (0, None, None)
    assert [trial.end for trial in result.trials_detail] == ["time_limit", "time_limit"]


def test_the_result_is_written_as_json(tmp_path):
    result = evaluate(open_env(), towards_target, start_grid(CONFIG.reset, 2))
    result.write(tmp_path / "new folder" / "eval.json")
    written = json.loads((tmp_path / "new folder" / "eval.json").read_text())
    assert written["trials"] == 2
    assert written["wilson_low"] == result.wilson_low
    assert [trial["is_success"] for trial in written["trials_detail"]] == [True, True]


def test_no_trials_are_refused():
    with pytest.raises(ConfigError, match="at least 1 trial, got 0"):
        evaluate(open_env(), nothing, [])


TARGET = [np.array(CONFIG.target_pose)]


def judged(probabilities, *, frames=1, robot=None, **changes):
    """Return an open environment whose classifier gives these probabilities in turn, the first two at the reset."""
    reward = RewardConfig(kind=RewardKind.CLASSIFIER, frames=frames)
    robot = robot or FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    env = ArmEnv(task(reward=reward, **changes), robot, vision=FakeVision([0.0, 0.0, *probabilities], threshold=0.8))
    env.open()
    return env


def test_what_only_the_classifier_calls_a_success_is_none():
    result = evaluate(judged([0.1, 0.9]), nothing, start_grid(CONFIG.reset, 1))
    (trial,) = result.trials_detail
    assert (trial.end, trial.is_rewarded, trial.is_success) == ("success", True, False)
    assert (result.successes, result.median_cycle_s) == (0, None)
    assert result.verdicts == {"true_positive": 0, "false_positive": 1, "false_negative": 0, "true_negative": 1}


def test_a_success_that_the_classifier_misses_counts_all_the_same():
    result = evaluate(judged([0.1] * 3, time_limit_steps=3), nothing, TARGET)
    (trial,) = result.trials_detail
    assert (trial.end, trial.is_rewarded, trial.is_success) == ("time_limit", False, True)
    assert result.verdicts == {"true_positive": 0, "false_positive": 0, "false_negative": 3, "true_negative": 0}


def test_verdicts_are_counted_over_all_trials():
    result = evaluate(judged([0.9, 0.0, 0.0, 0.9]), nothing, TARGET * 2)
    assert result.successes == 2
    assert result.verdicts["true_positive"] == 2


def test_without_a_classifier_there_are_no_verdicts():
    result = evaluate(open_env(), towards_target, start_grid(CONFIG.reset, 1))
    assert result.verdicts == {}
    assert result.trials_detail[0].is_rewarded


def test_a_trial_that_ends_by_a_fault_is_no_success_wherever_the_tool_is():
    """The truth of the last state counted: a stopped arm in the socket passed for a success."""
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    env = judged([0.0] * 5, robot=robot)

    def stopped(_):
        robot.fail(Mode.FAULT, "reflex")
        return nothing(_)

    (trial,) = evaluate(env, stopped, TARGET).trials_detail
    assert robot.state().truth.is_success
    assert (trial.end, trial.is_success) == ("robot_fault", False)


def test_a_camera_that_fails_ends_the_trial_and_the_next_one_waits_for_its_pictures(caplog):
    """The next trial's reset raised, and with it the whole evaluation was lost."""
    env = judged([0.0] * 2 + [0.9] * 9)
    acts, waits, calls = [], [], []

    def act(_):
        acts.append(_)
        env._vision.is_broken = len(acts) == 1
        return nothing(_)

    def sleep(duration_s):
        calls[:] = calls or env.robot.calls
        assert env.robot.calls == calls, "it moved without pictures"
        waits.append(duration_s)
        env._vision.is_broken = len(waits) < 3

    with caplog.at_level("INFO"):
        result = evaluate(env, act, TARGET * 2, sleep=sleep)
    assert [trial.end for trial in result.trials_detail] == ["camera_fault", "success"]
    assert [trial.is_success for trial in result.trials_detail] == [False, True]
    assert len(waits) == 3
    assert caplog.text.count("no new picture") == 2  # by the step that it ended, and once while waiting
    assert "the cameras are back" in caplog.text


def test_who_waits_for_pictures_can_be_stopped():
    env = judged([])
    env._vision.is_broken = True

    def stop(_):
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        evaluate(env, nothing, TARGET, sleep=stop)


def test_a_stopped_robot_is_not_waited_for():
    env = judged([])
    env.robot.fail(Mode.STOPPED, "stop")
    with pytest.raises(RobotFault, match="stop"):
        evaluate(env, nothing, TARGET, sleep=lambda _: pytest.fail("it waited"))


def test_each_trial_is_filmed_step_by_step(tmp_path):
    result = evaluate(judged([0.1, 0.1, 0.9, 0.0, 0.0, 0.9]), nothing, TARGET * 2, video=tmp_path / "videos")
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["trial-001.mp4", "trial-002.mp4"]
    for number, trial in enumerate(result.trials_detail, start=1):
        with av.open(str(tmp_path / "videos" / f"trial-{number:03d}.mp4")) as container:
            frames = sum(1 for _ in container.decode(video=0))
            assert (frames, container.streams.video[0].average_rate) == (trial.steps, 10)
    assert [trial.steps for trial in result.trials_detail] == [3, 1]


def test_a_task_without_cameras_is_filmed_too(tmp_path):
    evaluate(open_env(time_limit_steps=2), nothing, start_grid(CONFIG.reset, 1), video=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["trial-001.mp4"]


def test_a_trial_that_breaks_off_leaves_no_film(tmp_path):
    def stop(_):
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        evaluate(judged([]), stop, TARGET, video=tmp_path)
    assert list(tmp_path.iterdir()) == []
