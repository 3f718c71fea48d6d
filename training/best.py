"""The best network of a run by its validation, kept beside the last one.

Adversarial training overfits: robust accuracy on other images peaks long before the end (Rice, Wong
and Kolter 2020, Overfitting in adversarially robust deep learning).
"""

import numpy as np
from jaxtyping import PyTree

from rctaf_jax.errors import InputError

from .checkpoint import Checkpoints
from .methods.method import BASE
from .state import TrainState


class BestCheckpoint:
    """Keeps what is better than all before; of equals, the first.

    What is on the disk is the best ever offered, whatever a killed run had saved of its training:
    a run that goes on offers the same networks again, and none of them is better.

    Args:
      checkpoints: that keep one.

    Attributes:
      step: of the best network's training; 0 before the first.
      num_robust: its validation images that withstood the attack; -1 before the first.

    Raises:
      InputError: if the checkpoint that is there cannot be read, or is none of these.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self.step, self.num_robust = 0, -1
        if checkpoints.latest is not None:
            tree = checkpoints.restore_arrays()
            try:
                self.step, self.num_robust = int(tree["step"]), int(tree["num_robust"])
            except KeyError as error:
                raise InputError(
                    f"the best checkpoint is not that of a run: it lacks {error}."
                ) from None

    def offer(self, state: TrainState, num_robust: int) -> None:
        """Save `state`, host arrays, if it is the best so far; returns when it is whole.

        Raises:
          OSError: if the system does not let it be written.
        """
        if num_robust <= self.num_robust:
            return
        # Numbered by themselves: after an interruption a better one may be of an earlier step.
        number = (self._checkpoints.latest or 0) + 1
        self._checkpoints.save(number, evaluated_part(state, num_robust))
        self._checkpoints.wait()
        self.step, self.num_robust = int(state.step), num_robust


def evaluated_part(state: TrainState, num_robust: int) -> dict[str, PyTree]:
    """What of a state evaluates its network, by the same names; no momentum, nothing to go on."""
    return {
        "step": state.step,
        "weights": {"params": state.params},
        "statistics": {BASE: state.batch_stats},
        "activation": state.activation,
        "averaged": state.averaged,
        "num_robust": np.asarray(num_robust),
    }
