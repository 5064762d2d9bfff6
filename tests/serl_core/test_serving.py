"""What both web servers share."""

import socket
import threading
import time

import pytest
import uvicorn

from serl_core.errors import SerlError
from serl_core.serving import Server, bind, host_of, url_of


async def nothing(scope, receive, send):
    """An application that is never asked."""


def test_a_port_that_is_taken_is_refused_with_the_option_that_chooses_another():
    with bind("127.0.0.1", 0) as taken, pytest.raises(SerlError, match="choose another with --stop-port"):
        bind("127.0.0.1", taken.getsockname()[1], "--stop-port")


def test_a_server_is_named_as_its_clients_call_it():
    with bind("127.0.0.1", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    if socket.has_ipv6:
        with bind("::1", 0) as listener:
            assert host_of(listener) == "[::1]"


def test_the_ready_file_is_there_only_once_it_answers(tmp_path):
    ready = tmp_path / "ready"
    with bind("127.0.0.1", 0) as listener:
        config = uvicorn.Config(nothing, lifespan="off", log_level="warning")
        server = Server(config, url_of(listener), ready)
        assert not ready.exists()
        thread = threading.Thread(target=server.run, args=([listener],))  # not the main one: it takes no signals
        thread.start()
        try:
            deadline_s = time.monotonic() + 20.0
            while not ready.exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            assert server.started
            assert ready.read_text() == url_of(listener) + "\n"
        finally:
            server.should_exit = True
            thread.join()
