"""A dataset from a folder of pictures: a folder for each class, or train/ and test/ with those."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rctaf_jax.errors import InputError

from .arrays import from_arrays
from .dataset import STORED_ORDER, Dataset
from .splits import PERMUTED_ORDER, permuted

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SPLITS = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation")}


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds folders with pictures, straight or below train/."""
    return any(_pictures(inner) for inner in _folders(_part(path, "train") or path))


def read_image_folder(path: Path, image_size: int | None = None) -> Dataset:
    """Reads a folder of pictures; classes are numbered in the order of their names.

    Args:
      path: holds train/CLASS/PICTURE and test/CLASS/PICTURE (or val/), or CLASS/PICTURE, of which a
        fixed permutation puts one fifth into the test split.
      image_size: side to which all are resized, by Lanczos's filter; None where all have one size.
        All are grey if every picture is, else RGB.

    Raises:
      InputError: a file is no picture, the sizes differ and `image_size` is None, a class of the
        test split has no training picture, or there are none at all.
    """
    train, test = _part(path, "train"), _part(path, "test")
    if (train is None) != (test is None):
        there = (train or test or path).name
        raise InputError(
            f"{path} has {there}/ alone: expected train/ and test/, or folders of classes"
        )
    classes = [folder.name for folder in _folders(train or path)]
    for name in classes:
        if not _pictures((train or path) / name):
            raise InputError(
                f"{(train or path) / name} has no picture ({', '.join(SUFFIXES)}): expected one "
                "for each class, or no such folder"
            )
    if test is not None:
        strange = [f.name for f in _folders(test) if _pictures(f) and f.name not in classes]
        if strange:
            raise InputError(
                f"{test} has the class {strange[0]}, of which {train} has no picture: expected the "
                "same classes"
            )
    parts = [_read(part, classes, image_size) for part in (train or path, test) if part is not None]
    grey = all(picture.mode == "L" for pictures, _ in parts for picture in pictures)
    arrays = [_arrays(pictures, labels, grey) for pictures, labels in parts]
    splits = arrays if test is not None else permuted(path.name, *arrays[0])
    resized = "" if image_size is None else f", resized to {image_size} pixels a side"
    order = STORED_ORDER if test is not None else PERMUTED_ORDER
    return from_arrays(
        *splits[0],
        *splits[1],
        class_names=classes,
        name=path.name,
        source=f"the pictures of {path.name}{resized}",
        index_order=f"by class, then by name; {order}",
    )


def _part(path: Path, which: str) -> Path | None:
    return next((path / name for name in _SPLITS[which] if (path / name).is_dir()), None)


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir() and inner.name[0] != ".")


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def _read(
    part: Path, classes: list[str], image_size: int | None
) -> tuple[list[Image.Image], list[int]]:
    pictures: list[Image.Image] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for file in _pictures(part / name) if (part / name).is_dir() else []:
            try:
                with Image.open(file) as opened:
                    picture = opened.convert("L" if opened.mode in ("L", "1") else "RGB")
            except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
                raise InputError(
                    f"{file} cannot be read as a picture: remove or repair it"
                ) from None
            if image_size is not None:
                picture = picture.resize((image_size, image_size), Image.Resampling.LANCZOS)
            elif pictures and picture.size != pictures[0].size:
                raise InputError(
                    f"{file} has {picture.width}x{picture.height} pixels, others "
                    f"{pictures[0].width}x{pictures[0].height}: give an image size, to which all "
                    "are resized (--image-size)"
                )
            pictures.append(picture)
            labels.append(label)
    if not pictures:
        raise InputError(f"{part} has no pictures in folders of classes")
    return pictures, labels


def _arrays(
    pictures: list[Image.Image], labels: list[int], grey: bool
) -> tuple[np.ndarray, np.ndarray]:
    images = [np.asarray(picture if grey else picture.convert("RGB")) for picture in pictures]
    return np.stack(images), np.array(labels)
