import socket
import urllib.error
import urllib.request

import pytest

from serl_core.errors import ConfigError
from serl_core.metrics_server import MetricsServer
from serl_core.metrics_text import Sample


@pytest.fixture
def server(tmp_path):
    with MetricsServer(lambda: [Sample("made", 7, "M")], ready_file=tmp_path / "url") as server:
        yield server


def read(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
        return reply.read().decode()


def test_the_page_tells_what_was_collected_and_what_the_process_holds(server, tmp_path):
    text = read(server.url)
    assert "serl_made 7\n" in text
    assert "serl_rss_bytes" in text
    assert (tmp_path / "url").read_text() == server.url + "\n"


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_a_web_page_does_not_get_it(server, headers):
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        read(server.url, **headers)
    refused.value.close()


def test_nothing_else_is_served(server):
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        read(server.url.replace("/metrics", "/"))
    refused.value.close()


def test_a_silent_reader_holds_up_nobody(server):
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)):
        assert "serl_made" in read(server.url)


def test_a_taken_port_is_named(server):
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with pytest.raises(ConfigError, match=f"--metrics-port {port}"), MetricsServer(list, port=port):
        pass
