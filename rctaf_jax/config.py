"""What a run is told: plain frozen dataclasses, as a person writes them and `config.json` has them.

`None` means "as the recipe or the data have it"; `training.recipe.resolve` makes of it what a run
does, and what is written down has everything filled in. The command line shows the string
below a field as its help. Annotated ranges are what a `config.json` may hold; words of the command
line are checked, in sentences of their own, where a configuration is resolved.
"""

import dataclasses
from typing import Annotated, Any, Literal

from msgspec import Meta

from rctaf_jax.typed_json import AtLeast0, AtLeast1, NotNegative, Positive


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images."""

    name: str = "digits"
    """digits, digits-797, mnist-5k, cifar10, cifar100, a .npz file, a folder of pictures, one that
    TFDS prepared, or package.module:function."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    image_size: AtLeast1 | None = None
    """Average images to so many pixels a side; resize a folder's pictures."""
    num_train: AtLeast1 | None = None
    """Train on this many images only, the classes balanced."""
    num_test: AtLeast1 | None = None
    """Test on this many images only, the classes balanced."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Which network a file of weights holds, and which images to measure it on.

    A run, and a file that this package wrote, say themselves what they hold.
    """

    model: str | None = None
    """Such as wrn-34-10; found in a file's names where these tell."""
    activation: str | None = None
    """Such as swish; relu where a file's layout has no other."""
    mean: tuple[float, ...] | None = None
    """Of the pixels in [0, 1], for each channel: the network takes (pixels - mean) / std."""
    std: tuple[Positive, ...] | None = None
    """Of the pixels, for each channel."""
    prefix: str | None = None
    """Which network of a checkpoint that holds several, such as state_dict_ema."""
    checkpoint: Literal["last", "best"] = "last"
    """Of a run: its last network, or the one that was most robust on the images it held out."""
    data: str | None = None
    """digits, cifar10, a .npz file, ...; what a run was trained on when left out."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    image_size: AtLeast1 | None = None
    """Average images to so many pixels a side; resize a folder's pictures."""
    num_train: AtLeast1 | None = None
    """Take this many training images only, the classes balanced."""
    num_test: AtLeast1 | None = None
    """Take this many test images only, the classes balanced."""

    @property
    def images(self) -> DataConfig | None:
        """The images that are stated; None where those of the run are meant."""
        if self.data is None:
            return None
        sizes = (self.image_size, self.num_train, self.num_test)
        return DataConfig(self.data, self.data_dir, *sizes)

    @property
    def network(self) -> dict[str, Any]:
        """What is said of the network, by name, as `load_network` takes it."""
        names = ("model", "activation", "mean", "std", "prefix")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is trained."""

    model: str = "resnet-mini"
    """resnet-mini, resnet18, preact-resnet18, wrn-28-10, mlp-2x64, ..., or package.module:name."""
    width: Positive = 1.0
    """Multiplies the number of channels."""
    mean: tuple[float, ...] | None = None
    """Of the pixels in [0, 1], for each channel: the network takes (pixels - mean) / std."""
    std: tuple[Positive, ...] | None = None
    """Of the pixels, for each channel."""
    method: str = "trades"
    """standard, pgd-at, trades, mart, dkl, acat or dajat, or package.module:name."""
    method_options: tuple[str, ...] = ()
    """The method's own numbers in place of the published ones, such as beta=6."""
    norm: Literal["Linf", "L2"] = "Linf"
    """Norm of the threat model."""
    epsilon: NotNegative = 8 / 255
    """Radius of the threat model, pixels in [0, 1]."""
    budget: Literal["fixed", "low", "high", "high-released"] | None = None
    """Of the inner maximisation: the same in every epoch, or growing as in DAJAT."""
    attack_steps: AtLeast0 | None = None
    """Steps of the inner maximisation under a fixed budget."""
    step_size: NotNegative | None = None
    """Length of one such step."""
    epochs: AtLeast1 | None = None
    """Passes over the training images."""
    batch_size: AtLeast1 = 128
    """Images per step, over all devices."""
    learning_rate: Positive | None = None
    """Peak learning rate."""
    schedule: Literal["cosine", "step", "constant", "epoch-cosine", "epoch-cosine-end"] | None = (
        None
    )
    """Shape of the learning rate over the run."""
    weight_decay: NotNegative | None = None
    """Added to the gradient."""
    awp: NotNegative | None = None
    """Size of the adversarial weight perturbation, such as 0.005; 0 for none."""
    awp_epoch: AtLeast1 | None = None
    """First epoch with adversarial weights, from 1; the 10th by default, sooner in a short run."""
    averaging: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Decay of the weight average, such as 0.9996; 0 for none."""
    augmentation: Literal["none", "crop-flip"] | None = None
    """Of the training images."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Precision of training; bfloat16 keeps weights in float32, float64 needs JAX_ENABLE_X64=1."""


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """What a run measures of itself on training images that it does not train on."""

    num_examples: AtLeast0 = 0
    """Hold out this many training images, the classes balanced, and measure on them; 0 for none."""
    every: AtLeast1 | None = None
    """Epochs from one measurement to the next; 1 when left out."""
    patience: AtLeast1 | None = None
    """End training after so many epochs without a better robust accuracy on them."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How robust accuracy is measured: projected gradient descent, or AutoAttack."""

    attack: Literal["pgd", "autoattack"] = "pgd"
    """autoattack is its standard version: sharper, and some hundred times as long."""
    pgd_steps: AtLeast1 = 20
    """Steps of each restart of PGD."""
    pgd_restarts: AtLeast1 = 1
    """Random starts."""
    pgd_loss: Literal["ce", "margin"] = "margin"
    """What PGD maximises."""
    pgd_step_size: Positive | None = None
    """Length of one step; a quarter of epsilon when left out."""
    batch_size: AtLeast1 = 500
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
    epsilon: tuple[Positive, ...] | None = None
    """Radius of the threat model, or several for a curve; that of training when left out."""
    num_examples: AtLeast1 | None = None
    """Attack the first so many test images only."""
    individual: bool = False
    """Run each attack on all correct images, not only on those that withstood the others."""
    batch_size: AtLeast1 = 128
    """Images at a time on each device."""
    seed: int = 0
    """Of the attacks' random numbers."""


@dataclasses.dataclass(frozen=True)
class HessianConfig:
    """How the Hessian norm (8) of the mean clean cross-entropy is estimated."""

    num_probes: AtLeast0 = 16
    """Random probes; more make the interval narrower; 0 for no Hessian norm."""
    num_examples: AtLeast1 | None = None
    """At most so many training images in the loss; all when left out."""
    batch_size: AtLeast1 = 512
    """Images per call."""


@dataclasses.dataclass(frozen=True)
class DiagonalConfig:
    """How one network's Hessian diagonal is found, of the mean clean cross-entropy."""

    method: Literal["auto", "exact", "neuron", "hutchinson", "xdiag", "coordinates"] = "auto"
    """auto: neuron for an MLP, exact for up to 2,000 parameters, hutchinson for all others."""
    num_probes: AtLeast0 = 64
    """Random vectors of hutchinson and xdiag (two products each), parameters of coordinates."""
    until: Positive | None = None
    """Stop sooner, once the norm is known to this relative error, such as 0.05."""
    block_size: AtLeast1 | None = None
    """Random vectors of a block of xdiag; 16, or what half of the free memory holds."""
    num_examples: AtLeast1 | None = None
    """At most so many training images in the loss; all when left out."""
    batch_size: AtLeast1 = 512
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
    """Where the members of a sweep are trained, or the images of an attack are attacked."""

    engine: Literal["local", "ray"] = "local"
    """local: in this process, on this machine's devices; ray: on the nodes of a Ray cluster."""
    address: str | None = None
    """HOST:PORT of the cluster; else RAY_ADDRESS, or one that starts on this machine and ends."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One network: which data, how it is trained, with which activation and seed."""

    data: DataConfig
    train: TrainConfig
    activation: str
    seed: int
    validation: ValidationConfig = ValidationConfig()


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A sweep: one network for each beta x curvature x seed, and each baseline x seed."""

    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    hessian: HessianConfig = HessianConfig()
    betas: tuple[AtLeast0, ...] = (0, 1, 2)
    """Members of the RCT-AF family."""
    curvatures: tuple[Positive, ...] = (0.5, 2.0, 4.0, 7.0, 15.0, 50.0)
    """Largest second derivatives."""
    baselines: tuple[str, ...] = ("relu",)
    """Other activations to train beside them."""
    seeds: tuple[int, ...] = (0, 1)
    """One network for each."""
