"""RAM insertion from pixels as `real_time_loop.py` runs it: nothing has to be trained before.

The simulator gives the reward, and the encoder has random weights: it costs what the trained one costs.
"""

from dataclasses import replace

from examples.ram_insertion_pixels import CONFIG as FROM_PIXELS
from examples.ram_insertion_pixels import expert
from serl_core.config import RewardConfig
from serl_core.envs.task import Task
from serl_core.image_config import EncoderConfig, EncoderKind

CONFIG = replace(
    FROM_PIXELS,
    name="real_time_loop",
    observation=replace(FROM_PIXELS.observation, encoder=EncoderConfig(kind=EncoderKind.RANDOM)),
    reward=RewardConfig(),
)

TASK = Task(config=CONFIG, expert=expert)
