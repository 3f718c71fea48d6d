import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rctaf_jax.data import load
from rctaf_jax.errors import InputError


def arrays(num_train: int = 12, num_test: int = 6, num_classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (num_train, 4, 5, 3), np.uint8),
        "train_labels": np.arange(num_train) % num_classes,
        "test_images": rng.integers(0, 256, (num_test, 4, 5, 3), np.uint8),
        "test_labels": np.arange(num_test) % num_classes,
    }


def written(folder: Path, content: dict[str, np.ndarray]) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **content)
    return path


def one_sentence(message: str) -> bool:
    return "\n" not in message and len(message) < 700 and "expected" in message


def test_npz_round_trip(tmp_path: Path) -> None:
    content = arrays()
    dataset = load(written(tmp_path, content | {"class_names": np.array(["a", "b", "c"])}))
    assert (dataset.name, dataset.class_names) == ("mine", ("a", "b", "c"))
    assert np.array_equal(dataset.train.images, content["train_images"])
    assert np.array_equal(dataset.test.labels, content["test_labels"])
    assert dataset.train.labels.dtype == np.int32
    assert "mine.npz" in dataset.source
    assert str(tmp_path) not in dataset.source


def test_npz_without_channels_gets_one(tmp_path: Path) -> None:
    content = arrays()
    grey = {key: value[..., 0] if value.ndim == 4 else value for key, value in content.items()}
    dataset = load(str(written(tmp_path, grey)))
    assert dataset.image_shape == (4, 5, 1)
    assert dataset.class_names == ("0", "1", "2")
    assert np.array_equal(dataset.train.images[..., 0], content["train_images"][..., 0])
    assert dataset.train.images.flags.c_contiguous


def test_npz_fortran_order_is_made_contiguous(tmp_path: Path) -> None:
    content = arrays()
    content["train_images"] = np.asfortranarray(content["train_images"])
    dataset = load(written(tmp_path, content))
    assert dataset.train.images.flags.c_contiguous
    assert np.array_equal(dataset.train.images, arrays()["train_images"])


def test_npz_without_split_is_permuted_once_and_for_all(tmp_path: Path) -> None:
    labels = np.arange(10)
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None], (10, 2, 2))
    dataset = load(written(tmp_path, {"images": images, "labels": labels}))
    # RandomState(0).permutation(10), whose stream NumPy has frozen.
    assert dataset.test.labels.tolist() == [2, 8]
    assert dataset.train.labels.tolist() == [4, 9, 1, 6, 7, 3, 0, 5]
    assert np.array_equal(dataset.train.images[:, 0, 0, 0], dataset.train.labels)
    assert "RandomState(0)" in dataset.provenance()["index_order"]


Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class Refused(NamedTuple):
    change: Change
    message: str


REFUSED = {
    "float images of grey levels": Refused(
        lambda a: a | {"train_images": a["train_images"] * 1.0},
        "expected 0 to 1: divide by 255",
    ),
    "images as truth values": Refused(
        lambda a: a | {"train_images": a["train_images"] > 100},
        "training split has images of type bool: expected uint8",
    ),
    "flat images": Refused(
        lambda a: a | {"test_images": a["test_images"].reshape(6, -1)},
        "test split has images of shape (6, 60): expected [N, H, W]",
    ),
    "float labels": Refused(
        lambda a: a | {"train_labels": a["train_labels"] * 1.0},
        "labels of type float64 and shape (12,): expected integers",
    ),
    "one-hot labels": Refused(
        lambda a: a | {"train_labels": np.eye(12, dtype=int)},
        "labels of type int64 and shape (12, 12): expected integers of shape [N]",
    ),
    "fewer labels": Refused(
        lambda a: a | {"train_labels": a["train_labels"][:-1]},
        "12 images and 11 labels: expected as many of each",
    ),
    "empty split": Refused(
        lambda a: a | {"test_images": a["test_images"][:0], "test_labels": a["test_labels"][:0]},
        "test split is empty",
    ),
    "no pixels": Refused(lambda a: a | {"test_images": a["test_images"][:, :0]}, "is empty"),
    "negative label": Refused(
        lambda a: a | {"train_labels": a["train_labels"] - 1},
        "labels from -1 to 1: expected 0 to 2, for its 3 classes",
    ),
    "label beyond the names": Refused(
        lambda a: a | {"class_names": np.array(["a", "b"])},
        "labels from 0 to 2: expected 0 to 1, for its 2 classes",
    ),
    "huge label": Refused(
        lambda a: a | {"train_labels": a["train_labels"] + 10**12},
        "a label 1000000000002 and no class_names",
    ),
    "repeated names": Refused(
        lambda a: a | {"class_names": np.array(["a", "b", "a"])},
        "a class name twice in a, b, a: expected distinct",
    ),
    "numbers as names": Refused(
        lambda a: a | {"class_names": np.arange(3)},
        "class_names of type int64 and shape (3,): expected one string",
    ),
    "two image shapes": Refused(
        lambda a: a | {"test_images": a["test_images"][:, :2]},
        "shape (4, 5, 3) and test images of shape (2, 5, 3): expected one shape",
    ),
    "missing key": Refused(
        lambda a: {key: a[key] for key in a if key != "test_labels"},
        "the keys test_images, train_images, train_labels: expected train_images",
    ),
    "no keys": Refused(lambda a: {}, "has the keys (none)"),
    "unsplit lengths": Refused(
        lambda a: {"images": a["train_images"], "labels": a["test_labels"]},
        "images of shape (12, 4, 5, 3) and labels of shape (6,): expected as many",
    ),
    "unsplit single image": Refused(
        lambda a: {"images": a["train_images"][:1], "labels": a["train_labels"][:1]},
        "at least two of each",
    ),
    "unsplit scalars": Refused(
        lambda a: {"images": np.uint8(1), "labels": np.int32(1)}, "images of shape ()"
    ),
    "pickled objects": Refused(
        lambda a: a | {"class_names": np.array(["a", None, "c"])}, "without pickled objects"
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_npz_refused(case: Refused, tmp_path: Path) -> None:
    path = written(tmp_path, case.change(arrays()))
    with pytest.raises(InputError, match=re.escape(case.message)) as caught:
        load(path)
    assert one_sentence(str(caught.value))


def test_npz_that_is_no_archive(tmp_path: Path) -> None:
    path = written(tmp_path, arrays())
    whole = path.read_bytes()
    lone = io.BytesIO()
    np.save(lone, np.arange(3))
    middle = len(whole) // 2
    altered = whole[:middle] + bytes(64) + whole[middle + 64 :]
    for content in (whole[:middle], whole[:-10], altered, lone.getvalue(), b"", b"PK\3\4", b"text"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"mine\.npz .*expected an intact \.npz") as caught:
            load(path)
        assert one_sentence(str(caught.value))


def test_npz_with_members_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", b"photographs")
        archive.writestr("labels", b"1 2 3")
    with pytest.raises(InputError, match=r".images. is no array.*expected an intact \.npz"):
        load(path)


def test_npz_that_is_encrypted(tmp_path: Path) -> None:
    path = written(tmp_path, arrays())
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag, in the first entry of the directory
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"encrypted.*expected an intact \.npz"):
        load(path)


def test_npz_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    for name in ("absent.npz", "folder.npz"):
        with pytest.raises(InputError, match=rf"cannot open .*{name}.* expected a readable"):
            load(tmp_path / name)
