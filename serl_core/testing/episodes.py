"""Made-up episodes of the right shape, for tests of whatever stores or carries them."""

from collections.abc import Sequence

import numpy as np

from serl_core.data.rings import stored_shapes
from serl_core.types import ActionBlock, ActionSpec, EndReason, EnvSpec, Observation, Provenance, Transition

STATE_SPEC = EnvSpec(
    proprio_size=3,
    action=ActionSpec((ActionBlock("twist", 2),)),
    control_hz=10.0,
    image_shapes={},
    feature_shapes={},
)
PIXEL_SPEC = EnvSpec(
    proprio_size=3,
    action=ActionSpec((ActionBlock("twist", 2),)),
    control_hz=10.0,
    image_shapes={"wrist": (4, 5, 3), "side": (6, 4, 3)},
    feature_shapes={"wrist": (2, 2, 8)},
)


def make_observation(spec: EnvSpec, rng: np.random.Generator, frames: Sequence[str] = ()) -> Observation:
    """Return a random observation, as an actor sends it: no two are alike. `frames` are names, each of some bytes."""
    return Observation(
        proprio=rng.normal(size=spec.proprio_size).astype(np.float32),
        images={name: rng.integers(256, size=shape).astype(np.uint8) for name, shape in spec.image_shapes.items()},
        features={name: rng.normal(size=shape).astype(np.float16) for name, shape in stored_shapes(spec).items()},
        frames={name: rng.integers(256, size=rng.integers(1, 40)).astype(np.uint8) for name in frames},
    )


def make_episode(
    spec: EnvSpec = STATE_SPEC,
    *,
    session: str = "session",
    episode: int = 0,
    first_sequence: int = 0,
    steps: int = 5,
    end: EndReason = EndReason.TIME_LIMIT,
    interventions: Sequence[int] = (),
    frames: Sequence[str] = (),
    seed: int = 0,
) -> list[Transition]:
    """Return the steps of one episode, each starting from the very observation where the last ended.

    Args:
        spec: the shapes.
        session: of the provenance, as are `episode` and `first_sequence`.
        episode: the number of the episode.
        first_sequence: of its first step.
        steps: how many.
        end: of the last step; the others are RUNNING.
        interventions: indices of the steps whose action a human chose.
        frames: names of the compressed images, of any bytes and different lengths.
        seed: of the random numbers, together with `episode` and `first_sequence`.
    """
    rng = np.random.default_rng((seed, episode, first_sequence, *session.encode()))
    observations = [make_observation(spec, rng, frames) for _ in range(steps + 1)]
    ends = [EndReason.RUNNING] * (steps - 1) + [end]
    return [
        Transition(
            observation=observations[i],
            action=rng.uniform(-1, 1, spec.action.size).astype(np.float32),
            reward=float(ends[i] is EndReason.SUCCESS),
            discount=float(not ends[i].is_terminal),
            next_observation=observations[i + 1],
            is_intervention=i in interventions,
            end=ends[i],
            provenance=Provenance(session, first_sequence + i, episode, episode, 0.1 * (first_sequence + i)),
        )
        for i in range(steps)
    ]


def assert_same_transitions(found: Sequence[Transition], expected: Sequence[Transition]) -> None:
    """Raise AssertionError unless both hold the same transitions, bit for bit, in the same order."""
    assert [t.provenance for t in found] == [t.provenance for t in expected]
    for a, b in zip(found, expected, strict=True):
        assert (a.reward, a.discount, a.is_intervention, a.end) == (b.reward, b.discount, b.is_intervention, b.end)
        np.testing.assert_array_equal(a.action, b.action, strict=True)
        assert_same_observation(a.observation, b.observation)
        assert_same_observation(a.next_observation, b.next_observation)


def assert_same_observation(found: Observation, expected: Observation) -> None:
    """Raise AssertionError unless both observations are the same, bit for bit."""
    np.testing.assert_array_equal(found.proprio, expected.proprio, strict=True)
    for mine, theirs in zip(found[1:], expected[1:], strict=True):  # images, features, frames
        assert mine.keys() == theirs.keys()
        for name, array in mine.items():
            np.testing.assert_array_equal(array, theirs[name], strict=True)
