"""The API over real sockets: strict decoding on every route, enumerated, and the step stream."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from robot_servers.app import create_app
from robot_servers.limits import SafetyLimits
from robot_servers.service import RobotService
from robot_servers.testing import HOME, PointMassBackend, serving
from serl_core.robots.messages import Problem, RobotState, StreamCommand, decode, encode
from serl_core.robots.stream import Exchange

TOKEN = "secret"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
GAINS = {
    "translational_stiffness_n_m": 2000.0,
    "translational_clip_m": [0.008] * 6,
    "rotational_clip_rad": [0.05] * 6,
}
VALID: dict[str, dict[str, Any]] = {  # one body per route; epoch 1 is the fixture's lease
    "/v1/lease": {"action": "renew", "owner": "test", "epoch": 1},
    "/v1/pose": {"epoch": 1, "pose": list(HOME)},
    "/v1/hold": {"epoch": 1},
    "/v1/wrench": {"epoch": 1, "wrench": [5.0, 0.0, 0.0, 0.0, 0.0, 1.0]},
    "/v1/move": {"epoch": 1, "pose": list(HOME), "speed_m_s": 0.1, "speed_rad_s": 0.5},
    "/v1/joint_reset": {"epoch": 1},
    "/v1/impedance": {"epoch": 1, "params": GAINS},
    "/v1/gripper": {"epoch": 1, "position": 0.5},
    "/v1/load": {"epoch": 1, "mass_kg": 0.1, "center_m": [0.0] * 3, "inertia_kg_m2": [0.0] * 9},
    "/v1/recover": {"epoch": 1, "cause": "reflex"},
    "/v1/resume": {"epoch": 1},
    "/v1/sim/advance": {"epoch": 1, "duration_s": 0.01},
    "/v1/sim/reset": {"epoch": 1, "seed": 3, "pose": list(HOME)},
}
HUGE = str(2**64 + 1)  # the reply to it could not be encoded: an internal error
BAD_NUMBERS = [HUGE, "1e308", "NaN", "Infinity", "-Infinity", "1e999", "true", '"3"', "null", "[1]", "{}"]
NULLABLE = {("/v1/lease", "epoch"), ("/v1/sim/reset", "seed"), ("/v1/sim/reset", "pose")}
POSTS = [
    route.path
    for route in create_app(RobotService(PointMassBackend()), TOKEN).routes
    if isinstance(route, APIRoute) and "POST" in route.methods and route.path != "/v1/stop"
]


class Arm:
    """A served point mass in lockstep, its lease taken by this client."""

    def __init__(self, url: str, backend: PointMassBackend) -> None:
        self.url = url
        self.backend = backend
        self.client = httpx.Client(base_url=url, headers=HEADERS)
        self.stream = Exchange(url.replace("http", "ws") + "/v1/stream", HEADERS, 5.0)
        self.sequence = 0
        assert self.post("/v1/lease", {"action": "acquire", "owner": "test"}).json()["epoch"] == 1

    def post(self, path: str, body: object) -> httpx.Response:
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return self.client.post(path, content=content)

    def step(self, x: float = 0.5, **changes: Any) -> bytes:
        self.sequence += 1
        command = {"epoch": 1, "sequence": self.sequence, "pose": (x, *HOME[1:]), "reply_after_s": 0.1}
        return self.stream.ask(encode(StreamCommand(**command | changes)), 5.0)

    def close(self) -> None:
        self.stream.close()
        self.client.close()


@pytest.fixture
def arm() -> Iterator[Arm]:
    backend = PointMassBackend()
    with serving(RobotService(backend), TOKEN) as url:
        arm = Arm(url, backend)
        yield arm
        arm.close()


@pytest.fixture(scope="module")
def untouched_arm() -> Iterator[Arm]:
    """One arm for all the tests whose every request is refused."""
    backend = PointMassBackend()
    with serving(RobotService(backend, SafetyLimits(lease_timeout_s=10.0)), TOKEN) as url:
        arm = Arm(url, backend)
        yield arm
        assert backend.references == []
        arm.close()


def spoiled(body: dict[str, Any], path: str) -> Iterator[str]:
    """Yield bodies with one value spoiled each, one key too many, one too few, and each array too long or short."""

    def walk(value: Any, put: Callable[[Any], str], name: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, lambda new, key=key: put(value | {key: new}), key)
        elif isinstance(value, list):
            yield put(value[:-1])
            yield put([*value, 0.0])
            for i, item in enumerate(value):
                yield from walk(item, lambda new, i=i: put([*value[:i], new, *value[i + 1 :]]), name)
        elif not isinstance(value, str):
            for bad in BAD_NUMBERS:
                if not (bad == "null" and (path, name) in NULLABLE):
                    yield put("@").replace('"@"', bad)

    yield from walk(body, json.dumps, "")
    yield json.dumps(body | {"unknown": 1})
    for key in body:
        if (path, key) not in NULLABLE | {("/v1/move", "speed_m_s"), ("/v1/move", "speed_rad_s")}:
            yield json.dumps({name: value for name, value in body.items() if name != key})


def test_every_route_has_a_body_here():
    assert set(POSTS) == set(VALID)


@pytest.mark.parametrize("path", POSTS)
def test_the_bodies_here_are_good(arm, path):
    response = arm.post(path, VALID[path])
    assert response.status_code in (200, 409), response.text  # 409: nothing to recover or resume from


def test_bad_bodies_on_every_route_change_nothing_bit_for_bit():
    """Plain pydantic would take NaN, 1e999, true and "3" for a float."""

    def run(sends_bad: bool) -> tuple[list, list]:
        backend = PointMassBackend()
        with serving(RobotService(backend), TOKEN) as url:
            arm = Arm(url, backend)
            arm.step(0.52)
            for path in POSTS if sends_bad else ():
                for body in spoiled(VALID[path], path):
                    response = arm.post(path, body)
                    assert response.status_code in (400, 422), (path, body, response.text)
                    assert response.headers["content-type"] == "application/problem+json"
                    problem = decode(response.content, Problem)
                    assert problem.status == response.status_code
            arm.step(0.53)
            arm.close()
        return backend.references, backend.calls

    assert run(sends_bad=True) == run(sends_bad=False)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ('{"epoch": 1, "pose": [0.5, 0, 0.3, NaN, 0, 0, 0]}', 422, "pose[3]"),
        ('{"epoch": 1, "pose": [0.5, 0, 0.3, 1, 0, -Infinity, 0]}', 422, "pose[5]"),
        ('{"epoch": 1, "pose": [0.5, 0, 0.3, 1e999, 0, 0, 0]}', 422, "pose[3]"),
        ('{"epoch": 1, "pose": [0.5, 0, 0.3, true, 0, 0, 0]}', 422, "pose[3]"),
        ('{"epoch": 1, "pose": [0.5, 0, 0.3, "1", 0, 0, 0]}', 422, "pose[3]"),
        ('{"epoch": 1, "pose": [0.5, 0, 0.3]}', 422, "pose"),
        ('{"epoch": 1, "pose": null}', 422, "pose"),
        ('{"epoch": 1}', 422, "pose"),
        ('{"epoch": 1.5, "pose": []}', 422, "epoch"),
        ('{"epoch": 1, "pose": [0.5, 0, 0.3, 1, 0, 0, 0], "speed": 1}', 422, "speed"),
        ('{"epoch": 1, "epoch": 1, "pose": [0.5, 0, 0.3, 1, 0, 0, 0]}', 400, None),
        ('{"epoch": 1, "pose": [5, 0, 0.3, 1, 0, 0, 0]}', 422, "pose[0]"),
        ('{"epoch": 99, "pose": [0.5, 0, 0.3, 1, 0, 0, 0]}', 409, "epoch"),
        ('{"epoch": 18446744073709551616, "pose": [0.5, 0, 0.3, 1, 0, 0, 0]}', 422, "epoch"),
        ('{"epoch": 1' + "0" * 5000 + ', "pose": [0.5, 0, 0.3, 1, 0, 0, 0]}', 422, "epoch"),
        ('{"epoch": -1, "pose": [0.5, 0, 0.3, 1, 0, 0, 0]}', 422, "epoch"),
        ('{"epoch": 1, "pose": ' + "[" * 20_000, 422, "pose[0]"),
        ("[" * 20_000, 422, None),
        ('{"a":' * 10_000, 422, "a"),
        ("", 400, None),
        ("{", 400, None),
        ("null", 422, None),
        (b"\xff\xfe{}", 400, None),
        (b'{"\xff": 1}', 400, None),
    ],
)
def test_a_refusal_names_the_field(untouched_arm, body, status, field):
    response = untouched_arm.post("/v1/pose", body)
    problem = decode(response.content, Problem)
    assert (response.status_code, problem.field) == (status, field), response.text
    assert problem.request_id


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/pose", 405),
        ("POST", "/v1/state", 405),
        ("DELETE", "/v1/lease", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/jobs/1", 404),
        ("GET", "/v1/jobs/x", 404),
        ("GET", "/v1/jobs/-1", 404),
        ("GET", "/v1/jobs/" + "9" * 5000, 404),
        ("GET", "/docs", 404),
    ],
)
def test_what_is_not_there_is_a_problem_too(untouched_arm, method, path, status):
    response = untouched_arm.client.request(method, path)
    assert response.status_code == status
    assert decode(response.content, Problem).status == status


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("body", [b"", b"{}", b"not json", b" " * 100_000])
def test_a_stop_is_taken_in_any_form(arm, body, kind):
    """`curl -d` says that its body is a form: the stop was refused with 415."""
    response = arm.client.post("/v1/stop", content=body, headers={"Content-Type": kind})
    assert response.json()["mode"] == "stopped"
    assert arm.post("/v1/pose", VALID["/v1/pose"]).status_code == 423


def test_openapi_describes_every_message(arm):
    document = arm.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path in POSTS:
        operation = document["paths"][path]["post"]
        for content in (operation["requestBody"], operation["responses"]["200"], operation["responses"]["default"]):
            (media,) = content["content"].values()
            assert media["schema"]["$ref"].rsplit("/", 1)[1] in schemas
    assert schemas["PoseCommand"]["properties"]["pose"]["minItems"] == 7
    assert "StreamCommand" in schemas


def test_openapi_describes_every_part_of_a_path_that_varies(arm):
    """Programs that read the document, such as schemathesis, left out the routes of jobs and pictures."""
    varying = {}
    for path, methods in arm.client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            said = [part for part in operation.get("parameters", []) if part["in"] == "path"]
            assert [f"{{{part['name']}}}" for part in said] == re.findall(r"\{\w+\}", path)
            assert all(part["required"] for part in said)
            varying |= {part["name"]: part["schema"]["type"] for part in said}
    assert varying == {"number": "integer", "name": "string"}


def test_the_truth_and_jobs_can_be_read(arm):
    assert arm.client.get("/v1/sim/truth").json()["is_success"] is False
    job = arm.post("/v1/move", VALID["/v1/move"]).json()
    assert arm.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "running"


# ---- the stream


def test_the_stream_answers_each_command_with_a_state(arm):
    first = decode(arm.step(0.51), RobotState)
    second = decode(arm.step(0.52), RobotState)
    assert second.stamp_s - first.stamp_s == pytest.approx(0.1)
    assert second.tcp_pose[0] > first.tcp_pose[0] > 0.5


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"pose": (2.0, *HOME[1:])}, 422, "pose[0]"),
        ({"epoch": 2}, 409, "epoch"),
        ({"sequence": 0}, 409, "sequence"),
        ({"reply_after_s": 9.0}, 422, "reply_after_s"),
        ({"gripper": 2.0}, 422, "gripper"),
    ],
)
def test_a_refused_command_on_the_stream_moves_nothing_and_feeds_no_watchdog(arm, changes, status, field):
    arm.step(0.51)
    ticks = len(arm.backend.references)
    for _ in range(3):
        problem = decode(arm.step(0.52, **changes), Problem)
        assert (problem.status, problem.field) == (status, field)
    assert len(arm.backend.references) == ticks
    arm.post("/v1/sim/advance", {"epoch": 1, "duration_s": 0.25})
    assert arm.client.get("/v1/state").json()["mode"] == "hold"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"epoch": NaN}', b"\x00"])
def test_garbage_on_the_stream_is_a_problem_and_the_stream_goes_on(arm, text):
    assert decode(arm.stream.ask(text, 5.0), Problem).status in (400, 422)
    assert decode(arm.step(0.51), RobotState).mode.value == "tracking"


def test_bytes_on_the_stream_are_refused(arm):
    arm.stream._protocol.send_binary(b"{}")
    assert decode(arm.stream.ask(b"{}", 5.0), Problem).status == 415


def test_a_huge_message_ends_the_stream(arm):
    with pytest.raises(OSError, match=r"closed|reset"):
        arm.stream.ask(b" " * 100_000, 5.0)


def test_two_streams_of_one_lease_cannot_replay_each_other(arm):
    arm.step(0.51)
    second = Exchange(arm.url.replace("http", "ws") + "/v1/stream", HEADERS, 5.0)
    command = StreamCommand(epoch=1, sequence=1, pose=HOME, reply_after_s=0.1)
    assert decode(second.ask(encode(command), 5.0), Problem).status == 409
    second.close()
