"""The whole way: a page, the console, a recorder and a simulated arm in real time, each a process of its own."""

import json
import time

import pytest

from serl_core.cli.processes import ProcessGroup
from serl_core.data.episode_file import episode_paths, load_episode
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode
from serl_core.types import EndReason
from tests.actors.console.rig import ROBOT_TOKEN, console

START_TIMEOUT_S = 60.0


@pytest.fixture
def arm(tmp_path):
    """A simulated arm in real time: its URL."""
    (tmp_path / "robot.token").write_text(ROBOT_TOKEN)
    (tmp_path / "robot.token").chmod(0o600)
    ready = tmp_path / "robot.url"
    options = ["--scene", "ram_insertion", "--port", "0", "--token-file", str(tmp_path / "robot.token")]
    with ProcessGroup(tmp_path / "logs") as group:
        group.start("robot server", ["robot-server", *options, "--ready-file", str(ready)])
        yield group.wait_for_file("robot server", ready, START_TIMEOUT_S)


def steer_until(page, kind, accept, label=None, **command):
    """Steer at 20 Hz, and label each second, until a message comes; return it.

    On a busy machine the dead man's switch may pause the arm: then it goes on, as a person would have it.
    """
    begin_s = time.monotonic()
    labelled_s = resumed_s = begin_s - 1.0
    newest = {}  # of each kind, for whoever has to find out why nothing came
    while time.monotonic() - begin_s < START_TIMEOUT_S:
        now_s = time.monotonic()
        page.steer(**command)
        if label is not None and now_s - labelled_s > 1.0:
            page.say("label", label=label)
            labelled_s = now_s
        while (left_s := now_s + 0.05 - time.monotonic()) > 0:
            message = page.next(left_s)
            if message is not None:
                newest[message["kind"]] = message
            if message is not None and message["kind"] == kind and accept(message):
                return message
            if message is not None and message.get("control") == "paused" and now_s - resumed_s > 1.0:
                page.say("resume")
                resumed_s = now_s
    raise AssertionError(f"no such message of kind {kind!r} came; the newest: {newest}")


def test_a_person_records_a_demonstration_from_the_page_and_every_step_of_theirs_is_flagged(tmp_path, arm):
    with console(tmp_path, robot=arm) as served, served.page("anna") as page:
        page.say("record", what="demonstrations", count=1)
        page.hear("notice", lambda notice: "recording starts" in notice["text"])
        page.hear("step", lambda step: step["control"] == "waiting" or step["step"] > 0)
        begin = page.hear("state", lambda state: state["robot"])["robot"]["tcp_pose"]
        up = (0.0, 0.0, 0.5, 0.0, 0.0, 0.0)

        def is_up(step):
            return step["operator"] == page.operator and step["tcp_pose"][2] > begin[2] + 0.005

        steer_until(page, "step", is_up, twist=up, frame="base")
        steer_until(page, "record", lambda record: record["kept"] == 1, label="success", twist=(0.0,) * 6)
        page.hear("notice", lambda notice: notice["text"] == "the recording has ended")
    (path,) = episode_paths(tmp_path / "run" / "demos")
    steps = load_episode(path)
    assert all(step.is_intervention for step in steps)
    assert steps[-1].reward == 1.0
    assert steps[-1].end is EndReason.SUCCESS


def test_a_stop_from_the_page_stops_an_arm_that_a_person_moves(tmp_path, arm):
    with console(tmp_path, robot=arm) as served, served.page("anna") as page:
        page.say("record", what="demonstrations", count=1)
        page.hear("step", lambda step: step["control"] == "waiting" or step["step"] > 0)
        steer_until(page, "step", lambda step: step["control"] == "human", twist=(0.2, 0, 0, 0, 0, 0))
        found = json.loads((tmp_path / "run" / "recorder.operator").read_text())
        assert served.client.post("/stop").status_code == 200
        robot = HttpRobot(arm, owner="test", token_file=tmp_path / "robot.token")
        assert robot.state().mode is Mode.STOPPED
        assert (found["robot"], found["server"]) == (arm, robot.health().server)
        assert found["server"]
        robot.close()
        page.hear("state", lambda state: state["control"] == "stopped")
        page.say("resume_robot")  # there is an actor: it does it with its lease
        page.hear("state", lambda state: state["robot"] and state["robot"]["mode"] != "stopped")
        page.say("record", what="demonstrations", stop=True)
        page.hear("notice", lambda notice: notice["text"] == "the recording has ended")
