"""The plainest way to run an attack, which other ways must agree with."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.eval.attack import Attack, Examples, Outcome

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
