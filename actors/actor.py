"""The actor's loop: policy, human, arm, one transition per control step. The only place that builds a Transition."""

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.absence import Absence
from actors.correction import Correction, Interrupted
from actors.frames_to_review import FramesToReview
from actors.intervention import NEVER_S, arbitrate
from actors.operator_desk import OperatorDesk
from actors.step_reports import StepReports
from actors.teleop.interface import Teleop, TeleopCommand
from serl_core.data.frames import compress
from serl_core.envs.arm_env import ArmEnv
from serl_core.errors import CameraFault, DataError, RobotAway, RobotError, RobotFault
from serl_core.operator.messages import Control, Label
from serl_core.robots.messages import Mode
from serl_core.types import EndReason, Observation, Provenance, Transition

logger = logging.getLogger(__name__)

Act = Callable[[Observation], NDArray[np.float32]]
"""Observation -> action in [-1, 1]: a policy with its weights and its randomness inside."""

Corrected = tuple[int, float, float]
"""A corrected step: its number in the episode, and the tool's x and y after it, in m."""

MAX_CORRECTED = 1000  # that nobody has asked for yet
RECOVERY_POLL_S = 0.5
PAUSE_POLL_S = 0.02
LABELLED = {
    "success": (EndReason.SUCCESS, 1.0),
    "failure": (EndReason.FAILURE, 0.0),
    "discard": (EndReason.OPERATOR_STOP, 0.0),
}
NOT_LABELLED = (EndReason.ROBOT_FAULT, EndReason.OPERATOR_STOP, EndReason.CAMERA_FAULT)


class Verdict(NamedTuple):
    """What the reward classifier made of a step, and what the simulator did."""

    said: bool
    truth: bool


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
        review: gets what the classifier calls a success and the simulator does not, and where there is no
            simulator, every success.
        desk: asked before each step whether it may be taken, and after it for a label; nobody's if not given.
        reports: tells the consoles of each step.
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
        review: FramesToReview | None = None,
        desk: OperatorDesk | None = None,
        reports: StepReports | None = None,
    ) -> None:
        self.session = session
        self.policy_version = 0
        self.episode = -1  # the present one; counts up from 0
        self.sequence = 0  # of the next transition
        self.is_false_success = False  # the last step: a success for the classifier that the simulator denies
        self.veto_until_s: float | None = None  # the last step: a success that a person may veto until then
        self.idle: Callable[[], None] = lambda: None  # called again and again while no step can be taken
        self._desk = desk or OperatorDesk()
        self._reports = reports or StepReports(self._desk, env, session)
        self._env = env
        self._act = act
        self._teleop = teleop
        self._hold_s = hold_s
        self._sleep = sleep
        self._absence = Absence(env.robot, sleep=sleep)
        self._review = review
        self.verdicts: Counter[Verdict] = Counter()  # of the classifier, step by step, where the truth is known
        self._corrected: deque[Corrected] = deque(maxlen=MAX_CORRECTED)
        self._frame_format = env.task.config.observation.encoder.log_format
        self._observation: Observation | None = None  # None between episodes
        self._last_engaged_s = NEVER_S

    def step(self) -> Transition:
        """Reset if the last episode has ended, then take one control step.

        The human is read before the step and, in real time, every 10 ms until its tick: who takes over, or changes
        the command, need not wait for the next one. What is stored is then the mean over the step of what was asked
        for (`serl_core.envs.set_point.revised`), as an intervention if the human had control in any part of it.

        While an operator has paused it, it waits; a pause in mid-step ends the step at once, without a transition. So
        does a robot that gives no sign of life. After a robot fault or an operator's stop it waits until a
        person has recovered the robot; it never recovers it by itself. After a camera's fault it waits until
        there are new pictures.

        Raises:
            ResetError: the arm did not arrive at its start pose.
            RobotAway: the robot has been away for a minute.
        """
        while True:
            try:
                transition = self._step()
            except RobotAway as away:
                self.abandon_episode()  # what the arm did meanwhile nobody knows: no transition may span that
                self._absence.wait(away, self._wait_for_robot)
            else:
                self._absence.is_over()
                return transition

    def _wait_for_robot(self) -> None:
        self.show(Control.WAITING)
        self.idle()

    def _step(self) -> Transition:
        while True:
            self._wait_while_paused()
            observation = self._begin_episode() if self._observation is None else self._observation
            action, command = self._act(observation), self._teleop.read()
            if self._desk.is_paused:  # just now, or because the person at the controls was lost
                continue
            if command.is_lost:
                self._wait_for_device()
                continue
            self._observation = observation  # from here on a pause has an arm to hold
            correction = self._arbitrate(action, command)
            try:
                _, reward, _, _, info = self._env.step(correction.choice.action, correction.revise)
            except Interrupted:
                self._hold()
                continue
            break
        self._last_engaged_s = correction.choice.last_engaged_s
        label = self._desk.take_label() if info["end"] not in NOT_LABELLED else None
        end, reward = (info["end"], reward) if label is None else LABELLED[label.label]
        next_observation = self._see()
        transition = Transition(
            observation=observation,
            # What was asked for, not `info["executed_action"]`: the safety clip belongs to the
            # environment, so the value of asking for too much is the value of what the clip made of it.
            action=info["action"].astype(np.float32),
            reward=reward,
            discount=0.0 if end.is_terminal else 1.0,
            next_observation=next_observation,
            is_intervention=correction.is_intervention,
            end=end,
            provenance=Provenance(
                self.session, self.sequence, self.episode, self.policy_version, self._env.state.stamp_s
            ),
        )
        self.sequence += 1
        if transition.is_intervention:
            x_m, y_m, *_ = self._env.state.tcp_pose
            self._corrected.append((self._env.steps, round(x_m, 4), round(y_m, 4)))
        self._observation = next_observation if end is EndReason.RUNNING else None
        self._compare(info)
        self._tell(transition, info, label)
        if end in (EndReason.ROBOT_FAULT, EndReason.OPERATOR_STOP):
            cause = f"{label.label} of {label.operator}" if label is not None else self._env.state.fault
            logger.error("episode %d ended by %s (%s)", self.episode, end.name.lower(), cause or "no cause given")
        return transition

    def _arbitrate(self, action: NDArray[np.float32], command: TeleopCommand) -> Correction:
        now_s, hold_s = self._env.state.stamp_s, self._hold_s
        choice = arbitrate(action, command, now_s, self._last_engaged_s, hold_s)
        return Correction(
            self._teleop, action, choice, now_s=now_s, hold_s=hold_s, is_paused=lambda: self._desk.is_paused
        )

    def show(self, control: Control) -> None:
        """Tell the consoles who has control while no step is taken; call it as often as you like."""
        self._reports.change(control)

    def has_adopted(self, version: int) -> None:
        """Take note that `act` has got the weights of this version."""
        self.policy_version = version
        self._reports.has_adopted()

    def abandon_episode(self) -> None:
        """Begin a new episode at the next step; the present one keeps its transitions, and no end."""
        self._observation = None
        self._desk.end_episode()

    @property
    def late_ticks(self) -> int:
        """How many control ticks came late since the start."""
        return self._env.late_ticks

    @property
    def alarms(self) -> dict[str, int]:
        """How often what was sensed could not be believed, or the robot was away, since the start."""
        watch = self._env.watch
        return {
            "steps_of_two_moments": watch.apart,
            "judgements_not_finite": watch.not_finite,
            "robot_absences": self._absence.count,
        }

    def take_corrected(self) -> list[Corrected]:
        """Return which steps a person has corrected since the last call, the newest of them."""
        corrected = list(self._corrected)
        self._corrected.clear()
        return corrected

    def take_lateness_s(self) -> list[float]:
        """Return how late each control tick since the last call came; nothing in lockstep."""
        return self._env.take_lateness_s()

    def _tell(self, transition: Transition, info: dict[str, Any], label: Label | None) -> None:
        """Tell the consoles of a step, and let people veto a success that no person has given."""
        self.veto_until_s = None
        if transition.end is not EndReason.RUNNING:
            self._desk.end_episode()
        is_success = transition.end is EndReason.SUCCESS and label is None
        may_be_wrong = info["is_classified"] is not None or not self._env.is_lockstep  # in lockstep it costs time
        if is_success and may_be_wrong and self._desk.is_watched:
            self.veto_until_s = self._desk.claim_success(self.session, self.episode)
        operator = self._desk.operator if transition.is_intervention else None
        self._reports.step(transition, info, operator=operator, may_veto=self.veto_until_s is not None)

    def _wait_while_paused(self) -> None:
        if not self._desk.is_paused:
            return
        self._hold()
        while self._desk.is_paused:
            self.show(Control.WAITING if self._desk.awaits_person else Control.PAUSED)
            self._rest(PAUSE_POLL_S)

    def _wait_for_device(self) -> None:
        self._hold()
        while self._teleop.read().is_lost:
            self.show(Control.WAITING)
            self._rest(PAUSE_POLL_S)

    def _hold(self) -> None:
        if self._observation is not None:
            with contextlib.suppress(RobotError):  # stopped already, or its watchdog will hold it
                self._env.robot.hold()
        self.abandon_episode()  # the arm stands still meanwhile: no transition may span that

    def _rest(self, duration_s: float) -> None:
        self.idle()
        self._sleep(duration_s)

    def _begin_episode(self) -> Observation:
        while True:
            self.show(Control.RESET)
            try:
                self._env.reset()
            except RobotFault as fault:
                self._wait_for_recovery(fault)
            except CameraFault as fault:
                self._wait_for_sight(fault)
            else:
                self.episode += 1
                if self._review is not None:
                    self._review.begin_episode()
                self._desk.begin_episode(self.session, self.episode)
                self._last_engaged_s = NEVER_S
                return self._see()

    def _compare(self, info: dict[str, Any]) -> None:
        """Count how the classifier's judgement of a step compares with the truth; keep what a person should see."""
        said, truth = info["is_classified"], info["truth"]
        self.is_false_success = False
        if said is None:
            return
        if truth is not None:
            self.verdicts[Verdict(said, truth)] += 1
        if self._review is not None:
            self._review.see(self._env.observation.images, self._env.state, info["success_probability"])
        if info["end"] is not EndReason.SUCCESS:
            return
        if not truth:
            self.is_false_success = truth is not None
            self._keep_for_review(is_success=truth is None)
        elif self._review is not None:
            self._review.claim()

    def _keep_for_review(self, *, is_success: bool) -> None:
        if self._review is None:
            return
        what = "the classifier ended an episode" if is_success else "the classifier called a success what is none"
        try:
            path = self._review.keep(is_success=is_success)
        except DataError as error:  # a full disk must cost no transition
            logger.error("%s; its frames are not kept for review: %s", what, error)
        else:
            logger.log(logging.INFO if is_success else logging.WARNING, "%s; its frames are in %s", what, path)

    def _see(self) -> Observation:
        """Return the observation with its images as they travel: features for learning, compressed for the log."""
        observation = self._env.observation
        if not observation.images:
            return observation
        return observation._replace(images={}, frames=compress(observation.images, self._frame_format))

    def _wait_for_sight(self, fault: CameraFault) -> None:
        logger.error("%s; waiting", fault)
        while True:
            self.show(Control.WAITING)
            self._rest(RECOVERY_POLL_S)
            with contextlib.suppress(CameraFault):
                self._env.look()
                break
        logger.info("the cameras are back")

    def _wait_for_recovery(self, fault: RobotFault) -> None:
        logger.error("the robot is stopped or in a fault (%s): look at it, then recover it; waiting", fault)
        mode = self._env.robot.state().mode
        while True:
            self.show(Control.STOPPED if mode is Mode.STOPPED else Control.FAULT)
            self._rest(RECOVERY_POLL_S)
            mode = self._env.robot.state().mode
            if mode not in (Mode.STOPPED, Mode.FAULT):
                break
        logger.info("the robot is ready again")


def named(verdicts: Mapping[Verdict, int]) -> dict[str, int]:
    """Return the counts of a confusion matrix by name; empty when nothing was judged."""
    names = {
        "true_positive": Verdict(True, True),
        "false_positive": Verdict(True, False),
        "false_negative": Verdict(False, True),
        "true_negative": Verdict(False, False),
    }
    return {name: verdicts.get(verdict, 0) for name, verdict in names.items()} if verdicts else {}
