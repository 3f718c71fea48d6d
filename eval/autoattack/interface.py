"""AutoAttack (Croce & Hein 2020): an ensemble of parameter-free attacks, and the worst case.

Each attack starts from the clean images that are classified correctly and withstood the attacks
before it; robust accuracy is the share of images that withstood all. `docs/autoattack.md` lists
where this deliberately differs from the official implementation, and why.
"""

import functools
import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.batching import Images, Labels, PaddedBatch, over_batches, pixels
from rctaf_jax.errors import InputError
from rctaf_jax.eval.keys import threefry_key
from rctaf_jax.eval.verdict import NetworkVariables, judge_logits, require_allowed
from rctaf_jax.threat_model import ThreatModel, norm_named, threat_model
from rctaf_jax.values import parse_number

from . import checks
from .across import agreed, open_ledger
from .attack import Attack, Examples
from .ensemble import AttackProgress, AttackReport, Engine, EnsembleSetting, Fates, run_all
from .inputs import checked_examples, example_keys
from .networks import AttackedNetwork
from .result import AutoAttackResult
from .slots import Ask, PoolPrograms, make_pool_programs
from .versions import attacks_named, version_of

NUM_CHECKED_IMAGES = 64
"""Images that the checks before the attacks look at, at most."""


AttackWatcher = Callable[[AttackProgress], None]


def autoattack(
    logits_fn: Callable[..., Float[Array, "B classes"]],
    images: Images,
    labels: Labels,
    key: Array,
    *,
    norm: str = "Linf",
    epsilon: float | str = 8 / 255,
    version: str = "standard",
    attacks: str | Attack | Sequence[str | Attack] | None = None,
    individual: bool = False,
    batch_size: int = 128,
    search: Callable[[Array], Float[Array, "B classes"]] | None = None,
    directory: str | Path | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: AttackWatcher | None = None,
) -> AutoAttackResult:
    """Robust accuracy of any JAX function from images to logits, under AutoAttack.

    Random numbers belong to (key, image and label, attack), so the result depends neither on batch
    size, devices or order, nor on whether it was interrupted, but for the network's own rounding: a
    convolution may round otherwise in another batch, by 2e-7 of a pixel where it was seen. An image
    counts as broken by the answer of the network in float32 at the highest matmul precision. On a
    CPU the search for it asks the same network; elsewhere, or with `search`, it asks a cheaper one.

    Among several processes of `jax.distributed`, all call it with the same arguments: each attacks
    its share of the images on its own devices, and all return the whole result. The first process
    alone reads and writes the folder: its own images as they are finished, those of the others
    whenever an attack ends.

    Args:
      logits_fn: images [B, H, W, C] in [0, 1] to logits [B, classes], BatchNorm in inference
          mode, examples not interacting; pure, since it is compiled. For version `rand` it takes
          (images, keys), one key for each image.
      images: N images, uint8 or floating point in [0, 1].
      labels: N class indices.
      key: of all random numbers; one that is not of threefry is made one of its first words.
      norm: `Linf`, `L2` or `L1`.
      epsilon: radius in pixels of [0, 1], above 0, or text such as "8/255".
      version: `standard`, `plus` or `rand`; see `versions.VERSIONS`.
      attacks: an attack or its name, or several, instead of a version's. A name stands for the
          version's own attack of that name if it has one, such as `apgd-ce` of 20 draws in
          `rand`, else for the one in `versions.ATTACKS`.
      individual: run each attack on all correctly classified images, not only on those that
          withstood the others.
      batch_size: images at a time, at most; a CPU takes fewer, other devices have two such batches.
      search: from images to logits, of a network that is nearly the same and cheaper, such as a
          copy in bfloat16, for looking only; at the precision that it sets, else the backend's
          own. Left out it is `logits_fn`. Not for version `rand`.
      directory: where to keep what is done, to go on after an interruption.
      devices: all local ones when left out.
      progress: called every now and then.

    Returns:
      An `AutoAttackResult`. Doubts are also issued as `AutoAttackWarning`.

    Raises:
      InputError: if an argument is not allowed, the network's outputs have the wrong shape or too
          few classes, or the directory holds something else or is damaged.

    Example:
      >>> images = np.array([[0.1, 0.9], [0.49, 0.51]], np.float32).reshape(2, 1, 1, 2)
      >>> result = autoattack(
      ...     lambda x: 4 * x.reshape(-1, 2), images, np.array([1, 1]), jax.random.key(0),
      ...     epsilon=0.1, attacks="apgd-ce", batch_size=2,
      ... )
      >>> result.robust.tolist(), result.robust_accuracy
      ([True, False], 0.5)
    """

    def ignoring_variables(_: NetworkVariables, images: Array, *keys: Array) -> Array:
        return logits_fn(images, *keys)

    def searching(_: NetworkVariables, images: Array) -> Array:
        assert search is not None
        return search(images)

    run = make_autoattack(
        ignoring_variables,
        norm=norm,
        version=version,
        attacks=attacks,
        individual=individual,
        batch_size=batch_size,
        search=None if search is None else searching,
        devices=devices,
    )
    return run((), images, labels, key, epsilon, directory=directory, progress=progress)


def make_autoattack(
    logits_fn: Callable[..., Float[Array, "B classes"]],
    *,
    norm: str,
    version: str = "standard",
    attacks: str | Attack | Sequence[str | Attack] | None = None,
    individual: bool = False,
    batch_size: int,
    search: Callable[[NetworkVariables, Array], Float[Array, "B classes"]] | None = None,
    devices: Sequence[jax.Device] | None = None,
    engine: Engine = run_all,
) -> Callable[..., AutoAttackResult]:
    """Makes an ensemble that is compiled once for all networks of one structure and all budgets.

    Args:
      logits_fn: `logits_fn(variables, images)`, or `(variables, images, keys)` for version
          `rand`.
      search: as for `autoattack`, of (variables, images).
      norm, version, attacks, individual, batch_size, devices: as for `autoattack`.
      engine: what runs the attacks in turn; another may have them run elsewhere first, and what
          they find in the ledger.

    Returns:
      `run(variables, images, labels, key, epsilon, *, directory=None, progress=None)` to an
      `AutoAttackResult`; it raises what `autoattack` does.

    Raises:
      InputError: if a name is unknown or a number is too small.
    """
    norm_named(norm)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be an int of at least 1, got {batch_size!r}")
    is_random = version_of(version).is_random
    listed = [attacks] if isinstance(attacks, str | Attack) else attacks
    chosen = tuple(jax.local_devices() if devices is None else devices)
    if not chosen:
        raise InputError("devices is empty: give one or more, or leave it out for all local ones")

    network = AttackedNetwork(logits_fn, search, is_random)

    @functools.cache
    def programs_for(num_classes: int) -> tuple[PoolPrograms, ...]:
        named = attacks_named(version, listed, norm=norm, num_classes=num_classes)
        return tuple(make_pool_programs(one, network.decide, network.search) for one in named)

    answers = _make_answers(network.decide, batch_size)
    zero_gradients = checks.make_zero_gradients(network.decide)

    def run(
        variables: NetworkVariables,
        images: Images,
        labels: Labels,
        key: Array,
        epsilon: float | str,
        *,
        directory: str | Path | None = None,
        progress: AttackWatcher | None = None,
    ) -> AutoAttackResult:
        threat = threat_model(norm, parse_number(epsilon) if isinstance(epsilon, str) else epsilon)
        if not threat.epsilon:
            raise InputError("epsilon must be above 0, got 0: there is nothing to attack")
        images, labels = checked_examples(images, labels)
        key = threefry_key(key)
        x: Any = np.asarray(pixels(images), np.float32)
        y: Any = np.asarray(labels).astype(np.int32)
        keys = example_keys(key, x, y)
        num_classes, precision = network.check(variables, x, keys, y)
        given = network.given(variables, x, keys)
        programs = programs_for(num_classes)
        setup = _describe(programs, x, y, key, threat, individual, network)
        logits = agreed(setup, lambda: answers(given, x, y, keys))
        examples = Examples(x, y, keys, logits)
        store = open_ledger(None if directory is None else Path(directory), setup, logits)
        clean = judge_logits(logits, y)
        doubts = [
            checks.is_huge_radius(norm, threat.epsilon),
            checks.returns_probabilities(logits, precision),
            checks.masks_classes(logits),
        ]
        if not is_random:
            doubts += _look_at_network(network.decide, zero_gradients, given, examples)
        setting = EnsembleSetting(given, examples, threat.epsilon, batch_size, chosen, individual)
        fates, reports = engine(programs, setting, clean, store, progress or _silent)
        require_allowed(fates.adversarial, x, threat)
        doubts.append(checks.masks_gradients({r.name: r.broken for r in reports}))
        doubts.append(checks.has_no_answers(int(fates.nonfinite.sum()), len(y)))
        correct = np.asarray(clean.correct)
        again = answers(given, fates.adversarial, y, keys)
        if not is_random:  # whose answers differ from one call to the next
            is_broken = correct & ~fates.robust & ~fates.nonfinite
            is_correct = np.asarray(judge_logits(again, y).correct)
            doubts.append(checks.differs_again(int((is_broken & is_correct).sum())))
        return _result(fates, correct, reports, doubts, y, again)

    return run


def _silent(progress: AttackProgress) -> None:
    """Reports nothing."""


def _make_answers(ask: Ask, batch_size: int) -> Callable[..., Any]:
    """(variables, images, labels, keys) to the logits of all images, on the host."""

    @jax.jit
    def on_batch(variables: NetworkVariables, batch: PaddedBatch, keys: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            return ask(variables, batch.images, keys[batch.position])

    def answers(
        variables: NetworkVariables,
        images: Float[np.ndarray, "N H W C"],
        labels: Int[np.ndarray, " N"],
        keys: Array,
    ) -> Any:
        size = min(batch_size, len(labels))
        return over_batches(
            lambda batch: on_batch(variables, batch, keys), images, labels, batch_size=size
        )

    return answers


def _result(
    fates: Fates,
    correct: Bool[np.ndarray, " N"],
    reports: Sequence[AttackReport],
    doubts: Sequence[str | None],
    labels: Int[np.ndarray, " N"],
    again: Float[np.ndarray, "N C"],
) -> AutoAttackResult:
    found = tuple(sentence for sentence in doubts if sentence is not None)
    for sentence in found:
        warnings.warn(sentence, checks.AutoAttackWarning, stacklevel=3)
    return AutoAttackResult(
        fates.robust,
        fates.adversarial,
        correct,
        fates.nonfinite,
        float(correct.mean()),
        float(fates.robust.mean()),
        tuple(reports),
        found,
        labels,
        np.where(np.isfinite(again).all(axis=1), again.argmax(axis=1), -1),
    )


def _look_at_network(
    ask: Ask,
    zero_gradients: Callable[..., Array],
    variables: NetworkVariables,
    examples: Examples,
) -> list[str | None]:
    """The checks that ask the network and need no attack."""
    few = [jnp.asarray(leaf[:NUM_CHECKED_IMAGES]) for leaf in (examples.images, examples.labels)]
    keys = examples.keys[:NUM_CHECKED_IMAGES]
    return [
        checks.is_randomised(lambda images: ask(variables, images, keys), *few),
        checks.has_zero_gradients(np.asarray(zero_gradients(variables, *few, keys))),
    ]


def _describe(
    programs: Sequence[PoolPrograms],
    images: Float[np.ndarray, "N H W C"],
    labels: Int[np.ndarray, " N"],
    key: Array,
    threat: ThreatModel,
    individual: bool,
    network: AttackedNetwork,
) -> dict[str, Any]:
    """What must be the same for a folder to be gone on with, and in all processes."""
    content = hashlib.sha256(np.ascontiguousarray(images).tobytes())
    content.update(labels.tobytes())
    return {
        "norm": threat.norm,
        "epsilon": threat.epsilon,
        "individual": individual,
        "attacks": [_say(program.attack) for program in programs],
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "images and labels": content.hexdigest(),
        # Folders of older versions know no other search than the network's own.
        **({"search": "a cheaper network"} if network.search else {}),
    }


def _say(attack: Attack) -> str:
    """Such as `square: 1 x 5000 steps, initial_fraction 0.8`."""
    settings = [f"{name} {value}" for name, value in attack.settings]
    return ", ".join([f"{attack.name}: {attack.num_runs} x {attack.num_steps} steps", *settings])
