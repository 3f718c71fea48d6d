"""Augmentations of one uint8 image, drawn on the device inside the compiled step."""

from .named import (
    AUGMENTATIONS,
    Augmentation,
    Uint8Image,
    augmentation_named,
    crop_flip,
    none,
    view_augmentations,
)

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Uint8Image",
    "augmentation_named",
    "crop_flip",
    "none",
    "view_augmentations",
]
