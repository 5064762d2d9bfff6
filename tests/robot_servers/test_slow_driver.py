"""A driver that takes long over a recovery or a payload: stops and readings wait for neither."""

import threading
from contextlib import closing

import httpx
import pytest

from robot_servers.limits import SafetyLimits
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving
from serl_core.errors import RobotError
from tests.robot_servers.serl_routes.serl_rig import serl_serving

TOKEN = "secret"
LIMITS = SafetyLimits(lease_timeout_s=10.0, state_timeout_s=5.0, backend_timeout_s=10.0)  # the machine may be slow
LOAD = {"mass_kg": 0.5, "center_m": [0.0, 0.0, 0.05], "inertia_kg_m2": [0.001, 0, 0, 0, 0.001, 0, 0, 0, 0.001]}


class SlowDriver(PointMassBackend):
    """Is at `set_load`, `recover` and `start_joint_reset` until it is let go."""

    def __init__(self):
        super().__init__(is_lockstep=False)
        self.is_at_it = threading.Event()
        self.may_finish = threading.Event()

    def set_load(self, *args):
        self._take_long()
        super().set_load(*args)

    def recover(self):
        self._take_long()
        super().recover()

    def start_joint_reset(self):
        self._take_long()
        super().start_joint_reset()

    def _take_long(self):
        self.is_at_it.set()
        assert self.may_finish.wait(20.0)


class Client:
    def __init__(self, url):
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20.0)
        self.epoch = self.post("lease", action="acquire", owner="test").json()["epoch"]

    def post(self, route, **body):
        return self.http.post(f"/v1/{route}", json=body)

    def command(self, route, **body):
        return self.post(route, epoch=self.epoch, **body)


def in_background(call):
    replies = []
    thread = threading.Thread(target=lambda: replies.append(call()))
    thread.start()
    return thread, replies


@pytest.fixture
def arm():
    backend = SlowDriver()
    service = RobotService(backend, LIMITS)
    with serving(service, TOKEN) as url:
        client = Client(url)
        with closing(client.http):
            yield backend, client
            backend.may_finish.set()


def test_a_stop_and_a_reading_get_through_while_the_driver_sets_a_payload(arm):
    """They waited for up to 10 s: the call was made on the event loop."""
    backend, client = arm
    thread, replies = in_background(lambda: client.command("load", **LOAD))
    assert backend.is_at_it.wait(20.0)
    assert client.http.get("/v1/state").json()["mode"] == "hold"
    assert client.post("stop").json()["mode"] == "stopped"
    assert not replies
    backend.may_finish.set()
    thread.join()
    assert replies[0].status_code == 200


def test_a_stop_gets_through_while_the_driver_starts_a_joint_reset(arm):
    """Changing the controllers of an arm takes up to seconds: the call was made on the event loop."""
    backend, client = arm
    thread, replies = in_background(lambda: client.command("joint_reset"))
    assert backend.is_at_it.wait(20.0)
    assert client.post("stop").json()["mode"] == "stopped"
    assert not replies
    backend.may_finish.set()
    thread.join()
    assert replies[0].status_code == 423  # it does not begin on a stopped arm
    assert [call[0] for call in backend.calls] == ["start_joint_reset", "cancel_joint_reset"]


def test_a_stop_gets_through_while_a_hil_serl_client_starts_one():
    """As above."""
    backend = SlowDriver()
    with serl_serving(backend) as rig:
        try:
            thread, replies = in_background(lambda: rig.post("/jointreset"))
            assert backend.is_at_it.wait(20.0)
            assert rig.v1("/v1/stop", {}).json()["mode"] == "stopped"
            assert not replies
        finally:
            backend.may_finish.set()
        thread.join()
        assert replies[0].status_code == 423


def test_another_command_is_refused_meanwhile_and_changes_nothing(arm):
    backend, client = arm
    thread, _ = in_background(lambda: client.command("load", **LOAD))
    assert backend.is_at_it.wait(20.0)
    refused = client.command("gripper", position=0.0)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:serl:busy")
    backend.may_finish.set()
    thread.join()
    assert [call[0] for call in backend.calls] == ["set_load"]
    assert client.command("gripper", position=0.0).status_code == 200


def test_a_stop_during_a_recovery_stays_latched(arm):
    backend, client = arm
    backend.fail("reflex")
    while client.http.get("/v1/state").json()["mode"] != "fault":
        pass
    thread, replies = in_background(lambda: client.command("recover", cause="reflex"))
    assert backend.is_at_it.wait(20.0)
    client.post("stop")
    backend.may_finish.set()
    thread.join()
    assert replies[0].json()["mode"] == "stopped"


def test_an_error_of_the_driver_is_a_problem_reply_and_names_it(arm):
    backend, client = arm

    def fail(*_):
        raise RobotError("the payload was refused by the arm")

    backend.set_load = fail
    reply = client.command("load", **LOAD)
    assert (reply.status_code, reply.headers["content-type"]) == (503, "application/problem+json")
    assert "refused by the arm" in reply.json()["detail"]
