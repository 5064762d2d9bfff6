"""Demonstrations by a person, who may throw one away while it is recorded."""

import time
from collections.abc import Callable

from actors.actor import Act, ActorLoop
from actors.frames_to_review import FramesToReview
from actors.operator_desk import OperatorDesk
from actors.step_reports import StepReports
from actors.teleop.interface import Teleop, TeleopCommand
from serl_core.envs.arm_env import ArmEnv
from serl_core.types import EndReason, Transition


class DiscardingLoop(ActorLoop):
    """An `ActorLoop` whose episode ends as stopped by the operator when the person hands back: to no policy."""

    def __init__(
        self,
        env: ArmEnv,
        act: Act,
        teleop: Teleop,
        *,
        session: str,
        sleep: Callable[[float], None] = time.sleep,
        review: FramesToReview | None = None,
        desk: OperatorDesk | None = None,
        reports: StepReports | None = None,
    ) -> None:
        self._device = HandBack(teleop)
        super().__init__(
            env, act, self._device, session=session, sleep=sleep, review=review, desk=desk, reports=reports
        )

    def step(self) -> Transition:
        """Take one control step."""
        self._device.take()  # what was pressed before, as in a pause, was not meant for this step
        transition = super().step()
        if not self._device.take():
            return transition
        self.abandon_episode()
        return transition._replace(end=EndReason.OPERATOR_STOP, reward=0.0, discount=1.0)


class HandBack:
    """A device that remembers whether a command began to hand back: it may be read many times in a step."""

    def __init__(self, teleop: Teleop) -> None:
        self._teleop = teleop
        self._hands_back = False
        self._is_new = False

    def open(self) -> None:
        """Start reading the device."""
        self._teleop.open()

    def read(self) -> TeleopCommand:
        """Return the newest command, without blocking."""
        command = self._teleop.read()
        self._is_new = self._is_new or (command.hands_back and not self._hands_back)
        self._hands_back = command.hands_back
        return command

    def take(self) -> bool:
        """Return whether one has since this was asked last."""
        is_new, self._is_new = self._is_new, False
        return is_new

    def close(self) -> None:
        """Stop reading."""
        self._teleop.close()
