"""A member's row.json: one network of a sweep, typed, ranged, and in agreement with itself.

The fields of `Row` are the columns, and its defaults the table of what an older row may lack: a
new column needs a default (None), or every older folder becomes unreadable.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError, MissingPartError
from rctaf_jax.typed_json import AtLeast0, AtLeast1, convert_typed, read_json

Name = Annotated[str, Meta(max_length=200)]
NonNegative = Annotated[float, Meta(ge=0)]
_PRECISION = 1e-6
"""To which what was calculated twice must agree: libraries of two versions may differ by less."""


_Fault = tuple[str, Any, str]
"""A key, what was found, and what is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HessianNorm:
    """Hutchinson's estimate of the Hessian's diagonal, reduced to its root mean square.

    Attributes:
      mean_square: (1/p) sum_k H_kk^2 without the bias that squaring noise adds; may be negative.
      mean_square_standard_error: of the above, over probes.
      rms: the paper's (8), the square root of the above, or None where that is negative.
      rms_standard_error: of the above.
      num_probes, num_examples, num_parameters: what the estimate is over.
    """

    mean_square: float
    mean_square_standard_error: NonNegative | None = None
    rms: NonNegative | None
    rms_standard_error: NonNegative | None = None
    num_probes: AtLeast1
    num_examples: AtLeast1
    num_parameters: AtLeast1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One member of a sweep: one activation, one seed; the measurements are None if it diverged.

    Attributes:
      id: name of the member's folder.
      activation: canonical text, such as "rct-af:beta=1,alpha=14".
      family: the same without alpha.
      beta, alpha: None for the baselines.
      max_curvature: max |sigma''|, maybe infinite.
      seed: of the initialisation, the order of the batches and the attacks.
      status: "done" or "diverged".
      message: why it diverged, or has no Hessian.
      num_test, clean_correct, robust_correct: numbers of test images; there if it is done.
      nonfinite: test images whose logits were not finite.
      hessian: None if it was not measured, or is not finite.
      steps: of the training.
      seconds: by phase.
    """

    id: Name
    activation: Name
    family: Name
    beta: AtLeast0 | None
    alpha: Annotated[float, Meta(gt=0)] | None
    max_curvature: NonNegative
    seed: int
    status: Literal["done", "diverged"]
    message: str | None = None
    num_test: AtLeast1 | None = None
    clean_correct: AtLeast0 | None = None
    robust_correct: AtLeast0 | None = None
    nonfinite: AtLeast0 | None = None
    hessian: HessianNorm | None = None
    steps: AtLeast0 | None = None
    seconds: Mapping[str, NonNegative | None] = dataclasses.field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether the member was trained and measured."""
        return self.status == "done"


def read_row(path: Path) -> Row:
    """One member's row.

    Raises:
      InputError: if it is not there, is no row, or contradicts itself or its folder's name.
    """
    value = read_json(path)
    if value.get("max_curvature") == "inf":  # JSON has no infinity
        value["max_curvature"] = math.inf
    row = convert_typed(value, Row, path)
    for key, found, allowed in (*_of_its_activation(path, row), *_of_its_counts(row)):
        raise InputError(f"{path} has {key} = {found!r}: it must be {allowed}.")
    return row


def _of_its_activation(path: Path, row: Row) -> Iterator[_Fault]:
    """Values that are not those of the row's own activation."""
    if row.id != path.parent.name:
        yield "id", row.id, f"{path.parent.name!r}, the name of its folder"
    try:
        activation = parse_activation(row.activation)
        curvature = activation.max_curvature
    except MissingPartError:  # of a package that is not here: the row knows its curvature
        if (row.family, row.beta, row.alpha) != (row.activation, None, None):
            yield "activation", row.activation, f"{row.family!r}, the row's family"
        return
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} has an activation that cannot be: {error}") from None
    of = f"that of the row's activation, {row.activation!r}"
    if row.family != activation.name:
        yield "family", row.family, f"{activation.name!r}, {of}"
    if row.beta != activation.beta:
        yield "beta", row.beta, f"{activation.beta}, {of}"
    if not _agree(row.alpha, activation.alpha):
        yield "alpha", row.alpha, f"{activation.alpha}, {of}"
    if not _agree(row.max_curvature, curvature):
        yield "max_curvature", row.max_curvature, f"{curvature:g}, {of}"


def _of_its_counts(row: Row) -> Iterator[_Fault]:
    """Values that cannot be beside the row's others."""
    if row.is_done:
        for key in ("num_test", "clean_correct", "robust_correct"):
            if getattr(row, key) is None:
                yield key, None, "a number of images, since the status is 'done'"
    limits = {"clean_correct": "num_test", "robust_correct": "clean_correct"}
    for key, limit in (limits | {"nonfinite": "num_test"}).items():
        found, allowed = getattr(row, key), getattr(row, limit)
        if found is not None and allowed is not None and found > allowed:
            yield key, found, f"at most {limit}, {allowed}"
    if row.hessian is not None:
        square = row.hessian.mean_square
        root = math.sqrt(square) if square >= 0 else None
        if not _agree(row.hessian.rms, root):
            yield "hessian.rms", row.hessian.rms, f"{root}, as its mean_square has it"


def _agree(found: float | None, here: float | None) -> bool:
    if found is None or here is None:
        return found is here
    return math.isclose(found, here, rel_tol=_PRECISION)


def flat_row(row: Row) -> dict[str, Any]:
    """A row without nested values: `hessian_rms`, `seconds_train` and so on."""
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    hessian, seconds = values.pop("hessian"), values.pop("seconds")
    for field in dataclasses.fields(HessianNorm):
        values[f"hessian_{field.name}"] = getattr(hessian, field.name) if hessian else None
    return values | {f"seconds_{phase}": spent for phase, spent in seconds.items()}
