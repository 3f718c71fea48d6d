"""Hessian diagonals: exactly for small networks, by random probes for large ones."""

from . import coordinates, density, trace, xdiag
from .appendix import DiagonalParts, appendix_diagonal, single_hidden_layer_diagonal
from .appendix_terms import (
    HiddenTerms,
    full_matrix_recursion,
    hidden_terms,
    paper_recursion,
    path_sum,
)
from .checks import check_deterministic, check_independent
from .dense import Layer, forward, layers_from_mlp, mlp_from_layers, squared_error
from .eigenvalues import Eigenpairs, Eigenvalues, extreme_eigenvalues
from .estimates import HessianEstimate, MeanSquare, estimate, exact_estimate, relative_error
from .exact import exact_diagonal, make_dataset_entries
from .hutchinson import run, update
from .neurons import neuron_diagonal
from .norm import literal_norm_from_diagonal, rms_from_diagonal
from .products import hessian_vector_product, make_dataset_gradient, make_dataset_product
from .split import (
    gauss_newton_loss,
    gauss_newton_losses,
    gauss_newton_product,
    residual_loss,
    residual_losses,
    residual_product,
)
from .sums import DiagonalSums, init, merge

__all__ = [
    "DiagonalParts",
    "DiagonalSums",
    "Eigenpairs",
    "Eigenvalues",
    "HessianEstimate",
    "HiddenTerms",
    "Layer",
    "MeanSquare",
    "appendix_diagonal",
    "check_deterministic",
    "check_independent",
    "coordinates",
    "density",
    "estimate",
    "exact_diagonal",
    "exact_estimate",
    "extreme_eigenvalues",
    "forward",
    "full_matrix_recursion",
    "gauss_newton_loss",
    "gauss_newton_losses",
    "gauss_newton_product",
    "hessian_vector_product",
    "hidden_terms",
    "init",
    "layers_from_mlp",
    "literal_norm_from_diagonal",
    "make_dataset_entries",
    "make_dataset_gradient",
    "make_dataset_product",
    "merge",
    "mlp_from_layers",
    "neuron_diagonal",
    "paper_recursion",
    "path_sum",
    "relative_error",
    "residual_loss",
    "residual_losses",
    "residual_product",
    "rms_from_diagonal",
    "run",
    "single_hidden_layer_diagonal",
    "squared_error",
    "trace",
    "update",
    "xdiag",
]
