"""The exact algebra against sympy, and the paper's printed formulas against the algebra."""

import ast
import inspect
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from rctaf_jax.activations import polynomial
from rctaf_jax.activations.polynomial import (
    Polynomial,
    check_index,
    differentiate,
    euler,
    horner,
    largest_value,
    rct_polynomial,
    split,
)
from rctaf_jax.errors import InputError

# E stands for exp(u) = exp(alpha x), so that every derivative of g is rational in (u, E) and
# equality is decided exactly, without simplification rules for exp.
U, E, ALPHA = sp.symbols("u E alpha")
X = U / ALPHA

PAPER_FUNCTIONS = {
    0: sp.log(1 + E) / ALPHA,  # (1)
    1: X / (1 + 1 / E),  # (3)
    2: (E**2 + (U + 1) * E) * X / (E**2 + 2 * E + 1),  # (5)
}
PAPER_SECOND_DERIVATIVES = {
    0: ALPHA / E / (1 + 1 / E) ** 2,  # (2)
    1: ALPHA * E * (E * (2 - U) + U + 2) / (E + 1) ** 3,  # (4)
    2: ALPHA  # (6)
    * E
    * ((U - 1) * (U - 4) * E**2 - 4 * (U**2 - 2) * E + (U + 1) * (U + 4))
    / (E + 1) ** 4,
}


def along_u(expression):
    """d/du of an expression in u and E = exp(u)."""
    return sp.diff(expression, U) + E * sp.diff(expression, E)


def symbolic(polynomial):
    """The polynomial with its generators written out."""
    s = E / (1 + E)
    return sum(
        c * sp.log(1 + E) ** i * s**j * U**k * (1 - 2 * s) ** m * (s * (1 - s)) ** n
        for (i, j, k, m, n), c in polynomial.terms
    )


def is_equal(left, right):
    return sp.cancel(sp.together(left - right)) == 0


@pytest.mark.parametrize("beta", [0, 1, 2])
def test_the_papers_functions_and_second_derivatives(beta):
    printed, second = PAPER_FUNCTIONS[beta], PAPER_SECOND_DERIVATIVES[beta]
    assert is_equal(symbolic(rct_polynomial(beta)) / ALPHA, printed)
    assert is_equal(symbolic(rct_polynomial(beta, 2)) * ALPHA, second)
    # du/dx = alpha, so the printed pair belongs together without our algebra as well.
    assert is_equal(ALPHA**2 * along_u(along_u(printed)), second)


@pytest.mark.parametrize("beta", range(7))
def test_every_order_against_sympy(beta):
    """In sympy's field of rational functions of u and E, where equality is exact and fast."""
    field, u, e = sp.field("u, E", sp.QQ)
    s = e / (1 + e)
    # Softplus is no rational function; its derivative s and u s = g_1 are.
    expected = u * s if beta else s
    for _ in range(beta - 1):
        expected = u * (expected.diff(u) + e * expected.diff(e))
    for order in range(0 if beta else 1, 5):
        ours = field(0)
        for (_, j, k, m, n), c in rct_polynomial(beta, order).terms:
            ours += c * s**j * u**k * (1 - 2 * s) ** m * (s * (1 - s)) ** n
        assert ours == expected, order
        expected = expected.diff(u) + e * expected.diff(e)


@pytest.mark.parametrize("beta", range(12))
def test_second_derivative_at_zero_is_a_power_of_two(beta):
    decaying = split(rct_polynomial(beta, 2)).decaying
    assert horner(decaying, (0.0, 0.0, 0.25)) / 4 == 2.0 ** (beta - 2)


def test_recursion_and_derivative_are_the_ones_of_the_ring():
    softplus = rct_polynomial(0)
    assert euler(euler(softplus)) == rct_polynomial(2)
    assert differentiate(rct_polynomial(3, 1)) == rct_polynomial(3, 2)
    assert all(isinstance(c, int) for _, c in rct_polynomial(6, 4).terms)


def test_normal_form_makes_equal_expressions_equal_objects():
    # (r q)' = -2 q^2 + r^2 q = q - 6 q^2, with r^2 = 1 - 4 q.
    rq = Polynomial.of([((0, 0, 0, 1, 1), 1)])
    assert differentiate(rq) == Polynomial.of([((0, 0, 0, 0, 1), 1), ((0, 0, 0, 0, 2), -6)])
    assert Polynomial.of([((1,), 2), ((1,), -2)]) == Polynomial(())


@pytest.mark.parametrize("beta", range(6))
@pytest.mark.parametrize("order", range(5))
def test_split_keeps_everything_and_finds_the_parity(beta, order):
    parts = split(rct_polynomial(beta, order))
    assert parts.is_odd == bool(order % 2)
    assert parts.softplus == (beta == 0 and order == 0)
    assert parts.sigmoid == (order == 1)
    assert parts.sigmoid_u == (beta > 0 and order == 0)
    u, s = 0.7, 0.3  # no relation between u and s is needed for the identity
    r, q = 1 - 2 * s, s * (1 - s)
    total = parts.softplus * 1.5 + s * (parts.sigmoid + u * parts.sigmoid_u)
    total += q * horner(parts.decaying, (r, u, q))
    assert np.isclose(total, horner(rct_polynomial(beta, order), (1.5, s, u, r, q)), rtol=1e-12)


def test_horner_equals_the_sum_of_terms_exactly():
    terms = [((0, 3), 5), ((2, 0), -7), ((2, 4), 1), ((5, 1), 2)]
    point = (3.0, -2.0)
    by_hand = sum(c * Fraction(3) ** i * Fraction(-2) ** j for (i, j), c in terms)
    assert horner(Polynomial.of(terms), point) == float(by_hand)
    array = horner(Polynomial.of(terms), (np.full(2, 3.0), np.full(2, -2.0)))
    assert array.tolist() == [float(by_hand)] * 2
    assert horner(Polynomial(()), point) == 0


@pytest.mark.parametrize("beta", [1, 5, 9])
def test_largest_value_bounds_the_decaying_factor(beta):
    decaying = split(rct_polynomial(beta, 3)).decaying
    u = np.linspace(-20, 20, 4001)
    s = 1 / (1 + np.exp(-u))
    values = horner(decaying, (1 - 2 * s, u, s * (1 - s)))
    assert np.max(np.abs(values)) <= largest_value(decaying, 20)


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "1", None, np.int64(1)])
def test_only_ints_count(wrong):
    with pytest.raises(InputError, match=r"must be an int >= 0"):
        check_index("beta", wrong)
    with pytest.raises(InputError, match="beta is"):
        rct_polynomial(wrong)
    with pytest.raises(InputError, match="order is"):
        rct_polynomial(1, wrong)


def test_the_algebra_knows_no_arrays():
    tree = ast.parse(inspect.getsource(polynomial))
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not any(m.split(".")[0] in {"jax", "numpy", "jaxtyping"} for m in modules if m)
