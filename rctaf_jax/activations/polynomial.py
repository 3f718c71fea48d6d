"""Exact derivatives: integer polynomials whose generators have polynomial derivatives.

With u = alpha x and s = sigmoid(u), equations (1), (3) and (5) of the paper are

    sigma_beta(x) = g_beta(alpha x) / alpha,   g_0 = softplus(u),   g_{beta+1} = u g_beta'.

Since s' = s (1 - s), every g_beta and every derivative of it is an integer polynomial in softplus,
s, u and the two symmetric combinations

    r = (1 - s) - s   (odd in u),      q = s (1 - s)   (even in u),      r^2 = 1 - 4 q.

In these generators an expression is either u/2 plus an even function, or 1/2 times an integer plus
an odd one, so its value at u > 0 follows from its value at -u, where exp(u) is small and nothing is
lost to 1 - s. Here is only algebra on Python integers; nothing here knows about arrays.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rctaf_jax.errors import InputError

Monomial = tuple[int, ...]


@dataclass(frozen=True)
class Polynomial:
    """Integer polynomial: sorted pairs of exponents (one for each generator) and coefficient.

    Build it with `Polynomial.of`, which adds equal monomials and drops zeros, so that equal
    polynomials are equal objects and can be static arguments.

    Example:
      >>> x = Polynomial.of([((1,), 1)])
      >>> x * x + x.scaled(3)
      Polynomial(terms=(((1,), 3), ((2,), 1)))
    """

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def of(cls, terms: Iterable[tuple[Monomial, int]]) -> "Polynomial":
        """Collects equal monomials, drops zero coefficients and sorts."""
        total: dict[Monomial, int] = defaultdict(int)
        for monomial, coefficient in terms:
            total[monomial] += coefficient
        return cls(tuple(sorted((m, c) for m, c in total.items() if c)))

    def __add__(self, other: "Polynomial") -> "Polynomial":
        """Sum."""
        return Polynomial.of(self.terms + other.terms)

    def __mul__(self, other: "Polynomial") -> "Polynomial":
        """Product."""
        return Polynomial.of(
            (tuple(i + j for i, j in zip(m, n, strict=True)), c * d)
            for m, c in self.terms
            for n, d in other.terms
        )

    def scaled(self, factor: int) -> "Polynomial":
        """Product with an integer."""
        return Polynomial.of((m, c * factor) for m, c in self.terms)


def derive(polynomial: Polynomial, derivatives: Sequence[Polynomial]) -> Polynomial:
    """Derivative by Leibniz's rule, given the derivative of each generator.

    Args:
      polynomial: in generators y_0, y_1, ...
      derivatives: y_0', y_1', ... as polynomials in the same generators.

    Example, sigmoid' = sigmoid - sigmoid^2, so (sigmoid^2)' = 2 sigmoid^2 - 2 sigmoid^3:
      >>> slope = Polynomial.of([((1,), 1), ((2,), -1)])
      >>> derive(Polynomial.of([((2,), 1)]), [slope])
      Polynomial(terms=(((2,), 2), ((3,), -2)))
    """
    pieces: list[tuple[Monomial, int]] = []
    for monomial, coefficient in polynomial.terms:
        for i, power in enumerate(monomial):
            if power:
                lowered = tuple(p - (i == j) for j, p in enumerate(monomial))
                pieces += (Polynomial(((lowered, coefficient * power),)) * derivatives[i]).terms
    return Polynomial.of(pieces)


def horner(polynomial: Polynomial, values: Sequence[Any]) -> Any:
    """Value by nested Horner schemes, the first generator outermost.

    Works for anything that has `+`, `*` and `**` with an int: floats, NumPy and JAX arrays.
    Coefficients enter as floats, because JAX refuses Python integers beyond 32 bits.

    Example, 1 + 2 x y + 3 x^2 at x = 2, y = 5:
      >>> horner(Polynomial.of([((0, 0), 1), ((1, 1), 2), ((2, 0), 3)]), (2.0, 5.0))
      33.0
    """
    if not values:
        return float(sum(coefficient for _, coefficient in polynomial.terms))
    by_power: dict[int, list[tuple[Monomial, int]]] = defaultdict(list)
    for monomial, coefficient in polynomial.terms:
        by_power[monomial[0]].append((monomial[1:], coefficient))
    powers = sorted(by_power, reverse=True)
    factors = [horner(Polynomial(tuple(by_power[power])), values[1:]) for power in powers]
    if not factors:
        return 0.0
    # No power 0 and no leading zero: XLA would keep such an operation on floats.
    total = factors[0]
    for previous, power, factor in zip(powers, powers[1:], factors[1:], strict=False):
        total = total * values[0] ** (previous - power) + factor
    return total * values[0] ** powers[-1] if powers[-1] else total


# Generators of the family's ring, in the order of the exponents.
SOFTPLUS, SIGMOID, U, R, Q = range(5)


def _monomial(coefficient: int, **powers: int) -> Polynomial:
    names = ("softplus", "sigmoid", "u", "r", "q")
    return Polynomial(((tuple(powers.get(name, 0) for name in names), coefficient),))


_DERIVATIVES = (
    _monomial(1, sigmoid=1),  # softplus' = s
    _monomial(1, q=1),  # s' = q
    _monomial(1),  # u' = 1
    _monomial(-2, q=1),  # r' = -2 q
    _monomial(1, r=1, q=1),  # q' = r q
)


def _reduced(polynomial: Polynomial) -> Polynomial:
    """Normal form: r^2 = 1 - 4 q leaves r with exponent 0 or 1, and a unique representation."""
    low = Polynomial.of(t for t in polynomial.terms if t[0][R] < 2)
    high = [t for t in polynomial.terms if t[0][R] >= 2]
    if not high:
        return low
    lowered = Polynomial.of(
        (tuple(p - 2 * (i == R) for i, p in enumerate(monomial)), coefficient)
        for monomial, coefficient in high
    )
    return low + _reduced(lowered + lowered * _monomial(-4, q=1))


@functools.cache
def differentiate(polynomial: Polynomial) -> Polynomial:
    """Derivative in u of a polynomial of the family's ring (softplus, s, u, r, q)."""
    return _reduced(derive(polynomial, _DERIVATIVES))


@functools.cache
def euler(polynomial: Polynomial) -> Polynomial:
    """The recursion of the family, (.)' u: maps g_beta to g_{beta+1}."""
    return differentiate(polynomial) * _monomial(1, u=1)


def rct_polynomial(beta: int, order: int = 0) -> Polynomial:
    """g_beta^(order), exactly: the polynomials behind equations (1) to (6).

    Args:
      beta: number of applications of the recursion, an int >= 0.
      order: number of derivatives in u, an int >= 0.

    Returns:
      Polynomial with exponents of (softplus, s, u, r, q).

    Raises:
      InputError: beta or order is not an int >= 0.

    Example, g_1'' = 2 q + u r q, which is equation (4) at alpha = 1:
      >>> rct_polynomial(1, 2)
      Polynomial(terms=(((0, 0, 0, 0, 1), 2), ((0, 0, 1, 1, 1), 1)))
    """
    check_index("beta", beta)
    check_index("order", order)
    # The steps are cached, not this function: a cache takes 1.0 and True for 1.
    result = _monomial(1, softplus=1)
    for step in [euler] * beta + [differentiate] * order:
        result = step(result)
    return result


def check_index(name: str, value: object) -> None:
    """Raises InputError unless `value` is a Python int >= 0 (a bool is none).

    Example:
      >>> check_index("beta", 2)
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{name} is {value!r}; it must be an int >= 0.")


class SplitPolynomial(NamedTuple):
    """A polynomial of the family's ring, sorted by behaviour: see `split`."""

    softplus: int
    sigmoid: int
    sigmoid_u: int
    decaying: Polynomial  # in (r, u, q), to be multiplied by q
    is_odd: bool


def split(polynomial: Polynomial) -> SplitPolynomial:
    """Sorts c softplus + d s + e u s + q P(r, u, q) into c, d, e and P.

    The parity is that of q P; softplus - u/2 and u s - u/2 are even like their partners, s - 1/2 is
    odd like its partners, so an expression never mixes the two.

    Example, g_1' = s + u q is odd up to its constant 1/2:
      >>> parts = split(rct_polynomial(1, 1))
      >>> parts.sigmoid, parts.decaying.terms, parts.is_odd
      (1, (((0, 1, 0), 1),), True)
    """
    terms = dict(polynomial.terms)
    linear = [terms.pop(m, 0) for m in ((1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 1, 1, 0, 0))]
    decaying = Polynomial.of(((m[R], m[U], m[Q] - 1), c) for m, c in terms.items())
    is_odd = bool(linear[1]) or any((m[R] + m[U]) % 2 for m in terms)
    return SplitPolynomial(linear[0], linear[1], linear[2], decaying, is_odd)


def largest_value(decaying: Polynomial, limit: int) -> int:
    """Bound on |P(r, u, q)| for |u| <= limit, where |r| <= 1 and 0 <= q <= 1.

    Example:
      >>> largest_value(split(rct_polynomial(1, 2)).decaying, 10)
      12
    """
    return sum(abs(coefficient) * limit ** monomial[1] for monomial, coefficient in decaying.terms)
