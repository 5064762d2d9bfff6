"""What the rows about the arm run on: the simulated Franka with faults on demand and a log of every torque.

In lockstep a run is the same to the bit for the same commands, so "the arm did not notice" is an equality of logs. In
real time the arm runs on a thread of this process, a client in a process of its own.
"""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from robot_servers.faulty_backend import FaultyBackend
from robot_servers.limits import SafetyLimits
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import serving
from serl_core.clock import ManualClock
from serl_core.robots.messages import (
    ImpedanceCommand,
    ImpedanceParams,
    LeaseRequest,
    PoseCommand,
    RobotState,
    SimAdvanceCommand,
    SimResetCommand,
    Vector7,
)
from serl_core.scheduling import spare_what_stays

TOKEN = "secret"
DOWN = (1.0, 0.0, 0.0, 0.0)
START: Vector7 = (0.5, 0.0, 0.35, *DOWN)  # in free air
PATIENCE_S = 60.0  # of a machine that may be slow
REST_M_S = 0.02  # of the tool: what is left is the spring's rebound
WINDOW = 10  # ticks over which a speed is taken
FULL_SPEED = ImpedanceParams(translational_clip_m=(0.011,) * 6)  # 2000 N/m * 11 mm / 89 Ns/m = 0.247 m/s

SERVER = "import sys; from serl_core.cli.main import main; sys.exit(main())"


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, f"{what} did not come about in {PATIENCE_S:g} s"
        time.sleep(0.005)


class Arm:
    """The simulated arm behind the whole service, its lease taken; at `start`, in free air if not given."""

    def __init__(self, limits: SafetyLimits | None = None, *, is_lockstep: bool = True, start: Vector7 = START) -> None:
        self.backend = FaultyBackend(MujocoBackend("ram_insertion", is_lockstep=is_lockstep))
        # In lockstep the lease's clock stands still: a machine that is slow takes it from nobody.
        liveness = ManualClock() if is_lockstep else time.monotonic
        self.service = RobotService(self.backend, limits or SafetyLimits(), liveness=liveness)
        self.service.start()
        self.acquire()
        self.service.sim_reset(SimResetCommand(epoch=self.epoch, seed=0, pose=start))
        self.backend.log.clear()

    def acquire(self) -> int:
        pose_epoch = self.service.state().pose_epoch
        lease = LeaseRequest(action="acquire", owner="test", pose_epoch=pose_epoch)
        self.epoch = self.service.lease(lease).epoch
        return self.epoch

    @property
    def state(self) -> RobotState:
        return self.service.state()

    def target(self, dx: float = 0.0, dy: float = 0.0, dz: float = 0.0) -> Vector7:
        """A target relative to the measured pose, the tool pointing down."""
        x, y, z, *_ = self.state.tcp_pose
        return (x + dx, y + dy, z + dz, *DOWN)

    def track(self, dx: float = 0.0, dy: float = 0.0, dz: float = 0.0) -> RobotState:
        return self.service.pose(PoseCommand(epoch=self.epoch, pose=self.target(dx, dy, dz)))

    def advance(self, duration_s: float) -> RobotState:
        return self.service.sim_advance(SimAdvanceCommand(epoch=self.epoch, duration_s=duration_s))

    def set_gains(self, params: ImpedanceParams) -> None:
        self.service.impedance(ImpedanceCommand(epoch=self.epoch, params=params))

    def follow(self, dx: float, duration_s: float) -> None:
        """Go along x, in lockstep, with a target at 20 Hz."""
        for _ in range(round(duration_s / 0.05)):
            self.track(dx)
            self.advance(0.05)

    def renew(self) -> None:
        self.service.lease(LeaseRequest(action="renew", owner="test", epoch=self.epoch))

    def close(self) -> None:
        self.service.close()


@contextmanager
def arm(limits: SafetyLimits | None = None, *, is_lockstep: bool = True, start: Vector7 = START) -> Iterator[Arm]:
    """An arm that is closed in the end."""
    made = Arm(limits, is_lockstep=is_lockstep, start=start)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def served_arm(tmp_path: Path, limits: SafetyLimits | None = None) -> Iterator[tuple[FaultyBackend, RobotService, str]]:
    """An arm in real time, served to other processes: (its backend, its service, the URL); its token is a file."""
    backend = FaultyBackend(MujocoBackend("ram_insertion", is_lockstep=False))
    service = RobotService(backend, limits or SafetyLimits())
    token = tmp_path / "robot.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)  # as the program does: the control loop gets its turn
    try:
        with serving(service, TOKEN) as url:
            spare_what_stays()  # likewise: with all tests in it a full collection holds this process for 0.1 s and more
            yield backend, service, url
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


@contextmanager
def child(*arguments: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that does not outlive its test."""
    process = subprocess.Popen([sys.executable, *arguments], text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def server_process(tmp_path: Path, *options: str, **popen: object) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """`serl robot-server` on the simulator: (process, URL, token file)."""
    ready, token = tmp_path / "url", tmp_path / "robot.token"
    ready.unlink(missing_ok=True)
    files = ["--port", "0", "--ready-file", str(ready), "--token-file", str(token)]
    with child("-c", SERVER, "robot-server", *files, *options, **popen) as process:
        until(lambda: ready.exists() or process.poll() is not None, "the robot server")
        assert ready.exists(), "the robot server ended"
        yield process, ready.read_text().strip(), token


def children_of(pid: int) -> list[int]:
    """Return the processes whose parent is `pid`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[1]) == pid:
                found.append(int(entry))
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def rest_after(backend: FaultyBackend, since_s: float, drift_from_s: float) -> tuple[float, float, float]:
    """Return (fastest before, seconds from `since_s` until the tool is at rest, metres it goes after `drift_from_s`).

    All times are of the robot's clock.
    """
    log = list(backend.log)
    times_s = np.array([tick.now_s for tick in log])
    places_m = np.array([tick.position_m for tick in log])
    speed_m_s = np.linalg.norm(places_m[WINDOW:] - places_m[:-WINDOW], axis=1) / (times_s[WINDOW:] - times_s[:-WINDOW])
    before = times_s[WINDOW:] <= since_s
    moving_s = times_s[WINDOW:][(speed_m_s > REST_M_S) & ~before]
    rest_s = float(moving_s.max()) - since_s if len(moving_s) else 0.0
    late = places_m[times_s >= drift_from_s]
    drift_m = float(np.linalg.norm(late - late[0], axis=1).max())
    return float(speed_m_s[before][-200:].max()), rest_s, drift_m


def at_full_speed(backend: FaultyBackend) -> bool:
    """Return whether the tool goes at 0.2 m/s or more, and has for 0.1 s."""
    log = list(backend.log)[-100:]
    if len(log) < 100:
        return False
    places_m = np.array([tick.position_m for tick in log])
    speed_m_s = np.linalg.norm(places_m[WINDOW:] - places_m[:-WINDOW], axis=1) / (1e-3 * WINDOW)
    return bool(speed_m_s.min() > 0.2 and speed_m_s.max() < 1.0)  # a simulated reset is faster


def last_command_s(service: RobotService) -> float:
    """Return when the server took the newest target, on the robot's clock.

    A client that is killed leaves at most one command on its way, which a busy machine may deliver late: the limits
    on what the arm does from then on are counted from there.
    """
    return service._kernel._motion.command_s
