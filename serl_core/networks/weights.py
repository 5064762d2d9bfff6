"""The policy on disk: one safetensors file, its facts as JSON in the header. No pickle, nothing executed."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from serl_core.errors import DataError

FORMAT = 1
FACTS = "serl"


class SavedPolicy(NamedTuple):
    """A policy file's content."""

    params: dict[str, Any]  # nested, numpy float32
    facts: dict[str, Any]


def save_policy(path: Path, params: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write a policy and the facts about it, all or nothing.

    Raises:
        DataError: a weight is not finite.
    """
    arrays = {
        "/".join(entry.key for entry in keys): np.ascontiguousarray(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise DataError(f"{path}: weights {bad} are not finite; not written")
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(save(arrays, metadata={FACTS: json.dumps({"format": FORMAT, **facts})}))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_policy(path: Path) -> SavedPolicy:
    """Return what `save_policy` wrote.

    Raises:
        DataError: there is no such file, or it is not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: no such policy file; a finished training writes policy.safetensors") from None
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a policy file ({error}); take policy.safetensors of a finished run") from None
    if facts.get("format") != FORMAT:
        raise DataError(f"{path}: policy format {facts.get('format')}, this version reads {FORMAT}")
    params: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = array
    return SavedPolicy(params, facts)
