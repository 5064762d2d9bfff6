"""Episodes that were seen: a small wrist camera, an untrained encoder, pictures of noise."""

import dataclasses
from itertools import pairwise

import numpy as np

from examples.ram_insertion import CONFIG
from serl_core.config import ObservationConfig
from serl_core.data.frames import compress
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind, FrameFormat
from serl_core.networks import small_cnn
from serl_core.networks.perception import ImageEncoder, perception_for
from serl_core.networks.weights import save_weights
from serl_core.testing.episodes import make_episode


def perceived(*, time_limit_steps=100, **encoder):
    """Return how a task with one camera sees, by default with the untrained encoder."""
    observation = ObservationConfig(
        cameras=(CameraConfig(name="wrist", height=32, width=32),),
        encoder=EncoderConfig(**({"kind": EncoderKind.RANDOM} | encoder)),
    )
    return perception_for(dataclasses.replace(CONFIG, observation=observation, time_limit_steps=time_limit_steps))


def other_encoder(folder):
    """Return the options of an encoder that is not the untrained one."""
    path = folder / "mine.safetensors"
    save_weights(path, small_cnn.init(5), {})
    return {"kind": EncoderKind.SMALL, "weights": str(path)}


def recorded(perception, *, form=FrameFormat.PNG, **options):
    """Return an episode as the actor sends it, and its images by the bytes of the proprioception."""
    blind = dataclasses.replace(perception.stored, image_shapes={}, feature_shapes={}, feature_copies=1)
    episode = make_episode(blind, **options)
    random = np.random.default_rng(options.get("seed", 0))
    encode = ImageEncoder(perception.frozen, copies=perception.stored.feature_copies)
    images = {}

    def seen(observation):
        shown = {"wrist": random.integers(0, 256, (32, 32, 3), dtype=np.uint8)}
        images[observation.proprio.tobytes()] = shown["wrist"]
        return observation._replace(features=encode(shown), frames=compress(shown, form))

    observations = [seen(observation) for observation in (episode[0].observation, *(t[4] for t in episode))]
    steps = [
        transition._replace(observation=first, next_observation=second)
        for transition, (first, second) in zip(episode, pairwise(observations), strict=True)
    ]
    return steps, images
