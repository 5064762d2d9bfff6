"""What a program counts, as text that Prometheus reads (exposition format 0.0.4).

All names begin with ``serl_``, those of counters end with ``_total``.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "serl_"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_PROCESS = Path("/proc/self")


class Kind(Enum):
    """How a number is meant."""

    COUNTER = "counter"  # since the start of the program; never falls
    GAUGE = "gauge"  # as it is now


class Sample(NamedTuple):
    """One number, under a name without its prefix and ``_total``."""

    name: str
    value: int | float
    help: str
    kind: Kind = Kind.GAUGE
    labels: Mapping[str, str] = {}


def counters(prefix: str, counts: Mapping[str, int | float], help_text: str) -> list[Sample]:
    """Return a counter for each of `counts`, named `prefix` and its key."""
    return [Sample(prefix + name, value, help_text, Kind.COUNTER) for name, value in counts.items()]


def render(samples: Iterable[Sample]) -> str:
    """Return the samples as text; those of one name stand together, under one help line."""
    families: dict[str, list[Sample]] = {}
    for sample in samples:
        ending = "_total" if sample.kind is Kind.COUNTER else ""
        families.setdefault(PREFIX + sample.name + ending, []).append(sample)
    lines = []
    for name, family in families.items():
        text = family[0].help.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {family[0].kind.value}")
        lines.extend(f"{name}{_labels(sample.labels)} {_number(sample.value)}" for sample in family)
    return "\n".join(lines) + "\n"


def process_samples() -> list[Sample]:
    """Return what this process holds of the machine: memory, descriptors, threads. Linux only; else threads alone."""
    threads = Sample("threads", threading.active_count(), "Threads of the interpreter")
    if not _PROCESS.exists():
        return [threads]
    pages = int((_PROCESS / "statm").read_text().split()[1])
    return [
        Sample("rss_bytes", pages * os.sysconf("SC_PAGE_SIZE"), "Resident memory"),
        Sample("fds", len(os.listdir(_PROCESS / "fd")), "Open file descriptors"),
        threads,
    ]


def _labels(labels: Mapping[str, str]) -> str:
    return (
        "{" + ",".join(f'{name}="{text.translate(_ESCAPES)}"' for name, text in labels.items()) + "}" if labels else ""
    )


def _number(value: int | float) -> str:
    value = float(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() else repr(value)
