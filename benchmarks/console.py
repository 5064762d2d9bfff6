"""What the console costs: from a page's command to the actor, a stop to the robot, and its share of a core.

Run as `python benchmarks/console.py`. A simulated arm in real time with three cameras, the console in a process of
its own, and a page in this one that steers at 30 Hz for some seconds. Prints one JSON line: `command_ms` from the
page's send to the actor's link, `stop_ms` from the request to the answer that the arm is stopped, `core_share` of
the console's process while a page looks, and `idle_share` while none does.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from websockets.sync.client import ClientConnection, connect

from actors.operator_link import OperatorLink
from serl_core.cli.processes import ProcessGroup
from serl_core.operator.messages import Control, FromActor, StepReport, TeleopInput, ToActor

SECONDS = 15.0
PERIOD_S = 1.0 / 30.0
STOPS = 20
START_S = 60.0
REPORT = StepReport(
    session="5e55",
    episode=0,
    step=1,
    stamp_s=0.0,
    control=Control.POLICY,
    end="running",
    reward=0.0,
    action=(0.0,) * 6,
    is_intervention=False,
    operator=None,
    success_probability=None,
    success_threshold=None,
    policy_version=1,
    policy_age_s=1.0,
    loop_hz=10.0,
    late_ticks=0,
    camera_age_s={},
    tcp_pose=(0.5, 0.0, 0.1, 1.0, 0.0, 0.0, 0.0),
    tcp_wrench=(0.0,) * 6,
)


class Arrivals:
    """Notes when each command came, as the actor would."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def take(self, message: ToActor, now_s: float) -> tuple[FromActor, ...]:
        """Take in one message, on the link's thread."""
        if isinstance(message, TeleopInput):
            self.times_s.append(now_s)
        return ()


def steer(page: ClientConnection, arrivals: Arrivals) -> list[float]:
    """Send commands at 30 Hz while pictures and states come in; return what each needed, in ms."""
    sent_s: list[float] = []
    until_s = time.monotonic() + SECONDS
    next_s = time.monotonic()
    while time.monotonic() < until_s:
        next_s += PERIOD_S
        while (left_s := next_s - time.monotonic()) > 0.0:
            try:
                page.recv(timeout=left_s)
            except TimeoutError:
                break
        now_s = time.monotonic()
        command = {"sequence": len(sent_s), "sent_ms": 1e3 * now_s, "twist": [0.1, 0, 0, 0, 0, 0], "engaged": True}
        page.send(json.dumps({"kind": "teleop", "frame": "base", **command}))
        sent_s.append(now_s)
    time.sleep(0.5)
    return [1e3 * (arrived - sent) for arrived, sent in zip(arrivals.times_s, sent_s, strict=True)]


def is_open(packet: str | bytes) -> bool:
    """Return whether a packet says that robot and actor are both there."""
    message = json.loads(packet) if isinstance(packet, str) else {}
    return message.get("kind") == "state" and message["robot"] is not None and message["missing"]["actor"] is None


def used(process: int) -> tuple[float, float]:
    """Return the CPU time of a process and the wall time, in s."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic()


def core_share(process: int, began: tuple[float, float]) -> float:
    """Return the share of a core since `began`."""
    cpu_s, wall_s = used(process)
    return round((cpu_s - began[0]) / (wall_s - began[1]), 4)


def child(program: str) -> int:
    """Return the process id of a program that this one has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return next(
        int(number) for number in children if program in Path(f"/proc/{number}/cmdline").read_text().split("\0")
    )


def measured(folder: Path, group: ProcessGroup) -> dict[str, object]:
    """Start everything, steer, stop."""
    token_file, run = folder / "robot.token", folder / "run"
    options = ["--scene", "ram_insertion", "--port", "0", "--token-file", str(token_file)]
    group.start("robot server", ["robot-server", *options, "--ready-file", str(folder / "robot")])
    robot = group.wait_for_file("robot server", folder / "robot", START_S)
    options = ["--run", str(run), "--robot", robot, "--token-file", str(token_file), "--task", "ram_insertion_pixels"]
    group.start("console", ["console", *options, "--port", "0", "--ready-file", str(folder / "console")])
    url = group.wait_for_file("console", folder / "console", START_S)
    process = child("console")
    arrivals = Arrivals()
    token = (run / "console.token").read_text().strip()
    with OperatorLink(run / "actor-0.operator", arrivals.take) as link:
        with connect(f"{url.replace('http', 'ws')}/ws", compression=None, proxy=None) as page:
            page.send(json.dumps({"kind": "hello", "token": token, "operator": "benchmark"}))
            while not (link.is_watched and is_open(page.recv(timeout=START_S))):
                link.tell(REPORT)
            began = used(process)
            command_ms = steer(page, arrivals)
            share = core_share(process, began)
        stop_ms = [stopped_ms(url, token) for _ in range(STOPS)]
        began = used(process)
        time.sleep(3.0)
        idle = core_share(process, began)
    return {
        "commands": len(command_ms),
        "command_ms": quantiles(command_ms),
        "stop_ms": quantiles(stop_ms),
        "core_share": share,
        "idle_share": idle,
    }


def stopped_ms(url: str, token: str) -> float:
    """Return how long a stop takes until the robot's answer is here, in ms; a connection of its own each."""
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=5.0) as client:
        start_s = time.perf_counter()
        client.post(f"{url}/stop").raise_for_status()
        return 1e3 * (time.perf_counter() - start_s)


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the largest."""
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(max(values), 2)}


def main() -> None:
    """Measure once."""
    with tempfile.TemporaryDirectory() as folder, ProcessGroup(Path(folder) / "logs") as group:
        print(json.dumps({"benchmark": "console", **measured(Path(folder), group)}))


if __name__ == "__main__":
    main()
