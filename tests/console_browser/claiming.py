"""An actor whose classifier is easily taken in: it calls every lowered stick a success. Its cameras are not needed."""

from dataclasses import replace

import numpy as np

import actors.main
from actors.main import ActorArgs as Args
from actors.main import run_actor
from examples.ram_insertion_pixels import CONFIG as FROM_PIXELS
from serl_core.config import RewardConfig, RewardKind
from serl_core.envs.task import Task
from serl_core.envs.vision import Sight
from serl_core.image_config import EncoderConfig, EncoderKind
from serl_core.networks.perception import ImageEncoder

CLAIMED_BELOW_M = 0.1  # of the tool: halfway from the start to the socket
CONFIG = replace(
    FROM_PIXELS,
    name="claimed",
    observation=replace(FROM_PIXELS.observation, encoder=EncoderConfig(kind=EncoderKind.RANDOM)),
    reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=2),
)
TASK = Task(config=CONFIG)


class Gullible:
    """Blank pictures, and a classifier that goes by the tool's height alone."""

    success_threshold = 0.5

    def __init__(self, perception):
        shapes = CONFIG.env_spec().image_shapes
        self._images = {name: np.zeros(shape, np.uint8) for name, shape in shapes.items()}
        self._features = ImageEncoder(perception.frozen, copies=perception.stored.feature_copies)(self._images)
        self._robot = None

    def open(self, robot):
        self._robot = robot

    def close(self):
        pass

    def look(self):
        is_low = self._robot.state().tcp_pose[2] < CLAIMED_BELOW_M
        return Sight(self._images, self._features, 0.9 if is_low else 0.1)

    def newest_frames(self):
        return {}


def run(args: Args) -> None:
    """Act with it."""
    actors.main.vision_for = lambda task, perception, **_: Gullible(perception)
    run_actor(args)
