"""Processes that save and learn in one thread, to be killed: the fork server has this module ready."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learners.checkpoints import Checkpoints
from serl_core import failpoints
from serl_core.networks.compilation import enable_compilation_cache
from tests.learners.toy import Run
from tests.serl_core.agents.toy import stream

STEPS = 300
SAVE_EVERY = 4  # steps


def tree(value: int) -> dict[str, Any]:
    """Return small arrays that all say `value`."""
    return {"weights": np.full((40, 50), value, np.float32), "count": np.array(value, np.int32)}


def save(folder: Path, value: int) -> None:
    """Save a checkpoint that says `value`."""
    Checkpoints(folder).save(tree(value), {"value": value})


def train_in_turns(folder: Path) -> None:
    """Go on with a synchronous run where it was left, saving every few steps; at its end write its digest."""
    enable_compilation_cache()
    run = Run(folder)
    run.learn(run.trainer.resume())
    steps = stream(0, STEPS)
    for number in range(run.log.position, STEPS):
        run.take([steps[number]])
        if (number + 1) % SAVE_EVERY == 0:
            run.trainer.save()
    failpoints.arm("")
    (folder / "digest").write_text(digest(run))
    run.stop()


def digest(run: Run) -> str:
    """Return the SHA-256 of all that a run has learned, and of the buffer that it draws from."""
    run.trainer.save()
    checkpoint = run.checkpoints.newest()
    assert checkpoint is not None
    facts = {name: value for name, value in checkpoint.facts.items() if name != "policy_version"}  # rises with a start
    drawn = run.trainer.online.sample(np.random.default_rng(0), (1000,))
    saved = [checkpoint.arrays[name] for name in sorted(checkpoint.arrays)]
    arrays = [*saved, *jax.tree.leaves(run.trainer.final_policy().params), *jax.tree.leaves(drawn)]
    whole = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        whole.update(np.asarray(array).tobytes())
    return whole.hexdigest()
