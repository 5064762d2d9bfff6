import dataclasses

import numpy as np

from actors.frames_to_review import FramesToReview
from serl_core.config import RewardConfig
from serl_core.data.labelled_frames import load_labelled
from serl_core.testing.fakes import FakeRobot
from tests.serl_core.envs.test_arm_env_vision import task

DOWN = (1.0, 0.0, 0.0, 0.0)
ROBOT = FakeRobot((0.5, 0.0, 0.1, *DOWN), (0.5, 0.0, 0.05, *DOWN))


def frames_to_review(folder, frames):
    config = dataclasses.replace(task().config, name="ram", reward=RewardConfig(frames=frames))
    return FramesToReview(folder, config)


def see(wrong, grey, probability):
    wrong.see({"wrist": np.full((16, 16, 3), grey, np.uint8)}, ROBOT.state(), probability)


def test_the_frames_on_which_the_rule_fired_are_kept_as_no_success(tmp_path):
    wrong = frames_to_review(tmp_path, 2)
    for grey, probability in ((10, 0.1), (20, 0.9), (30, 0.95)):
        see(wrong, grey, probability)
    path = wrong.keep(is_success=False)
    kept = load_labelled(path)
    assert (path.name, kept.task) == ("false-positive-0000.safetensors", "ram")
    np.testing.assert_array_equal(kept.images["wrist"][:, 0, 0, 0], [20, 30])
    np.testing.assert_array_equal(kept.probability, [0.9, 0.95])
    np.testing.assert_array_equal(kept.tcp_pose, [ROBOT.state().tcp_pose] * 2)
    assert not kept.is_success.any()
    assert kept.origins == {"wrist": "wrist (robot), as 32x32"}


def test_each_is_a_file_of_its_own_after_those_that_are_there(tmp_path):
    for grey in (1, 2):
        wrong = frames_to_review(tmp_path, 1)
        see(wrong, grey, 0.9)
        wrong.keep(is_success=False)
    greys = [
        load_labelled(path).images["wrist"][0, 0, 0, 0] for path in sorted((tmp_path / "false_positives").iterdir())
    ]
    assert greys == [1, 2]


def test_frames_of_another_episode_or_kept_before_are_not_kept(tmp_path):
    wrong = frames_to_review(tmp_path, 3)
    see(wrong, 1, 0.9)
    wrong.begin_episode()
    assert wrong.keep(is_success=False) is None
    see(wrong, 2, 0.9)
    assert load_labelled(wrong.keep(is_success=False)).images["wrist"][:, 0, 0, 0].tolist() == [2]
    assert wrong.keep(is_success=False) is None
    assert len(list((tmp_path / "false_positives").iterdir())) == 1


def test_successes_that_nobody_can_judge_are_kept_apart_for_a_person_to_correct(tmp_path):
    kept = frames_to_review(tmp_path, 2)
    for grey in (1, 2, 3):
        see(kept, grey, 0.9)
    path = kept.keep(is_success=True)
    assert path == tmp_path / "successes" / "success-0000.safetensors"
    assert load_labelled(path).is_success.tolist() == [True, True]
    assert not (tmp_path / "false_positives").exists()


def test_a_success_that_a_person_denies_is_kept_as_none_and_no_more_as_one(tmp_path):
    review = frames_to_review(tmp_path, 2)
    for grey in (1, 2, 3):
        see(review, grey, 0.9)
    kept = review.keep(is_success=True)
    review.begin_episode()
    see(review, 9, 0.1)  # the next episode has begun
    denied = load_labelled(review.deny())
    assert not kept.exists()
    assert denied.images["wrist"][:, 0, 0, 0].tolist() == [2, 3]
    assert not denied.is_success.any()
    assert review.deny() is None


def test_a_success_of_the_simulator_too_can_be_denied(tmp_path):
    review = frames_to_review(tmp_path, 2)
    see(review, 1, 0.9)
    review.claim()
    assert review.deny() == tmp_path / "false_positives" / "false-positive-0000.safetensors"
