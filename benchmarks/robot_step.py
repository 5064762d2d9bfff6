"""What one env step costs on the wire: one WebSocket message here, three HTTP calls to a Flask server there.

Run as `python benchmarks/robot_step.py`. Prints one JSON line, times in ms. Both servers are processes
of their own on loopback, and the two kinds of step alternate, so both see the same machine. The arm is a
point mass that ticks once per step (some 10 us): what is left is the cost outside the simulation.

The Flask server stands for HIL-SERL's: werkzeug's threaded development server, asked on a new
connection for each of /clearerr, /pose and /getstate. Flask is installed into build/bench-flask, never into
the project's environment; the first run needs a package index.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from robot_servers.limits import SafetyLimits
from robot_servers.main import serve
from robot_servers.service import RobotService
from robot_servers.testing import HOME, TICK_S, PointMassBackend
from serl_core.robots.http_client import HttpRobot
from serl_core.serving import bind

TOKEN = "benchmark"
START_TIMEOUT_S = 60.0
WARM_UP = 50

FLASK_SERVER = """
import logging, sys
from flask import Flask, jsonify, request

logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = Flask("robot")
state = dict(pose=[0.0] * 7, vel=[0.0] * 6, force=[0.0] * 3, torque=[0.0] * 3, q=[0.0] * 7, dq=[0.0] * 7,
             jacobian=[[0.0] * 7] * 6, gripper_pos=1.0)

@app.route("/clearerr", methods=["POST"])
def clearerr():
    return "Clear"

@app.route("/pose", methods=["POST"])
def pose():
    state["pose"] = request.json["arr"]
    return "Moved"

@app.route("/getstate", methods=["POST"])
def getstate():
    return jsonify(state)

app.run(host="127.0.0.1", port=int(sys.argv[1]))
"""


def serve_point_mass(ready_file: Path) -> None:
    """Serve the fake arm: a process of its own."""
    limits = SafetyLimits(commands_per_s=1e9)
    with bind("127.0.0.1", 0) as listener:
        serve(RobotService(PointMassBackend(), limits), TOKEN, listener, ready_file=ready_file)


@contextlib.contextmanager
def websocket_step(folder: Path) -> Iterator[Callable[[], object]]:
    """Yield one step over the WebSocket."""
    ready_file, token_file = folder / "url", folder / "token"
    token_file.write_text(TOKEN)
    process = multiprocessing.get_context("spawn").Process(target=serve_point_mass, args=(ready_file,))
    process.start()
    try:
        wait_for(ready_file.exists, "robot server")
        robot = HttpRobot(ready_file.read_text().strip(), owner="benchmark", token_file=token_file)
        robot.connect()
        yield lambda: robot.step(HOME, TICK_S)
        robot.close()
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def flask_step(environment: Path) -> Iterator[Callable[[], object]]:
    """Yield one step as three calls without keep-alive."""
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "flask"], check=True)
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([str(python), "-c", FLASK_SERVER, str(port)], stdout=subprocess.DEVNULL)

    def post(path: str, body: object = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
        content = None if body is None else json.dumps(body)
        connection.request("POST", path, content, {"Content-Type": "application/json"} if content else {})
        answer = connection.getresponse().read()
        connection.close()
        return answer

    def step() -> object:
        post("/clearerr")
        post("/pose", {"arr": HOME})
        return json.loads(post("/getstate"))

    def is_up() -> bool:
        with contextlib.suppress(OSError):
            return bool(post("/clearerr"))
        return False

    try:
        wait_for(is_up, "Flask server")
        yield step
    finally:
        process.terminate()
        process.wait()


def wait_for(is_ready: Callable[[], bool], name: str) -> None:
    """Wait until a server is up."""
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if time.monotonic() > give_up_s:
            sys.exit(f"the {name} did not start within {START_TIMEOUT_S:g} s")
        time.sleep(0.05)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--flask", type=Path, default=Path("build/bench-flask"), help="environment to use or make")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        websocket_step(Path(folder)) as ours,
        flask_step(args.flask) as theirs,
    ):
        times = np.empty((args.steps + WARM_UP, 2))
        for row in times:
            for i, step in enumerate((ours, theirs)):
                start_s = time.perf_counter()
                step()
                row[i] = 1e3 * (time.perf_counter() - start_s)
    (ours_p50, theirs_p50), (ours_p99, theirs_p99) = np.percentile(times[WARM_UP:], [50, 99], axis=0).round(3).tolist()
    print(
        json.dumps(
            {
                "websocket_p50_ms": ours_p50,
                "websocket_p99_ms": ours_p99,
                "three_http_calls_p50_ms": theirs_p50,
                "three_http_calls_p99_ms": theirs_p99,
                "ratio_p50": round(theirs_p50 / ours_p50, 1),
                "ratio_p99": round(theirs_p99 / ours_p99, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
