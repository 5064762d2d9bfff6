"""A Franka hand that speaks libfranka's gripper protocol: franky-sim's server around a hand of a few lines.

python panda_hand_server.py HOST OBJECT_M: the fingers cannot close below OBJECT_M. Prints a line for each command.
"""

import sys
import time

from franky_sim.franka_gripper_protocol import GripperCommandStatus
from franky_sim.franka_gripper_server import FrankaGripperServer
from franky_sim.franka_server import BaseCommand

STEP_S = 0.001


def tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Hand:
    def __init__(self, object_m):
        self.hand_width = 0.06
        self._object_m, self._goal, self._speed = object_m, 0.06, 0.05

    def set_hand_goal(self, width, speed, force):
        tell(f"goal {width:.4f} {speed:.4f} {force:.1f}")
        self._goal, self._speed = width, speed

    def step(self, duration_s):
        most = self._speed * duration_s
        way = max(self._goal, self._object_m) - self.hand_width
        self.hand_width += max(-most, min(most, way))


class Server(FrankaGripperServer):
    """Answers a command that a stop ends with `aborted`, as the real hand does; franky-sim's leaves it unanswered."""

    def stop(self, command_id, tcp_socket):
        if self._pending_command_id is not None:
            BaseCommand.send_response(
                self._pending_tcp_socket,
                self._pending_command_type,
                self._pending_command_id,
                GripperCommandStatus.kAborted,
                command_type_struct="H",
                status_type_struct="H",
            )
        tell("stop")
        super().stop(command_id, tcp_socket)


def main(host, object_m):
    hand = Hand(float(object_m))
    server = Server(hand, host)
    server.init()
    tell("ready")
    last_s = time.monotonic()
    while True:
        server.process_commands()
        server.send_state()
        now_s = time.monotonic()
        hand.step(now_s - last_s)
        last_s = now_s
        time.sleep(STEP_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
