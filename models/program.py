"""A network as a program: what `jax.export` makes, with derivatives, and its variables beside.

    save_program("network.jax", network, image_shape=(32, 32, 3))
    network = load_program("network.jax")     # without the code that built it

The program takes any number of images, on a CPU, a CUDA GPU or a TPU, at the highest precision. It
has derivatives in reverse mode only, of first and second order, and no `vmap`.

A file is a .npz of the variables and the program, or the bytes of `jax.export` alone, of a function
from images to logits. A program is run: load those that you would run.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from rctaf_jax.activations import parse_activation
from rctaf_jax.array_file import read_arrays
from rctaf_jax.errors import InputError
from rctaf_jax.files import write_arrays
from rctaf_jax.values import kind_of

from .convolution import plain_convolutions
from .network import Network
from .weights import file_hash

SUFFIX = ".jax"
PLATFORMS = ("cpu", "cuda", "tpu")
ORDER = 2
"""Derivatives: attacks take one, Hessians two."""
_PROGRAM, _ABOUT = "program", "about"
_ZIP = b"PK"


def save_program(
    path: str | os.PathLike[str], network: Network, *, image_shape: tuple[int, int, int]
) -> Path:
    """Write a network as a program.

    Args:
      path: ending in .jax.
      network: whose variables are nested dicts of arrays.
      image_shape: (height, width, channels) of the images that it takes.

    Raises:
      InputError: the ending is another, the variables are something else, or the network cannot be
        traced for any number of images.
      OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"{path} does not end in {SUFFIX}.")
    if not isinstance(network.variables, Mapping):
        raise InputError(
            f"the variables are {kind_of(network.variables)}: a program keeps nested dicts "
            "of arrays."
        )
    variables = jax.tree.map(jnp.asarray, dict(network.variables))
    (count,) = export.symbolic_shape("images")
    arguments = (
        jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables),
        jax.ShapeDtypeStruct((count, *image_shape), jnp.float32),
    )
    try:
        with jax.default_matmul_precision("highest"), plain_convolutions():
            exported = export.export(jax.jit(network.apply), platforms=PLATFORMS)(*arguments)
            program = exported.serialize(vjp_order=ORDER)
    except TypeError as error:
        raise InputError(
            f"the network cannot be traced for any number of images ({error}): take x.shape[0] "
            "where it says len(x)."
        ) from error
    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep=".").items()}
    activation = network.activation
    about = {
        "model": network.model,
        "num_classes": network.num_classes,
        "activation": None if activation is None else activation.text,
    }
    return write_arrays(
        path,
        {
            _PROGRAM: np.frombuffer(program, np.uint8),
            _ABOUT: np.asarray(json.dumps(about)),
            **{f"variables.{name}": array for name, array in arrays.items()},
        },
    )


def load_program(path: str | os.PathLike[str]) -> Network:
    """A network from `save_program`, or from the bytes of `jax.export`.

    Raises:
      InputError: the file is damaged, has no derivatives, or takes something else than images.
    """
    path = Path(path)
    facts = {"file": path.name, "sha256": file_hash(path)}
    with path.open("rb") as file:
        is_ours = file.read(len(_ZIP)) == _ZIP
    if not is_ours:
        exported = _deserialized(path, path.read_bytes())
        _check_takes(path, exported, 1)
        return Network(lambda _, images: exported.call(images), {}, facts=facts, is_program=True)
    arrays = read_arrays(
        path, remedy="export it again", names=(_PROGRAM, _ABOUT), keeps_aside=False
    )
    exported = _deserialized(path, arrays.pop(_PROGRAM).tobytes())
    _check_takes(path, exported, 2)
    about = _about(path, arrays.pop(_ABOUT))
    tree: dict[str, Any] = unflatten_dict(
        {name: jnp.asarray(array) for name, array in arrays.items()}, sep="."
    ).get("variables", {})
    (wanted, _), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    # A part without arrays, such as batch_stats of a network without BatchNorm, is in no file.
    variables = {name: tree.get(name, {}) for name in wanted}
    shapes = jax.tree.map(lambda leaf: (tuple(leaf.shape), str(leaf.dtype)), (variables, wanted))
    if shapes[0] != shapes[1]:
        raise InputError(f"{path} is damaged: its arrays are not those that its program takes.")
    return Network(
        exported.call,
        variables,
        num_classes=about.get("num_classes"),
        activation=_activation(about.get("activation")),
        facts={"program_of": about.get("model"), **facts},
        is_program=True,
    )


def _deserialized(path: Path, data: bytes) -> export.Exported:
    """The program in these bytes, if it has derivatives.

    Raises:
      InputError: if it is none, or has none.
    """
    try:
        exported = export.deserialize(bytearray(data))
    except Exception as error:  # flatbuffers and JAX raise many kinds for bytes that are none
        raise InputError(
            f"{path} holds no program of jax.export that this JAX ({jax.__version__}) can read "
            f"({type(error).__name__})."
        ) from None
    if not exported.has_vjp():
        raise InputError(
            f"{path} has no derivatives, which attacks and Hessians need: write it with "
            f"serialize(vjp_order={ORDER}), or by rctaf export."
        )
    return exported


def _check_takes(path: Path, exported: export.Exported, number: int) -> None:
    """Refuse a program of other arguments than images, after variables where these are beside.

    Raises:
      InputError: naming what it takes.
    """
    arguments, named = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    if named or len(arguments) != number or len(getattr(arguments[-1], "shape", ())) != 4:
        raise InputError(
            f"{path} takes {len(arguments)} arguments, {', '.join(map(_short, arguments))}: it "
            "must take images of shape (n, height, width, channels) alone, its variables within."
        )


def _short(argument: Any) -> str:
    return str(argument) if hasattr(argument, "shape") else f"{kind_of(argument)}"


def _about(path: Path, text: np.ndarray) -> dict[str, Any]:
    try:
        about = json.loads(str(text))
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise InputError(f"{path} is damaged: what it says of its network is no JSON.")
    return about


def _activation(text: Any) -> Any:
    """The activation, None where it is not known here; the program has it within."""
    try:
        return None if text is None else parse_activation(text)
    except InputError:
        return None
