"""What a training method is: an inner maximisation and a loss, both pure, and a recipe."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

Images = Float[Array, "batch height width channel"]
Labels = Int[Array, " batch"]
Logits = Float[Array, "batch classes"]
Predict = Callable[[Images], Logits]
Forward = Callable[[PyTree, Images], tuple[Logits, PyTree]]


class Budget(NamedTuple):
    """What the inner maximisation may do; the floats are traced, so they never recompile.

    Attributes:
      norm: "Linf" or "L2" (static).
      epsilon: radius of the ball, in pixels of [0, 1].
      step_size: length of one step, same unit.
      num_steps: number of steps (static).
    """

    norm: str
    epsilon: Float[Array, ""] | float
    step_size: Float[Array, ""] | float
    num_steps: int


class LossOutput(NamedTuple):
    """Beside the loss: the BatchNorm statistics after it, and the logits of the clean images."""

    batch_stats: PyTree
    logits: Logits


class Perturb(Protocol):
    """The inner maximisation: adversarial images, BatchNorm in inference mode."""

    def __call__(
        self,
        keys: PRNGKeyArray,
        predict: Predict,
        images: Images,
        labels: Labels,
        budget: Budget,
    ) -> Images:
        """Keys: one per example, so that the start does not depend on the device count."""


class Loss(Protocol):
    """The outer loss: mean over the batch, BatchNorm in training mode."""

    def __call__(
        self,
        forward: Forward,
        batch_stats: PyTree,
        images: Images,
        adversarial: Images,
        labels: Labels,
    ) -> tuple[Float[Array, ""], LossOutput]:
        """Chain `forward(batch_stats, x)`: each pass updates the statistics it was given."""


class Method(NamedTuple):
    """A training method; see one file per method in this folder."""

    name: str
    perturb: Perturb
    loss: Loss


class Recipe(NamedTuple):
    """The published settings of a method for CIFAR-10 (SGD, momentum 0.9, coupled weight decay).

    Attributes:
      epochs: number of passes over the data.
      learning_rate: its peak.
      schedule: a name in `schedules.SCHEDULES`.
      decay_epochs: where the step schedule divides the learning rate by 10; those after `epochs`
        belong to longer runs. A run of other length scales them.
      weight_decay: added to the gradient.
      attack_steps: steps of the inner maximisation.
      step_size: of the inner maximisation under Linf at epsilon 8/255.
    """

    epochs: int
    learning_rate: float
    schedule: str
    decay_epochs: tuple[int, ...]
    weight_decay: float
    attack_steps: int
    step_size: float

    @property
    def decays(self) -> tuple[float, ...]:
        """`decay_epochs` as shares of the run."""
        return tuple(epoch / self.epochs for epoch in self.decay_epochs)
