"""What an ensemble is given, looked at before anything is attacked."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rctaf_jax.batching import Images, Labels, check_examples
from rctaf_jax.errors import InputError
from rctaf_jax.eval.verdict import NetworkVariables
from rctaf_jax.values import kind_of

from .pool import Ask


def checked_examples(images: Images, labels: Labels) -> tuple[Any, Any]:
    """Images and labels as arrays; lists may stand for them.

    Raises:
      InputError: as `check_examples` does, and for labels that 32 bits do not hold.
    """
    images = images if hasattr(images, "dtype") else np.asarray(images)
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    check_examples(images, labels)
    low, high = int(labels.min()), int(labels.max())
    if not np.iinfo(np.int32).min <= low <= high <= np.iinfo(np.int32).max:
        raise InputError(f"got labels from {low} to {high}: expected class indices from 0")
    return images, labels


def example_keys(
    key: Array, images: Float[np.ndarray, "N H W C"], labels: Int[np.ndarray, " N"]
) -> Array:
    """A key for each example, from what it is and not from where it stands.

    Args:
      key: of the whole attack.
      images, labels: the examples; equal ones get equal keys.
    """
    contents = zip(np.asarray(images, np.float32), labels.tolist(), strict=True)
    digests = [hashlib.sha256(image.tobytes() + b"%d" % label) for image, label in contents]
    words = np.array([np.frombuffer(digest.digest()[:8], "<u4") for digest in digests])
    return jax.vmap(lambda word: jax.random.fold_in(jax.random.fold_in(key, word[0]), word[1]))(
        jnp.asarray(words)
    )


def check_outputs(
    ask: Ask,
    variables: NetworkVariables,
    images: Float[np.ndarray, "N H W C"],
    keys: Array,
    labels: Int[np.ndarray, " N"],
) -> int:
    """The number of classes, if the outputs have the right shape and the labels fit."""
    try:
        answer = jax.eval_shape(ask, variables, jnp.asarray(images[:1]), keys[:1])
    except Exception as error:
        if type(error).__name__ != "TraceContextError":  # Flax NNX's
            raise
        raise InputError(
            "the network changes an NNX module from within a function that is compiled, as "
            "nnx.jit's are: pass the module without nnx.jit, in evaluation mode (model.eval())."
        ) from error
    shape = getattr(answer, "shape", None)
    if shape is None:
        raise InputError(
            f"the network returns {kind_of(answer)}: expected logits alone, of shape "
            "(batch, classes)"
        )
    if len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
        raise InputError(
            f"the network's output for one image has shape {shape}: expected (1, classes) with at "
            "least 2 classes"
        )
    if labels.min() < 0 or labels.max() >= shape[1]:
        raise InputError(
            f"got labels from {labels.min()} to {labels.max()}: the network has classes 0 to "
            f"{shape[1] - 1}"
        )
    return shape[1]


def precision_of(
    logits_fn: Callable[..., Any],
    variables: NetworkVariables,
    images: Float[np.ndarray, "N H W C"],
    keys: Array,
    is_random: bool,
) -> float:
    """Machine epsilon of the type in which the network gives its answers."""
    more = (keys[:1],) if is_random else ()
    answer = jax.eval_shape(logits_fn, variables, jnp.asarray(images[:1]), *more)
    return float(jnp.finfo(answer.dtype).eps)


def widened(logits: Array) -> Array:
    """In float32 at least, since a loss in 16 bits is rounded, and files do not know bfloat16."""
    logits = jnp.asarray(logits)  # a network may return what is none: see `check_outputs`
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
