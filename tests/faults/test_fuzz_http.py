"""Rows R9 and X11: what is fuzzed here is the robot server's HTTP, its decoders, and those of console and operators."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.console import browser_messages
from robot_servers.app import create_app, decode_body
from robot_servers.auth import LOCAL_HOSTS
from robot_servers.faulty_backend import FaultyBackend, Tick
from robot_servers.limits import Refusal
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.stop_request import refusal_of
from robot_servers.tokens import Tokens
from serl_core.errors import TransportError
from serl_core.operator import messages as operator_messages
from serl_core.robots.messages import LeaseRequest, Message, SimAdvanceCommand
from tests.faults.fault_rows import row
from tests.faults.http_fuzz import Fuzzer, speak, statuses_of
from tests.faults.schemathesis_run import run_schemathesis, served
from tests.fuzz.targets import TARGETS, checksums_off

TOKEN = "f" * 64
REQUESTS = 10_000
SCHEMATHESIS_EXAMPLES = 325  # per route, or as many as it has, of each of two processes
STREAM_MESSAGES = 2_000
EPOCH = 10**9
STRANGE_EPOCH = 77
MAX_GROWTH_BYTES = 64 * 1024 * 1024
PAGE_BYTES = 4096


def memory_bytes() -> int:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


class Site:
    """A simulated arm in lockstep whose lease is taken, and its API without a socket."""

    def __init__(self) -> None:
        self.backend = FaultyBackend(MujocoBackend("ram_insertion", is_lockstep=True))
        self.service = RobotService(self.backend, liveness=lambda: 0.0, first_epoch=EPOCH - 1)
        self.service.start()
        pose_epoch = self.service.state().pose_epoch
        lease = LeaseRequest(action="acquire", owner="test", pose_epoch=pose_epoch)
        self.epoch = self.service.lease(lease).epoch
        self.app = create_app(self.service, TOKEN)

    def log_of_half_a_second(self) -> list[Tick]:
        """Let the arm go on, and return what it was told."""
        self.service.sim_advance(SimAdvanceCommand(epoch=self.epoch, duration_s=0.5))
        return list(self.backend.log)


@row("R9")
def test_ten_thousand_fuzzed_requests_get_no_answer_of_500_and_move_nothing(seed, observed):
    with_fuzz, without = Site(), Site()
    try:
        fuzzer = Fuzzer(with_fuzz.app.openapi(), TOKEN, STRANGE_EPOCH, seed)
        for _ in statuses_of(with_fuzz.app, fuzzer, 500):
            pass  # what is made once stays
        before_bytes = memory_bytes()
        found: Counter[int] = Counter()
        for sent, status, body in statuses_of(with_fuzz.app, fuzzer, REQUESTS):
            found[status] += 1
            assert 200 <= status < 500, (sent, status, body)
            if status >= 400:
                assert json.loads(body)["status"] == status if body else sent.method == "HEAD", (sent, body)
        answers = fuzzed_stream(with_fuzz, seed)
        growth_bytes = memory_bytes() - before_bytes
        assert set(found) >= {200, 400, 403, 404, 405, 409, 413, 415, 422}  # each check was reached
        assert answers
        assert all(json.loads(answer)["status"] < 500 for answer in answers)
        assert growth_bytes < MAX_GROWTH_BYTES
        assert with_fuzz.log_of_half_a_second() == without.log_of_half_a_second()
    finally:
        with_fuzz.service.close()
        without.service.close()
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(found.items()))
    observed(
        f"{sum(found.values())} requests ({statuses}), {len(answers)} messages of the stream, none of 500 or above, "
        f"grew by {growth_bytes / 2**20:.1f} MB, torques equal to the run without"
    )


def fuzzed_stream(site: Site, seed: int) -> list[str]:
    fuzzer = Fuzzer(site.app.openapi(), TOKEN, STRANGE_EPOCH, seed + 1)
    texts: list[str | bytes] = []
    for number in range(STREAM_MESSAGES):
        body = fuzzer.message("StreamCommand")
        texts.append(body if number % 10 == 0 else body.decode("utf-8", "replace"))
    return asyncio.run(speak(site.app, TOKEN, texts))


@row("R9")
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_cases_of_schemathesis_get_no_answer_of_500_and_move_nothing(seed, observed, tmp_path):
    """Over a socket, from the document that is served: it found routes whose path that did not describe."""
    with_fuzz, without = Site(), Site()
    try:
        begun_s = time.monotonic()
        with served(with_fuzz.service, TOKEN) as (url, statuses):

            def run(number: int, phases: str) -> dict[str, Any]:
                return run_schemathesis(
                    url,
                    TOKEN,
                    tmp_path / str(number),
                    seed=2 * seed + number,
                    examples=SCHEMATHESIS_EXAMPLES,
                    phases=phases,
                )

            with ThreadPoolExecutor() as pool:  # each is a process, of a core
                reports = list(pool.map(run, (0, 1), ("coverage,fuzzing", "fuzzing")))
        took_s = time.monotonic() - begun_s
        cases = sum(report["test_cases"]["generated"] for report in reports)
        routes = sum(map(len, with_fuzz.app.openapi()["paths"].values()))
        for report in reports:
            assert report["errors"] == []
            assert report["operations"]["tested"] == report["operations"]["total"] == routes
        assert cases >= REQUESTS
        assert max(statuses) < 500
        assert set(statuses) >= {200, 400, 404, 405, 409, 422}
        assert with_fuzz.log_of_half_a_second() == without.log_of_half_a_second()
    finally:
        with_fuzz.service.close()
        without.service.close()
    said = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    observed(
        f"schemathesis: {cases} cases for {routes} routes in {took_s:.0f} s ({said}), "
        "none of 500 or above, torques equal to the run without"
    )


@row("R9")
def test_fuzzed_requests_under_the_right_lease_get_no_answer_of_500_either(seed, observed):
    """With the right lease a request gets past the check of it, down to the values."""
    site = Site()
    try:
        fuzzer = Fuzzer(site.app.openapi(), TOKEN, site.epoch, seed + 2)
        found: Counter[int] = Counter()
        for sent, status, body in statuses_of(site.app, fuzzer, 2_000):
            found[status] += 1
            assert status < 500, (sent, status, body)
    finally:
        site.service.close()
    observed(f"2000 more under the right lease, {found[200]} carried out, 0 of 500 or above")


# ---- X11


def mutated(valid: bytes, random: random.Random) -> bytes:
    """Return a valid input with damage in one to four places."""
    data = bytearray(valid)
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(data) + 1) if data else 0
        match random.randrange(6):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del data[at : at + random.randrange(1, 30)]
            case 2:
                data[at:at] = random.choice(
                    [b"NaN", b"1e999", b"null", b"[" * 50, b'"', b"\\ud800", b"\x00", b"{}", b","]
                )
            case 3:
                end = min(len(data), at + random.randrange(1, 40))
                data[at:at] = data[at:end]
            case 4:
                data = data[:at]
            case 5:
                if at < len(data):
                    data[at] ^= 1 << random.randrange(8)
    return bytes(data)


def subclasses(kind: type) -> list[type]:
    return [kind for child in kind.__subclasses__() for kind in (child, *subclasses(child))]


def fuzz(decode: Callable[[bytes], object], valid: list[bytes], inputs: int, refusals: type | tuple, seed: int) -> str:
    """Decode mutations; whatever is raised but `refusals` fails. Return the figures."""
    rng, refused, slowest_s = random.Random(seed), 0, 0.0
    for number in range(inputs):
        data = mutated(valid[number % len(valid)], rng)
        begin_s = time.thread_time()  # of this thread: the machine may be busy
        try:
            decode(data)
        except refusals:
            refused += 1
        slowest_s = max(slowest_s, time.thread_time() - begin_s)
    assert slowest_s < 1.0
    assert refused > inputs / 20  # the damage is felt
    return f"{inputs} inputs, {refused} refused, slowest {1e3 * slowest_s:.1f} ms"


@row("X11")
def test_fuzzed_messages_of_the_robot_server_are_decoded_or_refused(seed, observed):
    site = Site()
    fuzzer = Fuzzer(site.app.openapi(), TOKEN, EPOCH, seed)
    schemas = set(site.app.openapi()["components"]["schemas"])
    site.service.close()
    kinds = [kind for kind in subclasses(Message) if kind.__name__ in schemas]
    assert len(kinds) >= 20
    each = 70_000 // len(kinds) + 1
    for kind in kinds:
        valid = [fuzzer.message(kind.__name__) for _ in range(20)]
        fuzz(lambda data, kind=kind: decode_body(data, kind), valid, each, Refusal, seed)
    observed(f"{each * len(kinds)} inputs for {len(kinds)} HTTP messages, decoded or refused")


@row("X11")
def test_fuzzed_requests_at_the_stops_own_socket_are_refused_or_answered(seed, observed):
    tokens = Tokens.single(TOKEN)
    head = f"POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nAccept: */*".encode()

    def decode(data: bytes) -> None:
        _, refusal = refusal_of(data, tokens, LOCAL_HOSTS)
        if refusal is not None:
            raise refusal

    observed("stop: " + fuzz(decode, [head], 10_000, Refusal, seed))


@row("X11")
def test_fuzzed_messages_of_browsers_and_operators_are_decoded_or_refused(seed, observed):
    browser = [
        b'{"kind":"hello","token":"x","operator":"anna"}',
        b'{"kind":"recover","cause":"reflex"}',
        b'{"kind":"stop"}',
    ]
    refusals = msgspec.DecodeError
    said = fuzz(lambda data: browser_messages.decode(data.decode("utf-8", "replace")), browser, 10_000, refusals, seed)
    hello = operator_messages.encode(operator_messages.OperatorHello(token="t" * 64))
    resume = operator_messages.encode(operator_messages.ResumeRobot(operator="anna"))
    also = fuzz(operator_messages.decode_from_console, [hello, resume], 10_000, TransportError, seed)
    observed(f"browsers: {said}; operators: {also}")


@row("X11")
@pytest.mark.parametrize("name", ["episode-files", "episode-arrays", "journals"])
def test_fuzzed_episodes_are_loaded_or_refused_whatever_their_checksums_say(seed, observed, tmp_path, name):
    with checksums_off():
        target = TARGETS[name](tmp_path)
        said = fuzz(target.decode, target.seeds, 2_000, target.refusals, seed)
    observed(f"{name}: {said}")


@pytest.mark.parametrize("token", ["", "x"])
def test_the_fuzzer_itself_reaches_no_further_without_the_token(token, seed):
    site = Site()
    fuzzer = Fuzzer(site.app.openapi(), token, EPOCH, seed)
    assert {status for _, status, _ in statuses_of(site.app, fuzzer, 300)} <= {200, 401, 403, 404, 405, 429}
    site.service.close()
