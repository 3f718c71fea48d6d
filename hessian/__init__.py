"""Curvature of a loss: diagonals, traces, spectra, their parts, sharpness."""

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
from .sharpness import (
    Sharpness,
    adaptive_size,
    keskar_sharpness,
    keskar_size,
    plain_size,
    sam_sharpness,
)
from .slices import filter_normalised_direction, loss_slice
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
    "Sharpness",
    "adaptive_size",
    "appendix_diagonal",
    "check_deterministic",
    "check_independent",
    "coordinates",
    "density",
    "estimate",
    "exact_diagonal",
    "exact_estimate",
    "extreme_eigenvalues",
    "filter_normalised_direction",
    "forward",
    "full_matrix_recursion",
    "gauss_newton_loss",
    "gauss_newton_losses",
    "gauss_newton_product",
    "hessian_vector_product",
    "hidden_terms",
    "init",
    "keskar_sharpness",
    "keskar_size",
    "layers_from_mlp",
    "literal_norm_from_diagonal",
    "loss_slice",
    "make_dataset_entries",
    "make_dataset_gradient",
    "make_dataset_product",
    "merge",
    "mlp_from_layers",
    "neuron_diagonal",
    "paper_recursion",
    "path_sum",
    "plain_size",
    "relative_error",
    "residual_loss",
    "residual_losses",
    "residual_product",
    "rms_from_diagonal",
    "run",
    "sam_sharpness",
    "single_hidden_layer_diagonal",
    "squared_error",
    "trace",
    "update",
    "xdiag",
]
