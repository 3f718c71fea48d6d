"""How large the experiments are: four scales, each with the same studies.

A study is a set of networks that differ in activation and seed only; experiments share the members
of a study. What a scale leaves out of the paper's setting is in its `about`.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from rctaf_jax.config import (
    DataConfig,
    EvaluationConfig,
    HessianConfig,
    SweepConfig,
    TrainConfig,
)
from rctaf_jax.experiments.sweep.presets import DIGITS
from rctaf_jax.values import lookup

from .overhead import StepSize

PAPER_STUDIES: Mapping[str, tuple[str, ...]] = {
    "figure-3": ("dajat",),
    "figure-4": ("trades", "trades-wide"),
    "figure-5": ("dajat", "dkl", "trades"),
    "figure-6": ("cifar100-dajat", "cifar100-dkl", "cifar100-trades"),
    "figure-7": ("standard",),
    "table-1": ("dajat",),
}
"""The studies that an experiment shows, as in the paper."""


class ExperimentScale(NamedTuple):
    """One size of everything.

    Attributes:
      name: on the command line.
      about: what it is, and how it differs from the paper, in a sentence or two.
      studies: settings by name.
      curvatures: of the family's members.
      alphas: of Figure 3's, where they are not the curvatures'.
      seeds: one network for each.
      step: Table 2's, whose time is measured.
      memory_step: Table 2's, whose memory is.
      shows: studies of each experiment, by its name.
    """

    name: str
    about: str
    studies: Mapping[str, SweepConfig]
    curvatures: tuple[float, ...]
    alphas: tuple[float, ...]
    seeds: tuple[int, ...]
    step: StepSize
    memory_step: StepSize
    shows: Mapping[str, tuple[str, ...]] = PAPER_STUDIES


def study(base: SweepConfig, method: str, **changes: object) -> SweepConfig:
    """A scale's settings for one method, without a grid; Hessian norms after standard training."""
    hessian = base.hessian if method == "standard" else HessianConfig(num_probes=0)
    # A standardly trained network withstands nothing, which PGD shows as well as AutoAttack.
    evaluation = EvaluationConfig() if method == "standard" else base.evaluation
    train = dataclasses.replace(base.train, method=method, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(
        base,
        train=train,
        evaluation=evaluation,
        hessian=hessian,
        betas=(),
        curvatures=(),
        baselines=(),
        seeds=(),
    )


def cifar_studies(
    base: SweepConfig, wide: dict[str, object], budget: str | None = None
) -> dict[str, SweepConfig]:
    """All studies of the paper; `budget` is DAJAT's and DKL's, their own when left out."""
    data = dataclasses.replace(base.data, name="cifar100")
    hundred = dataclasses.replace(base, data=data)
    return {
        "dajat": study(base, "dajat", budget=budget),
        "dkl": study(base, "dkl", budget=budget),
        "trades": study(base, "trades"),
        "trades-wide": study(base, "trades", **wide),
        "standard": study(base, "standard"),
        "cifar100-dajat": study(hundred, "dajat", budget=budget),
        "cifar100-dkl": study(hundred, "dkl", budget=budget),
        "cifar100-trades": study(hundred, "trades"),
    }


_DIGITS = dataclasses.replace(
    DIGITS,
    train=dataclasses.replace(
        DIGITS.train,
        attack_steps=None,
        step_size=None,
        epochs=10,
        learning_rate=0.1,
        weight_decay=5e-4,
    ),
    hessian=HessianConfig(num_probes=32, num_examples=400),
)
_CPU = SweepConfig(
    data=DataConfig(name="cifar10", num_train=4000, num_test=1000),
    train=TrainConfig(
        model="resnet18",
        width=0.0625,
        epochs=4,
        batch_size=50,
        learning_rate=0.1,
        schedule="cosine",
    ),
    hessian=HessianConfig(num_probes=96, num_examples=250, batch_size=250),
)
_GPU = SweepConfig(
    data=DataConfig(name="cifar10", num_train=20_000, num_test=1000),
    train=TrainConfig(model="resnet18", width=0.25, epochs=8, schedule="cosine", dtype="bfloat16"),
    evaluation=EvaluationConfig(attack="autoattack"),
    hessian=HessianConfig(num_probes=32, num_examples=5000),
)
_PAPER = SweepConfig(
    data=DataConfig(name="cifar10"),
    train=TrainConfig(model="resnet18"),
    evaluation=EvaluationConfig(attack="autoattack"),
    hessian=HessianConfig(num_probes=64, num_examples=10_000),
)

SCALES = {
    scale.name: scale
    for scale in (
        ExperimentScale(
            "digits",
            "8x8 digits, a small ResNet, 10 epochs, Linf 0.2, PGD-20 in place of AutoAttack, two "
            "seeds: minutes on a laptop, and another world than CIFAR.",
            {
                "dajat": study(_DIGITS, "dajat"),
                "dkl": study(_DIGITS, "dkl"),
                "trades": study(_DIGITS, "trades"),
                "trades-wide": study(_DIGITS, "trades", model="wrn-10-1"),
                "standard": study(_DIGITS, "standard"),
            },
            curvatures=(0.5, 2.0, 4.0, 7.0, 20.0, 50.0),
            alphas=(),
            seeds=(0, 1),
            step=StepSize("resnet-mini", 1.0, 32),
            memory_step=StepSize("resnet-mini", 1.0, 32),
        ),
        ExperimentScale(
            "cpu",
            "CIFAR, a ResNet-18 of a sixteenth of the width, 4,000 training images, 4 epochs, "
            "DAJAT and DKL in the low budget, PGD-20 on 1,000 images in place of AutoAttack, one "
            "seed: barely trained networks.",
            cifar_studies(_CPU, {"model": "wrn-10-1", "width": 1.0}, budget="low"),
            curvatures=(0.5, 2.0, 4.0, 7.0, 20.0, 50.0),
            alphas=(),
            seeds=(0,),
            step=StepSize("resnet18", 0.25, 32),
            memory_step=StepSize("resnet18", 0.25, 32),
        ),
        ExperimentScale(
            "gpu",
            "CIFAR, a ResNet-18 of a quarter of the width in bfloat16, 20,000 training images, "
            "8 epochs, AutoAttack on 1,000 images, two seeds.",
            cifar_studies(_GPU, {"model": "wrn-28-10", "width": 0.125}),
            curvatures=(0.5, 2.0, 4.0, 7.0, 20.0, 50.0),
            alphas=(),
            seeds=(0, 1),
            step=StepSize("resnet18", 1.0, 128),
            memory_step=StepSize("resnet18", 1.0, 128),
        ),
        ExperimentScale(
            "paper",
            "The paper's setting in full: every method's published recipe, all images, AutoAttack "
            "on all 10,000 test images, one seed as in the paper.",
            cifar_studies(_PAPER, {"model": "wrn-28-10"}),
            curvatures=tuple(float(curvature) for curvature in range(1, 51)),
            alphas=tuple(float(alpha) for alpha in range(1, 51)),
            seeds=(0,),
            step=StepSize("resnet18", 1.0, 128),
            memory_step=StepSize("resnet18", 1.0, 128),
        ),
    )
}


def scale_named(name: str, data_dir: str | None) -> ExperimentScale:
    """A scale, its datasets read from `data_dir`.

    Raises:
      InputError: for a name that is not in the table.
    """
    scale = lookup("scale", name, SCALES)
    studies = {
        key: dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=data_dir))
        for key, config in scale.studies.items()
    }
    return scale._replace(studies=studies)
