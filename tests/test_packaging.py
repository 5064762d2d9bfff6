"""What an extra of the distribution brings along."""

import re
from importlib.metadata import PackageNotFoundError, requires

import pytest

NAME = re.compile(r"[A-Za-z0-9._-]+")
EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def brought_along(package, extras=()):
    """The names of all that installing `package` with `extras` installs, as far as it is installed here."""
    found, waiting = set(), [(package, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        try:
            requirements = requires(name) or []
        except PackageNotFoundError:  # of another platform or Python
            continue
        for requirement in requirements:
            needed, _, marker = requirement.partition(";")
            extra = EXTRA.search(marker)
            if extra is not None and extra[1] not in wanted:
                continue
            child = NAME.match(needed.strip())[0].lower().replace("_", "-")
            if child not in found:
                found.add(child)
                inner = re.search(r"\[([^]]*)\]", needed)
                waiting.append((child, frozenset(inner[1].split(",")) if inner else frozenset()))
    return found


@pytest.mark.parametrize("extra", ["server", "franka", "panda", "robotiq"])
def test_a_robot_server_installs_neither_jax_nor_gymnasium(extra):
    names = brought_along("serl", ("server", extra))
    assert {"fastapi", "uvicorn", "numpy"} <= names
    assert not names & {"jax", "jaxlib", "flax", "gymnasium", "torch"}


def test_an_actor_or_learner_installs_them():
    assert {"jax", "flax", "gymnasium"} <= brought_along("serl", ("learner",))
