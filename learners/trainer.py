"""The learner without its sockets: buffers, agent, pacing and checkpoints, in one thread.

The learner process and `serl train --sync` run this same code. All luck comes from the seed, so the
same transitions in the same order give the same weights to the bit, also across a crash and a resume.
"""

import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

from learners.checkpoints import BEGIN_ANEW, Checkpoint, Checkpoints
from learners.pacing import Pacing
from serl_core.agents.policy import is_finite
from serl_core.agents.sac import Sac, SacConfig
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.frames import decompress
from serl_core.data.mixture import Mixture
from serl_core.data.relabels import Episode
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.errors import ConfigError, DataError, LearningError
from serl_core.failpoints import failpoint
from serl_core.networks.encoders import blank_observation
from serl_core.networks.perception import Perception
from serl_core.transport.interface import PolicyWeights
from serl_core.types import EnvSpec, Observation, Transition

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 10
MAX_STARTS_PER_CHECKPOINT = 100


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How to train. `sac` is the method's."""

    sac: SacConfig = field(default_factory=SacConfig)
    seed: int = 0
    training_starts: int = 100  # online transitions before the first update
    demo_fraction: float = 0.5  # of each batch
    online_capacity: int = 200_000  # frames; the oldest make room


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a run has come: the facts of a checkpoint."""

    config: dict[str, Any]
    env_steps: int
    trained_env_steps: int
    updates: int
    policy_version: int
    relabels: int
    inserted: dict[str, int]  # the last sequence of each session: what of the log comes before this checkpoint
    rng: dict[str, Any]


class Snapshot(NamedTuple):
    """What `Checkpoints.save` takes."""

    arrays: Any  # a pytree of numpy arrays
    facts: dict[str, Any]


class Trainer:
    """Learns from transitions as they come.

    Args:
        perception: how the task sees, and so the shapes of all that comes.
        config: see there.
        demonstrations: episodes recorded before; every step counts as a human's.
        log: every transition that is inserted must stand in it already, in the same order.
        checkpoints: of this run.
    """

    def __init__(
        self,
        perception: Perception,
        config: TrainerConfig,
        demonstrations: Iterable[Sequence[Transition]],
        log: EpisodeLog,
        checkpoints: Checkpoints,
    ) -> None:
        self.perception = perception
        self.spec = spec = perception.stored
        self.config = config
        self.agent = Sac(perception.spec, config.sac, perception.frozen and perception.frozen.encode)
        self.pacing = Pacing(training_starts=config.training_starts)
        self.policy_version = 0
        self.updates = 0  # of the critics, since the start of the run
        self.relabels = 0  # people's corrections of past episodes that the buffer has taken up
        self.demonstrations = ReplayBuffer.holding(
            spec, ([as_stored(transition, spec) for transition in episode] for episode in demonstrations)
        )
        self.online = ReplayBuffer(spec, config.online_capacity)
        self._mixture = Mixture(self.demonstrations, self.online, config.demo_fraction)
        self._log = log
        self.checkpoints = checkpoints
        self._inserted: dict[str, int] = {}  # the last sequence of each session
        self._rng = np.random.default_rng(config.seed)
        self._state = self.agent.init(key=jax.random.key(config.seed))
        self._metrics: Mapping[str, Any] = {}  # of the updates under way
        self.nonfinite = {"loss": 0, "grad": 0, "weights": 0}  # updates skipped for these, and weights refused

    @property
    def utd_ratio(self) -> float:
        """Critic updates done per environment step that was trained on; 0 before the first."""
        trained = self.pacing.trained_env_steps - self.pacing.training_starts
        return self.updates / trained if trained > 0 else 0.0

    def stored(self, transitions: Iterable[Transition]) -> list[Transition]:
        """Return transitions as the buffer keeps them. To be called before they are logged: a log cannot forget.

        Raises:
            DataError: one does not fit the task, or a frame of it cannot be read; nothing has changed.
        """
        kept = []
        for transition in transitions:
            try:
                kept.append(as_stored(transition, self.spec))
                self.online.check(kept[-1])
            except DataError as error:
                provenance = transition.provenance
                who = f"{provenance.sequence} of session {provenance.session}" if provenance else "without provenance"
                raise DataError(
                    f"transition {who} is refused and not logged: {error}. Move away the spool of the actor that sent "
                    "it, then go on with --resume"
                ) from None
        return kept

    def insert(self, transitions: Iterable[Transition]) -> None:
        """Take in new online transitions, which the log already holds; as they came, or out of `stored`."""
        for transition in transitions:
            self.online.insert(as_stored(transition, self.spec))
            self.pacing.inserted(1)
            provenance = transition.provenance
            assert provenance is not None  # else the buffer has refused it
            self._inserted[provenance.session] = provenance.sequence
            failpoint("learner.inserted")

    def can_update(self) -> bool:
        """Return whether there is an environment step whose updates are to be done, and anything to learn from."""
        return self.pacing.debt > 0 and len(self.online) + len(self.demonstrations) > 0

    def update(self) -> dict[str, float]:
        """Begin the updates of one environment step and return the metrics of the one before, none at the first.

        They are computed beside this thread, which meanwhile takes in transitions and draws the next batch.

        Raises:
            LearningError: losses or gradients have not been finite for ten updates in a row.
        """
        sac = self.config.sac
        batch = self._mixture.sample(self._rng, sac.utd_ratio, sac.batch_size)
        values = self._finished_metrics()
        self._state, metrics = self.agent.update(self._state, batch)
        self._metrics = metrics.values
        self.pacing.updated()
        self.updates += batch.action.shape[0]
        failpoint("learner.updated")
        return values

    def _finished_metrics(self) -> dict[str, float]:
        """Wait for the updates under way and return their metrics."""
        values = {name: float(value) for name, value in jax.device_get(self._metrics).items()}
        for name in ("loss", "grad"):
            self.nonfinite[name] += int(values.pop(f"nonfinite_{name}", 0))
        self._metrics = values  # counted; and what stops the training stops it for good
        if values.get("skipped_in_a_row", 0) >= MAX_SKIPPED_IN_A_ROW:
            raise LearningError(
                f"losses or gradients were not finite for {values['skipped_in_a_row']:.0f} updates in a row, at "
                f"env step {self.pacing.trained_env_steps}; the weights from before are kept. Look for extreme "
                "numbers in the observations and rewards of this run, or lower SacConfig.learning_rate"
            )
        return values

    def warm_up(self) -> None:
        """Compile the update, so that the first one is as fast as the others. Learns nothing."""
        shape = (self.config.sac.utd_ratio, self.config.sac.batch_size)
        zeros = np.zeros(shape, np.float32)
        blank = blank_observation(self.spec, shape)
        batch = Transition(
            observation=blank,
            action=np.zeros((*shape, self.spec.action.size), np.float32),
            reward=zeros,
            discount=zeros,
            next_observation=blank,
            is_intervention=np.zeros(shape, np.bool_),
            end=np.zeros(shape, np.int8),
        )
        _, metrics = self.agent.update(self.agent.init(key=jax.random.key(0)), batch)
        jax.device_get(metrics)

    def policy_weights(self) -> PolicyWeights:
        """Return the policy as it is now, under the next version.

        Raises:
            LearningError: it is not finite.
        """
        params = _copy(self.agent.policy_params(self._state))
        self._require_finite(params, "the policy's weights")
        self.policy_version += 1
        return PolicyWeights(self.policy_version, params, self.pacing.env_steps)

    def final_policy(self) -> PolicyWeights:
        """Return the policy to keep: averaged weights, under the present version."""
        params = _copy(self.agent.final_policy_params(self._state))
        self._require_finite(params, "the averaged policy's weights")
        return PolicyWeights(self.policy_version, params, self.pacing.env_steps)

    def arrays(self) -> Any:
        """Return a copy of the agent's whole state, as numpy arrays."""
        return _copy(self._state)

    def save(self) -> None:
        """Write a checkpoint of everything but the buffers, which the log, synced first, brings back.

        Raises:
            LearningError: a number of it is not finite; nothing was written.
            DataError: the disk refused it; the checkpoints from before are whole.
        """
        snapshot = self.snapshot()
        self._log.sync()
        self.checkpoints.save(*snapshot)

    def snapshot(self) -> Snapshot:
        """Return a copy of everything but the buffers, to be saved once the log is synced as far as this.

        Raises:
            LearningError: a number of it is not finite.
        """
        arrays = self.arrays()
        self._require_finite(arrays, "the learner's state")
        progress = Progress(
            config=_plain(self.config),
            env_steps=self.pacing.env_steps,
            trained_env_steps=self.pacing.trained_env_steps,
            updates=self.updates,
            policy_version=self.policy_version,
            relabels=self.relabels,
            inserted=dict(self._inserted),
            rng=dict(self._rng.bit_generator.state),
        )
        return Snapshot(arrays, msgspec.structs.asdict(progress))

    def _require_finite(self, tree: Any, name: str) -> None:
        if not is_finite(tree):
            self.nonfinite["weights"] += 1
            raise LearningError(f"{name} hold numbers that are not finite; neither published nor saved")

    def resume(
        self, see: Callable[[Transition], None] = lambda transition: None, told: Container[Episode] = ()
    ) -> list[Transition]:
        """Go back to the newest checkpoint (to the start if there is none) and rebuild the buffers.

        What the checkpoint has learned from and the log no longer has (an episode moved away because
        its file was corrupt) is missing in the buffer, with a warning.

        Args:
            see: is shown what is logged, in order, as it is read.
            told: ended episodes that `see` can do without. They are not read where the buffer has overwritten them.

        Returns:
            The transitions that were logged after it. They are still to be inserted: inserted one at
            a time, with an update after each, they repeat exactly what a synchronous run did.

        Raises:
            ConfigError: the checkpoint is of another configuration.
            DataError: no checkpoint is whole, or a file of the log is corrupt.
        """
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            self._go_back_to(checkpoint)
        before = dict(self._inserted)
        tail: list[Transition] = []
        # So many steps fill all frames; and no version before them is above the checkpoint's.
        since = self._log.needed_since(self.online.capacity, before, told)
        for transition in self._log.transitions(since):
            provenance = transition.provenance
            assert provenance is not None  # else it could not be logged
            see(transition)
            self.policy_version = max(self.policy_version, provenance.policy_version)
            if provenance.sequence <= before.get(provenance.session, -1):
                self.online.insert(as_stored(transition, self.spec))
            else:
                tail.append(transition)
        missing = self.pacing.env_steps + len(tail) - self._log.position
        if missing:
            logger.warning(
                "%d of the %d transitions before the checkpoint are no longer in the log; going on without them",
                missing,
                self.pacing.env_steps,
            )
        # A crashed learner published at most once per step, and once per start: stay above all its versions.
        self.policy_version += len(tail) + MAX_STARTS_PER_CHECKPOINT
        logger.info("resumed at env step %d, with %d more in the log", self.pacing.env_steps, len(tail))
        return tail

    def _go_back_to(self, checkpoint: Checkpoint) -> None:
        progress = _progress(checkpoint)
        _require_same_config(progress.config, _plain(self.config))
        self._state = _with_keys(checkpoint.arrays_like(self.arrays()), like=self._state)
        self._rng.bit_generator.state = progress.rng
        self.pacing.env_steps = progress.env_steps
        self.pacing.trained_env_steps = progress.trained_env_steps
        self.updates = progress.updates
        self.policy_version = progress.policy_version
        self.relabels = progress.relabels
        self._inserted = dict(progress.inserted)


def _progress(checkpoint: Checkpoint) -> Progress:
    try:
        progress = msgspec.convert(checkpoint.facts, Progress)
        np.random.default_rng().bit_generator.state = progress.rng
    except (msgspec.ValidationError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"the checkpoint's facts are not those of a learner: {error}; {BEGIN_ANEW}") from None
    return progress


def _copy(tree: Any) -> Any:
    """Return a pytree as numpy arrays of its own (an update reuses the memory of its state)."""
    return jax.tree.map(lambda leaf: np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf), tree)


def _with_keys(tree: Any, *, like: Any) -> Any:
    """Undo `_copy`."""
    return jax.tree.map(
        lambda kind, leaf: jax.random.wrap_key_data(leaf) if _is_key(kind) else jax.numpy.array(leaf), like, tree
    )


def _is_key(leaf: Any) -> bool:
    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _plain(config: TrainerConfig) -> dict[str, Any]:
    """Return a config as JSON gives it back."""
    return msgspec.json.decode(msgspec.json.encode(config), type=dict[str, Any])


def _require_same_config(saved: dict[str, Any], wanted: dict[str, Any], name: str = "config") -> None:
    """Raise ConfigError at the first value that differs."""
    for key in {**saved, **wanted}:
        old, new = saved.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            _require_same_config(old, new, f"{name}.{key}")
        elif old != new:
            raise ConfigError(f"{name}.{key}: the run was started with {old}, got {new}; resume with the same")


def as_stored(transition: Transition, spec: EnvSpec) -> Transition:
    """Return a transition as the buffer keeps it: without frames, and with images out of them if the spec has some.

    Raises:
        DataError: a frame cannot be read.
    """

    def convert(observation: Observation) -> Observation:
        images = decompress(observation.frames) if spec.image_shapes and not observation.images else observation.images
        features = {} if spec.image_shapes else observation.features
        return Observation(proprio=observation.proprio, images=images, features=features)

    return transition._replace(
        observation=convert(transition.observation), next_observation=convert(transition.next_observation)
    )
