import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack import autoattack, make_autoattack
from rctaf_jax.eval.autoattack.apgd import make_apgd, make_apgd_targeted
from rctaf_jax.eval.autoattack.checks import AutoAttackWarning
from rctaf_jax.eval.autoattack.fab import make_fab, make_fab_targeted
from rctaf_jax.eval.autoattack.inputs import example_keys
from rctaf_jax.eval.autoattack.square import make_square
from rctaf_jax.eval.autoattack.versions import attacks_named

KEY = jax.random.key(0)
EPSILON = {"Linf": 0.08, "L2": 0.25, "L1": 0.6}
SMALL = {norm: epsilon / 4 for norm, epsilon in EPSILON.items()}
"""Budgets for the curved network, of which about half of the images withstand."""

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.3, 0.7, (40, 3, 2, 1)).astype(np.float32)
WEIGHTS = RNG.normal(size=(6, 5)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(40, 6) @ WEIGHTS, axis=1)
HIDDEN = RNG.normal(size=(6, 16)).astype(np.float32)
OUTPUT = RNG.normal(size=(16, 5)).astype(np.float32)


def linear(x):
    return x.reshape(len(x), -1) @ WEIGHTS


def curved(x):
    return jnp.tanh(3 * (x.reshape(len(x), -1) - 0.5) @ HIDDEN) @ OUTPUT


CURVED_LABELS = np.argmax(np.asarray(curved(IMAGES)), axis=1)


def quick(norm):
    """Every kind of attack, with few steps; in L2 and L1 no second one of a kind."""
    kinds = [
        make_apgd(norm=norm, loss="ce", num_steps=12, num_restarts=2),
        make_fab_targeted(norm=norm, num_targets=2, num_steps=8),
        make_square(norm=norm, num_queries=60),
    ]
    if norm != "Linf":
        return kinds
    targeted = make_apgd_targeted(norm=norm, num_targets=2, num_steps=12)
    return [*kinds, targeted, make_fab(norm=norm, num_steps=8, num_restarts=2)]


def two_sided(x):
    """Two classes that a plane divides, and three that no image comes near."""
    score = (x - 0.5).reshape(len(x), -1) @ (WEIGHTS[:, :1] - WEIGHTS[:, 1:2])
    far = jnp.broadcast_to(jnp.array([-50.0, -60.0, -70.0]), (len(x), 3))
    return jnp.concatenate([score / 2, -score / 2, far], axis=1)


def test_linear_classifier_in_closed_form():
    """Robust if and only if the margin exceeds epsilon times the L1 norm of the weights."""
    normal = (WEIGHTS[:, 0] - WEIGHTS[:, 1]).astype(np.float64)
    margin = (IMAGES.reshape(40, 6).astype(np.float64) - 0.5) @ normal
    slack = np.abs(margin) - np.median(np.abs(margin))
    attacks = [
        "apgd-ce",
        make_apgd_targeted(norm="Linf", num_targets=1),
        make_fab_targeted(norm="Linf", num_targets=1, num_steps=30),
        make_square(norm="Linf", num_queries=500),
    ]
    result = autoattack(
        two_sided, IMAGES, (margin < 0).astype(int), attacks=attacks, individual=True, key=KEY,
        epsilon=float(np.median(np.abs(margin)) / np.abs(normal).sum()),
    )  # fmt: skip
    for report in result.attacks:
        # Square finds the ball's corner by chance, not by a gradient.
        decided = np.abs(slack) > (0.05 if report.name == "square" else 1e-4)
        assert decided.sum() > 30
        np.testing.assert_array_equal(report.robust[decided], (slack > 0)[decided], report.name)
    assert 3 < result.robust.sum() < 37


def test_undefended_network_has_no_robust_image():
    result = autoattack(
        lambda x: 50 * linear(x),
        IMAGES,
        LABELS,
        epsilon=0.3,
        key=KEY,
        attacks=["apgd-ce", "apgd-t"],
    )
    assert result.clean_accuracy == 1
    assert result.robust_accuracy == 0
    assert (np.argmax(linear(result.adversarial), axis=1) != LABELS).all()


def test_masked_gradients_are_found_by_square_and_reported():
    """Rounded pixels have no gradient; the network is linear otherwise."""

    def rounded(x):
        return linear(jnp.round(20 * x) / 20)

    labels = np.argmax(rounded(IMAGES), axis=1)
    with pytest.warns(AutoAttackWarning) as record:
        result = autoattack(
            rounded, IMAGES, labels, epsilon=0.12, key=KEY, individual=True,
            attacks=["apgd-ce", make_square(norm="Linf", num_queries=300)],
        )  # fmt: skip
    apgd, square = result.attacks
    assert square.broken.sum() > apgd.broken.sum() + 5
    texts = [str(warning.message) for warning in record]
    assert any("gradient of the cross-entropy is zero" in text for text in texts)
    assert any("Square lowers robust accuracy" in text for text in texts)
    assert result.warnings == tuple(texts)


@pytest.fixture(scope="module", params=list(EPSILON))
def reference_run(request, optimised):
    norm = request.param
    with compiled_for(norm, optimised):
        result = autoattack(
            curved, IMAGES, CURVED_LABELS, norm=norm, epsilon=SMALL[norm], key=KEY,
            attacks=quick(norm), batch_size=7, devices=jax.local_devices()[:1],
        )  # fmt: skip
    assert 3 < result.robust.sum() < 37
    return norm, result


def compiled_for(norm, optimised):
    """Without optimisations, an image in L1 may differ in a last bit by its place in the batch."""
    return optimised() if norm == "L1" else contextlib.nullcontext()


def check_same_result(reference_run, optimised, batch_size, num_devices):
    norm, expected = reference_run
    order = np.random.default_rng(batch_size).permutation(40)
    with compiled_for(norm, optimised):
        result = autoattack(
            curved, IMAGES[order], CURVED_LABELS[order], norm=norm, epsilon=SMALL[norm], key=KEY,
            attacks=quick(norm), batch_size=batch_size, devices=jax.local_devices()[:num_devices],
        )  # fmt: skip
    np.testing.assert_array_equal(result.robust, expected.robust[order])
    # Sums over another number of slots may be rounded otherwise.
    np.testing.assert_allclose(result.adversarial, expected.adversarial[order], atol=1e-6)
    for actual, wanted in zip(result.attacks, expected.attacks, strict=True):
        np.testing.assert_array_equal(actual.broken, wanted.broken[order])
        assert actual.forward_passes == wanted.forward_passes


def test_result_does_not_depend_on_order_or_slots(reference_run, optimised):
    check_same_result(reference_run, optimised, 5, 1)


def test_slots_of_every_number_as_users_compile():
    """In L1 and 8 slots, XLA's older emitters, which these tests compile with, are wrong."""
    environment = {n: v for n, v in os.environ.items() if n not in ("XLA_FLAGS", DISABLED)}
    done = subprocess.run(
        [sys.executable, "-c", AS_USERS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    counts = [line.split() for line in done.stdout.splitlines()]
    assert len({tuple(count) for count in counts}) == 1
    assert 0 < int(counts[0][0]) < 40


DISABLED = "JAX_DISABLE_MOST_OPTIMIZATIONS"
AS_USERS = """
import jax, jax.numpy as jnp, numpy as np
from rctaf_jax.eval import autoattack
from rctaf_jax.eval.autoattack.square import make_square
rng = np.random.default_rng(0)
images = rng.uniform(0.3, 0.7, (40, 3, 2, 1)).astype(np.float32)
hidden, out = jnp.asarray(rng.normal(size=(6, 16))), jnp.asarray(rng.normal(size=(16, 5)))
net = lambda x: jnp.tanh(3 * (x.reshape(len(x), -1) - 0.5) @ hidden) @ out
labels = np.argmax(np.asarray(net(images)), axis=1)
for slots in (8, 3):
    found = autoattack(net, images, labels, jax.random.key(3), norm="L1", epsilon=0.15,
                       attacks=make_square(norm="L1", num_queries=60), batch_size=slots)
    print(found.robust.sum(), *np.flatnonzero(found.robust))
"""


@pytest.mark.parametrize(("batch_size", "num_devices"), [(7, 4), (512, 1)])
@pytest.mark.parametrize("reference_run", ["Linf"], indirect=True)
def test_result_does_not_depend_on_devices_or_empty_slots(
    reference_run, optimised, batch_size, num_devices
):
    check_same_result(reference_run, optimised, batch_size, num_devices)


def test_verdicts_are_those_of_the_images(reference_run):
    """What is called broken is misclassified, what is called robust is the clean image."""
    norm, result = reference_run
    again = np.argmax(np.asarray(curved(result.adversarial)), axis=1) == CURVED_LABELS
    np.testing.assert_array_equal(again, result.robust)
    np.testing.assert_array_equal(result.adversarial[result.robust], IMAGES[result.robust])
    distance = (result.adversarial.astype(np.float64) - IMAGES).reshape(40, -1)
    order = threat_order(norm)
    assert np.linalg.norm(distance, ord=order, axis=1).max() <= SMALL[norm] + 1e-6
    accuracies = [report.accuracy for report in result.attacks]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] == result.robust_accuracy == result.robust.mean()


def threat_order(norm):
    return {"Linf": np.inf, "L2": 2, "L1": 1}[norm]


def test_one_attack_needs_no_list():
    settings = {"norm": "L2", "epsilon": EPSILON["L2"]}
    for attack in ("apgd-ce", make_fab_targeted(norm="L2", num_targets=2, num_steps=5)):
        alone = autoattack(curved, IMAGES, CURVED_LABELS, KEY, attacks=attack, **settings)
        listed = autoattack(curved, IMAGES, CURVED_LABELS, key=KEY, attacks=[attack], **settings)
        np.testing.assert_array_equal(alone.adversarial, listed.adversarial)


def test_a_summary_says_all_that_was_found():
    settings = {"norm": "L2", "epsilon": SMALL["L2"], "attacks": ["apgd-ce", "square"]}
    labels = np.where(np.arange(len(IMAGES)) < 3, (CURVED_LABELS + 1) % 5, CURVED_LABELS)
    result = autoattack(curved, IMAGES, labels, KEY, **settings)
    total, correct, robust = len(IMAGES), result.correct.sum(), result.robust.sum()
    assert 0 < robust < correct < total  # or the sentence could not tell them apart
    lines = result._replace(warnings=("it is odd",)).summary().splitlines()
    assert lines[0].startswith(f"clean: {correct / total:.2%} (")
    assert lines[0].endswith(f"{correct} of {total}")
    assert lines[1].startswith(f"robust: {robust / total:.2%} (")
    assert lines[2].startswith(f"apgd-ce broke {result.attacks[0].broken.sum()} of {correct}")
    assert lines[-1] == "doubt: it is odd"
    odd = result._replace(nonfinite=np.arange(total) < 2, warnings=())
    assert "logits not finite: 2" in odd.summary()


def test_misclassified_and_unanswered_images():
    """Wrong when clean: broken. No finite answer when clean, or on the way: neither."""
    labels, images = CURVED_LABELS.copy(), IMAGES.copy()
    labels[0] = (labels[0] + 1) % 5
    images[1, 0, 0, 0], images[2, 0, 0, 0] = 0.8, 0.745

    def network(x):
        return jnp.where(
            (x[:, 0, 0, 0] > 0.75)[:, None], jnp.nan, 20 + 0.0 * curved(x) + offsets(x)
        )

    def offsets(x):
        return jax.nn.one_hot(jnp.asarray(CURVED_LABELS)[jnp.argmin(distances(x), axis=1)], 5)

    def distances(x):
        return jnp.abs(x[:, None] - IMAGES[None]).sum(axis=(2, 3, 4))

    with pytest.warns(AutoAttackWarning) as said:
        result = autoattack(
            network, images, labels, epsilon=0.02, key=KEY,
            attacks=[make_square(norm="Linf", num_queries=50)],
        )  # fmt: skip
    texts = " ".join(str(one.message) for one in said)
    assert "gradient of the cross-entropy is zero" in texts
    assert "the logits of 2 of 40 images are not finite" in texts
    assert result.correct.tolist() == [False, False] + [True] * 38
    assert result.nonfinite.tolist() == [False, True, True] + [False] * 37
    assert result.robust.tolist() == [False, False, False] + [True] * 37
    assert not result.attacks[0].attacked[:2].any()
    np.testing.assert_array_equal(result.adversarial, images)


def test_random_networks_take_a_key_for_each_image():
    """Whose noise belongs to the image: the same for other batches, another for another key."""

    def noisy(x, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)
        return curved(x) + 0.3 * noise

    def attack(batch_size, key):
        return autoattack(
            noisy, IMAGES, CURVED_LABELS, epsilon=SMALL["Linf"], version="rand", key=key,
            attacks=[make_apgd(norm="Linf", loss="ce", num_steps=5, num_eot=3)],
            batch_size=batch_size, devices=jax.local_devices()[:1],
        )  # fmt: skip

    first, second = attack(40, KEY), attack(7, KEY)
    np.testing.assert_array_equal(first.robust, second.robust)
    np.testing.assert_array_equal(first.adversarial, second.adversarial)
    assert 0 < first.robust.sum() < first.correct.sum() < 40
    other = attack(40, jax.random.key(1))
    assert (other.correct != first.correct).any()


def test_several_networks_compile_once():
    traced = []

    def network(scale, x):
        traced.append(x.shape)
        return scale * curved(x)

    run = make_autoattack(network, norm="Linf", attacks=quick("Linf")[:1], batch_size=40)
    counts = []
    for scale, epsilon in ((1.0, 0.05), (2.0, 0.08), (0.5, 0.1)):
        run(jnp.float32(scale), IMAGES, CURVED_LABELS, KEY, epsilon)
        counts.append(sum(1 for shape in traced if shape[0] == 40))
    # The checks before an attack call the network as it is: they trace each time.
    assert counts[2] - counts[1] == counts[1] - counts[0] < counts[0]


@pytest.mark.parametrize(
    ("norm", "shape", "classes"),
    [
        ("Linf", (1, 1, 1), 2),
        ("L2", (5, 3, 3), 4),
        ("L1", (2, 9, 1), 1000),
        ("Linf", (224, 224, 3), 1000),
        ("L2", (224, 160, 3), 1000),
    ],
)
def test_sizes_and_classes(norm, shape, classes):
    rng = np.random.default_rng(classes)
    images = rng.uniform(size=(3, *shape)).astype(np.float32)
    # A large image is seen on a grid, or its weights would be too many.
    grid = slice(None, None, max(1, shape[0] // 14))
    weights = rng.normal(size=(images[0, grid, grid].size, classes)).astype(np.float32)
    labels = np.argmax(images[:, grid, grid].reshape(3, -1) @ weights, axis=1)
    attacks = [
        make_apgd(norm=norm, loss="ce", num_steps=4),
        make_fab_targeted(norm=norm, num_targets=1, num_steps=3),
        make_square(norm=norm, num_queries=8),
    ]
    result = autoattack(
        lambda x: x[:, grid, grid].reshape(len(x), -1) @ weights, images, labels, norm=norm,
        epsilon=EPSILON[norm], attacks=attacks, key=KEY, batch_size=2,
    )  # fmt: skip
    assert result.adversarial.shape == images.shape
    assert result.correct.all()
    found = np.argmax(result.adversarial[:, grid, grid].reshape(3, -1) @ weights, axis=1)
    np.testing.assert_array_equal(found == labels, result.robust)


def test_logits_in_float64_beside_images_in_float32():
    with jax.enable_x64(True):
        result = autoattack(
            lambda x: curved(x.astype(jnp.float64)), IMAGES, CURVED_LABELS,
            epsilon=SMALL["Linf"], attacks=quick("Linf"), individual=True, key=KEY,
        )  # fmt: skip
    assert all(report.broken.any() for report in result.attacks)


@pytest.mark.parametrize("individual", [True, False])
def test_what_one_attack_met_as_nan_another_breaks(individual):
    """Broken above the clean pixel, without an answer below it."""
    square = make_square(norm="Linf", num_queries=1)

    def shifted(name, sign):
        def start(examples, run, epsilon):
            state = square.start(examples, run, epsilon)
            return state._replace(x=examples.images + sign * epsilon)

        return square._replace(name=name, start=start)

    def network(x):
        score = 100 * (x.reshape(-1, 1) - 0.505)
        return jnp.where(x.reshape(-1, 1) < 0.495, jnp.nan, jnp.hstack([-score, score]))

    images, up, down = np.full((1, 1, 1, 1), 0.5, np.float32), shifted("up", 1), shifted("down", -1)
    settings = {"epsilon": 0.02, "key": KEY, "individual": individual}
    for attacks in ([up, down], [down, up]):
        result = autoattack(network, images, np.array([0]), attacks=attacks, **settings)
        assert not result.robust[0]
        assert not result.nonfinite[0]
        assert result.adversarial[0, 0, 0, 0] > 0.5
    with pytest.warns(AutoAttackWarning, match="1 of 1 images are not finite"):
        result = autoattack(network, images, np.array([0]), attacks=[down, down], **settings)
    assert result.nonfinite[0]
    assert result.robust_accuracy == result.attacks[-1].accuracy == 0


def test_one_image():
    result = autoattack(curved, IMAGES[:1], CURVED_LABELS[:1], key=KEY, attacks=["apgd-ce"])
    assert result.robust.shape == (1,)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_other_implementations_do_not_depend_on_slots(impl):
    settings = dict(
        key=jax.random.key(0, impl=impl), epsilon=SMALL["Linf"], attacks=quick("Linf")[:1]
    )
    results = [
        autoattack(curved, IMAGES, CURVED_LABELS, batch_size=size, **settings) for size in (40, 7)
    ]
    np.testing.assert_array_equal(*(result.adversarial for result in results))


def test_keys_belong_to_images():
    keys = jax.random.key_data(example_keys(KEY, IMAGES, LABELS))
    order = np.random.default_rng(1).permutation(40)
    shuffled = jax.random.key_data(example_keys(KEY, IMAGES[order], LABELS[order]))
    np.testing.assert_array_equal(shuffled, keys[order])
    assert len(np.unique(np.asarray(keys), axis=0)) == 40
    other = jax.random.key_data(example_keys(jax.random.key(1), IMAGES, LABELS))
    assert (np.asarray(other) != np.asarray(keys)).any(axis=1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": IMAGES + 0.5}, r"pixels from .* to .*: floating-point images are in \[0, 1\]"),
        ({"images": (255 * IMAGES).astype(np.int64)}, "type int64"),
        ({"labels": LABELS + 1}, r"labels from .* to 5: the network has classes 0 to 4"),
        ({"labels": LABELS - 9}, "labels from -"),
        ({"epsilon": 0}, "epsilon must be above 0, got 0"),
        ({"epsilon": -0.1}, r"epsilon must be a finite number of at least 0, got -0.1"),
        ({"norm": "L3"}, "unknown norm 'L3'"),
        ({"version": "fast"}, "unknown version 'fast': choose one of standard, plus, rand"),
        ({"attacks": ["pgd"]}, "unknown attack 'pgd': choose one of apgd-ce"),
        ({"attacks": []}, "no attack is listed"),
        ({"attacks": [make_square(norm="L2")]}, "square is made for L2, but the norm is Linf"),
        ({"batch_size": 0}, "batch_size must be an int of at least 1, got 0"),
        ({"logits_fn": lambda x: x.mean(axis=(1, 2, 3))}, r"shape \(1,\): expected \(1, classes\)"),
        ({"logits_fn": lambda x: x.reshape(len(x), -1)[:, :1]}, r"shape \(1, 1\)"),
        ({"logits_fn": lambda x: (linear(x), 0)}, "returns a tuple: expected logits alone"),
        ({"logits_fn": lambda x: [linear(x)]}, "returns a list: expected logits alone"),
        ({"logits_fn": lambda x: {"logits": linear(x)}}, "returns a dict: expected logits alone"),
        ({"images": np.zeros((40, 3, 8, 8), np.float32)}, r"PyTorch's \[N, C, H, W\]: transpose"),
        ({"key": 0}, r"key is 0; it must be a key, such as jax.random.key\(0\)"),
        (
            {"logits_fn": lambda x: linear(x)[:, :3], "labels": LABELS % 3},
            "apgd-t needs at least 4 classes, the network has 3: these can run: "
            "apgd-ce, apgd-dlr, fab, fab-t, square",
        ),
    ],
)  # fmt: skip
def test_bad_input(change, message):
    arguments = {"logits_fn": linear, "images": IMAGES, "labels": LABELS, "key": KEY} | change
    with pytest.raises(InputError, match=message):
        autoattack(
            arguments.pop("logits_fn"),
            arguments.pop("images"),
            arguments.pop("labels"),
            **arguments,
        )


def test_folder_of_another_model_or_data_is_refused(tmp_path):
    settings = dict(key=KEY, epsilon=0.05, attacks=quick("Linf")[:1], directory=tmp_path)
    autoattack(curved, IMAGES, CURVED_LABELS, **settings)
    with pytest.raises(InputError, match="another network"):
        autoattack(lambda x: curved(x) * 1.1, IMAGES, CURVED_LABELS, **settings)
    with pytest.raises(InputError, match="another images and labels"):
        autoattack(curved, IMAGES[::-1], CURVED_LABELS[::-1], **settings)
    with pytest.raises(InputError, match=r"another epsilon: 0.05 there, 0.06 here"):
        autoattack(curved, IMAGES, CURVED_LABELS, **(settings | {"epsilon": 0.06}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            make_square(norm="Linf", num_queries=10),
            make_square(norm="Linf", num_queries=10, initial_fraction=0.5),
        ),
        (
            make_apgd(norm="Linf", loss="ce", num_steps=3),
            make_apgd(norm="Linf", loss="ce", num_steps=3, num_eot=2),
        ),
    ],
)
def test_folder_of_another_setting_is_refused(tmp_path, one, other):
    """Though both go through as many runs of as many steps."""
    assert (one.num_runs, one.num_steps) == (other.num_runs, other.num_steps)
    settings = dict(key=KEY, epsilon=SMALL["Linf"], directory=tmp_path)
    for _ in range(2):
        autoattack(curved, IMAGES, CURVED_LABELS, attacks=[one], **settings)
    with pytest.raises(InputError, match=f"another attacks: .*{one.name}: 1 x .*; give another"):
        autoattack(curved, IMAGES, CURVED_LABELS, attacks=[other], **settings)


def test_a_name_is_the_versions_own_attack():
    named = ["apgd-ce", "square"]
    draws = [a.forward_passes for a in attacks_named("rand", named, norm="L2", num_classes=5)]
    assert draws == [20, 1]
    runs = [a.num_runs for a in attacks_named("plus", named, norm="L2", num_classes=5)]
    assert runs == [5, 1]


def test_a_network_in_bfloat16_goes_on_and_is_another_with_other_classes(tmp_path):
    def coarse(x):
        return curved(x).astype(jnp.bfloat16)

    labels = np.argmax(np.asarray(coarse(IMAGES), np.float32)[:, :4], axis=1)
    settings = dict(key=KEY, epsilon=SMALL["Linf"], attacks=quick("Linf")[:1], directory=tmp_path)
    first = autoattack(coarse, IMAGES, labels, **settings)
    again = autoattack(coarse, IMAGES, labels, **settings)
    np.testing.assert_array_equal(first.adversarial, again.adversarial)
    with pytest.raises(InputError, match="another network"):
        autoattack(lambda x: coarse(x)[:, :4], IMAGES, labels, **settings)


def test_interrupted_keeps_all_that_was_done(tmp_path):
    """Even what finished within the second before; the network may be asked without a progress."""
    done = []

    def interrupt(progress):
        done.append(progress.num_done)
        raise KeyboardInterrupt

    run = make_autoattack(
        lambda _, x: curved(x), norm="Linf", attacks=quick("Linf")[:1], batch_size=8,
        devices=jax.local_devices()[:1],
    )  # fmt: skip
    arguments = ((), IMAGES, CURVED_LABELS, KEY, SMALL["Linf"])
    with pytest.raises(KeyboardInterrupt):
        run(*arguments, directory=tmp_path, progress=interrupt)
    stored = [np.load(file)["example"] for file in tmp_path.glob("1-apgd-ce/*.npz")]
    assert sum(map(len, stored)) == done[-1] > 0
    resumed = run(*arguments, directory=tmp_path, progress=None)
    np.testing.assert_array_equal(resumed.adversarial, run(*arguments).adversarial)


def test_progress_is_told(tmp_path):
    told = []
    result = autoattack(
        curved, IMAGES, CURVED_LABELS, key=KEY, epsilon=0.08, attacks=quick("Linf")[:2],
        batch_size=8, progress=told.append,
    )  # fmt: skip
    for number, steps in itertools.groupby(told, key=lambda p: p.number):
        steps = list(steps)
        assert [p.num_done for p in steps] == sorted(p.num_done for p in steps)
        assert steps[-1].num_done == steps[-1].num_examples
        assert steps[-1].robust_accuracy == result.attacks[number - 1].accuracy


SCRIPT = """
    import sys
    import jax, numpy as np
    sys.path.insert(0, {folder!r})
    import test_interface as case
    from rctaf_jax.eval.autoattack import store
    store.FLUSH_SECONDS = 0.0
    result = case.autoattack(
        case.curved, case.IMAGES, case.CURVED_LABELS, epsilon=case.SMALL["Linf"], key=case.KEY,
        attacks=case.quick("Linf"), batch_size=4, directory=sys.argv[1],
        devices=jax.local_devices()[:1], progress=lambda _: print("group", flush=True),
    )
    np.savez(sys.argv[2], adversarial=result.adversarial, robust=result.robust)
    print("done", flush=True)
"""


def killed_and_resumed(folder, seed, kills):
    """Kills the attack `kills` times at random moments, lets it end, and returns what it found."""
    rng = np.random.default_rng(seed)
    script = textwrap.dedent(SCRIPT.format(folder=os.path.dirname(__file__)))
    words = [sys.executable, "-c", script, str(folder / "state"), str(folder / "result.npz")]
    num_killed = 0
    while True:
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            patience = rng.integers(0, 12) if num_killed < kills else None
            for number, _line in enumerate(process.stdout):
                if patience is not None and number >= patience:
                    time.sleep(rng.uniform(0, 0.05))
                    process.send_signal(signal.SIGKILL)
                    num_killed += 1
                    break
        assert process.returncode in (0, -signal.SIGKILL)
        if (folder / "result.npz").exists():
            return dict(np.load(folder / "result.npz")), num_killed


def check_kills(folder, reference_run, kills):
    _, expected = reference_run
    result, num_killed = killed_and_resumed(folder, kills, kills)
    assert num_killed == kills
    np.testing.assert_array_equal(result["robust"], expected.robust)
    np.testing.assert_array_equal(result["adversarial"], expected.adversarial)
    for number, report in enumerate(expected.attacks, 1):
        files = sorted((folder / "state" / f"{number}-{report.name}").glob("*.npz"))
        stored = np.concatenate([np.load(file)["example"] for file in files])
        assert sorted(stored.tolist()) == np.flatnonzero(report.attacked).tolist()


@pytest.mark.parametrize("reference_run", ["Linf"], indirect=True)
def test_killed_and_resumed_gives_the_same(tmp_path, reference_run):
    check_kills(tmp_path, reference_run, 3)


@pytest.mark.slow
@pytest.mark.parametrize("reference_run", ["Linf"], indirect=True)
def test_killed_twenty_times_gives_the_same(tmp_path, reference_run):
    check_kills(tmp_path, reference_run, 20)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_confidence_hides_nothing_from_a_gradient(scale):
    """A linear network is as robust however its logits are scaled."""
    labels = np.argmax(np.asarray(linear(IMAGES)), axis=1)
    result = autoattack(
        lambda x: scale * linear(x), IMAGES, labels, KEY, epsilon=0.05, attacks="apgd-ce"
    )
    expected = autoattack(linear, IMAGES, labels, KEY, epsilon=0.05, attacks="apgd-ce")
    np.testing.assert_array_equal(result.robust, expected.robust)
    assert 3 < result.robust.sum() < 37


def test_a_masked_class_is_said():
    def masked(x):
        return jnp.asarray(linear(x)).at[:, 1].set(jnp.finfo(jnp.float32).min)

    labels = np.argmax(np.asarray(masked(IMAGES)), axis=1)
    with pytest.warns(AutoAttackWarning, match="as a class's mask does"):
        autoattack(masked, IMAGES, labels, KEY, epsilon=0.05, attacks="apgd-ce")

    def gone(x):
        return jnp.asarray(linear(x)).at[:, 1].set(-jnp.inf)

    with pytest.warns(AutoAttackWarning, match="40 of 40 images are not finite"):
        result = autoattack(gone, IMAGES, labels, KEY, epsilon=0.05, attacks="apgd-ce")
    assert result.clean_accuracy == 0


def test_second_network_compiles_nothing():
    """Of one structure, through `make_autoattack`: every check, attack and answer."""
    attacks = quick("Linf")[:2]
    run = make_autoattack(lambda w, x: x.reshape(len(x), -1) @ w, norm="Linf", attacks=attacks,
                          batch_size=8)  # fmt: skip
    labels = np.argmax(np.asarray(linear(IMAGES)), axis=1)
    run(WEIGHTS, IMAGES, labels, KEY, 0.02)
    with count_compilations() as count:
        run(WEIGHTS * 1.25, IMAGES, labels, KEY, 0.02)
    assert count() == 0


@contextlib.contextmanager
def count_compilations():
    found = []

    def note(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield lambda: len(found)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def test_lists_and_text_are_taken():
    labels = np.argmax(np.asarray(linear(IMAGES)), axis=1)
    settings = {"attacks": "apgd-ce"}
    expected = autoattack(linear, IMAGES, labels, KEY, epsilon=8 / 255, **settings)
    found = autoattack(linear, IMAGES.tolist(), labels.tolist(), KEY, epsilon="8/255", **settings)
    np.testing.assert_array_equal(found.robust, expected.robust)
    with pytest.warns(AutoAttackWarning, match="1/255 may be meant"):
        autoattack(linear, IMAGES, labels, KEY, epsilon=True, **settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": []}, "devices is empty"),
        ({"batch_size": 2.0}, r"batch_size must be an int of at least 1, got 2\.0"),
        ({"batch_size": True}, "batch_size must be an int"),
        ({"key": jax.random.split(KEY)}, r"key has shape \(2,\): it must be one key"),
        ({"labels": np.full(40, 2**33)}, "got labels from 8589934592"),
        ({"epsilon": "x"}, "x"),
        ({"directory": __file__}, "is a file: give a folder"),
    ],
)
def test_what_cannot_be_given_is_a_sentence(changes, message):
    labels = np.argmax(np.asarray(linear(IMAGES)), axis=1)
    given = {"labels": labels, "key": KEY, "attacks": "apgd-ce"} | changes
    with pytest.raises(InputError, match=message):
        autoattack(linear, IMAGES, **given)
