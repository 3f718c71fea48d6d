"""Programs over several devices: the only file that calls `jax.pmap`.

A program maps a leading device axis; inside it, `AXIS` names that axis for gradient means and
synchronised BatchNorm statistics. Another wrapper (`jax.shard_map`) is this file's change alone.

Among several processes each sees the slices of its own devices; `AXIS` spans the devices of all.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from rctaf_jax.errors import InputError

AXIS = "devices"


def data_parallel(
    function: Callable[..., PyTree],
    devices: Sequence[jax.Device],
    *,
    num_arguments: int,
    shared: tuple[int, ...] = (),
) -> Callable[..., PyTree]:
    """Run `function` on every device at once, with `AXIS` bound.

    Args:
      function: a pure function of `num_arguments` pytrees; its first argument's buffers are reused.
      devices: where it runs; among several processes, the devices of all of them.
      num_arguments: how many positional arguments it takes.
      shared: arguments that every device receives whole; the others carry a leading device axis.

    Returns:
      The mapped function; every output carries a leading device axis.
    """
    in_axes = tuple(None if index in shared else 0 for index in range(num_arguments))
    return jax.pmap(
        function, axis_name=AXIS, in_axes=in_axes, devices=list(devices), donate_argnums=(0,)
    )


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Give every leaf a leading device axis of equal copies, one on each device."""
    return place_slices(_copies(tree, len(devices)), devices)


@functools.partial(jax.jit, static_argnums=1)
def _copies(tree: PyTree, number: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * number), tree)


def place_slices(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Place slice d of every leaf's leading axis on device d."""
    mesh = jax.sharding.Mesh(list(devices), (AXIS,))
    return jax.device_put(tree, jax.NamedSharding(mesh, jax.P(AXIS)))


def sum_slices(tree: PyTree, device: jax.Device) -> PyTree:
    """Add up the slices of every leaf's leading axis on one device, in the order of the devices."""
    num_slices = len(jax.tree.leaves(tree)[0].addressable_shards)
    slices = [
        jax.tree.map(lambda leaf, index=index: leaf.addressable_data(index), tree)
        for index in range(num_slices)
    ]
    return _sum(jax.device_put(slices, device))


@jax.jit
def _sum(slices: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: functools.reduce(jnp.add, leaves)[0], *slices)


def local(tree: PyTree) -> PyTree:
    """The slices of this process's devices, along the leading axis, as host arrays."""

    def slices(leaf: jax.Array) -> np.ndarray:
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.asarray(shard.data) for shard in shards])

    return jax.tree.map(slices, tree)


def first(tree: PyTree) -> PyTree:
    """One device's copy of a replicated tree, as host arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)


def gather_processes(values: np.ndarray) -> np.ndarray:
    """The values of all processes, stacked; all wait for one another."""
    if jax.process_count() == 1:
        return np.asarray(values)[None]
    return np.asarray(multihost_utils.process_allgather(values))


def gather_bytes(content: bytes) -> list[bytes]:
    """The bytes of all processes, in their order; all wait for one another."""
    lengths = gather_processes(np.asarray(len(content), np.int32))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    rows = gather_processes(padded)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def check_divides(batch_size: int, num_devices: int) -> None:
    """Refuse a batch that cannot be shared equally.

    Raises:
      InputError: if `num_devices` does not divide `batch_size`.
    """
    if batch_size % num_devices:
        raise InputError(
            f"batch size {batch_size} cannot be shared equally by {num_devices} devices: "
            f"give a multiple of {num_devices}."
        )
