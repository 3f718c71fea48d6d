"""The plainest way to run an attack, and a network whose official verdicts are known."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.eval.autoattack.attack import Attack, Examples, Outcome

LogitsFn = Callable[[jax.Array], jax.Array]
RunPlainly = Callable[..., Outcome]


@pytest.fixture
def run_plainly() -> RunPlainly:
    """(attack, logits_fn, images, labels, epsilon, seed=0) to the outcome of all runs."""

    def run(
        attack: Attack,
        logits_fn: LogitsFn,
        images: np.ndarray,
        labels: np.ndarray,
        epsilon: float,
        seed: int = 0,
    ) -> Outcome:
        images, labels = jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)
        keys = jax.random.split(jax.random.key(seed), len(images))
        examples = Examples(images, labels, keys, logits_fn(images))
        step = jax.jit(lambda *rest: attack.step(lambda x, _: logits_fn(x), *rest))
        start = jax.jit(attack.start)
        best = None
        for run in range(attack.num_runs):
            state = start(examples, jnp.full(len(images), run), epsilon)
            for k in range(attack.num_steps):
                state = step(examples, jnp.full(len(images), k), epsilon, state)
            new = state.outcome
            if best is not None:
                is_new = ~(best.is_broken | best.nonfinite)
                new = jax.tree.map(
                    lambda a, b, is_new=is_new: jnp.where(
                        is_new.reshape(-1, *[1] * (a.ndim - 1)), a, b
                    ),
                    new,
                    best,
                )
            best = new
        return jax.tree.map(np.asarray, best)

    return run


SmallCNN = Callable[[], tuple[LogitsFn, dict[str, np.ndarray]]]


@pytest.fixture
def small_cnn() -> SmallCNN:
    """() to a small adversarially trained network, and values by name.

    Those are 16 images of CIFAR-10 (a JPEG copy) that it classifies correctly, its logits, and
    which of them withstood each attack of the official AutoAttack: Linf 8/255, L2 0.5, L1 12.
    """

    def load() -> tuple[LogitsFn, dict[str, np.ndarray]]:
        with np.load(Path(__file__).parent / "data" / "small_cnn.npz") as arrays:
            values = dict(arrays)

        def network(x: jax.Array) -> jax.Array:
            x = 4 * (x - 0.5)
            for name, stride in (("c1", 1), ("c2", 2), ("c3", 2)):
                x = jax.lax.conv_general_dilated(
                    x,
                    values[f"weights/{name}.weight"],
                    (stride, stride),
                    [(1, 1), (1, 1)],
                    dimension_numbers=("NHWC", "OIHW", "NHWC"),
                )
                x += values[f"weights/{name}.bias"]
                x *= jax.nn.sigmoid(float(values["alpha"]) * x)
            pooled = x.reshape(len(x), 4, 2, 4, 2, 64).mean(axis=(2, 4)).reshape(len(x), -1)
            return pooled @ values["weights/fc.weight"].T + values["weights/fc.bias"]

        return network, values

    return load
