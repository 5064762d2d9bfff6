"""Whether a transition is one of this task: the same check before it leaves the actor and when it has arrived."""

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from serl_core.types import EnvSpec, Observation, Transition


def misfit(transition: Transition, spec: EnvSpec) -> str | None:
    """Return what of a transition is not as the task has it, with both shapes; None if it fits.

    Args:
        transition: as it is sent: a task that learns from pixels may carry the compressed frames alone.
        spec: of what transitions hold.
    """
    return next(_misfits(transition, spec), None)


def _misfits(transition: Transition, spec: EnvSpec) -> Iterator[str]:
    yield from _shape("action", transition.action, (spec.action.size,))
    for name, observation in (
        ("observation", transition.observation),
        ("next_observation", transition.next_observation),
    ):
        yield from _shape(f"{name}/proprio", observation.proprio, (spec.proprio_size,))
        yield from _pictures(name, observation, spec)


def _pictures(name: str, observation: Observation, spec: EnvSpec) -> Iterator[str]:
    if not spec.image_shapes:
        copies = (spec.feature_copies,) if spec.feature_copies > 1 else ()
        shapes = {key: (*copies, *shape) for key, shape in spec.feature_shapes.items()}
        yield from _shapes(f"{name}/features", observation.features, shapes)
    elif observation.images or not observation.frames:
        yield from _shapes(f"{name}/images", observation.images, spec.image_shapes)
    else:
        yield from _names(f"{name}/frames", observation.frames, spec.image_shapes)


def _shapes(name: str, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    yield from _names(name, arrays, shapes)
    for key in arrays.keys() & shapes.keys():
        yield from _shape(f"{name}/{key}", arrays[key], shapes[key])


def _names(name: str, found: Mapping[str, object], wanted: Mapping[str, object]) -> Iterator[str]:
    if found.keys() != wanted.keys():
        yield f"{name} are {sorted(found)}, the task's are {sorted(wanted)}"


def _shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> Iterator[str]:
    if array.shape != shape:
        yield f"{name} has shape {list(array.shape)}, the task's is {list(shape)}"
