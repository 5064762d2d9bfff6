"""franky-sim in a process of its own, at an address of 127.0.0.0/8, and the service of an arm there."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from robot_servers.franky import FrankyBackend
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.service import RobotService
from serl_core.robots.messages import ImpedanceCommand, LeaseRequest, PoseCommand

SERVER = Path(__file__).parents[1] / "franky_sim_server.py"
PATIENCE_S = 30.0


def until(condition, what="what is waited for"):
    """Wait for a condition, on a machine that may be slow."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, f"{what} did not come about in {PATIENCE_S:g} s"
        time.sleep(0.005)


class SimulatedArms:
    """A franky-sim process with one arm per address."""

    def __init__(self, count=1, addresses=None):
        draw = random.SystemRandom()  # another test run may use the next address
        self.addresses = addresses or [
            f"127.{draw.randint(1, 254)}.{draw.randint(1, 254)}.{i + 2}" for i in range(count)
        ]
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), *self.addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    @property
    def address(self):
        return self.addresses[0]

    def ask(self, what, argument=None, arm=0):
        self.process.stdin.write(json.dumps([what, arm, argument]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Served:
    """A started service, and a client's few calls to it."""

    def __init__(self, address, limits=None, gripper=None):
        self.backend = FrankyBackend(address, limits or SafetyLimits(), gripper=gripper, enforce_realtime=False)
        self.service = RobotService(self.backend, limits)
        self.service.start()
        self.epoch = self.service.lease(LeaseRequest(action="acquire", owner="test")).epoch
        self.home = self.service.state().tcp_pose

    def hold_lease(self):
        self.service.lease(LeaseRequest(action="renew", owner="test", epoch=self.epoch))

    def follow(self, dx=0.0, dy=0.0, dz=0.0, duration_s=1.0, home=None):
        """Command a pose at 20 Hz, and return the last state."""
        x, y, z, *turn = home or self.home
        end_s = time.monotonic() + duration_s
        state = None
        while time.monotonic() < end_s or state is None:
            try:
                state = self.service.pose(PoseCommand(epoch=self.epoch, pose=(x + dx, y + dy, z + dz, *turn)))
            except Refusal as refusal:
                if refusal.status != 503:  # of a machine that is busy
                    raise
            time.sleep(0.05)
        return state

    def until(self, condition, what="what is waited for"):
        """Wait, and keep the lease."""

        def renewed():
            self.hold_lease()
            return condition()

        until(renewed, what)

    def set_gains(self, params):
        """Ask for other gains, and wait until the arm has them."""
        self.service.impedance(ImpedanceCommand(epoch=self.epoch, params=params))
        self.until(lambda: self.backend._gains.params == params, "the gains")
