import numpy as np

from actors.false_positives import FalsePositives
from serl_core.data.labelled_frames import load_labelled
from serl_core.testing.fakes import FakeRobot

DOWN = (1.0, 0.0, 0.0, 0.0)
ROBOT = FakeRobot((0.5, 0.0, 0.1, *DOWN), (0.5, 0.0, 0.05, *DOWN))


def see(wrong, grey, probability):
    wrong.see({"wrist": np.full((16, 16, 3), grey, np.uint8)}, ROBOT.state(), probability)


def test_the_frames_on_which_the_rule_fired_are_kept_as_no_success(tmp_path):
    wrong = FalsePositives(tmp_path, "ram", frames=2)
    for grey, probability in ((10, 0.1), (20, 0.9), (30, 0.95)):
        see(wrong, grey, probability)
    path = wrong.keep()
    kept = load_labelled(path)
    assert (path.name, kept.task) == ("false-positive-0000.safetensors", "ram")
    np.testing.assert_array_equal(kept.images["wrist"][:, 0, 0, 0], [20, 30])
    np.testing.assert_array_equal(kept.probability, [0.9, 0.95])
    np.testing.assert_array_equal(kept.tcp_pose, [ROBOT.state().tcp_pose] * 2)
    assert not kept.is_success.any()


def test_each_is_a_file_of_its_own_after_those_that_are_there(tmp_path):
    for grey in (1, 2):
        wrong = FalsePositives(tmp_path, "ram", frames=1)
        see(wrong, grey, 0.9)
        wrong.keep()
    greys = [load_labelled(path).images["wrist"][0, 0, 0, 0] for path in sorted(tmp_path.iterdir())]
    assert greys == [1, 2]


def test_frames_of_another_episode_or_kept_before_are_not_kept(tmp_path):
    wrong = FalsePositives(tmp_path, "ram", frames=3)
    see(wrong, 1, 0.9)
    wrong.begin_episode()
    assert wrong.keep() is None
    see(wrong, 2, 0.9)
    assert load_labelled(wrong.keep()).images["wrist"][:, 0, 0, 0].tolist() == [2]
    assert wrong.keep() is None
    assert len(list(tmp_path.iterdir())) == 1
