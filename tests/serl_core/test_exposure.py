"""Who may listen where others can reach it, and what is said of it."""

import logging
import time

import pytest

from serl_core.errors import ConfigError
from serl_core.exposure import check_exposure, check_port, is_loopback, reminded


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_what_only_this_machine_reaches(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.lab", ""])
def test_what_others_may_reach(host):
    assert not is_loopback(host)


def test_others_reach_it_only_encrypted_or_when_that_was_asked_for():
    with pytest.raises(ConfigError, match="--insecure-lan"):
        check_exposure("0.0.0.0", is_encrypted=False, is_allowed=False)
    check_exposure("0.0.0.0", is_encrypted=True, is_allowed=False)
    check_exposure("0.0.0.0", is_encrypted=False, is_allowed=True)
    check_exposure("127.0.0.1", is_encrypted=False, is_allowed=False)


def test_it_is_said_again_and_again_while_others_can_read_along(caplog):
    with reminded("the robot server", "0.0.0.0", is_encrypted=False, period_s=0.01):
        while len(caplog.records) < 3:
            time.sleep(0.01)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert "INSECURE: the robot server on 0.0.0.0" in caplog.text


@pytest.mark.parametrize(("host", "is_encrypted"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_where_nobody_can_nothing_is_said(caplog, host, is_encrypted):
    with reminded("the robot server", host, is_encrypted=is_encrypted, period_s=0.001):
        time.sleep(0.05)
    assert caplog.records == []


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_what_is_no_port_is_refused_by_the_name_of_its_option(port):
    with pytest.raises(ConfigError, match=f"--stop-port must be 0 .* to 65535, got {port}"):
        check_port("--stop-port", port)
    check_port("--stop-port", 0)
    check_port("--stop-port", 65535)
