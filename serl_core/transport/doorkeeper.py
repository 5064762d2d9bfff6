"""Decides at the learner's socket who may connect, by public key: ZeroMQ's authentication protocol (RFC 27, ZAP)."""

import logging
import time
from pathlib import Path

import zmq
from zmq.utils import z85

from serl_core.clock import Clock
from serl_core.transport.keys import LearnerKeys, admitted_keys, load_learner_keys

logger = logging.getLogger(__name__)

ENDPOINT = "inproc://zeromq.zap.01"  # where ZeroMQ asks
DOMAIN = b"serl"
LOOK_AGAIN_S = 0.5  # for keys that were added or revoked


class Doorkeeper:
    """Admits the keys of a folder, as they are at that moment. All calls but the first come from one thread.

    Attributes:
        denied: how many connections it has turned away; whoever has no key at all does not get as far.
    """

    def __init__(self, folder: Path, clock: Clock = time.monotonic) -> None:
        self.denied = 0
        self._folder = folder
        self._clock = clock
        self._keys: LearnerKeys | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._admitted: dict[str, str] = {}
        self._looked_s = -LOOK_AGAIN_S

    def open(self, context: "zmq.Context[zmq.Socket[bytes]]") -> "zmq.Socket[bytes]":
        """Return the socket where questions come, to be polled. Raises ConfigError when there are no keys."""
        self._keys = load_learner_keys(self._folder)
        self._socket = context.socket(zmq.REP)
        self._socket.bind(ENDPOINT)
        return self._socket

    def guard(self, socket: "zmq.Socket[bytes]") -> None:
        """Let a socket encrypt, and ask here before it listens to anybody."""
        assert self._keys is not None, "open it first"
        socket.curve_server = True
        socket.curve_publickey = self._keys.public.encode()
        socket.curve_secretkey = self._keys.secret.encode()
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)

    def close(self) -> None:
        """Give the socket back. Safe to call twice."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def answer(self) -> None:
        """Answer one question of ZeroMQ."""
        assert self._socket is not None, "open it first"
        version, request, _, address, _, mechanism, *credentials = self._socket.recv_multipart()
        key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and credentials else ""
        is_admitted = key in self._look()
        if not is_admitted:
            self.denied += 1
            if self.denied & (self.denied - 1) == 0:  # the 1st, 2nd, 4th, ...
                logger.warning("turned away %s, whose key is not admitted; %d so far", address.decode(), self.denied)
        status = (b"200", b"OK", key.encode()) if is_admitted else (b"400", b"this key is not admitted", b"")
        self._socket.send_multipart([version, request, *status, b""])

    def is_admitted(self, frame: zmq.Frame) -> bool:
        """Return whether the key by which a message came is admitted still."""
        try:
            return frame.get("User-Id") in self._look()
        except zmq.ZMQError:  # ZeroMQ does not say whose it is; a right actor offers it again
            return False

    def _look(self) -> dict[str, str]:
        now_s = self._clock()
        if now_s - self._looked_s >= LOOK_AGAIN_S:
            self._admitted, self._looked_s = admitted_keys(self._folder), now_s
        return self._admitted
