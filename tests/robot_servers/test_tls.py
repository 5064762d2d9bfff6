"""An encrypted robot server: every way of a client works; unknown certificates and plain text get nothing."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from robot_servers.main import RobotServerArgs, run_robot_server
from robot_servers.tls import server_context
from serl_core.errors import ConfigError, RobotError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode

SERVER = "import sys, tyro; from robot_servers.main import *; run_robot_server(tyro.cli(RobotServerArgs))"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate and its key, made as the documentation says."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 365 -keyout robot.key "
        "-out robot.pem -subj /CN=robot -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "robot.pem", folder / "robot.key"


@pytest.fixture
def server(certificate, tmp_path) -> Iterator[tuple[str, Path]]:
    """A server in a process of its own on an address that others reach: (URL, token file)."""
    ready, token = tmp_path / "url", tmp_path / "robot.token"
    options = ["--host", "0.0.0.0", "--port", "0", "--clock", "lockstep"]
    options += ["--ready-file", str(ready), "--token-file", str(token)]
    options += ["--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1])]
    process = subprocess.Popen([sys.executable, "-c", SERVER, *options], stderr=subprocess.PIPE, text=True)
    try:
        while not ready.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        yield ready.read_text().strip().replace("0.0.0.0", "127.0.0.1"), token
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_client_that_trusts_the_certificate_does_all_over_tls_and_no_other_does_anything(
    server, certificate, monkeypatch
):
    url, token = server
    assert url.startswith("https://")
    robot = HttpRobot(url, owner="test", token_file=token)
    with pytest.raises(RobotError, match="CERTIFICATE_VERIFY_FAILED"):
        robot.connect()
    monkeypatch.setenv("SERL_CA_FILE", str(certificate[0]))
    robot.connect()
    state = robot.step(robot.state().tcp_pose, 0.1)  # over wss
    assert state.mode is Mode.TRACKING
    robot.stop()  # over the stop's own socket
    assert robot.state().mode is Mode.STOPPED
    robot.close()
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url.replace("https", "http") + "/v1/health", timeout=30.0)


def test_tls_below_1_3_is_refused(server, certificate):
    url, _ = server
    port = url.rsplit(":", 1)[1]
    statuses = {}
    for version in ("-tls1_2", "-tls1_3"):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version]
        done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
        statuses[version] = done.returncode
    assert statuses == {"-tls1_2": 1, "-tls1_3": 0}


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_half_of_it_is_named(tmp_path, missing):
    given = {"tls_certificate": tmp_path / "a", "tls_key": tmp_path / "b"}
    given.pop(f"tls_{missing}")
    with pytest.raises(ConfigError, match="belong together"):
        run_robot_server(RobotServerArgs(token_file=tmp_path / "token", **given))


def test_files_that_are_none_are_named(tmp_path, certificate):
    with pytest.raises(ConfigError, match="No such file"):
        server_context(tmp_path / "none.pem", tmp_path / "none.key")
    with pytest.raises(ConfigError, match="--tls-key"):
        server_context(certificate[0], certificate[0])
