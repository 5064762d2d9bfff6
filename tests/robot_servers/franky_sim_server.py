"""franky-sim with what tests need besides: an external wrench, a reflex, and a log of what the arms really did.

A program: `python franky_sim_server.py ADDRESS...` serves one arm at each address, prints a line when it is up,
and answers each line of JSON on stdin, `[what, arm, argument]`, with one on stdout. Times are of the monotonic clock,
which is one for all processes of a machine.
"""

import collections
import json
import queue
import sys
import threading
import time

import mujoco
import numpy as np
from franky_sim import franka_robot_server, simulation_server
from franky_sim.franka_gripper_protocol import GripperCommandStatus
from franky_sim.franka_gripper_server import FrankaGripperServer
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryCommand,
    MoveStatus,
    RobotCommand,
    RobotMode,
    SetCollisionBehaviorCommand,
)
from franky_sim.franka_robot_server import FrankaRobotServer
from franky_sim.franka_server import BaseCommand
from franky_sim.mujoco_simulator import MujocoSimulator

KEPT_STEPS = 4000
TOOL_M = np.array((0.0, 0.0, 0.1034))  # in the hand's frame
CARTESIAN_REFLEX = 7  # its place among libfranka's errors


class TestedServer(FrankaRobotServer):
    """One arm's server, whose state can be tampered with."""

    def __init__(self, *args):
        super().__init__(*args)
        self.wrench = (0.0,) * 6  # that the world exerts on the robot, base frame, at the tool
        self.in_reflex = False
        self.recoveries = 0
        self.thresholds = None  # of torque, then of force
        self.log = collections.deque(maxlen=KEPT_STEPS)

    @property
    def robot_state(self):
        state = super().robot_state.replace(O_F_ext_hat_K=tuple(-value for value in self.wrench))
        if self.in_reflex:
            errors = tuple(i == CARTESIAN_REFLEX for i in range(41))
            state = state.replace(robot_mode=RobotMode.kReflex, errors=errors, reflex_reason=errors)
        return state

    def reflex(self):
        """Do what the arm does in a reflex: end the motion with an error, and stay there."""
        motion = self.current_motion_id
        self.in_reflex = True
        self.stop_motion(send_preemption_signal=False)
        if motion:
            BaseCommand.send_response(self._tcp_socket, RobotCommand.kMove, motion, MoveStatus.kReflexAborted)
            self.reset_current_motion_id()

    def home(self):
        """Put the arm where it began, at rest and untouched; nobody may be connected."""
        robot = self.robot
        for place, angle in zip(robot._qpos_addrs, robot.initial_q, strict=True):
            robot.data.qpos[place] = angle
        for place in robot._dof_addrs:
            robot.data.qvel[place] = 0.0
        self.wrench, self.in_reflex = (0.0,) * 6, False
        self._reset_state()

    def recover(self):
        self.in_reflex = False
        self.recoveries += 1

    def start_motion(self, *args):
        if self.in_reflex:
            raise RuntimeError("in a reflex")
        super().start_motion(*args)


class TestedHand(FrankaGripperServer):
    """A hand that answers a command which was stopped, as the real one does; franky-sim forgets it."""

    def stop(self, command_id, tcp_socket):
        pending, kind = self._pending_command_id, self._pending_command_type
        super().stop(command_id, tcp_socket)
        if pending is not None:
            status = GripperCommandStatus.kAborted
            BaseCommand.send_response(
                tcp_socket, kind, pending, status, command_type_struct="H", status_type_struct="H"
            )


def log_step(server, simulator, index):
    """Push the arm with the injected wrench, and note what it does: the physics, and not what the state says."""
    data, model = simulator.data, simulator.model
    hand = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, f"robot{index}_hand")
    data.xfrc_applied[hand] = server.wrench
    tool = data.xpos[hand] + data.xmat[hand].reshape(3, 3) @ TOOL_M
    inner = server.robot.inner_state
    torque = server.robot_state.tau_J_d
    server.log.append((time.monotonic(), tool.tolist(), list(inner.q), list(inner.dq), list(torque)))


def answer(what, server, argument):
    if what == "wrench":
        server.wrench = tuple(argument)
    elif what == "reflex":
        server.reflex()
    elif what == "home":
        server.home()
    elif what == "recoveries":
        return server.recoveries
    elif what == "thresholds":
        return server.thresholds
    elif what == "load":
        return server.robot.m_load
    elif what == "finger_width":
        return server.robot.hand_width
    elif what == "moving":
        return server.current_motion_id
    elif what == "log":
        return [entry for entry in list(server.log) if entry[0] >= argument]
    else:
        raise ValueError(what)
    return None


def main():
    simulation_server.FrankaRobotServer = TestedServer
    franka_robot_server.FrankaGripperServer = TestedHand
    recovered, set_thresholds = AutomaticErrorRecoveryCommand.handle, SetCollisionBehaviorCommand.handle

    def recover(command, server):
        server.recover()
        recovered(command, server)

    def note_thresholds(command, server):
        server.thresholds = [command.upper_torque_thresholds_nominal, command.upper_force_thresholds_nominal]
        set_thresholds(command, server)

    AutomaticErrorRecoveryCommand.handle, SetCollisionBehaviorCommand.handle = recover, note_thresholds
    addresses = sys.argv[1:]
    lines = queue.SimpleQueue()
    with MujocoSimulator() as simulator:
        for index in range(len(addresses)):
            simulator.add_robot(position=(0.0, 2.0 * index, 0.0))
        with simulation_server.SimulationServer(simulator, hostname_candidates=addresses) as server:

            def read():
                for line in sys.stdin:
                    lines.put(line)
                lines.put(None)  # whoever started this is gone

            threading.Thread(target=read, daemon=True).start()
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            while True:
                server.run_once()
                for index, robot in enumerate(server.robot_servers):
                    log_step(robot, simulator, index)
                while not lines.empty():
                    line = lines.get()
                    if line is None:
                        return
                    what, index, argument = json.loads(line)
                    sys.stdout.write(json.dumps(answer(what, server.robot_servers[index], argument)) + "\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
