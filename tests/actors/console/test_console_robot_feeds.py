"""The robot's state and pictures: the newest, shared by all pages, and only while somebody looks."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from actors.console.picture_feed import PictureFeed
from actors.console.robot_connection import RobotConnection, split_url
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend
from robot_servers.web import create_server
from serl_core.errors import ConfigError, RobotError
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import RobotState
from serl_core.serving import bind
from tests.actors.console.rig import NO_ROBOT, ROBOT_TOKEN, console, robot, wait_until


class SeeingBackend(PointMassBackend):
    """A point mass with two cameras, one of them broken. A lockstep clock stands still: so do the pictures."""

    cameras = ("broken", "wrist")

    def __init__(self):
        super().__init__()
        self.asked = 0

    def camera(self, name, height, width):
        self.asked += 1
        if name == "broken":
            raise RobotError("the lens fell off")
        return CameraImage(np.full((height, width, 3), 100, np.uint8), float(self.asked))


def test_the_state_is_told_ten_times_a_second_with_what_is_missing(tmp_path):
    with robot() as (url, _), console(tmp_path, robot=url) as served, served.page() as page:
        state = page.hear("state", lambda state: state["robot"])
        assert state["robot"]["mode"] == "hold"
        assert state["robot"]["tcp_pose"][:3] == [0.5, 0.0, 0.3]
        assert state["missing"]["robot"] is None
        assert "no learner" in state["missing"]["learner"]
        assert state["control"] is None


def test_a_robot_server_that_is_not_there_is_null_and_the_rest_goes_on(tmp_path):
    with console(tmp_path) as served, served.page() as page:
        state = page.hear("state", lambda state: "no robot server" in (state["missing"]["robot"] or ""))
        assert state["robot"] is None
        assert served.get("/episodes").json() == {"episodes": [], "can_undo": False}


def test_a_robot_server_that_comes_back_is_shown_again(tmp_path):
    with robot() as (url, _):
        port = url.rsplit(":", 1)[1]
    with console(tmp_path, robot=url) as served, served.page() as page:
        page.hear("state", lambda state: state["missing"]["robot"] and "no robot server" in state["missing"]["robot"])
        service = RobotService(PointMassBackend())
        with bind("127.0.0.1", int(port)) as listener:
            server = create_server(service, ROBOT_TOKEN, listener)
            service.start()
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            page.hear("state", lambda state: state["robot"])
            server.should_exit = True
            thread.join()
            service.close()


def test_pictures_come_and_a_broken_camera_leaves_the_other_alone(tmp_path):
    with robot(backend=SeeingBackend()) as (url, _), console(tmp_path, robot=url) as served, served.page() as page:
        packet = page.hear("picture")["packet"]
        assert packet[:6] == b"\x05wrist"
        assert packet[6:8] == b"\xff\xd8"
        state = page.hear("state", lambda state: "broken" in state["missing"]["cameras"])
        assert "the lens fell off" in state["missing"]["cameras"]["broken"]
        assert state["ages"]["cameras_s"]["wrist"] < 5.0


def test_nobody_looking_costs_the_robot_nothing(tmp_path):
    backend = SeeingBackend()
    with robot(backend=backend) as (url, _), console(tmp_path, robot=url) as served:
        with served.page() as page:
            page.hear("picture")

        def is_quiet():  # what was under way may still end
            asked = backend.asked
            time.sleep(0.5)
            return backend.asked == asked

        wait_until(is_quiet)


def test_two_pages_share_one_fetch(tmp_path):
    """The robot server renders for each request: ten a second, however many look."""
    backend = SeeingBackend()
    with (
        robot(backend=backend) as (url, _),
        console(tmp_path, robot=url) as served,
        served.page() as one,
        served.page() as two,
    ):
        one.hear("picture")
        two.hear("picture")
        asked, begin_s = backend.asked, time.monotonic()
        for _ in range(5):
            one.hear("picture")
            two.hear("picture")
        assert backend.asked - asked <= 2 + 11 * (time.monotonic() - begin_s) * 2  # two cameras


def test_the_same_picture_is_not_sent_again(tmp_path):
    published = []

    class Still(SeeingBackend):
        def camera(self, name, height, width):
            return super().camera(name, height, width)._replace(stamp_s=1.0)

    backend = Still()
    with robot(backend=backend) as (url, _):
        (tmp_path / "token").write_text("robot-token")
        watched = threading.Event()
        watched.set()
        feed = PictureFeed(
            lambda: RobotConnection(url, tmp_path / "token", 5.0),
            {},
            lambda *picture: published.append(picture),
            watched,
        )
        feed.start()
        wait_until(lambda: backend.asked > 8)
        feed.end()
    assert len(published) == 1


def test_a_wrong_token_of_the_robot_server_is_told(tmp_path):
    (tmp_path / "token").write_text("wrong")
    with (
        robot() as (url, _),
        closing(RobotConnection(url, tmp_path / "token", 5.0)) as connection,
        pytest.raises(RobotError, match=r"refuses the token in .*--token-file"),
    ):
        connection.get("/v1/state", RobotState)


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "ftp://x", "http://", "http://x:y", "http://x/v1", ""])
def test_an_address_that_is_none_is_refused_at_the_start(url):
    with pytest.raises(ConfigError, match="must be like http://127"):
        split_url(url)


def test_no_robot_server_is_one_sentence(tmp_path):
    (tmp_path / "token").write_text("x")
    with pytest.raises(RobotError, match="start one with `serl robot-server`"):
        RobotConnection(NO_ROBOT, tmp_path / "token", 5.0).get("/v1/state", RobotState)
