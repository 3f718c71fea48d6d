"""The Python of README and docs runs as it stands, page by page, on small things of a reader's."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.activations.baselines import BASELINES
from rctaf_jax.data import load
from rctaf_jax.losses import cross_entropy
from rctaf_jax.models import create, to_torch
from rctaf_jax.training.methods.registry import METHODS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SHORTER = {
    "README.md": {".pt": ".npz", '"resnet18"': '"resnet-mini"', "epochs=20": "epochs=1"},
    "docs/networks.md": {".pt": ".npz"},
    "docs/own_parts.md": {
        "range(300)": "range(40)",
        ":100": ":20",
        "beta=6.0": "beta=6.0, num_steps=2",
    },
    "docs/training.md": {"> 0.9": "> 0.1"},
    "docs/autoattack.md": {},
    "docs/hessian.md": {},
    "docs/reproduce.md": {'"results/': f'"{ROOT}/results/'},
    "docs/results.md": {'"results/': f'"{ROOT}/results/'},
}
"""Pages, and what is changed so that they take less, or need no PyTorch."""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """What pages take for granted: a network, images, a loss, downloaded checkpoints."""
    monkeypatch.chdir(tmp_path)
    for name, model, shape in (
        ("Carmon2019Unlabeled", "wrn-10-1", (8, 8, 3)),
        ("Rebuffi2021", "dm-wrn-10-1", (8, 8, 3)),
    ):
        made = create(model, num_classes=10, activation="relu")
        np.savez(f"{name}.npz", **to_torch(model, made.init(jax.random.key(0), shape)))
    for table in (BASELINES, METHODS):
        before = dict(table)
        for part in before:
            monkeypatch.setitem(table, part, before[part])
    params = {"w": jax.random.normal(jax.random.key(1), (64, 10)) / 8}
    images = load("digits").test.images[:6].astype(np.float32) / 255
    labels = load("digits").test.labels[:6]

    def logits_fn(images):
        return images.reshape(images.shape[0], -1) @ params["w"]

    yield {
        "jax": jax,
        "key": jax.random.key(2),
        "logits_fn": logits_fn,
        "images": images,
        "labels": labels,
        "params": params,
        "rest": (),
        "logits_of": lambda p, _, x: jnp.tanh(x.reshape(len(x), 64) @ p["w"]),
        "loss": lambda p: cross_entropy(jnp.tanh(images.reshape(6, 64) @ p["w"]), labels).mean(),
        "losses": lambda p, _, x, y: cross_entropy(jnp.tanh(x.reshape(len(x), 64) @ p["w"]), y),
    }
    for table in (BASELINES, METHODS):
        for part in [part for part in table if part in ("wave", "gentle")]:
            del table[part]


@pytest.mark.filterwarnings("ignore::rctaf_jax.eval.AutoAttackWarning")
@pytest.mark.parametrize("page", SHORTER)
def test_a_page_runs(page, reader):
    text = (ROOT / page).read_text()
    for old, new in SHORTER[page].items():
        assert old in text
        text = text.replace(old, new)
    blocks = BLOCK.findall(text)
    assert blocks
    if page == "docs/networks.md":
        reader["images"] = np.zeros((2, 8, 8, 3), np.float32)
    for block in blocks:
        exec(compile(block, page, "exec"), reader)


def test_every_page_with_python_is_run():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = {str(p.relative_to(ROOT)) for p in pages if BLOCK.search(p.read_text())}
    assert found == set(SHORTER)
