"""Demonstrations from a folder, their features made anew where another encoder had made them."""

import logging
from collections.abc import Iterator
from pathlib import Path

from serl_core.data.episode_file import episode_paths, load_episode, load_header
from serl_core.data.frames import decompress
from serl_core.errors import DataError
from serl_core.networks.perception import ImageEncoder, Perception
from serl_core.types import Observation, Transition

logger = logging.getLogger(__name__)


def load_demonstrations(folder: Path, perception: Perception) -> Iterator[list[Transition]]:
    """Return the episodes of a folder in the order of their names.

    Those whose features come from another encoder, or are kept otherwise, are encoded again from
    the compressed frames beside them.

    Raises:
        DataError: there is no episode, one is corrupt or of another task, or has no frames to encode.
    """
    paths = episode_paths(folder)
    task, _, features = perception.digest.partition("+")
    again = 0
    for path in paths:
        found = load_header(path).task_digest
        if found.partition("+")[0] != task:
            raise DataError(
                f"{path} was recorded for a task of digest {found}, this one has {perception.digest}: record again, "
                "or train with the configuration it was recorded with"
            )
        again += found != perception.digest
    if again:
        logger.info("%d of %d demonstrations are encoded again, with %s", again, len(paths), features)
    return _episodes(paths, perception)


def _episodes(paths: list[Path], perception: Perception) -> Iterator[list[Transition]]:
    encode = None
    for path in paths:
        episode = load_episode(path)
        if load_header(path).task_digest != perception.digest:
            assert perception.frozen is not None  # the tasks are the same, so it has images
            encode = encode or ImageEncoder(perception.frozen, copies=perception.stored.feature_copies)
            episode = _encode_again(path, episode, encode)
        yield episode


def _encode_again(path: Path, episode: list[Transition], encode: ImageEncoder) -> list[Transition]:
    def observe(observation: Observation) -> Observation:
        if not observation.frames:
            raise DataError(f"{path} has features of another encoder and no frames to make new ones of: record again")
        return observation._replace(features=encode(decompress(observation.frames)))

    encoded: list[Transition] = []
    last: Transition | None = None
    for transition in episode:
        follows = last is not None and transition.observation is last.next_observation  # no step between is missing
        first = encoded[-1].next_observation if follows else observe(transition.observation)
        encoded.append(transition._replace(observation=first, next_observation=observe(transition.next_observation)))
        last = transition
    return encoded
