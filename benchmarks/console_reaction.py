"""How fast the arm reacts to a person at the console's page: to a key, to a tab that freezes, to a cut connection.

Run as `python benchmarks/console_reaction.py`. A simulated arm in real time, an actor whose policy stands still, the
console, and a headless Chromium whose own key events steer. Prints one JSON line. `press_ms`: from the key event, by
the page's clock, to the first target at the robot server that moves the arm. `freeze_rest_s`: from the SIGSTOP of the
browser's renderers until the arm moves no more; `cut_rest_s`: likewise from the SIGKILL of a client that steers.
Needs Debian's chromium and chromium-driver, and a machine with nothing else to do.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from console_human import browser_at
from told_robot import PLACE, TARGET, read_notes

from examples.ram_insertion import CONFIG
from serl_core.agents.policy import PolicyConfig, TanhGaussianPolicy
from serl_core.cli.processes import ProcessGroup, ended_by_signals
from serl_core.robots.http_client import HttpRobot
from serl_core.transport.interface import Params, PolicyWeights
from serl_core.transport.zmq_transport import ZmqLearnerLink

START_S = 180.0
MOVED_M = 0.0004  # of a target: more than the policy's noise
STILL_M_S = 0.01  # of an arm at rest: its spring lets it swing out for a while
WINDOW_S = 0.02  # over which a speed is measured
PAGE_CLOCK = "return performance.now()"
LISTEN = "window.pressedMs = []; addEventListener('keydown', (event) => window.pressedMs.push(event.timeStamp), true)"
PUSHING = """
import json, sys, time
from websockets.sync.client import connect
link, token, twist = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with connect(link, compression=None, proxy=None) as page:
    page.send(json.dumps({"kind": "hello", "token": token, "operator": "cut"}))
    for number in range(10_000):
        command = {"kind": "teleop", "sequence": number, "sent_ms": 1e3 * time.monotonic(), "twist": twist}
        page.send(json.dumps({**command, "frame": "base", "engaged": True}))
        time.sleep(1 / 30)
"""


def still_policy() -> Params:
    """Return weights whose action is next to nothing."""
    policy = TanhGaussianPolicy(CONFIG.env_spec(), PolicyConfig())
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), policy.init(key=jax.random.key(0)))
    params["mlp"]["out"]["bias"][CONFIG.action.spec.size :] = PolicyConfig().log_std_min
    return params


@contextlib.contextmanager
def storing(link: ZmqLearnerLink) -> Iterator[None]:
    """Publish the still policy and acknowledge all that comes."""
    ending = threading.Event()

    def run() -> None:
        link.publish(PolicyWeights(1, still_policy(), 0))
        stored = 0
        while not ending.is_set():
            got = link.receive(0.1)
            stored += len(got)
            if got and got[-1].provenance is not None:
                link.acknowledge(got[-1].provenance.session, got[-1].provenance.sequence)
            link.report(stored, stored, False)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


class Stage:
    """The running programs, and a person at the page."""

    def __init__(self, driver: Any, notes: Path, robot: HttpRobot) -> None:
        self._driver = driver
        self._notes = notes
        self._robot = robot
        self._offset_s = 0.0  # of the page's clock

    def prepare(self) -> None:
        """Compare the clocks, and steer at full speed."""
        self._driver.execute_script(LISTEN)
        self._driver.execute_script(
            "const e = document.getElementById('speed'); e.value = 100; e.dispatchEvent(new Event('input'))"
        )
        best_s = np.inf
        for _ in range(50):
            before_s = time.monotonic()
            page_s = self._driver.execute_script(PAGE_CLOCK) / 1e3
            took_s = time.monotonic() - before_s
            if took_s < best_s:
                best_s, self._offset_s = took_s, before_s + took_s / 2 - page_s

    def control(self) -> str:
        """Return who is in control, by what the page says."""
        return str(self._driver.execute_script("return document.getElementById('control').textContent"))

    def free(self) -> None:
        """Wait until the policy acts, early in an episode; resume what holds it."""
        until_s, pressed_s = time.monotonic() + START_S, 0.0
        while True:
            is_policy = self.control() == "policy"
            step = self._driver.execute_script("return document.getElementById('fact-episode').textContent").split()
            if is_policy and int(step[-1]) < 60:
                return
            if time.monotonic() > until_s:
                raise TimeoutError(f"the policy does not act: {self.control()}")
            if not is_policy and time.monotonic() - pressed_s > 1.0:
                self._driver.execute_script("document.getElementById('way-out')?.click()")
                pressed_s = time.monotonic()
            time.sleep(0.05)

    def key(self, kind: str, letter: str) -> None:
        """Send a key event of the browser's own."""
        event = {"type": kind, "code": f"Key{letter}", "key": letter.lower(), "windowsVirtualKeyCode": ord(letter)}
        self._driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)

    def press_ms(self) -> float | None:
        """Press a key once and return how long the robot server waited for it; None if the policy was not acting."""
        self.free()
        letter, axis, sign = self._way()
        asked_s = time.monotonic()
        self.key("rawKeyDown", letter)
        time.sleep(0.3)
        self.key("keyUp", letter)
        pressed_s = self._driver.execute_script("return window.pressedMs.at(-1)") / 1e3 + self._offset_s
        time.sleep(0.8 + random.random() / 5)  # until the policy has control again, at any phase of its tick
        targets = [note for note in read_notes(self._notes, asked_s - 0.3) if note.kind == TARGET]
        before = [note for note in targets if note.at_s < pressed_s]
        if not before:
            return None
        for note in targets:
            if note.at_s >= pressed_s and sign * (note.position_m[axis] - before[-1].position_m[axis]) > MOVED_M:
                return 1e3 * (note.at_s - pressed_s)
        return None

    def freeze_rest_s(self) -> float | None:
        """Freeze the tab while a key is held; return how long the arm went on. None if it did not move before."""
        self.free()
        letter, _, _ = self._way()
        self.key("rawKeyDown", letter)
        time.sleep(0.3 + random.random() / 10)
        renderers = [int(path.name) for path in Path("/proc").glob("[0-9]*") if is_renderer(path)]
        frozen_s = time.monotonic()
        for process in renderers:
            os.kill(process, signal.SIGSTOP)
        try:
            time.sleep(1.5)
        finally:
            for process in renderers:
                os.kill(process, signal.SIGCONT)
        self.key("keyUp", letter)
        return self._rest_s(frozen_s)

    def cut_rest_s(self, link: str, token: str) -> float | None:
        """Kill a client that steers; return how long the arm went on. None if it did not move before."""
        self.free()
        _, axis, sign = self._way()
        twist = [0.0] * 6
        twist[axis] = 0.6 * sign
        client = subprocess.Popen([sys.executable, "-c", PUSHING, link, token, json.dumps(twist)])
        try:
            until_s = time.monotonic() + 20.0
            while self.control() != "human" and time.monotonic() < until_s:
                time.sleep(0.02)
            time.sleep(0.3 + random.random() / 10)
        finally:
            cut_s = time.monotonic()
            client.kill()
            client.wait()
        time.sleep(1.5)
        return self._rest_s(cut_s)

    def _way(self) -> tuple[str, int, int]:
        """Return the key that moves the tool sideways towards the far side of its box, the axis and the sign."""
        return ("D", 1, -1) if self._robot.state().tcp_pose[1] > CONFIG.target_pose[1] else ("A", 1, 1)

    def _rest_s(self, since_s: float) -> float | None:
        notes = [note for note in read_notes(self._notes, since_s - 0.2) if note.kind == PLACE]
        times_s, places_m = np.array([n.at_s for n in notes]), np.array([n.position_m for n in notes])
        later = np.searchsorted(times_s, times_s + WINDOW_S)
        whole = later < len(times_s)
        first, last = np.flatnonzero(whole), later[whole]
        speeds_m_s = np.linalg.norm(places_m[last] - places_m[first], axis=1) / (times_s[last] - times_s[first])
        moving_s = times_s[last][speeds_m_s > STILL_M_S]
        if not ((moving_s > since_s - 0.1) & (moving_s < since_s)).any():
            return None
        return float(moving_s.max() - since_s)


def is_renderer(path: Path) -> bool:
    """Return whether a process is a renderer of a browser that this program has started."""
    try:
        options = (path / "cmdline").read_text()
    except OSError:
        return False
    return "--type=renderer" in options and is_descendant(int(path.name))


def is_descendant(process: int) -> bool:
    """Return whether a process comes from this one."""
    while process > 1:
        if process == os.getpid():
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def tried(measure: Callable[[], float | None], count: int) -> list[float]:
    """Return `count` measurements; a try in which the machine was disturbed from the beginning is repeated."""
    values: list[float] = []
    for _ in range(3 * count):
        if len(values) == count:
            break
        value = measure()
        if value is not None:
            values.append(value)
    return values


def told(values: list[float], allowed: float) -> dict[str, float | int]:
    """Return the count; if there are some, also quantiles, the largest, and how many are above what is allowed."""
    if not values:
        return {"count": 0}
    p50, p99 = np.percentile(values, [50, 99])
    return {
        "count": len(values),
        "p50": round(float(p50), 3),
        "p99": round(float(p99), 3),
        "max": round(max(values), 3),
        f"above_{allowed:g}": sum(value > allowed for value in values),
    }


def measured(folder: Path, group: ProcessGroup, args: argparse.Namespace) -> dict[str, object]:
    """Start everything, press keys, freeze the tab, cut the connection."""
    token_file, run, notes = folder / "robot.token", folder / "run", folder / "notes"
    run.mkdir()
    (run / "task.json").write_text(CONFIG.to_json())
    options = ["--clock", "real_time", "--scene", "ram_insertion", "--port", "0", "--token-file", str(token_file)]
    options += ["--real-time-priority"] if args.fifo else []
    ready = folder / "robot.url"
    server = [sys.executable, str(Path(__file__).with_name("told_robot.py")), str(notes), *options]
    robot_process = subprocess.Popen([*server, "--ready-file", str(ready)])
    try:
        with ZmqLearnerLink(CONFIG.digest()) as link, storing(link):
            until_s = time.monotonic() + START_S
            while not ready.exists():
                if robot_process.poll() is not None or time.monotonic() > until_s:
                    sys.exit("the robot server did not start")
                time.sleep(0.05)
            robot = ready.read_text().strip()
            common = ["--run", str(run), "--robot", robot, "--token-file", str(token_file), "--task", "ram_insertion"]
            actor = ["actor", *common, "--learner", link.address, "--teleop", "none"]
            group.start("actor", [*actor, *(["--real-time-priority"] if args.fifo else [])])
            group.start("console", ["console", *common, "--port", "0", "--ready-file", str(folder / "console")])
            url = group.wait_for_file("console", folder / "console", START_S)
            token = (run / "console.token").read_text().strip()
            with browser_at(f"{url}/#token={token}") as driver:
                stage = Stage(driver, notes, HttpRobot(robot, owner="benchmark", token_file=token_file))
                time.sleep(2.0)
                stage.free()
                stage.prepare()
                presses = tried(stage.press_ms, args.presses)
                freezes = tried(stage.freeze_rest_s, args.freezes)
                cuts = tried(lambda: stage.cut_rest_s(f"{url.replace('http', 'ws')}/ws", token), args.cuts)
    finally:
        robot_process.terminate()
        robot_process.wait()
    return {
        "press_ms": told(presses, 80.0),
        "freeze_rest_s": told(freezes, 0.45),
        "cut_rest_s": told(cuts, 0.45),
    }


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presses", type=int, default=60)
    parser.add_argument("--freezes", type=int, default=20)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--fifo", action="store_true", help="robot server and actor with --real-time-priority")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ended_by_signals(),
        ProcessGroup(Path(folder) / "logs") as group,
    ):
        print(json.dumps({"benchmark": "console_reaction", **measured(Path(folder), group, args)}))


if __name__ == "__main__":
    main()
