"""Fuzzes the decoders of records and messages for as long as you let it, guided by coverage.

Needs `pip install atheris`, which has wheels for some Pythons only; then `python tests/fuzz/codec.py [CORPUS]`.
Row X11 of the fault table runs without it, on seeded mutations.
"""

import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["serl_core"]):
    from serl_core.errors import TransportError
    from serl_core.transport import wire
    from serl_core.transport.codec import decode_transition, decode_weights

DECODERS = (decode_transition, decode_weights, wire.decode_from_actor, wire.decode_from_learner, wire.foreign_protocol)


def one_input(data: bytes) -> None:
    """Decode: the first byte says as what. A TransportError is an answer, anything else is a find."""
    if not data:
        return
    with suppress(TransportError):
        DECODERS[data[0] % len(DECODERS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
