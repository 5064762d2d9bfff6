import socket
import threading
import time
from contextlib import closing

import pytest

from serl_core.testing.faults.proxy import FaultyLine

PATIENCE_S = 20.0


@pytest.fixture
def echo():
    """Serve whoever comes: what he says comes back. Also keeps what it has heard."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve(peer):
        with peer:
            try:
                while data := peer.recv(65536):
                    heard.append(data)
                    peer.sendall(data)
            except OSError:
                heard.append(None)

    def accept():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1], heard
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def line(echo):
    with FaultyLine(echo[0]) as line:
        yield line


@pytest.fixture
def client(line):
    with closing(socket.create_connection(("127.0.0.1", line.port), PATIENCE_S)) as client:
        yield client


def wait_until(is_so):
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def receive(client, size):
    data = b""
    while len(data) < size:
        got = client.recv(65536)
        assert got, f"the line was cut after {len(data)} bytes"
        data += got
    return data


def test_without_faults_everything_passes_in_order(client, line):
    said = bytes(range(256)) * 4000
    threading.Thread(target=client.sendall, args=(said,), daemon=True).start()
    assert receive(client, len(said)) == said
    assert line.passed_bytes["to_server"] == len(said)


def test_a_delay_applies_each_way(client, line):
    line.faults.delay_s = 0.1
    start_s = time.monotonic()
    client.sendall(b"ping")
    assert receive(client, 4) == b"ping"
    assert time.monotonic() - start_s >= 0.2


def test_jitter_keeps_the_order(client, line):
    line.faults.jitter_s = 0.02
    said = bytes(range(200))
    for byte in said:
        client.sendall(bytes([byte]))
    assert receive(client, 200) == said


def test_a_rate_bounds_what_passes(client, line):
    line.faults.bytes_per_s = 400_000.0
    start_s = time.monotonic()
    threading.Thread(target=client.sendall, args=(b"\0" * 200_000,), daemon=True).start()
    receive(client, 200_000)
    assert time.monotonic() - start_s >= 0.4


def test_a_lost_segment_comes_a_round_trip_late(client, line):
    line.faults.delay_s, line.faults.loss = 0.05, 1.0
    start_s = time.monotonic()
    client.sendall(b"ping")
    receive(client, 4)
    assert time.monotonic() - start_s >= 0.3


def test_a_black_hole_lets_nothing_pass_and_goes_on_where_it_was(client, line):
    line.faults.is_black_hole = True
    client.sendall(b"later")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    line.faults.is_black_hole = False
    client.settimeout(PATIENCE_S)
    assert receive(client, 5) == b"later"


def test_a_reset_is_felt_on_both_sides_and_a_new_connection_passes(client, line, echo):
    client.sendall(b"x")
    receive(client, 1)
    line.reset()
    with pytest.raises(ConnectionResetError):
        receive(client, 1)
    assert line.connections == 0
    with closing(socket.create_connection(("127.0.0.1", line.port), PATIENCE_S)) as again:
        again.sendall(b"y")
        assert receive(again, 1) == b"y"
    wait_until(lambda: None in echo[1])


def test_a_half_open_connection_is_gone_for_the_server_alone(client, line, echo):
    client.sendall(b"x")
    receive(client, 1)
    line.half_open()
    wait_until(lambda: None in echo[1])
    client.sendall(b"nobody hears this")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert echo[1] == [b"x", None]


def test_the_bit_that_was_named_is_flipped(client, line):
    line.faults.flip_bit = 8 * 3 + 1
    client.sendall(b"\0" * 6)
    assert receive(client, 6) == b"\0\0\0\2\0\0"


@pytest.mark.parametrize(("fault", "expected"), [("drop_chance", b"ac"), ("duplicate_chance", b"abbc")])
def test_a_chunk_vanishes_or_comes_twice(client, line, fault, expected):
    for chance, said in ((0.0, b"a"), (1.0, b"b"), (0.0, b"c")):
        setattr(line.faults, fault, chance)
        before = line.passed_bytes["to_server"]
        client.sendall(said)
        if fault == "duplicate_chance" or said != b"b":
            while line.passed_bytes["to_server"] == before:
                time.sleep(0.002)
        else:
            time.sleep(0.1)  # nothing tells that it has vanished
            for _ in range(3):
                line._call(lambda: None)  # its thread has had its turn since
    assert receive(client, len(expected)) == expected


def test_a_random_bit_is_flipped(client, line):
    line.faults.flip_chance = 1.0
    client.sendall(b"\0" * 6)
    assert sum(bin(byte).count("1") for byte in receive(client, 6)) == 1


def test_a_connection_is_cut_after_so_many_bytes(client, line, echo):
    line.faults.truncate_at = 4
    client.sendall(b"truncated")
    with pytest.raises((ConnectionResetError, AssertionError)):
        receive(client, 9)
    assert b"".join(data for data in echo[1] if data) in (b"", b"trun")


def talk(port):
    """Say a word and wait for the answer."""
    with closing(socket.create_connection(("127.0.0.1", port), PATIENCE_S)) as client:
        client.sendall(b"hello")
        receive(client, 5)


def test_a_closed_line_takes_nobody(line):
    line.faults.is_closed = True
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        talk(line.port)


def test_a_server_that_is_not_there_refuses_its_clients():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with FaultyLine(port) as line, pytest.raises((ConnectionResetError, BrokenPipeError)):
        talk(line.port)
