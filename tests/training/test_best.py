"""The best network, kept beside the last."""

import numpy as np
import pytest

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.training.best import BestCheckpoint
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.trainer import make_trainer


@pytest.fixture(scope="module")
def state(config, dataset):
    trainer = make_trainer(resolve(config, dataset), parse_activation("gelu"), dataset)
    return trainer.initial(0, None)


def opened(folder):
    return Checkpoints(folder, num_kept=1)


def test_what_is_kept_is_the_first_of_the_best_whenever_it_is_opened(state, tmp_path):
    counts = np.random.default_rng(0).integers(0, 6, 12).tolist()
    for step, count in enumerate(counts, 1):
        with opened(tmp_path) as checkpoints:
            best = BestCheckpoint(checkpoints)
            best.offer(state._replace(step=np.int32(step)), count)
        seen = counts[:step]
        assert (best.step, best.num_robust) == (seen.index(max(seen)) + 1, max(seen))
        assert len([*tmp_path.iterdir()]) == 1


def test_steps_that_are_trained_again_change_nothing_and_a_better_earlier_one_is_kept(
    state, tmp_path
):
    with opened(tmp_path) as checkpoints:
        BestCheckpoint(checkpoints).offer(state._replace(step=np.int32(8)), 5)
    with opened(tmp_path) as checkpoints:
        best = BestCheckpoint(checkpoints)
        best.offer(state._replace(step=np.int32(4)), 3)
        best.offer(state._replace(step=np.int32(8)), 5)
        assert (best.step, best.num_robust, checkpoints.latest) == (8, 5, 1)
        best.offer(state._replace(step=np.int32(6)), 6)
    with opened(tmp_path) as checkpoints:
        best = BestCheckpoint(checkpoints)
        assert (best.step, best.num_robust) == (6, 6)


def test_another_checkpoint_is_refused(state, tmp_path):
    with opened(tmp_path) as checkpoints:
        checkpoints.save(1, {"step": np.int32(1)})
        checkpoints.wait()
        with pytest.raises(InputError, match="it lacks 'num_robust'"):
            BestCheckpoint(checkpoints)
