import dataclasses

import numpy as np
import pytest

from serl_core.errors import ConfigError
from serl_core.networks.encoders import StateEncoder, encoder_for
from serl_core.types import Observation
from tests.serl_core.agents.toy import SPEC


def test_state_passes_as_it_is():
    proprio = np.arange(6, dtype=np.float32).reshape(3, 2)
    encoder = encoder_for(SPEC)
    assert isinstance(encoder, StateEncoder)
    np.testing.assert_array_equal(encoder.apply({}, Observation(proprio=proprio)), proprio)


def test_images_that_nobody_encoded_are_refused_by_name():
    spec = dataclasses.replace(SPEC, image_shapes={"wrist_1": (128, 128, 3)})
    with pytest.raises(ConfigError, match="wrist_1"):
        encoder_for(spec)
