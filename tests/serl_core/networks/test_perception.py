import dataclasses

import jax
import numpy as np
import pytest

from examples.ram_insertion import CONFIG
from serl_core.config import ObservationConfig
from serl_core.data.replay_buffer import stored_shapes
from serl_core.image_config import CameraConfig, Crop, EncoderConfig, EncoderKind, ImageMode
from serl_core.networks import small_cnn
from serl_core.networks.augmentation import PADDING
from serl_core.networks.frozen import load_encoder
from serl_core.networks.perception import ImageEncoder, perception_for
from serl_core.networks.weights import save_weights

RANDOM = load_encoder(EncoderConfig(kind=EncoderKind.RANDOM))
CAMERAS = (CameraConfig(name="wrist", height=32, width=32), CameraConfig(name="side", height=32, width=48))


def task(*, cameras=CAMERAS, **encoder):
    config = EncoderConfig(**({"kind": EncoderKind.RANDOM} | encoder))
    return dataclasses.replace(CONFIG, observation=ObservationConfig(cameras=cameras, encoder=config))


def pictures(seed=0, **shapes):
    """Return smooth pictures: their features hardly change where they do not."""
    random = np.random.default_rng(seed)
    return {
        name: np.kron(random.integers(0, 256, (h // 8, w // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        for name, (h, w) in shapes.items()
    }


IMAGES = pictures(wrist=(32, 32), side=(32, 48))


def test_a_task_without_images_has_no_encoder_and_its_own_digest():
    perception = perception_for(CONFIG)
    assert perception.frozen is None
    assert perception.digest == CONFIG.digest()
    assert perception.spec == perception.stored == CONFIG.env_spec()


def test_in_features_mode_features_are_read_and_stored():
    perception = perception_for(task())
    assert perception.digest == f"{task().digest()}+{RANDOM.identity}"
    assert perception.spec == perception.stored
    assert perception.spec.image_shapes == {}
    assert perception.spec.feature_shapes == {"wrist": (2, 2, 64), "side": (2, 3, 64)}
    assert perception.frozen == RANDOM


def test_in_pixels_mode_features_are_read_and_images_stored():
    perception = perception_for(task(mode=ImageMode.PIXELS))
    assert perception.digest == f"{task().digest()}+{RANDOM.identity}-pixels"
    assert perception.spec == perception_for(task()).spec
    assert perception.stored == task().env_spec()
    assert stored_shapes(perception.stored) == {}


def test_copies_are_stored_with_a_leading_axis_that_no_network_reads():
    perception = perception_for(task(copies=3))
    assert perception.digest.endswith(f"+{RANDOM.identity}-x3")
    assert perception.spec.feature_copies == 1
    assert stored_shapes(perception.stored) == {"wrist": (3, 2, 2, 64), "side": (3, 2, 3, 64)}


def test_copies_make_no_difference_to_pixels():
    one, three = (perception_for(task(mode=ImageMode.PIXELS, copies=copies)) for copies in (1, 3))
    assert one == three


def test_modes_copies_and_encoders_are_told_apart_and_the_task_is_not(tmp_path):
    weights = tmp_path / "mine.safetensors"
    save_weights(weights, small_cnn.init(5), {})
    mine = {"kind": EncoderKind.SMALL, "weights": str(weights)}
    digests = [
        perception_for(task(**encoder)).digest
        for encoder in ({}, {"copies": 2}, {"copies": 3}, {"mode": ImageMode.PIXELS}, mine)
    ]
    assert len(set(digests)) == len(digests)
    assert {digest.partition("+")[0] for digest in digests} == {task().digest()}


def test_an_image_has_the_features_of_the_frozen_encoder_whatever_its_size():
    features = ImageEncoder(RANDOM)(IMAGES)
    assert features.keys() == IMAGES.keys()
    for name, image in IMAGES.items():
        expected = jax.jit(RANDOM.encode)(image)
        assert (features[name].shape, features[name].dtype) == (expected.shape, np.float16)
        np.testing.assert_allclose(features[name], expected, atol=2e-3)


@pytest.mark.parametrize("copies", [1, 2])
def test_crops_of_one_camera_do_not_get_each_others_features(copies):
    """Images of one size pass the encoder as one batch."""
    crops = tuple(Crop(name=name, left=0, top=0, width=32, height=32) for name in ("near", "far"))
    shapes = perception_for(task(cameras=(CameraConfig(name="side", height=32, width=32, crops=crops),))).spec
    images = pictures(far=(32, 32), near=(32, 32))
    features = ImageEncoder(RANDOM, copies=copies)(images)
    assert set(shapes.feature_shapes) == set(features)
    for name, image in images.items():
        first = features[name] if copies == 1 else features[name][0]
        np.testing.assert_allclose(first, jax.jit(RANDOM.encode)(image), atol=2e-3)


def test_the_first_copy_is_the_image_as_it_is_and_the_others_are_shifted():
    plain, copies = ImageEncoder(RANDOM)(IMAGES), ImageEncoder(RANDOM, copies=3)(IMAGES)
    for name, feature in plain.items():
        assert copies[name].shape == (3, *feature.shape)
        np.testing.assert_allclose(copies[name][0], feature, atol=2e-3)
        assert np.abs(copies[name][1] - feature).max() > 0.05
        assert np.abs(copies[name][1] - copies[name][2]).max() > 0.05


def test_the_shifted_copies_are_features_of_shifts_by_a_few_pixels():
    """Fed the wrong axis, the shift would mix images: each copy must be near one of the 81 shifts of its own image."""
    image = IMAGES["wrist"]
    padded = np.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="edge")
    side = range(2 * PADDING + 1)
    shifts = np.stack([padded[row : row + 32, column : column + 32] for row in side for column in side])
    allowed = np.asarray(jax.jit(RANDOM.encode)(shifts), np.float32)
    shifted = np.asarray(ImageEncoder(RANDOM, copies=2)(IMAGES)["wrist"][1], np.float32)
    assert np.abs(allowed - shifted).max((1, 2, 3)).min() < 2e-3


def test_the_shifts_depend_on_the_seed_and_on_how_many_looks_there_were():
    def looks(seed):
        encode = ImageEncoder(RANDOM, copies=2, seed=seed)
        return [encode(IMAGES)["wrist"][1] for _ in range(2)]

    first, again, other = looks(0), looks(0), looks(1)
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (np.array(first) != np.array(other)).any()
