"""Vetoes on the disk from the moment they come until the spool has them: the control loop may be in a long reset."""

from pathlib import Path

import msgspec

from actors.spool import Spool
from actors.veto import vetoed
from serl_core.data.appending import append_line
from serl_core.errors import DataError
from serl_core.transport.codec import decode_transition
from serl_core.types import EndReason

AT_ONCE = 64  # rows of the spool that are looked at together


class _Veto(msgspec.Struct, frozen=True):
    session: str
    episode: int


class VetoFile:
    """One actor's file, a JSON line for each veto. `add` may be called on any one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, session: str, episode: int) -> None:
        """Keep a veto. On return it survives a power cut.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            append_line(self._path, msgspec.json.encode(_Veto(session, episode)))
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error.strerror}); make room on its disk") from None

    def apply(self, spool: Spool) -> None:
        """Amend the successes that a killed actor has left in its spool, then forget the vetoes.

        Those that it has amended itself, or that the learner has, are as they should be.

        Raises:
            DataError: the file cannot be read or removed, or the spool cannot be written.
        """
        try:
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read ({error.strerror}); move it away") from None
        vetoes = {(veto.session, veto.episode) for veto in map(_read, lines) if veto is not None}
        if vetoes:
            _amend(spool, vetoes)
        self._path.unlink(missing_ok=True)


def _amend(spool: Spool, vetoes: set[tuple[str, int]]) -> None:
    place = 0
    while rows := spool.pending(AT_ONCE, place):
        place = rows[-1].place
        for row in rows:
            transition = decode_transition(row.record)
            assert transition.provenance is not None  # it comes from a record
            episode = (transition.provenance.session, transition.provenance.episode)
            if transition.end is EndReason.SUCCESS and episode in vetoes:
                spool.amend(vetoed(transition))
    spool.sync()


def _read(line: bytes) -> _Veto | None:
    """Return the veto of a line; None of one that a power cut has left half written."""
    try:
        return msgspec.json.decode(line, type=_Veto)
    except msgspec.DecodeError:
        return None
