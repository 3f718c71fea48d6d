"""A model of one's own: Flax Linen, Flax NNX, Equinox, or any pair of functions.

    @nnx_model
    def small(image_shape, num_classes, activation, rngs):
        return Small(image_shape, num_classes, activation, rngs=rngs)

    register_model("small", small)

After that "small" is a name like "resnet18": it trains by any method, sweeps, is attacked and
measured. On the command line `package.module:small` is a name, too. The module calls `activation`,
which the run chooses, wherever it bends; that the run's curvature is the network's rests on it.

Parameters and statistics are kept as nested dicts of arrays whatever the framework's own trees are,
so that checkpoints and files of weights open without it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError
from rctaf_jax.plugins import describe_error
from rctaf_jax.values import shortened

Elementwise = Callable[[Array], Array]
Images = Float[Array, "batch height width channels"]
ImageShape = tuple[int, int, int]
Parts = dict[str, Any]
"""`params`, and `batch_stats` where there are some: nested dicts of arrays."""


class Build(Protocol):
    """A network for images and classes, calling `activation` wherever it bends."""

    def __call__(
        self, image_shape: ImageShape, num_classes: int, activation: Elementwise, *source: Any
    ) -> Any:
        """Builds it.

        Args:
          image_shape: (height, width, channels).
          num_classes: number of logits.
          activation: of an array, entry by entry; its sharpness is within.
          source: of random numbers: NNX's `rngs`, or Equinox's `key`; nothing for the others.
        """


class OwnModel(NamedTuple):
    """A model of one's own, as pure functions.

    Attributes:
      init: (key, image_shape, num_classes, activation) to `params` and `batch_stats`.
      apply: (parts, images, train, num_classes, activation) to the logits, and `batch_stats` after
          the call.
    """

    init: Callable[[Array, ImageShape, int, Elementwise], Parts]
    apply: Callable[[Parts, Images, bool, int, Elementwise], tuple[Array, Any]]


class OwnModelError(Exception):
    """What a model of one's own has or does that is not provided for, after "model NAME"."""


def function_model(build: Build) -> OwnModel:
    """A model from functions: `build(image_shape, num_classes, activation)` gives (init, apply).

    `init(key)` makes a dict with "params", any tree of arrays, and "batch_stats" where some are
    moved in training; `apply(variables, images, train)` gives the logits, or the logits and the
    variables after the call.
    """

    def init(
        key: Array, image_shape: ImageShape, num_classes: int, activation: Elementwise
    ) -> Parts:
        made, _ = build(image_shape, num_classes, activation)
        return _as_parts(made(key))

    def apply(
        parts: Parts, images: Images, train: bool, num_classes: int, activation: Elementwise
    ) -> tuple[Array, Any]:
        made, run = build(_shape_of(images), num_classes, activation)
        like = jax.eval_shape(made, jax.random.key(0))
        variables = {name: from_plain(parts.get(name, {}), part) for name, part in like.items()}
        result = run(variables, images, train)
        logits, moved = result if isinstance(result, tuple) else (result, variables)
        return logits, to_plain(moved.get("batch_stats", {}))

    return OwnModel(init, apply)


def linen_model(build: Build) -> OwnModel:
    """A model from a Flax Linen module: `build(image_shape, num_classes, activation)`.

    Its `__call__` takes images [batch, height, width, channels], and `train` if it has such an
    argument. The collections are `params` and `batch_stats`.
    """

    def made(image_shape: ImageShape, num_classes: int, activation: Elementwise) -> Any:
        module = build(image_shape, num_classes, activation)
        takes_train = "train" in inspect.signature(module.__call__).parameters
        return module, (lambda train: {"train": train} if takes_train else {})

    def init(
        key: Array, image_shape: ImageShape, num_classes: int, activation: Elementwise
    ) -> Parts:
        module, mode = made(image_shape, num_classes, activation)
        return _as_parts(module.init(key, jnp.zeros((1, *image_shape)), **mode(False)))

    def apply(
        parts: Parts, images: Images, train: bool, num_classes: int, activation: Elementwise
    ) -> tuple[Array, Any]:
        module, mode = made(_shape_of(images), num_classes, activation)
        if not train:
            return module.apply(parts, images, **mode(False)), parts["batch_stats"]
        logits, moved = module.apply(parts, images, **mode(True), mutable=["batch_stats"])
        return logits, to_plain(moved.get("batch_stats", {}))

    return OwnModel(init, apply)


def nnx_model(build: Build) -> OwnModel:
    """A model from a Flax NNX module: `build(image_shape, num_classes, activation, rngs)`.

    Called with images [batch, height, width, channels], in the modes of `train()` and `eval()`.
    """

    def split(network: Any) -> Any:
        from flax import nnx

        parts: Any = nnx.split(network, nnx.Param, ...)
        if jax.tree.leaves(nnx.state(network, nnx.RngState)):
            raise OwnModelError("draws random numbers (dropout, or rngs that it keeps)")
        return parts

    def init(
        key: Array, image_shape: ImageShape, num_classes: int, activation: Elementwise
    ) -> Parts:
        from flax import nnx

        _, params, rest = split(build(image_shape, num_classes, activation, nnx.Rngs(key)))
        return _as_parts(
            {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(rest)}
        )

    def apply(
        parts: Parts, images: Images, train: bool, num_classes: int, activation: Elementwise
    ) -> tuple[Array, Any]:
        from flax import nnx

        shape = _shape_of(images)
        made = nnx.eval_shape(lambda: build(shape, num_classes, activation, nnx.Rngs(0)))
        graph, params, rest = split(made)
        for state, name in ((params, "params"), (rest, "batch_stats")):
            values = from_plain(parts[name], nnx.to_pure_dict(state))
            nnx.replace_by_pure_dict(state, values)
        network = nnx.merge(graph, params, rest)
        network.train() if train else network.eval()
        logits = network(images)
        return logits, to_plain(nnx.to_pure_dict(split(network)[2]))

    return OwnModel(init, apply)


def equinox_model(build: Build) -> OwnModel:
    """A model from an Equinox module: `build(image_shape, num_classes, activation, key)`.

    Called with one image (height, width, channels), under `jax.vmap`. Layers with a state
    (BatchNorm) are refused, since Equinox's states do not go through `jax.pmap`.
    """

    def split(network: Any) -> tuple[Any, Any]:
        import equinox as eqx

        if jax.tree.leaves(eqx.nn.State(network)):
            raise OwnModelError("has layers with a state, such as Equinox's BatchNorm")
        return eqx.partition(network, eqx.is_inexact_array)

    def init(
        key: Array, image_shape: ImageShape, num_classes: int, activation: Elementwise
    ) -> Parts:
        return _as_parts({"params": split(build(image_shape, num_classes, activation, key))[0]})

    def apply(
        parts: Parts, images: Images, train: bool, num_classes: int, activation: Elementwise
    ) -> tuple[Array, Any]:
        import equinox as eqx

        # Compiled away: only what is no array is used, and the tree's structure.
        made = build(_shape_of(images), num_classes, activation, jax.random.key(0))
        like, rest = split(made)
        network = eqx.combine(from_plain(parts["params"], like), rest)
        return jax.vmap(eqx.nn.inference_mode(network, not train))(images), {}

    return OwnModel(init, apply)


def init_own(
    name: str,
    model: OwnModel,
    key: Array,
    image_shape: ImageShape,
    num_classes: int,
    activation: Elementwise,
) -> Parts:
    """Initial `params` and `batch_stats` of a model of one's own, in float32.

    Raises:
      InputError: naming what it does not do.
    """
    calls = 0

    def counted(x: Array) -> Array:
        nonlocal calls
        calls += 1
        return activation(x)

    def run(parts: Parts) -> Array:
        images = jnp.zeros((2, *image_shape))
        return model.apply(parts, images, False, num_classes, counted)[0]

    try:
        parts = model.init(key, image_shape, num_classes, counted)
        logits = jax.eval_shape(run, parts)
    except OwnModelError as error:
        raise InputError(f"model {name} {error}: that is not provided for.") from error
    except Exception as error:  # it is somebody's own
        shape = "x".join(map(str, image_shape))
        raise InputError(
            f"model {name} cannot be built for images of {shape} (channels last) and {num_classes} "
            f"classes: {shortened(describe_error(error))}."
        ) from error
    found = getattr(logits, "shape", type(logits).__name__)
    if found != (2, num_classes):
        raise InputError(
            f"model {name} gives {found} for two images of {num_classes} classes: it must give "
            f"logits of shape (2, {num_classes})."
        )
    if not calls:
        raise InputError(
            f"model {name} never calls the activation that it is built with, so no curvature can "
            "be said of it: call `activation` wherever it bends."
        )
    return parts


def to_plain(tree: Any) -> dict[str, Any]:
    """Any tree of arrays as nested dicts by the names on the way to each, in float32.

    Example:
      >>> to_plain({"layers": [{"w": 1.0}, {"w": 2.0}]})["layers"]["1"]["w"].item()
      2.0
    """
    plain: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        *above, last = _names(path)
        inner = plain
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = jnp.asarray(leaf, jnp.float32)
    return plain


def from_plain(plain: Mapping[str, Any], like: Any) -> Any:
    """The tree of `like`, its types included, with the values that `to_plain` named.

    Raises:
      InputError: if one is missing, or of another shape.
    """

    def value(path: Any, leaf: Any) -> Array:
        names, found = _names(path), plain
        for name in names:
            found = found.get(name, {}) if isinstance(found, Mapping) else {}
        if isinstance(found, Mapping) or jnp.shape(found) != leaf.shape:
            what = "nothing" if isinstance(found, Mapping) else f"shape {jnp.shape(found)}"
            raise InputError(
                f"the variables are not those of this network: {'.'.join(names)} has {what}, and "
                f"must have shape {leaf.shape}."
            )
        return jnp.asarray(found).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, like)


def _shape_of(images: Images) -> ImageShape:
    height, width, channels = images.shape[1:]
    return height, width, channels


def _names(path: Any) -> list[str]:
    text = [
        str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path
    ]
    return text or ["value"]


def _as_parts(variables: Any) -> Parts:
    """Checked variables as plain parts.

    Raises:
      OwnModelError: if there are no parameters, or a part beside.
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise OwnModelError("has no variables called params")
    others = set(variables) - {"params", "batch_stats"}
    if others:
        raise OwnModelError(f"has variables called {', '.join(sorted(others))}")
    parts = {name: to_plain(part) for name, part in variables.items()}
    return {"batch_stats": {}, **parts}
