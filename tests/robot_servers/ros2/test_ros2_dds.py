"""The driver over real DDS on loopback: what it publishes and hears has the names, types and bytes of ROS 2.

Services and actions are answered in this process.
"""

import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import dds_types as dds
import fake_ros
import numpy as np
import pytest
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from robot_servers.backend import Reference
from robot_servers.limits import SafetyLimits
from robot_servers.ros2 import Ros2Backend, names
from robot_servers.ros2.io import fill

ARM = Path(__file__).with_name("dds_arm.py")


class DdsIo(fake_ros.FakeIo):
    """Topics over DDS, as rmw_cyclonedds has them; services and actions as the fake's."""

    def start(self):
        super().start()
        self._participant = DomainParticipant(dds.DOMAIN)
        self._writers, self._readers = {}, []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def stop(self):
        if self.is_started:
            super().stop()
            self._thread.join()
            self._writers, self._readers, self._participant = {}, [], None

    def subscribe(self, topic, on_message):
        self._readers.append((DataReader(self._participant, self._topic(topic), dds.SENSOR_DATA), on_message))

    def publish(self, topic, fields):
        if topic not in self._writers:
            self._writers[topic] = DataWriter(self._participant, self._topic(topic), dds.RELIABLE)
        self._writers[topic].write(fill(dds.KINDS[topic.kind](), fields, fake_ros.new))

    def _topic(self, topic):
        return Topic(self._participant, dds.on_wire(topic), dds.KINDS[topic.kind])

    def _listen(self):
        while self.is_started:
            for reader, on_message in list(self._readers):
                for message in reader.take(10):
                    if isinstance(message, IdlStruct):  # else its writer has ended
                        on_message(message)
            time.sleep(0.001)


@pytest.fixture(scope="module", autouse=True)
def loopback():
    before = os.environ.get("CYCLONEDDS_URI")
    os.environ["CYCLONEDDS_URI"] = dds.LOOPBACK_ONLY
    yield
    os.environ.pop("CYCLONEDDS_URI")
    if before is not None:
        os.environ["CYCLONEDDS_URI"] = before


@pytest.fixture(scope="module")
def arm(loopback):
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, str(ARM)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()
        assert process.wait(20.0) == 0


def cdr(*parts):
    """Return plain little-endian CDR: (format, value) in order, each aligned to its own size after the header."""
    body = b""
    for form, value in parts:
        if form == "string":
            text = value.encode() + b"\0"
            body += b"\0" * (-len(body) % 4) + struct.pack("<I", len(text)) + text
        else:
            body += b"\0" * (-len(body) % struct.calcsize(form)) + struct.pack(f"<{form}", value)
    return b"\x00\x01\x00\x00" + body


def test_a_target_pose_has_the_bytes_of_ros():
    target = fill(dds.PoseStamped(), names.pose_stamped((0.5, -0.1, 0.3, 1.0, 0.0, 0.0, 0.0)), fake_ros.new)
    numbers = [("d", value) for value in (0.5, -0.1, 0.3, 1.0, 0.0, 0.0, 0.0)]
    assert target.serialize() == cdr(("i", 0), ("I", 0), ("string", "base"), *numbers)


def test_a_wrench_and_a_posture_have_the_bytes_of_ros():
    wrench = fill(dds.WrenchStamped(), names.wrench_stamped((1.0, 2.0, 3.0, 4.0, 5.0, 6.0)), fake_ros.new)
    numbers = [("d", float(value)) for value in range(1, 7)]
    assert wrench.serialize() == cdr(("i", 0), ("I", 0), ("string", "base"), *numbers)
    posture = fill(dds.JointState(), names.joint_state(["j1"], (0.25,)), fake_ros.new)
    one, rest = (("I", 1), ("d", 0.25)), (("I", 1), ("d", 0.0))
    assert posture.serialize() == cdr(
        ("i", 0), ("I", 0), ("string", "base"), ("I", 1), ("string", "j1"), *one, *rest, *rest
    )  # fmt: skip


def test_the_driver_finds_the_arm_and_moves_it_by_the_names_and_types_of_ros(arm, monkeypatch):
    monkeypatch.setattr("robot_servers.ros2.backend.FIRST_STATE_S", 30.0)
    io = DdsIo()
    backend = Ros2Backend(io, SafetyLimits(), has_hand=False)
    ticks = []

    def servo(now_s, measured):
        ticks.append(measured)
        goal = ticks[0].position_m + np.array([0.0, 0.0, 0.02])
        return Reference(goal, ticks[0].quaternion)

    backend.start(servo)
    try:
        give_up_s = time.monotonic() + 30.0
        while not (ticks and ticks[-1].position_m[2] - ticks[0].position_m[2] > 0.0199):
            assert time.monotonic() < give_up_s, "the arm did not follow"
            time.sleep(0.01)
        state = backend.state()
    finally:
        backend.stop()
    told = json.loads(arm.stdout.readline())
    assert told["heard_of"]["rt/target_pose"] == "geometry_msgs::msg::dds_::PoseStamped_"
    assert told["heard_of"]["rt/target_wrench"] == "geometry_msgs::msg::dds_::WrenchStamped_"
    first = bytes.fromhex(told["target"])
    assert first[:21] == cdr(("i", 0), ("I", 0), ("string", "base"))
    assert len(first) == 4 + 24 + 7 * 8
    np.testing.assert_allclose(struct.unpack("<3d", first[28:52]), ticks[0].position_m, atol=0.02)
    assert state.tcp_wrench == (0.0, 0.0, -2.0, 0.0, 0.0, 0.0)
    assert state.q == pytest.approx((0.0, 0.0, 0.0, -1.9, 0.0, 1.9, np.pi / 4))
