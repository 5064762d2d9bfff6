"""The compose files against a schema of what they use, and their commands against the programs' own options."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from robot_servers.impedance_limits import initial_impedance
from robot_servers.limits import load_limits
from serl_core.cli.allowed_impedance import nearest_allowed
from serl_core.cli.main import COMMANDS, _load
from serl_core.envs.task import load_task

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("compose.*.yaml"))
NEEDED = {"ROBOT_IP": "172.16.0.2", "TASK": "ram_insertion", "HIDRAW_MAJOR": "241"}  # what a user must give
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")

TEXTS = [str]
SCHEMA: dict[str, Any] = {
    "name": str,
    "services": {
        "*": {
            "profiles": TEXTS,
            "image": str,
            "build": {"context": str, "dockerfile": str, "target": str, "args": {"*": str}},
            "command": TEXTS,
            "network_mode": str,
            "cap_drop": TEXTS,
            "cap_add": TEXTS,
            "ulimits": {"*": int},
            "security_opt": TEXTS,
            "read_only": bool,
            "tmpfs": TEXTS,
            "volumes": TEXTS,
            "init": bool,
            "stop_grace_period": str,
            "restart": str,
            "healthcheck": {"test": TEXTS, "interval": str, "timeout": str, "retries": int, "start_period": str},
            "depends_on": {"*": {"condition": str}},
            "device_cgroup_rules": TEXTS,
            "group_add": TEXTS,
            "deploy": {
                "resources": {"reservations": {"devices": [{"driver": str, "count": int, "capabilities": TEXTS}]}}
            },
        }
    },
    "volumes": {"*": type(None)},
}


def departures(value: Any, schema: Any, path: str = "") -> list[str]:
    """What in `value` is not as the schema says."""
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{path}: not a list"]
        return [found for i, item in enumerate(value) for found in departures(item, schema[0], f"{path}[{i}]")]
    if not isinstance(schema, dict):
        return [] if type(value) is schema else [f"{path}: {value!r} is not {schema.__name__}"]
    if not isinstance(value, dict):
        return [f"{path}: not a mapping"]
    found = []
    for key, item in value.items():
        part = schema.get(key, schema.get("*"))
        found += [f"{path}.{key}: unknown"] if part is None else departures(item, part, f"{path}.{key}")
    return found


def filled(text: str) -> str:
    """A text as compose fills it in: ${NAME:-default}, ${NAME:?message}."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if kind == "-":
            return rest
        assert kind == "?", f"{found[0]}: give a default, or a message for who leaves it out"
        return NEEDED[name]

    return VARIABLE.sub(value, text)


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


SERVICES = [(path, name) for path in FILES for name in loaded(path)["services"]]
each_service = pytest.mark.parametrize(("path", "name"), SERVICES, ids=lambda value: getattr(value, "name", value))


def test_both_setups_are_there():
    assert [path.name for path in FILES] == ["compose.real.yaml", "compose.sim.yaml"]
    assert list(loaded(FILES[0])["services"]) == ["robot-server", "actor", "learner"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_compose_file_is_as_the_schema_says(path: Path):
    assert departures(loaded(path), SCHEMA) == []


def test_the_schema_finds_a_misspelt_key_and_a_wrong_type():
    services = loaded(FILES[0])["services"]
    services["actor"]["imgae"] = services["actor"].pop("image")
    services["robot-server"]["ulimits"]["rtprio"] = "99"
    found = departures({"services": services}, SCHEMA)
    assert found == [".services.robot-server.ulimits.rtprio: '99' is not int", ".services.actor.imgae: unknown"]


@each_service
def test_a_command_is_one_that_serl_has_with_options_that_it_has(path: Path, name: str):
    command, *options = map(filled, loaded(path)["services"][name]["command"])
    args_type, _ = _load(COMMANDS[command])
    args = tyro.cli(args_type, args=options)  # ends the test with status 2 where an option does not exist
    assert args is not None


def test_an_option_that_a_program_does_not_have_is_found():
    args_type, _ = _load(COMMANDS["actor"])
    with pytest.raises(SystemExit):
        tyro.cli(args_type, args=["--task", "x", "--run", "y", "--no-such-option"])


@each_service
def test_an_image_is_built_from_a_target_and_extras_that_there_are(path: Path, name: str):
    service = loaded(path)["services"][name]
    build = service["build"]
    assert (DOCKER / build["context"]).resolve() == ROOT
    dockerfile = (ROOT / build["dockerfile"]).read_text()
    assert f" AS {build['target']}\n" in dockerfile
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(build["args"]["EXTRAS"].split(",")) <= set(extras)
    assert all(f"\nARG {argument}" in dockerfile for argument in build["args"])
    assert re.fullmatch(r"[\w/-]+:\d+\.\d+\.\d+", service["image"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_two_services_of_one_image_build_it_alike(path: Path):
    builds: dict[str, Any] = {}
    for service in loaded(path)["services"].values():
        assert builds.setdefault(service["image"], service["build"]) == service["build"]


@each_service
def test_a_service_has_no_more_rights_than_it_needs(path: Path, name: str):
    service = loaded(path)["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["SYS_NICE"] if (path.name, name) == REAL_SERVER else [])
    assert "ports" not in service  # all listen on a loopback, and stay there


REAL_SERVER = ("compose.real.yaml", "robot-server")


def test_the_real_robot_server_gets_real_time_and_the_hosts_network():
    service = loaded(FILES[0])["services"]["robot-server"]
    assert service["network_mode"] == "host"
    assert service["ulimits"] == {"rtprio": 99, "memlock": 102_400 * 1024}
    assert "--real-time-priority" in service["command"]
    assert "sim" not in service["build"]["args"]["EXTRAS"]


def test_the_actor_reaches_its_devices_and_the_learner_a_gpu():
    services = loaded(FILES[0])["services"]
    assert list(map(filled, services["actor"]["device_cgroup_rules"])) == [
        "c 81:* rmw",
        "c 189:* rmw",
        "c 241:* rmw",
    ]
    assert "/dev:/dev" in services["actor"]["volumes"]
    assert services["learner"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "cuda" in services["learner"]["build"]["args"]["EXTRAS"].split(",")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_learner_never_holds_the_robots_token(path: Path):
    volumes = {name: service["volumes"] for name, service in loaded(path)["services"].items()}
    assert any(volume.startswith("state:") for volume in volumes["actor"])
    assert not any(volume.startswith("state:") for volume in volumes["learner"])


@each_service
def test_a_volume_that_a_service_mounts_is_declared_or_a_file_here(path: Path, name: str):
    document = loaded(path)
    for volume in map(filled, document["services"][name]["volumes"]):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (DOCKER / source).exists()
        elif not source.startswith("/"):
            assert source in document["volumes"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_a_service_waits_for_exists_and_can_tell_that_it_is_healthy(path: Path):
    services = loaded(path)["services"]
    for name, service in services.items():
        awaited = service.get("depends_on", {})
        for other, how in awaited.items():
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
            assert "healthcheck" in services[other] or how["condition"] != "service_healthy"
            assert other != name
        shared = service.get("network_mode", "").removeprefix("service:")
        assert shared in ("", "host", *services)


def test_the_limits_that_come_along_are_tighter_than_the_servers_defaults():
    limits, default = load_limits(DOCKER / "limits.json"), load_limits(None)
    assert limits.spring_force_n < default.spring_force_n
    assert all(low > other for low, other in zip(limits.box_low_m, default.box_low_m, strict=True))
    assert all(high < other for high, other in zip(limits.box_high_m, default.box_high_m, strict=True))


def test_the_limits_that_come_along_leave_room_for_the_example_task():
    """They once allowed 0.1 m/s, at which the server refuses the default gains: no episode could begin."""
    limits, task = load_limits(DOCKER / "limits.json"), load_task("ram_insertion").config
    initial_impedance(limits)
    assert nearest_allowed(task.compliance, limits).refusals == ()
    assert nearest_allowed(task.precision, limits).refusals == ()
    for i in range(3):
        assert task.box.low_m[i] >= limits.box_low_m[i] + limits.soft_wall_m
        assert task.box.high_m[i] <= limits.box_high_m[i] - limits.soft_wall_m
