"""What an ensemble of attacks found, in memory and in a folder."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int

from rctaf_jax.array_file import read_arrays
from rctaf_jax.errors import InputError
from rctaf_jax.eval.accuracy import Interval, share_line, wilson_interval
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.typed_json import AtLeast0, NotNegative, read_typed

from .ensemble import AttackReport

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

ARRAYS, REPORT = "result.npz", "result.json"
REMEDY = "give the folder that AutoAttackResult.save wrote"


class ClassAccuracy(NamedTuple):
    """How the images of one class did."""

    label: int
    num_images: int
    num_correct: int
    num_robust: int


class AutoAttackResult(NamedTuple):
    """What an ensemble of attacks did to each of N images.

    Attributes:
      robust: correct when clean, and after every attack.
      adversarial: a misclassified allowed image where one was found, else the clean one.
      correct: whether the clean image is classified correctly.
      nonfinite: some logits were NaN or infinite on the way: neither robust nor broken.
      clean_accuracy, robust_accuracy: over all N images.
      attacks: one report each, in the order they ran.
      warnings: sentences about what makes the result doubtful.
      labels: of the images.
      adversarial_labels: what the network, asked once more, takes `adversarial` for; -1 where its
          logits are not finite.
    """

    robust: Bool[np.ndarray, " N"]
    adversarial: Float[np.ndarray, "N H W C"]
    correct: Bool[np.ndarray, " N"]
    nonfinite: Bool[np.ndarray, " N"]
    clean_accuracy: float
    robust_accuracy: float
    attacks: tuple[AttackReport, ...]
    warnings: tuple[str, ...]
    labels: Int[np.ndarray, " N"]
    adversarial_labels: Int[np.ndarray, " N"]

    @property
    def clean_interval(self) -> Interval:
        """Wilson's 95% interval of the clean accuracy."""
        return wilson_interval(int(self.correct.sum()), len(self.correct))

    @property
    def robust_interval(self) -> Interval:
        """Wilson's 95% interval of the robust accuracy."""
        return wilson_interval(int(self.robust.sum()), len(self.robust))

    def by_class(self) -> list[ClassAccuracy]:
        """The counts of each class that the labels name, in their order."""
        rows = []
        for label in np.unique(self.labels).tolist():
            of_class = self.labels == label
            counts = (of_class, self.correct & of_class, self.robust & of_class)
            rows.append(ClassAccuracy(label, *(int(flags.sum()) for flags in counts)))
        return rows

    def summary(self) -> str:
        """Both accuracies with Wilson's 95% intervals, what each attack broke, and every doubt."""
        total = len(self.robust)
        lines = [
            share_line("clean", int(self.correct.sum()), total),
            share_line("robust", int(self.robust.sum()), total),
        ]
        if self.nonfinite.any():
            lines.append(f"neither robust nor broken, logits not finite: {self.nonfinite.sum()}")
        lines += [
            f"{one.name} broke {one.broken.sum()} of {one.attacked.sum()}" for one in self.attacks
        ]
        return "\n".join([*lines, *(f"doubt: {sentence}" for sentence in self.warnings)])

    def save(self, folder: str | Path) -> Path:
        """Write `result.npz` and `result.json`; `load` reads them back.

        Args:
          folder: made if need be.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for number, report in enumerate(self.attacks):
            arrays |= {f"{name}_{number}": getattr(report, name) for name in _FLAGS}
        write_arrays(folder / ARRAYS, arrays)
        attacks = [{name: getattr(one, name) for name in _NUMBERS} for one in self.attacks]
        write_json(folder / REPORT, {"attacks": attacks, "warnings": list(self.warnings)})
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote.

        Raises:
          InputError: if a file is missing or damaged, or the two do not belong together.
        """
        folder = Path(folder)
        saved = read_typed(folder / REPORT, _Saved)
        flags = [f"{name}_{number}" for number in range(len(saved.attacks)) for name in _FLAGS]
        arrays = read_arrays(
            folder / ARRAYS, remedy=REMEDY, names=[*_ARRAYS, *flags], keeps_aside=False
        )
        _check(folder / ARRAYS, arrays, flags)
        attacks = []
        for number, one in enumerate(saved.attacks):
            flags_of: dict[str, Any] = {name: arrays[f"{name}_{number}"] for name in _FLAGS}
            attacks.append(AttackReport(**flags_of, **dataclasses.asdict(one)))
        return cls(
            **{name: arrays[name] for name in _ARRAYS},
            clean_accuracy=float(arrays["correct"].mean()),
            robust_accuracy=float(arrays["robust"].mean()),
            attacks=tuple(attacks),
            warnings=saved.warnings,
        )


@dataclasses.dataclass(frozen=True)
class _SavedAttack:
    name: str
    accuracy: Share
    seconds: NotNegative
    forward_passes: AtLeast0
    backward_passes: AtLeast0


@dataclasses.dataclass(frozen=True)
class _Saved:
    attacks: tuple[_SavedAttack, ...]
    warnings: tuple[str, ...]


_ARRAYS = {
    "robust": "b",
    "adversarial": "f",
    "correct": "b",
    "nonfinite": "b",
    "labels": "iu",
    "adversarial_labels": "iu",
}
"""The arrays of a result, and their kinds."""
_FLAGS = ("attacked", "robust", "broken")
_NUMBERS = tuple(field.name for field in dataclasses.fields(_SavedAttack))


def _check(path: Path, arrays: dict[str, np.ndarray], flags: list[str]) -> None:
    """Every array has its kind, its rank, and an entry for each image."""
    total = arrays["robust"].shape[:1]
    for name, kind in {**_ARRAYS, **dict.fromkeys(flags, "b")}.items():
        array, rank = arrays[name], 4 if name == "adversarial" else 1
        if array.dtype.kind not in kind or array.ndim != rank or array.shape[:1] != total:
            raise InputError(
                f"{path}: {name} is of type {array.dtype} and shape {array.shape}; expected an "
                f"array of rank {rank} with an entry for each image. {REMEDY.capitalize()}."
            )
    if not total or not total[0]:
        raise InputError(f"{path} holds no images. {REMEDY.capitalize()}.")
