import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving

TOKEN = "secret"


@pytest.fixture
def client():
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with serving(RobotService(PointMassBackend()), TOKEN) as url, httpx.Client(base_url=url, headers=headers) as client:
        yield client


def scrape(client):
    reply = client.get("/v1/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return [sample for family in text_string_to_metric_families(reply.text) for sample in family.samples]


def values(client):
    return {sample.name: sample.value for sample in scrape(client)}


def test_commands_are_counted_and_refusals_by_their_reason(client):
    epoch = client.post("/v1/lease", json={"action": "acquire", "owner": "me"}).json()["epoch"]
    assert values(client)["serl_lease_epoch"] == epoch
    pose = client.get("/v1/state").json()["tcp_pose"]
    before = values(client)["serl_cmd_accepted_total"]
    assert client.post("/v1/pose", json={"epoch": epoch, "pose": pose}).status_code == 200
    assert values(client)["serl_cmd_accepted_total"] == before + 1
    far = [pose[0] + 5.0, *pose[1:]]
    assert client.post("/v1/pose", json={"epoch": epoch, "pose": far}).status_code == 422
    refused = [sample for sample in scrape(client) if sample.name == "serl_cmd_rejected_by_reason_total"]
    assert sum(sample.value for sample in refused) == 1
    assert refused[0].labels["reason"]


def test_a_latched_stop_shows_its_cause(client):
    client.post("/v1/stop")
    (latch,) = [sample for sample in scrape(client) if sample.name == "serl_latch_cause"]
    assert (latch.value, latch.labels) == (1, {"cause": "stop"})


def test_nobody_reads_it_without_a_token(client):
    assert client.get("/v1/metrics", headers={"Authorization": ""}).status_code == 401
