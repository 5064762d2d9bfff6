"""Weights on disk: one safetensors file, facts about them as JSON in its header. No pickle, nothing executed."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from serl_core.errors import DataError
from serl_core.failpoints import failpoint
from serl_core.versions import other_version

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
    save_weights(path, params, {"format": FORMAT, **facts})


def save_weights(path: Path, params: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write nested arrays and the facts about them, all or nothing.

    Raises:
        DataError: a weight is not finite.
    """
    arrays = {_name(keys): np.ascontiguousarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise DataError(f"{path}: weights {bad} are not finite; not written")
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        failpoint("weights.opened")
        file.write(save(arrays, metadata={FACTS: json.dumps(facts)}))
        file.flush()
        failpoint("weights.written")
        os.fsync(file.fileno())
        failpoint("weights.synced")
    partial.replace(path)
    failpoint("weights.renamed")


def load_policy(path: Path) -> SavedPolicy:
    """Return what `save_policy` wrote.

    Raises:
        DataError: there is no such file, or it is not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            params = nested({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: no such policy file; a finished training writes policy.safetensors") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a policy file ({error}); take policy.safetensors of a finished run") from None
    if facts.get("format") != FORMAT:
        raise DataError(other_version(path, facts.get("format"), FORMAT))
    return SavedPolicy(params, facts)


def load_weights(path: Path, remedy: str) -> dict[str, Any]:
    """Return the arrays of any safetensors file as numpy float32, nested where their names have a "/".

    Raises:
        DataError: there is no such file, or it is not such a file; the message ends with `remedy`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return nested({name: file.get_tensor(name).astype(np.float32) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of weights; {remedy}") from None
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a safetensors file of weights ({error}); {remedy}") from None


def check_weights(path: Path, params: dict[str, Any], expected: dict[str, Any], remedy: str) -> None:
    """Raise unless the weights read from `path` are finite and have the names and shapes of `expected`.

    Raises:
        DataError: they do not; the message ends with `remedy`.
    """
    got, allowed = (
        {_name(keys): tuple(leaf.shape) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (params, expected)
    )
    wrong = sorted(name for name in got.keys() | allowed.keys() if got.get(name) != allowed.get(name))
    if wrong:
        name = wrong[0]
        raise DataError(
            f"{path}: weights of another network: {len(wrong)} arrays differ, "
            f"such as {name} with shape {got.get(name, 'missing')}, expected {allowed.get(name, 'none')}; {remedy}"
        )
    bad = [_name(keys) for keys, leaf in jax.tree_util.tree_leaves_with_path(params) if not np.isfinite(leaf).all()]
    if bad:
        raise DataError(f"{path}: weights {bad} are not finite; {remedy}")


def _name(keys: Any) -> str:
    return "/".join(entry.key for entry in keys)


def nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return a tree of dicts of arrays whose names have a "/" between its levels.

    Raises:
        ValueError: a name is inside another's.
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name!r} is inside an array")
        node[leaf] = array
    return tree
