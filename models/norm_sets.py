"""Further BatchNorm sets for one network: scale and bias apart from all other weights.

A set is the part of `params` in the layers that `batch_stats` names, a tree of the same nesting.
Two kinds of images may share a network's weights and yet be normalised each by their own set (Xie
et al. 2020).
"""

from collections.abc import Mapping
from typing import Any

from rctaf_jax.errors import InputError


def norm_set(params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> dict[str, Any]:
    """Scale and bias of every BatchNorm layer, {} for a network without.

    Args:
      params: the network's weights.
      batch_stats: its statistics, {"mean": ..., "var": ...} in each BatchNorm layer.

    Raises:
      InputError: a layer has statistics, and no scale and bias under the same name.

    Example:
      >>> norm_set({"dense": {"bias": 0}, "norm": {"bias": 1}}, {"norm": {"mean": 2, "var": 3}})
      {'norm': {'bias': 1}}
    """
    for name in batch_stats:
        if not isinstance(params, Mapping) or not isinstance(params.get(name), Mapping):
            raise InputError(
                f"the network has statistics called {name!r}, and no scale and bias of that name, "
                "which a BatchNorm set of its own for each view would need."
            )
    return {
        name: norm_set(params[name], inner) if _is_nested(inner) else dict(params[name])
        for name, inner in batch_stats.items()
    }


def with_norm_set(params: Mapping[str, Any], norms: Mapping[str, Any]) -> dict[str, Any]:
    """The weights with another set in place of theirs.

    Args:
      params: the network's weights.
      norms: as `norm_set` gives them.

    Example:
      >>> with_norm_set({"dense": {"bias": 0}, "norm": {"bias": 1}}, {"norm": {"bias": 5}})
      {'dense': {'bias': 0}, 'norm': {'bias': 5}}
    """
    replaced = {
        name: with_norm_set(params[name], inner) if isinstance(inner, Mapping) else inner
        for name, inner in norms.items()
    }
    return {**params, **replaced}


def _is_nested(layer: Mapping[str, Any]) -> bool:
    return isinstance(layer, Mapping) and all(
        isinstance(inner, Mapping) for inner in layer.values()
    )
