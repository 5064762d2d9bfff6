"""The Robotiq driver against pymodbus's own server: bytes on the wire, threads, and a gripper that goes silent."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_servers.arms import ArmOptions, Backend, GripperKind, make_backend
from robot_servers.grippers.robotiq import RobotiqGripper, parse_address
from robot_servers.grippers.robotiq_registers import TWO_F_85, TWO_F_140, RobotiqModel, encode_move
from serl_core.errors import ConfigError, RobotError
from tests.robot_servers.grippers.robotiq_server import Robotiq2F, serving

PERIOD_S = 0.005
GO = 0x0900  # rACT and rGTO
OPEN, CLOSED, GENTLE, STRONG = 0x00, 0xFF, 0x00, 0xFF


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 30.0
    while not is_so():
        assert time.monotonic() < give_up_s, "it never came true"
        time.sleep(0.002)


@contextmanager
def driver(port: int, **options) -> Iterator[RobotiqGripper]:
    gripper = RobotiqGripper(f"127.0.0.1:{port}", period_s=PERIOD_S, **options)
    gripper.start()
    try:
        yield gripper
    finally:
        gripper.stop()


@pytest.fixture
def device() -> Robotiq2F:
    return Robotiq2F()


@pytest.fixture
def gripper(device) -> Iterator[RobotiqGripper]:
    with serving(device) as port, driver(port, timeout_s=10.0) as gripper:
        yield gripper


# ---- what is on the wire


@pytest.mark.parametrize(
    ("position", "speed_m_s", "force_n", "registers"),
    [
        (1.0, 0.150, 235.0, (GO, OPEN, 0xFFFF)),
        (0.0, 0.020, 20.0, (GO, CLOSED, 0x0000)),
        (0.0, 0.150, 20.0, (GO, CLOSED, 0xFF00)),
        (0.5, 0.020, 235.0, (GO, 0x80, 0x00FF)),
        (0.5, 0.072, 106.0, (GO, 0x80, 0x6666)),
        (0.0, 0.001, 0.0, (GO, CLOSED, 0x0000)),  # as slow and weak as it can be
        (0.0, 9.0, 999.0, (GO, CLOSED, 0xFFFF)),
    ],
)
def test_a_move_is_three_registers_scaled_by_the_data_sheet(device, gripper, position, speed_m_s, force_n, registers):
    gripper.move(position, speed_m_s, force_n)
    wait_until(lambda: len(device.writes) > 0)
    assert device.writes == [registers]


def test_a_2f_140_has_ranges_of_its_own():
    assert encode_move(TWO_F_140, 0.0, 0.250, 10.0) == [GO, CLOSED, 0xFF00]
    assert encode_move(TWO_F_85, 0.0, 0.150, 20.0) == [GO, CLOSED, 0xFF00]


@given(st.floats(0.0, 1.0), st.floats(0.0, 10.0), st.floats(0.0, 1000.0))
def test_whatever_is_asked_for_the_bytes_are_bytes(position, speed_m_s, force_n):
    action, request, rates = encode_move(TWO_F_85, position, speed_m_s, force_n)
    assert action == GO
    assert 0 <= request <= 0xFF
    assert 0 <= rates <= 0xFFFF
    assert abs(1.0 - request / 255.0 - position) <= 0.5 / 255.0 + 1e-9


# ---- moving


def test_a_gripper_that_is_active_is_not_touched_at_the_start(device, gripper):
    wait_until(lambda: device.readings > 3)
    assert device.writes == []
    assert gripper.position() == pytest.approx(1.0 - 3 / 255)
    assert gripper.fault() is None


def test_a_gripper_that_is_not_active_is_activated_before_the_start_returns():
    device = Robotiq2F(is_activated=False, position=200)
    with serving(device) as port, driver(port) as gripper:
        assert device.is_activated
        assert device.writes == [(0, 0, 0), (0x0100, 0, 0)]  # the rising edge of rACT, and no move
        assert gripper.position() == pytest.approx(1.0 - 3 / 255)


def test_it_closes_and_opens_and_says_how_wide_it_is(gripper):
    gripper.move(0.0, 0.05, 20.0)
    wait_until(lambda: gripper.position() == 0.0)
    assert gripper.width_m() == 0.0
    gripper.move(1.0, 0.05, 20.0)
    wait_until(lambda: gripper.position() == 1.0)
    assert gripper.width_m() == pytest.approx(0.085)


def test_the_fingers_stop_at_an_object_and_the_position_says_where(device, gripper):
    device.object_at = 102
    gripper.move(0.0, 0.05, 20.0)
    wait_until(lambda: device.position == 102)
    seen = device.readings
    wait_until(lambda: device.readings > seen + 2)
    assert gripper.position() == pytest.approx(0.6)
    assert gripper.fault() is None


def test_a_command_does_not_wait_for_the_network_and_only_the_newest_that_waits_is_sent(device, gripper):
    device.answers.clear()
    wait_until(lambda: device.is_waiting)
    seen = device.readings
    for position in (0.0, 1.0, 0.2):
        gripper.move(position, 0.150, 20.0)
        gripper.position()
        assert gripper.fault() is None
    assert (device.readings, device.writes) == (seen, [])  # nothing has been answered: nobody waited for it
    device.answers.set()
    wait_until(lambda: gripper.position() == pytest.approx(0.2))
    assert device.writes == [(GO, 204, 0xFF00)]


def test_stopping_leaves_the_fingers_as_they_are(device):
    with serving(device) as port:
        with driver(port) as gripper:
            gripper.move(0.0, 0.05, 20.0)
            wait_until(lambda: len(device.writes) > 0)
        gripper.stop()
        assert len(device.writes) == 1
        gripper.start()
        gripper.stop()


# ---- a gripper that does not answer


def test_nobody_at_the_address_is_said_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RobotError, match=f"127.0.0.1:{port}: nobody answers there; check its power and cable"):
        RobotiqGripper(f"127.0.0.1:{port}", timeout_s=0.5).start()


def test_a_server_that_never_answers_is_said_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        gripper = RobotiqGripper(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.02)
        with pytest.raises(RobotError, match="check its power and cable"):
            gripper.start()


def test_another_unit_id_is_said_with_the_remedy():
    with serving(Robotiq2F(), unit_id=1) as port, pytest.raises(RobotError, match="that its unit id is 9"):
        RobotiqGripper(f"127.0.0.1:{port}").start()


def test_an_activation_that_does_not_end_is_said(monkeypatch):
    monkeypatch.setattr("tests.robot_servers.grippers.robotiq_server.ACTIVATION_READINGS", 10**9)
    with serving(Robotiq2F(is_activated=False)) as port:
        gripper = RobotiqGripper(f"127.0.0.1:{port}", activation_s=0.05, period_s=PERIOD_S)
        with pytest.raises(RobotError, match="not activated after"):
            gripper.start()


@pytest.mark.parametrize("address", ["", ":502", "host:", "host:x", "host:0", "host:65536", "host:-1", "host:²"])
def test_an_address_that_is_none_is_said(address):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        RobotiqGripper(address).start()


def test_the_port_may_be_left_out():
    assert parse_address("192.168.1.11") == ("192.168.1.11", 502)
    assert parse_address("gripper.lab:1502") == ("gripper.lab", 1502)


def test_a_silent_gripper_is_lost_and_answers_no_command(device, caplog):
    with serving(device) as port, driver(port) as gripper:
        device.answers.clear()
        wait_until(lambda: gripper.fault() == "gripper_lost")
        gripper.move(0.0, 0.05, 20.0)
        device.answers.set()
        time.sleep(10 * PERIOD_S)
        assert gripper.fault() == "gripper_lost"
        assert device.writes == []
    assert "mend it, then recover" in caplog.text


def test_a_lost_gripper_is_connected_again_on_request_and_old_commands_are_forgotten(device, caplog):
    with ExitStack() as stack:
        with serving(device) as port:
            gripper = stack.enter_context(driver(port, timeout_s=0.2))
            position = gripper.position()
        wait_until(lambda: gripper.fault() == "gripper_lost")
        gripper.move(0.0, 0.05, 20.0)

        said = len(caplog.messages)
        gripper.recover()
        wait_until(lambda: len(caplog.messages) > said)  # nobody is there yet
        assert gripper.fault() == "gripper_lost"
        assert gripper.position() == position

        with serving(device, port=port):
            gripper.recover()
            seen = device.readings
            wait_until(lambda: gripper.fault() is None)
            wait_until(lambda: device.readings > seen + 3)
            assert device.writes == []
            gripper.move(0.0, 0.05, 20.0)
            wait_until(lambda: gripper.position() == 0.0)
            gripper.stop()


def test_a_gripper_whose_power_was_cut_is_lost_until_it_is_activated_again(device, gripper):
    device.is_activated = device._was_on = False
    wait_until(lambda: gripper.fault() == "gripper_lost")
    gripper.recover()
    wait_until(lambda: gripper.fault() is None)
    assert device.is_activated
    assert device.writes == [(0, 0, 0), (0x0100, 0, 0)]


def test_a_fault_of_the_gripper_itself_is_reported_and_cleared_on_request(device, gripper, caplog):
    device.fault = 0x0E
    wait_until(lambda: gripper.fault() == "gripper_fault")
    assert "current is too high" in caplog.text
    gripper.recover()
    wait_until(lambda: gripper.fault() is None)
    assert device.fault == 0


def test_what_nobody_foresaw_is_a_fault_too_and_can_be_recovered(device, gripper, monkeypatch):
    """It ended the driver's thread without a word: the gripper looked sound, and obeyed nobody."""

    def fail(*_):
        raise AttributeError("unforeseen")

    monkeypatch.setattr(gripper, "_read", fail)
    wait_until(lambda: gripper.fault() == "gripper_lost")
    monkeypatch.undo()
    gripper.recover()
    wait_until(lambda: gripper.fault() is None)


def test_the_fault_stays_until_the_gripper_obeys_again(device, gripper):
    """It was gone as soon as somebody asked, and a command in between was lost."""
    device.is_activated = device._was_on = False
    wait_until(lambda: gripper.fault() == "gripper_lost")
    device.answers.clear()
    gripper.recover()
    wait_until(lambda: device.is_waiting)
    assert gripper.fault() == "gripper_lost"
    device.answers.set()
    wait_until(lambda: gripper.fault() is None)


@pytest.mark.parametrize("fault", [0x05, 0x07, 0x08, 0x09])
def test_a_fault_that_ends_by_itself_is_none_of_ours(device, gripper, fault):
    device.fault = fault
    seen = device.readings
    wait_until(lambda: device.readings > seen + 2)
    assert gripper.fault() is None


# ---- options


def test_a_model_needs_sound_ranges():
    with pytest.raises(ConfigError, match="stroke_m"):
        RobotiqModel(name="x", stroke_m=0.0, speed_m_s=(0.1, 0.2), force_n=(1.0, 2.0))
    with pytest.raises(ConfigError, match="force_n"):
        RobotiqModel(name="x", stroke_m=0.1, speed_m_s=(0.1, 0.2), force_n=(2.0, 1.0))


def test_the_server_asks_for_the_address_of_the_gripper():
    from robot_servers.limits import SafetyLimits

    options = ArmOptions(backend=Backend.FRANKY, robot_ip="127.0.0.1", gripper=GripperKind.ROBOTIQ)
    with pytest.raises(ConfigError, match="--gripper-address"):
        make_backend(options, SafetyLimits())
