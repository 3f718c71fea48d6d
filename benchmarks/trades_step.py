"""One TRADES-10 step of ResNet-18 against the same step written plainly in PyTorch.

    python benchmarks/trades_step.py                                          # needs [bench]
    python benchmarks/trades_step.py --activation rct-af:beta=1,curvature=7 --batch 128

A step is the inner maximisation (10 steps from x + 0.001 N(0, 1), BatchNorm in inference mode),
the TRADES loss with weight 6 (BatchNorm in training mode), and SGD with momentum and weight decay.
Both start from the same weights on the same batch with the same noise, and the losses of the first
step must agree within 1e-3 before anything is timed. Eager PyTorch has as many threads as there are
cores. float32 is float32, not TensorFloat-32; on a GPU there is also bfloat16 against
`torch.compile` with autocast and channels-last memory. Beside the times stands each contender's
share of the device's own rate in a large matrix product of its type.

PyTorch's threads wait for each other in a spin, so that on a CPU with other work it loses several
times its speed, and a comparison on all cores is then about scheduling. `--cores 1` has both share
one core, where there is nothing to wait for. The CPU seconds of both are recorded as well.

On two CPU cores the default takes three minutes. Expect the losses to agree to 1e-4, and the steps
to take about the same time, ours a little less.
"""

import dataclasses
import os
import time
import unittest.mock
from collections.abc import Callable
from typing import Any

# Two frameworks share the card: neither may take all of its memory beforehand.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import harness
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.aliases import Classes, Pixels, Predict
from rctaf_jax.models import Model, convolution, create, to_torch
from rctaf_jax.training import augmentation
from rctaf_jax.training.batches import DeviceBatch
from rctaf_jax.training.budgets import RunShape, budget_named
from rctaf_jax.training.methods import perturbations as ascents
from rctaf_jax.training.methods import trades
from rctaf_jax.training.methods.method import BASE, Budget, Method
from rctaf_jax.training.schedules import RunLength, schedule_named
from rctaf_jax.training.state import SGD_MOMENTUM, initial_state, sgd
from rctaf_jax.training.step import StepPlan, TracedNumbers, make_step

EPSILON, STEP_SIZE, ATTACK_STEPS, WEIGHT = 8 / 255, 0.007, 10, 6.0
LEARNING_RATE, WEIGHT_DECAY = 0.1, 2e-4
TOLERANCE = 1e-3
FORWARD_PASSES = (1 + 2 * ATTACK_STEPS) + 2 * 3
"""Of one step, a backward pass to the images or to the weights counted as one: the clean logits, 10
passes there and back to the images, and two passes of the loss there, back, and to the weights."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Seconds per TRADES-10 step, ours and PyTorch's."""

    activation: str = "relu"
    """relu, or rct-af with beta=1 (x sigmoid(alpha x))."""
    width: float = 1.0
    """Of the ResNet-18."""
    batch: int = 32
    """Images per step; 128 is the recipe's."""
    rounds: int = 7
    """Rounds of timing."""
    cores: int | None = None
    """CPU cores that both may use; all when left out."""


class Problem:
    """What both sides are given: weights, a batch, the noise that the attack starts with."""

    def __init__(self, benchmark: Benchmark) -> None:
        rng = np.random.default_rng(0)
        shape = (benchmark.batch, 32, 32, 3)
        self.activation: Activation = parse_activation(benchmark.activation)
        self.width = benchmark.width
        self.images = rng.integers(0, 256, shape, np.uint8)
        self.labels = rng.integers(0, 10, benchmark.batch, np.int32)
        self.noise = (ascents.START_DEVIATION * rng.standard_normal(shape)).astype(np.float32)
        self.variables = self.model().init(jax.random.key(0), shape[1:])

    def model(self, dtype: Any = jnp.float32) -> Model:
        """The network."""
        return create(
            "resnet18", num_classes=10, activation=self.activation, width=self.width, dtype=dtype
        )


Step = Callable[[], float]
"""Takes one step and returns its loss."""


def our_step(problem: Problem, dtype: Any) -> Step:
    """The package's training step, with the noise given instead of drawn."""

    def perturb(
        keys: Any, predict: Predict, images: Pixels, labels: Classes, budget: Budget
    ) -> Pixels:
        start = images + jnp.asarray(problem.noise, images.dtype)
        return ascents.ascend_divergence(predict, images, start, budget)

    method = Method("trades", perturb, trades.make_loss(WEIGHT))
    plan = StepPlan(
        apply=problem.model(dtype).apply,
        method=method,
        optimizer=sgd(WEIGHT_DECAY),
        schedule=schedule_named("constant", RunLength(1, 1)),
        budget=budget_named("fixed", RunShape("Linf", 1, ATTACK_STEPS)),
        augmentations={BASE: augmentation.none},
        epoch_steps=1,
    )
    step = make_step(plan)
    program = jax.jit(step, donate_argnums=0)
    variables = jax.tree.map(jnp.copy, problem.variables)
    state = initial_state(variables, plan.optimizer, jax.random.key(0), method, num_classes=10)
    keys = jax.random.split(jax.random.key(0), len(problem.labels))
    batch = DeviceBatch(jnp.asarray(problem.images), jnp.asarray(problem.labels), keys)
    settings = TracedNumbers(*map(jnp.float32, (EPSILON, STEP_SIZE, LEARNING_RATE, 0, 0)))

    def advance() -> float:
        nonlocal state
        state, metrics = program(state, batch, settings)
        jax.block_until_ready(state)
        return float(metrics.loss)

    return advance


def import_torch() -> Any:
    """PyTorch, which the package itself never needs."""
    try:
        import torch
    except ImportError:
        raise SystemExit(
            "This benchmark compares with PyTorch, which is not installed: "
            "pip install 'rctaf-jax[bench]'."
        ) from None
    return torch


def torch_activation(torch: Any, activation: Activation) -> Callable[[Any], Any]:
    """The activation as one would write it in PyTorch."""
    if activation.name == "relu":
        return torch.relu
    if activation.beta == 1:
        return lambda x: x * torch.sigmoid(activation.alpha * x)
    raise SystemExit(f"activation is {activation.text}; it must be relu or rct-af with beta=1.")


def torch_resnet18(torch: Any, activation: Callable[[Any], Any], width: float) -> Any:
    """The CIFAR ResNet-18 under the names of the reference implementations."""
    nn = torch.nn

    class Block(torch.nn.Module):
        def __init__(self, channels: int, features: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(features)
            self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(features)
            self.shortcut = nn.Sequential()
            if stride != 1 or channels != features:
                projection = nn.Conv2d(channels, features, 1, stride, bias=False)
                self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(features))

        def forward(self, x: Any) -> Any:
            y = activation(self.bn1(self.conv1(x)))
            return activation(self.bn2(self.conv2(y)) + self.shortcut(x))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            stem, *_ = channels = [round(c * width) for c in (64, 128, 256, 512)]
            self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(stem)
            before = [stem, *channels]
            for i, features in enumerate(channels):
                first = Block(before[i], features, 1 if i == 0 else 2)
                setattr(self, f"layer{i + 1}", nn.Sequential(first, Block(features, features, 1)))
            self.linear = nn.Linear(channels[-1], 10)

        def forward(self, x: Any) -> Any:
            x = activation(self.bn1(self.conv1(x)))
            for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
                x = layer(x)
            return self.linear(x.mean((2, 3)))

    return Network()


def torch_step(torch: Any, problem: Problem, device: str, *, compiled: bool = False) -> Step:
    """The same step in PyTorch: eager in float32, or compiled in bfloat16 with channels last."""
    functional = torch.nn.functional
    layout = torch.channels_last if compiled else torch.contiguous_format
    network = torch_resnet18(torch, torch_activation(torch, problem.activation), problem.width)
    weights = to_torch("resnet18", problem.variables)
    weights = {name: torch.tensor(array) for name, array in weights.items()}
    network.load_state_dict(weights, strict=False)
    network = network.to(device, memory_format=layout)
    predict = torch.compile(network) if compiled else network

    def tensor(array: np.ndarray) -> Any:
        moved = torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
        return moved.to(device, memory_format=layout)

    images = tensor((problem.images / 255).astype(np.float32))
    noise, labels = tensor(problem.noise), torch.from_numpy(problem.labels).long().to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, momentum=SGD_MOMENTUM, weight_decay=WEIGHT_DECAY
    )

    def logits(x: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=compiled):
            return predict(x).float()

    def divergence(clean: Any, adversarial: Any, reduction: str) -> Any:
        log_q, log_p = adversarial.log_softmax(1), clean.log_softmax(1)
        return functional.kl_div(log_q, log_p, reduction=reduction, log_target=True)

    def perturb() -> Any:
        network.eval()
        with torch.no_grad():
            clean = logits(images)
        adversarial = images + noise
        for _ in range(ATTACK_STEPS):
            adversarial.requires_grad_()
            loss = divergence(clean, logits(adversarial), "sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            adversarial = adversarial.detach() + STEP_SIZE * gradient.sign()
            adversarial = torch.clamp(adversarial, images - EPSILON, images + EPSILON).clamp(0, 1)
        return adversarial

    def advance() -> float:
        adversarial = perturb()
        network.train()
        clean = logits(images)
        robust = divergence(clean, logits(adversarial), "batchmean")
        loss = functional.cross_entropy(clean, labels) + WEIGHT * robust
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return float(loss.detach())

    return advance


def main(benchmark: Benchmark) -> None:
    num_cores = restrict_to(benchmark.cores)
    torch, console = import_torch(), Console()
    torch.set_num_threads(num_cores)
    torch.backends.cudnn.allow_tf32 = False
    jax.config.update("jax_default_matmul_precision", "highest")
    result = harness.start(**dataclasses.asdict(benchmark))
    result["environment"]["versions"]["torch"] = torch.__version__
    result["torch_threads"] = torch.get_num_threads()
    problem = Problem(benchmark)
    on_gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    contenders = make_contenders(torch, problem, on_gpu)
    result["first_loss"] = first_losses(contenders)
    console.print(f"loss of the first step: {result['first_loss']}")
    times = harness.interleaved(contenders, benchmark.rounds)
    result["contenders"] = describe(problem, times)
    result["speedup"] = speedups(times)
    show(result, console)
    suffix = "" if benchmark.cores is None else f"-{benchmark.cores}-core"
    harness.save("trades_step" + suffix, result, console)


def restrict_to(cores: int | None) -> int:
    """Keep this process, whose threads are yet to start, on some cores; returns how many."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, allowed)
    return len(allowed)


def first_losses(contenders: dict[str, Step]) -> dict[str, float]:
    """The losses of the first step; stops the benchmark if those of float32 differ."""
    losses = {name: step() for name, step in contenders.items()}
    ours, theirs, *_ = losses.values()
    difference = abs(ours - theirs) / abs(theirs)
    if not difference < TOLERANCE:
        raise SystemExit(f"the first losses differ by {difference:.1e} in float32: {losses}.")
    return {**losses, "relative_difference": difference}


def make_contenders(torch: Any, problem: Problem, on_gpu: bool) -> dict[str, Step]:
    """Ours and PyTorch's, pair by pair, float32 first."""
    contenders = {
        "ours, float32": our_step(problem, jnp.float32),
        "torch eager, float32": torch_step(torch, problem, "cuda" if on_gpu else "cpu"),
    }
    if not on_gpu:
        return contenders
    return contenders | {
        "ours, bfloat16": our_step(problem, jnp.bfloat16),
        "torch compiled, bfloat16": torch_step(torch, problem, "cuda", compiled=True),
    }


def describe(problem: Problem, times: dict[str, harness.Times]) -> dict[str, Any]:
    """Seconds, and arithmetic as a share of what the device does in one large matrix product."""
    operations = step_operations(problem)
    names = {name: name.split(", ")[1] for name in times}
    rates = {dtype: matmul_rate(dtype) for dtype in set(names.values())}
    rows = {}
    for name, own in times.items():
        median, rate = harness.quartiles(own.wall).median, rates[names[name]]
        rows[name] = {
            "seconds": harness.quartiles(own.wall)._asdict(),
            "cpu_seconds": harness.quartiles(own.cpu)._asdict(),
            "images_per_second": len(problem.labels) / median,
            "gflops_per_second": operations / median / 1e9,
            "matmul_gflops_per_second": rate / 1e9,
            "share_of_matmul": operations / median / rate,
            "all": own._asdict(),
        }
    return rows


def step_operations(problem: Problem) -> float:
    """Multiplications and additions of the convolutions and the dense layer of one step."""
    apply = problem.model().apply
    images = jax.ShapeDtypeStruct(problem.images.shape, jnp.float32)
    with unittest.mock.patch.object(
        convolution, "_implementation", return_value=convolution.native
    ):
        jaxpr = jax.make_jaxpr(lambda x: apply(problem.variables, x)[0])(images)
    return FORWARD_PASSES * sum(map(product_operations, jaxpr.eqns))


def product_operations(equation: Any) -> float:
    """Of one matrix product or convolution, including those inside; 0 for anything else."""
    inner = [value for value in equation.params.values() if hasattr(value, "eqns")]
    inner += [v.jaxpr for v in equation.params.values() if hasattr(v, "jaxpr")]
    if inner:
        return sum(product_operations(e) for jaxpr in inner for e in jaxpr.eqns)
    if equation.primitive.name not in ("dot_general", "conv_general_dilated"):
        return 0.0
    result, kernel = equation.outvars[0].aval, equation.invars[1].aval
    return 2.0 * result.size * kernel.size / kernel.shape[-1]


def matmul_rate(dtype: str) -> float:
    """Operations per second of a large matrix product, the median of 10."""
    size = 8192 if jax.default_backend() == "gpu" else 2048
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / harness.quartiles(seconds).median


def speedups(times: dict[str, harness.Times]) -> dict[str, Any]:
    """PyTorch's time over ours, for each pair."""
    names = list(times)
    return {
        f"{torch} / {ours}": {
            "wall": harness.ratio(times[torch].wall, times[ours].wall)._asdict(),
            "cpu": harness.ratio(times[torch].cpu, times[ours].cpu)._asdict(),
        }
        for ours, torch in zip(names[::2], names[1::2], strict=True)
    }


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title="One TRADES-10 step of ResNet-18")
    table.add_column("contender", no_wrap=True)
    for column in ("s", "quartiles", "CPU s", "images/s", "GFLOP/s", "of matmul"):
        table.add_column(column, justify="right")
    for name, row in result["contenders"].items():
        seconds = row["seconds"]
        table.add_row(
            name,
            f"{seconds['median']:.3f}",
            f"{seconds['low']:.2f}-{seconds['high']:.2f}",
            f"{row['cpu_seconds']['median']:.2f}",
            f"{row['images_per_second']:.1f}",
            f"{row['gflops_per_second']:.0f}",
            f"{row['share_of_matmul']:.0%}",
        )
    console.print(table)
    for name, clocks in result["speedup"].items():
        for clock, speedup in clocks.items():
            verdict = "met" if speedup["median"] > 1 else "NOT met"
            low, high = speedup["low"], speedup["high"]
            numbers = f"{speedup['median']:.2f} ({low:.2f} to {high:.2f})"
            console.print(f"{name}, {clock} time: {numbers}; over 1: {verdict}")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
