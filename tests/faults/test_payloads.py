"""Row X4: the four payloads that run code in careless programs, at every listening socket and at every loader."""

import hashlib
import json
import os
import pickle
import socket
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import zmq
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from actors.console.results import load_evaluation
from actors.console.steering_frames import load_mountings
from actors.console.task_facts import load_config
from actors.operator_link import OperatorLink
from actors.spool import Spool
from learners.checkpoints import ARRAYS, FACTS, FORMAT, SUMS, Checkpoints
from robot_servers.audit_chain import verify
from robot_servers.limits import load_limits
from robot_servers.stop_socket import StopSocket
from robot_servers.testing import serving
from robot_servers.tokens import Tokens
from serl_core.data.episode_file import load_episode, load_header
from serl_core.data.label_review import read_corrections
from serl_core.data.labelled_frames import load_labelled
from serl_core.data.metrics_file import read_metrics
from serl_core.errors import SerlError
from serl_core.networks.pickled_arrays import read_arrays
from serl_core.networks.weights import load_policy, load_weights
from serl_core.robots.messages import PictureFormat
from serl_core.robots.pictures import unpack
from serl_core.robots.token import read_token
from serl_core.serving import bind
from serl_core.transport.codec import decode_transition, decode_weights
from serl_core.transport.zmq_transport import ZmqLearnerLink
from tests.actors.console.rig import console
from tests.faults.fault_rows import row
from tests.faults.robot_rig import arm

TOKEN = "p" * 64
WATCHED = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")


class Touch:
    """Pickled, it runs a command when it is read."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self._trace}",)


def payloads(trace: Path) -> dict[str, bytes]:
    """The four: a pickle, torch's zip around one, numpy's file of objects, YAML with a Python tag."""
    harmful = pickle.dumps(Touch(trace))
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("archive/data.pkl", harmful)
        zipped.writestr("archive/version", "3\n")
    numpy_file = BytesIO()
    np.save(numpy_file, np.array([Touch(trace)], object), allow_pickle=True)
    yaml = f'!!python/object/apply:os.system ["touch {trace}"]\n'
    return {"pickle": harmful, "torch": archive.getvalue(), "numpy": numpy_file.getvalue(), "yaml": yaml.encode()}


class AuditHook:
    """Notes what runs or unpickles while it is armed. Python keeps a hook for ever: there is one."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._is_armed = False
        sys.addaudithook(self._note)

    @contextmanager
    def armed(self) -> Iterator[None]:
        self.seen, self._is_armed = [], True
        try:
            yield
        finally:
            self._is_armed = False

    def _note(self, event: str, args: tuple[object, ...]) -> None:
        if self._is_armed and event in WATCHED:
            self.seen.append(f"{event} {args!r}"[:300])


@pytest.fixture(scope="module")
def hook() -> AuditHook:
    return AuditHook()


def test_the_hook_sees_a_careless_loader(hook, tmp_path):
    """Or the row below would prove nothing."""
    trace = tmp_path / "trace"
    with hook.armed():
        pickle.loads(payloads(trace)["pickle"])  # noqa: S301 our own, to show that it would do harm
        np.load(BytesIO(payloads(trace)["numpy"]), allow_pickle=True)
    assert trace.exists()
    assert {seen.split(" ")[0] for seen in hook.seen} >= {"pickle.find_class", "os.system"}


# ---- sockets


def attack_robot_server(bodies: dict[str, bytes]) -> int:
    sent = 0
    with arm() as one, serving(one.service, TOKEN) as url:
        paths = httpx.get(url + "/openapi.json", timeout=60.0).json()["paths"]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
            for path in (path for path, methods in paths.items() if "post" in methods and path != "/v1/stop"):
                for body in bodies.values():
                    for kind in ("application/json", "application/x-pickle"):
                        status = client.post(path, content=body, headers={"Content-Type": kind}).status_code
                        assert status in (400, 415, 422), (path, status)
                        sent += 1
        for body in bodies.values():
            for message in (body, body.decode("latin-1")):
                with connect(url.replace("http", "ws") + "/v1/stream", additional_headers=headers) as stream:
                    stream.send(message)
                    assert json.loads(stream.recv(60.0))["status"] in (400, 415, 422)
                sent += 1
    return sent


def attack_stop_socket(bodies: dict[str, bytes]) -> int:
    causes: list[str] = []
    with bind("127.0.0.1", 0) as listener:
        served = StopSocket(listener, causes.append, Tokens.single(TOKEN), ("127.0.0.1",), "x")
        served.start()
        for body in bodies.values():
            with closing(socket.create_connection(listener.getsockname()[:2], 60.0)) as connection:
                connection.sendall(body + b"\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 400")
        served.close()
    assert causes == []
    return len(bodies)


def attack_router(address: str, bodies: dict[str, bytes]) -> int:
    sent = 0
    for body in bodies.values():
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 1000
            dealer.connect(address)
            for frames in ([body], [b"", body], [b"SERL", body], [body, body, body], [body[:3], b"hello", body]):
                dealer.send_multipart(frames)
                sent += 1
            dealer.poll(200)
    return sent


def attack_learner(bodies: dict[str, bytes]) -> int:
    with ZmqLearnerLink("digest") as link:
        sent = attack_router(link.address, bodies)
        assert list(link.receive(0.2)) == []
    return sent


def attack_operator_link(bodies: dict[str, bytes], folder: Path) -> int:
    taken: list[object] = []
    path = folder / "actor-0.operator"
    with OperatorLink(path, lambda message, _: taken.append(message) or []):
        sent = attack_router(json.loads(path.read_text())["address"], bodies)
    assert taken == []
    return sent


def attack_console(bodies: dict[str, bytes], folder: Path) -> int:
    sent = 0
    with console(folder) as served:
        for body in bodies.values():
            for path in ("/", "/history", "/episodes", "/report", "/ws"):
                assert served.client.post(path, content=body).status_code in (400, 403, 404, 405)
                sent += 1
            for message in (body, body.decode("latin-1")):
                url = str(served.client.base_url).replace("http", "ws").rstrip("/") + "/ws"
                try:
                    with connect(url) as stream:
                        stream.send(message)
                        stream.recv(60.0)
                        raise AssertionError("the console answered")
                except WebSocketException:
                    sent += 1  # closed
    return sent


@row("X4")
def test_no_socket_runs_or_unpickles_what_it_is_sent(hook, observed, tmp_path):
    trace = tmp_path / "trace"
    bodies = payloads(trace)
    with hook.armed():
        sent = {
            "robot server": attack_robot_server(bodies),
            "stop": attack_stop_socket(bodies),
            "learner": attack_learner(bodies),
            "operator link": attack_operator_link(bodies, tmp_path),
            "console": attack_console(bodies, tmp_path),
        }
        time.sleep(0.2)
    assert not trace.exists()
    assert hook.seen == []
    counts = ", ".join(f"{name} {count}" for name, count in sent.items())
    observed(f"payloads sent ({counts}): no trace, the audit hook saw nothing unpickled or run")


# ---- loaders


def checkpoint(path: Path) -> object:
    """A checkpoint whose checksums are right: only its arrays are the payload."""
    folder = path.parent / "checkpoints" / "000001"
    folder.mkdir(parents=True)
    contents = {ARRAYS: path.read_bytes(), FACTS: b"{}"}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    for name, data in {**contents, SUMS: json.dumps({"format": FORMAT, "files": sums}).encode()}.items():
        (folder / name).write_bytes(data)
    return Checkpoints(folder.parent).newest()


def spool(path: Path) -> object:
    with Spool(path, digest="digest") as opened:
        return opened.counters()


def config(path: Path) -> object:
    (path.parent / "task.json").write_bytes(path.read_bytes())
    if load_config(path.parent, None) is None:
        raise SerlError("the task is not said")
    return None


def evaluation(path: Path) -> object:
    (path.parent / "eval.json").write_bytes(path.read_bytes())
    found = load_evaluation(path.parent, path.parent)
    if found["evaluation"] is None:
        raise SerlError("no evaluation")
    return found


LOADERS: dict[str, Callable[[Path], object]] = {
    "episode": load_episode,
    "episode header": load_header,
    "labelled frames": load_labelled,
    "corrections": read_corrections,
    "policy": load_policy,
    "weights": lambda path: load_weights(path, "remedy"),
    "pickled arrays": read_arrays,
    "checkpoint": checkpoint,
    "spool": spool,
    "limits": load_limits,
    "camera mountings": load_mountings,
    "task.json": config,
    "evaluation": evaluation,
    "token": read_token,
    "transition": lambda path: decode_transition(path.read_bytes()),
    "policy weights": lambda path: decode_weights(path.read_bytes()),
    "JPEG": lambda path: unpack(path.read_bytes(), PictureFormat.JPEG, 16, 16),
    "PNG": lambda path: unpack(path.read_bytes(), PictureFormat.PNG, 16, 16),
}


def broken_audit_log(path: Path) -> None:
    assert verify(path).broken is not None


def empty_metrics(path: Path) -> None:
    assert list(read_metrics(path)) == []


@row("X4")
def test_no_loader_runs_or_unpickles_a_file(hook, observed, tmp_path):
    trace = tmp_path / "trace"
    loaded = 0
    for kind, body in payloads(trace).items():
        for name, load in LOADERS.items():
            folder = tmp_path / f"{kind} {name}"
            folder.mkdir()
            path = folder / "file"
            path.write_bytes(body)
            with hook.armed(), pytest.raises((SerlError, ValueError)):
                load(path)
            assert hook.seen == [], (kind, name)
            loaded += 1
        path = tmp_path / f"{kind}.jsonl"
        path.write_bytes(body)
        with hook.armed():
            broken_audit_log(path)
            empty_metrics(path)
        assert hook.seen == [], kind
        loaded += 2
    assert not trace.exists()
    observed(f"{len(LOADERS) + 2} loaders x 4 files = {loaded}: refused, no trace, nothing unpickled or run")
