"""Smaller images by area averaging: a pixel is the mean of a block of k x k."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from rctaf_jax.errors import InputError

from .dataset import Dataset, Split


def area_averaged(dataset: Dataset, image_size: int) -> Dataset:
    """A dataset of smaller images, whose name and source say so.

    A block's mean is rounded to the nearest of 255 levels, halves upwards.

    Args:
      dataset: of square images.
      image_size: new side in pixels, which divides the side that there is.

    Raises:
      InputError: if it does not, or the images are not square.

    Example:
      >>> from rctaf_jax.data import load
      >>> small = area_averaged(load("digits"), 4)
      >>> small.name, small.image_shape
      ('digits[size=4]', (4, 4, 1))
    """
    height, width, _ = dataset.image_shape
    if height != width:
        raise InputError(
            f"{dataset.name} has images of {height}x{width} pixels: expected square ones for an "
            "image size"
        )
    if image_size < 1 or height % image_size:
        sides = [str(side) for side in range(1, height + 1) if height % side == 0]
        raise InputError(
            f"cannot average the {height}x{height} pixels of {dataset.name} to a side of "
            f"{image_size}: expected one of {', '.join(sides)}"
        )
    if image_size == height:
        return dataset
    train, test = (
        Split(_block_means(split.images, height // image_size), split.labels)
        for split in (dataset.train, dataset.test)
    )
    return dataclasses.replace(
        dataset,
        name=f"{dataset.name}[size={image_size}]",
        train=train,
        test=test,
        source=f"{dataset.source}; averaged over blocks of {height // image_size}x"
        f"{height // image_size} pixels to {image_size}x{image_size}",
    )


def _block_means(images: UInt8[np.ndarray, "N H W C"], side: int) -> UInt8[np.ndarray, "N h w C"]:
    count, height, width, channels = images.shape
    blocks = images.reshape(count, height // side, side, width // side, side, channels)
    sums = blocks.sum(axis=(2, 4), dtype=np.uint32)
    pixels = side * side
    return ((2 * sums + pixels) // (2 * pixels)).astype(np.uint8)
