"""Estimates and members in words: what tables, figures and pages write of them."""

from collections.abc import Mapping
from typing import Any

from rctaf_jax.experiments.show.wording import number, percent

from .summary import IntervalEstimate


def accuracy(estimate: IntervalEstimate | None) -> str:
    """Mean and interval of an accuracy, in per cent.

    Example:
      >>> accuracy(IntervalEstimate(0.621, 0.6, 0.642))
      '62.1 [60.0, 64.2]'
    """
    if estimate is None:
        return number(None)
    if not estimate.has_interval:
        return percent(estimate.mean)
    return f"{percent(estimate.mean)} [{percent(estimate.low)}, {percent(estimate.high)}]"


def accuracy_short(estimate: IntervalEstimate | None) -> str:
    """Mean of an accuracy in per cent, and its interval in whole per cent.

    Example:
      >>> accuracy_short(IntervalEstimate(0.621, 0.6, 0.642))
      '62.1 [60, 64]'
    """
    if estimate is None:
        return number(None)
    if not estimate.has_interval:
        return percent(estimate.mean)
    return f"{percent(estimate.mean)} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def norm(estimate: IntervalEstimate | None) -> str:
    """Mean and interval of a Hessian norm, to three significant digits.

    Example:
      >>> norm(IntervalEstimate(0.01234, 0.0119, 0.0128))
      '0.0123 [0.0119, 0.0128]'
    """
    if estimate is None:
        return number(None)
    if not estimate.has_interval:
        return f"{estimate.mean:.3g}"
    return f"{estimate.mean:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def norm_width(estimate: IntervalEstimate | None) -> str:
    """Mean of a Hessian norm, and how far above it the interval reaches.

    Example:
      >>> norm_width(IntervalEstimate(0.01234, 0.0119, 0.0128))
      '0.0123 ± 4%'
    """
    if estimate is None or not estimate.has_interval:
        return norm(estimate)
    return f"{estimate.mean:.3g} ± {100 * (estimate.high / estimate.mean - 1):.0f}%"


def describe_row(row: Mapping[str, Any]) -> str:
    """One line on one member, from what its row.json says."""
    seconds = sum(row["seconds"].values())
    if row["status"] == "diverged":
        return f"{row['id']}: {row['message']} ({seconds:.1f} s)"
    clean = 100 * row["clean_correct"] / row["num_test"]
    robust = 100 * row["robust_correct"] / row["num_test"]
    words = f"{row['id']}: clean {clean:.1f}%, robust {robust:.1f}%"
    if row["hessian"] is not None:
        rms = row["hessian"]["rms"]
        words += f", Hessian norm {'below its noise' if rms is None else format(rms, '.3g')}"
    elif row.get("message"):
        words += f", {row['message']}"
    return f"{words} ({seconds:.1f} s)"
