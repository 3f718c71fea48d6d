"""An attack's programs: to fill slots with examples, and to take some steps in all of them.

A program has a fixed number of slots. Each holds an example at its own run and step, so one
compiled program serves examples at all stages.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.eval.verdict import NetworkVariables
from rctaf_jax.threat_model import Scalar

from .attack import Attack, Examples, Outcome, choose, initial_outcome, is_decided, observe

Ask = Callable[[NetworkVariables, Float[Array, "B H W C"], Array], Float[Array, "B classes"]]

CHUNK = 10
"""Steps between two looks at what has finished; a look makes the host wait for the device."""


class Slots(NamedTuple):
    """What lies in the slots of one device; every array's first axis is theirs."""

    examples: Examples
    run: Int[Array, " B"]
    step: Int[Array, " B"]
    is_finished: Bool[Array, " B"]
    candidate: Outcome | None
    state: Any


class PoolPrograms(NamedTuple):
    """One attack on one kind of network, compiled at the first call for each number of slots.

    Attributes:
      attack: which.
      empty: examples to slots of nobody, without compiling.
      fill: (slots, examples, is_new [B], epsilon) to slots.
      advance: (variables, slots, epsilon) to slots, `CHUNK` steps later.
      compiled: numbers of slots that were asked for so far.
    """

    attack: Attack
    empty: Callable[[Examples], Slots]
    fill: Callable[[Slots, Examples, Any, Scalar], Slots]
    advance: Callable[[NetworkVariables, Slots, Scalar], Slots]
    compiled: set[int]


def make_pool_programs(attack: Attack, ask: Ask, search: Ask | None = None) -> PoolPrograms:
    """Prepares an attack for all networks of one structure; nothing is compiled yet.

    Args:
      attack: what to run.
      ask: (variables, images, keys) to logits; a deterministic network ignores the keys. Its
          verdicts decide, at the highest matmul precision.
      search: the same network cheaper, at the backend's own precision. The attack then looks for
          images with it, and the last one that it takes for misclassified in `CHUNK` steps is
          shown to `ask`; where `ask` does not confirm it, the search goes on. None: search with
          `ask`, whose answers then decide at once.
    """
    precision = "highest" if search is None else None

    def begin(examples: Examples, epsilon: Scalar) -> Slots:
        nobody = jnp.zeros(len(examples.labels), jnp.int32)
        nothing = None if search is None else initial_outcome(examples.images)
        start = attack.start(examples, nobody, epsilon)
        return Slots(examples, nobody, nobody, nobody > 0, nothing, start)

    def empty(examples: Examples) -> Slots:
        slots = jax.tree.map(_zeros, jax.eval_shape(begin, examples, 1.0))
        return slots._replace(is_finished=~slots.is_finished)

    def fill(slots: Slots, examples: Examples, is_new: Array, epsilon: Scalar) -> Slots:
        return choose(is_new, begin(examples, epsilon), slots)

    def searched(variables: NetworkVariables, slots: Slots, epsilon: Scalar) -> tuple[Any, Any]:
        """The candidates, and the attack's next state with what is decided."""

        def predict(images: Array, keys: Array) -> Array:
            return (search or ask)(variables, images, keys)

        known, state = slots.state.outcome, slots.state
        if search is not None:
            state = state._replace(outcome=initial_outcome(slots.examples.images))
        with jax.default_matmul_precision(precision):
            state = attack.step(predict, slots.examples, slots.step, epsilon, state)
        if search is None:
            outcome = choose(slots.is_finished, known, state.outcome)
            return slots.candidate, state._replace(outcome=outcome)
        is_new = is_decided(state.outcome) & ~slots.is_finished
        return choose(is_new, state.outcome, slots.candidate), state._replace(outcome=known)

    def step(variables: NetworkVariables, slots: Slots, epsilon: Scalar) -> Slots:
        candidate, state = searched(variables, slots, epsilon)
        num_steps = jnp.where(slots.is_finished, slots.step, slots.step + 1)
        is_done = is_decided(state.outcome)
        is_over = (num_steps == attack.num_steps) & ~is_done & ~slots.is_finished
        is_next = is_over & (slots.run + 1 < attack.num_runs)
        run = slots.run + is_next
        if attack.num_runs > 1:
            state = _started_where(
                is_next, lambda: attack.start(slots.examples, run, epsilon), state
            )
        is_finished = slots.is_finished | is_done | (is_over & ~is_next)
        step = jnp.where(is_next, 0, num_steps)
        return Slots(slots.examples, run, step, is_finished, candidate, state)

    def decide(variables: NetworkVariables, slots: Slots) -> Slots:
        """Shows the candidates to the network that decides."""
        examples, candidate = slots.examples, slots.candidate
        assert candidate is not None
        with jax.default_matmul_precision("highest"):
            logits = ask(variables, candidate.adversarial, examples.keys)
        outcome = observe(
            slots.state.outcome,
            candidate.adversarial,
            logits,
            examples.labels,
            is_decided(candidate),
        )
        return slots._replace(
            is_finished=slots.is_finished | is_decided(outcome),
            candidate=initial_outcome(examples.images),
            state=slots.state._replace(outcome=outcome),
        )

    verdict = None if search is None else decide
    filled = jax.jit(fill, donate_argnums=0)
    return PoolPrograms(attack, empty, filled, _repeated(step, verdict), set())


def _zeros(like: jax.ShapeDtypeStruct) -> Any:
    """An array of nothing; of keys, too."""
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return np.zeros(like.shape, like.dtype)
    words = jax.eval_shape(jax.random.key_data, like)
    return jax.random.wrap_key_data(jnp.zeros(words.shape, words.dtype), impl="threefry2x32")


def _started_where(is_next: Array, start: Callable[[], Any], state: Any) -> Any:
    """A new run's state where one begins; an accelerator makes it always, rather than wait."""
    if jax.default_backend() != "cpu":
        return choose(is_next, start(), state)
    return jax.lax.cond(is_next.any(), lambda: choose(is_next, start(), state), lambda: state)


def _repeated(
    step: Callable[..., Slots], decide: Callable[..., Slots] | None
) -> Callable[[NetworkVariables, Slots, Scalar], Slots]:
    """`CHUNK` steps, and a verdict: a loop on the device, but on the host for a CPU.

    XLA:CPU's convolutions, which a network that is not one of ours will have, are several times
    slower inside a loop of its own.
    """

    def decided(variables: NetworkVariables, slots: Slots) -> Slots:
        if decide is None or slots.candidate is None:
            return slots
        is_asked = is_decided(slots.candidate).any()
        return jax.lax.cond(is_asked, decide, lambda _, slots: slots, variables, slots)

    single, last = jax.jit(step, donate_argnums=1), jax.jit(decided, donate_argnums=1)

    def on_host(variables: NetworkVariables, slots: Slots, epsilon: Scalar) -> Slots:
        for _ in range(CHUNK):
            slots = single(variables, slots, epsilon)
        return slots if decide is None else last(variables, slots)

    def on_device(variables: NetworkVariables, slots: Slots, epsilon: Scalar) -> Slots:
        slots = jax.lax.fori_loop(0, CHUNK, lambda _, slots: step(variables, slots, epsilon), slots)
        return decided(variables, slots)

    if jax.default_backend() == "cpu":
        return on_host
    return jax.jit(on_device, donate_argnums=1)
