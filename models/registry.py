"""Models by name, as pure functions.

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
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.errors import InputError

from .initialisation import initial_values
from .layers import LayerSettings
from .mlp import MLP
from .normalisation import Normalisation, channels_last, make_normalisation, normalised
from .preact_resnet import PreactForm, PreactResNet
from .resnet import ResNet
from .wide_resnet import uneven_wide_resnet, wide_resnet

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
    settings = LayerSettings(activation.function, _checked_dtype(dtype))
    network = _network(name, num_classes, settings, float(width))
    normalisation = make_normalisation(mean, std)
    init = _init_of(network, activation, normalisation)
    apply = _apply_of(network, normalisation)
    kind = model_kind(name)
    return Model(init, apply, name, kind, num_classes, float(width), activation.name)


def model_names() -> tuple[str, ...]:
    """The names that `create` knows; capitals stand for numbers.

    Example:
      >>> model_names()[0]
      'resnet18'
    """
    return tuple(row.form for row in _TABLE)


def model_kind(name: str) -> str:
    """The kind of network that a name stands for, whatever its size.

    Args:
      name: as `create` takes it.

    Returns:
      "resnet", "preact-resnet", "wide-resnet" or "mlp".

    Raises:
      InputError: if no model has this name.

    Example:
      >>> model_kind("wrn-28-10")
      'wide-resnet'
    """
    return _row(name)[0].kind


def torch_layout(name: str) -> str | None:
    """Whose PyTorch names the parameters of a model follow, None for a model without.

    Args:
      name: as `create` takes it.

    Raises:
      InputError: if no model has this name.

    Example:
      >>> torch_layout("wrn-28-10"), torch_layout("mlp-1x8")
      ('wide', None)
    """
    return _row(name)[0].torch_layout


def first_channels(name: str) -> int:
    """Channels (neurons) after a model's first layer, at width 1.

    Example:
      >>> first_channels("wrn-28-10"), first_channels("mlp-2x64")
      (16, 64)
    """
    row, numbers = _row(name)
    return row.first_channels or numbers[-1]


def activation_variables(activation: Activation, dtype: Any = jnp.float32) -> dict[str, Array]:
    """The collection `activation`: {"alpha": sharpness}, or {} for a baseline.

    Example:
      >>> activation_variables(parse_activation("relu"))
      {}
    """
    return {} if activation.alpha is None else {"alpha": jnp.asarray(activation.alpha, dtype)}


MOST_LAYERS = 1000
"""Each is compiled anew."""
MOST_CHANNELS = 2**24
Builder = Callable[..., nn.Module]


def _checked_dtype(dtype: Any) -> Any:
    allowed = ("bfloat16", "float16", "float32", "float64")
    canonical = jnp.dtype(dtype)
    if canonical.name not in allowed:
        raise InputError(f"dtype is {canonical.name}; it must be one of {', '.join(allowed)}.")
    if canonical != jax.dtypes.canonicalize_dtype(canonical):
        raise InputError("dtype is float64; it needs jax.config.update('jax_enable_x64', True).")
    return canonical


@functools.cache
def _network(name: str, num_classes: int, settings: LayerSettings, width: float) -> nn.Module:
    row, numbers = _row(name)
    if numbers and numbers[0] > MOST_LAYERS:
        raise InputError(f"{name} has more than {MOST_LAYERS:,} layers: give fewer.")
    return row.build(settings, num_classes, functools.partial(_scaled, name, width), *numbers)


def _row(name: str) -> tuple["_Row", list[int]]:
    """The row of the table that fits a name, and the numbers in the name."""
    for row in _TABLE:
        if match := re.fullmatch(row.pattern, name):
            return row, [int(number) for number in match.groups()]
    raise InputError(f"unknown model {name!r}: choose one of {', '.join(model_names())}.")


def _scaled(name: str, width: float, *channels: int) -> tuple[int, ...]:
    if max(channels) > MOST_CHANNELS / width:
        raise InputError(
            f"{name} of width {width:g} has a layer of more than {MOST_CHANNELS:,} channels: give "
            "a smaller one."
        )
    result = tuple(round(c * width) for c in channels)
    if min(result) < 1:
        raise InputError(
            f"width {width} leaves {name} a layer without channels; it must be more than "
            f"{0.5 / min(channels):.3g}."
        )
    return result


@functools.cache
def _init_of(
    network: nn.Module, activation: Activation, normalisation: Normalisation | None
) -> Init:
    settings: LayerSettings = network.settings

    def init(key: Key[Array, ""], image_shape: tuple[int, int, int]) -> Variables:
        values = initial_values(key, _shapes(network, tuple(image_shape)))
        sharpness = activation_variables(activation, settings.param_dtype)
        variables = {"batch_stats": {}, **values, "activation": sharpness}
        if normalisation is None:
            return variables
        return variables | {"input": normalisation.arrays(image_shape[-1], settings.param_dtype)}

    return init


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
        if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError(
                f"images are {x.dtype} of shape {x.shape}; they must be floating-point of shape "
                "(batch, height, width, channels)."
            )
        channels_last(variables["params"], x)
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


_MISFITS = (
    flax.errors.ScopeParamShapeError,
    flax.errors.ScopeParamNotFoundError,
    flax.errors.ScopeCollectionNotFound,
)
ScaleChannels = Callable[..., tuple[int, ...]]


def _resnet18(settings: LayerSettings, num_classes: int, scale: ScaleChannels) -> nn.Module:
    return ResNet(settings, num_classes, scale(64, 128, 256, 512), (2, 2, 2, 2))


def _resnet34(settings: LayerSettings, num_classes: int, scale: ScaleChannels) -> nn.Module:
    return ResNet(settings, num_classes, scale(64, 128, 256, 512), (3, 4, 6, 3))


def _resnet50(settings: LayerSettings, num_classes: int, scale: ScaleChannels) -> nn.Module:
    channels, blocks = scale(64, 128, 256, 512), (3, 4, 6, 3)
    return ResNet(settings, num_classes, channels, blocks, has_bottlenecks=True)


def _preact_resnet18(form: PreactForm, has_final_norm: bool) -> Builder:
    def build(settings: LayerSettings, num_classes: int, scale: ScaleChannels) -> nn.Module:
        channels = scale(64, 64, 128, 256, 512)
        return PreactResNet(settings, num_classes, channels, (2, 2, 2, 2), has_final_norm, form)

    return build


def _resnet_mini(settings: LayerSettings, num_classes: int, scale: ScaleChannels) -> nn.Module:
    return ResNet(settings, num_classes, scale(16, 32), (1, 1), stem_stride=2)


def _mlp(
    settings: LayerSettings, num_classes: int, scale: ScaleChannels, depth: int, neurons: int
) -> nn.Module:
    return MLP(settings, num_classes, depth, *scale(neurons))


class _Row(NamedTuple):
    """What is known of a model.

    Attributes:
      form: its name, with capitals for numbers.
      pattern: of its name, with a group for each number.
      kind: see `model_kind`.
      torch_layout, first_channels: see there; no channels where the name has them.
      build: (settings, num_classes, scale, *numbers) to the network.
    """

    form: str
    pattern: str
    kind: str
    torch_layout: str | None
    first_channels: int | None
    build: Builder


_INPUT = PreactForm(shortcut_from_input=True)
_DEEPMIND = PreactForm(shortcut_from_input=True, shortcut_size=3, pads_late=True)
_DEEPMIND_WIDE = PreactForm(pads_late=True)

_TABLE = (
    _Row("resnet18", "resnet18", "resnet", "resnet", 64, _resnet18),
    _Row("resnet34", "resnet34", "resnet", "resnet", 64, _resnet34),
    _Row("resnet50", "resnet50", "resnet", "resnet", 64, _resnet50),
    _Row(
        "preact-resnet18",
        "preact-resnet18(?:-activated)?",
        "preact-resnet",
        "resnet",
        64,
        _preact_resnet18(PreactForm(), False),
    ),
    _Row(
        "preact-resnet18-norm",
        "preact-resnet18(?:-activated)?-norm",
        "preact-resnet",
        "resnet",
        64,
        _preact_resnet18(PreactForm(), True),
    ),
    _Row(
        "preact-resnet18-input",
        "preact-resnet18-input",
        "preact-resnet",
        "resnet",
        64,
        _preact_resnet18(_INPUT, False),
    ),
    _Row(
        "preact-resnet18-input-norm",
        "preact-resnet18-input-norm",
        "preact-resnet",
        "resnet",
        64,
        _preact_resnet18(_INPUT, True),
    ),
    _Row(
        "dm-preact-resnet18",
        "dm-preact-resnet18",
        "preact-resnet",
        "deepmind-preact",
        64,
        _preact_resnet18(_DEEPMIND, True),
    ),
    _Row("wrn-DEPTH-FACTOR", r"wrn-(\d+)-(\d+)", "wide-resnet", "wide", 16, wide_resnet),
    _Row("wrn-34-r", "wrn-34-r", "wide-resnet", "wide-uneven", 16, uneven_wide_resnet),
    _Row(
        "dm-wrn-DEPTH-FACTOR",
        r"dm-wrn-(\d+)-(\d+)",
        "wide-resnet",
        "deepmind-wide",
        16,
        functools.partial(wide_resnet, form=_DEEPMIND_WIDE),
    ),
    _Row("resnet-mini", "resnet-mini", "resnet", "resnet", 16, _resnet_mini),
    _Row("mlp-DEPTHxWIDTH", r"mlp-([1-9]\d*)x([1-9]\d*)", "mlp", None, None, _mlp),
)
