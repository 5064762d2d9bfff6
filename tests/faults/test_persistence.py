"""Rows D and M2: what is on the disk is whole, whatever happened while it was written."""

import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import learners
from learners.checkpoints import Checkpoints
from serl_core.data.episode_file import load_header
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.memory import available_bytes
from serl_core.data.metrics_file import read_metrics
from serl_core.errors import ConfigError, DataError, TransportError
from serl_core.failpoints import find_failpoints
from serl_core.networks.weights import load_policy, save_policy
from serl_core.testing.faults.disks import SmallDisk, files_up_to, may_mount, read_only
from tests.faults.fault_rows import row
from tests.faults.learner_rig import DIGEST, Child, Rig, received, trained, transition, wait_for
from tests.faults.sync_run import STEPS, save, train_in_turns, tree

KILLED = -signal.SIGKILL
ROOT = Path(learners.__file__).parents[1]
Say = Callable[[str], None]

SMALL_DISK = "a small disk"
MOUNTED = [SMALL_DISK] if may_mount() else []
CHECKPOINT_LIMIT = 2**16  # less than the arrays of the learner's checkpoint, more than its other files


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def newest_value(folder: Path) -> int:
    checkpoint = Checkpoints(folder).newest()
    assert checkpoint is not None
    jax.tree.map(np.testing.assert_array_equal, checkpoint.arrays_like(tree(0)), tree(checkpoint.facts["value"]))
    return int(checkpoint.facts["value"])


@row("D1")
def test_a_save_killed_at_any_point_leaves_the_last_or_the_previous_checkpoint(tmp_path: Path, observed: Say) -> None:
    names = sorted(p.name for p in find_failpoints([ROOT / "learners"]) if p.name.startswith("checkpoint."))
    kills = [f"{name}:{nth}" for name in names for nth in ((1, 2, 3) if ".file_" in name else (1,))]
    folder, said = tmp_path / "checkpoints", tmp_path / "said"
    for value in range(1, 4):
        save(folder, value)
    last, kept = 3, 0
    for armed in kills:
        child = Child(save, said, armed, folder, last + 1)
        assert child.wait() == KILLED, f"{armed} was never passed: {child.said()}"
        child.close()
        found = newest_value(folder)
        assert found in (last, last + 1)
        kept += found == last
        last = found
    save(folder, last + 1)
    assert sorted(path.name.isdecimal() for path in folder.iterdir()) == [True] * 3
    observed(f"{len(kills)} points: {kept} times the previous, {len(kills) - kept} times the new one, whole each time")


@row("D2")
def test_a_save_that_the_disk_refuses_at_any_byte_costs_nothing(tmp_path: Path, observed: Say) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, 1)
    size = max(file.stat().st_size for file in (folder / "000001").iterdir())
    sizes = np.linspace(0, size - 1, 60).astype(int)
    for value, limit in enumerate(sizes, start=2):
        with files_up_to(int(limit)), pytest.raises(DataError, match="was not saved"):
            save(folder, value)
        assert [path.name for path in folder.iterdir()] == ["000001"]
        assert newest_value(folder) == 1
    save(folder, 100)
    assert newest_value(folder) == 100
    observed(f"{len(sizes)} limits from 0 to {size} bytes: refused, nothing left behind, the previous intact")


def checkpoint_events(rig: Rig) -> list[dict[str, Any]]:
    return [record for record in read_metrics(rig.run / "metrics.jsonl") if record.get("event") == "checkpoint_failed"]


def newest_steps(rig: Rig) -> int:
    checkpoint = Checkpoints(rig.run / "checkpoints").newest()
    return checkpoint.facts["trained_env_steps"] if checkpoint is not None else 0


class Disk(NamedTuple):
    """One that is as it should be, until it is spoiled for a program."""

    spoil: Callable[[Child], object]
    mend: Callable[[], object]
    refusal: str  # what the program is told meanwhile


@contextmanager
def full_disk(folder: Path, kind: str, limit: int) -> Iterator[Disk]:
    """Yield a disk for a folder; by a limit it is full for all files of the program beyond `limit` bytes."""
    with ExitStack() as stack:
        if kind == SMALL_DISK:
            disk = stack.enter_context(SmallDisk(folder, 2**20))
            yield Disk(lambda _: disk.fill(), disk.make_room, "No space left")
        else:
            yield Disk(lambda child: stack.enter_context(files_up_to(limit, child.pid)), stack.close, "File too large")


@contextmanager
def forbidden_disk(folder: Path, kind: str) -> Iterator[Disk]:
    """Yield a disk for a folder that becomes read-only."""
    with ExitStack() as stack:
        if kind == SMALL_DISK:
            disk = stack.enter_context(SmallDisk(folder, 2**20))
            yield Disk(lambda _: patiently(disk.make_read_only), disk.make_writable, "Read-only")
        else:
            yield Disk(lambda _: stack.enter_context(read_only(folder)), stack.close, "Permission denied")


@pytest.mark.parametrize("kind", ["a limit on files", *MOUNTED])
@row("D2")
def test_training_goes_on_while_the_disk_of_its_checkpoints_is_full(rig: Rig, kind: str, observed: Say) -> None:
    with full_disk(rig.run / "checkpoints", kind, CHECKPOINT_LIMIT) as disk:
        learner = rig.learner(resume=False)
        actor = rig.actor()
        wait_for(lambda: newest_steps(rig) > 0)
        disk.spoil(learner)
        wait_for(lambda: len(checkpoint_events(rig)) >= 2)
        before = newest_steps(rig)
        assert before > 0  # the previous one is intact
        wait_for(lambda: not list((rig.run / "checkpoints").glob(".partial*")))  # but while it tries again
        failed = checkpoint_events(rig)[-1]
        assert failed["ckpt_failed"] >= 2
        assert disk.refusal in failed["reason"]
        disk.mend()
        wait_for(lambda: newest_steps(rig) > before + 20)
        assert learner.status is None
        count = rig.finish(actor, learner)
    observed(
        f"full disk of checkpoints ({kind}): {failed['ckpt_failed']} failed, told, went on, recovered; {count} logged"
    )


@pytest.mark.parametrize("kind", ["a limit on files", *MOUNTED])
@row("D2")
def test_a_full_disk_of_the_log_makes_the_learner_wait_and_loses_nothing(rig: Rig, kind: str, observed: Say) -> None:
    with full_disk(rig.run / "experience", kind, 0) as disk:
        learner = rig.learner(resume=False, metrics_port=0)
        actor = rig.actor()
        wait_for(lambda: received(rig) > 0)
        disk.spoil(learner)
        wait_for(lambda: refused_writes(rig) >= 2)
        refused = refused_writes(rig)
        assert learner.status is None
        assert actor.status is None
        disk.mend()
        count = rig.finish(actor, learner)
    observed(f"full disk of the log ({kind}): {refused} writes refused, the actor went on, then all {count} logged")


def refused_writes(rig: Rig) -> int:
    """Return how often the disk has refused the log, as the learner tells on its page of metrics."""
    with urllib.request.urlopen((rig.run / "learner.metrics.url").read_text().strip(), timeout=10.0) as page:
        found = re.search(r"^serl_log_refused_total (\S+)$", page.read().decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


@pytest.mark.parametrize("kind", ["permissions", *MOUNTED])
@row("D3")
def test_training_goes_on_while_its_checkpoints_are_read_only(rig: Rig, kind: str, observed: Say) -> None:
    with forbidden_disk(rig.run / "checkpoints", kind) as disk:
        learner = rig.learner(resume=False)
        actor = rig.actor()
        wait_for(lambda: newest_steps(rig) > 0)
        disk.spoil(learner)
        wait_for(lambda: checkpoint_events(rig))
        before = newest_steps(rig)
        assert before > 0
        assert disk.refusal in checkpoint_events(rig)[-1]["reason"]
        disk.mend()
        wait_for(lambda: newest_steps(rig) > before + 20)
        assert learner.status is None
        count = rig.finish(actor, learner)
    observed(f"checkpoints read-only ({kind}): told, went on, recovered; {count} logged")


@row("D3")
def test_training_goes_on_while_the_folder_of_its_checkpoints_is_gone(rig: Rig, observed: Say) -> None:
    learner = rig.learner(resume=False)
    actor = rig.actor()
    wait_for(lambda: newest_steps(rig) > 0)
    away = rig.run / "away"
    (rig.run / "checkpoints").rename(away)
    wait_for(lambda: any("is gone" in event["reason"] for event in checkpoint_events(rig)))
    assert not (rig.run / "checkpoints").exists()
    away.rename(rig.run / "checkpoints")
    before = newest_steps(rig)
    wait_for(lambda: newest_steps(rig) > before + 20)
    observed(f"checkpoints gone for a while: told, went on, recovered; {rig.finish(actor, learner)} logged")


def patiently(act: Callable[[], None]) -> None:
    """Do what is refused while a file is being written."""

    def is_done() -> bool:
        try:
            act()
        except ConfigError:
            return False
        return True

    wait_for(is_done)


@row("D3")
def test_an_experience_folder_that_is_away_for_a_while_loses_nothing(rig: Rig, observed: Say) -> None:
    learner = rig.learner(resume=False)
    actor = rig.actor()
    wait_for(lambda: newest_steps(rig) > 0)
    (rig.run / "experience").rename(rig.run / "away")
    wait_for(lambda: "trying again" in learner.said())
    (rig.run / "away").rename(rig.run / "experience")
    observed(f"experience gone for a while: {rig.finish(actor, learner)} transitions, 0 lost, 0 double")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


DAMAGES: dict[str, Callable[[Path], None]] = {"flipped": flip, "truncated": truncate, "missing": Path.unlink}


def used_run(rig: Rig, steps: int = 60) -> int:
    """Make a run with several checkpoints and a log, and kill its learner; return how many steps it has."""
    learner = rig.learner(resume=False)
    assert rig.actor(steps=steps, period_s=0.002).wait() == 0
    wait_for(lambda: newest_steps(rig) >= steps - 10)
    learner.kill()
    return steps


@row("D4")
def test_a_damaged_checkpoint_is_passed_over_loudly_and_none_is_no_new_start(rig: Rig, observed: Say) -> None:
    used_run(rig)
    checkpoints, pristine = rig.run / "checkpoints", rig.run / "pristine"
    shutil.copytree(checkpoints, pristine)
    *_, previous, newest = sorted(path.name for path in pristine.iterdir())
    expected = json.loads((pristine / previous / "facts.json").read_text())["env_steps"]
    cases = 0
    for damage in DAMAGES.values():
        for name in sorted(path.name for path in (pristine / newest).iterdir()):
            shutil.rmtree(checkpoints)
            shutil.copytree(pristine, checkpoints)
            damage(checkpoints / newest / name)
            learner = rig.learner()
            assert learner.status is None, learner.said()
            assert f"checkpoint {checkpoints / newest}" in learner.said()
            assert "ERROR" in learner.said()
            assert f"resumed at env step {expected}," in learner.said()
            learner.kill()
            cases += 1
    for path in checkpoints.glob("*/arrays.safetensors"):  # one may be half removed: its learner was killed
        flip(path)
    learner = rig.learner(is_ready=False)
    assert learner.wait() == 2
    assert "is whole" in learner.said()
    assert "--resume --fresh" in learner.said()
    learner = rig.learner(fresh=True)
    assert learner.status is None
    assert "resumed at env step 0," in learner.said()
    learner.kill()
    assert (rig.run / "checkpoints-1").is_dir()
    assert rig.check_exactly_once() == 60
    observed(f"{cases} damages: the one before, with an error; all damaged: status 2, anew only with --fresh")


@row("D4")
@pytest.mark.parametrize("damage", ["flipped", "truncated"])
@pytest.mark.parametrize("kind", ["episodes", "journals"])
def test_a_damaged_file_of_the_log_is_refused_by_its_name(
    tmp_path: Path, kind: str, damage: str, observed: Say
) -> None:
    with closing(EpisodeLog(tmp_path, DIGEST)) as log:
        log.append([transition("s", number) for number in range(12)])
    (file,) = (tmp_path / kind).iterdir()
    DAMAGES[damage](file)
    if (kind, damage) == ("journals", "truncated"):  # as a power cut leaves it: nobody was told the last step is safe
        with closing(EpisodeLog(tmp_path, DIGEST)) as log:
            assert [step.provenance.sequence for step in log.transitions() if step.provenance] == list(range(11))
    else:
        with pytest.raises(DataError, match=f"{file.name} is corrupt"), closing(EpisodeLog(tmp_path, DIGEST)) as log:
            list(log.transitions())
    observed("a damaged file of the log: refused by its name")


@pytest.mark.long
@pytest.mark.timeout(600)
@row("D5")
def test_a_run_killed_at_every_point_ends_the_same_to_the_bit(tmp_path: Path, observed: Say) -> None:
    prefixes = ("log.", "checkpoint.", "file.", "learner.inserted", "learner.updated")
    names = sorted({p.name for p in find_failpoints([ROOT / "learners", ROOT / "serl_core" / "data"])})
    once = {"file.": (1,), "checkpoint.file_": (2,), "learner.": (3,), "log.journal_w": (4,)}
    kills = [
        f"{name}:{nth}"
        for name in names
        if name.startswith(prefixes) and name not in ("learner.received",)
        for nth in next((counts for prefix, counts in once.items() if name.startswith(prefix)), (1,))
    ]
    children = []
    try:
        whole = Child(train_in_turns, tmp_path / "whole.log", "", tmp_path / "whole")
        children.append(whole)
        assert whole.wait(120.0) == 0, whole.said()
        for armed in ["learner.updated:80", *kills]:
            child = Child(train_in_turns, tmp_path / "killed.log", armed, tmp_path / "killed")
            children.append(child)
            assert child.wait(120.0) == KILLED, f"{armed}: {child.said()}"
        last = Child(train_in_turns, tmp_path / "killed.log", "", tmp_path / "killed")
        children.append(last)
        assert last.wait(120.0) == 0, last.said()
    finally:
        for child in children:
            child.close()
    expected = (tmp_path / "whole" / "digest").read_text()
    observed(f"{STEPS} steps, killed at 100 and at {len(kills)} points: sha256 {expected[:12]} both times")
    assert (tmp_path / "killed" / "digest").read_text() == expected


@row("D6")
def test_all_cases_of_what_is_left_of_a_run_start_or_say_why(rig: Rig, tmp_path: Path, observed: Say) -> None:
    steps = used_run(rig)
    actor = rig.actor(steps=15, may_keep=True, drain_s=0.0, hello=False)
    assert actor.wait() == 0, actor.said()
    first, made = sorted(rig.made(), key=rig.made().__getitem__, reverse=True)
    said = []
    for number in range(8):
        has_checkpoint, has_log, has_spool = (bool(number & bit) for bit in (1, 2, 4))
        with Rig(tmp_path / f"case-{number}") as case:
            shutil.copytree(rig.run, case.run, dirs_exist_ok=True)
            for keeps, path in ((has_checkpoint, "checkpoints"), (has_log, "experience")):
                if not keeps:
                    shutil.rmtree(case.run / path)
            if not has_spool:
                (case.run / "actor-0.spool").unlink()
            learner = case.learner()
            assert learner.status is None, learner.said()
            assert case.actor(steps=1).wait() == 0, learner.said()
            learner.kill()
            logged = case.logged()
        counts = {session: len(sequences) for session, sequences in logged.items()}
        assert all(sequences == list(range(len(sequences))) for sequences in logged.values())
        assert counts.get(first, 0) == (steps if has_log else 0)
        assert counts.get(made, 0) == (15 if has_spool else 0)
        assert ("no longer in the log" in learner.said()) == (has_checkpoint and not has_log)
        expected = 0 if not has_checkpoint else steps
        assert f"resumed at env step {expected}," in learner.said() or has_checkpoint
        said.append(number)
    for path in ("learner.json", "address"):
        (rig.run / path).unlink(missing_ok=True)
    refused = rig.learner(resume=False, is_ready=False)
    assert refused.wait() == 2
    assert "--resume" in refused.said()
    observed(f"{len(said)} of 8 start, with a spool's transitions once; without --resume: status 2 and why")


@row("D7")
def test_files_of_other_versions_are_refused_with_the_command_to_run(tmp_path: Path, observed: Say) -> None:
    checkpoint = tmp_path / "checkpoints"
    save(checkpoint, 1)
    first_format = checkpoint / "000002"  # as the first format had it: a folder of arrays, sums without a format
    (first_format / "arrays").mkdir(parents=True)
    (first_format / "facts.json").write_text("{}")
    (first_format / "sha256.json").write_text(json.dumps({"facts.json": hashlib.sha256(b"{}").hexdigest()}))
    log = tmp_path / "log"
    with closing(EpisodeLog(log, DIGEST)) as open_log:
        open_log.append([transition("s", number) for number in range(7)])
    (episode,) = (log / "episodes").iterdir()
    policy = tmp_path / "policy.safetensors"
    save_policy(policy, {"w": np.zeros(1, np.float32)}, {})
    info = json.loads((log / "log.json").read_text())
    whole = episode.read_bytes()
    cases: list[tuple[Callable[[], object], str]] = []
    cases.append((lambda: Checkpoints(checkpoint).newest(), "format 1, .*serl learner --resume --fresh"))
    for version, command in ((0, r"pip install 'serl<0\.1'"), (9, "pip install --upgrade serl")):
        for load, text in (
            (lambda: EpisodeLog(log, DIGEST), f"log.json is of version {version}, this program reads 2"),
            (lambda: load_header(episode), f"is of version {version}, this program reads 1"),
            (lambda: load_policy(policy), f"is of version {version}, this program reads 1"),
        ):
            cases.append((load, f"{text}: use .*{command}"))
    with pytest.raises(DataError, match=cases[0][1]):
        cases[0][0]()
    for (load, text), version in zip(cases[1:], (0, 0, 0, 9, 9, 9), strict=True):
        (log / "log.json").write_text(json.dumps(info | {"version": version}))
        episode.write_bytes(whole.replace(b'\\"version\\":1', f'\\"version\\":{version}'.encode()))
        save_policy(policy, {"w": np.zeros(1, np.float32)}, {"format": version})
        with pytest.raises(DataError, match=text):
            load()
    observed(f"{len(cases)} files of older and newer versions: refused with both versions and a command")


@contextmanager
def memory_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder in memory: `folder` where a disk may be mounted, else one that is there already."""
    if may_mount():
        with SmallDisk(folder, 2**30) as disk:
            yield disk.folder
    else:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
            yield Path(shared)


def acknowledgements(folder: Path, steps: int, checkpoint_every: int, megabytes: int) -> tuple[list[float], int]:
    """Return how long each of `steps` transitions waited to be acknowledged, in ms, and the number of checkpoints.

    On a disk in memory, whose own delays are none: what is measured is whether anything waits for a save.
    """
    with memory_folder(folder) as memory, Rig(memory) as rig:
        learner = rig.learner(resume=False, megabytes=megabytes, checkpoint_every=checkpoint_every)
        actor = rig.actor(steps=steps)
        assert actor.wait() == 0, actor.said()
        wait_for(lambda: trained(rig) == steps)
        learner.signal(signal.SIGTERM)
        assert learner.wait() == 0, learner.said()
        assert newest_steps(rig) == steps  # no step of the training is lost
        rig.check_exactly_once()
        (timing,) = (np.load(path) for path in rig.run.glob("timing-*.npz"))
        numbers = [int(path.name) for path in (rig.run / "checkpoints").iterdir()]
        return [1e3 * float(wait_s) for wait_s in timing["acknowledged_s"]], max(numbers)


@pytest.mark.long
@row("D8")
def test_checkpoints_keep_no_actor_waiting(tmp_path: Path, observed: Say) -> None:
    """The control run has no checkpoint but the last one: on a busy machine it waits as long."""
    steps = 400
    with memory_folder(tmp_path / "probe") as memory:
        megabytes = min(32, shutil.disk_usage(memory).free // (6 * 2**20))  # three are kept, one is being written
    assert megabytes >= 8  # else nothing weighs on anything
    control_ms, _ = acknowledgements(tmp_path / "control", steps, 100_000, megabytes)
    waits_ms, checkpoints = acknowledgements(tmp_path / "disk", steps, 20, megabytes)
    p50, p99, control = np.quantile(waits_ms, 0.5), np.quantile(waits_ms, 0.99), np.quantile(control_ms, 0.99)
    observed(
        f"{steps} transitions at 100/s beside {checkpoints} checkpoints of {megabytes} MB: "
        f"acknowledged after {p50:.0f} ms (p50), {p99:.0f} ms (p99), without checkpoints {control:.0f} ms (p99); "
        "every step trained"
    )
    assert checkpoints >= 3
    assert p99 < max(100.0, 1.5 * control)


HOSTILE = """
import sys, resource, json
from pathlib import Path
seen = []
def hook(event, args):
    if event in armed:
        seen.append(event)
armed = ()
sys.addaudithook(hook)
from tests.faults.test_persistence import load_all
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
armed = ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn")
refused = load_all(Path(sys.argv[1]), "first")
armed += ("marshal.loads", "exec", "compile")  # which the imports of the first round need
assert load_all(Path(sys.argv[1]), "second") == refused
armed = ()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seen": seen, "refused": refused, "grown_kib": after - before}))
"""


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self._trace}",)


def corpus(trace: Path, scratch: Path) -> dict[str, bytes]:
    """Return the contents of malicious files by name."""
    slip = scratch / "slip.zip"
    with zipfile.ZipFile(slip, "w") as archive:
        archive.writestr("../../../evil", "x")
    numpy_file = scratch / "objects.npy"
    np.save(numpy_file, np.array([Evil(trace)], dtype=object), allow_pickle=True)
    header = json.dumps({"../../evil": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    return {
        "pickle": pickle.dumps(Evil(trace)),
        "pickle, protocol 0": pickle.dumps(Evil(trace), protocol=0),
        "zip slip": slip.read_bytes(),
        "numpy objects": numpy_file.read_bytes(),
        "1 TB header": (2**40).to_bytes(8, "little") + b"{}",
        "4 TB array": len(header).to_bytes(8, "little") + header,
        "deep nesting": b"[" * 100_000,
        "huge number": b'{"version": ' + b"9" * 100_000 + b"}",
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(4096),
    }


def load_all(folder: Path, turn: str) -> list[str]:
    """Give every file of the corpus to every loader; return which loads were refused as they should be."""
    from actors.spool import Spool
    from serl_core.data.episode_file import load_episode, load_header
    from serl_core.data.relabels import RelabelFile
    from serl_core.transport.codec import decode_transition, decode_weights

    refused = []
    for path in sorted((folder / "corpus").iterdir()):
        data = path.read_bytes()
        place = folder / turn / path.name
        place.mkdir(parents=True)

        def put(name: str, content: bytes = data, place: Path = place) -> Path:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
            return place / name

        def checkpoint(name: str, put: Callable[..., Path] = put, data: bytes = data) -> Path:
            """One whose sums are right, as an attacker would make it."""
            contents = {"arrays.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "facts.json": b"{}", name: data}
            files = {key: hashlib.sha256(value).hexdigest() for key, value in contents.items() if key != "sha256.json"}
            manifest = json.dumps({"format": 2, "files": files}).encode()
            for key, value in ({"sha256.json": manifest} | contents).items():
                put(f"{name}/000001/{key}", value)
            return put(f"{name}/000001/{name}").parent.parent

        def log(name: str, put: Callable[..., Path] = put) -> Path:
            return put(f"log-{name.replace('/', '-')}/{name}").parents[name.count("/")]

        loaders: dict[str, Callable[[], object]] = {
            "arrays": lambda: Checkpoints(checkpoint("arrays.safetensors")).newest(),
            "facts": lambda: Checkpoints(checkpoint("facts.json")).newest(),
            "sums": lambda: Checkpoints(checkpoint("sha256.json")).newest(),
            "episode": lambda: load_episode(put("s-000000.safetensors")),
            "header": lambda: load_header(put("h-000000.safetensors")),
            "log.json": lambda: EpisodeLog(log("log.json"), DIGEST),
            "logged episode": lambda: EpisodeLog(log("episodes/s-000000.safetensors"), DIGEST),
            "policy": lambda: load_policy(put("policy.safetensors")),
            "spool": lambda: Spool(put("actor.spool"), digest=DIGEST).open(),
            "transition": lambda data=data: decode_transition(data),
            "weights": lambda data=data: decode_weights(data),
        }
        for name, load in loaders.items():
            try:
                load()
            except (DataError, TransportError) as error:
                refused.append(f"{path.name} / {name}: {type(error).__name__}")
            else:
                refused.append(f"{path.name} / {name}: TAKEN")
        assert RelabelFile(put("relabels.jsonl").parent).read() == []  # lines that are not ours are passed over
        assert read_metrics(put("metrics.jsonl")) is not None
    return refused


@row("D9")
def test_malicious_files_are_refused_and_run_nothing(tmp_path: Path, observed: Say) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "corpus").mkdir()
    for name, data in corpus(trace, tmp_path).items():
        (tmp_path / "corpus" / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    taken = [load for load in told["refused"] if load.endswith("TAKEN")]
    assert not trace.exists()
    assert told["seen"] == []
    assert sorted(taken) == ["empty / spool: TAKEN"]  # an empty file is an empty spool
    assert told["grown_kib"] < 64 * 1024
    observed(
        f"{len(told['refused'])} loads refused; nothing unpickled, no program run, {told['grown_kib'] >> 10} MB grown"
    )


@row("M2")
def test_a_replay_larger_than_the_memory_is_refused_at_the_start(rig: Rig, tmp_path: Path, observed: Say) -> None:
    pixels = min(int((available_bytes() / 200_000 / 3) ** 0.5) + 16, 1024)  # 200,000 frames take more than there is
    task = tmp_path / "large.py"
    task.write_text(
        "import dataclasses\n"
        "from examples.ram_insertion_pixels import TASK as SMALL\n"
        "from serl_core.image_config import ImageMode\n"
        "observation = SMALL.config.observation\n"
        "encoder = dataclasses.replace(observation.encoder, mode=ImageMode.PIXELS)\n"
        f"cameras = tuple(dataclasses.replace(c, height={pixels}, width={pixels}) for c in observation.cameras)\n"
        "observation = dataclasses.replace(observation, encoder=encoder, cameras=cameras)\n"
        "TASK = dataclasses.replace(SMALL, config=dataclasses.replace(SMALL.config, observation=observation))\n"
    )
    learner = rig.learner(resume=False, is_ready=False, task=str(task), is_real=True)
    assert learner.wait() == 2
    said = learner.said()
    assert "replay buffer: 200000 frames" in said
    assert not (rig.run / "learner.json").exists()
    observed(said[said.index("replay buffer") : said.index("; train for fewer")])
