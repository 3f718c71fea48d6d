"""Checkpoints on a disk that refuses them: one error, nothing half left, the whole ones kept."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rctaf_jax.training.checkpoint import Checkpoints

SMALL = {"weights": np.arange(1000, dtype=np.float32)}
LARGE = {"weights": np.asarray(jax.random.normal(jax.random.key(0), (1_000_000,)))}  # 4 MB


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def restored(folder: Path) -> tuple[int | None, np.ndarray]:
    with Checkpoints(folder) as checkpoints:
        return checkpoints.latest, checkpoints.restore(SMALL)["weights"]


def check_kept(folder: Path) -> None:
    """The first checkpoint is whole, the second left nothing, and a third can follow."""
    assert sorted(path.name for path in folder.iterdir()) == ["1"]
    step, weights = restored(folder)
    assert step == 1
    np.testing.assert_array_equal(weights, SMALL["weights"])
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(2, {"weights": SMALL["weights"] + 1})
    assert restored(folder)[0] == 2


def test_a_disk_that_fills_up(small_disk):
    folder = small_disk / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, SMALL)
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*checkpoints'"),
        Checkpoints(folder) as checkpoints,
    ):
        checkpoints.save(2, LARGE)
    check_kept(folder)


def save_until_refused(folder: Path) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in range(1, 100):
            checkpoints.save(step, SMALL if step == 1 else LARGE)
        pytest.fail("nothing was refused")


def test_a_later_save_tells_of_the_one_before(small_disk):
    folder = small_disk / "checkpoints"
    with pytest.raises(OSError, match="No space left"):
        save_until_refused(folder)
    check_kept(folder)


def refused_at_once(error: Exception) -> Callable[..., None]:
    def save(self, step, args) -> None:
        (self.directory / f"{step}.orbax-checkpoint-tmp").mkdir()
        raise error

    return save


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), errno.EDQUOT),
        (ValueError("RESOURCE_EXHAUSTED: 8: No space [os_error_code='28']"), errno.ENOSPC),
        (RuntimeError("PERMISSION_DENIED: Read-only file system"), errno.EROFS),
    ],
)
def test_whatever_orbax_raises_names_the_folder(tmp_path, monkeypatch, error, code):
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", refused_at_once(error))
        with pytest.raises(OSError, match=r"checkpoints'") as refused, Checkpoints(folder) as one:
            one.save(2, SMALL)
    assert refused.value.errno == code
    check_kept(folder)


def test_a_refusal_as_it_is_left_is_told_unless_another_error_is(tmp_path, monkeypatch):
    def refuse(self) -> None:
        raise ValueError("No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "close", refuse)
    with pytest.raises(OSError, match="No space left"), Checkpoints(tmp_path / "one"):
        pass
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path / "two"):
        raise KeyboardInterrupt


def test_a_fault_of_ours_stays_one(tmp_path):
    with pytest.raises(ValueError, match="empty"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {})


def test_what_a_killed_save_left_goes_with_the_next(tmp_path):
    (tmp_path / "7.orbax-checkpoint-tmp" / "default").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]


def test_a_command_on_a_full_disk_says_one_sentence_and_goes_on_later(small_disk):
    """A process of its own: Orbax fails and speaks in threads."""
    subprocess.run(["mount", "-o", "remount,size=40k", str(small_disk)], check=True)
    words = [sys.executable, "-m", "rctaf_jax", "sweep", "--output", str(small_disk / "sweep")]
    words += ["--model", "mlp-1x8", "--num-train", "64", "--num-test", "20", "--epochs", "1"]
    words += ["--batch-size", "16", "--pgd-steps", "2", "--probes", "2", "--seeds", "0"]
    words += ["--betas", "1", "--curvatures", "1", "4", "--baselines", "relu"]
    refused = subprocess.run(words, capture_output=True, text=True)
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    assert len(lines) == 1, refused.stderr
    (line,) = lines
    assert line.startswith("rctaf: ")
    assert "No space left on device" in line
    assert not [path for path in small_disk.rglob("*") if "tmp" in path.name]
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert len(list(small_disk.glob("sweep/members/*/row.json"))) == 3
