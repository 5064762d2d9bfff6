"""The environment: one task on one arm, as Gymnasium's API asks for it.

One step sends one message and gets one state back, at the tick. In real time the robot replies when
the tick comes, so the period counts everything (observation, policy, human, logging) and 10 Hz is
10 Hz. In lockstep each step is exactly one period of simulated time.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from jaxtyping import Float
from numpy.typing import NDArray

from serl_core.clock import Clock, Rate
from serl_core.config import PoseFrame, RewardKind
from serl_core.envs.course import Course, Revise
from serl_core.envs.observations import observe
from serl_core.envs.resets import random_start, reset_arm
from serl_core.envs.rewards import judge
from serl_core.envs.sight_watch import SightWatch
from serl_core.envs.spaces import GymObservation, as_gym, observation_spaces
from serl_core.envs.stepping import step_or_stay, step_with_revisions
from serl_core.envs.task import Task
from serl_core.envs.vision import Sight, Vision
from serl_core.errors import CameraFault, ConfigError, RobotAway, RobotError, RobotFault
from serl_core.robots.interface import Robot
from serl_core.robots.messages import RobotState
from serl_core.types import Observation

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.01  # between looks for a newer picture


class ArmEnv(gymnasium.Env[GymObservation, NDArray[np.float32]]):
    """A task on an arm. The constructor touches no hardware; `open` (or ``with``) connects.

    `step` reports in `info`: ``end`` (EndReason), ``is_success``, ``action``, what was asked for over the
    whole step, and ``executed_action``, what the arm was really sent of that after the safety clip, in the
    policy's frame; ``success_probability``, the classifier's, ``is_classified``, what it makes of this one
    step, and ``truth``, the simulator's judgement, each None where there is none; ``is_apart``, whether the
    pictures and the state of the observation are more than 0.1 s apart. On a real arm, more than 5 % of an
    episode's steps that are end it as a camera's fault.

    Args:
        vision: reads the cameras of a task that has some.
        seed: of the start poses and the simulated scene, until `reset` is given one.
        rate: of the real-time loop; by default at `TaskConfig.control_hz` on the monotonic clock.
        now: the clock of `Sight.captured_s`.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        task: Task,
        robot: Robot,
        *,
        vision: Vision | None = None,
        seed: int = 0,
        rate: Rate | None = None,
        now: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        _check_vision(task, vision)
        self.task = task
        self.robot = robot
        self.action_spec = task.config.action.spec
        self.observation_space = spaces.Dict(observation_spaces(task.config.observation))
        self.action_space = spaces.Box(-1.0, 1.0, (self.action_spec.size,), np.float32)
        self.steps = 0  # taken in this episode
        self._rate = rate or Rate(task.config.control_hz)
        self._now, self._sleep = now, sleep
        self.is_lockstep = self.is_simulated = False  # known once open
        self._origin = np.array(task.config.target_pose)
        self._vision = vision
        self._sight = Sight({})
        self.watch = SightWatch()
        self._state_s = 0.0  # when the state came, on `now`'s clock
        self._is_new_sight = False  # since the look before
        self._votes = 0  # new sights in a row that the classifier has called a success
        self._state: RobotState | None = None
        self._scene_seed: int | None = seed
        self._np_random, self._np_random_seed = seeding.np_random(seed)

    def open(self) -> None:
        """Connect to the robot and start the cameras. Nothing moves.

        Raises:
            RobotError: the robot cannot be reached, or is another's.
            ConfigError: a camera, or a crop of it, that does not exist. The robot is released again.
            CameraFault: a camera gives no picture. The robot is released again.
        """
        self.robot.connect()
        with contextlib.ExitStack() as opened:
            opened.callback(self.close)
            health = self.robot.health()
            self.is_lockstep, self.is_simulated = health.clock == "lockstep", health.is_simulated
            if self._vision is not None:
                self._vision.open(self.robot)
            opened.pop_all()

    def close(self) -> None:
        """Release the robot, which holds compliantly, and stop the cameras. Safe to call twice."""
        try:
            if self._vision is not None:
                self._vision.close()
        finally:
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
    def observation(self) -> Observation:
        """What the policy sees now: proprioception, images and, where there is an encoder, their features."""
        proprio = observe(self.state, self.task.config.observation, self._origin)
        return proprio._replace(images=self._sight.images, features=self._sight.features)

    @property
    def success_threshold(self) -> float | None:
        """Of the classifier's probability; None without one."""
        return None if self._vision is None else self._vision.success_threshold

    def look(self) -> None:
        """Take new pictures.

        Raises:
            CameraFault: a camera has none, or only an old one.
        """
        if self._vision is not None:
            sight = self._vision.look()
            self._is_new_sight = sight is not self._sight
            self._sight = sight

    @property
    def late_ticks(self) -> int:
        """How many control ticks came late since the start; always 0 in lockstep."""
        return self._rate.late

    def take_lateness_s(self) -> list[float]:
        """Return how late each control tick since the last call came, the last 1000 at most; nothing in lockstep."""
        late_s = list(self._rate.late_s)
        self._rate.late_s.clear()
        return late_s

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
            RobotAway: it does not answer.
            CameraFault: a camera has no new picture; nothing has moved, or the arm has just arrived and holds.
        """
        self.look()
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
        self.steps = self._votes = 0
        self.watch.begin_episode()
        self._look_after(self._now())
        self._rate.restart()
        return as_gym(self.observation), {}

    def step(
        self, action: Float[np.ndarray, " a"], revise: Revise | None = None
    ) -> tuple[GymObservation, float, bool, bool, dict[str, Any]]:
        """Send the action, wait for the tick, and judge what came of it.

        A stopped or faulty robot ends the episode as truncated, and so does a camera without new
        pictures: the arm then holds, and the observation has the last ones. Nothing is recovered here.

        In real time `revise` is asked every 10 ms or so for another action, which counts at once, as
        `serl_core.envs.set_point.revised` says, from the pose at the step's beginning. What it raises ends the step
        there, with the last target in force. In lockstep no time passes in which to ask.

        An action that is not finite ends the episode as truncated too: the arm is told to stay, and holds.

        Raises:
            RobotAway: the robot does not answer, or its readings are old; nothing is known of this step.
        """
        course = Course(self.task, action, np.array(self.state.tcp_pose), revise)
        if not course.is_action:
            logger.error("the arm holds, and the episode is over: the policy's action is not finite, %s", action)
        has_faulted = self._advance(course)
        self._state_s = self._now()
        self.steps += 1
        is_blind = self._is_blind()
        is_apart = not self.is_lockstep and self.watch.is_apart(self._sight, self._state_s)
        if not self.is_simulated and self.watch.is_fault and not is_blind:
            logger.error("the arm holds: too many pictures of this episode are not of the moment of the arm's state")
            self._hold()
            is_blind = True
        observation = self.observation
        probability = self.watch.probability(self._sight)
        is_classified = None if is_blind else self._is_classified(probability)
        success = None if is_classified is None else self._count(is_classified)
        verdict = judge(
            self.task,
            observation,
            self.state,
            self.steps,
            has_faulted=has_faulted,
            is_blind=is_blind,
            has_policy_failed=not course.is_action,
            success=success,
        )
        if not course.is_action:
            self._hold()
        info = {
            "end": verdict.end,
            "is_success": verdict.reward > 0,
            "action": course.asked,
            "executed_action": course.set_point.executed,
            "success_probability": probability,
            "is_apart": is_apart,
            "is_classified": is_classified,
            "truth": None if self.state.truth is None else self.state.truth.is_success,
        }
        return as_gym(observation), verdict.reward, verdict.end.is_terminal, verdict.end.is_truncation, info

    def _look_after(self, moved_s: float) -> None:
        """Take new pictures; after a teleport in real time, wait for those of where the arm is now."""
        self.look()
        if self.is_lockstep or not self.task.config.reset.is_teleport:
            return
        give_up_s = moved_s + max((camera.max_age_s for camera in self.task.config.observation.cameras), default=0.0)
        while self._sight.captured_s is not None and self._sight.captured_s < moved_s and self._now() < give_up_s:
            self._sleep(LOOK_AGAIN_S)
            self.look()

    def _advance(self, course: "Course") -> bool:
        """Let one period pass and read the state; return whether the robot is stopped or faulty."""
        period_s = 1.0 / self.task.config.control_hz if self.is_lockstep else self._rate.remaining_s()
        goal, robot, sleep = course.goal, self.robot, self._sleep
        try:
            if self.is_lockstep or not course.may_change:
                self._state = step_or_stay(
                    robot, goal.target, period_s, goal.gripper, is_lockstep=self.is_lockstep, sleep=sleep
                )
            else:
                self._state = step_with_revisions(robot, goal, period_s, course.revise, now=self._now, sleep=sleep)
        except RobotFault:
            with contextlib.suppress(RobotError):  # when it cannot even be read, the last state stands
                self._state = self.robot.state()
            return True
        if self._state.is_stale:
            raise RobotAway("the arm's readings are old: it has gone quiet behind its server")
        if not self.is_lockstep:
            self._rate.arrived()
        return False

    def _is_blind(self) -> bool:
        """Take new pictures; return whether there are none, with the arm told to stay where it is."""
        try:
            self.look()
        except CameraFault as fault:
            logger.error("the arm holds: %s", fault)
            self._hold()
            return True
        return False

    def _hold(self) -> None:
        with contextlib.suppress(RobotError):  # stopped already, or its watchdog will hold it
            self.robot.hold()

    def _is_classified(self, probability: float | None) -> bool | None:
        """Return whether the classifier calls this step a success; None if the reward is not its."""
        reward = self.task.config.reward
        if self.task.is_success is not None or reward.kind is not RewardKind.CLASSIFIER:
            return None
        assert self._vision is not None
        assert self._vision.success_threshold is not None
        low_m, high_m = reward.tcp_z_m or (-math.inf, math.inf)
        is_there = low_m <= self.state.tcp_pose[2] <= high_m
        return probability is not None and probability >= self._vision.success_threshold and is_there

    def _count(self, is_vote: bool) -> bool:
        """Return whether there have been enough votes for success in a row; a picture votes once."""
        if self._is_new_sight:
            self._votes = self._votes + 1 if is_vote else 0
        return self._votes >= self.task.config.reward.frames


def _check_vision(task: Task, vision: Vision | None) -> None:
    names = [camera.name for camera in task.config.observation.cameras]
    if names and vision is None:
        raise ConfigError(f"task {task.config.name!r} has the cameras {names}: give ArmEnv a vision that reads them")
    if task.config.reward.kind is RewardKind.CLASSIFIER and (vision is None or vision.success_threshold is None):
        raise ConfigError(
            f"RewardConfig.kind: task {task.config.name!r} asks for a classifier and there is none; train one with "
            "`serl classifier` and give it with --classifier"
        )
