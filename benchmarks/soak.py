"""`make soak`: the three programs for half an hour, with a fault every twenty seconds, and what came of it.

Run as `python benchmarks/soak.py --minutes 30 --seed 0`. Robot server (simulated arm in real time, with faults on
demand), learner and actor are processes as a user starts them; between actor and learner is a line that misbehaves.
Eight stub actors without an arm load the same line and learner. It prints a line per fault and one at the end, and ends
with status 1 if a transition was lost or doubled, if a program ends by itself or holds more and more descriptors,
threads or memory, if a fault is seen in no metric or in no log, or if the audit log's chain is broken.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.soak_lab import TASK, Lab, until
from robot_servers.audit_chain import verify
from serl_core.data.episode_log import EpisodeLog
from serl_core.envs.task import load_task
from serl_core.robots.messages import Mode

DIGEST = load_task(TASK).config.digest()
PERIOD_S = 20.0  # between faults
SIGNS_S = 60.0  # in which a fault must show in metrics and logs, once the actor acts again
STUBS, STUB_HZ = 8, 200.0
FULL_LOAD_S = 1800.0  # a longer soak makes no more transitions than this one: the learner's disk is in memory
SCRAPE_S = 2.0
ALLOWED_FDS = 6  # more than at the end of the warm-up
ALLOWED_THREADS = 4
ALLOWED_BYTES = 32 * 2**20  # in a program's life here: a replay buffer takes memory as it fills


def learner_killed(lab: Lab) -> None:
    """SIGKILL of the learner."""
    lab.learner.kill()


def actor_killed(lab: Lab) -> None:
    """SIGKILL of the actor."""
    lab.actor.kill()


def robot_server_killed(lab: Lab) -> None:
    """SIGKILL of the robot server."""
    lab.robot.kill()


def both_killed(lab: Lab) -> None:
    """SIGKILL of learner and actor."""
    lab.learner.kill()
    lab.actor.kill()


def stubs_killed(lab: Lab) -> None:
    """SIGKILL of all stub actors."""
    for stub in lab.stubs:
        stub.kill()


def line_stalled(lab: Lab) -> None:
    """Five seconds in which nothing passes between actor and learner."""
    lab.line.faults.is_black_hole = True
    lab.watch(5.0)
    lab.line.faults.is_black_hole = False


def line_cut(lab: Lab) -> None:
    """All connections between actor and learner end by a reset."""
    lab.line.reset()


def line_damaged(lab: Lab) -> None:
    """A second in which every chunk on the way to the learner has a bit flipped."""
    lab.line.faults.flip_chance = 1.0
    time.sleep(1.0)
    lab.line.faults.flip_chance = 0.0


def stopped_and_resumed(lab: Lab) -> None:
    """A person stops the arm, and lets it go on."""
    lab.stop_arm()
    lab.watch(1.0)
    lab.free()


def reflex(lab: Lab) -> None:
    """The arm's own reflex, and a person who recovers it."""
    lab.robot.signal(signal.SIGUSR2)
    until(lambda: lab.state().mode is Mode.FAULT)
    lab.watch(1.0)
    lab.free()


def actor_suspended(lab: Lab) -> None:
    """SIGSTOP of the actor for four seconds: longer than its lease."""
    lab.actor.signal(signal.SIGSTOP)
    time.sleep(4.0)
    lab.actor.signal(signal.SIGCONT)


def learner_suspended(lab: Lab) -> None:
    """SIGSTOP of the learner for four seconds: longer than an actor waits for a word of it."""
    lab.learner.signal(signal.SIGSTOP)
    time.sleep(4.0)
    lab.learner.signal(signal.SIGCONT)


def disk_full(lab: Lab) -> None:
    """Five seconds without room on the learner's disk."""
    filler = lab.learner_run / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(2**20))
            file.flush()
    lab.watch(5.0)
    filler.unlink()


class Fault(NamedTuple):
    """What is done, and how somebody who looks at metrics and logs must see it."""

    strike: Callable[[Lab], None]
    metrics: tuple[str, ...]  # one of these: "PROGRAM METRIC" rises, or "PROGRAM" tells nothing
    line: str  # like one of a log

    @property
    def name(self) -> str:
        """The function's."""
        return self.strike.__name__


LATCHED = r"latched by '(?s:.*)"  # the actor tells one of two at once; which, the audit log after it
FAULTS = (
    Fault(learner_killed, ("learner",), "resumed at env step"),
    Fault(actor_killed, ("actor",), "connected: actor 'actor-0'"),
    Fault(robot_server_killed, ("robot",), "the robot is away"),
    Fault(both_killed, ("learner", "actor"), "resumed at env step"),
    Fault(stubs_killed, ("stub-0",), "connected: actor 'stub-0'"),
    Fault(line_stalled, ("learner link_introduced",), "no word from"),
    Fault(line_cut, ("learner link_introduced",), "connected: actor 'actor-0'"),
    Fault(line_damaged, ("learner link_rejected", "learner link_introduced"), "rejected a message|connected: actor"),
    Fault(stopped_and_resumed, ('robot latch_cause{cause="stop"}',), LATCHED + '"event":"stop"'),
    Fault(reflex, ('robot latch_cause{cause="reflex"}',), LATCHED + '"detail":"reflex"'),
    Fault(actor_suspended, ("robot watchdog_fired", "robot lease_epoch"), "lease is lost|was held up"),
    Fault(learner_suspended, ("learner link_introduced",), "no word from"),
    Fault(disk_full, ("learner log_refused", "learner ckpt_failed"), "No space left on device"),
)


class Outcome(NamedTuple):
    """What a soak came to."""

    faults: int
    recovered: int  # times that a person had to recover the arm, besides the reflexes of the list
    made: int  # by the actor and the stubs
    logged: int
    lost: int
    doubled: int
    sessions: int
    audit_lines: int
    fds_grown: dict[str, float]  # of each program, at most over its lives
    threads_grown: dict[str, float]
    mb_grown: dict[str, float]
    problems: list[str]


def soak(folder: Path, seconds: float, seed: int, say: Callable[[str], None], period_s: float = PERIOD_S) -> Outcome:
    """Let the programs run with a fault each `period_s`; every fault of the list comes before any comes again.

    A fault comes later if the one before does not yet show, or the actor does not act; the next ones catch up.
    """
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        lab = Lab(folder, seed, stack, stubs=STUBS, stub_hz=STUB_HZ * min(1.0, FULL_LOAD_S / seconds))
        stack.callback(lab.close)
        lab.start()
        faults = [fault for fault in FAULTS if fault.strike is not disk_full or lab.has_small_disk]
        begun_s, count, due = time.monotonic(), 0, list[Fault]()
        while time.monotonic() < begun_s + seconds:
            due = due or [faults[i] for i in rng.permutation(len(faults))]
            fault = due.pop()
            count += 1
            lab.begin_fault()
            fault.strike(lab)
            took_s = lab.wait_until_acting(fault.name)
            say(f"{count:3d} {fault.name:20} {fault.strike.__doc__} Acting again after {took_s:.1f} s.")
            next_s = begun_s + min(count * period_s, seconds)
            patience_s = time.monotonic() + SIGNS_S
            missing = ["all"]
            while time.monotonic() < next_s or (missing and time.monotonic() < patience_s):
                time.sleep(SCRAPE_S)
                lab.keep_running()
                lab.recover_arm(lab.scrape().get("robot", {}))
                missing = lab.missing_signs(fault.metrics, fault.line)
            lab.breaches += [f"{count} {fault.name}: {what}" for what in missing]
        problems = list(lab.breaches)
        for program in (*lab.stubs, lab.actor, lab.learner, lab.robot):
            if status := program.end():
                problems.append(f"the {program.name} ended with status {status} when asked to")
        return _outcome(lab, count, problems)


def _outcome(lab: Lab, faults: int, problems: list[str]) -> Outcome:
    made = {session: count for log in lab.actor_run.glob("*.jsonl") for session, count in _made(log).items()}
    logged: dict[str, list[int]] = {}
    with closing(EpisodeLog(lab.learner_run / "experience", DIGEST)) as log:
        for step in log.transitions():
            assert step.provenance is not None
            logged.setdefault(step.provenance.session, []).append(step.provenance.sequence)
    doubled = sum(len(numbers) - len(set(numbers)) for numbers in logged.values())
    lost = sum(len(set(range(max(numbers) + 1)) - set(numbers)) for numbers in logged.values())
    lost += sum(max(count - len(logged.get(session, [])), 0) for session, count in made.items())
    if any(numbers != sorted(numbers) for numbers in logged.values()):
        problems.append("a session is not logged in its order")
    verdict = verify(lab.audit)
    if verdict.broken is not None:
        problems.append(f"audit log: {verdict.broken}")
    fds, threads, size = (
        {program.name: grown(program.lives, name, len(lab.stubs) + 1) for program in lab.programs}
        for name in ("fds", "threads", "rss_bytes")
    )
    for name, by_program, allowed in (
        ("descriptors", fds, ALLOWED_FDS),
        ("threads", threads, ALLOWED_THREADS),
        ("bytes of memory", size, ALLOWED_BYTES),
    ):
        for program, more in by_program.items():
            if more > allowed:
                problems.append(f"the {program} holds {more:.0f} more {name} than after its warm-up")
    if lost or doubled:
        problems.append(f"{lost} transitions lost, {doubled} doubled")
    return Outcome(
        faults=faults,
        recovered=lab.recovered,
        made=sum(made.values()),
        logged=sum(map(len, logged.values())),
        lost=lost,
        doubled=doubled,
        sessions=len(logged),
        audit_lines=verdict.lines,
        fds_grown=fds,
        threads_grown=threads,
        mb_grown={program: round(more / 2**20, 1) for program, more in size.items()},
        problems=problems,
    )


def _made(path: Path) -> dict[str, int]:
    """Return how many steps each session had made when it last told; a killed one made up to a second's more."""
    made: dict[str, int] = {}
    for line in path.read_text().splitlines():
        with suppress(json.JSONDecodeError, KeyError):
            record = json.loads(line)
            made[record["session"]] = max(made.get(record["session"], 0), int(record["env_steps"]))
    return made


def grown(lives: list[list[dict[str, float]]], name: str, actors: int) -> float:
    """Return by how much the last third of a life holds more than its first third, at most over all lives.

    A learner holds something for each actor: it is looked at while all `actors` are connected.
    """
    most = 0.0
    for life in lives:
        values = [told[name] for told in life if name in told and told.get("link_connected", actors) == actors]
        if third := len(values) // 3:
            most = max(most, float(np.median(values[-third:]) - np.median(values[:third])))
    return most


def main() -> int:
    """Run, print, and return 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="folder that is kept; without it a temporary one")
    args = parser.parse_args()
    if args.run is not None and (args.run / "actor").exists():  # what was made then would count as lost now
        parser.error(f"--run {args.run} holds a soak already; give a folder that is new, or remove that one")
    with ExitStack() as stack:
        folder = args.run or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="serl-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        outcome = soak(folder, 60 * args.minutes, args.seed, lambda line: print(line, flush=True))
    print(json.dumps(outcome._asdict()))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
