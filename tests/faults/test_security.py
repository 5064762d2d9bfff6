"""Rows X2, X3, X6, X9, X10 and X12: who may do what, what is replayed, what is proven, and what is never called."""

import ast
import itertools
import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from robot_servers.audit_chain import verify
from robot_servers.auth import OPEN_PATHS, STOP_PATH
from robot_servers.service import RobotService
from robot_servers.stop_socket import StopSocket
from robot_servers.testing import PointMassBackend, serving
from robot_servers.tokens import Tokens
from serl_core.cli.main import main
from serl_core.errors import DataError
from serl_core.networks.pickled_child import read_arrays_apart
from serl_core.robots.messages import LeaseRequest, Mode, PoseCommand, StreamCommand, encode
from serl_core.robots.stream import Exchange, ExchangeRefused
from serl_core.serving import bind
from tests.faults.fault_rows import row
from tests.faults.robot_rig import arm

TOKENS = Tokens(control="c" * 64, observe="o" * 64, admin="a" * 64)
ROOT = Path(__file__).parents[2]
SOURCES = ("serl_core", "robot_servers", "actors", "learners", "examples", "benchmarks")


class Api:
    """A served arm, and every route that its OpenAPI document names."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients = (f"127.0.{i // 250}.{1 + i % 250}" for i in itertools.count(1))
        document = self.ask("GET", "/openapi.json").json()
        self.routes = [
            (method.upper(), path.replace("{number}", "1").replace("{name}", "wrist"))
            for path, methods in document["paths"].items()
            for method in methods
        ]
        assert len(self.routes) >= 20

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """The answer, to a client of another address each time."""
        transport = httpx.HTTPTransport(local_address=next(self._clients))
        with httpx.Client(base_url=self.url, transport=transport, timeout=60.0) as client:
            return client.request(method, path, **options)


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@row("X2")
def test_every_route_needs_a_token_and_an_observers_only_reads_and_stops(observed):
    with arm() as one, serving(one.service, TOKENS) as url:
        api = Api(url)
        assert set(OPEN_PATHS) & {path for _, path in api.routes} == {"/v1/health"}
        guarded = [route for route in api.routes if route[1] not in OPEN_PATHS]
        for method, path in guarded:
            assert api.ask(method, path).status_code == 401, path
            assert api.ask(method, path, headers=bearer("wrong")).status_code == 401, path
            status = api.ask(method, path, headers=bearer(TOKENS.observe)).status_code
            is_allowed = method == "GET" or path == STOP_PATH
            assert (status not in (401, 403)) if is_allowed else (status == 403), (path, status)
        for token, status in ((None, 401), ("wrong", 401), (TOKENS.observe, 403)):
            with pytest.raises(ExchangeRefused) as refused:
                Exchange(url.replace("http", "ws") + "/v1/stream", bearer(token), 60.0)
            assert refused.value.status == status
        assert one.state.mode is Mode.STOPPED  # by the observer, and by nobody else
    observed(f"{len(guarded)} routes and the stream: 401 without, 401 with a wrong, 403 with an observer's but to read")


BAD_FORMS = [
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Host": "evil.example"}, 403),
    ({"Host": "127.0.0.1.evil.example"}, 403),
]


@row("X3")
def test_no_web_page_and_no_foreign_name_does_anything_and_the_torques_do_not_change(observed):
    asked = 0

    def torques(is_attacked: bool) -> list[object]:
        nonlocal asked
        with arm() as one, serving(one.service, TOKENS) as url:
            one.follow(0.02, 0.2)
            api = Api(url)
            command = encode(PoseCommand(epoch=one.epoch, pose=one.target(dx=-0.05)))
            for method, path in api.routes if is_attacked else ():
                for headers, status in BAD_FORMS if method == "POST" and path != STOP_PATH else ():
                    good = {"Content-Type": "application/json", **bearer(TOKENS.admin)}
                    asked += 1
                    assert api.ask(method, path, headers=good | headers, content=command).status_code == status, path
            for headers, status in BAD_FORMS[2:] if is_attacked else ():
                assert api.ask("POST", STOP_PATH, headers=bearer(TOKENS.admin) | headers).status_code == status
                asked += 1
            one.follow(0.02, 0.2)
            return list(one.backend.log)

    assert torques(is_attacked=True) == torques(is_attacked=False)
    observed(f"{asked} requests refused by 403 or 415, torques equal to the run without, to the bit")


@row("X6")
def test_a_captured_command_does_nothing_when_it_is_sent_again(observed):
    with arm() as one, serving(one.service, TOKENS) as url:
        stream, headers = url.replace("http", "ws") + "/v1/stream", bearer(TOKENS.control)
        captured = [
            encode(StreamCommand(epoch=one.epoch, sequence=number, pose=one.target(dx=0.01), reply_after_s=0.01))
            for number in (1, 2, 3)
        ]
        owner = Exchange(stream, headers, 60.0)
        assert all(json.loads(owner.ask(command, 60.0))["mode"] == "tracking" for command in captured)
        before = one.state.reference_pose
        thief = Exchange(stream, headers, 60.0)
        answers = [json.loads(thief.ask(command, 60.0))["status"] for command in captured]

        old_epoch = one.epoch
        one.service.lease(LeaseRequest(action="release", owner="test", epoch=old_epoch))
        one.acquire()
        before = one.state.reference_pose
        late = encode(StreamCommand(epoch=old_epoch, sequence=4, pose=one.target(dx=0.05), reply_after_s=0.1))
        answers += [json.loads(thief.ask(command, 60.0))["status"] for command in (*captured, late)]
        with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
            for path in ("/v1/pose", "/v1/wrench", "/v1/move", "/v1/impedance", "/v1/gripper", "/v1/resume"):
                body = {"epoch": old_epoch}
                body |= {"pose": one.target(dx=0.05)} if path in ("/v1/pose", "/v1/move") else {}
                body |= {"wrench": [1.0] * 6} if path == "/v1/wrench" else {}
                body |= {"params": {}} if path == "/v1/impedance" else {}
                body |= {"position": 0.0} if path == "/v1/gripper" else {}
                answers.append(client.post(path, json=body).status_code)
        one.advance(0.5)
        moved_m = float(np.abs(np.subtract(one.state.reference_pose[:3], before[:3])).max())
        owner.close()
        thief.close()
    assert answers == [409] * len(answers)
    assert moved_m < 1e-3
    observed(
        f"{len(answers)} captured or old commands, all 409; the set-point moved by {1e3 * moved_m:.2f} mm afterwards"
    )


@row("X9")
def test_the_verifier_names_the_line_after_one_that_was_removed(observed, tmp_path, capsys):
    path = tmp_path / "audit.jsonl"
    service = RobotService(PointMassBackend(), audit_log=path)
    service.start()
    for _ in range(4):
        pose_epoch = service.state().pose_epoch
        epoch = service.lease(LeaseRequest(action="acquire", owner="test", pose_epoch=pose_epoch)).epoch
        service.lease(LeaseRequest(action="release", owner="test", epoch=epoch))
        service.stop()
    service.close()
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) >= 10
    assert (verify(path).lines, verify(path).broken) == (len(lines), None)
    for missing in range(len(lines) - 1):
        path.write_bytes(b"".join([*lines[:missing], *lines[missing + 1 :]]))
        broken = verify(path).broken
        assert broken is not None
        assert broken.startswith(f"audit.jsonl, line {missing + 1}: ")
    assert main(["audit", "verify", str(path)]) == 2
    assert "audit.jsonl, line" in capsys.readouterr().err
    observed(f"each of {len(lines) - 1} lines removed in turn: `serl audit verify` names its place")


# ---- X10

BANNED = {
    "eval", "exec", "input", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "marshal.load", "marshal.loads", "shelve.open", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads",
    "joblib.load", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "np.load", "numpy.load", "jnp.load",
    "pd.read_pickle", "tempfile.mktemp", "ssl._create_unverified_context",
}  # fmt: skip
BANNED_IMPORTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch"}
BANNED_ARGUMENTS = {("allow_pickle", True), ("shell", True)}
ALLOWED = {("serl_core/networks/pickled_arrays.py", "pickle")}
"""The restricted reader itself, which runs in a child process alone."""
WALL_CLOCK = {
    "serl_core/data/metrics_file.py",  # when a line was written, for people
    "robot_servers/audit.py",  # likewise
    "actors/console/console.py",  # likewise, of the episode's end
    "actors/console/run_feed.py",  # the age of a line that another process wrote, for people
    "actors/console/steering.py",  # a first number above those of an earlier console
    "benchmarks/console_human.py",
}


def dotted(node: ast.expr) -> str:
    """Return what is called, such as ``np.load``."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
    return "?"


def findings(name: str, text: str) -> list[str]:
    """Return each banned call or import in a source."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [f"{name}: imports {alias.name}" for alias in node.names if alias.name in BANNED_IMPORTS]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BANNED_IMPORTS | {"time"}:
            named = {alias.name for alias in node.names}
            if node.module != "time" or "time" in named:
                found.append(f"{name}: imports from {node.module}")
        if isinstance(node, ast.Attribute) and dotted(node) in BANNED:
            found.append(f"{name}:{node.lineno}: {dotted(node)}")
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        if called in BANNED and isinstance(node.func, ast.Name):
            found.append(f"{name}:{node.lineno}: {called}")
        if called == "time.time" and name not in WALL_CLOCK:
            found.append(f"{name}:{node.lineno}: time.time")
        for keyword in node.keywords:
            if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in BANNED_ARGUMENTS:
                found.append(f"{name}:{node.lineno}: {called}({keyword.arg}=True)")
    return [line for line in found if not any(line.startswith(file) and word in line for file, word in ALLOWED)]


@row("X10")
def test_no_source_calls_what_runs_data_as_code(observed):
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 250
    found = [line for path in files for line in findings(str(path.relative_to(ROOT)), path.read_text())]
    assert found == []
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "S301,S302,S307,S506,S614", *SOURCES]
    ruff = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    complaints = [line for line in ruff.stdout.splitlines() if "-->" in line]
    assert all("pickled_arrays.py" in line for line in complaints), ruff.stdout
    observed(
        f"{len(files)} files, 0 calls of {len(BANNED)} that are banned; ruff's S301, S302, S307, S506, S614 find none"
    )


CARELESS = """import pickle
from pickle import loads
f(allow_pickle=True)
np.load('x')
eval('1')
exec('1')
input()
os.system('x')
subprocess.run('x', shell=True)
time.time()
from time import time
yaml.load(x)
loader = yaml.unsafe_load
"""


@pytest.mark.parametrize("text", CARELESS.splitlines())
def test_the_scan_finds_each_of_them(text):
    assert findings("somewhere.py", text)


# ---- X12


class Call:
    """Pickled, it calls a function when it is read."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self):
        return self._call


def corpus(trace: Path) -> dict[str, bytes]:
    """Pickles that would do harm, each in another way; those that succeed leave `trace`."""
    memo_bomb = b"\x80\x04]\x94" + b"".join(b"]\x94(" + b"h%c" % i * 20 + b"e" for i in range(30)) + b"."
    return {
        "system": pickle.dumps(Call(os.system, f"touch {trace}")),
        "system, protocol 0": pickle.dumps(Call(os.system, f"touch {trace}"), 0),
        "inside a dict": pickle.dumps({"kernel": np.zeros(3), "more": Call(os.system, f"touch {trace}")}),
        "eval": pickle.dumps(Call(eval, f"open({str(trace)!r}, 'w')")),
        "subprocess": pickle.dumps(Call(subprocess.Popen, ["touch", str(trace)])),
        "import": b"cthis\ns\n.",
        "getattr chain": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR.",
        "build on a class": b"c_codecs\nencode\n(N}S'spoilt'\nS'yes'\nstb.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Pevil\n.",
        "8 exabytes of text": b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x.",
        "8 exabytes of bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",
        "a frame without end": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"N.",
        "memo of 4 billion": b"\x80\x02Nr\xff\xff\xff\xff.",
        "nested a million deep": b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
        "lists of lists of lists": memo_bomb,
        "an array of 10^18": pickle.dumps({"a": Call(np.ndarray, (10**9, 10**9))}),
        "array of objects": pickle.dumps({"a": np.array([{}, print], object)}),
        "torch's zip": b"PK\x03\x04"
        + b"\x00" * 26
        + b"archive/data.pkl"
        + pickle.dumps(Call(os.system, f"touch {trace}")),
        "numpy's object file": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(
            128
        )
        + pickle.dumps(Call(os.system, f"touch {trace}")),
        "nothing": b"",
    }


@row("X12")
@pytest.mark.long
def test_every_malicious_pickle_is_refused_in_a_child_and_the_parent_goes_on(observed, tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "weights.pkl"
    harmful = corpus(trace)
    for name, content in harmful.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"weights\.pkl"):
            read_arrays_apart(path)
        assert not trace.exists(), name
    path.write_bytes(pickle.dumps({"a": {"kernel": np.arange(3.0, dtype=np.float32)}}))
    np.testing.assert_array_equal(read_arrays_apart(path)["a/kernel"], [0.0, 1.0, 2.0])
    observed(f"{len(harmful)} pickles refused, none left a trace; a good one is read afterwards")


ESCAPES = {
    "write": "open({trace!r}, 'w')",
    "run": "__import__('os').system('touch {trace}')",
    "connect": "__import__('socket').create_connection(('127.0.0.1', {port}))",
    "import": "import wave",
    "loop": "while True: pass",
    "fill memory": "x = bytearray(1 << 40)\nraise DataError('it had the memory')",
}


@row("X12")
@pytest.mark.parametrize("name", ESCAPES)
def test_code_that_had_got_past_the_reader_would_be_ended_with_its_child(observed, tmp_path, monkeypatch, name):
    """As if the restricted reader had a hole: what a pickle could then do is done by the child itself."""
    from serl_core.networks import pickled_child

    trace, path = tmp_path / "trace", tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"a": np.zeros(2)}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = ESCAPES[name].format(trace=str(trace), port=listener.getsockname()[1])
        body = "\n    ".join(code.splitlines())
        hole = f"def hole(path):\n    {body}\n"
        script = (
            "import serl_core.networks.pickled_child as child\nfrom serl_core.errors import DataError\n"
            f"import socket, resource\nchild.CPU_S = 1\n{hole}\nchild.read_arrays = hole\nchild.main()\n"
        )
        run = subprocess.run
        monkeypatch.setattr(
            pickled_child.subprocess, "run", lambda command, **options: run([sys.executable, "-c", script], **options)
        )
        with pytest.raises(DataError, match="its reader was ended") as refused:
            read_arrays_apart(path, timeout_s=60.0)
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not trace.exists()
    observed(f"{name}: {str(refused.value).rsplit('(', 1)[1].rstrip(')')}")


def test_an_idle_stops_socket_takes_the_same_tokens_as_the_api():
    """The row X2 is about HTTP's routes; the stop's own socket judges tokens by the same list."""
    with bind("127.0.0.1", 0) as listener:
        causes: list[str] = []
        served = StopSocket(listener, causes.append, TOKENS, ("127.0.0.1",), "x")
        served.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/stop"
        statuses = [httpx.post(url, headers=bearer(token), timeout=60.0).status_code for token in (*TOKENS, "wrong")]
        served.close()
    assert statuses == [200, 200, 200, 401]
    assert causes == ["stop"] * 3
