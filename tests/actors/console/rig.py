"""What the console's tests run on: a console on a free port, an actor that says what it is told, a page in Python."""

import asyncio
import json
import os
import secrets
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import zmq
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from actors.console.server import create_server
from actors.console.settings import ConsoleSettings
from actors.console.steering_frames import SIMULATED
from actors.console.wrench_limits import load_wrench_limits
from examples.ram_insertion import CONFIG
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend
from robot_servers.testing import serving as serving_robot
from serl_core.operator.messages import Control, OperatorAddress, OperatorHello, StepReport, decode_from_console, encode
from serl_core.serving import bind

TOKEN = "console-token"
ROBOT_TOKEN = "robot-token"
PATIENCE_S = 20.0  # of a test on a busy machine
NO_ROBOT = "http://127.0.0.1:9"  # nobody listens on the discard port


def wait_until(fact, patience_s=PATIENCE_S):
    """Wait for what must come true soon; return it."""
    deadline_s = time.monotonic() + patience_s
    while not (found := fact()):
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.005)
    return found


def settings(folder: Path, **changes):
    (folder / "run").mkdir(exist_ok=True)
    (folder / "robot.token").write_text(ROBOT_TOKEN)
    values = {
        "run": folder / "run",
        "robot": NO_ROBOT,
        "robot_token_file": folder / "robot.token",
        "actor_id": None,
        "task": "ram_insertion",
        "config": CONFIG,
        "other_runs": {},
        "clips": folder / "run" / "videos",
        "limits": load_wrench_limits(None),
        "mountings": SIMULATED,
    }
    return ConsoleSettings(**values | changes)


@contextmanager
def console(folder: Path, **changes):
    """Serve a console on a thread; yield where it is."""
    with bind("127.0.0.1", 0) as listener:
        server = create_server(settings(folder, **changes), TOKEN, listener)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            assert thread.is_alive()
            served = Served(server.url)
            with served.client:
                yield served
        finally:
            server.should_exit = True
            thread.join()


class Served:
    """Where a console is, and how to ask it."""

    def __init__(self, url):
        self.url = url
        self.host = url.removeprefix("http://")
        self.client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S, trust_env=False
        )

    def get(self, path, **options):
        return self.client.get(path, **options)

    def page(self, operator="anna", token=TOKEN, **options):
        return Page(self.host, operator, token, **options)


class Page:
    """A browser's page, without the browser. Reads only when asked to."""

    def __init__(self, host, operator="anna", token=TOKEN, origin=None, **options):
        self._connecting = connect(
            f"ws://{host}/ws",
            origin=origin or f"http://{host}",
            compression=None,
            proxy=None,
            close_timeout=1,
            **options,
        )
        self._hello = None if token is None else {"token": token, "operator": operator}
        self.operator = operator  # as the console calls it: with a number while a page of before is not gone
        self.sequence = 0

    def __enter__(self):
        self.socket = self._connecting.__enter__()
        if self._hello is not None:
            with suppress(ConnectionClosed):  # it may be refused before it speaks: then there is a closing code
                self.say("hello", **self._hello)
        return self

    def __exit__(self, *details):
        self._connecting.__exit__(*details)

    def say(self, kind, **fields):
        self.socket.send(json.dumps({"kind": kind, **fields}))

    def steer(self, twist=(0.5, 0.0, 0.0, 0.0, 0.0, 0.0), *, engaged=True, sent_ms=None, **fields):
        self.sequence += 1
        sent_ms = time.monotonic() * 1e3 if sent_ms is None else sent_ms
        message = {"sequence": self.sequence, "sent_ms": sent_ms, "twist": twist, "engaged": engaged}
        self.say("teleop", **message | fields)

    def next(self, patience_s):
        """Return the next message, or None if none comes in time; pictures are of the kind "picture"."""
        try:
            packet = self.socket.recv(timeout=patience_s)
        except TimeoutError:
            return None
        message = json.loads(packet) if isinstance(packet, str) else {"kind": "picture", "packet": packet}
        if message["kind"] == "hello":
            self.operator = message["operator"]
        return message

    def hear(self, kind, accept=lambda message: True, patience_s=PATIENCE_S):
        """Return the next message of a kind that is accepted."""
        deadline_s = time.monotonic() + patience_s
        while True:
            message = self.next(deadline_s - time.monotonic())
            assert message is not None, f"no such message of kind {kind!r} came"
            if message["kind"] == kind and accept(message):
                return message

    def closing_code(self):
        """Wait until the console closes the connection; return why."""
        with suppress(Exception):
            while True:
                self.socket.recv(timeout=PATIENCE_S)
        return self.socket.protocol.close_code


@contextmanager
def robot(*, is_lockstep=True, backend=None):
    """Serve a point mass; yield its URL and its service."""
    service = RobotService(backend or PointMassBackend(is_lockstep=is_lockstep))
    with serving_robot(service, ROBOT_TOKEN) as url:
        yield url, service


def report(**changes):
    """Return what an actor says of a step."""
    values = {
        "session": "5e55",
        "episode": 3,
        "step": 7,
        "stamp_s": 12.0,
        "control": Control.POLICY,
        "end": "running",
        "reward": 0.0,
        "action": (0.0,) * 6,
        "is_intervention": False,
        "operator": None,
        "success_probability": 0.25,
        "success_threshold": 0.5,
        "policy_version": 2,
        "policy_age_s": 1.0,
        "loop_hz": 10.0,
        "late_ticks": 0,
        "camera_age_s": {"wrist": 0.03},
        "tcp_pose": (0.5, 0.0, 0.1, 1.0, 0.0, 0.0, 0.0),
        "tcp_wrench": (0.0,) * 6,
    }
    return StepReport(**values | changes)


class FakeActor:
    """The actor's end of the operator link: keeps what it hears, and says what a test wants. Its thread answers."""

    def __init__(self, run: Path, actor_id="actor-0", token="actor-token", **address):
        self.heard = []  # (monotonic clock, message), without hellos
        self.hellos = []
        self.session = secrets.token_hex(8)  # of its report while a test says nothing
        self.path = run / f"{actor_id}.operator"
        self.token = token
        self.is_frozen = threading.Event()
        self._to_say = []
        self._said = []
        self._ending = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind("tcp://127.0.0.1:0")
        endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        partial = self.path.with_suffix(".partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(msgspec.json.encode(OperatorAddress(address=endpoint, token=token, **address)))
        partial.replace(self.path)
        self._consoles = set()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()
        self._socket.close()
        self._context.term()
        self.path.unlink(missing_ok=True)

    def say(self, message):
        self._to_say.append(message)

    def has_said(self, message):
        """Return whether a message has left."""
        return message in self._said

    def heard_of(self, kind):
        return [message for _, message in self.heard if isinstance(message, kind)]

    def wait_for(self, kind, count=1):
        """Return the last of at least `count` messages of a kind."""
        return wait_until(lambda: len(found := self.heard_of(kind)) >= count and found[-1])

    def _run(self):
        said_s = 0.0
        while not self._ending.is_set():
            if self.is_frozen.is_set():
                time.sleep(0.01)
                continue
            if self._socket.poll(5):
                console, frame = self._socket.recv_multipart()
                message = decode_from_console(frame)
                if isinstance(message, OperatorHello):
                    self.hellos.append(message.token)
                    if console not in self._consoles:
                        said_s = 0.0
                    self._consoles.add(console)
                else:
                    self.heard.append((time.monotonic(), message))
            if not self._to_say and time.monotonic() - said_s > 0.5:
                self._to_say.append(report(session=self.session))
            while self._to_say and self._consoles:
                said_s = time.monotonic()
                message = self._to_say.pop(0)
                for console in self._consoles:
                    self._socket.send_multipart([console, encode(message)])
                self._said.append(message)


def run_async(work):
    """Run a coroutine that must end."""
    return asyncio.run(asyncio.wait_for(work, PATIENCE_S))
