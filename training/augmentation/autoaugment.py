"""AutoAugment's policy for CIFAR-10 (Cubuk et al. 2019), inside the compiled step.

An image draws one of 25 sub-policies uniformly, and the sub-policy's two operations happen one
after the other, each with its own probability p and at an index i of its magnitude m_i. A shear,
translation or rotation goes by m_i in either direction, an enhancement has the factor 1 + m_i or
1 - m_i; all signs are fair. `autoaugment_operations` and `autoaugment_resampling` do what Pillow
does, within one grey level.

Operations, probabilities and indices are the paper's (in its appendix), magnitudes and arithmetic
those of DeepVoltaire/AutoAugment in PyTorch, except that its policy rotates counterclockwise only.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from rctaf_jax.errors import InputError

from .operations import (
    Amount,
    Uint8Image,
    autocontrast,
    brightness,
    color,
    contrast,
    equalize,
    invert,
    posterize,
    sharpness,
    solarize,
)
from .resampling import (
    SamplingGrid,
    Size,
    resample,
    rotate_grid,
    shear_x_grid,
    shear_y_grid,
    translate_x_grid,
    translate_y_grid,
)

Operation = tuple[str, float, int]
Recolouring = Callable[[Uint8Image, Amount], Uint8Image]

LARGEST_SIDE = 2048

POLICY: tuple[tuple[Operation, Operation], ...] = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)
"""Sub-policies of two operations: name, probability, index of the magnitude."""

MAGNITUDES = {
    "shear_x": np.linspace(0, 0.3, 10),
    "shear_y": np.linspace(0, 0.3, 10),
    "translate_x": np.linspace(0, 150 / 331, 10),
    "translate_y": np.linspace(0, 150 / 331, 10),
    "rotate": np.linspace(0, 30, 10),
    "color": np.linspace(0, 0.9, 10),
    "contrast": np.linspace(0, 0.9, 10),
    "brightness": np.linspace(0, 0.9, 10),
    "sharpness": np.linspace(0, 0.9, 10),
    "posterize": np.round(np.linspace(8, 4, 10)),
    "solarize": np.linspace(256, 0, 10),
}
"""By index: slopes, shares of the side, degrees, distances of the factor from 1, bits, levels."""

ENHANCEMENTS: dict[str, Recolouring] = {
    "color": color,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
}
RECOLOURINGS: dict[str, Recolouring] = ENHANCEMENTS | {
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": lambda image, _: autocontrast(image),
    "equalize": lambda image, _: equalize(image),
    "invert": lambda image, _: invert(image),
}
MOVES: dict[str, Callable[[Size, float], SamplingGrid]] = {
    "shear_x": shear_x_grid,
    "shear_y": shear_y_grid,
    "translate_x": translate_x_grid,
    "translate_y": translate_y_grid,
    "rotate": rotate_grid,
}


class Draw(NamedTuple):
    """What happens to one image.

    Attributes:
      sub_policy: index in `POLICY`.
      is_applied: whether each of its two operations happens.
      is_negative: whether each one's magnitude, if it has a sign, is negative.
    """

    sub_policy: Int32[Array, ""]
    is_applied: Bool[Array, "2"]
    is_negative: Bool[Array, "2"]


class _Operations(NamedTuple):
    """Operations as numbers.

    Attributes:
      branch: place in `RECOLOURINGS`; then the moves; then nothing at all.
      argument: of a recolouring.
      grid: of a move.
    """

    branch: Int32[Array | np.ndarray, "*operations"]
    argument: Float32[Array | np.ndarray, "*operations"]
    grid: SamplingGrid


_MOVE, _NOTHING = len(RECOLOURINGS), len(RECOLOURINGS) + 1


def autoaugment(key: PRNGKeyArray, image: Uint8Image) -> Uint8Image:
    """One image through a random sub-policy.

    Args:
      key: decides everything random.
      image: uint8, [height, width, 1 or 3], sides of 1 to 2048 pixels.

    Returns:
      An image of the same shape.

    Raises:
      InputError: for any other image.

    Example:
      >>> autoaugment(jax.random.key(0), jnp.zeros((32, 24, 3), jnp.uint8)).shape
      (32, 24, 3)
    """
    _require_image(image)
    return _mapped()(key, image)


def draw_sub_policy(key: PRNGKeyArray) -> Draw:
    """Draw a sub-policy uniformly, its operations by their probabilities, and fair signs."""
    uniform = jax.random.uniform(key, (5,), jnp.float32)
    sub_policy = (len(POLICY) * uniform[0]).astype(jnp.int32)
    probabilities = jnp.array([[p for _, p, _ in operations] for operations in POLICY], jnp.float32)
    return Draw(sub_policy, uniform[1:3] < probabilities[sub_policy], uniform[3:] < 0.5)


def argument(name: str, index: int, is_negative: bool) -> float:
    """What an operation takes for an index of its magnitude and a sign; 0 if it takes nothing.

    Example:
      >>> argument("brightness", 5, is_negative=True), argument("rotate", 9, is_negative=True)
      (0.5, -30.0)
    """
    if name not in MAGNITUDES:
        return 0.0
    magnitude = float(MAGNITUDES[name][index])
    signed = -magnitude if is_negative else magnitude
    if name in ENHANCEMENTS:
        return 1 + signed
    return signed if name in MOVES else magnitude


def _require_image(image: Uint8Image) -> None:
    is_image = image.ndim == 3 and image.shape[2] in (1, 3) and image.dtype == jnp.uint8
    if not is_image or min(image.shape) < 1 or max(image.shape) > LARGEST_SIDE:
        raise InputError(
            f"autoaugment got {image.dtype} of shape {image.shape}; an image is uint8, [height, "
            f"width, 1 or 3], with sides of 1 to {LARGEST_SIDE} pixels."
        )


def _mapped() -> Callable[[PRNGKeyArray, Uint8Image], Uint8Image]:
    """`_augment` in the form in which the backend should map it over a batch.

    Images side by side go through every operation and keep one result; one after another they go
    through their own alone, in less than a tenth of a CPU's time (`benchmarks/autoaugment.py`).
    """
    return sequential_vmap(_augment) if jax.default_backend() == "cpu" else _augment


def _augment(key: PRNGKeyArray, image: Uint8Image) -> Uint8Image:
    drawn = draw_sub_policy(key)
    policy = _encode_policy(image.shape[:2])
    place = (drawn.sub_policy, np.arange(2), drawn.is_negative.astype(jnp.int32))
    operations: _Operations = jax.tree.map(lambda rows: jnp.asarray(rows)[place], policy)
    branch = jnp.where(drawn.is_applied, operations.branch, _NOTHING)
    image, _ = jax.lax.scan(_operate, image, operations._replace(branch=branch))
    return image


def _operate(image: Uint8Image, operation: _Operations) -> tuple[Uint8Image, None]:
    branches: list[Callable[[], Uint8Image]] = [
        *(partial(recolour, image, operation.argument) for recolour in RECOLOURINGS.values()),
        partial(resample, image, operation.grid),
        lambda: image,
    ]
    return jax.lax.switch(operation.branch, branches), None


def _encode_policy(size: Size) -> _Operations:
    """By sub-policy, place in it, and sign."""
    rows = [
        _encode(name, argument(name, index, is_negative), size)
        for operations in POLICY
        for name, _, index in operations
        for is_negative in (False, True)
    ]
    shape = (len(POLICY), 2, 2)
    return jax.tree.map(lambda *leaves: np.reshape(leaves, (*shape, *leaves[0].shape)), *rows)


def _encode(name: str, argument: float, size: Size) -> _Operations:
    if name in MOVES:
        branch, grid = _MOVE, MOVES[name](size, argument)
    else:
        branch, grid = list(RECOLOURINGS).index(name), translate_x_grid(size, 0)
    return _Operations(np.array(branch, np.int32), np.array(argument, np.float32), grid)
