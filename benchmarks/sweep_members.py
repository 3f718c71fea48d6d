"""What a sweep costs per member: compilations, seconds, and a stack against one after another.

    python benchmarks/sweep_members.py

Sixteen networks that differ in alpha only (RCT-AF with beta = 1, curvatures 0.5 to 50): resnet-mini
on digits, TRADES with 5 attack steps, a few training steps each, then accuracy under PGD and a
Hessian norm. First, the members go one after another through a sweep's programs, and every
compilation is counted by its function's name: the training program, the two of the evaluation and
the Hessian's must be compiled for the first member and never again. Then `map_members` trains all
sixteen in stacks of 1, 4 and 16, in turn: seconds per member and step, which
`members_per_device()` rests on.

Takes 3 minutes on two idle CPU cores. Expect one compilation per program, none after the first
member, and on a CPU no gain from a stack.
"""

import collections
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import EvaluationConfig, HessianConfig
from rctaf_jax.data import Dataset, load
from rctaf_jax.experiments.run.measure import (
    hessian_split,
    make_estimate_hessian,
    make_evaluate,
    make_logits,
)
from rctaf_jax.experiments.sweep.presets import DIGITS
from rctaf_jax.training.members import map_members, members_per_device, stack
from rctaf_jax.training.recipe import ResolvedTraining, resolve
from rctaf_jax.training.trainer import Trainer, device_data, make_trainer

PROGRAMS = {
    "training": "jit(_fun)",  # jax.pmap's name for whatever it maps
    "clean accuracy": "jit(on_batch)",
    "PGD": "jit(_attack_batch)",
    "Hessian": "jit(add_batch)",
}
"""What a sweep compiles per family, and the name under which JAX reports the compilation."""
COMPILATION = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Sixteen members of one family."""

    num_alphas: int = 16
    """Members, their curvatures spaced evenly in logarithm from 0.5 to 50."""
    steps: int = 8
    """Training steps of each member, in each round."""
    stacks: tuple[int, ...] = (1, 4, 16)
    """Members per device to compare; each must divide the number of members."""
    rounds: int = 5
    """Rounds of timing."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    if any(benchmark.num_alphas % size for size in benchmark.stacks):
        raise SystemExit(f"each of {benchmark.stacks} must divide {benchmark.num_alphas}.")
    result = harness.start(**dataclasses.asdict(benchmark))
    dataset = load("digits")
    training = resolve(DIGITS.train, dataset)
    curvatures = np.geomspace(0.5, 50, benchmark.num_alphas)
    members = [parse_activation(f"rct-af:beta=1,curvature={c:.6g}") for c in curvatures]
    result["train"] = dataclasses.asdict(training.config)
    result["sweep"] = run_members(benchmark, training, dataset, members)
    harness.save("sweep_members", result, console)
    result["stacks"] = compare_stacks(benchmark, training, dataset, members)
    result["members_per_device"] = members_per_device()
    show(result, console)
    harness.save("sweep_members", result, console)


@contextmanager
def counted_compilations() -> Iterator[collections.Counter[str]]:
    """Counts what XLA compiles, by the name of the Python function."""
    count: collections.Counter[str] = collections.Counter()

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == COMPILATION:
            count[str(details.get("fun_name"))] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield count
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def run_members(
    benchmark: Benchmark, training: ResolvedTraining, dataset: Dataset, members: list[Activation]
) -> dict[str, Any]:
    """Each member in turn, as a sweep on one device does: its seconds and its compilations."""
    trainer = make_trainer(training, members[0], dataset)
    device = jax.local_devices()[:1]
    advance, data = map_members(trainer, device, 1), device_data(dataset)
    hessian = HessianConfig(num_probes=2, num_examples=100, batch_size=100)
    evaluation = EvaluationConfig(pgd_steps=5)
    train = training.config
    logits = make_logits(train, members[0], dataset.num_classes)
    evaluate = make_evaluate(evaluation, logits, train.norm, train.epsilon)
    estimate = make_estimate_hessian(hessian, logits)
    split = hessian_split(hessian.num_examples, dataset)
    rows = []
    for seed, member in enumerate(members):
        started = time.perf_counter()
        with counted_compilations() as compilations:
            state = stack([trainer.initial(seed, member.alpha)], device, 1)
            state, _ = advance(state, data, trainer.settings, benchmark.steps)
            variables = jax.tree.map(lambda leaf: leaf[0], jax.device_get(state)).variables
            evaluate(variables, dataset.test)
            jax.block_until_ready(estimate(variables, split))
        seconds = time.perf_counter() - started
        rows.append({"alpha": member.alpha, "seconds": seconds, "compilations": compilations})
    return summarise(rows)


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Compilations of each program over all members, and seconds with and without them."""
    total: collections.Counter[str] = sum(
        (row["compilations"] for row in rows), collections.Counter()
    )
    later = total - rows[0]["compilations"]
    return {
        "compilations": {name: total[function] for name, function in PROGRAMS.items()},
        "compilations_after_first_member": dict(later),
        "first_member_seconds": rows[0]["seconds"],
        "later_member_seconds": harness.quartiles([row["seconds"] for row in rows[1:]])._asdict(),
        "members": [{**row, "compilations": dict(row["compilations"])} for row in rows],
    }


def compare_stacks(
    benchmark: Benchmark, training: ResolvedTraining, dataset: Dataset, members: list[Activation]
) -> dict[str, Any]:
    """Seconds per member and step for each size of stack, all sizes training the same members."""
    trainer = make_trainer(training, members[0], dataset)
    contenders = {
        str(size): make_contender(trainer, dataset, members, size, benchmark.steps)
        for size in benchmark.stacks
    }
    for contender in contenders.values():
        contender()
    times = harness.interleaved(contenders, benchmark.rounds)
    alone, work = times[str(benchmark.stacks[0])], benchmark.num_alphas * benchmark.steps
    return {
        name: {
            "seconds_per_member_step": harness.quartiles([t / work for t in own.wall])._asdict(),
            "ratio": harness.ratio(own.wall, alone.wall)._asdict(),
            "cpu_ratio": harness.ratio(own.cpu, alone.cpu)._asdict(),
            "all": own._asdict(),
        }
        for name, own in times.items()
    }


def make_contender(
    trainer: Trainer, dataset: Dataset, members: list[Activation], size: int, steps: int
) -> harness.Contender:
    """Some steps of every member, a stack of `size` at a time on the first device."""
    device, data = jax.local_devices()[:1], device_data(dataset)
    advance = map_members(trainer, device, size)
    fresh = [trainer.initial(seed, member.alpha) for seed, member in enumerate(members)]
    states = [stack(fresh[i : i + size], device, size) for i in range(0, len(fresh), size)]

    def train_all() -> None:
        for i, state in enumerate(states):
            states[i], _ = advance(state, data, trainer.settings, jnp.int32(steps))
        jax.block_until_ready(states)

    return train_all


def show(result: dict[str, Any], console: Console) -> None:
    sweep, configuration = result["sweep"], result["configuration"]
    table = Table(title=f"Compilations for {configuration['num_alphas']} values of alpha")
    table.add_column("program")
    table.add_column("compilations", justify="right")
    for name, count in sweep["compilations"].items():
        table.add_row(name, str(count))
    table.add_row("anything, after the first member", str(count_after_first(sweep)))
    console.print(table)
    later = sweep["later_member_seconds"]
    console.print(
        f"first member {sweep['first_member_seconds']:.1f} s with compiling, later members "
        f"{later['median']:.2f} s ({later['low']:.2f} to {later['high']:.2f})"
    )
    table = Table(title="Training, members per device")
    for column in ("stack", "ms per member and step", "over the first", "quartiles"):
        table.add_column(column, justify="right")
    for name, row in result["stacks"].items():
        ratio, seconds = row["ratio"], row["seconds_per_member_step"]["median"]
        quartiles = f"{ratio['low']:.2f}-{ratio['high']:.2f}"
        table.add_row(name, f"{1e3 * seconds:.1f}", f"{ratio['median']:.2f}", quartiles)
    console.print(table)
    console.print(f"members_per_device() here: {result['members_per_device']}")


def count_after_first(sweep: dict[str, Any]) -> int:
    """Compilations of any function from the second member on."""
    return sum(sweep["compilations_after_first_member"].values())


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
