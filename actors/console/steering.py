"""A person's commands on their way to the actor: at once, one by one, in the tool's axes and with their age."""

import time

import numpy as np

from actors.console.actor_feed import ActorFeed
from actors.console.browser_messages import Teleop
from actors.console.browsers import Browser
from actors.console.robot_feed import RobotFeed
from actors.console.steering_frames import Mountings, to_tool
from serl_core.clock import Clock
from serl_core.errors import ConfigError
from serl_core.operator.messages import TeleopInput


class Steering:
    """Forwards commands. When none comes any more it makes none up: the dead man's switch is the actor's.

    Args:
        actor: gets the commands.
        robot: says where the tool points.
        mountings: of the cameras.
    """

    def __init__(self, actor: ActorFeed, robot: RobotFeed, mountings: Mountings, clock: Clock = time.monotonic) -> None:
        self._actor = actor
        self._robot = robot
        self._mountings = mountings
        self._clock = clock
        # The actor takes only numbers that rise, also from a page or a console that was started anew.
        self._sequence = int(time.monotonic() * 1000)

    def forward(self, browser: Browser, command: Teleop, arrived_s: float) -> None:
        """Send one command on, unless it is out of order or cannot be understood.

        Args:
            browser: where it comes from.
            command: as it came.
            arrived_s: when, by this machine's monotonic clock.
        """
        age_s = browser.age.age_s(arrived_s, command.sent_ms / 1e3)
        if command.sequence <= browser.last_sequence:
            return
        browser.last_sequence = command.sequence
        try:
            twist = self._in_tool_axes(command)
        except ConfigError as error:
            browser.notice("warning", str(error))
            return  # the actor hears nothing, and holds the arm
        self._sequence += 1
        now_s = self._clock()
        teleop = TeleopInput(
            operator=browser.operator,
            sequence=self._sequence,
            age_ms=1e3 * (age_s + now_s - arrived_s),
            sent_s=now_s,
            twist=twist,
            gripper=command.gripper,
            engaged=command.engaged,
            hands_back=command.hands_back,
        )
        if not self._actor.send(teleop) and command.engaged:
            browser.notice("error", f"nobody takes the commands: {self._actor.why_not_sent()}")

    def _in_tool_axes(self, command: Teleop) -> tuple[float, float, float, float, float, float]:
        state = self._robot.newest.state
        tool = None if state is None else np.array(state.tcp_pose[3:])
        camera = command.camera if command.camera is not None else next(iter(self._mountings), "")
        twist = to_tool(np.array(command.twist), command.frame, tool, self._mountings.get(camera))
        x, y, z, rx, ry, rz = np.clip(twist, -1.0, 1.0).tolist()  # rounding must not make 1 more than 1
        return x, y, z, rx, ry, rz
