"""Training steps, attacks and Hessian products compiled for an accelerator that need not be there.

    python benchmarks/accelerator_programs.py --target v5e       # with the [tpu] extra
    python benchmarks/accelerator_programs.py --target h100      # with the [cuda] extra
    python benchmarks/accelerator_programs.py --target v5e --only "train trades" "attack Linf"

XLA compiles for a device from its description alone. So any machine can tell whether these programs
(`pmap` over four devices included) compile for a TPU or a GPU and fit its memory, and what Table
2's activations cost there in memory and in traffic with it. Nothing runs, so it says nothing of
time.

Memory is what the compiler reserves for intermediate results at their peak, `temp_size_in_bytes`,
on each device. Traffic is what kernels read and write, the loop over steps counted once. A GPU's
programs are compiled without autotuning, which takes the card: cuDNN's convolutions may then ask
for more or less workspace. A TPU's are compiled with the least effort, which takes a tenth of the
time and may take more memory (JAX_EXEC_TIME_OPTIMIZATION_EFFORT=0 in the environment is the usual
effort). ResNet-18, batch 128 over all devices, float32 and RCT-AF with beta = 1, unless the name
says otherwise.

Takes 5 to 10 minutes on two CPU cores for a target. Expect every program to compile and to fit, and
beta = 2 within 1.10 times ReLU's memory.
"""

import dataclasses
import functools
import os
import time
import unittest.mock
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

# Read when JAX and the accelerator's compiler are loaded; without them both look for devices.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0".strip()

import harness
import jax
import jax.numpy as jnp
import tyro
from activation_overhead import JUDGED, MOST_MEMORY
from jax._src.lib import xla_client
from jax.experimental import topologies
from rich.console import Console
from rich.table import Table

from rctaf_jax import parallel
from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.eval.autoattack.attack import Attack, Examples
from rctaf_jax.eval.autoattack.slots import make_pool_programs
from rctaf_jax.eval.autoattack.versions import attacks_named
from rctaf_jax.experiments.paper.overhead import (
    PAPER_COSTS,
    REFERENCE,
    over_reference,
    paper_ratio,
    random_dataset,
)
from rctaf_jax.experiments.run.measure import make_logits, make_losses
from rctaf_jax.hessian import hessian_vector_product
from rctaf_jax.threat_model import NORMS
from rctaf_jax.training import METHODS
from rctaf_jax.training.members import STACK_ON_ACCELERATORS, map_members
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.trainer import device_data, make_trainer

BATCH, NUM_CLASSES, SLOTS = 128, 10, 128
EFFORT = "jax_exec_time_optimization_effort"
ACTIVATION = "rct-af:beta=1,curvature=7"

H100_MEMORY = 84929347584
H100 = f"""
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {H100_MEMORY}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 13 }}
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What XLA would read from the card; figures of NVIDIA's, in the form of XLA's `gpu_specs`."""

Lower = Callable[[], Any]


class Target(NamedTuple):
    """An accelerator.

    Attributes:
        backend: what JAX would call it.
        devices: four of them.
        memory: bytes of each.
    """

    backend: str
    devices: list[Any]
    memory: float


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Programs compiled for an accelerator that need not be there."""

    target: Literal["v5e", "h100"]
    """Four TPU v5e or four NVIDIA H100."""
    only: tuple[str, ...] = ()
    """Those programs whose names begin so; all when left out."""


def main(benchmark: Benchmark) -> None:
    console, target = Console(), describe_target(benchmark.target)
    result = harness.start(**dataclasses.asdict(benchmark))
    result["target"] = [str(device) for device in target.devices]
    result["programs"], failed = {}, 0
    with unittest.mock.patch.object(jax, "default_backend", return_value=target.backend):
        for name, lower in programs_for(target).items():
            if benchmark.only and not name.startswith(benchmark.only):
                continue
            row = compile_program(lower, target)
            result["programs"][name] = row
            failed += "error" in row
            console.print(f"{name}: {describe(row)}", highlight=False)
            jax.clear_caches()
    result["over_relu"] = compare_activations(result["programs"])
    show(benchmark, result, console)
    if not benchmark.only:
        harness.save(f"accelerator_programs-{benchmark.target}", result, console)
    if failed:
        raise SystemExit(f"{failed} programs do not compile for {benchmark.target}, or do not fit.")


def describe_target(name: str) -> Target:
    """Devices that the compiler knows by description."""
    try:
        if name == "v5e":
            if EFFORT.upper() not in os.environ:
                jax.config.update(EFFORT, -1.0)
            described = topologies.get_topology_desc("v5e:2x2", platform="tpu")
            return Target("tpu", list(described.devices), 16 * 2**30)
        described = topologies.get_topology_desc(
            "h100", platform="cuda", target_config=H100, topology="1x1x4"
        )
        return Target("gpu", list(described.devices), H100_MEMORY)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        extra = {"v5e": "tpu", "h100": "cuda"}[name]
        raise SystemExit(
            f"This needs the compiler for {name}: pip install 'rctaf-jax[{extra}]' ({error})."
        ) from None


def programs_for(target: Target) -> dict[str, Lower]:
    """Everything that is compiled, by name."""
    alone = functools.partial(one_device, target)
    lowered: dict[str, Lower] = {}
    for method in METHODS:
        lowered[f"train {method}"] = functools.partial(alone, method=method)
    lowered["train trades, bfloat16"] = functools.partial(alone, method="trades", dtype="bfloat16")
    lowered["train trades, WRN-28-10"] = functools.partial(
        alone, method="trades", model="wrn-28-10"
    )
    lowered["train dajat, 4 devices"] = functools.partial(four_devices, target, method="dajat")
    stack = f"train dajat, bfloat16, width 1/2, {STACK_ON_ACCELERATORS} members"
    lowered[stack] = functools.partial(members, target, method="dajat", dtype="bfloat16", width=0.5)
    for norm in NORMS:
        for attack in attacks_named("standard", None, norm=norm, num_classes=NUM_CLASSES):
            name = f"attack {norm} {attack.name}"
            lowered[name] = functools.partial(attack_steps, target, attack)
    lowered["Hessian product"] = functools.partial(hessian_product, target)
    for activation in PAPER_COSTS:
        name = f"activation {activation}"
        lowered[name] = functools.partial(alone, activation, method="standard")
    return lowered


def make(activation: Activation, axis_name: str | None = None, **settings: Any) -> Any:
    """A trainer, and the shapes of its program's arguments."""
    dataset = random_dataset(2 * BATCH)
    stated = TrainConfig(**{"model": "resnet18", "batch_size": BATCH, **settings})
    trainer = make_trainer(resolve(stated, dataset), activation, dataset, axis_name=axis_name)

    def arguments() -> Any:
        state = trainer.initial(0, activation.alpha)
        return state, device_data(dataset), trainer.settings, jnp.int32(1)

    return trainer, jax.eval_shape(arguments)


def one_device(target: Target, activation: str = ACTIVATION, **settings: Any) -> Any:
    """A training program that has a device to itself."""
    trainer, shapes = make(parse_activation(activation), **settings)
    return jax.jit(trainer.advance, donate_argnums=0).lower(*placed(shapes, target))


def four_devices(target: Target, **settings: Any) -> Any:
    """A training program whose batches four devices share, as `rctaf train` does."""
    trainer, (state, *rest) = make(parse_activation(ACTIVATION), parallel.AXIS, **settings)
    advance: Any = parallel.data_parallel(
        trainer.advance, target.devices, num_arguments=4, shared=(1, 2, 3)
    )
    return advance.lower(repeated(state, len(target.devices)), *rest)


def members(target: Target, **settings: Any) -> Any:
    """A training program of stacked networks on each of four devices, as `rctaf sweep` has."""
    trainer, (state, *rest) = make(parse_activation(ACTIVATION), **settings)
    advance: Any = map_members(trainer, target.devices, STACK_ON_ACCELERATORS)
    return advance.lower(repeated(state, len(target.devices), STACK_ON_ACCELERATORS), *rest)


def attack_steps(target: Target, attack: Attack) -> Any:
    """The loop of an attack's steps between two looks at what has finished."""
    activation = parse_activation(ACTIVATION)
    train = TrainConfig(model="resnet18")
    logits = make_logits(train, activation, NUM_CLASSES)

    def ask(variables: Any, images: Any, keys: Any) -> Any:
        return logits(variables, images)

    programs = make_pool_programs(attack, ask, ask)  # searched and decided by one network
    (state, *_) = make(activation, method="standard")[1]

    def start() -> Any:
        images = jnp.zeros((SLOTS, 32, 32, 3))
        keys = jax.random.split(jax.random.key(0), SLOTS)
        examples = Examples(
            images, jnp.zeros(SLOTS, jnp.int32), keys, jnp.zeros((SLOTS, NUM_CLASSES))
        )
        nobody = programs.empty(examples)
        return programs.fill(nobody, examples, jnp.ones(SLOTS, bool), jnp.float32(0.1))

    shapes = (state.variables, jax.eval_shape(start), jax.ShapeDtypeStruct((), jnp.float32))
    advance: Any = programs.advance
    return advance.lower(*placed(shapes, target))


def hessian_product(target: Target) -> Any:
    """A Hessian-vector product of the mean loss over a batch."""
    activation = parse_activation(ACTIVATION)
    losses = make_losses(make_logits(TrainConfig(model="resnet18"), activation, NUM_CLASSES))
    variables = make(activation, method="standard")[1][0].variables
    params = variables.pop("params")
    images = jax.ShapeDtypeStruct((BATCH, 32, 32, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.int32)

    def product(params: Any, vector: Any, rest: Any, images: Any, labels: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return hessian_vector_product(
                lambda params: losses(params, rest, images, labels).mean(), params, vector
            )

    return jax.jit(product).lower(*placed((params, params, variables, images, labels), target))


def placed(shapes: Any, target: Target) -> Any:
    """Shapes of arrays that lie on the first device."""
    where = jax.sharding.SingleDeviceSharding(target.devices[0])
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)


def repeated(shapes: Any, *lead: int) -> Any:
    """Shapes with leading axes."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((*lead, *s.shape), s.dtype), shapes)


def compile_program(lower: Lower, target: Target) -> dict[str, Any]:
    """Memory and traffic of a compiled program, or what the compiler says against it."""
    started = time.monotonic()
    try:
        program = lower().compile()
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error).splitlines()[0]}
    memory = program.memory_analysis()
    row = {
        "seconds_to_compile": time.monotonic() - started,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        **traffic(program),
    }
    total = row["temporary_bytes"] + row["argument_bytes"]
    if total > target.memory:
        row["error"] = f"takes {total / 1e9:.1f} GB of {target.memory / 1e9:.1f} GB"
    return row


def traffic(program: Any) -> dict[str, float]:
    """Bytes that a program's kernels read and write, and how many exponentials and the like."""
    # JAX asks the program's own client, which a GPU that is not there does not have.
    counts = program.cost_analysis() or xla_client._xla.hlo_module_cost_analysis(
        jax.devices("cpu")[0].client, program.runtime_executable().hlo_modules()[0]
    )
    return {"traffic_bytes": counts["bytes accessed"], "transcendentals": counts["transcendentals"]}


def describe(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return row["error"]
    return f"{row['temporary_bytes'] / 1e6:,.0f} MB, {row['seconds_to_compile']:.0f} s to compile"


def compare_activations(programs: Mapping[str, Any]) -> dict[str, Any]:
    """Each activation's memory and traffic over ReLU's, and the verdict on beta = 2."""
    rows = {
        activation: programs[f"activation {activation}"]
        for activation in PAPER_COSTS
        if "temporary_bytes" in programs.get(f"activation {activation}", {})
    }
    if REFERENCE not in rows:
        return {}
    result: dict[str, Any] = {
        quantity: over_reference(rows, quantity)
        for quantity in ("temporary_bytes", "traffic_bytes")
    }
    if JUDGED in rows:
        value = result["temporary_bytes"][JUDGED]
        result["target"] = {"value": value, "most": MOST_MEMORY, "met": value <= MOST_MEMORY}
    return result


def show(benchmark: Benchmark, result: Mapping[str, Any], console: Console) -> None:
    table = Table(title=f"Compiled for {benchmark.target}")
    table.add_column("program")
    for column in ("MB", "s to compile", "memory", "paper", "traffic"):
        table.add_column(column, justify="right")
    over = result["over_relu"]
    for name, row in result["programs"].items():
        if "error" in row:
            table.add_row(name, row["error"])
            continue
        cells = [f"{row['temporary_bytes'] / 1e6:,.0f}", f"{row['seconds_to_compile']:.0f}"]
        activation = name.removeprefix("activation ")
        if activation in over.get("temporary_bytes", {}):
            cells += [
                f"{over['temporary_bytes'][activation]:.3f}",
                f"{paper_ratio(activation, 0):.2f}",
                f"{over['traffic_bytes'][activation]:.3f}",
            ]
        table.add_row(name, *cells)
    console.print(table)
    if "target" in over:
        verdict = "met" if over["target"]["met"] else "NOT met"
        console.print(
            f"{JUDGED}: {over['target']['value']:.3f} of at most {MOST_MEMORY}: {verdict}"
        )


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
