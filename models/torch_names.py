"""Variables from and to PyTorch's state dicts of the reference implementations.

`resnet18` and `preact-resnet18` follow the names of TRADES, DAJAT and most of RobustBench's CIFAR
ResNets (`layer2.0.conv1.weight`), `wrn-D-K` those of TRADES (`block2.layer.0.conv1.weight`).
Convolution weights are (out, in, height, width) there and (height, width, in, out) here; dense
weights are transposed.

PyTorch's running variance moves towards the unbiased batch variance, n / (n - 1) times the biased
one of `BatchNorm` here, n = batch x height x width. Values are taken over as they are: in inference
mode they mean the same, and in training the two differ by 1 / n only.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.errors import InputError

from .registry import Variables, activation_variables, create, model_kind

Path = tuple[str, ...]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_RESNET: tuple[Rule, ...] = (
    (r"stem", "conv1"),
    (r"stem_norm", "bn1"),
    (r"stage(\d+)_block(\d+)", lambda m: f"layer{m[1]}.{int(m[2]) - 1}"),
    (r"shortcut", "shortcut.0"),
    (r"shortcut_norm", "shortcut.1"),
    (r"norm(\d)", r"bn\1"),
    (r"dense", "linear"),
)
_WIDE: tuple[Rule, ...] = (
    (r"stem", "conv1"),
    (r"final_norm", "bn1"),
    (r"stage(\d+)_block(\d+)", lambda m: f"block{m[1]}.layer.{int(m[2]) - 1}"),
    (r"shortcut", "convShortcut"),
    (r"norm(\d)", r"bn\1"),
    (r"dense", "fc"),
)
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_STEM_CHANNELS = {"resnet18": 64, "preact-resnet18": 64}
# Counters, and the block that TRADES' Wide ResNet defines but never calls.
_UNUSED = re.compile(r"num_batches_tracked$|^sub_block1\.")


def from_torch(
    name: str, state: Mapping[str, np.ndarray], *, activation: str | Activation = "relu"
) -> Variables:
    """Variables of `create(name, ...)` with the values of a PyTorch state dict.

    Args:
      name: resnet18, resnet-mini, preact-resnet18 or wrn-D-K. The number of classes, the width
          and the input channels follow from the arrays.
      state: arrays by PyTorch name, such as `{k: v.numpy() for k, v in state_dict.items()}`. A
          leading `module.` is dropped; counters of batches are ignored.
      activation: the activation of the model to be run, whose sharpness no state dict has.

    Returns:
      `params`, `batch_stats` and `activation`, in float32.

    Raises:
      InputError: keys are missing, unknown or of the wrong shape, or the model has no such names.
    """
    arrays = {k.removeprefix("module."): np.asarray(v) for k, v in state.items()}
    arrays = {k: v for k, v in arrays.items() if not _UNUSED.search(k)}
    expected = _expected(name, arrays)
    keys = {path: torch_name(name, path) for path in expected}
    _check_keys(name, {keys[path]: expected[path].shape for path in keys}, arrays)
    values = {
        path: jnp.asarray(_to_flax_layout(arrays[key]), expected[path].dtype)
        for path, key in keys.items()
    }
    return {
        **unflatten_dict(values),
        "activation": activation_variables(parse_activation(activation)),
    }


def to_torch(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A PyTorch state dict with the values of `variables`: the inverse of `from_torch`.

    Also for gradients: `to_torch(name, {"params": gradient})`.

    Args:
      name: as for `from_torch`.
      variables: one or both of `params` and `batch_stats`; `activation` is left out.
    """
    collections = {k: v for k, v in variables.items() if k != "activation"}
    return {
        torch_name(name, path): _to_torch_layout(np.asarray(value))
        for path, value in flatten_dict(collections).items()
    }


def torch_name(name: str, path: Path) -> str:
    """PyTorch's name of the array at `path`, a collection, modules and a leaf.

    Example:
      >>> torch_name("wrn-28-10", ("params", "stage2_block1", "norm1", "scale"))
      'block2.layer.0.bn1.weight'
    """
    modules = [_translate(_rules(name), module) for module in path[1:-1]]
    return ".".join([*modules, _LEAVES[path[-1]]])


def _rules(name: str) -> tuple[Rule, ...]:
    kind = model_kind(name)
    if kind == "mlp":
        raise InputError(f"{name} has no PyTorch names; the ResNets and Wide ResNets have.")
    return _WIDE if kind == "wide-resnet" else _RESNET


def _translate(rules: tuple[Rule, ...], module: str) -> str:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, module):
            return re.sub(pattern, replacement, module)
    return module


def _expected(name: str, arrays: Mapping[str, np.ndarray]) -> dict[Path, jax.ShapeDtypeStruct]:
    """Shapes of the variables, for the size that stem and dense layer show."""
    stem, dense = (torch_name(name, ("params", m, "kernel")) for m in ("stem", "dense"))
    if arrays.get(stem, np.zeros(0)).ndim != 4 or arrays.get(dense, np.zeros(0)).ndim != 2:
        raise InputError(
            f"the state dict does not fit {name}: {stem} with 4 axes and {dense} with 2 must be "
            f"there; its keys begin with {', '.join(list(arrays)[:3])}."
        )
    features, channels = arrays[stem].shape[:2]
    width = features / _STEM_CHANNELS.get(name, 16)
    model = create(name, num_classes=arrays[dense].shape[0], activation="relu", width=width)
    # Shapes without drawing: no array depends on the size of the images.
    shapes = jax.eval_shape(lambda key: model.init(key, (32, 32, channels)), jax.random.key(0))
    return {path: leaf for path, leaf in flatten_dict(shapes).items() if path[0] != "activation"}


def _check_keys(
    name: str, expected: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray]
) -> None:
    problems = [f"missing {key}" for key in sorted(expected.keys() - arrays.keys())]
    problems += [f"unknown {key}" for key in sorted(arrays.keys() - expected.keys())]
    for key in sorted(expected.keys() & arrays.keys()):
        shape = _to_flax_layout(arrays[key]).shape
        if shape != expected[key]:
            problems.append(f"{key} of shape {arrays[key].shape}")
    if problems:
        raise InputError(f"the state dict does not fit {name}: {', '.join(problems)}.")


def _to_flax_layout(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _to_torch_layout(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
