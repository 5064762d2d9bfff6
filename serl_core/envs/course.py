"""What one control step asks of the arm from its beginning to its end, while a human may change it."""

from collections.abc import Callable

import numpy as np

from serl_core.envs.resets import as_vector7
from serl_core.envs.set_point import Action, Pose, SetPoint, revised, set_point
from serl_core.envs.stepping import Goal
from serl_core.envs.task import Task

Revise = Callable[[], Action | None]
"""Asked while a step waits for its tick: another action from now on, or None to go on with the present one."""


class Course:
    """The action of one step, and what the arm was told of it.

    Attributes:
        asked: the action of the whole step; the very one that it began with, if that was not revised.
        set_point: what the arm was told of it last.
        is_action: it is finite; else the arm stays, and `asked` is nothing.
    """

    def __init__(self, task: Task, action: Action, measured: Pose, revise: Revise | None) -> None:
        self.asked = self._held = action
        self.may_change = revise is not None
        self._config = task.config
        self._spec = task.config.action.spec
        self._measured = measured
        self._revise = revise
        self.is_action = bool(np.isfinite(action).all())
        if self.is_action:
            self.set_point = set_point(action, measured, task.config)
        else:
            self.stay()

    @property
    def goal(self) -> Goal:
        """Return where the arm is to be now."""
        return Goal(as_vector7(self.set_point.target), self.set_point.gripper)

    def stay(self) -> None:
        """Ask for nothing: the arm is to stay where it was measured, the gripper as it is."""
        self.asked = np.zeros_like(self.asked)
        self.set_point = SetPoint(self._measured, None, self.asked)
        self.may_change = False

    def revise(self, left: float) -> Goal | None:
        """Return the goal with a new command for the fraction `left` of the step, if there is one."""
        command = None if self._revise is None else self._revise()
        if command is None or not np.isfinite(command).all():
            return None
        self.asked = revised(self._spec, self.asked, self._held, command, left)
        self._held = command
        self.set_point = set_point(self.asked, self._measured, self._config)
        return self.goal
