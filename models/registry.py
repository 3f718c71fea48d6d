"""Models by name (`table`), as pure functions.

    model = create("resnet18", num_classes=10, activation="rct-af:beta=1,curvature=7")
    variables = model.init(key, (32, 32, 3))
    logits, batch_stats = model.apply(variables, images, train=True)

`variables` is a dict of plain trees with the keys `params`, `batch_stats` (empty without BatchNorm)
and `activation` ({"alpha": scalar} for RCT-AF, empty for the baselines). The sharpness alpha is
data: models that differ in it only share one `apply`, hence one compiled program.

Pixels in [0, 1] enter as they are, as in the reference implementations of TRADES and DAJAT, unless
the network has a mean and a standard deviation of its own, `(pixels - mean) / std`: from `create`,
or from `variables["input"]` ({"mean": [channels], "std": [channels]}), which comes first.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rctaf_jax.activations import Activation, ActivationFunction, parse_activation
from rctaf_jax.errors import InputError

from .initialisation import initial_values
from .layers import LayerSettings
from .normalisation import Normalisation, check_channels, make_normalisation, normalised
from .own import ImageShape, OwnModel, init_own
from .table import build_network, model_kind, own_model

Variables = dict[str, Any]
"""`params`, `batch_stats`, `activation` and perhaps `input`, each a tree of dicts of arrays."""


class Init(Protocol):
    """Initial variables for images of one shape."""

    def __call__(self, key: Key[Array, ""], image_shape: tuple[int, int, int]) -> Variables:
        """Variables for images of shape (height, width, channels)."""


class Apply(Protocol):
    """The network as a pure function."""

    def __call__(
        self,
        variables: Mapping[str, Any],
        x: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[Float[Array, "batch num_classes"], dict[str, Any]]:
        """Logits and BatchNorm statistics.

        Args:
          variables: as `init` gives them.
          x: images with pixels in [0, 1].
          train: True takes the batch's statistics and returns the running ones moved by them;
              False takes the running ones and returns them unchanged. Static.
          axis_name: mapped axis over which the batch's statistics are averaged, so that n devices
              equal one; None keeps each device's own. Static.
        """


class Model(NamedTuple):
    """A network as pure functions, and its static facts.

    Attributes:
      init: (key, image_shape) -> variables.
      apply: (variables, x, train=, axis_name=) -> (logits, batch_stats); the same object for
          models that differ in alpha only.
      name, num_classes, width: as given to `create`.
      kind: of network: see `model_kind`.
      activation_name: the activation's family, such as "rct-af:beta=1"; alpha is in `variables`.
    """

    init: Init
    apply: Apply
    name: str
    kind: str
    num_classes: int
    width: float
    activation_name: str


def create(
    name: str,
    *,
    num_classes: int,
    activation: str | Activation,
    width: float = 1.0,
    dtype: Any = jnp.float32,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
) -> Model:
    """A model by name.

    Args:
      name: one of `model_names()`, with numbers in place of capitals.
      num_classes: number of logits, at least 2.
      activation: text for `parse_activation`, or an `Activation`: the only nonlinearity.
      width: factor on all numbers of channels (hidden neurons), rounded to integers.
      dtype: type to compute in. Parameters, statistics and logits are float32, or float64 where
          dtype is float64 (which needs `jax_enable_x64`).

    Raises:
      InputError: one of these is not as described, or the width leaves no channels.

    Example:
      >>> model = create("resnet-mini", num_classes=10, activation="rct-af:beta=1,alpha=14")
      >>> variables = model.init(jax.random.key(0), (8, 8, 1))
      >>> logits, _ = model.apply(variables, jnp.zeros((2, 8, 8, 1)))
      >>> logits.shape, float(variables["activation"]["alpha"])
      ((2, 10), 14.0)
    """
    activation = parse_activation(activation)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise InputError(f"num_classes is {num_classes!r}; it must be an int of at least 2.")
    if not (isinstance(width, int | float) and 0 < width < float("inf")):
        raise InputError(f"width is {width!r}; it must be a positive, finite number.")
    dtype, kind = _checked_dtype(dtype), model_kind(name)
    normalisation = make_normalisation(mean, std)
    own = own_model(name)
    if own is None:
        settings = LayerSettings(activation.function, dtype)
        network = build_network(name, num_classes, settings, float(width))
        init = _init_of(network, activation, normalisation)
        apply = _apply_of(network, normalisation)
    else:
        if width != 1 or dtype != jnp.float32:
            raise InputError(
                f"model {name} is as it was written: width {width:g} and dtype {dtype.name} are "
                "for models of this library."
            )
        init = _init_of_own(name, own, num_classes, activation, normalisation)
        apply = _apply_of_own(own, num_classes, activation.function, normalisation)
    return Model(init, apply, name, kind, num_classes, float(width), activation.name)


def activation_variables(activation: Activation, dtype: Any = jnp.float32) -> dict[str, Array]:
    """The collection `activation`: {"alpha": sharpness}, or {} for a baseline.

    Example:
      >>> activation_variables(parse_activation("relu"))
      {}
    """
    return {} if activation.alpha is None else {"alpha": jnp.asarray(activation.alpha, dtype)}


def _checked_dtype(dtype: Any) -> Any:
    allowed = ("bfloat16", "float16", "float32", "float64")
    canonical = jnp.dtype(dtype)
    if canonical.name not in allowed:
        raise InputError(f"dtype is {canonical.name}; it must be one of {', '.join(allowed)}.")
    if canonical != jax.dtypes.canonicalize_dtype(canonical):
        raise InputError("dtype is float64; it needs jax.config.update('jax_enable_x64', True).")
    return canonical


@functools.cache
def _init_of(
    network: nn.Module, activation: Activation, normalisation: Normalisation | None
) -> Init:
    settings: LayerSettings = network.settings

    def init(key: Key[Array, ""], image_shape: tuple[int, int, int]) -> Variables:
        values = initial_values(key, _shapes(network, tuple(image_shape)))
        variables = {"batch_stats": {}, **values}
        return _complete(variables, activation, normalisation, image_shape, settings.param_dtype)

    return init


def _complete(
    variables: Variables,
    activation: Activation,
    normalisation: Normalisation | None,
    image_shape: ImageShape,
    dtype: Any,
) -> Variables:
    """Variables with the activation's own, and the pixels' mean and std, if any."""
    variables = {**variables, "activation": activation_variables(activation, dtype)}
    if normalisation is None:
        return variables
    return variables | {"input": normalisation.arrays(image_shape[-1], dtype)}


@functools.cache
def _shapes(network: nn.Module, image_shape: tuple[int, int, int]) -> Variables:
    # The activation changes no shape, and without alpha RCT-AF could not run.
    linear = network.clone(settings=replace(network.settings, function=lambda x, alpha: x))
    images = jax.ShapeDtypeStruct((1, *image_shape), network.settings.dtype)
    return jax.eval_shape(functools.partial(linear.init, train=False), jax.random.key(0), images)


@functools.cache
def _apply_of(network: nn.Module, normalisation: Normalisation | None) -> Apply:
    param_dtype = network.settings.param_dtype

    def apply(
        variables: Mapping[str, Any],
        x: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[Float[Array, "batch num_classes"], dict[str, Any]]:
        _check_images(x)
        check_channels(variables["params"], x)
        x = normalised(x, variables.get("input"), normalisation, param_dtype)
        variables = {name: part for name, part in variables.items() if name != "input"}
        try:
            if not train:
                logits = cast(Array, network.apply(variables, x, train=False))
                return logits, variables["batch_stats"]
            module = network.clone(settings=replace(network.settings, axis_name=axis_name))
            logits, moved = module.apply(variables, x, train=True, mutable=["batch_stats"])
        except _MISFITS as error:
            reason = str(error).partition(" (https:")[0].rstrip(".")
            raise InputError(
                f"the variables are not those of this network for images of shape {x.shape[1:]}: "
                f"{reason}."
            ) from None
        return logits, dict(moved.get("batch_stats", {}))

    return apply


@functools.cache
def _init_of_own(
    name: str,
    own: OwnModel,
    num_classes: int,
    activation: Activation,
    normalisation: Normalisation | None,
) -> Init:
    def init(key: Key[Array, ""], image_shape: tuple[int, int, int]) -> Variables:
        parts = init_own(name, own, key, image_shape, num_classes, activation)
        return _complete(parts, activation, normalisation, image_shape, jnp.float32)

    return init


@functools.cache
def _apply_of_own(
    own: OwnModel,
    num_classes: int,
    function: ActivationFunction,
    normalisation: Normalisation | None,
) -> Apply:
    def apply(
        variables: Mapping[str, Any],
        x: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[Float[Array, "batch num_classes"], dict[str, Any]]:
        _check_images(x)
        x = normalised(x, variables.get("input"), normalisation, jnp.float32)
        alpha = variables["activation"].get("alpha")
        parts = {name: variables[name] for name in ("params", "batch_stats")}
        logits, moved = own.apply(parts, x, train, num_classes, lambda x: function(x, alpha))
        # Each device has normalised by its own examples; the statistics are of all.
        if train and axis_name is not None:
            moved = jax.lax.pmean(moved, axis_name)
        return logits.astype(jnp.float32), moved

    return apply


def _check_images(x: Array) -> None:
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            f"images are {x.dtype} of shape {x.shape}; they must be floating-point of shape "
            "(batch, height, width, channels)."
        )


_MISFITS = (
    flax.errors.ScopeParamShapeError,
    flax.errors.ScopeParamNotFoundError,
    flax.errors.ScopeCollectionNotFound,
)
