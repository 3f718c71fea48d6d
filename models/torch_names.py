"""Variables from and to PyTorch's state dicts of the reference implementations.

Layouts of names: "resnet", of TRADES, DAJAT and most of RobustBench's CIFAR ResNets
(`layer2.0.conv1.weight`), "wide", of TRADES' Wide ResNet (`block2.layer.0.conv1.weight`),
"wide-uneven", of Huang et al. 2021, and DeepMind's two, "deepmind-wide" and "deepmind-preact".
Convolution weights are (out, in, height,
width) there and (height, width, in, out) here; dense weights are transposed.

PyTorch's running variance moves towards the unbiased batch variance, n / (n - 1) times the biased
one of `BatchNorm` here, n = batch x height x width. Values are taken over as they are: in inference
mode they mean the same, and in training the two differ by 1 / n only.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.errors import InputError

from .normalisation import Normalisation, make_normalisation
from .registry import Variables, activation_variables, create
from .table import first_channels, torch_layout
from .torch_state import TorchNetwork, architectures, find_network

Path = tuple[str, ...]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_RESNET: tuple[Rule, ...] = (
    (r"stem", "conv1"),
    (r"stem_norm", "bn1"),
    (r"final_norm", "bn"),
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
_UNEVEN: tuple[Rule, ...] = (
    (r"stem", "stem_conv"),
    (r"stage(\d+)_block(\d+)", lambda m: f"blocks.{int(m[1]) - 1}.layer.{int(m[2]) - 1}"),
    *_WIDE,
)
_DEEPMIND_WIDE: tuple[Rule, ...] = (
    (r"stem", "init_conv"),
    (r"final_norm", "batchnorm"),
    (r"stage(\d+)_block(\d+)", lambda m: f"layer.{int(m[1]) - 1}.block.{int(m[2]) - 1}"),
    (r"norm(\d)", lambda m: f"batchnorm_{int(m[1]) - 1}"),
    (r"conv(\d)", lambda m: f"conv_{int(m[1]) - 1}"),
    (r"dense", "logits"),
)
_DEEPMIND_PREACT: tuple[Rule, ...] = (
    (r"stem", "conv_2d"),
    (r"final_norm", "batchnorm"),
    (r"stage(\d+)_block(\d+)", lambda m: f"layer_{int(m[1]) - 1}.{int(m[2]) - 1}"),
    (r"norm(\d)", lambda m: f"batchnorm_{int(m[1]) - 1}"),
    (r"conv(\d)", r"conv_2d_\1"),
    (r"dense", "logits"),
)
_RULES = {
    "resnet": _RESNET,
    "wide": _WIDE,
    "wide-uneven": _UNEVEN,
    "deepmind-wide": _DEEPMIND_WIDE,
    "deepmind-preact": _DEEPMIND_PREACT,
}
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torch(
    name: str,
    state: Mapping[str, Any],
    *,
    activation: str | Activation | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    prefix: str | None = None,
) -> Variables:
    """Variables of `create(name, ...)` with the values of a PyTorch state dict.

    What names and shapes cannot tell must be stated, or the sentence of the error asks for it:

    - where the shortcuts of a PreAct ResNet begin: `preact-resnet18-activated` (pytorch-cifar's,
      MART's) and `preact-resnet18-activated-norm` (with a last BatchNorm: Rice 2020 in L2, AWP,
      Kireev 2021), or `preact-resnet18-input` (Wong 2020, Andriushchenko 2020);
    - DeepMind's layouts (`dm-wrn-D-K`, `dm-preact-resnet18`: Gowal 2020 and 2021, Rebuffi 2021,
      Rade 2021, Wang 2023, Cui 2023, Bartoldson 2024): the activation ("swish" in all of these),
      and mean and std (0.4914, 0.4822, 0.4465 and 0.2471, 0.2435, 0.2616 for CIFAR-10);
    - a `forward` that does more than its layers, such as 2 x - 1 (Hendrycks 2019: mean and std are
      0.5), or a normalisation by each image's own mean (Ding 2020), which cannot be loaded.

    Args:
      name: any model of `model_names()` but the MLP. The number of classes, the width and the
          input channels follow from the arrays.
      state: arrays or tensors by PyTorch name, of any floating type, on any device; also a
          checkpoint with state dicts in it, under any wrapper's prefix. Counters of batches are
          ignored, buffers called mu and sigma (mean and std) taken.
      activation: the activation of the model to be run, whose sharpness no state dict has; None is
          "relu", where that is what the layout's networks have.
      mean, std: of the pixels, as for `create`.
      prefix: which network, where a checkpoint has several, such as "state_dict_ema".

    Returns:
      `params`, `batch_stats`, `activation`, and `input` where the network normalises its images, in
      float32.

    Raises:
      InputError: keys are missing, unknown or of the wrong shape, the model has no such names, or
        something must be stated.
    """
    _rules(name)
    network = find_network(state, prefix)
    check_architecture(name, network.arrays)
    normalisation = _normalisation(name, network, make_normalisation(mean, std))
    if activation is None and is_deepmind(name):
        raise InputError(
            f"networks like {name} have ReLU or Swish, which their names do not tell: state the "
            "activation, swish for all that RobustBench lists."
        )
    return variables_of(name, network.arrays, activation or "relu", normalisation)


def variables_of(
    name: str,
    arrays: Mapping[str, np.ndarray],
    activation: str | Activation,
    normalisation: Normalisation | None,
    width: float | None = None,
) -> Variables:
    """The variables that the arrays of a network hold, once it is known which.

    Args:
      name, activation: as for `from_torch`.
      arrays: by name, without prefix.
      normalisation: of the images, or None.
      width: as `create` takes it; None finds it in the stem, which rounding may hide for others
          than whole ones.

    Raises:
      InputError: keys are missing, unknown or of the wrong shape.
    """
    expected = _expected(name, arrays, width)
    keys = {path: torch_name(name, path) for path in expected}
    _check_keys(name, {keys[path]: expected[path].shape for path in keys}, arrays)
    values = {
        path: jnp.asarray(_to_flax_layout(arrays[key]), expected[path].dtype)
        for path, key in keys.items()
    }
    variables = {
        **unflatten_dict(values),
        "activation": activation_variables(parse_activation(activation)),
    }
    if normalisation is not None:
        channels = variables["params"]["stem"]["kernel"].shape[2]
        variables["input"] = normalisation.arrays(channels, jnp.float32)
    return variables


def check_architecture(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse a name that the arrays contradict, or that leaves open what they do not tell.

    Raises:
      InputError: naming what the arrays fit.
    """
    fitting = architectures(arrays)
    if len(fitting) > 1 and name not in fitting:
        choices = " or ".join(fitting)
        raise InputError(
            f"names do not tell where the shortcuts of this {name} begin: state {choices} (at the "
            "activation, or at the block's input)."
        )
    if fitting and name not in fitting:
        raise InputError(f"the state dict is that of a {fitting[0]}, not of a {name}.")


def is_deepmind(name: str) -> bool:
    """Whether a model has DeepMind's layout, whose files leave out how images are normalised."""
    return str(torch_layout(name)).startswith("deepmind")


def to_torch(
    name: str, variables: Mapping[str, Any], *, layout: str | None = None
) -> dict[str, np.ndarray]:
    """A PyTorch state dict with the values of `variables`: the inverse of `from_torch`.

    Also for gradients: `to_torch(name, {"params": gradient})`. The arrays are contiguous, and
    `load_state_dict` takes them strictly. Images' mean and std become the buffers `mu` and `sigma`,
    [1, channels, 1, 1]; DeepMind's classes take them as arguments instead.

    Args:
      name: as for `from_torch`.
      variables: any of `params`, `batch_stats` and `input`; `activation` is left out.
      layout: "trades" adds, for a Wide ResNet, the `sub_block1` that TRADES' class defines and
          never calls (a copy of `block1`); other models have no such block. None adds nothing.

    Raises:
      InputError: the model has no PyTorch names, or no such layout.
    """
    if layout not in (None, *TORCH_LAYOUTS):
        raise InputError(f"unknown layout {layout!r}: choose one of {', '.join(TORCH_LAYOUTS)}.")
    collections = {k: v for k, v in variables.items() if k in ("params", "batch_stats")}
    state = {
        torch_name(name, path): _to_torch_layout(np.asarray(value))
        for path, value in flatten_dict(collections).items()
    }
    if layout == "trades" and torch_layout(name) != "wide":
        raise InputError(f"only a Wide ResNet has the layout trades, not a {name}: leave it out.")
    if layout == "trades":
        state |= {f"sub_{k}": v.copy() for k, v in state.items() if k.startswith("block1.")}
    if "input" in variables and not is_deepmind(name):
        for buffer, part in (("mu", "mean"), ("sigma", "std")):
            state[buffer] = np.array(variables["input"][part]).reshape(1, -1, 1, 1)
    return state


TORCH_LAYOUTS = ("trades",)


def torch_name(name: str, path: Path) -> str:
    """PyTorch's name of the array at `path`, a collection, modules and a leaf.

    Example:
      >>> torch_name("wrn-28-10", ("params", "stage2_block1", "norm1", "scale"))
      'block2.layer.0.bn1.weight'
    """
    modules = [_translate(_rules(name), module) for module in path[1:-1]]
    return ".".join([*modules, _LEAVES[path[-1]]])


def _rules(name: str) -> tuple[Rule, ...]:
    layout = torch_layout(name)
    if layout is None:
        raise InputError(f"{name} has no PyTorch names; the ResNets and Wide ResNets have.")
    return _RULES[layout]


def _normalisation(
    name: str, network: TorchNetwork, stated: Normalisation | None
) -> Normalisation | None:
    """Of the caller or of the checkpoint, which must not contradict each other."""
    if network.mean is None or network.std is None:
        if stated is None and is_deepmind(name):
            raise InputError(
                f"networks like {name} normalise their images, by numbers that their files leave "
                "out: state mean and std (0 and 1 for none; for CIFAR-10 they have 0.4914, 0.4822, "
                "0.4465 and 0.2471, 0.2435, 0.2616)."
            )
        return stated
    found = Normalisation(tuple(network.mean.tolist()), tuple(network.std.tolist()))
    channels = len(found.mean)
    if stated is not None and not all(
        np.allclose(*pair, atol=1e-6)
        for pair in zip(
            stated.arrays(channels, jnp.float32).values(),
            found.arrays(channels, jnp.float32).values(),
            strict=True,
        )
    ):
        raise InputError(
            f"mean and std are stated as {stated.mean} and {stated.std}, but the checkpoint has "
            f"{found.mean} and {found.std}."
        )
    return found


def _translate(rules: tuple[Rule, ...], module: str) -> str:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, module):
            return re.sub(pattern, replacement, module)
    return module


def _expected(
    name: str, arrays: Mapping[str, np.ndarray], width: float | None
) -> dict[Path, jax.ShapeDtypeStruct]:
    """Shapes of the variables, for the size that stem and dense layer show."""
    stem, dense = (torch_name(name, ("params", m, "kernel")) for m in ("stem", "dense"))
    if arrays.get(stem, np.zeros(0)).ndim != 4 or arrays.get(dense, np.zeros(0)).ndim != 2:
        raise InputError(
            f"the state dict does not fit {name}: {stem} with 4 axes and {dense} with 2 must be "
            f"there; its keys begin with {', '.join(list(arrays)[:3])}."
        )
    features, channels = arrays[stem].shape[:2]
    if width is None:
        width = features / first_channels(name)
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
    moved = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return np.array(moved, order="C")
