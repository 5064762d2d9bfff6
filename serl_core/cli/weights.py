"""`serl weights convert`: the published ImageNet weights of ResNet-10, from a pickle into a safetensors file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from serl_core.errors import DataError
from serl_core.networks import resnet
from serl_core.networks.frozen import resnet_weights, weights_hash
from serl_core.networks.pickled_arrays import Arrays
from serl_core.networks.pickled_child import read_arrays_apart
from serl_core.networks.weights import check_weights, nested, save_weights

REMEDY = "give the ResNet-10 weights that HIL-SERL publishes"


@dataclass(frozen=True, kw_only=True)
class WeightsArgs:
    """Turn a pickle of ResNet-10's weights into a safetensors file; nothing in the pickle is run."""

    action: Annotated[Literal["convert"], tyro.conf.Positional]
    pickle: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path | None, tyro.conf.Positional] = None
    """Where to; by default where every run finds it, in the user's cache folder."""


def run_weights(args: WeightsArgs) -> int:
    """Convert, check and write the weights; print what they are.

    Raises:
        DataError: the pickle holds anything but arrays, or they are not ResNet-10's.
    """
    arrays = read_arrays_apart(args.pickle)
    params = _of_the_encoder(args.pickle, arrays)
    check_weights(args.pickle, params, resnet.shapes(), REMEDY)
    out = args.out or resnet_weights()
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, params, {"encoder": "resnet10"})
    print(f"{out}: resnet10-{weights_hash(params)}")
    return 0


def _of_the_encoder(path: Path, arrays: Arrays) -> dict[str, Any]:
    """Return the encoder's part of a file, which may also hold a classifier and wrap all in a dict 'params'."""
    names = {name.rsplit("conv_init/kernel", 1)[0] for name in arrays if name.endswith("conv_init/kernel")}
    if len(names) != 1:
        raise DataError(f"{path}: one array conv_init/kernel is needed, found {len(names)}; {REMEDY}")
    prefix = names.pop()
    whole = nested({name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)})
    return {name: whole[name] for name in resnet.shapes() if name in whole}
