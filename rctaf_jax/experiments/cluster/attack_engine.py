"""AutoAttack on a Ray cluster: each task attacks a block of the images on one device.

What a task is done with comes back as it is done and goes into the attack's own folder, in the form
in which one process keeps it there. So when all has arrived, one process reads the whole result
from the folder, and an interrupted attack goes on from there with either engine.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

from rctaf_jax.eval.autoattack.blocks import Job, Known, block_of, known_of, split
from rctaf_jax.eval.autoattack.ensemble import (
    AttackProgress,
    AttackReport,
    Engine,
    EnsembleSetting,
    Fates,
    place_of,
    run_all,
)
from rctaf_jax.eval.autoattack.pool import MOST_CPU_SLOTS
from rctaf_jax.eval.autoattack.slots import PoolPrograms
from rctaf_jax.eval.autoattack.store import Ledger
from rctaf_jax.eval.verdict import ImageVerdict
from rctaf_jax.experiments.run.environment import package_versions
from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.models import Network
from rctaf_jax.training.preemption import watch_for_termination

from .arrivals import Stream, Work, arrivals
from .attack_task import Order, attack_here
from .ray_cluster import connected, has_gpus, import_ray, num_devices

Part = Any
"""Places of a block's images among all, an array."""


def attack_with_ray(network: Network, address: str | None, console: Console) -> Engine:
    """An engine that has attacked what a folder lacks on a cluster, and then reads the folder.

    Args:
      network: what is attacked.
      address: HOST:PORT of the cluster; else RAY_ADDRESS, else one starts here and ends here.
      console: told of lost workers.

    Returns:
      What `make_autoattack` takes. It raises InputError if no cluster answers, a task raised one,
      or a block lost its worker too often, and Preempted on SIGTERM; what arrived by then is kept.
    """
    return functools.partial(run_elsewhere, network, address, console)


def run_elsewhere(
    network: Network,
    address: str | None,
    console: Console,
    programs: Sequence[PoolPrograms],
    setting: EnsembleSetting,
    clean: ImageVerdict,
    store: Ledger,
    progress: Callable[[AttackProgress], None],
) -> tuple[Fates, list[AttackReport]]:
    """`ensemble.run_all`, whose images are attacked on a cluster.

    Args:
      network, address, console: as for `attack_with_ray`.
      programs, setting, clean, store, progress: as for `run_all`.
    """
    attacks = tuple(program.attack for program in programs)
    known = known_of(attacks, setting, clean, store)
    functions = (network.apply, network.in_bfloat16, network.variables)
    job = Job(*functions, attacks, float(setting.epsilon), setting.batch_size)
    if known.unfinished().any():
        with connected(address), watch_for_termination() as should_stop:
            work = work_of(job, setting, clean, known, console)
            try:
                for number, finished in arrivals(parts_of(known, job), work, should_stop):
                    known.record(number, finished)
                    store.add(place_of(number + 1, attacks[number]), finished)
                    progress(known.progress(number, attacks))
            finally:
                store.flush()
    return run_all(programs, setting, clean, store, progress)


def parts_of(known: Known, job: Job) -> list[Part]:
    """Blocks of what is missing, for the joined cluster's devices."""
    slots = job.batch_size if has_gpus() else min(job.batch_size, MOST_CPU_SLOTS)
    count = num_devices("GPU") or num_devices("CPU")
    return split(np.flatnonzero(known.unfinished()), slots=slots, num_devices=max(count, 1))


def work_of(
    job: Job, setting: EnsembleSetting, clean: ImageVerdict, known: Known, console: Console
) -> Work[Part]:
    """What is done with blocks of an attack, by tasks that take one device of the cluster each."""
    ray = import_ray()
    order = ray.put(Order(job, bool(jax.config.read("jax_enable_x64")), package_versions()))
    device = {"num_gpus": 1} if has_gpus() else {"num_cpus": 1}
    task = ray.remote(max_retries=0, **device)(attack_here)

    def submit(part: Part) -> Stream:
        return task.remote([order], block_of(part, setting.examples, clean, known))

    def left(part: Part) -> Part | None:
        # All of them, though finished ones are not attacked again: see `split` on single images.
        return part if known.unfinished()[part].any() else None

    def name(part: Part) -> str:
        return f"{known.unfinished()[part].sum()} images"

    def lost(part: Part, reason: str) -> None:
        say(console, f"{name(part)}: lost ({reason}), attacked again elsewhere")

    return Work(submit, left, name, lost)
