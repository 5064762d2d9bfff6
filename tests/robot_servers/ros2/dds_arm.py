"""An arm's nodes in a process of their own: publishes robot_state over DDS, and follows the target_pose it hears of.

Prints "ready", then one line of JSON: the DDS names of what it heard of, and the bytes of the first target. It ends
with its stdin.
"""

import json
import sys
import threading
import time

import dds_types as dds
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from robot_servers.arm_parts.kinematics_panda import REST_Q, hand_pose
from robot_servers.ros2 import names
from robot_servers.ros2.io import fill
from serl_core.geometry import matrix_to_pose

PERIOD_S = 0.005


def tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    participant = DomainParticipant(dds.DOMAIN)
    writer = DataWriter(
        participant, Topic(participant, dds.on_wire(names.ROBOT_STATE), dds.FrankaRobotState), dds.RELIABLE
    )
    reader = DataReader(participant, Topic(participant, dds.on_wire(names.TARGET_POSE), dds.PoseStamped), dds.RELIABLE)
    others = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
    rest = names.pose_stamped(tuple(matrix_to_pose(hand_pose(REST_Q)).tolist()))
    pose = fill(dds.PoseStamped(), rest, dds.KINDS.get).pose
    heard_of, is_told = {}, False
    tell("ready")
    is_ending = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_ending.set()), daemon=True).start()
    while not is_ending.wait(PERIOD_S):
        heard_of |= {each.topic_name: each.type_name for each in others.take(20)}
        targets = [each for each in reader.take(5) if isinstance(each, dds.PoseStamped)]  # else its writer has ended
        if targets and not is_told:
            is_told = True
            tell(json.dumps({"heard_of": heard_of, "target": targets[0].serialize().hex()}))
        for target in targets:
            pose = target.pose
        state = dds.FrankaRobotState(time=time.monotonic(), robot_mode=2, o_t_ee=dds.PoseStamped(pose=pose))
        joints = state.measured_joint_state
        joints.name = [f"fr3_joint{i}" for i in range(1, 8)]
        joints.position, joints.velocity = list(REST_Q), [0.0] * 7
        state.o_f_ext_hat_k.wrench.force.z = 2.0
        writer.write(state)


if __name__ == "__main__":
    main()
