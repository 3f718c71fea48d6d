"""A results folder with known numbers, as a sweep would leave it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CONFIG: dict[str, Any] = {
    "data": {"name": "digits", "data_dir": None, "num_train": None, "num_test": None},
    "train": {
        "model": "resnet-mini",
        "width": 0.5,
        "method": "trades",
        "norm": "Linf",
        "epsilon": 8 / 255,
        "attack_steps": 10,
        "step_size": 2 / 255,
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "cosine",
        "weight_decay": 5e-4,
        "augmentation": "none",
        "dtype": "float32",
    },
    "evaluation": {
        "pgd_steps": 20,
        "pgd_restarts": 2,
        "pgd_loss": "margin",
        "pgd_step_size": None,
        "evaluation_batch": 256,
    },
    "hessian": {"probes": 16, "hessian_examples": 1437, "hessian_batch": 64},
    "betas": [0, 1, 2],
    "curvatures": [1, 4, 7, 10, 20, 50],
    "baselines": ["relu"],
    "seeds": [0, 1],
}
ENVIRONMENT = {
    "versions": {"jax": "0.10.2", "rctaf-jax": "0.1.0", "python": "3.12.1"},
    "device": "cpu x 1",
    "commit": "0123abc",
    "command": "rctaf sweep --out results --betas 0 1 2",
    "started": "2026-01-02T03:04:05+00:00",
    "platform": "Linux",
}
DATA = {
    "name": "digits",
    "source": "UCI digits: 1,797 handwritten digits of 8x8 pixels.",
    "image_shape": [8, 8, 1],
    "num_train": 1437,
    "num_test": 360,
    "class_names": [str(digit) for digit in range(10)],
    "index_order": "as stored",
    "content_hash": "ab" * 32,
}
_FACTOR = {0: 4.0, 1: 2.0, 2: 1.0}

FolderFactory = Callable[..., Path]


def hessian(rms: float | None) -> dict[str, Any]:
    mean_square = -1e-6 if rms is None else rms**2
    return {
        "mean_square": mean_square,
        "mean_square_standard_error": 0.05 * abs(mean_square),
        "rms": rms,
        "rms_standard_error": None if rms is None else 0.025 * rms,
        "num_probes": 16,
        "num_examples": 1437,
        "num_parameters": 12345,
    }


def member(
    beta: int | None,
    curvature: float,
    seed: int,
    *,
    clean: int = 340,
    robust: int = 200,
    rms: float | None = 0.01,
    **changes: Any,
) -> dict[str, Any]:
    """A row.json; beta None stands for ReLU."""
    family = "relu" if beta is None else f"rct-af:beta={beta}"
    alpha = None if beta is None else _FACTOR[beta] * curvature
    short = "relu" if beta is None else f"rct-af-beta{beta}-curvature{curvature:g}"
    row = {
        "id": f"{short}-seed{seed}",
        "activation": family if alpha is None else f"{family},alpha={alpha:g}",
        "family": family,
        "beta": beta,
        "alpha": alpha,
        "max_curvature": "inf" if beta is None else float(curvature),
        "seed": seed,
        "status": "done",
        "message": None,
        "num_test": 360,
        "clean_correct": clean,
        "robust_correct": robust,
        "nonfinite": 0,
        "hessian": hessian(rms),
        "steps": 240,
        "seconds": {"train": 30.0, "evaluate": 5.0, "hessian": 2.5},
    }
    return row | changes


def diverged(beta: int | None, curvature: float, seed: int, message: str) -> dict[str, Any]:
    """The row.json of a member whose loss became NaN."""
    nothing = dict.fromkeys(("num_test", "clean_correct", "robust_correct", "nonfinite", "hessian"))
    seconds = {"train": 3.0, "evaluate": 0.0, "hessian": 0.0}
    changes: dict[str, Any] = {
        **nothing,
        "status": "diverged",
        "message": message,
        "seconds": seconds,
    }
    return member(beta, curvature, seed, **changes)


def full_sweep() -> list[dict[str, Any]]:
    """All 38 members of CONFIG, robustness highest at curvature 7, noise from a fixed seed."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in CONFIG["seeds"]:
        for beta in CONFIG["betas"]:
            for curvature in CONFIG["curvatures"]:
                distance = abs(np.log(curvature / 7.0))
                robust = int(230 - 18 * distance - 4 * beta + rng.integers(-2, 3))
                clean = int(346 - 6 * distance + rng.integers(-2, 3))
                rms = float(0.01 * (1 + distance**2) * (1 + 0.04 * rng.normal()))
                rows.append(member(beta, curvature, seed, clean=clean, robust=robust, rms=rms))
        rows.append(member(None, np.inf, seed, clean=338, robust=190 + seed, rms=0.02))
    return rows


def write_outcomes(path: Path, row: dict[str, Any]) -> None:
    """Which images are right: the first so many as the row counts."""
    places = np.arange(row["num_test"])
    counts = {"clean_correct": row["clean_correct"], "robust": row["robust_correct"]}
    outcomes = {name: places < count for name, count in counts.items()}
    np.savez(path, **outcomes, nonfinite=places < row["nonfinite"])


@pytest.fixture
def make_folder(tmp_path: Path) -> FolderFactory:
    """Returns `make(rows, **changes to config.json)`, which writes a folder and returns it."""

    def make(rows: Iterable[dict[str, Any]], **changes: Any) -> Path:
        folder = tmp_path / "results"
        folder.mkdir()
        files = {"config": CONFIG | changes, "environment": ENVIRONMENT, "data": DATA}
        for name, value in files.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
        for row in rows:
            place = folder / "members" / row["id"]
            place.mkdir(parents=True)
            (place / "row.json").write_text(json.dumps(row))
            if row["status"] == "done" and row["robust_correct"] is not None:
                write_outcomes(place / "outcomes.npz", row)
        return folder

    return make


@pytest.fixture
def sweep_rows() -> list[dict[str, Any]]:
    """A complete sweep."""
    return full_sweep()


@pytest.fixture
def make_member() -> Callable[..., dict[str, Any]]:
    """The row of a finished member."""
    return member


@pytest.fixture
def make_diverged() -> Callable[..., dict[str, Any]]:
    """The row of a diverged member."""
    return diverged
