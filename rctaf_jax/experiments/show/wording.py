"""How figures, tables and the report write numbers and names."""

import math

from rctaf_jax.activations import activation_label

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"  # by name, since they look like other letters
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
CURVATURE = f"max |{SIGMA}″|"
HESSIAN_LABEL = "Hessian norm, √(mean H_kk²)"
PAPER_RANGE = (4.0, 10.0)


def family_label(family: str) -> str:
    """The family as people write it.

    Example:
      >>> family_label("rct-af:beta=1"), family_label("leaky_relu")
      ('RCT-AF β = 1', 'Leaky ReLU')
    """
    return activation_label(family)


def network_label(model: str, width: float) -> str:
    """A network, and its width where that is not its own.

    Example:
      >>> network_label("wrn-10-1", 1.0), network_label("resnet18", 0.0625)
      ('wrn-10-1', 'resnet18 (width 0.0625)')
    """
    return model if width == 1 else f"{model} (width {width:.3g})"


def number(value: float | None) -> str:
    """Four significant digits; a dash for None, ∞ for an infinity.

    Example:
      >>> number(7.0), number(0.00012346), number(float("inf")), number(None)
      ('7', '0.0001235', '∞', '–')
    """
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    return "∞" if math.isinf(value) else f"{value:.4g}"


def percent(fraction: float) -> str:
    """One decimal, without the sign.

    Example:
      >>> percent(0.62149)
      '62.1'
    """
    return f"{100 * fraction:.1f}"


def duration(seconds: float) -> str:
    """A length of time to two units.

    Example:
      >>> duration(5.26), duration(75), duration(7380)
      ('5.3 s', '1 min 15 s', '2 h 03 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(amount: int, noun: str) -> str:
    """A number and its noun, in the plural where needed.

    Example:
      >>> count(1, "seed"), count(1437, "image")
      ('1 seed', '1,437 images')
    """
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def listing(words: list[str]) -> str:
    """Words with commas and a last "and".

    Example:
      >>> listing(["0"]), listing(["0", "1"]), listing(["0", "1", "2"])
      ('0', '0 and 1', '0, 1 and 2')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
