"""How long a study takes: what is summed, and a real trial of a tiny one."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from rctaf_jax.config import DataConfig, EvaluationConfig, HessianConfig, SweepConfig, TrainConfig
from rctaf_jax.experiments.paper import estimate as module
from rctaf_jax.experiments.paper.estimate import Cost, estimate_study, try_out
from rctaf_jax.experiments.sweep.members import SweepMember, members_of
from rctaf_jax.experiments.sweep.setup import Sweep, open_sweep, resolve_study
from rctaf_jax.files import write_json

TINY = SweepConfig(
    data=DataConfig(num_train=64, num_test=40),
    train=TrainConfig(model="mlp-1x8", epsilon=0.1, attack_steps=1, epochs=2, batch_size=16),
    evaluation=EvaluationConfig(pgd_steps=2, batch_size=40),
    hessian=HessianConfig(num_probes=4, batch_size=64),
    betas=(),
    curvatures=(),
    baselines=(),
    seeds=(),
)
SIX_AND_RELU = members_of([*(f"rct-af:beta=1,curvature={c}" for c in range(1, 7)), "relu"], [0])


def opened(folder: Path, config: SweepConfig = TINY) -> Sweep:
    """On four devices, as all tests."""
    return open_sweep(resolve_study(config), folder, "rctaf reproduce ...")


def finish(sweep: Sweep, members: Sequence[SweepMember]) -> None:
    """Leave what a diverged member leaves."""
    for one in members:
        member = sweep.folder / "members" / one.id
        member.mkdir(parents=True)
        of = one.activation
        curvature = of.max_curvature if of.alpha else "inf"
        row = {"id": one.id, "seed": one.seed, "status": "diverged", "activation": of.text}
        row |= {"family": of.name, "beta": of.beta, "alpha": of.alpha, "max_curvature": curvature}
        write_json(member / "row.json", row)


@pytest.mark.parametrize(
    ("done", "seconds"),
    [
        ([], 2 * 1.0 + 3 * 10.0 + 7 * 3.0),  # groups of four, two and one
        (SIX_AND_RELU[:3], 2 * 1.0 + 3 * 10.0 + 4 * 3.0),  # the fourth trains with the three again
        (SIX_AND_RELU[:4], 2 * 1.0 + 2 * 10.0 + 3 * 3.0),
        (SIX_AND_RELU[:4] + SIX_AND_RELU[6:], 1 * 1.0 + 1 * 10.0 + 2 * 3.0),
        (SIX_AND_RELU, 0.0),
    ],
)
def test_a_group_costs_the_same_however_many_of_it_are_missing(
    tmp_path, monkeypatch, done, seconds
):
    sweep = opened(tmp_path / "results")
    finish(sweep, done)
    monkeypatch.setattr(module, "try_out", lambda sweep, member: Cost(1.0, 10.0, 3.0))
    assert estimate_study(sweep, SIX_AND_RELU) == seconds


def test_a_trial_takes_time(tmp_path):
    cost = try_out(opened(tmp_path / "results"), SIX_AND_RELU[0])
    assert all(math.isfinite(seconds) for seconds in cost)
    assert cost.group > 0
    assert cost.member > 0


def test_an_average_of_weights_is_evaluated_beside_the_weights(tmp_path, monkeypatch):
    nothing = Cost(0.0, 0.0, 0.0)
    monkeypatch.setattr(module, "_training", lambda *_: nothing._replace(group=7.0))
    monkeypatch.setattr(module, "_evaluation", lambda *_: Cost(1.0, 0.0, 5.0))
    monkeypatch.setattr(module, "_hessian", lambda *_: nothing._replace(member=0.5))
    assert try_out(opened(tmp_path / "once"), SIX_AND_RELU[0]) == (1.0, 7.0, 5.5)
    train = dataclasses.replace(TINY.train, averaging=0.99)
    averaged = opened(tmp_path / "twice", dataclasses.replace(TINY, train=train))
    assert try_out(averaged, SIX_AND_RELU[0]) == (1.0, 7.0, 10.5)


def test_autoattacks_forward_pass_is_tried_in_its_own_precision(tmp_path, monkeypatch):
    """Whatever the network is trained in."""
    traced = []

    def make_logits(*arguments):
        logits = true_make_logits(*arguments)

        def noting(variables, images):
            answer = logits(variables, images)
            traced.append((answer.dtype, jax.config.jax_default_matmul_precision))
            return answer

        return noting

    true_make_logits = module.make_logits
    monkeypatch.setattr(module, "make_logits", make_logits)
    config = dataclasses.replace(
        TINY,
        train=dataclasses.replace(TINY.train, dtype="bfloat16"),
        evaluation=EvaluationConfig(attack="autoattack"),
    )
    sweep = opened(tmp_path / "results", config)
    programs = module.programs_of(sweep, SIX_AND_RELU[0].activation)
    variables = programs.trainer.initial(0, 14.0).variables
    cost = module._evaluation(sweep, programs, SIX_AND_RELU[0], variables)
    assert traced == [(jnp.float32, "highest")]
    assert cost.group == 0
    assert cost.member > 0
