"""Where a sweep's defaults come from: three presets, and which one suits the data."""

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
    lookup("preset", name, PRESETS)
    return name
