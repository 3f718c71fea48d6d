"""The pieces of APGD's move in L1, by hand."""

import jax.numpy as jnp
import numpy as np

from rctaf_jax.eval.autoattack import apgd_l1


def test_published_phases() -> None:
    phases = apgd_l1.make_phases(100)
    assert np.flatnonzero(phases.is_first).tolist() == [0, 31, 62]
    assert np.flatnonzero(phases.is_last).tolist() == [30, 61, 102]
    assert [(phases.radius == radius).sum() for radius in (3, 2, 1)] == [31, 31, 41]
    np.testing.assert_array_equal(phases.is_check, ~phases.is_first)
    long = apgd_l1.make_phases(1000)
    assert np.flatnonzero(long.is_check)[:3].tolist() == [12, 24, 36]
    assert np.flatnonzero(long.is_check)[-1] == 602 + 400
    for num_steps in (1, 2, 3, 10):
        assert len(apgd_l1.make_phases(num_steps).radius) == num_steps + 3


def test_l1_steps_are_sparse() -> None:
    """Two of ten entries stand out; a fraction of 0.2 follows these, to length 1."""
    gradient = np.full((1, 5, 2, 1), 0.01, np.float32)
    gradient[0, 1, 1], gradient[0, 3, 0] = -2, 1
    direction = apgd_l1._sparse_sign(jnp.asarray(gradient), jnp.array([0.2]))
    expected = np.zeros_like(gradient)
    expected[0, 1, 1], expected[0, 3, 0] = -0.5, 0.5
    np.testing.assert_allclose(direction, expected)
    nothing = apgd_l1._sparse_sign(jnp.zeros((1, 5, 2, 1)), jnp.array([0.2]))
    np.testing.assert_array_equal(nothing, 0)


def test_l1_adapts_by_hand() -> None:
    """Nonzero entries 3 of 4 after 4 of 4: sparser, so all the radius; 4 after 4: less."""
    perturbation = jnp.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]).reshape(3, 2, 2, 1) * 0.1
    memory = apgd_l1.Sparse(jnp.array([0.3, 0.3, 0.11]), jnp.ones(3), jnp.full(3, 4.0))
    radius, yes = jnp.ones(3), jnp.ones(3, bool)
    new, back = apgd_l1._adapt(radius, ~yes, yes, perturbation, memory)
    assert back.tolist() == [True, False, False]
    np.testing.assert_allclose(new.step_size, [1, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(new.fraction, np.array([3, 4, 4]) / 4 / 1.5, rtol=1e-6)
    same, back = apgd_l1._adapt(radius, ~yes, ~yes, perturbation, memory)
    assert not back.any()
    np.testing.assert_array_equal(same.step_size, memory.step_size)
