"""What a PyTorch checkpoint holds: which network, under which prefix, with which normalisation.

A state dict says nothing of what `forward` does. What its names and shapes do tell is found here;
what they do not tell must be stated, and is refused where it is not.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rctaf_jax.errors import InputError

Arrays = dict[str, np.ndarray]

_STEM = re.compile(r"(?P<prefix>(?:.*\.)?)(?:conv1|init_conv|conv_2d|stem_conv)\.weight")
# Counters, and the block that TRADES' Wide ResNet defines but never calls.
_UNUSED = re.compile(r"(?:^|\.)num_batches_tracked$|^sub_block1\.")
_MOST_IMAGE_CHANNELS = 4
"""A convolution of more is none of images."""
_MEAN, _STD = ("mu", "mean"), ("sigma", "std")


class TorchNetwork(NamedTuple):
    """One network of a checkpoint.

    Attributes:
      prefix: where it was found, such as "state_dict.module."; "" for a plain state dict.
      arrays: its parameters and statistics, by name without the prefix.
      mean, std: the buffers by which its images are normalised, [channels]; None without.
    """

    prefix: str
    arrays: Arrays
    mean: np.ndarray | None
    std: np.ndarray | None


def find_network(state: Mapping[str, Any], prefix: str | None = None) -> TorchNetwork:
    """The network in a state dict, or in a checkpoint of nested ones.

    Wrappers (`module.`, `model.`, `1.` of a `Sequential`) need no mention; several networks in one
    checkpoint (weights and their average) do.

    Args:
      state: arrays or tensors by name, in dicts of any nesting; anything else is passed over.
      prefix: which network, where there are several: such as "state_dict_ema".

    Raises:
      InputError: there is no network, or more than one and no prefix, or arrays beside it that
        could change what it computes.
    """
    found = [
        (path, start, arrays)
        for path, arrays in _containers(state, ())
        for start in _starts(arrays)
    ]
    names = [".".join((*path, start.rstrip("."))).strip(".") for path, start, _ in found]
    if not found:
        first = [key for _, arrays in _containers(state, ()) for key in arrays][:3]
        raise InputError(
            "no network is found in the checkpoint: no convolution of images is called conv1, "
            "init_conv, conv_2d or stem_conv, as in the layouts that are known; its arrays begin "
            f"with {', '.join(first) or 'nothing'}."
        )
    if prefix is not None and prefix.rstrip(".") in names:
        number = names.index(prefix.rstrip("."))
    elif prefix is None and len(found) == 1:
        number = 0
    else:
        listed = ", ".join(name or "(none)" for name in names)
        stated = "say which" if prefix is None else f"{prefix!r} is none of them"
        raise InputError(f"the checkpoint has networks under the prefixes {listed}: {stated}.")
    _, start, arrays = found[number]
    own = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    own = {k: v for k, v in own.items() if not _UNUSED.search(k)}
    beside = {k: v for k, v in arrays.items() if not k.startswith(start) and not _UNUSED.search(k)}
    mean, std = (_take(own, beside, name) for name in (_MEAN, _STD))
    if (mean is None) != (std is None):
        there, missing = ("std", "mean") if mean is None else ("mean", "std")
        raise InputError(f"the checkpoint has a {there} for the images and no {missing}.")
    if beside:
        raise InputError(
            f"the checkpoint has {', '.join(list(beside)[:3])} beside the network "
            f"{names[number] or 'itself'}: what they do is not known."
        )
    return TorchNetwork(names[number], own, mean, std)


def architectures(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The models whose names and sizes the arrays have: several where names cannot tell.

    Args:
      arrays: as in a `TorchNetwork`.

    Example:
      >>> shape = np.zeros((16, 3, 3, 3))
      >>> architectures({"init_conv.weight": shape, "layer.0.block.0.conv_0.weight": shape})
      ('dm-wrn-10-1',)
    """
    if "init_conv.weight" in arrays:
        first = "layer.0.block.0.conv_0.weight"
        return _wide("dm-wrn", arrays, "init_conv.weight", first, r"layer\.(\d+)\.block\.(\d+)\.")
    if "conv_2d.weight" in arrays:
        blocks = _blocks(arrays, r"layer_(\d+)\.(\d+)\.")
        return ("dm-preact-resnet18",) if blocks == (2, 2, 2, 2) else ()
    if "stem_conv.weight" in arrays:
        blocks = _blocks(arrays, r"blocks\.(\d+)\.layer\.(\d+)\.")
        return ("wrn-34-r",) if blocks == (5, 5, 5) else ()
    if "block1.layer.0.conv1.weight" in arrays:
        first = "block1.layer.0.conv1.weight"
        return _wide("wrn", arrays, "conv1.weight", first, r"block(\d+)\.layer\.(\d+)\.")
    blocks = _blocks(arrays, r"layer(\d+)\.(\d+)\.")
    if "bn1.weight" in arrays:
        is_deep = "layer1.0.conv3.weight" in arrays
        name = _RESNETS.get((blocks, is_deep))
        return (name,) if name else ()
    norm = "-norm" if "bn.weight" in arrays else ""
    if blocks == (2, 2, 2, 2) and "layer1.0.conv3.weight" not in arrays:
        return (f"preact-resnet18-activated{norm}", f"preact-resnet18-input{norm}")
    return ()


_RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((1, 1), False): "resnet-mini",
}


def _wide(
    kind: str, arrays: Mapping[str, np.ndarray], stem: str, first: str, pattern: str
) -> tuple[str, ...]:
    blocks = _blocks(arrays, pattern)
    features = arrays[first].shape[0] if first in arrays else 0
    factor, rest = divmod(features, arrays[stem].shape[0])
    if len(set(blocks)) > 1 or rest or not factor:
        return ()
    return (f"{kind}-{6 * blocks[0] + 4}-{factor}",)


def _blocks(arrays: Mapping[str, np.ndarray], pattern: str) -> tuple[int, ...]:
    """Number of blocks of each stage."""
    seen: dict[int, set[int]] = {}
    for key in arrays:
        if match := re.match(pattern, key):
            seen.setdefault(int(match[1]), set()).add(int(match[2]))
    return tuple(len(seen[stage]) for stage in sorted(seen))


def _containers(
    state: Mapping[Any, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Arrays]]:
    """The arrays of each dict in a checkpoint, and where it lies."""
    arrays = {str(key): _as_numpy(value) for key, value in state.items() if hasattr(value, "shape")}
    if arrays:
        yield path, arrays
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _containers(value, (*path, str(key)))


def _as_numpy(value: Any) -> np.ndarray:
    """A tensor of any type, on any device, or an array; 16-bit floats as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        return np.asarray(value.numpy())
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def _starts(arrays: Arrays) -> list[str]:
    """What stands before the names of each network: of stems within stems, the outermost."""
    matches = (
        _STEM.fullmatch(key)
        for key, array in arrays.items()
        if array.ndim == 4 and array.shape[1] <= _MOST_IMAGE_CHANNELS
    )
    starts = sorted({match["prefix"] for match in matches if match}, key=len)
    kept: list[str] = []
    for start in starts:
        if not any(start.startswith(shorter) for shorter in kept):
            kept.append(start)
    return kept


def _take(own: Arrays, beside: Arrays, names: tuple[str, ...]) -> np.ndarray | None:
    """Remove and return the buffer of one of these names, flat."""
    for arrays in (own, beside):
        for key in list(arrays):
            if key in names or (arrays is beside and key.rpartition(".")[2] in names):
                return np.ravel(arrays.pop(key))
    return None
