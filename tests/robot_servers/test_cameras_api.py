"""Cameras over real sockets and in process: names, pictures, refusals, and a stop beside a slow picture."""

import sys
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving
from serl_core.errors import RobotError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import PictureFormat, Problem, decode
from serl_core.robots.pictures import unpack

TOKEN = "secret"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
ODD_NAME = "über 1?&#%"


class SeeingBackend(PointMassBackend):
    """Has two cameras; their pictures wait for `may_end` and fail with `error`."""

    cameras = ("wrist", ODD_NAME)

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.is_drawing, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def camera(self, name: str, height: int, width: int) -> CameraImage:
        self.is_drawing.set()
        assert self.may_end.wait(10.0)
        if self.error is not None:
            raise self.error
        image = np.full((height, width, 3), (250, 120, 10), np.uint8)
        image[: height // 2] = (10, 20, 200 if name == "wrist" else 0)
        return CameraImage(image, 1.2345678901234567)


class Site:
    def __init__(self, url: str, backend: SeeingBackend, service: RobotService, tmp_path) -> None:
        self.url, self.backend, self.service = url, backend, service
        self.client = httpx.Client(base_url=url, headers=HEADERS)
        self.token_file = tmp_path / "robot.token"
        self.token_file.write_text(TOKEN + "\n")
        self.robots: list[HttpRobot] = []

    def robot(self, **options) -> HttpRobot:
        self.robots.append(HttpRobot(self.url, owner="test", token_file=self.token_file, **options))
        return self.robots[-1]

    def close(self) -> None:
        self.client.close()
        for robot in self.robots:
            robot.close()


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    backend = SeeingBackend()
    service = RobotService(backend)
    with serving(service, TOKEN) as url:
        site = Site(url, backend, service, tmp_path)
        yield site
        site.close()


@pytest.fixture
def blind(tmp_path) -> Iterator[str]:
    with serving(RobotService(PointMassBackend()), TOKEN) as url:
        yield url


def test_the_cameras_are_listed(site, blind):
    assert site.client.get("/v1/cameras").json() == {"names": ["wrist", ODD_NAME]}
    assert httpx.get(blind + "/v1/cameras", headers=HEADERS).json() == {"names": []}
    assert site.robot().cameras() == ("wrist", ODD_NAME)


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        (PictureFormat.RAW, "application/octet-stream"),
        (PictureFormat.JPEG, "image/jpeg"),
        (PictureFormat.PNG, "image/png"),
    ],
)
def test_a_picture_comes_in_the_form_asked_for_with_shape_and_time(site, form, media_type):
    response = site.client.get(f"/v1/cameras/wrist?height=48&width=64&format={form.value}")
    assert response.headers["content-type"] == media_type
    assert response.headers["Serl-Shape"] == "48,64,3"
    assert float(response.headers["Serl-Stamp-S"]) == 1.2345678901234567
    expected = site.backend.camera("wrist", 48, 64).image
    picture = unpack(response.content, form, 48, 64)
    np.testing.assert_allclose(picture.astype(int)[[0, -1]], expected[[0, -1]], atol=4)
    np.testing.assert_array_equal(site.robot(picture_format=form).camera("wrist", 48, 64).image, picture)


def test_without_a_query_it_is_raw_and_128_pixels(site):
    response = site.client.get("/v1/cameras/wrist")
    assert (response.headers["Serl-Shape"], len(response.content)) == ("128,128,3", 128 * 128 * 3)


def test_both_robots_give_the_same_picture(site):
    local, remote = LocalRobot(site.service), site.robot()
    for name in site.backend.cameras:
        first, second = local.camera(name, 32, 48), remote.camera(name, 32, 48)
        np.testing.assert_array_equal(first.image, second.image)
        assert first.stamp_s == second.stamp_s == 1.2345678901234567
        assert not second.image.flags.writeable


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("height=15", "height"),
        ("width=1025", "width"),
        ("height=-1", "height"),
        ("height=128.0", "height"),
        ("height=1e2", "height"),
        ("height=", "height"),
        ("height=%20128", "height"),
        ("height=١٢٨", "height"),
        ("height=99999999999999999999", "height"),
        ("format=gif", "format"),
        ("format=RAW", "format"),
        ("format=1", "format"),
        ("size=128", "size"),
        ("height=64&height=64", "height"),
    ],
)
def test_a_wrong_query_names_the_field(site, query, field):
    response = site.client.get(f"/v1/cameras/wrist?{query}")
    problem = decode(response.content, Problem)
    assert (response.status_code, problem.field) == (422, field), response.text
    assert not site.backend.is_drawing.is_set()


@pytest.mark.parametrize("name", ["front", "x" * 3000, "%00", "wrist%20"])
def test_an_unknown_camera_names_those_there_are(site, name):
    problem = decode(site.client.get(f"/v1/cameras/{name}").content, Problem)
    assert (problem.status, problem.limit) == (404, ["wrist", ODD_NAME])
    assert len(problem.detail) < 200
    for robot in (LocalRobot(site.service), site.robot()):
        with pytest.raises(RobotError, match="wrist") as refused:
            robot.camera("front")
        assert refused.value.status == 404


def test_a_robot_without_cameras_says_so(blind):
    problem = decode(httpx.get(blind + "/v1/cameras/wrist", headers=HEADERS).content, Problem)
    assert problem.status == 404
    assert "no cameras" in problem.detail


@pytest.mark.parametrize(("height", "width"), [(8, 128), (128, 2000)])
def test_a_size_beyond_the_limits_is_refused_in_process_too(site, height, width):
    for robot in (LocalRobot(site.service), site.robot()):
        with pytest.raises(RobotError, match="1024") as refused:
            robot.camera("wrist", height, width)
        assert refused.value.status == 422


@pytest.mark.parametrize("path", ["/v1/cameras", "/v1/cameras/wrist"])
def test_pictures_need_the_token(site, path):
    assert httpx.get(site.url + path).status_code == 401


def test_a_picture_that_cannot_be_made_is_a_problem(site):
    site.backend.error = RobotError("no OpenGL; install libegl1", status=503)
    for robot in (LocalRobot(site.service), site.robot()):
        with pytest.raises(RobotError, match="install libegl1") as refused:
            robot.camera("wrist")
        assert refused.value.status == 503
    assert site.client.get("/v1/state").status_code == 200


def test_without_opencv_the_server_says_what_to_install(site, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    problem = decode(site.client.get("/v1/cameras/wrist?format=jpeg").content, Problem)
    assert (problem.status, problem.field) == (503, "format")
    assert "serl[vision]" in problem.detail


def test_a_slow_picture_holds_up_neither_a_stop_nor_a_reading(site):
    site.backend.may_end.clear()
    robot = site.robot()
    pictures = []
    asking = threading.Thread(target=lambda: pictures.append(robot.camera("wrist")))
    asking.start()
    assert site.backend.is_drawing.wait(10.0)
    assert site.client.get("/v1/state").status_code == 200
    assert site.client.post("/v1/stop").json()["mode"] == "stopped"
    assert pictures == []
    site.backend.may_end.set()
    asking.join()
    assert len(pictures) == 1


@pytest.mark.parametrize(
    "headers",
    [{}, {"Serl-Shape": "128,128,3"}, {"Serl-Stamp-S": "1"}, {"Serl-Shape": "64,64,3", "Serl-Stamp-S": "1"}]
    + [{"Serl-Shape": "a", "Serl-Stamp-S": "1"}, {"Serl-Shape": "128,128,3", "Serl-Stamp-S": "now"}]
    + [{"Serl-Shape": "128,128,3", "Serl-Stamp-S": "1"}],
)
def test_a_reply_that_is_no_picture_is_an_error(tmp_path, monkeypatch, headers):
    token_file = tmp_path / "robot.token"
    token_file.write_text(TOKEN + "\n")
    reply = httpx.Response(200, headers=headers, content=b"too short")
    monkeypatch.setattr(httpx.Client, "request", lambda self, *args, **kwargs: reply)
    robot = HttpRobot("http://127.0.0.1:9", owner="test", token_file=token_file)
    with pytest.raises(RobotError, match="no robot server of API"):
        robot.camera("wrist")
    robot.close()
