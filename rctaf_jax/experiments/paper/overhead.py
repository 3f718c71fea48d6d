"""What an activation costs in a standard training step, over ReLU: memory and time (Table 2).

Memory is what the compiler reserves for intermediate results at their peak, `temp_size_in_bytes`:
it leaves out weights, momentum and the data, which do not depend on the activation. The paper's
figures are a whole process's memory and minutes of training.

On a CPU convolutions are matrix products over patches that are kept for the kernel's gradient;
these take most of the memory and so hide the activation's share.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.activations import parse_activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset, Split
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.trainer import device_data, make_trainer

from .timing import Contender, interleaved, quartiles, ratio

REFERENCE = "relu"
PAPER_COSTS: dict[str, tuple[float, float]] = {
    "relu": (0.73, 5.88),
    "leaky-relu": (0.73, 5.92),
    "elu": (0.73, 5.83),
    "selu": (0.73, 5.88),
    "gelu": (0.99, 7.92),
    "mish": (1.25, 6.98),
    "softplus": (0.99, 5.87),
    "swish": (0.99, 5.88),
    "rct-af:beta=0,curvature=7": (0.99, 6.30),
    "rct-af:beta=1,curvature=7": (1.25, 6.93),
    "rct-af:beta=2,curvature=7": (2.30, 8.86),
}
"""Activation to the paper's (GB of GPU memory, minutes), Table 2."""


class StepSize(NamedTuple):
    """A standard training step on noise of CIFAR-10's shape.

    Attributes:
      model, width: the network.
      batch: images of 32x32.
    """

    model: str
    width: float
    batch: int


def random_dataset(num_images: int) -> Dataset:
    """Noise of CIFAR-10's shape: neither time nor memory depends on the pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 32, 32, 3), np.uint8)
    split = Split(images, rng.integers(0, 10, num_images, np.int32))
    classes = tuple(map(str, range(10)))
    return Dataset("noise", split, split, classes, "random numbers")


def compile_step(activation: str, size: StepSize) -> tuple[Any, Callable[[], Any]]:
    """The compiled training program, and a maker of its arguments for one step."""
    dataset = random_dataset(2 * size.batch)
    config = TrainConfig(
        model=size.model, width=size.width, method="standard", batch_size=size.batch
    )
    parsed = parse_activation(activation)
    trainer = make_trainer(resolve(config, dataset), parsed, dataset)
    data = device_data(dataset)

    def arguments() -> tuple[Any, ...]:
        return trainer.initial(0, parsed.alpha), data, trainer.settings, jnp.int32(1)

    shapes = jax.eval_shape(arguments)
    program = jax.jit(trainer.advance, donate_argnums=0).lower(*shapes).compile()
    return program, arguments


def measure_memory(activation: str, size: StepSize) -> dict[str, int]:
    """Bytes of an activation's program; forgets everything else that is compiled."""
    program, _ = compile_step(activation, size)
    analysis = program.memory_analysis()
    jax.clear_caches()
    return {
        "temporary_bytes": analysis.temp_size_in_bytes,
        "argument_bytes": analysis.argument_size_in_bytes,
    }


def measure_time(
    activations: tuple[str, ...], size: StepSize, rounds: int, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Seconds per step of each activation, and ratios to ReLU's, the activations in turn.

    Args:
      activations: ReLU among them.
      size: of the step.
      rounds: of timing.
      tell: told of each activation that is ready to be timed.
    """
    contenders: dict[str, Contender] = {}
    for activation in activations:
        contenders[activation] = make_contender(*compile_step(activation, size))
        contenders[activation]()
        tell(activation)
    times = interleaved(contenders, rounds)
    return {
        name: {
            "seconds": quartiles(own.wall)._asdict(),
            "ratio": ratio(own.wall, times[REFERENCE].wall)._asdict(),
            "cpu_ratio": ratio(own.cpu, times[REFERENCE].cpu)._asdict(),
            "all": own._asdict(),
        }
        for name, own in times.items()
    }


def measure_step(activation: str, size: StepSize) -> float:
    """Seconds of one training step, the second one; compiles."""
    step = make_contender(*compile_step(activation, size))
    step()
    started = time.monotonic()
    step()
    return time.monotonic() - started


def make_contender(program: Any, arguments: Callable[[], Any]) -> Contender:
    """One training step per call, each from where the last one ended."""
    state, *rest = arguments()

    def step() -> None:
        nonlocal state
        state, metrics = program(state, *rest)
        jax.block_until_ready((state, metrics))

    return step


def over_reference(rows: Mapping[str, Mapping[str, int]], quantity: str) -> dict[str, float]:
    """A quantity of each activation, such as `temporary_bytes`, over ReLU's."""
    reference = rows[REFERENCE][quantity]
    return {name: row[quantity] / reference for name, row in rows.items()}


def paper_ratio(activation: str, column: int) -> float | None:
    """The paper's memory (column 0) or time (1) over ReLU's; None where it has none."""
    if activation not in PAPER_COSTS:
        return None
    return PAPER_COSTS[activation][column] / PAPER_COSTS[REFERENCE][column]
