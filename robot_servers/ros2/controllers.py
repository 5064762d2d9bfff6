"""What the driver asks of the arm's nodes while it waits: thresholds, the law, gains, and which controller runs."""

from typing import Any

from robot_servers.limits import SafetyLimits
from robot_servers.ros2 import names
from robot_servers.ros2.io import Fields, RosIo, Service, ask
from robot_servers.ros2.state import NOT_CONTROLLED, USER_STOPPED
from serl_core.errors import RobotError
from serl_core.robots.messages import ImpedanceParams

SERVICE_S = 3.0


def check_free(trouble: str | None) -> None:
    """Refuse an arm that is stopped, in a reflex, or not to be controlled.

    Raises:
        RobotError: with the remedy.
    """
    if trouble not in (None, USER_STOPPED, NOT_CONTROLLED):
        raise RobotError(
            "the arm is in a reflex; look at it, clear it (ros2 action send_goal "
            f"{names.ERROR_RECOVERY.name} {names.ERROR_RECOVERY.kind} '{{}}'), and start again"
        )
    if trouble == USER_STOPPED:
        raise RobotError("the arm is stopped by its user stop or enabling device; release that, and start again")
    if trouble is not None:
        raise RobotError("the arm cannot be controlled; unlock its joints and activate FCI in Desk")


def prepare(io: RosIo, limits: SafetyLimits, params: ImpedanceParams) -> None:
    """Set the arm's thresholds, then the law and its gains: no controller runs afterwards.

    Raises:
        RobotError: a node is not there or refuses, with the remedy.
    """
    # The arm takes thresholds only while nothing commands it.
    switch(io, [], [names.CARTESIAN_CONTROLLER, names.TRAJECTORY_CONTROLLER], names.BEST_EFFORT)
    torque, force = list(limits.collision_torque_nm), list(limits.collision_force_n)
    thresholds = {
        f"{side}_{what}_thresholds_nominal": values
        for side in ("lower", "upper")
        for what, values in (("torque", torque), ("force", force))
    }
    request(io, names.SET_COLLISION, thresholds, "the collision thresholds")
    values = {**names.LAW, **names.gains(params)}
    reply = ask(io, names.SET_PARAMETERS, names.parameters(values), SERVICE_S)
    refused = [name for name, result in zip(values, reply.results, strict=True) if not result.successful]
    if refused:
        raise RobotError(
            f"{names.CARTESIAN_CONTROLLER} refused the parameters {', '.join(refused)}; the driver knows "
            "crisp_controllers by the names in robot_servers/ros2/names.py"
        )


def activate(io: RosIo, restart: list[str]) -> None:
    """Switch to the Cartesian controller, whichever ran: it takes the pose at which it starts for its target.

    Best effort: what is so already is no error.

    Raises:
        RobotError: the controller does not start.
    """
    if restart:
        switch(io, [], restart, names.BEST_EFFORT)
    switch(io, [names.CARTESIAN_CONTROLLER], [names.TRAJECTORY_CONTROLLER], names.BEST_EFFORT)


def switch(io: RosIo, on: list[str], off: list[str], strictness: int = names.STRICT) -> None:
    """Switch controllers.

    Raises:
        RobotError: it did not happen.
    """
    reply = ask(io, names.SWITCH_CONTROLLER, names.switch(on, off, strictness), SERVICE_S)
    if not reply.ok:
        raise RobotError(
            f"controller_manager did not switch to {on or 'no controller'}; load and configure "
            f"{names.CARTESIAN_CONTROLLER} and {names.TRAJECTORY_CONTROLLER} (ros2 control list_controllers)"
        )


def request(io: RosIo, service: Service, fields: Fields, what: str) -> None:
    """Ask something of the arm itself.

    Raises:
        RobotError: it refuses.
    """
    reply: Any = ask(io, service, fields, SERVICE_S)
    if not reply.success:
        raise RobotError(f"{service.name} refused {what}: {reply.error or 'it gives no reason'}")
