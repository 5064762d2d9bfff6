"""The console's end of the operator link: a DEALER on the event loop that finds the actor again when it restarts."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import zmq

from actors.console.operator_file import Found, find_actor
from actors.console.same_robot import is_same_robot
from serl_core.clock import Clock
from serl_core.errors import TransportError
from serl_core.operator import messages
from serl_core.operator.messages import OperatorAddress, OperatorHello, RecordProgress, StepReport
from serl_core.robots.messages import Health

logger = logging.getLogger(__name__)

LOOK_PERIOD_S = 0.1  # at the actor's file; and a reading of the socket, should the loop have missed its edge
GREETING_PERIOD_S = 1.0  # again and again: a connection that ZeroMQ made anew is a stranger to the actor
GONE_S = 3.0  # without a word: a report comes each second
QUEUE = 16  # messages that ZeroMQ may hold per direction; what does not fit is dropped
AT_ONCE = 64  # messages read before others have their turn

MOVING = (messages.TeleopInput, messages.Resume, messages.ResumeRobot, messages.Recover)  # an arm may move by it

Listener = Callable[[messages.FromActor], None]


class ActorFeed:
    """Used on the event loop only; nothing here waits.

    Args:
        run: folder in which the actor leaves its file.
        actor_id: None: the newest one.
        listener: gets what the actor says.
        robot: URL of the robot server that the console stops; None: there is none.
        health: what that server said of itself last; None before.
    """

    def __init__(
        self,
        run: Path,
        actor_id: str | None,
        listener: Listener,
        *,
        robot: str | None = None,
        health: Callable[[], Health | None] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.step: StepReport | None = None  # the last report
        self.recording: RecordProgress | None = None  # how far it is, if it records
        self.problem: str | None = "no actor runs"
        self.other_robot: str | None = None  # why nothing moves by it: it commands another arm than the console stops
        self.actor_id: str | None = actor_id
        self.heard_s: float | None = None  # this machine's monotonic clock
        self._run = run
        self._wanted = actor_id
        self._robot, self._health = robot, health
        self._listener = listener
        self._clock = clock
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None  # while it follows
        self._socket: zmq.Socket[bytes] | None = None
        self._address: OperatorAddress | None = None
        self._greeted_s = 0.0
        self._is_ending = False  # its file has just gone: its last words may be on their way until the next look

    @property
    def is_there(self) -> bool:
        """Whether the actor has said something lately."""
        return self.heard_s is not None and self._clock() - self.heard_s < GONE_S

    def send(self, message: messages.ToActor) -> bool:
        """Send now, or not at all: return whether it has left. An old command must never come late.

        Nothing that moves an arm goes to an actor whose arm the console does not stop.
        """
        if self._socket is None or not self.is_there or (self.other_robot is not None and isinstance(message, MOVING)):
            return False
        is_sent = self._send(message)
        self._receive()  # a send may swallow the socket's edge
        return is_sent

    def why_not_sent(self) -> str:
        """Return why `send` did not."""
        return self.other_robot or self.problem or "the actor is behind"

    async def follow(self) -> None:
        """Look for the actor, greet it and hear it, until cancelled."""
        self._context = zmq.Context()
        try:
            while True:
                self._look()
                self._greet()
                self._receive()
                await asyncio.sleep(LOOK_PERIOD_S)
        finally:
            self._disconnect()
            self._context.term()

    def _look(self) -> None:
        found = find_actor(self._run, self._wanted, self._is_ours)
        address = None if found is None else found.address
        self._is_ending = self._socket is not None and address != self._address and not self._is_ending
        if self._is_ending:
            return
        self.other_robot = None if found is None else self._other_robot(found)
        if found is None:
            self._disconnect()
            self.problem = f"no actor runs with {self._run}"
            return
        self.actor_id, self.problem = found.actor_id, found.problem
        if address != self._address:
            self._disconnect()
            if address is not None:
                self._connect(address)
        if self.problem is None and not self.is_there:
            self.problem = f"{found.actor_id} does not answer"

    def _is_ours(self, actor: OperatorAddress) -> bool:
        return is_same_robot(self._robot, self._health(), actor)

    def _other_robot(self, found: Found) -> str | None:
        if found.address is None or self._is_ours(found.address):
            return None
        theirs, ours = found.address.robot, self._robot or "no robot"
        return (
            f"{found.actor_id} commands the arm at {theirs}, and Stop goes to {ours}: nothing is steered from here. "
            f"Start a console with --robot {theirs}"
        )

    def _connect(self, address: OperatorAddress) -> None:
        assert self._context is not None
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in (  # no HEARTBEAT_IVL: see serl_core.transport.socket_thread
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),  # nothing is kept for an actor that is not there
            (zmq.MAXMSGSIZE, messages.MAX_MESSAGE_BYTES),
            (zmq.SNDHWM, QUEUE),
            (zmq.RCVHWM, QUEUE),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 1000),
        ):
            self._socket.setsockopt(option, value)
        self._socket.connect(address.address)
        self._address = address
        self._greeted_s = 0.0
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)

    def _disconnect(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket = self._address = self.heard_s = None
        self.step = self.recording = None

    def _greet(self) -> None:
        now_s = self._clock()
        due_s = LOOK_PERIOD_S if self.heard_s is None else GREETING_PERIOD_S
        if self._socket is None or self._address is None or now_s - self._greeted_s < due_s:
            return
        if self._send(OperatorHello(token=self._address.token)):
            self._greeted_s = now_s

    def _send(self, message: messages.ToActor) -> bool:
        assert self._socket is not None
        with suppress(zmq.Again):
            self._socket.send(messages.encode(message), zmq.NOBLOCK)
            return True
        return False

    def _receive(self) -> None:
        for _ in range(AT_ONCE):
            if self._socket is None:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = messages.decode_from_actor(frames[-1])
            except TransportError as error:
                logger.warning("the actor said something that cannot be read: %s", error)
                continue
            self._hear(message)

    def _hear(self, message: messages.FromActor) -> None:
        self.heard_s = self._clock()
        self.problem = None
        if isinstance(message, StepReport):
            self.step = message
        if isinstance(message, RecordProgress):
            self.recording = message
        self._listener(message)
