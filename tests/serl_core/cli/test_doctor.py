"""`serl doctor` as a program, and its checks on machines that are made up in a folder."""

import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving
from serl_core.cli import doctor
from serl_core.cli.doctor import DoctorArgs, checks, run_doctor
from serl_core.cli.doctor_checks import (
    Check,
    Part,
    Verdict,
    check_disk,
    check_gpu,
    check_port,
    greeting_of,
)
from serl_core.cli.doctor_devices import (
    check_arm,
    check_realsense,
    check_robot_server,
    check_space_mouse,
    check_video,
    is_space_mouse,
)
from serl_core.cli.doctor_libraries import LIBRARIES, check_libraries, failure_of, installed_parts
from serl_core.cli.doctor_real_time import (
    CAP_IPC_LOCK,
    CAP_SYS_NICE,
    check_governor,
    check_kernel,
    check_real_time_limits,
    effective_capabilities,
)
from serl_core.cli.main import main

ROOT = Path(__file__).parents[3]
ALL = tuple(Part)
OK, WARN, RED = Verdict.OK, Verdict.WARN, Verdict.RED
GIB = 2**30


def files(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    with listening() as port:
        return port


# ---- the program


def program(monkeypatch: pytest.MonkeyPatch, *found: Check) -> None:
    monkeypatch.setattr(doctor, "checks", lambda parts, args: iter(found))


def test_the_status_is_0_while_nothing_is_red_and_1_if_something_is(monkeypatch, capsys):
    warning = Check("disk", WARN, "2.0 GiB free", "make room")
    program(monkeypatch, Check("kernel", OK, "6.1, real-time"), warning)
    assert main(["doctor"]) == 0
    program(monkeypatch, warning, Check("arm", RED, "no answer", "switch it on"))
    capsys.readouterr()
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        f"warn {'disk':<27} 2.0 GiB free; make room",
        f"red  {'arm':<27} no answer; switch it on",
    ]


def test_a_line_is_one_line_however_long_it_is(monkeypatch, capsys):
    program(monkeypatch, Check("arm", RED, "x" * 300, "y [z] " * 100))
    run_doctor(DoctorArgs())
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_damaged_file_of_a_run_is_status_1_on_a_machine_that_is_well(monkeypatch, tmp_path, capsys):
    program(monkeypatch, Check("kernel", OK, "6.1"))
    (tmp_path / "demos").mkdir()
    assert main(["doctor", "--run", str(tmp_path)]) == 0
    (tmp_path / "demos" / "demonstration-0000.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    assert main(["doctor", "--run", str(tmp_path)]) == 1
    assert "demonstration-0000.safetensors" in capsys.readouterr().out


def test_for_chooses_the_parts_that_must_work(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(doctor, "checks", lambda parts, args: asked.append(parts) or iter(()))
    assert main(["doctor", "--for", "learner", "sim"]) == 0
    assert asked == [(Part.LEARNER, Part.SIM)]
    assert main(["doctor"]) == 0
    assert asked[1] == installed_parts()
    assert "must work here: learner, sim" in capsys.readouterr().out


def test_every_line_that_is_not_ok_has_a_remedy(monkeypatch):
    """On this machine as it is, with all parts asked for and an arm and a server that are not there."""
    url = f"http://127.0.0.1:{free_port()}"
    found = list(checks(ALL, DoctorArgs(robot_ip="127.0.0.77", robot=url)))
    assert len(found) > 12
    assert [check.what for check in found if check.verdict is not OK and not check.remedy] == []
    assert {"arm at 127.0.0.77", f"robot server {url}"} <= {check.what for check in found if check.verdict is RED}


def test_nothing_of_a_real_arm_or_an_actor_is_looked_for_on_a_learners_machine():
    found = {check.what for check in checks((Part.LEARNER,), DoctorArgs())}
    assert not found & {"real-time priority", "lockable memory", "UVC cameras", "arm", "port 5000, robot server"}
    assert "port 5588, learner" in found


# ---- the machine


def test_a_real_time_kernel_is_known_by_its_flag_or_its_name(tmp_path):
    assert check_kernel(ALL, sysfs=files(tmp_path, {"kernel/realtime": "1"}), version="#1 SMP").verdict is OK
    assert check_kernel(ALL, sysfs=tmp_path / "none", version="#1 SMP PREEMPT_RT Debian").verdict is OK
    other = check_kernel(ALL, sysfs=files(tmp_path, {"kernel/realtime": "0"}), version="#1 SMP PREEMPT_DYNAMIC")
    assert other.verdict is RED
    assert "linux-image-rt" in other.remedy


def test_only_the_machine_beside_a_real_arm_needs_a_real_time_kernel(tmp_path):
    parts = (Part.ACTOR, Part.LEARNER, Part.SIM)
    assert check_kernel(parts, sysfs=tmp_path, version="#1 SMP").verdict is OK
    assert check_real_time_limits(parts, priority=0, locked_bytes=0, capabilities=0) == []
    assert check_governor(parts, sysfs=tmp_path) == []


@pytest.mark.parametrize(
    ("priority", "locked_bytes", "capabilities", "verdicts"),
    [
        (0, 8 * 2**20, 0, [RED, WARN]),
        (99, 102_400 * 1024, 0, [OK, OK]),
        (-1, -1, 0, [OK, OK]),
        (98, 102_400 * 1024 - 1, 0, [RED, WARN]),
        (0, 0, 1 << CAP_SYS_NICE, [OK, WARN]),
        (0, 0, 1 << CAP_SYS_NICE | 1 << CAP_IPC_LOCK, [OK, OK]),
    ],
)
def test_a_control_thread_needs_the_highest_priority_and_lockable_memory(
    priority, locked_bytes, capabilities, verdicts
):
    found = check_real_time_limits(ALL, priority=priority, locked_bytes=locked_bytes, capabilities=capabilities)
    assert [check.verdict for check in found] == verdicts
    for check, line in zip(found, ("rtprio 99", "memlock 102400"), strict=True):
        assert (line in check.remedy) == (check.verdict is not OK)


def test_the_capabilities_are_read_as_bits(tmp_path):
    status = files(tmp_path, {"status": "CapInh:\t0\nCapEff:\t0000000000804000"}) / "status"
    assert effective_capabilities(status) == 1 << CAP_SYS_NICE | 1 << CAP_IPC_LOCK
    assert effective_capabilities(tmp_path / "none") == 0


@pytest.mark.parametrize(("governor", "verdict"), [("performance", OK), ("powersave", WARN)])
def test_a_processor_that_slows_down_is_said(tmp_path, governor, verdict):
    sysfs = files(tmp_path, {"devices/system/cpu/cpu0/cpufreq/scaling_governor": governor})
    (check,) = check_governor(ALL, sysfs=sysfs)
    assert (check.verdict, check.found) == (verdict, f"governor {governor}")


def test_a_gpu_needs_its_driver_and_jaxs_plugin(tmp_path):
    proc = files(tmp_path, {"driver/nvidia/version": "NVRM"})
    assert [c.verdict for c in check_gpu(ALL, has_plugin=True, proc=proc)] == [OK]
    assert "serl[learner,cuda]" in check_gpu(ALL, has_plugin=False, proc=proc)[0].remedy
    assert check_gpu(ALL, has_plugin=True, proc=tmp_path / "none")[0].verdict is WARN
    assert check_gpu((Part.ACTOR,), has_plugin=False, proc=proc) == []


def test_a_port_that_another_program_holds_is_red_and_one_of_ours_is_not():
    with listening() as port:
        taken = check_port("robot server", port, None)
        assert taken.verdict is RED
        assert str(port) in taken.what
        assert str(port) in taken.remedy
        assert check_port("robot server", port, "a robot server").verdict is OK
    assert check_port("robot server", port, None).verdict is OK


def test_a_learner_is_known_by_the_greeting_of_its_protocol():
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    try:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        assert greeting_of(port).startswith(doctor.ZMTP)
    finally:
        router.close(0)
        context.term()
    assert greeting_of(free_port()) == b""


@pytest.mark.parametrize(("free_bytes", "verdict"), [(9 * GIB, OK), (4 * GIB, WARN), (GIB // 2, RED)])
def test_the_disk_is_judged_by_what_a_spool_may_take(tmp_path, free_bytes, verdict):
    assert check_disk(tmp_path, free_bytes=free_bytes).verdict is verdict


# ---- the libraries


def here(*modules: str):
    return lambda name: name in modules


SERVER = ("fastapi", "uvicorn")
LEARNER = ("jax", "flax", "optax", "matplotlib")


@pytest.mark.parametrize(
    ("modules", "parts"),
    [
        ((), ()),
        (SERVER, ()),  # no driver: no real arm is controlled from here
        ((*SERVER, "franky"), (Part.ROBOT,)),
        ((*SERVER, "rclpy"), (Part.ROBOT,)),
        ((*SERVER, "mujoco", "cv2"), (Part.SIM,)),
        (LEARNER, (Part.ACTOR, Part.LEARNER)),
    ],
)
def test_the_parts_of_a_machine_are_those_whose_libraries_it_has(modules, parts):
    assert installed_parts(here(*modules)) == parts


def test_a_library_that_no_part_here_needs_is_not_red():
    found = check_libraries((Part.LEARNER,), installed=here(*LEARNER), failure=lambda probe: "")
    assert {check.verdict for check in found} == {OK}
    assert "not installed (fastapi, uvicorn)" in [check.found for check in found]


def test_a_library_that_a_part_needs_is_red_with_the_extra_that_has_it():
    found = {c.what: c for c in check_libraries(ALL, installed=here(), failure=lambda probe: "")}
    assert "serl[server,sim]" in found["simulation"].remedy
    assert "serl[learner]" in found["learner and actor"].remedy
    assert "serl[server,franka]" in found["driver of a real arm"].remedy
    assert found["simulation"].verdict is found["driver of a real arm"].verdict is RED


def test_an_installed_library_that_does_not_load_is_found_with_what_it_lacks():
    def failure(probe: str) -> str:
        return "ImportError: libusb-1.0.so.0" if "librealsense" in probe or "franky" in probe else ""

    found = {c.what: c for c in check_libraries(ALL, installed=lambda name: True, failure=failure)}
    assert found["RealSense"].verdict is WARN
    assert "apt install libusb-1.0-0 libudev1" in found["RealSense"].remedy
    assert "libusb-1.0.so.0" in found["RealSense"].found
    assert found["FR3 through libfranka"].verdict is RED


def test_a_probe_runs_in_a_process_of_its_own_and_says_why_it_failed():
    assert failure_of("pass") == ""
    assert failure_of("import no_such_module") == "ModuleNotFoundError: No module named 'no_such_module'"
    assert failure_of("import os; os.abort()") == "exit status -6"


def test_every_extra_that_a_remedy_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for library in LIBRARIES for extra in library.extra.split(",") if extra}
    assert named <= set(extras)


# ---- the devices


VIDEO = {
    "class/video4linux/video0/name": "HD Webcam",
    "class/video4linux/video0/index": "0",
    "class/video4linux/video1/name": "HD Webcam",
    "class/video4linux/video1/index": "1",
}


def test_a_camera_is_one_line_though_it_has_two_nodes(tmp_path):
    sysfs = files(tmp_path, VIDEO)
    assert check_video(ALL, sysfs=sysfs, allowed=lambda node: True) == [Check("camera /dev/video0", OK, "HD Webcam")]
    (refused,) = check_video(ALL, sysfs=sysfs, allowed=lambda node: False)
    assert refused.verdict is RED
    assert "usermod -aG video" in refused.remedy


def test_a_machine_without_devices_is_warned_about_and_not_red(tmp_path):
    none = [*check_video(ALL, sysfs=tmp_path), *check_space_mouse(ALL, sysfs=tmp_path)]
    assert [check.verdict for check in none] == [WARN, WARN]
    assert check_realsense(ALL, sysfs=tmp_path) == []


def realsense(speed: str) -> dict[str, str]:
    folder = "bus/usb/devices/2-1/"
    names = {"idVendor": "8086", "idProduct": "0b3a", "busnum": "2", "devnum": "7", "product": "D435i", "speed": speed}
    return {folder + name: text for name, text in names.items()}


@pytest.mark.parametrize(
    ("speed", "may_open", "verdict", "words"),
    [
        ("5000", True, OK, ""),
        ("480", True, WARN, "USB 3"),
        ("5000", False, RED, "docker/udev/99-realsense.rules"),
    ],
)
def test_a_realsense_camera_needs_permission_and_usb_3(tmp_path, speed, may_open, verdict, words):
    asked: list[Path] = []
    sysfs = files(tmp_path, {**realsense(speed), "bus/usb/devices/1-1/idVendor": "8087"})
    (check,) = check_realsense(ALL, sysfs=sysfs, allowed=lambda node: asked.append(node) or may_open)
    assert check.verdict is verdict
    assert words in check.remedy
    assert asked == [Path("/dev/bus/usb/002/007")]


def hidraw(number: int, hid_id: str, name: str) -> dict[str, str]:
    return {f"class/hidraw/hidraw{number}/device/uevent": f"DRIVER=hid-generic\nHID_ID={hid_id}\nHID_NAME={name}"}


def test_a_space_mouse_is_found_among_keyboards_and_needs_permission(tmp_path):
    sysfs = files(
        tmp_path,
        {
            **hidraw(0, "0003:0000046D:0000C52B", "Logitech USB Receiver"),
            **hidraw(4, "0003:0000256F:0000C635", "3Dconnexion SpaceMouse Compact"),
        },
    )
    (found,) = check_space_mouse(ALL, sysfs=sysfs, allowed=lambda node: True)
    assert (found.what, found.verdict, found.found) == ("SpaceMouse /dev/hidraw4", OK, "3Dconnexion SpaceMouse Compact")
    (refused,) = check_space_mouse(ALL, sysfs=sysfs, allowed=lambda node: False)
    assert refused.verdict is RED
    assert "docker/udev/99-spacemouse.rules" in refused.remedy


@pytest.mark.parametrize("hid_id", ["", "0003:256F", "0003:x:y", "0003:0000046D:0000C52B"])
def test_what_is_no_space_mouse_is_none(hid_id):
    assert not is_space_mouse(hid_id)


@pytest.mark.parametrize("rule", ["99-spacemouse.rules", "99-realsense.rules"])
def test_the_udev_rules_that_remedies_name_are_there(rule):
    assert (ROOT / "docker" / "udev" / rule).is_file()


# ---- the arm and the robot server


def test_an_arm_is_there_if_something_takes_connections_and_nothing_is_sent_to_it():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = check_arm("127.0.0.1", port=listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5.0)
            assert connection.recv(16) == b""  # closed at once
    assert found.verdict in (OK, WARN)  # slower than 1 ms where the machine is busy
    assert "answers at port" in found.found


def test_an_arm_that_is_not_there_is_red_with_what_to_look_at():
    found = check_arm("127.0.0.1", port=free_port())
    assert found.verdict is RED
    assert "FCI" in found.remedy


def test_an_arm_that_does_not_answer_takes_no_longer_than_the_limit():
    """A listener whose queue is full drops what comes: as a host that swallows packets."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        found = check_arm("127.0.0.1", port=port, timeout_s=0.2)
        for filler in fillers:
            filler.close()
    assert found.verdict is RED
    assert "timed out" in found.found


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[str, Path, PointMassBackend]]:
    token = tmp_path / "robot.token"
    token.write_text("secret\n")
    backend = PointMassBackend()
    service = RobotService(backend)
    with serving(service, "secret") as url:
        yield url, token, backend


def test_a_robot_server_that_takes_commands_is_ok_and_a_latched_one_is_red(served):
    url, token, backend = served
    assert check_robot_server(url, token) == Check(f"robot server {url}", OK, "backend point_mass, API 1.0, mode hold")
    backend.fail("reflex")
    backend.advance(0.01)
    latched = check_robot_server(url, token)
    assert latched.verdict is RED
    assert "latched by 'reflex'" in latched.found
    assert f"serl robot recover --robot {url}" in latched.remedy


def test_a_robot_server_that_refuses_the_token_is_red(served, tmp_path):
    url, _, _ = served
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    found = check_robot_server(url, wrong)
    assert found.verdict is RED
    assert "refuses the token" in found.found
    assert "copy the server's token file" in found.remedy
