"""The trainer where the policy sees: features as they come, or pictures out of the compressed frames."""

import jax
import numpy as np
import pytest

from learners.checkpoints import Checkpoints
from learners.trainer import Trainer, TrainerConfig, as_stored
from serl_core.agents.policy import ActingPolicy
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.frames import decompress
from serl_core.errors import DataError
from serl_core.image_config import FrameFormat, ImageMode
from serl_core.types import EndReason
from tests.learners.pixels import perceived, recorded
from tests.serl_core.agents.toy import config

MODES = {
    "features": perceived(),
    "copies": perceived(copies=2),
    "pixels": perceived(mode=ImageMode.PIXELS),
}
SAC = config(batch_size=4, utd_ratio=1)


@pytest.fixture(params=MODES)
def perception(request):
    return MODES[request.param]


def steps_of(perception, count=12):
    episodes = [
        recorded(perception, steps=4, episode=e, first_sequence=4 * e, end=EndReason.SUCCESS, interventions=[0], seed=e)
        for e in range(count // 4)
    ]
    return [step for steps, _ in episodes for step in steps]


class Run:
    """A trainer on a run folder."""

    def __init__(self, folder, perception, demonstrations=()):
        self.log = EpisodeLog(folder / "experience", perception.digest)
        settings = TrainerConfig(sac=SAC, training_starts=4, online_capacity=64)
        self.trainer = Trainer(perception, settings, demonstrations, self.log, Checkpoints(folder / "checkpoints"))

    def take(self, transitions, *, is_logged=False):
        for transition in transitions:
            if not is_logged:
                self.log.append([transition])
            self.trainer.insert([transition])
            while self.trainer.can_update():
                self.metrics = self.trainer.update()

    def weights(self):
        leaves = jax.tree_util.tree_leaves_with_path(self.trainer.arrays())
        return {jax.tree_util.keystr(path): leaf.tobytes() for path, leaf in leaves}


def test_a_buffer_keeps_features_and_no_frames():
    (step, *_), _ = recorded(MODES["copies"])
    stored = as_stored(step, MODES["copies"].stored)
    assert stored.observation.frames == stored.next_observation.frames == stored.observation.images == {}
    np.testing.assert_array_equal(stored.observation.features["wrist"], step.observation.features["wrist"])
    assert stored._replace(observation=None, next_observation=None) == step._replace(
        observation=None, next_observation=None
    )


def test_a_buffer_of_pixels_keeps_the_pictures_of_the_frames_and_no_features():
    (step, *_), images = recorded(MODES["pixels"])
    stored = as_stored(step, MODES["pixels"].stored)
    for observation in (stored.observation, stored.next_observation):
        np.testing.assert_array_equal(observation.images["wrist"], images[observation.proprio.tobytes()])
        assert observation.features == observation.frames == {}


def test_a_frame_that_cannot_be_read_is_named():
    (step, *_), _ = recorded(MODES["pixels"])
    broken = {"wrist": step.next_observation.frames["wrist"][:-9]}
    with pytest.raises(DataError, match="frame of 'wrist'"):
        as_stored(step._replace(next_observation=step.next_observation._replace(frames=broken)), MODES["pixels"].stored)


def test_pictures_of_another_size_or_none_at_all_are_refused(tmp_path):
    (step, *_), _ = recorded(MODES["pixels"])
    run = Run(tmp_path, MODES["pixels"])
    with pytest.raises(DataError, match=r"observation\.images are \[\], the task's \['wrist'\]"):
        run.trainer.insert([step._replace(observation=step.observation._replace(frames={}))])
    large = {"wrist": np.zeros((64, 32, 3), np.uint8)}
    with pytest.raises(DataError, match=r"observation\.images/wrist has shape \(64, 32, 3\)"):
        run.trainer.insert([step._replace(observation=step.observation._replace(images=large))])
    run.log.close()


def test_jpeg_frames_serve_as_well(tmp_path):
    steps, images = recorded(MODES["pixels"], steps=6, form=FrameFormat.JPEG)
    shown = decompress(steps[0].observation.frames)["wrist"]
    assert np.abs(shown.astype(int) - images[steps[0].observation.proprio.tobytes()]).max() > 0
    run = Run(tmp_path, MODES["pixels"])
    run.take(steps)
    assert run.metrics["skipped"] == 0
    run.log.close()


def test_every_mode_trains_its_encoder_and_gives_a_policy_that_acts_on_features(perception, tmp_path):
    run = Run(tmp_path, perception, [recorded(perception, session="demos")[0]])
    before = run.trainer.policy_weights().params
    steps = steps_of(perception)
    run.take(steps)
    assert run.trainer.updates == len(steps) - 4
    assert run.metrics["skipped"] == 0
    weights = run.trainer.policy_weights().params
    kernel = weights["encoder"]["embedding_wrist"]["kernel"]
    assert (kernel != before["encoder"]["embedding_wrist"]["kernel"]).any()
    policy = ActingPolicy(perception.spec, SAC.policy, seed=0)
    policy.load(weights)
    assert np.abs(policy.mode(steps[0].observation)).max() < 1.0
    run.log.close()


def test_a_crash_and_a_resume_cost_nothing_in_any_mode(perception, tmp_path):
    """The log has compressed frames: put back as they came, the pixels' buffer refused them."""
    steps = steps_of(perception)
    run = Run(tmp_path / "crashed", perception)
    run.take(steps[:8])
    run.trainer.save()
    run.log.append(steps[8:10])
    run.log.close()
    run = Run(tmp_path / "crashed", perception)
    run.take(run.trainer.resume(), is_logged=True)
    assert len(run.trainer.online) == 10
    run.take(steps[10:])
    resumed = run.weights()
    run.log.close()
    run = Run(tmp_path / "whole", perception)
    run.take(steps)
    assert run.weights() == resumed
    run.log.close()


def test_warming_up_learns_nothing_in_any_mode(perception, tmp_path):
    run = Run(tmp_path, perception)
    before = run.weights()
    run.trainer.warm_up()
    assert run.weights() == before
    run.log.close()


def test_features_of_another_shape_never_reach_the_networks(tmp_path):
    run = Run(tmp_path, MODES["features"])
    with pytest.raises(DataError, match=r"features/wrist has shape \(2, 2, 2, 64\), the task's \(2, 2, 64\)"):
        run.trainer.insert(recorded(MODES["copies"])[0])
    run.log.close()


def broken_frames(step):
    frames = {name: frame[:-9] for name, frame in step.next_observation.frames.items()}
    return step._replace(next_observation=step.next_observation._replace(frames=frames))


@pytest.mark.parametrize(
    ("mode", "spoil", "words"),
    [
        ("features", lambda _: recorded(MODES["copies"])[0][3], r"features/wrist has shape \(2, 2, 2, 64\)"),
        ("pixels", broken_frames, "frame of 'wrist'"),
    ],
)
def test_what_the_buffer_cannot_take_is_refused_before_it_could_be_logged(tmp_path, mode, spoil, words):
    """It was logged first: then each resume read it back and died of it."""
    steps, _ = recorded(MODES[mode])
    run = Run(tmp_path, MODES[mode])
    with pytest.raises(DataError, match=rf"transition 3 of session session is refused and not logged: .*{words}"):
        run.trainer.stored([*steps[:3], spoil(steps[3])])
    run.log.close()


def test_what_was_stored_before_it_was_logged_trains_the_same(perception, tmp_path):
    steps = steps_of(perception)
    plain, first = Run(tmp_path / "plain", perception), Run(tmp_path / "first", perception)
    plain.take(steps)
    first.log.append(steps)
    first.take(first.trainer.stored(steps), is_logged=True)
    assert first.weights() == plain.weights()
    for run in (plain, first):
        run.log.close()
