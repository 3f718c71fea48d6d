"""Datasets that TensorFlow Datasets (TFDS) prepared, read without TensorFlow where possible.

A copy in ArrayRecord format needs no TensorFlow; preparing CIFAR and reading other formats do.
Images are decoded here, by Pillow, rather than by TFDS: it would pick whichever decoder is
installed, and the same files must give the same pixels.
"""

import contextlib
import io
import logging
import os
import re
import shlex
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from rctaf_jax.errors import InputError
from rctaf_jax.files import expand_home
from rctaf_jax.typed_json import read_json

from .dataset import Dataset, Split, checked

CIFAR = ("cifar10", "cifar100")

_INFO_FILE, _FEATURES_FILE = "dataset_info.json", "features.json"
# Both spellings that protocol buffers read, and that of TFDS before 4.5.
_CLASS_KEYS = {"pythonClassName", "python_class_name", "type"}
_PACKED_KEYS = {"json", "content"}  # where TFDS parses text as JSON once more
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_JPEG_START = b"\xff\xd8\xff"
_MAX_DESCRIPTION = 400


class _EncodedSplit(NamedTuple):
    """Image files in stored order, and their labels."""

    images: list[bytes]
    labels: Int64[np.ndarray, "N"]


def read_named(name: str, data_dir: Path | None) -> Dataset:
    """Reads `cifar10` or `cifar100`, preparing it first if it is absent and TensorFlow is there.

    Args:
        name: one of `CIFAR`.
        data_dir: where to look first: a TFDS data folder, or the dataset's own folder (with or
            without its version). TFDS's default (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`)
            comes second.

    Raises:
        InputError: if there is no copy and none can be made, or if a copy cannot be read.
    """
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    roots = [expand_home(root) for root in (data_dir, Path(default)) if root is not None]
    for root in roots:
        folder = _version_folder(root / name) or _version_folder(root)
        if folder is not None:
            return _read(folder, expected_name=name)
    return _read(_prepare(name, roots), expected_name=name)


def read_prepared(folder: Path) -> Dataset:
    """Reads any classification dataset that TFDS prepared, with splits `train` and `test`.

    Args:
        folder: holds `dataset_info.json`, or versions (`3.0.2`) that do; the highest is read.

    Raises:
        InputError: if this is no such folder, or it cannot be read.
    """
    version_folder = _version_folder(folder)
    if version_folder is None:
        raise InputError(
            f"{folder} holds no {_INFO_FILE}: expected a folder that TFDS prepared, or an .npz file"
        )
    return _read(version_folder)


def _version_folder(folder: Path) -> Path | None:
    if (folder / _INFO_FILE).is_file():
        return folder
    infos = folder.glob(f"*/{_INFO_FILE}")
    versions = [info.parent for info in infos if _VERSION.fullmatch(info.parent.name)]
    return max(versions, key=lambda path: [*map(int, path.name.split("."))], default=None)


def _prepare(name: str, roots: list[Path]) -> Path:
    if not _has_tensorflow():
        raise InputError(
            f"{name} is not in {' or '.join(map(str, roots))}, and preparing it needs TensorFlow, "
            "which is not installed: run `pip install 'rctaf-jax[prepare]'` and then `rctaf data "
            f"{name} --data-dir {shlex.quote(str(roots[0]))}`"
        )
    with _reader_faults(f"prepare {name} in {roots[0]}", "a network and a writable folder"):
        import tensorflow_datasets as tfds  # slow, and needed by few

        builder = tfds.builder(name, data_dir=roots[0], file_format="array_record")
        builder.download_and_prepare()
        return Path(builder.data_dir)


def _read(folder: Path, expected_name: str | None = None) -> Dataset:
    with _reader_faults(f"read {folder}", "an intact image classification dataset made by TFDS"):
        import tensorflow_datasets as tfds  # slow, and needed by few

        _refuse_foreign_code(folder)
        builder = tfds.builder_from_directory(folder)
        info = builder.info
        if expected_name not in (None, info.name):
            raise InputError(f"{folder} holds {info.name}: expected {expected_name}")
        keys = _feature_keys(folder, info)
        channels = info.features[keys[0]].shape[-1]
        train, test = (_read_split(folder, builder, split, keys) for split in ("train", "test"))
        source = _source(info, train.images + test.images)
        class_names = tuple(info.features[keys[1]].names)
        decoded = [_decoded(folder, encoded, channels) for encoded in (train, test)]
    return checked(info.name, decoded[0], decoded[1], class_names, source)


def _refuse_foreign_code(folder: Path) -> None:
    """Refuses a folder from which TFDS would import a module other than its own.

    TFDS imports whichever module `features.json` names for a feature, before it looks at anything
    else, so what is there must be known before TFDS sees the folder.

    Raises:
        InputError: if a class is named that is not one of `tensorflow_datasets.features`.
    """
    from tensorflow_datasets import features

    found = (getattr(features, name) for name in dir(features))
    classes = (one for one in found if isinstance(one, type))
    own = {
        f"{one.__module__}.{one.__name__}"
        for one in classes
        if issubclass(one, features.FeatureConnector)
    }
    path = folder / _FEATURES_FILE
    pending: list[Any] = [read_json(path)]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
            _refuse_foreign_class(path, value, own)


def _refuse_foreign_class(path: Path, feature: dict[str, Any], own: set[str]) -> None:
    for key, value in feature.items():
        # A feature may be called "type" or "content"; its value is then an object.
        if key in _CLASS_KEYS and isinstance(value, str) and value not in own:
            raise InputError(
                f"{path} names the class {value[:60]!r} as {key}: expected one of "
                "tensorflow_datasets.features, since TFDS would import any other and run it"
            )
        if key in _PACKED_KEYS and isinstance(value, str):
            raise InputError(
                f"{path} has {key} = {value[:60]!r}: expected no JSON inside of text, which could "
                "name classes that TFDS would import and run"
            )


def _feature_keys(folder: Path, info: Any) -> tuple[str, str]:
    from tensorflow_datasets import features

    image_key, label_key = info.supervised_keys or ("image", "label")
    found = dict(info.features.items())
    image, label = found.get(image_key), found.get(label_key)
    is_readable = (
        isinstance(image, features.Image)
        and isinstance(label, features.ClassLabel)
        and image.np_dtype == np.uint8
        and image.shape[-1] in _MODES
    )
    if not is_readable or not {"train", "test"} <= set(info.splits):
        kinds = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in found.items())
        raise InputError(
            f"{folder} holds the features {kinds} and the splits {', '.join(info.splits)}: "
            "expected a uint8 Image and a ClassLabel, in the splits train and test"
        )
    return image_key, label_key


def _read_split(folder: Path, builder: Any, split: str, keys: tuple[str, str]) -> _EncodedSplit:
    import tensorflow_datasets as tfds

    image, label = keys
    decoders = {image: tfds.decode.SkipDecoding()}
    file_format = builder.info.file_format.value
    if file_format == "array_record":
        source = builder.as_data_source(split, decoders=decoders)
        examples = source.__getitems__(list(range(len(source))))
    elif _has_tensorflow():
        # One file after another, as ArrayRecord is read; TFDS otherwise interleaves 16 files.
        in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        stored = builder.as_dataset(split=split, decoders=decoders, read_config=in_order)
        examples = list(tfds.as_numpy(stored))
    else:
        raise InputError(
            f"{folder} is in {file_format} format, which only TensorFlow can read, and that is not "
            "installed: run `pip install 'rctaf-jax[prepare]'`, or prepare an array_record copy"
        )
    labels = np.array([example[label] for example in examples], np.int64)
    return _EncodedSplit([example[image] for example in examples], labels)


def _decoded(folder: Path, encoded: _EncodedSplit, channels: int) -> Split:
    images = [_decoded_image(image, _MODES[channels]) for image in encoded.images]
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise InputError(
            f"{folder} has a split with {len(shapes)} different image shapes: expected one"
        )
    pixels = np.stack(images).reshape(len(images), *images[0].shape[:2], channels)
    return Split(pixels, encoded.labels)


def _decoded_image(encoded: bytes, mode: str) -> UInt8[np.ndarray, "..."]:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image if image.mode == mode else image.convert(mode))


def _source(info: Any, images: list[bytes]) -> str:
    """What the files themselves say: their encoding, and TFDS's metadata."""
    is_jpeg = any(image.startswith(_JPEG_START) for image in images)
    kind = f"{info.name} {info.version} in TFDS's {info.file_format.value} format"
    if is_jpeg and info.name in CIFAR:
        kind = f"JPEG-encoded copy, whose pixels differ from the lossless original's, of {kind}"
    elif is_jpeg:
        kind = f"JPEG-encoded {kind}"
    description = " ".join((info.description or "no description").split())
    if len(description) > _MAX_DESCRIPTION:
        description = description[:_MAX_DESCRIPTION].rsplit(" ", 1)[0] + " ..."
    homepage = f" ({info.homepage})" if info.homepage else ""
    return f"{kind}; its metadata say: {description}{homepage}"


def _has_tensorflow() -> bool:
    if util.find_spec("tensorflow") is None:
        return False
    import tensorflow as tf

    # TensorFlow would otherwise take the accelerator's memory from JAX.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    return True


@contextlib.contextmanager
def _reader_faults(what: str, allowed: str) -> Iterator[None]:
    """Turns any fault of TFDS, ArrayRecord, TensorFlow or Pillow into one `InputError`.

    They document no exceptions, and raise RuntimeError, ParseError, KeyError, OSError and others
    for files that are missing, truncated or altered.
    """
    logger = logging.getLogger("absl")
    logger.addFilter(_is_not_about_groups)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        first_line = next(iter(str(error).strip().splitlines()), "no message")
        reason = first_line[:200].rstrip(".")
        raise InputError(
            f"cannot {what} ({type(error).__name__}: {reason}): expected {allowed}"
        ) from error
    finally:
        logger.removeFilter(_is_not_about_groups)


def _is_not_about_groups(record: logging.LogRecord) -> bool:
    # ArrayRecord reports files with several records a group as an error; they are only slower
    # to read at random, and here all are read in order.
    return "group size" not in record.getMessage()
