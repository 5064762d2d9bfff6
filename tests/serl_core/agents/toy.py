"""A world that SAC solves in seconds: walk along a line to its middle."""

import numpy as np

from serl_core.agents.policy import PolicyConfig
from serl_core.agents.sac import SacConfig
from serl_core.types import ActionBlock, ActionSpec, EndReason, EnvSpec, Observation, Provenance, Transition

SPEC = EnvSpec(
    proprio_size=2,
    action=ActionSpec((ActionBlock("step", 1),)),
    control_hz=10.0,
    image_shapes={},
    feature_shapes={},
)
TIME_LIMIT = 15


def config(**changes):
    small = {"policy": PolicyConfig(hidden=(32, 32)), "critic_hidden": (32, 32)}
    return SacConfig(**(small | {"batch_size": 64, "gamma": 0.9, "average_horizon": 100} | changes))


class Line:
    """The position along a line in [-1, 1]; an action of 1 goes 0.2. Success within 0.12 of the middle."""

    def __init__(self, seed, session="line"):
        self.rng = np.random.default_rng(seed)
        self.session = session
        self.sequence = 0
        self.episode = -1
        self.begin()

    def begin(self):
        self.x = self.rng.choice([-1.0, 1.0]) * self.rng.uniform(0.4, 1.0)
        self.steps = 0
        self.episode += 1

    def observe(self):
        return Observation(proprio=np.array([self.x, 1.0], np.float32))

    def step(self, action, *, is_intervention=False):
        before = self.observe()
        self.x = float(np.clip(self.x + 0.2 * action[0], -1.0, 1.0))
        self.steps += 1
        end = EndReason.RUNNING
        if abs(self.x) < 0.12:
            end = EndReason.SUCCESS
        elif self.steps == TIME_LIMIT:
            end = EndReason.TIME_LIMIT
        transition = Transition(
            observation=before,
            action=np.asarray(action, np.float32),
            reward=float(end is EndReason.SUCCESS),
            discount=float(not end.is_terminal),
            next_observation=self.observe(),
            is_intervention=is_intervention,
            end=end,
            provenance=Provenance(self.session, self.sequence, self.episode, 1, self.sequence / 10),
        )
        self.sequence += 1
        if end is not EndReason.RUNNING:
            self.begin()
        return transition


def stream(seed, count, session="line"):
    """Transitions of a policy that acts at random."""
    line = Line(seed, session)
    return [line.step(line.rng.uniform(-1, 1, 1), is_intervention=bool(i % 3 == 0)) for i in range(count)]


def batch(seed, shape, **changes):
    """A batch of noise."""
    rng = np.random.default_rng(seed)

    def frames():
        return Observation(proprio=rng.standard_normal((*shape, 2), np.float32))

    noise = Transition(
        observation=frames(),
        action=np.tanh(rng.standard_normal((*shape, 1), np.float32)),
        reward=rng.random(shape, np.float32),
        discount=np.ones(shape, np.float32),
        next_observation=frames(),
        is_intervention=np.zeros(shape, np.bool_),
        end=np.zeros(shape, np.int8),
    )
    return noise._replace(**changes)
