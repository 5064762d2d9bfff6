"""An actor's way to the newest weights: it asks for one piece of their record after the other.

So nothing else that a learner has to say waits behind more than a piece, however large the weights and slow the line.
"""

import logging
import threading
import time

import numpy as np

from serl_core.errors import TransportError
from serl_core.scheduling import go_after_others
from serl_core.transport import wire
from serl_core.transport.codec import decode_weights
from serl_core.transport.interface import PolicyWeights

logger = logging.getLogger(__name__)

ASK_AGAIN_S = 2.0


class WeightsPull:
    """Says which piece is wanted next, and makes weights of the pieces, on a thread of its own.

    Attributes:
        weights: the newest that are whole and right.
    """

    def __init__(self) -> None:
        self.weights: PolicyWeights | None = None
        self._version = 0  # of the record that is coming
        self._size = 0  # of it, in bytes
        self._pieces: list[bytes | memoryview] = []  # of it, that have arrived
        self._arrived = 0  # bytes
        self._ask_at_s = 0.0
        self._decoding: threading.Thread | None = None

    @property
    def is_decoding(self) -> bool:
        """Whether a record is complete, and its weights are being made."""
        return self._decoding is not None and self._decoding.is_alive()

    def wanted(self, announced_version: int, now_s: float) -> wire.Pull | None:
        """Return what to ask for now; None when nothing newer is announced, or an answer may be on its way."""
        if now_s < self._ask_at_s or self.is_decoding:
            return None
        held_version = self.weights.version if self.weights is not None else 0  # after the look at what is being made
        if announced_version <= held_version:
            return None
        self._ask_at_s = now_s + ASK_AGAIN_S
        return wire.Pull(held_version, self._version, self._arrived)

    def take(self, head: wire.Weights, piece: bytes | memoryview) -> None:
        """Take in a piece. One that came before, or is of another record than the one that is coming, changes nothing.

        Raises:
            TransportError: there is more of it than it said at first.
        """
        if self.is_decoding:
            return
        if head.offset == 0 and (head.version, head.size) != (self._version, self._size):
            self._begin(head.version, head.size)
        if (head.version, head.size, head.offset) != (self._version, self._size, self._arrived):
            return
        end = self._arrived + len(piece)
        if not self._arrived < end <= head.size:
            raise TransportError(
                f"a piece of {len(piece)} bytes, with {head.size - self._arrived} to come of the weights"
            )
        self._pieces.append(piece)
        self._arrived = end
        self._ask_at_s = 0.0
        if end == head.size:
            pieces = self._pieces
            self._begin(0, 0)
            self._decoding = threading.Thread(target=self._adopt, args=(pieces,), name="actor-weights", daemon=True)
            self._decoding.start()

    def close(self) -> None:
        """Wait for what is being made."""
        if self._decoding is not None:
            self._decoding.join()

    def _begin(self, version: int, size: int) -> None:
        self._version, self._size, self._pieces, self._arrived = version, size, [], 0

    def _adopt(self, pieces: list[bytes | memoryview]) -> None:
        go_after_others()  # copying and hashing let the other threads run, and those that carry messages
        try:
            weights = decode_weights(_joined(pieces))
        except TransportError as error:
            logger.warning("ignored weights of the learner: %s", error)
            self._ask_at_s = time.monotonic() + ASK_AGAIN_S
            return
        if self.weights is None or weights.version > self.weights.version:
            self.weights = weights


def _joined(pieces: list[bytes | memoryview]) -> memoryview:
    """Return the record that these are pieces of, which are gone then: of a record there is one in memory, not two."""
    record = np.empty(sum(map(len, pieces)), np.uint8)
    begin = 0
    for place, piece in enumerate(pieces):
        record[begin : begin + len(piece)] = np.frombuffer(piece, np.uint8)
        begin += len(piece)
        pieces[place] = b""
    return record.data.toreadonly()
