"""Whether the machine was there while a row ran: a virtual one's host may run something else in its place.

Where more than 1 % of the processor time that was wanted was not given, a limit on the 99th percentile shows nothing of
the software. A row that breaks one then is *not shown*: it does not count as passed, and the table says why.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

MAX_STOLEN = 0.01
IDLE, IOWAIT, STEAL = 3, 4, 7  # of the fields of the first line of /proc/stat, in ticks


class ProcessorTimes(NamedTuple):
    """Of all processors since the start of the machine, in s."""

    busy_s: float
    stolen_s: float  # in which something could have run, and the host ran something else


def processor_times(stat: Path = Path("/proc/stat")) -> ProcessorTimes:
    """Return them; all zero where the system does not tell."""
    try:
        fields = [int(field) for field in stat.read_text().splitlines()[0].split()[1:]]
    except OSError:
        return ProcessorTimes(0.0, 0.0)
    hz = os.sysconf("SC_CLK_TCK")
    return ProcessorTimes((sum(fields[:STEAL]) - fields[IDLE] - fields[IOWAIT]) / hz, fields[STEAL] / hz)


def stolen_since(begin: ProcessorTimes, now: ProcessorTimes | None = None) -> float:
    """Return the share of the processor time wanted since `begin` that the host did not give, 0 to 1."""
    now = now or processor_times()
    stolen_s = now.stolen_s - begin.stolen_s
    wanted_s = now.busy_s - begin.busy_s + stolen_s
    return stolen_s / wanted_s if wanted_s > 0 else 0.0


@contextmanager
def limits_of_time(stolen: float) -> Iterator[None]:
    """Assert them inside: where one is broken, and the machine was not there, the row is not shown."""
    try:
        yield
    except AssertionError as broken:
        if stolen <= MAX_STOLEN:
            raise
        pytest.skip(
            f"the machine's host took {100 * stolen:.1f} % of the processor time that was wanted, at most "
            f"{100 * MAX_STOLEN:.0f} % lets a limit of time be shown: {str(broken).splitlines()[0]}"
        )
