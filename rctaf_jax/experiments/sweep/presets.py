"""Where a sweep's defaults come from: four presets, and which one suits the data."""

from rctaf_jax.config import DataConfig, HessianConfig, SweepConfig, TrainConfig
from rctaf_jax.values import lookup

DIGITS = SweepConfig(
    train=TrainConfig(
        epsilon=0.2,
        attack_steps=5,
        step_size=0.06,
        epochs=12,
        schedule="cosine",
    ),
    hessian=HessianConfig(num_probes=12, num_examples=400),
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
    hessian=HessianConfig(num_probes=8, num_examples=500, batch_size=250),
    betas=(1,),
    curvatures=(1.0, 4.0, 7.0, 50.0),
    seeds=(0,),
)

# Measured on 3,000 images after one run each, seed 0, beta 1: curvatures 0.5, 4 and 50 have 87.6,
# 91.0 and 90.2% clean and 60.3, 67.7 and 65.4% robust accuracy.
MNIST_5K = SweepConfig(
    data=DataConfig(name="mnist-5k", image_size=14),
    train=TrainConfig(
        model="mlp-2x64",
        epsilon=0.1,
        attack_steps=10,
        step_size=0.025,
        epochs=10,
        batch_size=32,
        learning_rate=0.1,
        schedule="cosine",
        weight_decay=5e-4,
    ),
    hessian=HessianConfig(num_probes=12, num_examples=400),
)

PRESETS: dict[str, SweepConfig] = {
    "digits": DIGITS,
    "mnist-5k": MNIST_5K,
    "cifar10-small": CIFAR10_SMALL,
    "recipe": SweepConfig(data=DataConfig(name="cifar10"), train=TrainConfig(model="resnet18")),
}

_PRESET_OF = {"digits": "digits", "digits-797": "digits", "mnist-5k": "mnist-5k"}


def preset_for(name: str | None, data: str | None) -> str:
    """Which preset the defaults come from: the one named, else the one that suits the data.

    Data other than digits and MNIST's get the method's published recipe.

    Raises:
      InputError: for a name that is not in the table.
    """
    if name is None:
        return _PRESET_OF.get(data or "digits", "recipe")
    lookup("preset", name, PRESETS)
    return name
