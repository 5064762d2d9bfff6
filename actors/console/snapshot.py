"""The state message: everything a browser shows of the present, ten times a second. What is missing is null."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from actors.console.picture_feed import PictureReading
from actors.console.robot_feed import RobotReading
from serl_core.operator.messages import RecordProgress, StepReport
from serl_core.robots.messages import Mode, RobotState

OLD_S = 1.0  # a reading of the robot: older than that, the page must not show it as the present
SHOWN = (
    "stamp_s",
    "tcp_pose",
    "tcp_twist",
    "tcp_wrench",
    "q",
    "gripper",
    "reference_pose",
    "fault",
    "lease_epoch",
    "is_stale",
)


class Sources(NamedTuple):
    """What the state is put together from."""

    robot: RobotReading
    actor_step: StepReport | None
    actor_age_s: float | None
    actor_problem: str | None
    learner_age_s: float | None
    cameras: Mapping[str, PictureReading]


def state_fields(sources: Sources, now_s: float, **more: Any) -> dict[str, Any]:
    """Return the fields of the state message.

    Args:
        sources: the newest of each feed.
        now_s: this machine's monotonic clock, as the readings have it.
        more: fields to pass on as they are.
    """
    reading = sources.robot
    age_s = now_s - reading.received_s if reading.state is not None else None
    is_fresh = age_s is not None and age_s < OLD_S
    robot = reading.state if is_fresh else None
    problem = None if is_fresh else reading.problem or f"the robot server has not answered for {age_s:.1f} s"
    return {
        "robot": None if robot is None else _shown(robot),
        "control": control(robot, sources.actor_step),
        "operator": None if sources.actor_step is None else sources.actor_step.operator,
        "ages": {
            "robot_s": _tenths(age_s),
            "actor_s": _tenths(sources.actor_age_s),
            "learner_s": _tenths(sources.learner_age_s),
            "cameras_s": {name: _camera_age(reading, now_s) for name, reading in sources.cameras.items()},
        },
        "missing": {
            "robot": problem,
            "actor": sources.actor_problem,
            "learner": "no learner has written to the run" if sources.learner_age_s is None else None,
            "cameras": {
                name: reading.problem for name, reading in sources.cameras.items() if reading.problem is not None
            },
        },
        **more,
    }


def control(robot: RobotState | None, step: StepReport | None) -> str | None:
    """Return who is in control: a latched robot goes before what the actor said last; None when nobody says."""
    if robot is not None and robot.mode is Mode.STOPPED:
        return "stopped"
    if robot is not None and robot.mode is Mode.FAULT:
        return "fault"
    return None if step is None else step.control.value


def _shown(robot: RobotState) -> dict[str, Any]:
    return {"mode": robot.mode.value, **{name: getattr(robot, name) for name in SHOWN}}


def _camera_age(reading: PictureReading, now_s: float) -> float | None:
    return None if reading.received_s is None else _tenths(now_s - reading.received_s)


def _tenths(age_s: float | None) -> float | None:
    return None if age_s is None else round(max(age_s, 0.0), 2)


def fields_of(message: StepReport | RecordProgress) -> dict[str, Any]:
    """Return what the actor said, without its kind: to a browser it has another one."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    del fields["kind"]
    return fields
