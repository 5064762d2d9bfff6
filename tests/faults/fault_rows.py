"""The contract: every fault the system must survive, and what must be observed. One row, one test or more.

A test belongs to a row by ``@row("R1")``; `make faults` prints each row as it ends. `test_table.py` holds
this list against the tests: a row has a test, or stands in `NOT_SHOWN` with the reason, and never both.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import pytest

T = TypeVar("T", bound=Callable[..., object])


class Row(NamedTuple):
    """One line of the table."""

    fault: str
    expected: str


ROWS: dict[str, Row] = {
    # R: input at the robot server
    "R1": Row("NaN, Infinity, 1e999 in any number of any route", "400 or 422 naming the field; torques as without it"),
    "R2": Row("wrong length, nested, null, strings, booleans", "422 naming the field"),
    "R3": Row("quaternion of norm 0, 0.5, 100 or with NaN", "422; a norm of 1 +- 0.01 is accepted and normalised"),
    "R4": Row("pose outside the box, or too far a step", "422 with limit and given; the arm keeps its target"),
    "R5": Row("random walk of 100,000 valid commands", "at most 0.25 m/s + 5 % and 50 N; never 5 mm outside the box"),
    "R6": Row("antipodal quaternion", "short way round, unit norm all along"),
    "R7": Row("gains, damping or clips outside the envelope", "422; the old gains stay"),
    "R8": Row("large, slow or endless body; 500 idle connections", "413, 408; stop < 20 ms; growth < 20 MB"),
    "R9": Row("10,000 fuzzed requests", "no answer of 500 or above"),
    "R10": Row("pose while stopped, resetting or latched", "423 with the cause"),
    "R11": Row("1,000 commands/s", "429 above 100/s per lease; newest accepted wins; no queue"),
    "R12": Row("stale or replayed command", "409, not executed"),
    # W: who is in control
    "W1": Row("client killed at 0.25 m/s", "at rest within 0.45 s, drift < 2 mm, mode hold"),
    "W2": Row("client frozen for 5 s, then woken", "as W1; its queued commands get 409"),
    "W3": Row("second client without the lease", "409 with the owner's name; the first is undisturbed (< 2 ms)"),
    "W4": Row("lease holder dies", "lease free after 2 s; the successor must have read the state first"),
    "W5": Row("two clients acquire at once, 1,000 times", "exactly one wins each time"),
    "W6": Row("stop from a non-holder while the server is saturated", "200 within 20 ms (p99), frozen within 10 ms"),
    "W7": Row("wall clock steps by an hour", "no effect on the watchdogs"),
    "W8": Row("a stream of rejected commands only", "the watchdog fires all the same"),
    "W9": Row("the server's interpreter stalls for 400 ms", "the arm is at rest; the watchdog fires"),
    # B: the robot behind the server
    "B1": Row("reflex during motion", "latched; commands 423; no recovery without request; episode truncated"),
    "B2": Row("recover", "set-point is the measured pose first; < 1 mm of motion in the next second"),
    "B3": Row("automatic recovery allowed in the limits file", "at most 3 in 10 min, never for power, limits, stop"),
    "B4": Row("readings freeze for 0.2 s and 2 s", "stale, 503, latch at 1 s; the actor pauses and stores nothing"),
    "B5": Row("NaN in a reading", "dropped and counted; 3 in a row latch"),
    "B6": Row("backend process killed", "503 at once; restarted at most 3 times in 10 min, into hold"),
    "B7": Row("robot server killed", "no child after 1 s; a restart starts exactly one backend"),
    "B8": Row("19 and 21 lost packets", "19: goes on with a warning; 21: latched"),
    "B9": Row("joint reset never arrives", "after its time limit 504 reset_failed, latched; env.reset() raises"),
    "B10": Row("two resets at once", "the second gets 409; exactly one runs"),
    "B11": Row("reset with every shipped configuration", "works"),
    "B12": Row("contact with a wall at 20 N", "force at most stiffness x clip + 10 %"),
    # S: sensors, teleoperation, reward
    "S1": Row("teleop unplugged at full deflection", "zero action, no intervention within 0.2 s; centre first after"),
    "S2": Row("teleop's reader killed", "as S1"),
    "S3": Row(
        "camera gives nothing, raises, or wrong shapes", "hold, truncated within 1 s; loop never blocked > 50 ms"
    ),
    "S4": Row("camera frozen: same bytes or same counter", "stale after 5 repeats or 0.2 s"),
    "S5": Row("cameras swapped, one dark", "start refused, or a warning and its metric"),
    "S6": Row("frame and state more than 100 ms apart", "flagged, counted; > 5 % of the steps is a fault"),
    "S7": Row("classifier gives NaN, or false successes", "3 in a row and the geometry; NaN is 0 with alarm; veto"),
    "S8": Row("classifier of unproven quality", "start refused unless false positives per episode <= 1 %"),
    # T: transport
    "T1": Row("garbage, truncated and flipped frames (100,000)", "counted; dropped after 3; others lose nothing"),
    "T2": Row("frame above 8 MiB, decompression bomb", "refused before allocation; growth < 64 MB"),
    "T3": Row("valid frame of a wrong schema", "refused with the reason; the actor raises at its own side"),
    "T4": Row("the line stalls for 5 s and 60 s", "step jitter p99 < 5 ms; 0 lost, 0 double"),
    "T5": Row("learner's machine loses power", "new weights at the actor within 5 s of its return"),
    "T6": Row("1 % loss, 100 ms round trip, 10 Mbit/s", "at least 70 % of the line; bounded memory"),
    "T7": Row("actor before its learner", "no action before it has weights"),
    "T8": Row("versions or configurations differ", "refused with both in the message"),
    "T9": Row("acknowledgements lost, doubled, reordered", "exactly once (model-based)"),
    "T10": Row("backlog of 100,000 transitions", "batches <= 1 MiB; weights not delayed; loop undisturbed"),
    # P: processes
    "P1": Row("learner killed at every failpoint and at random", "the actor goes on; 0 lost, 0 double, in order"),
    "P2": Row("learner down for long", "warns at 50 and 80 %, then pauses in hold"),
    "P3": Row("actor killed", "at most the unfinished step is lost; the restart sends its spool"),
    "P4": Row("both killed", "P1 and P3"),
    "P5": Row("a learner's thread dies", "the process ends within 1 s, status not 0"),
    "P6": Row("two learners in one directory", "the second refuses"),
    "P7": Row("actor gone", "the learner stops at its update ratio, and resumes"),
    "P8": Row("SIGTERM", "within 10 s: hold, spool on disk, final checkpoint, status 0"),
    "P9": Row("8 actors come and go at random", "0 lost, 0 double, weights within 5 s"),
    # D: persistence
    "D1": Row("killed at each write, fsync and rename of a save", "the last or the previous checkpoint loads"),
    "D2": Row("disk full at byte n", "the save fails loudly; training goes on; recovers with room"),
    "D3": Row("directory read-only or gone", "as D2"),
    "D4": Row("flipped bit, truncated or missing file", "refused; falls back to the previous; never from step 0"),
    "D5": Row("kill and resume", "bit-exact: 200 steps = 100, kill, resume, 100"),
    "D6": Row("resume with any of checkpoint, buffer, spool missing", "all 8 start, or say why"),
    "D7": Row("older format version", "migrated, or refused with the command to run"),
    "D8": Row("checkpoint at full rate", "ingest p99 < 100 ms; asynchronous"),
    "D9": Row("malicious file", "refused; no code runs"),
    # N, M, K: numbers, memory, clock
    "N1": Row("NaN in an observation", "quarantined at the actor; the learner checks again"),
    "N2": Row("loss or gradient not finite", "update skipped inside jit and counted; 10 in a row stop training"),
    "N3": Row("weights not finite", "never published, saved or adopted"),
    "N4": Row("policy gives NaN", "zero action, hold, truncated; the process lives"),
    "N5": Row("reward out of range, Q diverges", "alarm; nothing is published meanwhile"),
    "M1": Row("learner 10 times slower than its actors", "memory flat after warm-up"),
    "M2": Row("replay larger than memory", "refused at the start"),
    "M3": Row("1,000 reconnects and 1,000 resets", "descriptors, threads, processes as at the start"),
    "K1": Row("clock steps, slews, differs between hosts", "no watchdog, rate or order changes"),
    "K2": Row("machine suspended for a minute", "as a stall: hold, lease lost, clean resume"),
    # X: security
    "X1": Row("default start, port scan from another host", "no port can be reached"),
    "X2": Row("every route without, with a wrong and with an observer's token", "401, 401, 403"),
    "X3": Row("text/plain, foreign Origin, foreign Host", "403 or 415; torques unchanged"),
    "X4": Row("pickles and the like at every socket and loader", "nothing runs, nothing is unpickled"),
    "X5": Row("bomb, slow loris, 10,000 connections", "limits hold; stop < 20 ms; growth < 64 MB"),
    "X6": Row("captured command, old lease epoch", "refused"),
    "X7": Row("CURVE: no key, wrong key, revoked key", "no byte reaches the decoder"),
    "X8": Row("token in URLs, logs, argv", "found nowhere"),
    "X9": Row("a line of the audit log removed", "the verifier names it"),
    "X10": Row("banned calls in the sources", "none"),
    "X11": Row("100,000 fuzzed inputs at the decoders", "no crash, no hang above 1 s"),
    "X12": Row("converter of SERL's pickles on a malicious corpus", "refused; child killed, parent fine"),
    # G: load
    "G1": Row("8 actors x 20 Hz x 2 cameras, 60 s", "0 lost; ack p50 < 20, p99 < 250 ms; <= 100 KiB each"),
    "G2": Row("the actors' steps under G1", "jitter p99 < 5 ms, also with the learner killed"),
    "G3": Row("burst of 640/s after an outage", "drains at 600/s or more"),
    "G4": Row("20 MB of weights a second to 8 actors", "adopted within 1 s (p95); one copy queued at most"),
    "G5": Row("1 controller at 100 Hz, 10 observers at 30 Hz", "round trip p99 < 5 ms; no control tick missed"),
    "G6": Row("client killed under G1 and G5", "watchdog within 350 ms"),
    "G7": Row("1 Gbit/s and 10 ms, 8 actors", "as G1, ack p99 < 400 ms"),
    "G8": Row("16 actors", "no loss; latency grows, nothing else"),
}

NOT_SHOWN: dict[str, str] = {}
"""Rows that cannot be shown on a machine without an arm, or not yet, and why. They do not count as passed."""


def row(name: str) -> Callable[[T], T]:
    """Return the decorator that says which row of `ROWS` a test shows."""
    if name not in ROWS:
        raise ValueError(f"there is no row {name!r} in the fault table")
    return pytest.mark.fault_row(name)
