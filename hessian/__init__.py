"""Hessian diagonals: exactly for small networks, by random probes for large ones."""

from .checks import check_deterministic, check_independent
from .estimates import Estimate, MeanSquare, estimate
from .exact import exact_diagonal
from .hutchinson import HutchinsonState, init, merge, run, update
from .norm import literal_norm_from_diagonal, rms_from_diagonal
from .products import hessian_vector_product, make_dataset_gradient, make_dataset_product

__all__ = [
    "Estimate",
    "HutchinsonState",
    "MeanSquare",
    "check_deterministic",
    "check_independent",
    "estimate",
    "exact_diagonal",
    "hessian_vector_product",
    "init",
    "literal_norm_from_diagonal",
    "make_dataset_gradient",
    "make_dataset_product",
    "merge",
    "rms_from_diagonal",
    "run",
    "update",
]
