import numpy as np
import pytest

from learners.classifier_report import RELIABILITY, assess, threshold_for
from serl_core.data.labelled_frames import LabelledFrames
from serl_core.errors import DataError
from serl_core.statistics import Rate


def episode(labels, step=None, z_m=0.0):
    count = len(labels)
    poses = np.zeros((count, 7))
    poses[:, 2] = z_m
    success = np.array([letter == "#" for letter in labels])
    images = {"wrist": np.zeros((count, 16, 16, 3), np.uint8)}
    return LabelledFrames("ram", images, success, np.arange(count) if step is None else np.array(step), poses)


def test_the_rule_does_not_reach_over_the_end_of_an_episode_or_a_gap():
    episodes = [episode(".."), episode("..", step=[0, 5]), episode("..")]
    report = assess(episodes, np.array([0, 0.9, 0.9, 0.9, 0.9, 0.9]), frames=2, threshold=0.5)
    assert report.in_a_row.false_positive == Rate.of(1, 6)
    assert report.single.false_positive == Rate.of(5, 6)
    assert report.false_success == Rate.of(1, 3)


def test_episodes_with_a_false_success_are_counted_once():
    episodes = [episode("...."), episode("...."), episode("##")]
    report = assess(episodes, np.array([0.9] * 4 + [0.1] * 4 + [0.9] * 2), frames=2, threshold=0.5)
    assert report.false_success == Rate.of(1, 2)


def test_failures_that_would_have_ended_as_successes_are_counted_by_episode():
    """A success's own approach, and single frames, end no failure."""
    episodes = [episode("...."), episode("...."), episode("...."), episode("..##")]
    probability = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9])
    report = assess(episodes, probability, frames=2, threshold=0.5)
    assert report.failure_called_success == Rate.of(1, 3)
    assert "episodes without a success that would have ended as one, heights included: 1/3" in report.lines()[-1]


@pytest.mark.parametrize(("tcp_z_m", "count"), [(None, 1), ((0.05, 0.11), 1), ((0.05, 0.09), 0), ((0.105, 0.2), 0)])
def test_what_the_heights_rule_out_ends_no_failure(tcp_z_m, count):
    """With the tool at 0.10 m in all frames but one, where it is at 0.11 m: never two in a row above 0.105 m."""
    failure = episode("...", z_m=np.array([0.10, 0.11, 0.10]))
    report = assess([failure], np.full(3, 0.9), frames=2, threshold=0.5, tcp_z_m=tcp_z_m)
    assert report.failure_called_success == Rate.of(count, 1)
    assert report.false_success == Rate.of(1, 1)


def test_the_threshold_is_chosen_by_the_rule_on_negative_frames_alone():
    episodes = [episode("...."), episode("####")]
    probability = np.array(
        [0.2, 0.95, 0.3, 0.4, 0.05, 0.05, 0.05, 0.05]
    )  # no positive frame is above the negative ones
    chosen = [threshold_for(episodes, probability, frames=frames, target_rate=0.01, least=0.1) for frames in (1, 2, 4)]
    assert chosen == pytest.approx([0.95, 0.3, 0.2])
    with pytest.raises(DataError, match="no threshold"):
        threshold_for([episode("..")], np.ones(2), frames=1, target_rate=0.01, least=0.1)


def test_a_threshold_needs_a_success_that_is_long_enough_for_the_rule():
    episodes = [episode("...."), episode("#.##", step=[0, 1, 2, 5])]  # no two of them in a row
    with pytest.raises(DataError, match="has 2 positive frames in a row"):
        threshold_for(episodes, np.full(8, 0.5), frames=2, target_rate=0.01, least=0.1)
    assert threshold_for(episodes, np.full(8, 0.5), frames=1, target_rate=0.01, least=0.1) >= 0.5


def test_the_lines_say_all_there_is_to_know():
    report = assess([episode("..##")], np.array([0.1, 0.9, 0.9, 0.9]), frames=2, threshold=0.5)
    text = "\n".join(report.lines())
    assert "threshold 0.500, 2 frames in a row" in text
    assert "accuracy, frame by frame: 3/4 = 75.0% (95 % interval 30.1% to 95.4%)" in text
    assert "false positives, of the negative frames: 0/2 = 0.0%" in text
    assert "frame by frame 1/2 = 50.0%" in text


def test_a_report_without_positive_frames_is_written_too(tmp_path):
    report = assess([episode("...")], np.array([0.1, 0.5, 1.0]), frames=1, threshold=0.6)
    report.write(tmp_path / "new")
    assert (tmp_path / "new" / RELIABILITY).stat().st_size > 1000
    assert "none to count" in "\n".join(report.lines())
