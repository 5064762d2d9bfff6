"""The actor as a program of its own: weights come from a learner, experience goes to it through the spool."""

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from actors.actor import ActorLoop, named
from actors.actor_metrics import ActorMetrics, ActorNumbers
from actors.operator_desk import OperatorDesk
from actors.spooled_sender import SpooledSender
from actors.veto import VetoWindow
from serl_core.clock import Clock
from serl_core.data.metrics_file import MetricsWriter
from serl_core.errors import DataError
from serl_core.operator.messages import Control
from serl_core.transport.interface import ActorLink, Params

logger = logging.getLogger(__name__)

REPORT_PERIOD_S = 1.0
FULL_WAIT_S = 0.1  # between looks at a full spool
LEAD_WAIT_S = 0.002  # likewise at a learner that is behind
WEIGHTS_WAIT_S = 0.02
DRAIN_S = 5.0


class LoadsWeights(Protocol):
    """The part of a policy that gets new weights. `serl_core.agents.policy.ActingPolicy` is one."""

    def load(self, params: Params) -> None:
        """Act with these weights from now on. Raises DataError, and changes nothing, when they cannot be used."""


class _Finished(Exception):
    """The learner has finished while the loop was waiting for something else."""


class RemoteActor:
    """Runs an `ActorLoop` for a learner that trains somewhere else.

    New weights are adopted between steps, the newest only. In lockstep the loop waits when it is more
    than `max_lead_steps` ahead of what the learner has trained on, so that experience stays fresh
    however fast the simulation runs; in real time it never waits for the learner, except when the
    spool is full: then the robot's watchdog holds the arm until there is room again.

    Args:
        sender: connected.
        max_lead_steps: None in real time.
        log: gets a JSON line each second, and a last one.
        desk: the loop's; knows which successes operators have vetoed.
        sleep: may raise to end the program.
        metrics: told of how the actor does, at each step and while it waits.
    """

    def __init__(
        self,
        loop: ActorLoop,
        policy: LoadsWeights,
        link: ActorLink,
        sender: SpooledSender,
        *,
        max_lead_steps: int | None,
        log: "ActorLog",
        desk: OperatorDesk | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        metrics: ActorMetrics | None = None,
    ) -> None:
        self._loop = loop
        self._policy = policy
        self._link = link
        self._sender = sender
        self._window = VetoWindow(sender, desk or OperatorDesk(), now=clock)
        loop.idle = self._pump_or_end
        self._max_lead_steps = max_lead_steps
        self._log = log
        self._clock = clock
        self._sleep = sleep
        self._newest_version = 0  # adopted or refused
        self._adopted_s = clock()
        self._refused_weights = 0
        self._lead_waits = 0
        self._metrics = metrics or ActorMetrics(clock)

    def run(self, *, max_steps: int | None = None) -> None:
        """Act until the learner has finished or for `max_steps`; then wait for acknowledgements.

        Raises:
            TransportError: the learner refuses this actor.
            ResetError: the arm did not arrive at its start pose.
            RobotError: the robot server is gone.
        """
        self._await_first_weights()
        try:
            with contextlib.suppress(_Finished):
                self._act(max_steps)
        finally:
            self._window.flush()
            self._log.write(self._record)
        if not self._sender.drain(DRAIN_S):
            spooled = self._sender.counters()["spooled"]
            logger.warning("the learner has not acknowledged %d transitions; the spool keeps them", spooled)

    def _act(self, max_steps: int | None) -> None:
        while self._loop.sequence != max_steps and not self._is_finished():
            if self._is_too_far_ahead():
                self._lead_waits += 1
                self._sleep(LEAD_WAIT_S)
                self._pump()
                continue
            if self._sender.is_full:
                self._await_room()
            self._adopt_weights()
            transition = self._loop.step()
            self._window.put(transition, veto_until_s=self._loop.veto_until_s)
            self._pump()
            self._log.tick(self._record)

    def _await_first_weights(self) -> None:
        logger.info("waiting for the learner's first weights")
        while self._loop.policy_version == 0 and not self._adopt_weights():
            self._loop.show(Control.WAITING)
            self._sleep(WEIGHTS_WAIT_S)
            self._pump()

    def _pump(self) -> None:
        """Settle the successes that have waited long enough, and let the sender do its part."""
        self._window.pump()
        self._sender.pump()
        self._metrics.numbers = ActorNumbers(
            self._sender.counters(),
            weights_version=self._loop.policy_version,
            adopted_s=self._adopted_s if self._loop.policy_version else None,
            refused_weights=self._refused_weights,
            late_ticks=self._loop.late_ticks,
            alarms=self._loop.alarms,
        )

    def _pump_or_end(self) -> None:
        """Do that while no step can be taken, as during a pause, unless the learner wants no more of them."""
        self._pump()
        if self._is_finished():
            raise _Finished

    def _adopt_weights(self) -> bool:
        """Take the newest weights if there are any; return whether they are in use now."""
        weights = self._link.newest_weights(self._newest_version)
        if weights is None:
            return False
        self._newest_version = weights.version
        try:
            self._policy.load(weights.params)
        except DataError as error:
            self._refused_weights += 1
            logger.error(
                "refused policy version %d, going on with %d: %s", weights.version, self._loop.policy_version, error
            )
            return False
        self._loop.has_adopted(weights.version)
        self._adopted_s = self._clock()
        return True

    def _is_too_far_ahead(self) -> bool:
        status = self._sender.status
        if self._max_lead_steps is None or status is None:
            return False
        return self._sender.unreceived + status.env_steps - status.trained_env_steps >= self._max_lead_steps

    def _is_finished(self) -> bool:
        status = self._sender.status
        return status is not None and status.is_finished

    def _await_room(self) -> None:
        logger.error("the spool is full, the arm holds: waiting for the learner to acknowledge")
        while self._sender.is_full:
            self._loop.show(Control.WAITING)
            self._sleep(FULL_WAIT_S)
            self._pump()
        self._loop.abandon_episode()  # the arm has stood still meanwhile: no transition may span that

    def _record(self) -> dict[str, object]:
        late_ms = [round(1e3 * late_s, 2) for late_s in self._loop.take_lateness_s()]
        return {
            "session": self._loop.session,  # of what is counted below
            "env_steps": self._loop.sequence,
            "episodes": self._loop.episode + 1,
            "late_ticks": self._loop.late_ticks,
            **self._loop.alarms,
            "late_max_ms": max(late_ms, default=0.0),
            "late_ms": late_ms,  # of each tick since the last record
            "corrected": self._loop.take_corrected(),  # step of the episode, and x and y in m
            "lead_waits": self._lead_waits,
            "policy_version": self._loop.policy_version,
            "policy_age_s": round(self._clock() - self._adopted_s, 3),
            **self._sender.counters(),
            **{f"classifier_{name}": count for name, count in named(self._loop.verdicts).items()},
        }


class ActorLog:
    """`actor.jsonl`: one record about each second, with the loop's rate."""

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._writer: MetricsWriter | None = None
        self._ticks = 0
        self._since_s = 0.0

    def __enter__(self) -> "ActorLog":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = MetricsWriter(self._path).__enter__()
        self._since_s = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.__exit__(None, None, None)

    def tick(self, record: Callable[[], dict[str, object]]) -> None:
        """Count one control step; when a second has passed, write a record with what `record` returns."""
        self._ticks += 1
        if self._clock() - self._since_s >= REPORT_PERIOD_S:
            self.write(record)

    def write(self, record: Callable[[], dict[str, object]]) -> None:
        """Write a record now, unless there was no step since the last one."""
        if not self._ticks:
            return
        assert self._writer is not None, "open it first"
        elapsed_s = max(self._clock() - self._since_s, 1e-3)
        self._writer.write("actor", {"loop_hz": round(self._ticks / elapsed_s, 2), **record()})
        self._ticks, self._since_s = 0, self._clock()
