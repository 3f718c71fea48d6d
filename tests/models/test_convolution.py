import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rctaf_jax.errors import InputError
from rctaf_jax.models.convolution import convolve, native, row_products, winograd

CASES = [
    (size, stride, shape, (size // 2, size // 2))
    for size in (1, 3)
    for stride in (1, 2)
    for shape in ((4, 4), (5, 7), (1, 2))
]
CASES += [(3, 2, shape, (0, 1)) for shape in ((4, 4), (5, 7), (2, 3))]
CENTRED = (1, 1)


def draw(size, shape, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, *shape, 3)).astype(dtype)
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(size, size, 3, 5)).astype(dtype))


def by_definition(x, kernel, stride, margin=CENTRED):
    """The module's sum, in NumPy loops over output pixels."""
    size = kernel.shape[0]
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), margin, margin, (0, 0)))
    rows, columns = ((n - size) // stride + 1 for n in padded.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for p in range(rows):
        for q in range(columns):
            patch = padded[:, stride * p : stride * p + size, stride * q : stride * q + size]
            out[:, p, q] = np.einsum("bijc,ijcf->bf", patch, kernel)
    return out


@pytest.mark.parametrize("implementation", [native, row_products])
@pytest.mark.parametrize(("size", "stride", "shape", "margin"), CASES)
def test_equals_definition(implementation, size, stride, shape, margin):
    x, kernel = draw(size, shape)
    expected = by_definition(x, kernel, stride, margin)
    actual = implementation(x, kernel, stride, margin)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_no_place_for_a_kernel():
    with pytest.raises(InputError, match="images of 1x4 pixels are too small for this network"):
        convolve(jnp.zeros((1, 1, 4, 3)), jnp.zeros((3, 3, 3, 5)), 2, (0, 1))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 4), (5, 7)])
def test_winograd_equals_definition(shape):
    x, kernel = draw(3, shape)
    np.testing.assert_allclose(
        winograd(x, kernel), by_definition(x, kernel, 1), rtol=1e-5, atol=1e-5
    )


def test_winograd_is_as_exact_as_the_sum():
    """Errors against float64, on a wide layer: at most twice those of the plain sum."""
    rng = np.random.default_rng(2)
    x, kernel = rng.normal(size=(2, 8, 8, 256)), rng.normal(size=(3, 3, 256, 8))
    expected = by_definition(x, kernel, 1)
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    error, plain = (
        np.sqrt(np.mean(np.square(f(x, kernel) - expected)))
        for f in (winograd, lambda x, kernel: row_products(x, kernel, 1, CENTRED))
    )
    assert 0 < error < 2 * plain


@pytest.mark.parametrize(("size", "stride"), [(1, 2), (3, 1), (3, 2)])
def test_gradients_of_both_agree(size, stride):
    x, kernel = draw(size, (5, 6), seed=1)

    @jax.jit
    def gradients(x, kernel):
        def energy(implementation):
            return lambda x, kernel: jnp.sin(
                implementation(x, kernel, stride, (size // 2, size // 2))
            ).sum()

        return [jax.grad(energy(f), argnums=(0, 1))(x, kernel) for f in (native, row_products)]

    first, second = gradients(x, kernel)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def winograd_outcomes(implementation):
    """First and second derivatives in every order of modes, and batches of images or kernels."""
    x, kernel = draw(3, (5, 6), seed=3)
    tangents = draw(3, (5, 6), seed=4)

    def energy(x, kernel):
        return jnp.sin(implementation(x, kernel)).sum()

    gradient = jax.grad(energy, argnums=(0, 1))

    def slope(x, kernel):
        return jax.jvp(energy, (x, kernel), tangents)[1]

    def gradient_norm(x, kernel):
        return sum(jnp.sum(g**2) for g in gradient(x, kernel))

    both = jnp.stack([x, 2 * x]), jnp.stack([kernel, 3 * kernel])
    return {
        "reverse": gradient(x, kernel),
        "forward over reverse": jax.jvp(gradient, (x, kernel), tangents),
        "forward over forward": jax.jvp(slope, (x, kernel), tangents),
        "reverse over reverse": jax.grad(gradient_norm, argnums=(0, 1))(x, kernel),
        "images": jax.vmap(implementation, (1, None))(jnp.stack([x, 2 * x], 1), kernel),
        "kernels": jax.vmap(gradient)(*both),
        "probes": jax.vmap(lambda v: jax.jvp(gradient, (x, kernel), (x, v))[1])(both[1]),
    }


def test_winograd_is_differentiated_like_the_others():
    expected = jax.jit(winograd_outcomes, static_argnums=0)(lambda x, k: native(x, k, 1, CENTRED))
    actual = jax.jit(winograd_outcomes, static_argnums=0)(winograd)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), actual, expected
    )


def test_wide_layers_take_winograd():
    def is_winograd(channels, side):
        x, kernel = jnp.zeros((1, side, side, channels)), jnp.zeros((3, 3, channels, 64))
        return "winograd" in str(jax.make_jaxpr(convolve)(x, kernel))

    assert [is_winograd(*layer) for layer in ((64, 8), (63, 8), (64, 7))] == [True, False, False]


def test_stride_two_pads_as_pytorch():
    """By hand: the first window of an even side covers pixels -1, 0, 1; "SAME" takes 0, 1, 2."""
    x = jnp.arange(4.0).reshape(1, 4, 1, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 1].set(1.0)
    np.testing.assert_array_equal(convolve(x, kernel, 2).ravel(), [0.0, 1.0])


def test_bfloat16_keeps_its_type():
    x, kernel = (a.astype(jnp.bfloat16) for a in draw(3, (4, 4)))
    for implementation in (native, row_products):
        assert implementation(x, kernel, 1, CENTRED).dtype == jnp.bfloat16
    assert winograd(x, kernel).dtype == jnp.bfloat16


def test_backend_decides_in_one_place(monkeypatch):
    x, kernel = draw(3, (4, 4))

    def primitives():
        return {e.primitive for e in jax.make_jaxpr(lambda x: convolve(x, kernel, 1))(x).eqns}

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert lax.conv_general_dilated_p not in primitives()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert lax.conv_general_dilated_p in primitives()


@pytest.mark.parametrize("shape", [(5, 5, 3, 4), (3, 1, 3, 4), (3, 3, 2, 4)])
def test_refuses_other_kernels(shape):
    with pytest.raises(InputError, match="kernel has shape"):
        convolve(jnp.zeros((1, 4, 4, 3)), jnp.zeros(shape))
