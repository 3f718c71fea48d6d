"""Hessian-vector products over a dataset, in minibatches.

    H v = d/dt grad L(theta + t v) at t = 0,      L(theta) = (1/N) sum_n loss_n(theta),

forward over reverse: one gradient's tangent, so its cost does not depend on H's size. Of a
function without forward mode (`jax.custom_vjp`, a program of `jax.export`) it is the gradient of
<grad L, v>, the same by symmetry and somewhat dearer. L is a mean over examples only if they do not
interact: BatchNorm must be in inference mode.

Several devices share each batch, and their sums are added up on the first.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax import parallel
from rctaf_jax.batching import Images, Labels, PaddedBatch, padded_batches, pixels
from rctaf_jax.errors import InputError

from .leaves import check_params, check_scalar

Params = Any
Rest = Any
ScalarLoss = Callable[[Params], Float[Array, ""]]
Product = Callable[[Params], Params]
LossFn = Callable[
    [Params, Rest, Float[Array, "B H W C"], Int[Array, " B"]],
    Float[Array, " B"],
]


@dataclass(frozen=True)
class DatasetSum:
    """A sum over a dataset, as a function of a vector: `product(vector)`.

    Attributes:
      total: the function.
      num_bytes: `num_bytes(vector)`, what the compiler plans for the intermediate results of one
          batch on each device; None where it does not say. It compiles, once for both.
    """

    total: Callable[[Any], Any]
    num_bytes: Callable[[Any], int | None]

    def __call__(self, vector: Any) -> Any:
        """The sum."""
        return self.total(vector)


def hessian_vector_product(
    loss: ScalarLoss, params: Params, vector: Params, *, is_reverse: bool = False
) -> Params:
    """H v for the Hessian of a scalar function of a pytree.

    Args:
      loss: from params to a scalar, twice differentiable.
      params: where to take the Hessian.
      vector: v, of the structure and shapes of params, whose types it is given.
      is_reverse: reverse over reverse, for a loss without forward mode.

    Returns:
      H v, like params.

    Raises:
      InputError: if the loss is not one floating-point number, or params have no entries or other
          types than floating-point ones.

    Example:
      >>> x = jnp.array([1.0, 2.0])
      >>> print(hessian_vector_product(lambda x: jnp.sum(x**3), x, jnp.ones(2)))
      [ 6. 12.]
    """
    params = check_params(params)
    check_scalar(loss, params)
    vector = jax.tree.map(lambda v, p: jnp.asarray(v, jnp.result_type(p)), vector, params)
    gradient = jax.grad(loss)
    if is_reverse:
        return jax.vjp(gradient, params)[1](vector)[0]
    return jax.jvp(gradient, (params,), (vector,))[1]


def make_dataset_product(
    loss_fn: LossFn,
    *,
    batch_size: int,
    devices: Sequence[jax.Device] | None = None,
    is_reverse: bool = False,
) -> Callable[[Params, Rest, Images, Labels], DatasetSum]:
    """Makes Hessian-vector products of the mean loss over a dataset.

    Minibatches are added up by their number of examples, so the result does not depend on how the
    dataset is split, nor on the number of devices, up to rounding. One program, compiled once,
    serves all networks, datasets and vectors of the same shapes; it runs at the highest matmul
    precision.

    Args:
      loss_fn: `loss_fn(params, rest, images, labels)` to one loss per example, B of them. It
          must use BatchNorm in **inference mode**: in training mode examples interact, and there
          is no Hessian of a mean over a dataset (`checks.check_independent` finds out).
          `rest` is whatever else the network needs (statistics, alpha), and stays constant.
      batch_size: examples at a time, over all devices; the last batch is padded, with weight 0.
      devices: local devices that share each batch; None takes the default one.
      is_reverse: as for `hessian_vector_product`.

    Returns:
      `bind(params, rest, images, labels)`, which puts the dataset on the devices (uint8 stays
      uint8 there) and returns `product(vector)`, whose result is on the first of them. It raises
      `InputError` if images, labels or params are not allowed.

    Raises:
      InputError: if there is no device, or their number does not divide batch_size.

    Example, a linear model with the squared loss, whose Hessian is (2/N) sum x x^T:
      >>> bind = make_dataset_product(
      ...     lambda w, rest, x, y: (x.reshape(-1, 2) @ w - y) ** 2, batch_size=2
      ... )
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).reshape(3, 1, 1, 2)
      >>> product = bind(jnp.zeros(2), (), x, jnp.arange(3))
      >>> print(3 * product(jnp.array([1.0, 0.0])))
      [4. 2.]
    """
    term = functools.partial(hessian_vector_product, is_reverse=is_reverse)
    return make_dataset_sum(
        term, _zeros_like_params, loss_fn, batch_size=batch_size, devices=devices
    )


def make_dataset_gradient(
    loss_fn: LossFn, *, batch_size: int, devices: Sequence[jax.Device] | None = None
) -> Callable[[Params, Rest, Images, Labels], Params]:
    """Makes the gradient of the mean loss over a dataset, split as the products are.

    Args:
      loss_fn: as for `make_dataset_product`.
      batch_size: examples at a time, over all devices.
      devices: local devices that share each batch; None takes the default one.

    Returns:
      `gradient(params, rest, images, labels)`, like params. It raises `InputError` if images or
      labels are not allowed.

    Raises:
      InputError: if there is no device, or their number does not divide batch_size.
    """

    def batch_gradient(loss: ScalarLoss, params: Params, no_vector: None) -> Params:
        return jax.grad(loss)(params)

    bind = make_dataset_sum(
        batch_gradient, _zeros_like_params, loss_fn, batch_size=batch_size, devices=devices
    )

    def gradient(params: Params, rest: Rest, images: Images, labels: Labels) -> Params:
        return bind(params, rest, images, labels)(None)

    return gradient


def _zeros_like_params(params: Params, _: Any) -> Params:
    return jax.tree.map(jnp.zeros_like, params)


class _Placement(NamedTuple):
    """Where batches are added up.

    Attributes:
      add_batch: the compiled sum.
      whole: a tree, to every device.
      shared: a batch, a part to each device.
      collect: the devices' sums, added up.
    """

    add_batch: Any
    whole: Callable[[Params], Params]
    shared: Callable[[PaddedBatch], PaddedBatch]
    collect: Callable[[Params], Params]


def _on_default_device(add_batch: Callable[..., Params]) -> _Placement:
    return _Placement(jax.jit(add_batch), _same, _same, _same)


def _same(tree: Any) -> Any:
    return tree


def _on_devices(
    add_batch: Callable[..., Params], batch_size: int, devices: Sequence[jax.Device]
) -> _Placement:
    if not devices:
        raise InputError("got no devices: expected at least one, or None for the default one")
    parallel.check_divides(batch_size, len(devices))

    def shared(batch: PaddedBatch) -> PaddedBatch:
        parts = jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), batch)
        return parallel.place_slices(parts, devices)

    return _Placement(
        # rest and the number of examples, which may be Python's numbers, keep their weak types.
        parallel.data_parallel(add_batch, devices, num_arguments=6, shared=(2, 5)),
        lambda tree: parallel.replicate(tree, devices),
        shared,
        lambda totals: parallel.sum_slices(totals, devices[0]),
    )


def _make_add_batch(
    term: Callable[[ScalarLoss, Params, Any], Any], loss_fn: LossFn
) -> Callable[..., Any]:
    """Adds one batch's term to a total."""

    def add_batch(
        total: Any,
        params: Params,
        rest: Rest,
        vector: Any,
        batch: PaddedBatch,
        num_examples: Float[Array, ""],
    ) -> Any:
        def share(params: Params) -> Float[Array, ""]:
            each = loss_fn(params, rest, pixels(batch.images), batch.labels)
            if each.shape != batch.labels.shape:
                raise InputError(
                    f"got losses of shape {each.shape} for {len(batch.labels)} examples: expected "
                    "one for each, not their mean"
                )
            return jnp.sum(jnp.where(batch.is_real, each, 0)) / num_examples

        with jax.default_matmul_precision("highest"):
            return jax.tree.map(jnp.add, total, term(share, params, vector))

    return add_batch


def make_dataset_sum(
    term: Callable[[ScalarLoss, Params, Any], Any],
    zeros: Callable[[Params, Any], Any],
    loss_fn: LossFn,
    *,
    batch_size: int,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[Params, Rest, Images, Labels], DatasetSum]:
    """Makes anything that adds up over batches, such as a product with the mean loss's Hessian.

    Args:
      term: `term(loss, params, vector)` for the loss of one batch's share of the mean: every
          batch's sum divided by N. Linear in the loss.
      zeros: `zeros(params, vector)`, the sum of no terms.
      loss_fn, batch_size, devices: as for `make_dataset_product`.

    Returns:
      `bind(params, rest, images, labels)`, which returns `total(vector)`.

    Raises:
      InputError: as `make_dataset_product` does.
    """

    add_batch, zeros = _make_add_batch(term, loss_fn), jax.jit(zeros)
    if devices is None:
        place = _on_default_device(add_batch)
    else:
        place = _on_devices(add_batch, batch_size, devices)

    def bind(params: Params, rest: Rest, images: Images, labels: Labels) -> DatasetSum:
        params = check_params(params)
        batches = padded_batches(images, labels, batch_size=batch_size)
        parts, whole_params = [place.shared(batch) for batch in batches], place.whole(params)

        def sum_over_batches(vector: Any) -> Any:
            total = place.whole(zeros(params, vector))
            whole_vector = place.whole(vector)
            for part in parts:
                total = place.add_batch(
                    total, whole_params, rest, whole_vector, part, float(len(labels))
                )
            return place.collect(total)

        def num_bytes(vector: Any) -> int | None:
            total, whole_vector = place.whole(zeros(params, vector)), place.whole(vector)
            program = place.add_batch.lower(
                total, whole_params, rest, whole_vector, parts[0], float(len(labels))
            )
            memory = program.compile().memory_analysis()
            return None if memory is None else int(memory.temp_size_in_bytes)

        return DatasetSum(sum_over_batches, num_bytes)

    return bind
