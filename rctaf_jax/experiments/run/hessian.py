"""The Hessian diagonal of one trained network, and its norm (8): a folder for each method.

    hessian.json   diagonal.npz   hessian.png   hessian.svg   setup.json   sums.npz

The pictures are drawn where matplotlib is installed, of the extra `report`.
`sums.npz` is what a method needs to go on: interrupted, or asked for more probes, it continues.
"""

import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from rctaf_jax.array_file import damaged, read_arrays
from rctaf_jax.config import DiagonalConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.config_file import check_same
from rctaf_jax.experiments.show.progress import make_bars
from rctaf_jax.extras import missing
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.hessian import (
    HessianEstimate,
    MeanSquare,
    check_deterministic,
    check_independent,
    make_dataset_gradient,
    relative_error,
)
from rctaf_jax.hessian.estimates import paths_of
from rctaf_jax.locks import alone
from rctaf_jax.typed_json import read_json
from rctaf_jax.values import check_positive, check_seed

from .environment import free_memory
from .hessian_methods import Problem, State, Way, make_way, method_for
from .measure import describe_hessian, finite_or_none, hessian_split, make_losses
from .subject import Subject, provenance

SECONDS_PER_SAVE = 60.0
NUM_CHECKED = 8
"""Images on which the losses are checked to be independent of one another."""
SETUP, SUMS = "setup.json", "sums.npz"
_REMEDY = "run the same again to start anew"


def hessian_of(
    subject: Subject,
    config: DiagonalConfig,
    output: Path | None,
    command: str,
    console: Console,
) -> dict[str, Any]:
    """The Hessian norm of a network over training images.

    Args:
      subject: the network, and the images.
      config: which method, how much of it.
      output: folder for the results; hessian/METHOD in the subject's own if None.
      command: the command line, for the record.
      console: for progress.

    Returns:
      What `hessian.json` says, and "folder".

    Raises:
      InputError: if a folder or the configuration is no good, the network has no parameters, or
        the Hessian is not finite.
    """
    check_diagonal(config)
    problem = _problem(config, subject)
    method = method_for(config, problem)
    folder = output or subject.folder / "hessian" / method
    way = make_way(method, config, problem)
    if way.is_exact and config.until is not None:
        raise InputError(f"until is for estimates, and {method} is exact: leave it out.")
    _check_problem(config, problem)
    setup = _setup(method, way, config, subject, problem)
    with alone(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / SETUP).exists():
            check_same(folder / SETUP, read_json(folder / SETUP), setup)
        write_json(folder / SETUP, setup)
        state, done = _advance(way, config.until, folder, console)
        found = way.estimate(state)
        if not math.isfinite(found.mean_square.q):
            raise InputError(
                f"the Hessian of {subject.name} is not finite: its network's second derivatives "
                f"overflow; its activation is {_text(problem)}."
            )
        described = {
            "method": method,
            "unit": way.unit,
            "num_done": done,
            "relative_error": finite_or_none(relative_error(found.mean_square)),
            **describe_hessian(found, len(problem.split.labels)),
            **provenance(subject, config, command),
        }
        _write(folder, found, described)
    return {**described, "folder": str(folder)}


def check_diagonal(config: DiagonalConfig) -> None:
    """Refuse settings that cannot be.

    Raises:
      InputError: naming the value that cannot be.
    """
    check_positive(
        batch_size=config.batch_size,
        num_examples=config.num_examples,
        until=config.until,
        block_size=config.block_size,
        num_probes=config.num_probes if config.num_probes > 0 else None,
    )
    check_seed(config.seed)
    if config.num_probes < 2:
        raise InputError(
            f"num-probes must be 2 or more, since one probe has no standard error; "
            f"received {config.num_probes}."
        )


def _problem(config: DiagonalConfig, subject: Subject) -> Problem:
    devices, network = jax.local_devices(), subject.network
    if network.is_program:  # which is of one device
        devices = devices[:1]
    variables = network.variables
    if not isinstance(variables, Mapping) or not jax.tree.leaves(variables.get("params")):
        raise InputError(
            f"{subject.name} has no parameters: its variables must be a dict with the part "
            '"params", which the Hessian is of.'
        )
    return Problem(
        model=network.model,
        losses=make_losses(network.apply),
        params=variables["params"],
        rest={name: value for name, value in variables.items() if name != "params"},
        activation=network.activation,
        split=hessian_split(config.num_examples, subject.dataset),
        devices=devices if len(devices) > 1 else None,
        free_bytes=free_memory(),
        has_forward_mode=_has_forward_mode(subject),
    )


def _has_forward_mode(subject: Subject) -> bool:
    """Whether a network can be differentiated so; of our own models that is known."""
    network = subject.network
    if network.model is not None or network.is_program:
        return not network.is_program
    images = jnp.zeros((1, *subject.dataset.image_shape))

    def tangent(variables: Any) -> Any:
        params = variables["params"]

        def logits(params: Any) -> Any:
            return network.apply({**variables, "params": params}, images)

        return jax.jvp(logits, (params,), (params,))[1]

    try:  # JAX says so when it lowers, if what has no forward mode is in a function under jit
        jax.jit(tangent).lower(network.variables)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        return False
    return True


def _check_problem(config: DiagonalConfig, problem: Problem) -> None:
    """Is there a Hessian of a mean at all?"""
    images, labels = problem.split.images, problem.split.labels
    few = images[:NUM_CHECKED], labels[:NUM_CHECKED]
    check_independent(problem.losses, problem.params, problem.rest, *few)
    gradient = make_dataset_gradient(
        problem.losses, batch_size=config.batch_size, devices=problem.devices
    )
    check_deterministic(lambda: gradient(problem.params, problem.rest, images, labels))


def _setup(
    method: str, way: Way, config: DiagonalConfig, subject: Subject, problem: Problem
) -> dict[str, Any]:
    """What must be the same for sums to be gone on with."""
    return {
        "method": method,
        "seed": config.seed,
        "block_size": way.block_size,
        "batch_size": way.batch_size,
        "num_examples": len(problem.split.labels),
        "activation": _text(problem),
        "step": subject.network.facts.get("step"),
        "data": subject.dataset.provenance(),
        "weights": _hash((problem.params, problem.rest)),
    }


def _text(problem: Problem) -> str | None:
    return None if problem.activation is None else problem.activation.text


def _hash(tree: Any) -> str:
    """Of shapes, types and values of all leaves, by which a network is known again."""
    digest = hashlib.sha256()
    for leaf in map(np.asarray, jax.device_get(jax.tree.leaves(tree))):
        digest.update(f"{leaf.shape} {leaf.dtype} ".encode() + leaf.tobytes())
    return digest.hexdigest()


def _advance(way: Way, until: float | None, folder: Path, console: Console) -> tuple[State, int]:
    """Does what is missing; what is done is saved now and then, and whatever happens."""
    state, done = _load(folder / SUMS, way)

    def is_enough(metric: MeanSquare | None) -> bool:
        return until is not None and metric is not None and relative_error(metric) <= until

    console.print(f"{way.total:,} {way.unit} to do, {done:,} of them done.", highlight=False)
    saved, last_save = done, time.monotonic()
    with make_bars(console) as bars:
        task = bars.add_task(way.unit, total=way.total, completed=done, note="")
        try:
            metric = way.metric(state) if done else None
            while done < way.total and not is_enough(metric):
                stop = min(done + way.stride, way.total)
                state, done = way.advance(state, range(done, stop)), stop
                metric = way.metric(state)
                bars.update(task, completed=done, note="" if metric is None else _note(metric))
                if time.monotonic() - last_save > SECONDS_PER_SAVE:
                    _save(folder / SUMS, state, done)
                    saved, last_save = done, time.monotonic()
        finally:
            if saved < done:
                _save(folder / SUMS, state, done)
    return state, done


def _note(metric: MeanSquare) -> str:
    error = relative_error(metric)
    return (
        "norm unresolved"
        if error == np.inf
        else f"norm {metric.rms:.4g} \N{PLUS-MINUS SIGN} {error:.1%}"
    )


def _load(path: Path, way: Way) -> tuple[State, int]:
    """The state kept there, or the one before the first number."""
    if not path.exists():
        return way.state, 0
    leaves, structure = jax.tree.flatten(way.state)
    names = [f"leaf{number}" for number in range(len(leaves))]
    arrays = read_arrays(path, remedy=_REMEDY, names=[*names, "num_done"])
    kept = [arrays[name] for name in names]
    done = arrays["num_done"]
    fits = all(
        (one.shape, one.dtype) == (np.shape(leaf), np.asarray(leaf).dtype)
        for one, leaf in zip(kept, leaves, strict=True)
    )
    counts = not done.shape and done.dtype.kind in "iu" and done >= 0
    if not fits or not counts or (way.is_exact and done > way.total):
        raise damaged(path, "its sums are not those of this network and method", _REMEDY)
    return jax.tree.unflatten(structure, kept), int(done)


def _save(path: Path, state: State, done: int) -> None:
    leaves = enumerate(jax.device_get(jax.tree.leaves(state)))
    arrays = {f"leaf{number}": np.asarray(leaf) for number, leaf in leaves}
    write_arrays(path, {**arrays, "num_done": np.array(done)}, compressed=False)


def _write(folder: Path, found: HessianEstimate, described: dict[str, Any]) -> None:
    if found.diagonal is not None:
        names = paths_of(found.diagonal)
        arrays = {
            f"{name}{suffix}": leaf
            for tree, suffix in (
                (found.diagonal, ""),
                (found.diagonal_standard_error, ":standard_error"),
            )
            for name, leaf in zip(names, jax.tree.leaves(tree), strict=True)
        }
        write_arrays(folder / "diagonal.npz", arrays, compressed=False)
    if not missing(["matplotlib"]):
        from rctaf_jax.experiments.show.hessian_figure import hessian_figure
        from rctaf_jax.experiments.show.plotting import save_figure

        save_figure(hessian_figure(described, found.diagonal), folder / "hessian")
    write_json(folder / "hessian.json", described)
