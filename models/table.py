"""The table of models: a row each, from its name to its network.

A model that is added is a row here, and a class beside if it is of a new kind. One's own are beside
the table: registered, or found in somebody's package.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn

from rctaf_jax.errors import InputError
from rctaf_jax.plugins import find_part
from rctaf_jax.values import kind_of

from .layers import LayerSettings
from .mlp import MLP
from .own import OwnModel
from .preact_resnet import PreactForm, PreactResNet
from .resnet import ResNet
from .wide_resnet import uneven_wide_resnet, wide_resnet

MOST_LAYERS = 1000
"""Each is compiled anew."""
MOST_CHANNELS = 2**24
Builder = Callable[..., nn.Module]
ScaleChannels = Callable[..., tuple[int, ...]]


def model_names() -> tuple[str, ...]:
    """The names that `create` knows; capitals stand for numbers.

    Example:
      >>> model_names()[0]
      'resnet18'
    """
    return (*(row.form for row in _TABLE), *_OWN)


def model_kind(name: str) -> str:
    """The kind of network that a name stands for, whatever its size.

    Args:
      name: as `create` takes it.

    Returns:
      "resnet", "preact-resnet", "wide-resnet" or "mlp"; "own" for one's own.

    Raises:
      InputError: if no model has this name.

    Example:
      >>> model_kind("wrn-28-10")
      'wide-resnet'
    """
    return "own" if own_model(name) is not None else _row(name)[0].kind


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
    return None if own_model(name) is not None else _row(name)[0].torch_layout


def first_channels(name: str) -> int:
    """Channels (neurons) after a model's first layer, at width 1.

    Example:
      >>> first_channels("wrn-28-10"), first_channels("mlp-2x64")
      (16, 64)
    """
    row, numbers = _row(name)
    return row.first_channels or numbers[-1]


@functools.cache
def build_network(name: str, num_classes: int, settings: LayerSettings, width: float) -> nn.Module:
    """The network of a name; the same object for the same arguments.

    Args:
      name: as `create` takes it.
      num_classes: number of logits.
      settings: activation and numeric type.
      width: factor on all numbers of channels.

    Raises:
      InputError: if no model has this name, or it would be too large, or have no channels.
    """
    row, numbers = _row(name)
    if numbers and numbers[0] > MOST_LAYERS:
        raise InputError(f"{name} has more than {MOST_LAYERS:,} layers: give fewer.")
    return row.build(settings, num_classes, functools.partial(_scaled, name, width), *numbers)


def register_model(name: str, model: OwnModel) -> None:
    """Make a model of one's own known by name, in this process.

    Args:
      name: for `create`, `--model` and `TrainConfig`; what has it already is replaced, unless it
        is ours.
      model: of `linen_model`, `nnx_model`, `equinox_model` or `function_model`.

    Raises:
      InputError: the name is none or one of ours, or the model is something else.
    """
    if not name or name != "".join(name.lower().split()) or ":" in name:
        raise InputError(f"model name {name!r}: it must be in lower case, without spaces and ':'.")
    if _found(name) is not None:
        raise InputError(f"model name {name!r} is one of this library's: choose another.")
    _OWN[name] = _checked_own(name, model)


def own_model(name: str) -> OwnModel | None:
    """The model of one's own with a name, or "package.module:name"; None if there is none.

    Raises:
      InputError: if it cannot be imported, or is no model.
    """
    if name not in _OWN and _found(name) is None:
        part = find_part("models", name)
        if part is not None:
            _OWN[name] = _checked_own(name, part)
    return _OWN.get(name)


_OWN: dict[str, OwnModel] = {}


def _checked_own(name: str, part: Any) -> OwnModel:
    if isinstance(part, OwnModel):
        return part
    raise InputError(
        f"model {name} is {kind_of(part)}: make it one by rctaf_jax.models.linen_model, "
        "nnx_model, equinox_model or function_model."
    )


def _found(name: str) -> tuple["_Row", list[int]] | None:
    """The row of the table that fits a name, and the numbers in the name."""
    for row in _TABLE:
        if match := re.fullmatch(row.pattern, name):
            return row, [int(number) for number in match.groups()]
    return None


def _row(name: str) -> tuple["_Row", list[int]]:
    found = _found(name)
    if found is None:
        raise InputError(
            f"unknown model {name!r}: choose one of {', '.join(model_names())}, a name of a "
            "package that must be installed, or package.module:name of your own."
        )
    return found


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
