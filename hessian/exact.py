"""The exact diagonal of a Hessian by basis vectors, for networks of up to some 10^4 parameters.

    H_kk = e_k^T H e_k,      one Hessian-vector product for each parameter.

For any loss and any network; the reference for everything else.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from rctaf_jax.batching import Images, Labels
from rctaf_jax.errors import InputError

from .leaves import check_params, check_scalar
from .products import DatasetSum, LossFn, Params, Rest, ScalarLoss, make_dataset_sum

LARGEST_CHUNK = 64
CHUNK_BYTES = 2**28

Indices = Int[np.ndarray, " k"]
Restore = Callable[[Float[Array, " p"]], Params]


def exact_diagonal(
    loss: ScalarLoss,
    params: Params,
    *,
    parameters: Indices | None = None,
    chunk_size: int | None = None,
) -> Params:
    """The diagonal of the Hessian of a scalar function of a pytree, or some of its entries.

    The gradient is linearised once and applied to `chunk_size` basis vectors at a time. Float32
    gives about six digits; in `jax.enable_x64` with float64 params it is exact to rounding. Each
    call compiles; to take many diagonals of one form, wrap the call in `jax.jit`.

    Args:
      loss: from params to a scalar, twice differentiable.
      params: where to take the Hessian; p parameters of floating-point types.
      parameters: which entries, as indices into `ravel_pytree(params)[0]`; None takes all. For
          the true entries of a tree of booleans: `np.flatnonzero(ravel_pytree(mask)[0])`.
      chunk_size: products at a time, at most: memory is that of a gradient times this number.
          The result does not depend on it, up to rounding. None takes 64, or fewer where 64
          vectors of the size of params exceed 256 MB.

    Returns:
      H_kk, like params; with `parameters` one vector of the entries in their order.

    Raises:
      InputError: if chunk_size is less than 1, params have no entries or other types,
          parameters are no such indices, or the loss is not scalar.

    Example:
      >>> def loss(w):
      ...     return w["a"] ** 3 * w["b"]
      >>> diagonal = exact_diagonal(loss, {"a": 2.0, "b": 5.0})
      >>> float(diagonal["a"]), float(diagonal["b"])
      (60.0, 0.0)
      >>> print(exact_diagonal(loss, {"a": 2.0, "b": 5.0}, parameters=np.array([0])))
      [60.]
    """
    flat, restore, indices, chunk = _plan(params, parameters, chunk_size)
    check_scalar(loss, params)
    entries = _make_entries(loss, restore, chunk)(flat, indices)
    return restore(entries) if parameters is None else entries


def make_dataset_entries(
    loss_fn: LossFn,
    *,
    batch_size: int,
    chunk_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[Params, Rest, Images, Labels], DatasetSum]:
    """Makes exact diagonal entries of the mean loss over a dataset, in minibatches.

    As `exact_diagonal`, for data that do not fit in one batch, some entries at a time: each call
    linearises the gradient of every batch once. Compiled once for each number of entries.

    Args:
      loss_fn, batch_size, devices: as for `make_dataset_product`.
      chunk_size: as for `exact_diagonal`.

    Returns:
      `bind(params, rest, images, labels)`, which returns `entries(parameters)`: H_kk for each
      index k into `ravel_pytree(params)[0]`.

    Raises:
      InputError: as `make_dataset_product` does, or if chunk_size is less than 1.

    Example, f = w x with the squared loss:
      >>> bind = make_dataset_entries(
      ...     lambda w, rest, x, y: (x.reshape(-1, 2) @ w - y) ** 2, batch_size=2
      ... )
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).reshape(3, 1, 1, 2)
      >>> print(3 * bind(jnp.zeros(2), (), x, jnp.arange(3))(np.array([1, 0])))
      [4. 4.]
    """

    def batch_entries(
        loss: ScalarLoss, params: Params, indices: Int[Array, " k"]
    ) -> Float[Array, " k"]:
        flat, restore = ravel_pytree(params)
        chunk = fitting_chunk(chunk_size, indices.size, flat.size * flat.dtype.itemsize)
        return _entries(loss, restore, chunk, flat, indices)

    def zeros(params: Params, indices: Int[Array, " k"]) -> Float[Array, " k"]:
        return jnp.zeros(len(indices), jnp.result_type(*jax.tree.leaves(params)))

    return make_dataset_sum(batch_entries, zeros, loss_fn, batch_size=batch_size, devices=devices)


def fitting_chunk(chunk_size: int | None, num_products: int, vector_bytes: int) -> int:
    """How many products to run at a time: as many as allowed, but all chunks nearly alike.

    Args:
      chunk_size: the most; None is up to 64 whose vectors take 256 MB.
      num_products: how many there are in all.
      vector_bytes: the size of one product's vector.

    Raises:
      InputError: if chunk_size is less than 1.

    Example:
      >>> fitting_chunk(None, 1000, 2**25), fitting_chunk(None, 10, 4), fitting_chunk(8, 10, 4)
      (8, 10, 5)
    """
    if chunk_size is None:
        chunk_size = max(1, min(LARGEST_CHUNK, CHUNK_BYTES // vector_bytes))
    if chunk_size < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}")
    return ceil_ratio(num_products, ceil_ratio(num_products, chunk_size))


def ceil_ratio(count: int, size: int) -> int:
    """How many groups of a size hold so many things.

    Example:
      >>> ceil_ratio(10, 4)
      3
    """
    return -(-count // size)


def map_in_chunks(
    function: Callable[[Int[Array, ""]], Float[Array, "*shape"]],
    indices: Int[Array, " k"] | Indices,
    chunk_size: int,
) -> Float[Array, "k *shape"]:
    """The function at each index, `chunk_size` of them at a time.

    The last chunk is filled up with index 0, since a shorter one would be compiled for itself.

    Example:
      >>> print(map_in_chunks(lambda k: k**2, jnp.arange(5), 2))
      [ 0  1  4  9 16]
    """
    num_chunks = ceil_ratio(len(indices), chunk_size)
    padded = jnp.pad(indices, (0, num_chunks * chunk_size - len(indices)))
    values = jax.lax.map(jax.vmap(function), padded.reshape(num_chunks, chunk_size))
    return values.reshape(-1, *values.shape[2:])[: len(indices)]


def _plan(
    params: Params, parameters: Indices | None, chunk_size: int | None
) -> tuple[Float[Array, " p"], Restore, Indices, int]:
    flat, restore = ravel_pytree(check_params(params))
    indices = np.arange(flat.size) if parameters is None else np.asarray(parameters)
    is_list = indices.ndim == 1 and indices.size and np.issubdtype(indices.dtype, np.integer)
    if not (is_list and indices.min() >= 0 and indices.max() < flat.size):
        raise InputError(
            f"got parameters of shape {indices.shape} and type {indices.dtype}: expected a list "
            f"of at least one index from 0 to {flat.size - 1}"
        )
    chunk = fitting_chunk(chunk_size, indices.size, flat.size * flat.dtype.itemsize)
    return flat, restore, indices, chunk


def _make_entries(loss: ScalarLoss, restore: Restore, chunk_size: int) -> jax.stages.Wrapped:
    """Compiles (params as one vector, k indices) to the k entries."""

    @jax.jit
    def entries(flat: Float[Array, " p"], indices: Int[Array, " k"]) -> Float[Array, " k"]:
        with jax.default_matmul_precision("highest"):
            return _entries(loss, restore, chunk_size, flat, indices)

    return entries


def _entries(
    loss: ScalarLoss,
    restore: Restore,
    chunk_size: int,
    flat: Float[Array, " p"],
    indices: Int[Array, " k"],
) -> Float[Array, " k"]:
    _, product = jax.linearize(jax.grad(lambda flat: loss(restore(flat))), flat)

    def entry(k: Int[Array, ""]) -> Float[Array, ""]:
        return product(jax.nn.one_hot(k, flat.size, dtype=flat.dtype))[k]

    return map_in_chunks(entry, indices, chunk_size)
