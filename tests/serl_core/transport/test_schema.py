import dataclasses

import numpy as np
import pytest

from serl_core.testing.episodes import PIXEL_SPEC, STATE_SPEC, make_episode
from serl_core.transport.schema import misfit

FEATURES = dataclasses.replace(PIXEL_SPEC, image_shapes={})
(STATE,) = make_episode(steps=1)
(SEEN,) = make_episode(PIXEL_SPEC, steps=1, frames=["side", "wrist"])


def with_observation(transition, **changes):
    return transition._replace(next_observation=transition.next_observation._replace(**changes))


def test_what_an_actor_makes_fits():
    assert misfit(STATE, STATE_SPEC) is None
    assert misfit(SEEN, FEATURES) is None
    assert misfit(SEEN, PIXEL_SPEC) is None


def test_a_task_of_pixels_may_send_the_compressed_frames_alone():
    alone = SEEN._replace(observation=SEEN.observation._replace(images={}))
    assert misfit(with_observation(alone, images={}), PIXEL_SPEC) is None
    one = with_observation(SEEN, images={}, frames={"side": np.zeros(3, np.uint8)})
    assert misfit(one, PIXEL_SPEC) == "next_observation/frames are ['side'], the task's are ['side', 'wrist']"


@pytest.mark.parametrize(
    ("transition", "spec", "words"),
    [
        (STATE._replace(action=np.zeros(3, np.float32)), STATE_SPEC, "action has shape [3], the task's is [2]"),
        (
            with_observation(STATE, proprio=np.zeros(4, np.float32)),
            STATE_SPEC,
            "next_observation/proprio has shape [4]",
        ),
        (with_observation(SEEN, features={}), FEATURES, "next_observation/features are [], the task's are ['wrist']"),
        (with_observation(SEEN, images={}, frames={}), PIXEL_SPEC, "next_observation/images are []"),
        (SEEN, dataclasses.replace(FEATURES, feature_copies=3), "the task's is [3, 2, 2, 8]"),
    ],
)
def test_what_does_not_fit_is_named_with_both_shapes(transition, spec, words):
    assert words in misfit(transition, spec)
