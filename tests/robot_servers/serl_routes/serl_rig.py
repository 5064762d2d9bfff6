"""An arm behind HIL-SERL's routes, and a client that behaves as HIL-SERL's environment does.

Its commands carry neither lease nor token, it clears errors before each, interpolates poses component by component,
and never looks at a status.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import numpy as np

from robot_servers.limits import SafetyLimits
from robot_servers.serl_routes.arm import SerlArm
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import HOME, PointMassBackend
from robot_servers.web import create_server
from serl_core.robots.messages import LeaseRequest, SimResetCommand
from serl_core.serving import bind, url_of

TOKEN = "secret"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
PERIOD_S = 0.1  # 10 Hz


class Rig:
    """One served arm. In lockstep its time and the lease's move with `wait` alone."""

    def __init__(self, url: str, service: RobotService, clock: list[float]) -> None:
        self.url = url
        self.service = service
        self.backend = service.backend
        self.client = httpx.Client(base_url=url, timeout=60.0)
        self._clock = clock

    def wait(self, duration_s: float) -> None:
        if self.backend.is_lockstep:
            self._clock[0] += duration_s
            self.backend.advance(duration_s)
        else:
            time.sleep(duration_s)

    def post(self, path: str, body: object = None, **options) -> httpx.Response:
        """Post as `requests.post(url, json=...)` does.

        On a machine so busy that an arm in real time gives no reading for 0.1 s, commands get 503: then once more.
        """
        options |= {} if body is None else {"json": body}
        response = self.client.post(path, **options)
        while response.status_code == 503 and "gone quiet" in response.text:
            time.sleep(0.02)
            response = self.client.post(path, **options)
        return response

    def state(self) -> dict:
        return self.post("/getstate").json()

    def v1(self, path: str, body: dict | None = None) -> httpx.Response:
        """Ask the other API, as a person at the robot does."""
        if body is None:
            return self.client.get(path, headers=AUTHORIZED)
        return self.client.post(path, json=body, headers=AUTHORIZED)

    def waiting(self, is_over: Callable[[], bool], period_s: float = 0.05) -> None:
        """Let time pass until something is so."""
        give_up_s = time.monotonic() + 60.0
        while not is_over():
            assert time.monotonic() < give_up_s, "it never came true"
            self.wait(period_s)
            time.sleep(0.001)

    # ---- what HIL-SERL's environment does

    def step(self, pose: object) -> httpx.Response:
        """Send one pose, and let the control period pass."""
        self.post("/clearerr")
        response = self.post("/pose", {"arr": np.asarray(pose, dtype=np.float32).tolist()})
        self.wait(PERIOD_S)
        self.state()
        return response

    def step_until_there(self, pose: object) -> None:
        """Send one pose until the arm is there: in real time a busy machine may be slow."""
        self.waiting(lambda: self.step(pose).status_code == 200 and self.short_m(pose) < 0.008)

    def short_m(self, pose: object) -> float:
        return float(np.linalg.norm(np.subtract(self.state()["pose"], pose)[:3]))

    def interpolate(self, goal: object, duration_s: float) -> list[int]:
        """Move to `goal` in a straight line of poses, and return the statuses, which that client does not read."""
        path = np.linspace(self.state()["pose"], goal, round(duration_s / PERIOD_S))
        return [self.step(pose).status_code for pose in path]


@contextmanager
def serl_serving(backend: object, limits: SafetyLimits | None = None, **options) -> Iterator[Rig]:
    """Serve `backend` with HIL-SERL's routes; `options` are those of `SerlArm`."""
    clock = [0.0]
    liveness = (lambda: clock[0]) if backend.is_lockstep else time.monotonic
    service = RobotService(backend, limits, liveness=liveness)
    with bind("127.0.0.1", 0) as listener:
        server = create_server(service, TOKEN, listener, serl_arm=SerlArm(service, **options))
        service.start()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        rig = Rig(url_of(listener), service, clock)
        try:
            yield rig
        finally:
            rig.client.close()
            server.should_exit = True
            thread.join()
            service.close()


@contextmanager
def point_mass(**options) -> Iterator[Rig]:
    with serl_serving(PointMassBackend(), **options) as rig:
        yield rig


@contextmanager
def simulated_arm(**options) -> Iterator[Rig]:
    """The simulated Franka, in lockstep, 0.1 m above where the task begins."""
    with serl_serving(MujocoBackend("ram_insertion", is_lockstep=True), **options) as rig:
        x, y, z, *turn = rig.state()["pose"]
        lease = rig.service.lease(LeaseRequest(action="acquire", owner="test"))
        rig.service.sim_reset(SimResetCommand(epoch=lease.epoch, pose=(x, y, z + 0.1, *turn)))
        rig.service.lease(LeaseRequest(action="release", owner="test", epoch=lease.epoch))
        yield rig


# ---- words of the tests


def at(x: float = HOME[0]) -> dict[str, list[float]]:
    return {"arr": [x, *HOME[1:]]}


def told(rig: Rig, name: str) -> list[tuple]:
    """What the driver was told by one of its methods."""
    return [call[1:] for call in rig.backend.calls if call[0] == name]


def mode(rig: Rig) -> str:
    return rig.v1("/v1/state").json()["mode"]


def epoch(rig: Rig) -> int:
    return rig.v1("/v1/state").json()["lease_epoch"]
