import dataclasses
import signal

import jax
import numpy as np
import pytest

from rctaf_jax import parallel
from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError, Preempted
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.loop import DivergedError, check_finite, run_steps
from rctaf_jax.training.members import (
    Member,
    TrainedMember,
    map_members,
    stack,
    train_members,
    unstack,
)
from rctaf_jax.training.preemption import watch_for_termination
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.step import NEVER
from rctaf_jax.training.trainer import device_data, make_trainer

SWISH = parse_activation("rct-af:beta=1,curvature=7")


def ignore(*_):
    pass


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def small(config, dataset):
    """A trainer of the cheapest kind, one device, 15 steps."""
    config = dataclasses.replace(
        config, method="standard", method_options=(), model="mlp-1x8", width=1.0
    )
    trainer = make_trainer(resolve(config, dataset), SWISH, dataset)
    devices = jax.local_devices()[:1]
    return trainer, map_members(trainer, devices, 1), devices, device_data(dataset)


def run_from(small, state, first_step, **options):
    trainer, advance, devices, data = small
    options = {"report": ignore, "save": ignore, "num_steps": trainer.num_steps} | options
    state = run_steps(
        advance,
        parallel.replicate(state, devices),
        data,
        trainer.settings,
        first_step=first_step,
        **options,
    )
    return parallel.first(state)


def test_a_run_reports_every_step_once_and_saves_the_last(small):
    reported, saved = [], []
    final = run_from(
        small,
        small[0].initial(0, 3.0),
        0,
        report=lambda step, metrics: reported.append((step, int(metrics.num_steps[0]))),
        save=lambda step, state: saved.append(step),
    )
    assert sum(count for _, count in reported) == small[0].num_steps == final.step
    assert [step for step, _ in reported] == list(np.cumsum([count for _, count in reported]))
    assert saved == [small[0].num_steps]


def test_calls_end_with_epochs_and_change_no_bit(small):
    """However long a call: an epoch is reported whole before it is told, and told before a save."""
    start, events = small[0].initial(0, 3.0), []

    def after_epoch(step, state):
        assert int(parallel.first(state).step) == step
        events.append(("epoch", step))
        return False

    final = run_from(
        small,
        start,
        0,
        report=lambda step, metrics: events.append(("report", step)),
        save=lambda step, state: events.append(("save", step)),
        epoch_steps=5,
        after_epoch=after_epoch,
    )
    assert_same(final, run_from(small, start, 0))
    assert [step for kind, step in events if kind == "epoch"] == [5, 10, 15]
    for step in (5, 10, 15):
        assert events[events.index(("epoch", step)) - 1] == ("report", step)
    assert events[-1] == ("save", 15)


def test_an_epoch_that_is_enough_is_saved_and_is_the_last(small):
    start, saved = small[0].initial(0, 3.0), []
    final = run_from(
        small,
        start,
        0,
        save=lambda step, state: saved.append(step),
        epoch_steps=5,
        after_epoch=lambda step, state: step == 10,
        should_stop=lambda: False,
    )
    assert saved == [10]
    assert_same(final, run_from(small, start, 0, num_steps=10))


def test_resuming_from_any_checkpoint_continues_bit_for_bit(small, tmp_path):
    start, saved = small[0].initial(0, 3.0), {}
    whole = run_from(small, start, 0)

    def keep(step, state):
        saved[step] = parallel.first(state)

    run_from(small, start, 0, save=keep, seconds_per_save=0.0)
    assert len(saved) > 2
    for step, state in list(saved.items())[:-1]:
        with Checkpoints(tmp_path / str(step)) as checkpoints:
            checkpoints.save(step, state)
        with Checkpoints(tmp_path / str(step)) as checkpoints:
            restored = checkpoints.restore(start)
            assert checkpoints.latest == step
        assert_same(restored, state)
        assert_same(run_from(small, restored, step), whole)


def test_a_run_told_to_stop_saves_and_goes_on_bit_for_bit(small):
    start, saved, answers = small[0].initial(0, 3.0), {}, iter([False, True])

    def keep(step, state):
        saved[step] = parallel.first(state)

    with pytest.raises(Preempted, match="saved at step 3; the same command goes on") as told:
        run_from(small, start, 0, save=keep, should_stop=lambda: next(answers))
    assert list(saved) == [told.value.step] == [3]
    assert_same(run_from(small, saved[3], 3), run_from(small, start, 0))


def test_sigterm_is_a_question_until_the_watch_ends():
    before = signal.getsignal(signal.SIGTERM)
    with watch_for_termination() as requested:
        assert not requested()
        signal.raise_signal(signal.SIGTERM)
        assert requested()
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_the_report_refuses_is_not_saved(small):
    saved = []

    def report(step, metrics):
        if step >= 4:
            raise DivergedError(4, "stop here")

    with pytest.raises(DivergedError, match="not finite at step 4"):
        run_from(
            small,
            small[0].initial(0, 3.0),
            0,
            report=report,
            save=lambda step, state: saved.append(step),
            seconds_per_save=0.0,
        )
    assert saved
    assert max(saved) < 4


def test_check_finite_takes_the_first_bad_step_of_any_device(small):
    trainer, advance, devices, data = small
    _, metrics = advance(
        parallel.replicate(trainer.initial(0, 3.0), devices), data, trainer.settings, 2
    )
    check_finite(metrics, "fine")
    bad = metrics._replace(first_bad_step=np.array([NEVER, 7, 9]))
    with pytest.raises(DivergedError, match="step 7: do this"):
        check_finite(bad, "do this")


@pytest.mark.parametrize("damage", ["truncate", "truncate data", "remove"])
def test_a_damaged_checkpoint_is_refused(small, tmp_path, damage):
    state = small[0].initial(0, 3.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state)
    files = sorted(path for path in (tmp_path / "3").rglob("*") if path.is_file())
    for path in files:
        is_data = "METADATA" not in path.name.upper()
        if damage == "remove" and is_data:
            path.unlink()
        elif damage == "truncate" or (damage == "truncate data" and is_data):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match=r"step 3 in "):
        checkpoints.restore(state)


def test_a_checkpoint_of_another_network_is_refused(small, config, dataset, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small[0].initial(0, 3.0))
    config = dataclasses.replace(
        config, method="standard", method_options=(), model="mlp-1x9", width=1.0
    )
    other = make_trainer(resolve(config, dataset), SWISH, dataset).initial(0, 3.0)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match="cannot be read"):
        checkpoints.restore(other)


def test_no_checkpoint_is_said(small, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None
        with pytest.raises(InputError, match="no checkpoint in"):
            checkpoints.restore(small[0].initial(0, 3.0))


@pytest.mark.parametrize(("num_devices", "per_device"), [(1, 3), (2, 2), (4, 1)])
def test_members_stacked_and_spread_equal_members_alone(
    small, dataset, tmp_path, num_devices, per_device
):
    trainer, _, _, data = small
    members = [Member(0, 1.0), Member(1, 14.0), Member(0, 60.0)]
    devices = jax.local_devices()[:num_devices]
    with Checkpoints(tmp_path) as checkpoints:
        together = train_members(
            trainer,
            map_members(trainer, devices, per_device),
            members,
            data,
            devices=devices,
            per_device=per_device,
            checkpoints=checkpoints,
            report=ignore,
        )
    assert len(together) == 3
    for member, trained in zip(members, together, strict=True):
        alone = run_from(small, trainer.initial(*member), 0)
        assert trained.first_bad_step is None
        assert trained.state.activation["alpha"] == np.float32(member.alpha)
        for a, b in zip(jax.tree.leaves(trained.state), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_group_goes_on_from_its_checkpoint(small, tmp_path):
    trainer, advance, devices, data = small
    members = [Member(0, 5.0)]
    states = stack([trainer.initial(0, 5.0)], devices, 1)
    states, _ = advance(states, data, trainer.settings, 6)
    steps = []
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(6, {"states": states, "first_bad": np.full(1, NEVER, np.int32)})
        (trained,) = train_members(
            trainer,
            advance,
            members,
            data,
            devices=devices,
            per_device=1,
            checkpoints=checkpoints,
            report=lambda step, metrics: steps.append(step),
        )
    assert min(steps) > 6
    assert_same(trained.state, run_from(small, trainer.initial(0, 5.0), 0))


def test_a_diverged_member_is_named_and_the_others_go_on(small, tmp_path):
    trainer, _, _, data = small
    devices = jax.local_devices()[:2]
    members = [Member(0, 5.0), Member(0, float("nan"))]
    with Checkpoints(tmp_path) as checkpoints:
        good, bad = train_members(
            trainer,
            map_members(trainer, devices, 1),
            members,
            data,
            devices=devices,
            per_device=1,
            checkpoints=checkpoints,
            report=ignore,
        )
    assert (good.first_bad_step, bad.first_bad_step) == (None, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.state.params))


def test_stack_and_unstack_are_inverse(small):
    states = [small[0].initial(seed, 1.0 + seed) for seed in range(3)]
    back = unstack(stack(states, jax.local_devices()[:2], 2), 3, 2)
    for state, again in zip(states, back, strict=True):
        assert_same(state, again)


def test_the_step_of_divergence_survives_an_interruption(small, tmp_path):
    trainer, _, _, data = small
    devices = jax.local_devices()[:1]

    def train(stops: int) -> TrainedMember:
        answers = iter([True] * stops + [False] * 1000)
        while True:
            with Checkpoints(tmp_path / str(stops)) as checkpoints:
                try:
                    (trained,) = train_members(
                        trainer,
                        map_members(trainer, devices, 1),
                        [Member(0, float("nan"))],
                        data,
                        devices=devices,
                        per_device=1,
                        checkpoints=checkpoints,
                        report=ignore,
                        should_stop=lambda: next(answers),
                    )
                except Preempted:
                    continue
            return trained

    assert train(stops=0).first_bad_step == train(stops=2).first_bad_step == 0
