"""The systemd unit: that systemd takes it, what it starts, and what it forbids."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from robot_servers.main import RobotServerArgs

UNIT = Path(__file__).parents[2] / "docker" / "systemd" / "serl-robot-server.service"
LISTS = {"Environment", "RestrictAddressFamilies", "IPAddressAllow"}
NEEDED = {
    "User": "serl",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "LimitRTPRIO": "99",
    "LimitMEMLOCK": "100M",
    "SystemCallFilter": "@system-service",
    "IPAddressDeny": "any",
}


def parsed(text: str) -> dict[str, dict[str, str]]:
    """The settings of each section; those that may be given twice are joined."""
    sections: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
            continue
        name, equals, value = line.partition("=")
        assert equals, f"{line}: no setting"
        assert name not in section or name in LISTS, f"{name} is there twice"
        section[name] = f"{section[name]} {value}" if name in section else value
    return sections


@pytest.fixture
def service() -> dict[str, str]:
    return parsed(UNIT.read_text())["Service"]


def test_the_unit_starts_the_server_with_options_that_it_has(service):
    program, command, *options = shlex.split(service["ExecStart"])
    assert (Path(program).name, command) == ("serl", "robot-server")
    arm = ["--backend", "franky", "--robot-ip", "172.16.0.2"]
    at = options.index("$SERL_ARM")
    args = tyro.cli(RobotServerArgs, args=[*options[:at], *arm, *options[at + 1 :]])
    assert args.real_time_priority
    assert args.host == "127.0.0.1"
    assert str(args.audit_log).startswith(f"/var/lib/{service['StateDirectory']}/")


@pytest.mark.parametrize(("name", "value"), NEEDED.items())
def test_the_unit_gives_real_time_and_takes_the_rest_away(service, name, value):
    assert service[name] == value


def test_nothing_in_the_unit_forbids_the_real_time_priority(service):
    assert service.get("RestrictRealtime", "no") == "no"
    assert "@resources" not in service["SystemCallFilter"]


def test_a_server_that_keeps_crashing_is_left_to_a_person():
    unit = parsed(UNIT.read_text())
    assert unit["Service"]["Restart"] == "on-failure"
    assert (unit["Unit"]["StartLimitBurst"], unit["Unit"]["StartLimitIntervalSec"]) == ("3", "600")


def test_systemd_finds_nothing_wrong_where_there_is_one(tmp_path):
    """Where there is no systemd, a misspelt setting is found by the sections that it must be in."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/serl/bin/serl", sys.executable))
    assert complaints(copy) == ""
    copy.write_text(copy.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert "ProtectSytem" in complaints(copy)


def complaints(unit: Path) -> str:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return " ".join(sorted(set(parsed(unit.read_text())["Service"]) - set(parsed(UNIT.read_text())["Service"])))
    command = [analyze, "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "\n".join(line for line in done.stderr.splitlines() if unit.name in line)
