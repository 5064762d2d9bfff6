"""The first knock at an arm."""

import socket
import threading

import pytest

from robot_servers.arm_parts.probe import ARM, HAND, knock
from serl_core.errors import RobotError


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def door(listener, base=ARM):
    return base._replace(port=listener.getsockname()[1])


@pytest.mark.parametrize(("base", "size"), [(ARM, 16), (HAND, 14)])
def test_an_answer_is_enough(listener, base, size):
    heard = []

    def serve():
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(64))
            connection.sendall(bytes(size))

    thread = threading.Thread(target=serve)
    thread.start()
    knock("127.0.0.1", door(listener, base))
    thread.join()
    assert len(heard[0]) == size


def test_nobody_there_is_told_apart_from_an_arm_that_serves_another(listener):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = door(closed)
    with pytest.raises(RobotError, match="activate FCI in Desk"):
        knock("127.0.0.1", nobody)
    with pytest.raises(RobotError, match="another program may control it: end that one"):
        knock("127.0.0.1", door(listener), answer_s=0.2)


def test_one_that_hangs_up_without_an_answer_is_refused(listener):
    thread = threading.Thread(target=lambda: listener.accept()[0].close())
    thread.start()
    with pytest.raises(RobotError, match="does not answer"):
        knock("127.0.0.1", door(listener))
    thread.join()
