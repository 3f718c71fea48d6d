"""Wide ResNets, WRN-D-K (Zagoruyko and Komodakis 2016), as in TRADES.

Three stages of n = (D - 4) / 6 preactivation blocks with 16 K, 32 K and 64 K channels, a stem of 16
channels, BatchNorm and activation after the last block. TRADES' block takes its shortcut's
convolution from the activated input, as `PreactBlock` does. No dropout: its default rate is 0.
"""

from collections.abc import Callable

from rctaf_jax.errors import InputError

from .layers import LayerSettings
from .preact_resnet import PreactForm, PreactResNet


def wide_resnet(
    settings: LayerSettings,
    num_classes: int,
    scale: Callable[..., tuple[int, ...]],
    depth: int,
    factor: int,
    form: PreactForm | None = None,
) -> PreactResNet:
    """WRN-depth-factor.

    Args:
      settings: activation and numeric type.
      num_classes: number of logits.
      scale: maps channels at width 1 to channels.
      depth: number of layers, 6 n + 4 with n >= 1.
      factor: widening factor K >= 1.
      form: of the blocks; None is TRADES'.

    Raises:
      InputError: depth or factor is not one of those.
    """
    if depth < 10 or (depth - 4) % 6:
        raise InputError(
            f"wrn-{depth}-{factor} has depth {depth}; it must be 6 n + 4: 10, 16, 22, 28, 34, ..."
        )
    if factor < 1:
        raise InputError(f"wrn-{depth}-{factor} has widening factor {factor}; it must be >= 1.")
    channels = scale(16, 16 * factor, 32 * factor, 64 * factor)
    blocks = ((depth - 4) // 6,) * 3
    return PreactResNet(
        settings, num_classes, channels, blocks, has_final_norm=True, form=form or PreactForm()
    )


def uneven_wide_resnet(
    settings: LayerSettings, num_classes: int, scale: Callable[..., tuple[int, ...]]
) -> PreactResNet:
    """WRN-34-R of Huang et al. 2021: 320, 640 and 512 channels, fewer in the last stage.

    Args:
      settings: activation and numeric type.
      num_classes: number of logits.
      scale: maps channels at width 1 to channels.
    """
    channels = scale(16, 320, 640, 512)
    return PreactResNet(settings, num_classes, channels, (5, 5, 5), has_final_norm=True)
