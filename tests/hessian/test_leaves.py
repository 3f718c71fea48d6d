"""Every entry point and the trees and losses that it refuses, or takes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    coordinates,
    density,
    estimate,
    exact_diagonal,
    extreme_eigenvalues,
    filter_normalised_direction,
    hessian_vector_product,
    init,
    loss_slice,
    make_dataset_entries,
    make_dataset_gradient,
    make_dataset_product,
    run,
    sam_sharpness,
    trace,
    xdiag,
)

KEY = jax.random.key(0)
IMAGES, LABELS = np.zeros((2, 1, 1, 1), np.float32), np.arange(2)


def loss(params: Any) -> jax.Array:
    return sum((jnp.sum(leaf**4) for leaf in jax.tree.leaves(params)), start=jnp.float32(0))


def losses(params: Any, rest: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    return loss(params) + jnp.zeros(len(labels))


def product_at(params: Any) -> Callable[[Any], Any]:
    return lambda vector: hessian_vector_product(loss, params, vector)


OF_PARAMS = {
    "product": lambda p: hessian_vector_product(loss, p, p),
    "exact": lambda p: exact_diagonal(loss, p),
    "dataset product": lambda p: make_dataset_product(losses, batch_size=2)(p, (), IMAGES, LABELS)(
        p
    ),
    "dataset gradient": lambda p: make_dataset_gradient(losses, batch_size=2)(
        p, (), IMAGES, LABELS
    ),
    "dataset entries": lambda p: make_dataset_entries(losses, batch_size=2)(p, (), IMAGES, LABELS)(
        np.array([0])
    ),
    "hutchinson": lambda p: estimate(run(init(p), product_at(p), range(3), KEY)),
    "xdiag": lambda p: estimate(xdiag.run(init(p), product_at(p), range(3), KEY, block_size=2)),
    "coordinates": lambda p: coordinates.estimate(
        coordinates.run(coordinates.init(p), product_at(p), p, range(3), KEY), p
    ),
    "eigenvalues": lambda p: extreme_eigenvalues(product_at(p), p, KEY),
    "density": lambda p: density.run(density.init(num_steps=2), product_at(p), p, range(2), KEY),
    "trace": lambda p: trace.run(trace.init(), product_at(p), p, range(2), KEY),
    "blocks": lambda p: trace.run_blocks(
        trace.init(), product_at(p), p, range(2), KEY, block_size=2
    ),
    "sharpness": lambda p: sam_sharpness(loss, p, rho=0.1),
    "direction": lambda p: filter_normalised_direction(p, KEY),
    "slice": lambda p: loss_slice(loss, p, [p], [np.zeros(2)]),
}
BAD = {
    "empty": {},
    "without entries": {"w": jnp.zeros((0, 3))},
    "integers": {"w": jnp.ones(2), "n": jnp.arange(2)},
    "a Python int": {"w": jnp.ones(2), "n": 1},
    "booleans": {"w": jnp.ones(2), "b": jnp.array([True, False])},
    "complex": {"w": jnp.ones(2), "c": jnp.ones(2, complex)},
}
GOOD = {
    "Python floats": {"a": 1.0, "b": 2.0, "c": 0.5},
    "some without entries": {"w": jnp.ones(3), "none": jnp.zeros((2, 0))},
    "NumPy": {"w": np.ones((1, 3), np.float32)},
    "two types": {"w": jnp.ones(2), "h": jnp.ones(1, jnp.bfloat16)},
}


@pytest.mark.parametrize("tree", BAD)
@pytest.mark.parametrize("entry", OF_PARAMS)
def test_trees_without_a_hessian_are_refused(entry: str, tree: str) -> None:
    with pytest.raises(InputError, match="at least one entry, and floating-point types only"):
        OF_PARAMS[entry](BAD[tree])


@pytest.mark.parametrize("tree", GOOD)
@pytest.mark.parametrize("entry", OF_PARAMS)
def test_floats_of_any_kind_work(entry: str, tree: str) -> None:
    result = OF_PARAMS[entry](GOOD[tree])
    if entry in ("hutchinson", "xdiag", "coordinates"):
        means = [row for _, row in result.layers]
        assert all((row.q == 0) == (row.size == 0) for row in means)
        assert result.mean_square.q > 0


@pytest.mark.parametrize("entry", ["product", "exact", "sharpness", "slice"])
def test_losses_that_are_no_number_are_refused(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, match in (
        (lambda p: (jnp.sum(p["w"]), p), "returns tuple: expected one number"),
        (lambda p: p["w"] ** 2, r"loss of shape \(2,\)"),
        (lambda p: jnp.sum(p["w"]).astype(int), "expected a floating-point number"),
    ):
        monkeypatch.setitem(globals(), "loss", value)
        with pytest.raises(InputError, match=match):
            OF_PARAMS[entry]({"w": jnp.ones(2)})
