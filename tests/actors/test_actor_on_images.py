"""The actor's loop where the task has cameras and a reward classifier."""

import dataclasses

import msgspec
import numpy as np
import pytest

from actors.actor import ActorLoop, Verdict, named
from actors.frames_to_review import FramesToReview
from examples.ram_insertion import CONFIG
from serl_core.config import RewardConfig, RewardKind
from serl_core.data.frames import decompress
from serl_core.data.labelled_frames import load_labelled
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.task import Task
from serl_core.errors import CameraFault
from serl_core.image_config import EncoderConfig, FrameFormat
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason
from tests.actors.fakes import ListedTeleop, nothing
from tests.serl_core.envs.test_arm_env_vision import FakeVision, task

JUDGED = RewardConfig(kind=RewardKind.CLASSIFIER, frames=2)


class Stage:
    """A loop before a fake camera."""

    def __init__(
        self,
        vision=None,
        *,
        act=nothing,
        sleep=lambda _: None,
        start=CONFIG.reset.pose,
        folder=None,
        robot=FakeRobot,
        log_format=FrameFormat.PNG,
        **changes,
    ):
        self.robot = robot(start, CONFIG.target_pose)
        self.vision = vision or FakeVision()
        config = task(**changes).config
        observation = dataclasses.replace(config.observation, encoder=EncoderConfig(log_format=log_format))
        config = dataclasses.replace(config, observation=observation)
        self.env = ArmEnv(Task(config=config), self.robot, vision=self.vision)
        self.env.open()
        keeper = FramesToReview(folder, config) if folder is not None else None
        self.loop = ActorLoop(self.env, act, ListedTeleop(), session="test", sleep=sleep, review=keeper)

    def steps(self, count):
        return [self.loop.step() for _ in range(count)]


@pytest.mark.parametrize("form", FrameFormat)
def test_images_travel_as_features_and_compressed_frames(form):
    step = Stage(log_format=form).loop.step()
    for seen in (step.observation, step.next_observation):
        assert seen.images == {}
        brightness = float(seen.features["wrist"][0, 0, 0])  # of FakeVision: that of the look
        (image,) = decompress(seen.frames).values()
        assert image.shape == (32, 32, 3)
        assert np.abs(image.astype(int) - int(brightness)).max() <= 2
    start = seen.frames["wrist"][:3].tobytes()
    assert start == (b"\x89PN" if form is FrameFormat.PNG else b"\xff\xd8\xff")


def test_the_policy_acts_on_features_and_never_on_a_picture_of_another_step():
    seen = []

    def act(observation):
        seen.append(observation)
        return nothing(observation)

    steps = Stage(act=act).steps(3)
    assert [observation is step.observation for observation, step in zip(seen, steps, strict=True)] == [True] * 3
    looks = [int(observation.features["wrist"][0, 0, 0]) for observation in seen]
    assert looks == [looks[0], looks[0] + 1, looks[0] + 2]


def test_a_camera_fault_ends_the_episode_without_reward_and_keeps_discount_1():
    stage = Stage()
    stage.steps(2)
    stage.vision.is_broken = True
    step = stage.loop.step()
    assert (step.end, step.reward, step.discount) == (EndReason.CAMERA_FAULT, 0.0, 1.0)
    assert step.next_observation.frames.keys() == {"wrist"}  # the last picture there was


def test_after_a_camera_fault_the_actor_waits_for_pictures_and_resets_only_then(caplog):
    """FAULTS S3: nothing moves blindly, and nobody is asked."""
    waits = []

    def sleep(duration_s):
        waits.append(duration_s)
        if len(waits) == 3:
            stage.vision.is_broken = False
        assert stage.robot.calls == calls, "it moved without pictures"

    stage = Stage(sleep=sleep)
    stage.steps(1)
    stage.vision.is_broken = True
    assert stage.loop.step().end is EndReason.CAMERA_FAULT
    calls = list(stage.robot.calls)
    caplog.clear()
    with caplog.at_level("INFO"):
        step = stage.loop.step()
    assert len(waits) == 3
    assert (step.end, step.provenance.episode, step.provenance.sequence) == (EndReason.RUNNING, 1, 2)
    assert "move" in stage.robot.calls[len(calls) :]
    assert caplog.text.count("no new picture") == 1
    assert "the cameras are back" in caplog.text


def test_a_camera_that_fails_once_the_arm_has_arrived_costs_a_reset_and_no_episode():
    """`reset` looks before and after the arm moves: the second look may fail too."""
    waits = []
    stage = Stage(sleep=waits.append)
    looks = iter([True, False, True])  # before the move, after it, and while waiting
    look = stage.vision.look

    def flaky():
        if not next(looks, True):
            raise CameraFault("camera 'wrist': no new picture")
        return look()

    stage.vision.look = flaky
    step = stage.loop.step()
    assert step.provenance.episode == 0
    assert stage.robot.calls.count("move") == 2
    assert len(waits) == 1


def judged(probabilities, **options):
    """Return a stage whose classifier gives these probabilities in turn; the first two are looks of the reset."""
    return Stage(FakeVision([0.0, 0.0, *probabilities], threshold=0.8), reward=JUDGED, **options)


def test_what_the_classifier_says_is_counted_step_by_step_against_the_truth():
    stage = judged([0.1, 0.9, 0.2, 0.1])
    stage.steps(4)
    assert stage.loop.verdicts == {Verdict(False, False): 3, Verdict(True, False): 1}
    there = judged([0.1, 0.9], start=CONFIG.target_pose, reset=at_target())
    there.steps(2)
    assert there.loop.verdicts == {Verdict(False, True): 1, Verdict(True, True): 1}


def at_target():
    """Return a reset that starts at the target: the fake robot's truth is then a success."""
    return dataclasses.replace(CONFIG.reset, pose=CONFIG.target_pose, randomise_m=(0.0, 0.0, 0.0), randomise_rz_rad=0.0)


def test_nothing_is_counted_where_no_classifier_judges():
    stage = Stage()
    stage.steps(2)
    assert stage.loop.verdicts == {}


def test_a_success_that_is_none_is_kept_with_the_frames_that_made_it(tmp_path, caplog):
    stage = judged([0.1, 0.9, 0.95], folder=tmp_path)
    *_, last = stage.steps(3)
    assert (last.end, last.reward) == (EndReason.SUCCESS, 1.0)
    (path,) = (tmp_path / "false_positives").iterdir()
    assert str(path) in caplog.text
    kept = load_labelled(path)
    assert kept.probability.tolist() == [0.9, 0.95]
    assert not kept.is_success.any()
    looks = [int(image[0, 0, 0]) for image in kept.images["wrist"]]
    assert looks == [stage.vision.looks - 1, stage.vision.looks]


def test_a_true_success_and_a_single_false_frame_are_not_kept(tmp_path):
    judged([0.9, 0.1, 0.9, 0.1], folder=tmp_path).steps(4)
    there = judged([0.9, 0.9], folder=tmp_path, start=CONFIG.target_pose, reset=at_target())
    assert there.steps(2)[-1].end is EndReason.SUCCESS
    assert not list(tmp_path.iterdir())


class Real(FakeRobot):
    """An arm that knows no truth."""

    def state(self):
        return msgspec.structs.replace(super().state(), truth=None)


def test_without_a_truth_every_success_is_kept_for_a_person_to_correct(tmp_path):
    """On a real arm nothing was kept: a classifier that was wrong there could not be corrected."""
    stage = judged([0.1, 0.9, 0.95, 0.0, 0.9, 0.1], folder=tmp_path, robot=Real)
    assert stage.steps(3)[-1].end is EndReason.SUCCESS
    (path,) = tmp_path.rglob("*.safetensors")
    kept = load_labelled(path)
    assert path.parent.name == "successes"
    assert kept.probability.tolist() == [0.9, 0.95]
    assert kept.is_success.all()
    assert stage.loop.verdicts == {}
    assert not stage.loop.is_false_success


@pytest.mark.parametrize("robot", [FakeRobot, Real])
def test_a_disk_that_is_full_costs_no_transition(tmp_path, caplog, robot):
    """The step that ended in a false success raised, and its transition was lost."""
    (tmp_path / "run").write_bytes(b"no folder")
    stage = judged([0.1, 0.9, 0.95, 0.1], folder=tmp_path / "run", robot=robot)
    steps = stage.steps(4)
    assert [step.provenance.sequence for step in steps] == [0, 1, 2, 3]
    assert [step.end for step in steps] == [EndReason.RUNNING] * 2 + [EndReason.SUCCESS, EndReason.RUNNING]
    assert caplog.text.count("its frames are not kept for review: cannot write") == 1


def test_the_last_step_says_whether_it_was_a_false_success():
    stage = judged([0.9, 0.95, 0.0, 0.0, 0.1])
    said = []
    for step in (stage.loop.step() for _ in range(3)):
        said.append((step.end, stage.loop.is_false_success))
    assert said == [(EndReason.RUNNING, False), (EndReason.SUCCESS, True), (EndReason.RUNNING, False)]


def test_frames_of_the_episode_before_are_not_kept_with_a_false_success(tmp_path):
    stage = Stage(
        FakeVision([0.0, 0.0, 0.3, 0.0, 0.0, 0.9], threshold=0.8),
        reward=dataclasses.replace(JUDGED, frames=1),
        folder=tmp_path,
    )
    stage.loop.step()
    stage.loop.abandon_episode()
    assert stage.loop.step().end is EndReason.SUCCESS
    (path,) = (tmp_path / "false_positives").iterdir()
    assert load_labelled(path).probability.tolist() == [0.9]


def test_the_counts_have_names_and_there_are_none_before_anything_was_judged():
    assert named({}) == {}
    assert named({Verdict(True, False): 2, Verdict(False, False): 7}) == {
        "true_positive": 0,
        "false_positive": 2,
        "false_negative": 0,
        "true_negative": 7,
    }
