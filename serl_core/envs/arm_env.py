"""The environment: one task on one arm, as Gymnasium's API asks for it.

One step sends one message and gets one state back, at the tick. In real time the robot replies when
the tick comes, so the period counts everything (observation, policy, human, logging) and 10 Hz is
10 Hz. In lockstep each step is exactly one period of simulated time.
"""

import contextlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from jaxtyping import Float, Float32
from numpy.typing import NDArray

from serl_core.clock import Rate
from serl_core.config import PoseFrame
from serl_core.envs.frames import action_to_target, target_to_action
from serl_core.envs.observations import PROPRIO_BOUND, observe
from serl_core.envs.resets import as_vector7, random_start, reset_arm
from serl_core.envs.rewards import judge
from serl_core.envs.safety import clip_target
from serl_core.envs.task import Task
from serl_core.errors import ConfigError, RobotError, RobotFault
from serl_core.robots.interface import Robot
from serl_core.robots.messages import RobotState
from serl_core.types import Observation

GymObservation = dict[str, Any]  # an Observation's non-empty fields by name


class ArmEnv(gymnasium.Env[GymObservation, NDArray[np.float32]]):
    """A task on an arm. The constructor touches no hardware; `open` (or ``with``) connects.

    `step` reports in `info`: ``end`` (EndReason), ``is_success``, and ``executed_action``, the action
    that the arm was really sent after the safety clip, in the policy's frame.

    Args:
        seed: of the start poses and the simulated scene, until `reset` is given one.
        rate: of the real-time loop; by default at `TaskConfig.control_hz` on the monotonic clock.
    """

    metadata = {"render_modes": []}

    def __init__(self, task: Task, robot: Robot, *, seed: int = 0, rate: Rate | None = None) -> None:
        if task.config.observation.cameras:
            names = [camera.name for camera in task.config.observation.cameras]
            raise ConfigError(
                f"ObservationConfig.cameras: ArmEnv observes state only and cannot read {names}; leave them out"
            )
        self.task = task
        self.robot = robot
        self.action_spec = task.config.action.spec
        size = (task.config.observation.proprio_size,)
        self.observation_space = spaces.Dict({"proprio": spaces.Box(-PROPRIO_BOUND, PROPRIO_BOUND, size, np.float32)})
        self.action_space = spaces.Box(-1.0, 1.0, (self.action_spec.size,), np.float32)
        self.steps = 0  # taken in this episode
        self._rate = rate or Rate(task.config.control_hz)
        self.is_lockstep = False  # known once open
        self._origin = np.array(task.config.target_pose)
        self._state: RobotState | None = None
        self._scene_seed: int | None = seed
        self._np_random, self._np_random_seed = seeding.np_random(seed)

    def open(self) -> None:
        """Connect to the robot. Nothing moves."""
        self.robot.connect()
        self.is_lockstep = self.robot.health().clock == "lockstep"

    def close(self) -> None:
        """Release the robot, which holds compliantly. Safe to call twice."""
        self.robot.close()

    def __enter__(self) -> "ArmEnv":
        self.open()
        return self

    @property
    def state(self) -> RobotState:
        """The arm's state at the last step or reset."""
        if self._state is None:
            raise RuntimeError("call reset() first")
        return self._state

    @property
    def late_ticks(self) -> int:
        """How many control ticks came late since the start; always 0 in lockstep."""
        return self._rate.late

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[GymObservation, dict[str, Any]]:
        """Bring the arm to a start pose and begin an episode.

        Args:
            seed: restarts the stream of start poses, and the simulated scene's.
            options: ``start_pose`` (x y z qx qy qz qw) instead of a random one.

        Raises:
            ResetError: the arm did not arrive.
            RobotFault: the robot is stopped or in a fault; a person must look first.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._scene_seed = seed
        start = (options or {}).get("start_pose")
        if start is None:
            start = random_start(self.task.config.reset, self.np_random)
        self._state = reset_arm(self.robot, self.task.config, np.asarray(start, np.float64), seed=self._scene_seed)
        self._scene_seed = None  # from here on the scene goes on with its own stream
        if self.task.config.observation.pose_frame is PoseFrame.EPISODE_START:
            self._origin = np.array(self._state.tcp_pose)
        self.steps = 0
        self._rate.restart()
        return _as_gym(self._observe()), {}

    def step(self, action: Float[np.ndarray, " a"]) -> tuple[GymObservation, float, bool, bool, dict[str, Any]]:
        """Send the action, wait for the tick, and judge what came of it.

        A stopped or faulty robot ends the episode as truncated; nothing is recovered here.

        Raises:
            ValueError: the action is not finite; nothing was sent.
        """
        if not np.isfinite(action).all():
            raise ValueError(f"action must be finite, got {action}")
        measured = np.array(self.state.tcp_pose)
        blocks = self.action_spec.split(np.clip(action, -1.0, 1.0))
        wished = action_to_target(blocks["twist"].astype(np.float64), measured, self.task.config.action)
        target = clip_target(wished, self.task.config.box)
        gripper = (1.0 + float(blocks["gripper"][0])) / 2.0 if "gripper" in blocks else None
        has_faulted = self._advance(target, gripper)
        self.steps += 1
        observation = self._observe()
        verdict = judge(self.task, observation, self.state, self.steps, has_faulted=has_faulted)
        if not np.array_equal(target, wished):
            blocks["twist"] = target_to_action(target, measured, self.task.config.action)
        info = {
            "end": verdict.end,
            "is_success": verdict.reward > 0,
            "executed_action": self.action_spec.join(blocks).astype(np.float32),
        }
        return _as_gym(observation), verdict.reward, verdict.end.is_terminal, verdict.end.is_truncation, info

    def _advance(self, target: Float[np.ndarray, "7"], gripper: float | None) -> bool:
        """Let one period pass towards `target` and read the state; return whether the robot refused."""
        reply_after_s = 1.0 / self.task.config.control_hz if self.is_lockstep else self._rate.remaining_s()
        try:
            self._state = self.robot.step(as_vector7(target), reply_after_s, gripper)
        except RobotFault:
            with contextlib.suppress(RobotError):  # when it cannot even be read, the last state stands
                self._state = self.robot.state()
            return True
        return False

    def _observe(self) -> Observation:
        return observe(self.state, self.task.config.observation, self._origin)


def _as_gym(observation: Observation) -> dict[str, Float32[np.ndarray, " p"]]:
    return {"proprio": observation.proprio}
