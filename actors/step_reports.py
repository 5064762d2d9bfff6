"""Tells the consoles what the actor does: each control step, each change of control, and a sign of life in between."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from actors.operator_desk import OperatorDesk
from serl_core.clock import Clock
from serl_core.envs.task import Task
from serl_core.errors import RobotError
from serl_core.operator.messages import Control, StepReport
from serl_core.robots.interface import Robot
from serl_core.robots.messages import RobotState
from serl_core.types import EndReason, Transition

AGAIN_S = 1.0  # while nothing changes
SMOOTHING = 0.1  # of the loop's rate: how much the newest period counts


class Watched(Protocol):
    """The arm that is reported. `ArmEnv` is one, and `actors.classifier_data.FrameRecorder`."""

    task: Task
    robot: Robot
    steps: int  # taken in this episode

    @property
    def state(self) -> RobotState:
        """The arm's state at the last step or reset."""

    @property
    def late_ticks(self) -> int:
        """How many control ticks came late since the start."""

    @property
    def success_threshold(self) -> float | None:
        """Of the classifier's probability; None without one."""


class StepReports:
    """Builds and sends the reports of one actor; nothing is built while no console is connected.

    Args:
        camera_age_s: by name, of the pictures that the actor has now.
    """

    def __init__(
        self,
        desk: OperatorDesk,
        env: Watched,
        session: str,
        *,
        camera_age_s: Callable[[], Mapping[str, float]] = dict,
        now: Clock = time.monotonic,
    ) -> None:
        self._desk = desk
        self._env = env
        self._session = session
        self._camera_age_s = camera_age_s
        self._now = now
        self._control: Control | None = None  # of the last report
        self._episode = -1
        self._policy_version = 0
        self._adopted_s: float | None = None  # when these weights were taken up; None without a learner
        self._told_s = 0.0
        self._last: RobotState | None = None  # the state of the last report
        self._stepped_s: float | None = None
        self._period_s = 0.0

    def step(self, transition: Transition, info: Mapping[str, Any], *, operator: str | None, may_veto: bool) -> None:
        """Report a control step."""
        self._count_period()
        if not self._desk.is_watched:
            return
        provenance = transition.provenance
        assert provenance is not None  # the actor's loop gives each one its own
        self._episode, self._policy_version = provenance.episode, provenance.policy_version
        self._tell(
            Control.HUMAN if transition.is_intervention else Control.POLICY,
            self._env.state,
            end=EndReason(int(transition.end)).name.lower(),
            reward=float(transition.reward),
            action=tuple(transition.action.tolist()),
            is_intervention=bool(transition.is_intervention),
            operator=operator,
            success_probability=info["success_probability"],
            may_veto=may_veto,
        )

    def frame(self, episode: int, *, operator: str | None) -> None:
        """Report a step that makes no transition: a person moves the arm while frames are recorded."""
        self._count_period()
        if self._desk.is_watched:
            self._episode = episode
            self._tell(Control.HUMAN, self._env.state, operator=operator)

    def has_adopted(self) -> None:
        """Take note that the policy has new weights."""
        self._adopted_s = self._now()

    def change(self, control: Control) -> None:
        """Report who has control now; again each second while that stays so. May ask the robot for its state."""
        self._stepped_s = None  # what passes now is no period of the loop
        if not self._desk.is_watched:
            return
        if control is self._control and self._now() - self._told_s < AGAIN_S:
            return
        try:
            state: RobotState | None = self._env.robot.state()
        except RobotError:  # it is away: the actor is still there, and says so
            state = self._last
        if state is not None:
            self._tell(control, state)

    def _tell(self, control: Control, state: RobotState, **of_step: Any) -> None:
        now_s = self._now()
        self._control, self._told_s, self._last = control, now_s, state
        nothing: dict[str, Any] = {
            "end": "running",
            "reward": 0.0,
            "action": (),
            "is_intervention": False,
            "operator": None,
        }
        self._desk.tell(
            StepReport(
                session=self._session,
                episode=self._episode,
                step=self._env.steps,
                stamp_s=state.stamp_s,
                control=control,
                success_threshold=self._env.success_threshold,
                policy_version=self._policy_version,
                policy_age_s=None if self._adopted_s is None else now_s - self._adopted_s,
                loop_hz=1.0 / self._period_s if self._period_s > 0 else 0.0,
                late_ticks=self._env.late_ticks,
                camera_age_s=dict(self._camera_age_s()),
                tcp_pose=state.tcp_pose,
                tcp_wrench=state.tcp_wrench,
                **(nothing | {"success_probability": None} | of_step),
            )
        )

    def _count_period(self) -> None:
        now_s = self._now()
        if self._stepped_s is not None:
            period_s = now_s - self._stepped_s
            self._period_s += (SMOOTHING if self._period_s else 1.0) * (period_s - self._period_s)
        self._stepped_s = now_s
