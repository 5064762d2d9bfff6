"""`serl robot` against a served point mass in lockstep: its time passes with the moves, however busy the machine is."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from robot_servers.service import RobotService
from robot_servers.testing import HOME, PointMassBackend, serving
from serl_core.cli.main import main
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode


class Site(NamedTuple):
    options: list[str]
    backend: PointMassBackend
    service: RobotService
    robot: HttpRobot

    def run(self, *arguments: str) -> int:
        return main(["robot", *arguments, *self.options])

    @property
    def mode(self) -> Mode:
        return self.service.state().mode


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    token_file = tmp_path / "robot.token"
    token_file.write_text("secret\n")
    backend = PointMassBackend()
    service = RobotService(backend)
    with serving(service, "secret") as url:
        robot = HttpRobot(url, owner="other", token_file=token_file)
        yield Site(["--robot", url, "--token-file", str(token_file)], backend, service, robot)
        robot.close()


def test_where_prints_the_pose_and_takes_no_lease(site: Site, capsys):
    site.robot.connect()
    assert site.run("where") == 0
    said = capsys.readouterr().out
    names: dict = {}
    exec(said, names)
    assert names["pose"] == pytest.approx(HOME)
    assert "mode: hold" in said
    assert site.service.state().lease_epoch > 0  # still the other's


def test_jog_by_moves_the_arm_prints_where_it_is_and_gives_the_lease_back(site: Site, capsys):
    assert site.run("jog", "--by", "0.01", "0", "-0.01", "0", "0", "0") == 0
    assert site.service.state().tcp_pose[:3] == pytest.approx((HOME[0] + 0.01, HOME[1], HOME[2] - 0.01), abs=1e-3)
    assert capsys.readouterr().out.startswith("x 0.510")
    assert (site.mode, site.service.state().lease_epoch) == (Mode.HOLD, 0)


def test_jog_obeys_keys_until_q_and_gives_the_lease_back(site: Site, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("wwq"))
    assert site.run("jog") == 0
    assert site.service.state().tcp_pose[0] == pytest.approx(HOME[0] + 0.01, abs=1e-3)
    said = capsys.readouterr().out
    assert "in the axes of base" in said
    assert "pose = (0.5" in said
    assert site.service.state().lease_epoch == 0


def test_jog_in_the_tools_axes_goes_down_along_its_z(site: Site):
    assert site.run("jog", "--frame", "tool", "--by", "0", "0", "0.01", "0", "0", "0") == 0
    assert site.service.state().tcp_pose[2] == pytest.approx(HOME[2] - 0.01, abs=1e-3)


def test_jog_refuses_a_latched_fault_with_the_remedy_and_moves_nothing(site: Site, capsys):
    site.backend.fail("reflex")
    site.backend.advance(0.01)
    assert site.run("jog", "--by", "0.01", "0", "0", "0", "0", "0") == 2
    assert "serl robot recover" in capsys.readouterr().err
    assert site.service.state().tcp_pose[0] == pytest.approx(HOME[0], abs=1e-3)
    assert site.run("recover") == 0
    assert "cleared 'reflex'" in capsys.readouterr().out
    assert site.mode is Mode.HOLD
    assert ("recover",) in site.backend.calls


def test_jog_names_who_holds_the_arm(site: Site, capsys, monkeypatch):
    monkeypatch.setattr("serl_core.robots.http_client.LEASE_PATIENCE_S", 0.1)
    site.robot.connect()
    assert site.run("jog", "--by", "0.01", "0", "0", "0", "0", "0") == 2
    assert "'other'" in capsys.readouterr().err


def test_a_stop_needs_no_lease_and_resume_ends_it(site: Site, capsys):
    site.robot.connect()
    assert site.run("stop") == 0
    assert site.mode is Mode.STOPPED
    site.robot.close()
    assert site.run("jog", "--by", "0", "0", "0", "0", "0", "0") == 2
    assert "serl robot resume" in capsys.readouterr().err
    assert site.run("resume") == 0
    assert site.mode is Mode.HOLD


def test_a_person_resumes_and_recovers_beside_the_program_that_commands_the_arm(site: Site, capsys):
    """It was refused: the waiting actor keeps its lease, and had to be ended first."""
    site.robot.connect()
    epoch = site.service.state().lease_epoch
    site.robot.stop()
    assert site.run("resume") == 0
    assert site.mode is Mode.HOLD
    site.backend.fail("reflex")
    site.backend.advance(0.01)
    assert site.mode is Mode.FAULT
    assert site.run("recover") == 0
    assert "cleared 'reflex'" in capsys.readouterr().out
    assert (site.mode, site.service.state().lease_epoch) == (Mode.HOLD, epoch)


@pytest.mark.parametrize("command", ["resume", "recover"])
def test_what_is_not_latched_is_not_cleared(site: Site, capsys, command: str):
    assert site.run(command) == 0
    assert "nothing to do: the arm's mode is hold" in capsys.readouterr().out
    assert [call for call in site.backend.calls if call[0] == "recover"] == []


@pytest.mark.parametrize("arguments", [("where",), ("stop",), ("jog", "--by", "0", "0", "0", "0", "0", "0")])
def test_a_server_that_is_not_there_is_said_to_be(arguments: tuple[str, ...], tmp_path: Path, capsys):
    token = tmp_path / "token"
    token.write_text("secret")
    assert main(["robot", *arguments, "--robot", "http://127.0.0.1:9", "--token-file", str(token)]) == 2
    assert "start one with `serl robot-server`" in capsys.readouterr().err


def test_compliance_prints_what_to_paste_and_needs_no_arm(capsys):
    assert main(["robot", "compliance", "--max-force", "15", "--task", "ram_insertion"]) == 0
    said = capsys.readouterr().out
    assert "compliance=ImpedanceParams(" in said
    assert "translational_clip_m=(0.0075, 0.0075, 0.0075, 0.0075, 0.0075, 0.0075)," in said
    assert "task 'ram_insertion', compliance: taken as it is" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-force", "1", "2"], "--max-force: needs one number, or three"),
        (["--max-force", "0"], "max force along x: must be above 0"),
        (["--max-force", "15", "--limits-file", "/nowhere.json"], "/nowhere.json"),
    ],
)
def test_a_mistake_in_compliance_is_one_sentence_and_status_2(arguments: list[str], words: str, capsys):
    assert main(["robot", "compliance", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
