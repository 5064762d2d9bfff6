"""Collects labelled frames for a reward classifier: each episode's are on the disk as soon as it ends."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from actors.absence import Absence
from actors.classifier_script import anywhere, near_miss_script, near_start, roaming_script, success_script
from actors.teleop.interface import Teleop
from serl_core.clock import Rate
from serl_core.data.episode_file import SUFFIX
from serl_core.data.labelled_frames import LabelledFrames, save_labelled
from serl_core.envs.frames import action_to_target
from serl_core.envs.resets import as_vector7, random_start, reset_arm
from serl_core.envs.safety import clip_target
from serl_core.envs.stepping import UNPROCESSABLE, step_or_stay
from serl_core.envs.task import Task
from serl_core.envs.vision import Vision
from serl_core.errors import CameraFault, ConfigError, DataError, RobotAway, RobotError, SerlError
from serl_core.robots.interface import Robot
from serl_core.robots.messages import RobotState, Vector7

logger = logging.getLogger(__name__)

Pose = Float[np.ndarray, "7"]
Now = Callable[[], RobotState]
Label = Callable[[RobotState], bool | None]
"""Says of the step that led to this state: success, no success, or None to leave its frame out."""

LET_GO_S = 3.0  # from the announcement that the arm will move until it does
MAX_EPISODES_IN_VAIN = 20
START_TRIES = 5
SIGHT_S, SIGHT_POLL_S = 10.0, 0.1  # a lost camera is tried again every 5 s
ROAMING = 0.5  # of the episodes that collect negative frames
STEM = "frames-"


class Wanted(NamedTuple):
    """How many frames of a kind are enough; there may be a few more."""

    positives: int = 200
    negatives: int = 1000


class FrameRecorder:
    """One arm with its cameras, and someone who labels.

    Args:
        robot: connected.
        vision: open.
        label: of each step.
        is_lockstep: the robot's clock is simulated.
        reaction_steps: how late a label may be: negative frames so shortly before a success, or before the end,
            are left out. 0 for a label that knows at once.
        begin_label: called before the first step of each episode, for a label that remembers.
    """

    def __init__(
        self,
        task: Task,
        robot: Robot,
        vision: Vision,
        label: Label,
        *,
        is_lockstep: bool,
        reaction_steps: int = 0,
        begin_label: Callable[[], None] | None = None,
        rate: Rate | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.task = task
        self.robot = robot
        self.steps = 0  # taken in this episode
        self.success_threshold: float | None = None  # nobody judges here but the person
        self._vision = vision
        self._label = label
        self._is_lockstep = is_lockstep
        self._reaction_steps = reaction_steps
        self._begin_label = begin_label
        self._rate = rate or Rate(task.config.control_hz)
        self._sleep = sleep
        self._state = robot.state()

    def now(self) -> RobotState:
        """Return the arm's state after the last step."""
        return self._state

    @property
    def state(self) -> RobotState:
        """The arm's state after the last step."""
        return self._state

    @property
    def late_ticks(self) -> int:
        """How many control ticks came late since the start; always 0 in lockstep."""
        return self._rate.late

    def hold(self) -> None:
        """Have the arm stay where it is measured, at once."""
        self.robot.hold()
        self._state = self.robot.state()

    def await_sight(self) -> None:
        """Wait until the cameras see: those at a robot that was away need a moment.

        Raises:
            CameraFault: they do not within `SIGHT_S`.
        """
        for _ in range(round(SIGHT_S / SIGHT_POLL_S)):
            with contextlib.suppress(CameraFault):
                self._vision.look()
                return
            self._sleep(SIGHT_POLL_S)
        self._vision.look()

    def go_to(self, start: Pose, *, seed: int | None = None) -> None:
        """Bring the arm to a start pose; see `reset_arm`."""
        self._state = reset_arm(self.robot, self.task.config, start, seed=seed)

    def put_at(self, pose: Pose, *, seed: int | None = None) -> bool:
        """Put a simulated arm at `pose` at once; return False, with the arm where it was, if that is not free."""
        self.robot.set_impedance(self.task.config.compliance)
        try:
            self._state = self.robot.sim_reset(seed=seed, pose=as_vector7(clip_target(pose, self.task.config.box)))
        except RobotError as error:
            if error.status != UNPROCESSABLE:
                raise
            return False
        return True

    def run(self, targets: Iterator[Pose]) -> LabelledFrames | None:
        """Follow `targets`, a step each; return the labelled frames, None if no label can be trusted.

        A target that the robot refuses makes the arm stay where it is, as `ArmEnv` does, and recording goes on.

        Raises:
            RobotAway: the robot does not answer, or its readings are old: no frame of this episode is kept.
        """
        images: list[dict[str, UInt8[np.ndarray, "h w 3"]]] = []
        labels, steps, poses = [], [], []
        self.steps = 0
        if self._begin_label is not None:
            self._begin_label()
        self._rate.restart()
        for step, target in enumerate(targets):
            self._state = self._send(as_vector7(clip_target(target, self.task.config.box)))
            if self._state.is_stale:
                raise RobotAway("the arm's readings are old: it has gone quiet behind its server")
            self.steps = step + 1
            sight, label = self._vision.look(), self._label(self._state)
            if label is None:
                continue
            images.append(sight.images)
            labels.append(label)
            steps.append(step)
            poses.append(self._state.tcp_pose)
        if not images:
            return None
        frames = LabelledFrames(
            task=self.task.config.name,
            images={name: np.stack([image[name] for image in images]) for name in images[0]},
            is_success=np.array(labels),
            step=np.array(steps),
            tcp_pose=np.array(poses),
            origins=self.task.config.observation.image_origins,
        )
        keep = trusted(frames.is_success, frames.step, self._reaction_steps, end_step=self.steps)
        return frames.select(keep) if keep.any() else None

    def _send(self, target: Vector7) -> RobotState:
        reply_after_s = 1.0 / self.task.config.control_hz if self._is_lockstep else self._rate.remaining_s()
        return step_or_stay(self.robot, target, reply_after_s, is_lockstep=self._is_lockstep, sleep=self._sleep)


def trusted(
    is_success: NDArray[np.bool_], step: NDArray[np.int64], reaction_steps: int, *, end_step: int
) -> NDArray[np.bool_]:
    """Return which labels to keep: not the negative ones up to `reaction_steps` before a positive one or the end.

    Args:
        end_step: the first step that was not taken any more; a key pressed there would have been too late.
    """
    moments = np.append(step[is_success], end_step)
    ahead = moments[np.newaxis, :] - step[:, np.newaxis]
    return is_success | ~((ahead > 0) & (ahead <= reaction_steps)).any(axis=1)


Episode = Callable[[bool], LabelledFrames | None]
"""Runs an episode, given whether it should end in success."""


def surviving(episode: Episode, recorder: FrameRecorder, absence: Absence) -> Episode:
    """Return `episode`, begun anew each time that the robot was away on its way.

    Args:
        absence: of the recorder's robot; it raises RobotAway when that stays away.
    """

    def again(wants_success: bool) -> LabelledFrames | None:
        while True:
            try:
                frames = episode(wants_success)
            except RobotAway as away:
                absence.wait(away)
                recorder.await_sight()
            else:
                absence.is_over()
                return frames

    return again


def record_frames(
    episode: Episode, wanted: Wanted, folder: Path, *, saved: Callable[[Wanted], None] = lambda _: None
) -> Wanted:
    """Run episodes until there are enough frames of both kinds in `folder`; return how many were added.

    Args:
        saved: told at the start and after each episode how many there are.

    Raises:
        ConfigError: none are wanted of one kind.
        DataError: `folder` cannot be written, or someone else records into it.
        SerlError: twenty episodes in a row brought nothing of the kind that is missing; those saved stay.
    """
    if min(wanted) < 1:
        raise ConfigError(f"frames to record: at least 1 of each kind, got {wanted}")
    count, in_vain, number = Wanted(0, 0), 0, next_number(folder, STEM)
    saved(count)
    while count.positives < wanted.positives or count.negatives < wanted.negatives:
        wants_success = count.positives * wanted.negatives <= count.negatives * wanted.positives
        frames = episode(wants_success and count.positives < wanted.positives)
        positives = 0 if frames is None else int(frames.is_success.sum())
        negatives = 0 if frames is None else frames.is_success.size - positives
        if frames is not None:
            _save_new(folder / f"{STEM}{number:04d}{SUFFIX}", frames)
            number += 1
        is_helpful = (positives and count.positives < wanted.positives) or (
            negatives and count.negatives < wanted.negatives
        )
        in_vain = 0 if is_helpful else in_vain + 1
        count = Wanted(count.positives + positives, count.negatives + negatives)
        saved(count)
        logger.info("%d positive and %d negative frames", *count)
        if in_vain == MAX_EPISODES_IN_VAIN:
            raise SerlError(
                f"{in_vain} episodes in a row brought no frame of the kind that is missing; {count.positives} positive "
                f"and {count.negatives} negative ones are saved in {folder}. Look at the scene and the labels"
            )
    return count


def truth_label(state: RobotState) -> bool:
    """Label by the simulator's truth. Raises ConfigError on a robot that has none."""
    if state.truth is None:
        raise ConfigError("label: this robot is not simulated and knows no truth; label by key or button")
    return state.truth.is_success


def scripted_episode(task: Task, recorder: FrameRecorder, *, seed: int) -> Episode:
    """Return episodes of the scripted human in simulation, put at their starts at once."""
    random = np.random.default_rng(seed)
    scene_seed: int | None = seed

    def episode(wants_success: bool) -> LabelledFrames | None:
        nonlocal scene_seed
        is_roaming = not wants_success and random.random() < ROAMING
        start = anywhere if is_roaming else near_start
        for _ in range(START_TRIES):
            if recorder.put_at(start(task, random), seed=scene_seed):
                break
        else:
            recorder.go_to(random_start(task.config.reset, random), seed=scene_seed)
        scene_seed = None
        script = success_script if wants_success else roaming_script if is_roaming else near_miss_script
        return recorder.run(script(task, recorder.now, random))

    return episode


def handled_episode(
    task: Task,
    recorder: FrameRecorder,
    *,
    seed: int,
    teleop: Teleop | None = None,
    held: str | None = "the space bar",
    say: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> Episode:
    """Return episodes of a person at a device, or without one of a person who moves the compliant arm by hand.

    Args:
        held: what the person holds down while the task is done; None if another labels.
        say: tells the person `LET_GO_S` before the arm moves by itself, and when it yields.
        sleep: waits in between; the arm holds meanwhile.
    """
    random = np.random.default_rng(seed)

    def episode(_: bool) -> LabelledFrames | None:
        say(f"Let go: the arm moves to its start pose by itself in {LET_GO_S:.0f} s.")
        sleep(LET_GO_S)
        recorder.go_to(random_start(task.config.reset, random))
        seconds = task.config.time_limit_steps / task.config.control_hz
        also = f", and hold {held} while the task is done" if held else ""
        say(f"The arm yields for {seconds:.0f} s: move it{also}.")
        return recorder.run(targets_by_person(task, recorder.now, teleop))

    return episode


def targets_by_person(task: Task, now: Now, teleop: Teleop | None) -> Iterator[Pose]:
    """Yield the targets of an episode: where a person at a device wants the tool, or where it is moved by hand.

    Args:
        now: returns the arm's state after the last target.
    """
    for _ in range(task.config.time_limit_steps):
        measured = np.array(now().tcp_pose)
        if teleop is None:
            yield measured
        else:
            twist = task.config.action.spec.split(teleop.read().action)["twist"].astype(np.float64)
            yield action_to_target(np.clip(twist, -1.0, 1.0), measured, task.config.action)


def _save_new(path: Path, frames: LabelledFrames) -> None:
    if path.exists():
        raise DataError(f"{path} is there already: another recorder uses this folder, choose one of your own")
    save_labelled(path, frames)


def next_number(folder: Path, stem: str) -> int:
    """Return the number after the highest that a file of this stem has in `folder`; 0 for the first."""
    numbers = [path.name.removeprefix(stem).removesuffix(SUFFIX) for path in folder.glob(f"{stem}*{SUFFIX}")]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1
