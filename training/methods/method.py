"""What a training method is: an inner maximisation, a loss on logits, and a published recipe.

A step runs a method so: it makes each of the method's views of a batch, lets `perturb` find the
adversarial images of each, runs the network in training mode on what `passes` names, and hands the
logits to `loss`. So a loss is a function of logits, and reads like its paper.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from rctaf_jax.aliases import Classes, Logits, Pixels, Predict

BASE = "base"
AUGMENTED = "augmented"
"""Names of views; each has its own BatchNorm set (scale, bias and statistics)."""


class Budget(NamedTuple):
    """What the inner maximisation may do; traced numbers never recompile.

    Attributes:
      norm: "Linf" or "L2" (static).
      epsilon: radius of the ball, in pixels of [0, 1].
      step_size: length of one step, same unit.
      num_steps: number of steps.
    """

    norm: str
    epsilon: Float[Array, ""] | float
    step_size: Float[Array, ""] | float
    num_steps: Int[Array, ""] | int


class Perturb(Protocol):
    """The inner maximisation: adversarial images, BatchNorm in inference mode."""

    def __call__(
        self,
        keys: PRNGKeyArray,
        predict: Predict,
        images: Pixels,
        labels: Classes,
        budget: Budget,
    ) -> Pixels:
        """Keys: one per example, so that the start does not depend on the device count."""


class ViewLogits(NamedTuple):
    """Training-mode logits of one view's images, by the method's passes.

    Attributes:
      by_pass: "clean", "adversarial" or both; a method that reads a pass it does not ask for fails.
    """

    by_pass: dict[str, Logits]

    @property
    def clean(self) -> Logits:
        """z(x)."""
        return self.by_pass["clean"]

    @property
    def adversarial(self) -> Logits:
        """z(x')."""
        return self.by_pass["adversarial"]


class Loss(Protocol):
    """The outer loss: mean over the batch."""

    def __call__(
        self, views: Sequence[ViewLogits], labels: Classes, memory: PyTree
    ) -> Float[Array, ""]:
        """Views: all of the method's, or the base view alone (adversarial weight perturbation)."""


class Memory(NamedTuple):
    """State that a method carries from step to step; part of the checkpoint.

    Attributes:
      initial: `(num_classes)` to the state before step 0.
      observe: `(views, labels)` to sums over the examples; the step adds them up over devices.
      update: `(memory, observed, ends_epoch)` to the memory of the next step.
    """

    initial: Callable[[int], PyTree]
    observe: Callable[[Sequence[ViewLogits], Classes], PyTree]
    update: Callable[[PyTree, PyTree, Bool[Array, ""]], PyTree]


NO_MEMORY = Memory(lambda num_classes: {}, lambda views, labels: {}, lambda memory, *_: memory)


class Method(NamedTuple):
    """A training method; see one file per method in this folder.

    Attributes:
      name: as in the registry.
      perturb: the inner maximisation, of each view by itself.
      loss: of the logits of all views.
      passes: which images of a view the network sees in training mode, in this order.
      views: BASE first; AUGMENTED views come from AutoAugment and share one further BatchNorm set.
      memory: what it carries from step to step.
    """

    name: str
    perturb: Perturb
    loss: Loss
    passes: tuple[str, ...] = ("clean", "adversarial")
    views: tuple[str, ...] = (BASE,)
    memory: Memory = NO_MEMORY


class RecipeSetting(NamedTuple):
    """What a published recipe may depend on."""

    num_classes: int = 10
    is_wide: bool = False


class Recipe(NamedTuple):
    """The published settings of a method (SGD, momentum 0.9, coupled weight decay, batch 128).

    Attributes:
      epochs: number of passes over the data.
      learning_rate: its peak.
      schedule: a name in `schedules.SCHEDULES`.
      weight_decay: added to the gradient.
      decay_epochs: those, counted from 1, at whose start the step schedule divides the learning
        rate by 10; those after `epochs` belong to longer runs. A run of other length scales them.
      budget: a name in `budgets.BUDGETS`.
      attack_steps: steps of the inner maximisation under the budget "fixed".
      step_size: of such a step under Linf at epsilon 8/255.
      awp: size gamma of the adversarial weight perturbation; 0 for none.
      averaging: decay tau of the weight averaging; 0 for none.
      options: the method's own numbers, which its maker takes by these names.
    """

    epochs: int
    learning_rate: float
    schedule: str
    weight_decay: float
    decay_epochs: tuple[int, ...] = ()
    budget: str = "fixed"
    attack_steps: int | None = None
    step_size: float | None = None
    awp: float = 0.0
    averaging: float = 0.0
    options: Mapping[str, float] = MappingProxyType({})

    @property
    def decays(self) -> tuple[float, ...]:
        """What share of the run is before each of `decay_epochs`."""
        return tuple((epoch - 1) / self.epochs for epoch in self.decay_epochs)


class Published(NamedTuple):
    """A line of the registry: `make(**options)` and `recipe(setting)`."""

    make: Callable[..., Method]
    recipe: Callable[[RecipeSetting], Recipe]
