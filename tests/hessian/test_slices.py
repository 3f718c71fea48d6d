"""Slices of a loss against the loss itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import filter_normalised_direction, loss_slice

KEY = jax.random.key(0)
PARAMS = {
    "kernel": jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 5)), jnp.float32),
    "dense": jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32).at[:, 1].set(0),
    "bias": jnp.ones(3),
    "alpha": 2.0,
}


def loss(w: dict) -> jax.Array:
    return w["alpha"] * jnp.sum(jnp.sin(w["kernel"])) + jnp.sum(w["dense"] ** 3) + w["bias"][0]


def test_filters_have_the_networks_norms() -> None:
    direction = filter_normalised_direction(PARAMS, KEY)
    for name, axes in (("kernel", (0, 1, 2)), ("dense", (0,))):
        ours, theirs = ((np.asarray(t[name]) ** 2).sum(axis=axes) for t in (direction, PARAMS))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert not np.any(direction["bias"])
    assert direction["alpha"] == 0
    other = filter_normalised_direction(PARAMS, jax.random.key(1))
    assert np.abs(other["kernel"] - direction["kernel"]).max() > 0.1


@pytest.mark.parametrize("count", [1, 2])
def test_a_slice_is_the_loss_point_by_point(count: int) -> None:
    directions = [filter_normalised_direction(PARAMS, jax.random.key(i)) for i in range(count)]
    grids = [np.linspace(-1, 1, 5), np.linspace(0, 2, 3)][:count]
    found = loss_slice(loss, PARAMS, directions, grids)
    assert found.shape == (5, 3)[:count]
    for place in np.ndindex(found.shape):
        moved = PARAMS
        for axis, index in enumerate(place):
            moved = jax.tree.map(
                lambda w, d, c=grids[axis][index]: w + c * d, moved, directions[axis]
            )
        assert found[place] == pytest.approx(float(loss(moved)), rel=1e-4, abs=1e-4)


def test_bad_input() -> None:
    direction, grid = filter_normalised_direction(PARAMS, KEY), np.zeros(2)
    for directions, grids in (([], []), ([direction] * 3, [grid] * 3), ([direction], [grid] * 2)):
        with pytest.raises(InputError, match="expected one or two directions"):
            loss_slice(loss, PARAMS, directions, grids)
    with pytest.raises(InputError, match="other arrays or shapes than params"):
        loss_slice(loss, PARAMS, [direction | {"bias": jnp.ones(4)}], [grid])
    with pytest.raises(InputError, match="returns tuple"):
        loss_slice(lambda w: (loss(w), w), PARAMS, [direction], [grid])
    for bad in ({}, jnp.zeros(2, int), jnp.zeros(2, bool), jnp.zeros(2, complex)):
        with pytest.raises(InputError, match="floating-point types only"):
            filter_normalised_direction(bad, KEY)
        with pytest.raises(InputError, match="floating-point types only"):
            loss_slice(loss, bad, [bad], [grid])
