"""What a network does with pixels before its first layer: (x - mean) / std."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError


class Normalisation(NamedTuple):
    """Mean and standard deviation of the pixels, one for each channel, or one for all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def arrays(self, num_channels: int, dtype: Any) -> dict[str, Float[Array, " channels"]]:
        """As `variables["input"]` has them.

        Raises:
          InputError: if they are for another number of channels.
        """
        arrays = {}
        for name, values in zip(("mean", "std"), self, strict=True):
            if len(values) not in (1, num_channels):
                raise InputError(
                    f"{name} has {len(values)} values for images of {num_channels} channels: give "
                    "one, or one for each channel."
                )
            arrays[name] = jnp.broadcast_to(jnp.asarray(values, dtype), (num_channels,))
        return arrays


def make_normalisation(
    mean: Sequence[float] | float | None, std: Sequence[float] | float | None
) -> Normalisation | None:
    """Checked, or None where both are left out.

    Raises:
      InputError: one is given without the other, is not finite, or a std is not positive.

    Example:
      >>> make_normalisation(0.5, [0.25])
      Normalisation(mean=(0.5,), std=(0.25,))
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise InputError("mean and std belong together: give both, or neither.")
    means, stds = _floats("mean", mean), _floats("std", std)
    if min(stds) <= 0:
        raise InputError(f"std is {stds}; each must be positive.")
    return Normalisation(means, stds)


def with_input(
    variables: Mapping[str, Any],
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
    num_channels: int,
) -> dict[str, Any]:
    """A network's variables, with its own mean and std among them where it has some.

    Raises:
      InputError: as `make_normalisation` and `Normalisation.arrays` do.
    """
    normalisation = make_normalisation(mean, std)
    if normalisation is None:
        return dict(variables)
    return {**variables, "input": normalisation.arrays(num_channels, jnp.float32)}


def _floats(name: str, values: Any) -> tuple[float, ...]:
    listed = [values] if not hasattr(values, "__iter__") else list(values)
    try:
        numbers = tuple(float(value) for value in listed)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise InputError(f"{name} is {values!r}; it must be one or several finite numbers.")
    return numbers


def normalised(
    x: Float[Array, "b h w c"],
    arrays: Mapping[str, Array] | None,
    default: Normalisation | None,
    dtype: Any,
) -> Float[Array, "b h w c"]:
    """(x - mean) / std with the arrays of the variables, else with the model's own, if any.

    Raises:
      InputError: if they are for another number of channels.
    """
    if arrays is None:
        if default is None:
            return x
        arrays = default.arrays(x.shape[-1], dtype)
    return (x.astype(dtype) - arrays["mean"]) / arrays["std"]


def check_channels(params: Mapping[str, Any], x: Float[Array, "b h w c"]) -> None:
    """Refuse images that have not as many channels as the network's first convolution.

    Raises:
      InputError: naming the likely mistake.
    """
    if "stem" not in params:
        return
    wanted = params["stem"]["kernel"].shape[2]
    if x.shape[-1] == wanted:
        return
    hint = ""
    if x.shape[1] == wanted:
        hint = " They look like PyTorch's (batch, channels, height, width): transpose(0, 2, 3, 1)."
    raise InputError(
        f"images have shape {tuple(x.shape)}, so {x.shape[-1]} channels; the network takes "
        f"{wanted}, in the last axis.{hint}"
    )
