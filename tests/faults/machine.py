"""Whether the machine was there while a row ran: a virtual one's host may run something else in its place.

Where it was away for more than 1 % of the time, a limit on the 99th percentile shows nothing of the software. A row
that breaks one then is *not shown*: it does not count as passed, and the table says why. Two things tell: the time that
the host says it has stolen, and how late a thread of each core is that goes before everything else and only sleeps.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.robot_rig import child

MAX_AWAY = 0.01
STEAL = 7  # of the fields of the first line of /proc/stat; those behind it are in others already


class Machine:
    """The machine during a row.

    Attributes:
        away: the share of the time for which it was not there, 0 to 1, once that is known.
    """

    away = 0.0

    @contextmanager
    def limits_of_time(self) -> Iterator[None]:
        """Assert them inside: where one is broken, and the machine was not there, the row is not shown."""
        try:
            yield
        except AssertionError as broken:
            if self.away <= MAX_AWAY:
                raise
            pytest.skip(
                f"the machine was away for {100 * self.away:.1f} % of the time, at most {100 * MAX_AWAY:.0f} % lets a "
                f"limit of time be shown: {str(broken).splitlines()[0]}"
            )


@contextmanager
def watched() -> Iterator[Machine]:
    """Watch the machine meanwhile."""
    machine, begin = Machine(), processor_times()
    with child("-m", "tests.faults.core_watch", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watcher:
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        watcher.stdout.readline()
        yield machine
        watcher.stdin.close()
        machine.away = max(stolen_since(begin, processor_times()), *json.loads(watcher.stdout.readline()))


class ProcessorTimes(NamedTuple):
    """Of all processors since the start of the machine, in ticks."""

    all: int
    stolen: int  # in which something could have run, and the host ran something else


def processor_times(stat: Path = Path("/proc/stat")) -> ProcessorTimes:
    """Return them; all zero where the system does not tell."""
    try:
        fields = [int(field) for field in stat.read_text().splitlines()[0].split()[1:]]
    except OSError:
        return ProcessorTimes(0, 0)
    return ProcessorTimes(sum(fields[: STEAL + 1]), fields[STEAL])


def stolen_since(begin: ProcessorTimes, now: ProcessorTimes) -> float:
    """Return the share of the time between the two for which the host did not give what was wanted, 0 to 1."""
    return (now.stolen - begin.stolen) / max(now.all - begin.all, 1)
