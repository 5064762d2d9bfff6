"""The actor's loop: policy, human, arm, one transition per control step. The only place that builds a Transition."""

import logging
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from actors.intervention import NEVER_S, arbitrate
from actors.teleop.interface import Teleop
from serl_core.envs.arm_env import ArmEnv
from serl_core.errors import RobotFault
from serl_core.robots.messages import Mode
from serl_core.types import EndReason, Observation, Provenance, Transition

logger = logging.getLogger(__name__)

Act = Callable[[Observation], NDArray[np.float32]]
"""Observation -> action in [-1, 1]: a policy with its weights and its randomness inside."""

RECOVERY_POLL_S = 0.5


class ActorLoop:
    """One actor's experience, step by step; used by the actor process and by training in one process.

    Set `policy_version` whenever `act` gets new weights.

    Args:
        env: open.
        act: proposes the action of each step.
        teleop: open; whoever may take over.
        session: names this run of this actor for ever; see `Provenance`.
        hold_s: how long the human keeps control after the last engagement.
        sleep: waits between looks at a faulty robot.
    """

    def __init__(
        self,
        env: ArmEnv,
        act: Act,
        teleop: Teleop,
        *,
        session: str,
        hold_s: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.policy_version = 0
        self.episode = -1  # the present one; counts up from 0
        self.sequence = 0  # of the next transition
        self._env = env
        self._act = act
        self._teleop = teleop
        self._session = session
        self._hold_s = hold_s
        self._sleep = sleep
        self._observation: Observation | None = None  # None between episodes
        self._last_engaged_s = NEVER_S

    def step(self) -> Transition:
        """Reset if the last episode has ended, then take one control step.

        After a robot fault or an operator's stop it waits until a person has recovered the robot; it
        never recovers it by itself.

        Raises:
            ResetError: the arm did not arrive at its start pose.
        """
        observation = self._begin_episode() if self._observation is None else self._observation
        choice = arbitrate(
            self._act(observation),
            self._teleop.read(),
            self._env.state.stamp_s,
            self._last_engaged_s,
            self._hold_s,
        )
        self._last_engaged_s = choice.last_engaged_s
        gym_observation, reward, _, _, info = self._env.step(choice.action)
        end: EndReason = info["end"]
        next_observation = Observation(**gym_observation)
        transition = Transition(
            observation=observation,
            # What was asked for, not `info["executed_action"]`: the safety clip belongs to the
            # environment, so the value of asking for too much is the value of what the clip made of it.
            action=choice.action.astype(np.float32),
            reward=reward,
            discount=0.0 if end.is_terminal else 1.0,
            next_observation=next_observation,
            is_intervention=choice.is_intervention,
            end=end,
            provenance=Provenance(
                self._session, self.sequence, self.episode, self.policy_version, self._env.state.stamp_s
            ),
        )
        self.sequence += 1
        self._observation = next_observation if end is EndReason.RUNNING else None
        if end in (EndReason.ROBOT_FAULT, EndReason.OPERATOR_STOP):
            logger.error(
                "episode %d ended by %s (%s)", self.episode, end.name.lower(), self._env.state.fault or "no cause given"
            )
        return transition

    def abandon_episode(self) -> None:
        """Begin a new episode at the next step; the present one keeps its transitions, and no end."""
        self._observation = None

    @property
    def late_ticks(self) -> int:
        """How many control ticks came late since the start."""
        return self._env.late_ticks

    def _begin_episode(self) -> Observation:
        while True:
            try:
                gym_observation, _ = self._env.reset()
            except RobotFault as fault:
                self._wait_for_recovery(fault)
            else:
                self.episode += 1
                self._last_engaged_s = NEVER_S
                return Observation(**gym_observation)

    def _wait_for_recovery(self, fault: RobotFault) -> None:
        logger.error("the robot is stopped or in a fault (%s): look at it, then recover it; waiting", fault)
        self._sleep(RECOVERY_POLL_S)
        while self._env.robot.state().mode in (Mode.STOPPED, Mode.FAULT):
            self._sleep(RECOVERY_POLL_S)
        logger.info("the robot is ready again")
