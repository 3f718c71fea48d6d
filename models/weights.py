"""Files of weights: `.safetensors`, `.npz`, and PyTorch's `.pt`, `.pth`.

Nothing in a file is ever run: PyTorch's are read with `weights_only=True`. Files written here say
in their metadata which network they hold; those of others are known by their names
(`torch_names.from_torch`).
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.array_file import read_arrays
from rctaf_jax.errors import InputError
from rctaf_jax.files import write_arrays, write_bytes_atomic
from rctaf_jax.typed_json import AtLeast1, Positive, convert_typed
from rctaf_jax.values import kind_of, lookup, shortened

from .network import Network, network_of
from .normalisation import make_normalisation
from .registry import Variables, activation_variables, create
from .table import model_kind, torch_layout
from .torch_names import from_torch, to_torch, variables_of
from .torch_state import architectures, find_network

State = dict[str, Any]
_KEY = "rctaf_jax"
"""Of the metadata, JSON."""
_REMEDY = "give another file"


@dataclass(frozen=True)
class Description:
    """What `save_weights` writes beside the arrays, which do not say it.

    Attributes:
      model, width: as `create` takes them.
      activation: its text, with the variables' own sharpness.
      normalisation: mean and std of the pixels, for each channel; None without.
      num_classes: of a model of one's own, whose arrays do not tell it; None for ours.
    """

    model: str
    width: Positive
    activation: str
    normalisation: tuple[tuple[float, ...], tuple[Positive, ...]] | None = None
    num_classes: AtLeast1 | None = None


class WeightsFile(NamedTuple):
    """What a file of weights holds.

    Attributes:
      state: arrays or tensors by name, in dicts of any nesting.
      description: None for files of others.
    """

    state: State
    description: Description | None


def load_weights(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    activation: str | Activation | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    prefix: str | None = None,
) -> Network:
    """The network whose weights a file holds.

    Files of `save_weights` say all of it themselves. Of others, model, width and number of classes
    are found in names and shapes; what these cannot tell must be stated, as `from_torch` says.

    Args:
      path: a .safetensors, .npz, .pt, .pth, .ckpt or .bin file.
      model: as `create` takes it; None finds it.
      activation, mean, std, prefix: as for `from_torch`.

    Raises:
      InputError: the file is missing or damaged, is of another kind, needs PyTorch where there is
        none, does not fit the model, or leaves open what must be stated.
    """
    path = Path(path)
    state, own = read_weights(path)
    facts = {"file": path.name, "sha256": file_hash(path)}
    if own is not None:
        stated = {"activation": activation, "mean": mean, "std": std, "prefix": prefix}
        given = [k for k, value in {"model": model, **stated}.items() if value is not None]
        if given:
            raise InputError(
                f"{path} says itself which network it holds ({own.model}, {own.activation}): leave "
                f"out {', '.join(given)}."
            )
        return _own(path, state, own, facts)
    if model is None:
        model = _model_of(path, state, prefix)
    variables = from_torch(model, state, activation=activation, mean=mean, std=std, prefix=prefix)
    return network_of(model, variables, activation or "relu", facts)


def save_weights(
    path: str | os.PathLike[str], network: Network, *, layout: str | None = None
) -> Path:
    """Write a network's weights, under PyTorch's names where its model has some.

    `load_weights` gives the same network, bit for bit; in PyTorch, `load_state_dict` takes what is
    in a .safetensors file, and `["state_dict"]` of a .pt file.

    Args:
      path: ending in .safetensors, .npz, .pt or .pth, the latter two where PyTorch is installed.
      network: one whose model has a name.
      layout: see `to_torch`.

    Raises:
      InputError: the network is a function of one's own, or the ending is another.
      OSError: the file cannot be written.
    """
    path = Path(path)
    if network.model is None or network.activation is None:
        raise InputError(
            "a function of one's own has no weights by name: only a model of ours has."
        )
    variables = jax.device_get(network.variables)
    if torch_layout(network.model) is None:
        if layout is not None:
            raise InputError(f"{network.model} has no PyTorch names: leave out layout.")
        parts = {name: part for name, part in variables.items() if name != "activation"}
        state = {k: np.array(v) for k, v in flatten_dict(parts, sep=".").items()}
    else:
        state = to_torch(network.model, variables, layout=layout)
    writer = lookup("kind of weights file", path.suffix.lower(), _WRITERS)
    writer(path, state, _metadata(network, variables))
    return path


def read_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """The arrays of a file, as they are in it.

    Raises:
      InputError: the file is missing or damaged, or of a kind that cannot be read here.
    """
    path = Path(path)
    reader = lookup("kind of weights file", path.suffix.lower(), _READERS)
    if not path.is_file():
        raise InputError(f"{path} is no file.")
    state, text = reader(path)
    if text is None:
        return WeightsFile(state, None)
    where = f"{path}, metadata {_KEY},"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{where} are no JSON; {_REMEDY}.") from None
    return WeightsFile(state, convert_typed(value, Description, where))


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_of(path: Path, state: State, prefix: str | None) -> str:
    arrays = find_network(state, prefix).arrays
    found = architectures(arrays)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{path}: the names of its arrays fit no model that is known; they begin with "
            f"{shortened(', '.join(list(arrays)[:3]))}."
        )
    raise InputError(
        f"{path} may hold {' or '.join(found)}, which its names do not tell: state the model."
    )


def _own(path: Path, state: State, own: Description, facts: Mapping[str, Any]) -> Network:
    """The network of a file of `save_weights`."""
    activation = parse_activation(own.activation)
    if own.num_classes is not None:
        variables = _tree(state, activation)
    elif torch_layout(own.model) is None:
        variables = _nested(path, state, own.model, activation, own.width)
    else:
        normalisation = make_normalisation(*(own.normalisation or (None, None)))
        arrays = find_network(state).arrays
        variables = variables_of(own.model, arrays, activation, normalisation, own.width)
    return network_of(
        own.model, variables, activation, facts, width=own.width, num_classes=own.num_classes
    )


def _tree(state: State, activation: Activation) -> Variables:
    """Variables under our own names."""
    tree = jax.tree.map(jnp.asarray, unflatten_dict(dict(state), sep="."))
    return {"params": {}, "batch_stats": {}, **tree, "activation": activation_variables(activation)}


def _nested(path: Path, state: State, name: str, activation: Activation, width: float) -> Variables:
    """Variables under our own names, for a model without PyTorch's."""
    try:
        tree = _tree(state, activation)
        classes = tree["params"]["dense"]["bias"].shape[0]
        shape = (tree["params"]["hidden1"]["kernel"].shape[0], 1, 1)
        model = create(name, num_classes=classes, activation=activation, width=width)
        expected = jax.eval_shape(lambda key: model.init(key, shape)["params"], jax.random.key(0))
        fits = jax.tree.map(np.shape, tree["params"]) == jax.tree.map(np.shape, expected)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        fits = False
    if not fits:
        raise InputError(f"{path} is damaged: its arrays are not those of {name}; {_REMEDY}.")
    return tree


def _metadata(network: Network, variables: Variables) -> str:
    """All that the arrays do not say, as JSON."""
    assert network.model is not None
    assert network.activation is not None
    activation, scaling = network.activation, variables.get("input")
    text = activation.text
    if activation.alpha is not None:  # the variables' own sharpness, whatever the text was
        text = f"{activation.name},alpha={float(variables['activation']['alpha'])!r}"
    numbers = None
    if scaling is not None:
        numbers = (
            tuple(np.ravel(scaling["mean"]).tolist()),
            tuple(np.ravel(scaling["std"]).tolist()),
        )
    classes = network.num_classes if model_kind(network.model) == "own" else None
    width = float(network.width)
    return json.dumps(asdict(Description(network.model, width, text, numbers, classes)))


def _read_safetensors(path: Path) -> tuple[State, str | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (  # noqa: SIM118
                file.metadata() or {}
            ).get(_KEY)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise _damaged(path, error) from None


def _read_npz(path: Path) -> tuple[State, str | None]:
    arrays: State = dict(read_arrays(path, remedy=_REMEDY, keeps_aside=False))
    text = arrays.pop(_KEY, None)
    return arrays, None if text is None else str(text)


def _read_torch(path: Path) -> tuple[State, str | None]:
    torch = _torch(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # PyTorch raises many kinds for a damaged file
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise InputError(
                f"{path} holds other objects than tensors, which could run code when they are "
                "read: where you trust it, read it with PyTorch and save its state dict alone."
            ) from None
        raise _damaged(path, error) from None
    if not isinstance(found, Mapping):
        raise InputError(f"{path} holds {kind_of(found)}, not a state dict: save `state_dict()`.")
    text, own = found.get(_KEY), found.get("state_dict")
    if isinstance(text, str) and isinstance(own, Mapping):
        return {name: tensor.numpy() for name, tensor in own.items()}, text
    return dict(found), None


def _damaged(path: Path, error: Exception) -> InputError:
    said = shortened(" ".join(str(error).split()), 120)
    reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return InputError(f"{path} is damaged ({reason}); {_REMEDY}.")


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path}: PyTorch's files need PyTorch, which is not installed: pip install torch, or "
            "save the state dict as .safetensors."
        ) from None
    return torch


def _write_safetensors(path: Path, state: State, metadata: str) -> None:
    from safetensors.numpy import save

    write_bytes_atomic(path, save(state, metadata={_KEY: metadata, "format": "pt"}))


def _write_npz(path: Path, state: State, metadata: str) -> None:
    write_arrays(path, {**state, _KEY: np.array(metadata)}, compressed=False)


def _write_torch(path: Path, state: State, metadata: str) -> None:
    torch, buffer = _torch(path), io.BytesIO()
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    torch.save({"state_dict": tensors, _KEY: metadata}, buffer)
    write_bytes_atomic(path, buffer.getvalue())


_READERS: dict[str, Callable[[Path], tuple[State, str | None]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ckpt": _read_torch,
    ".bin": _read_torch,
}
SUFFIXES = tuple(_READERS)
"""Of the files that `load_weights` reads."""
_WRITERS: dict[str, Callable[[Path, State, str], None]] = {
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
    ".pt": _write_torch,
    ".pth": _write_torch,
}
