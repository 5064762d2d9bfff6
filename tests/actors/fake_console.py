"""The console's end of the operator link, and a person who says what a test wants."""

import itertools
import json
import time

import zmq

from serl_core.operator.messages import Control, OperatorHello, StepReport, TeleopInput, decode_from_actor, encode

PATIENCE_S = 20.0
PUSH = (0.0, 0.0, 0.5, 0.0, 0.0, 0.0)
_sequences = itertools.count(1)


JUST_NOW = 1e12  # no older than its arrival, by any clock


def teleop(
    twist=PUSH,
    *,
    operator="ann",
    engaged=True,
    sequence=None,
    age_ms=0.0,
    sent_s=JUST_NOW,
    gripper=None,
    hands_back=False,
):
    return TeleopInput(
        operator=operator,
        sequence=next(_sequences) if sequence is None else sequence,
        age_ms=age_ms,
        sent_s=sent_s,
        twist=twist,
        gripper=gripper,
        engaged=engaged,
        hands_back=hands_back,
    )


class FakeConsole:
    """Connects to the actor of a file, greets it unless told not to, and keeps what it hears."""

    def __init__(self, path, *, token=None, greets=True):
        found = json.loads(path.read_text())
        self.heard = []
        self._hello = OperatorHello(token=found["token"] if token is None else token)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(found["address"])
        if greets:
            self.greet()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._context.term()

    def greet(self):
        self.say(self._hello)

    def say(self, message):
        self._socket.send(encode(message))

    def say_bytes(self, frame):
        self._socket.send(frame)

    def listen(self, duration_s=0.0):
        """Take in what comes within a time; return it."""
        heard = []
        until_s = time.monotonic() + duration_s
        while self._socket.poll(max(round(1000 * (until_s - time.monotonic())), 0)):
            heard.append(decode_from_actor(self._socket.recv()))
        self.heard += heard
        return heard

    def await_(self, wanted, *, meanwhile=lambda: None):
        """Return the next message for which `wanted` holds."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            meanwhile()
            if self._socket.poll(10):
                message = decode_from_actor(self._socket.recv())
                self.heard.append(message)
                if wanted(message):
                    return message
        raise AssertionError(f"it did not come; heard {self.heard[-5:]}")

    def await_control(self, *controls: Control, **options):
        return self.await_(lambda said: isinstance(said, StepReport) and said.control in controls, **options)

    def await_notice(self, text, **options):
        return self.await_(lambda said: text in getattr(said, "text", ""), **options)
