"""Augmentations of one uint8 image, drawn on the device inside the compiled step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rctaf_jax.training.methods.method import AUGMENTED, BASE
from rctaf_jax.values import lookup

from .autoaugment import autoaugment
from .operations import Uint8Image

Augmentation = Callable[[PRNGKeyArray, Uint8Image], Uint8Image]

PADDING = 4


def none(key: PRNGKeyArray, image: Uint8Image) -> Uint8Image:
    """The image as it is."""
    return image


def crop_flip(key: PRNGKeyArray, image: Uint8Image) -> Uint8Image:
    """Pad by 4 zeros on each side, crop back at random, flip left to right with probability 1/2."""
    crop_key, flip_key = jax.random.split(key)
    padded = jnp.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    row, column = jax.random.randint(crop_key, (2,), 0, 2 * PADDING + 1)
    cropped = jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
    return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "crop-flip": crop_flip}


def view_augmentations(name: str) -> dict[str, Augmentation]:
    """By view: the augmentation of that name, and AutoAugment's policy before it.

    Raises:
      InputError: for a name that is not in the table.
    """
    usual = augmentation_named(name)

    def augmented(key: PRNGKeyArray, image: Uint8Image) -> Uint8Image:
        policy_key, usual_key = jax.random.split(key)
        return usual(usual_key, autoaugment(policy_key, image))

    return {BASE: usual, AUGMENTED: augmented}


def augmentation_named(name: str) -> Augmentation:
    """The augmentation of that name.

    Raises:
      InputError: for a name that is not in the table.
    """
    return lookup("augmentation", name, AUGMENTATIONS)
