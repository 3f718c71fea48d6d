"""What a run is told: frozen dataclasses that the command line fills and every run records.

`None` means "as the method's recipe or the data have it"; `training.recipe.resolve` fills it in,
and only resolved configurations are written down.
"""

import dataclasses
from typing import Annotated, Any, Literal

import tyro

from rctaf_jax.errors import InputError
from rctaf_jax.values import parse_number

Number = Annotated[
    float,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NUMBER",
        instance_from_str=lambda words: parse_number(words[0]),
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [f"{value:g}"],
    ),
]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images."""

    name: Annotated[str, tyro.conf.arg(name="data")] = "digits"
    """digits, cifar10, cifar100, a .npz file, or a folder that TFDS prepared."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    num_train: int | None = None
    """Train on this many images only, the classes balanced."""
    num_test: int | None = None
    """Test on this many images only, the classes balanced."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is trained."""

    model: str = "resnet-mini"
    """resnet-mini, resnet18, preact-resnet18, wrn-28-10, mlp-2x64, ..."""
    width: Number = 1.0
    """Multiplies the number of channels."""
    method: str = "trades"
    """standard, pgd-at, trades, mart, dkl, acat or dajat."""
    method_options: tuple[str, ...] = ()
    """The method's own numbers in place of the published ones, such as beta=6."""
    norm: Literal["Linf", "L2"] = "Linf"
    """Norm of the threat model."""
    epsilon: Number = 8 / 255
    """Radius of the threat model, pixels in [0, 1]."""
    budget: Literal["fixed", "low", "high", "high-released"] | None = None
    """Of the inner maximisation: the same in every epoch, or growing as in DAJAT."""
    attack_steps: int | None = None
    """Steps of the inner maximisation under a fixed budget."""
    step_size: Number | None = None
    """Length of one such step."""
    epochs: int | None = None
    """Passes over the training images."""
    batch_size: int = 128
    """Images per step, over all devices."""
    learning_rate: Number | None = None
    """Peak learning rate."""
    schedule: Literal["cosine", "step", "constant", "epoch-cosine", "epoch-cosine-end"] | None = (
        None
    )
    """Shape of the learning rate over the run."""
    weight_decay: Number | None = None
    """Added to the gradient."""
    awp: Number | None = None
    """Size of the adversarial weight perturbation, such as 0.005; 0 for none."""
    awp_epoch: int | None = None
    """First epoch with adversarial weights, from 1; the 10th by default, sooner in a short run."""
    averaging: Number | None = None
    """Decay of the weight average, such as 0.9996; 0 for none."""
    augmentation: Literal["none", "crop-flip"] | None = None
    """Of the training images."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Precision of training; bfloat16 keeps weights in float32, float64 needs JAX_ENABLE_X64=1."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How robust accuracy is measured: projected gradient descent, or AutoAttack."""

    attack: Literal["pgd", "autoattack"] = "pgd"
    """autoattack is its standard version: sharper, and some hundred times as long."""
    pgd_steps: int = 20
    """Steps of each restart of PGD."""
    pgd_restarts: int = 1
    """Random starts."""
    pgd_loss: Literal["ce", "margin"] = "margin"
    """What PGD maximises."""
    pgd_step_size: Number | None = None
    """Length of one step; a quarter of epsilon when left out."""
    evaluation_batch: int = 500
    """Images per call."""


@dataclasses.dataclass(frozen=True)
class AttackConfig:
    """How robust accuracy is measured by AutoAttack."""

    version: str = "standard"
    """standard or plus."""
    attacks: tuple[str, ...] | None = None
    """Attacks to run instead: apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square."""
    norm: Literal["Linf", "L2", "L1"] | None = None
    """Norm of the threat model; the one it was trained for when left out."""
    epsilon: Number | None = None
    """Radius of the threat model; the one it was trained for when left out."""
    num_examples: int | None = None
    """Attack the first so many test images only."""
    individual: bool = False
    """Run each attack on all correct images, not only on those that withstood the others."""
    attack_batch: int = 128
    """Images at a time on each device."""
    attack_seed: int = 0
    """Of the attacks' random numbers."""


@dataclasses.dataclass(frozen=True)
class HessianConfig:
    """How the Hessian norm (8) of the mean clean cross-entropy is estimated."""

    probes: int = 16
    """Random probes; more make the interval narrower; 0 for no Hessian norm."""
    hessian_examples: int | None = None
    """At most so many training images in the loss; all when left out."""
    hessian_batch: int = 512
    """Images per call."""


@dataclasses.dataclass(frozen=True)
class DiagonalConfig:
    """How one network's Hessian diagonal is found, of the mean clean cross-entropy."""

    method: Literal["auto", "exact", "neuron", "hutchinson", "xdiag", "coordinates"] = "auto"
    """auto: neuron for an MLP, exact for up to 2,000 parameters, hutchinson for all others."""
    num_probes: int = 64
    """Random vectors of hutchinson and xdiag (two products each), parameters of coordinates."""
    until: Number | None = None
    """Stop sooner, once the norm is known to this relative error, such as 0.05."""
    block_size: int | None = None
    """Random vectors of a block of xdiag; 16, or what half of the free memory holds."""
    num_examples: int | None = None
    """At most so many training images in the loss; all when left out."""
    batch_size: int = 512
    """Images per call, over all devices."""
    seed: int = 0
    """Of the random vectors, or of the sampled parameters."""


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Several processes, on one host or many, that train one network together."""

    distributed: bool = False
    """Join the other processes; Slurm, Kubernetes, Open MPI and TPU pods are detected."""
    coordinator: str | None = None
    """HOST:PORT at which the first process listens; also JAX_COORDINATOR_ADDRESS."""
    num_processes: int | None = None
    """How many there are; also JAX_NUM_PROCESSES."""
    process_index: int | None = None
    """Which one this is, from 0; also JAX_PROCESS_ID."""


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """Where the members of a sweep are trained."""

    engine: Literal["local", "ray"] = "local"
    """local: in this process, on this machine's devices; ray: on the nodes of a Ray cluster."""
    address: str | None = None
    """HOST:PORT of the cluster; else RAY_ADDRESS, or one that starts on this machine and ends."""


def as_json(config: Any) -> dict[str, Any]:
    """A configuration as plain values for JSON."""
    return dataclasses.asdict(config)


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A sweep: one network for each beta x curvature x seed, and each baseline x seed."""

    data: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = TrainConfig()
    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")] = EvaluationConfig()
    hessian: Annotated[HessianConfig, tyro.conf.arg(name="")] = HessianConfig()
    betas: tuple[int, ...] = (0, 1, 2)
    """Members of the RCT-AF family."""
    curvatures: tuple[Number, ...] = (0.5, 2.0, 4.0, 7.0, 15.0, 50.0)
    """Largest second derivatives."""
    baselines: tuple[str, ...] = ("relu",)
    """Other activations to train beside them."""
    seeds: tuple[int, ...] = (0, 1)
    """One network for each."""


DIGITS = SweepConfig(
    train=TrainConfig(
        epsilon=0.2,
        attack_steps=5,
        step_size=0.06,
        epochs=12,
        schedule="cosine",
    ),
    hessian=HessianConfig(probes=12, hessian_examples=400),
)

CIFAR10_SMALL = SweepConfig(
    data=DataConfig(name="cifar10", num_train=3000, num_test=1000),
    train=TrainConfig(
        model="resnet18",
        width=0.125,
        attack_steps=5,
        step_size=2 / 255,
        epochs=4,
        batch_size=50,
        schedule="cosine",
    ),
    hessian=HessianConfig(probes=8, hessian_examples=500, hessian_batch=250),
    betas=(1,),
    curvatures=(1.0, 4.0, 7.0, 50.0),
    seeds=(0,),
)

PRESETS: dict[str, SweepConfig] = {
    "digits": DIGITS,
    "cifar10-small": CIFAR10_SMALL,
    "recipe": SweepConfig(data=DataConfig(name="cifar10"), train=TrainConfig(model="resnet18")),
}


def preset_for(name: str | None, data: str | None) -> str:
    """Which preset the defaults come from: the one named, else the one that suits the data.

    Data other than digits get the method's published recipe.

    Raises:
      InputError: for a name that is not in the table.
    """
    if name is None:
        return "digits" if data in (None, "digits") else "recipe"
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}.")
    return name
