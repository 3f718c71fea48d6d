"""A small part of what `benchmarks/autoattack_reference.py` compares in full."""

import jax
import numpy as np
import pytest

from rctaf_jax.eval import autoattack, make_apgd, make_square

EPSILON = {"Linf": 8 / 255, "L2": 0.5, "L1": 12.0}


def test_network_is_the_official_one(small_cnn):
    network, values = small_cnn()
    logits = network(values["images_uint8"] / np.float32(255))
    np.testing.assert_allclose(logits, values["clean_logits"], atol=1e-4)


@pytest.mark.parametrize("norm", EPSILON)
def test_same_verdicts_as_the_official_attack(norm, small_cnn):
    """APGD on the cross-entropy, of which one restart decides nearly all images; in L1 official
    verdicts are of five."""
    network, values = small_cnn()
    result = autoattack(
        network, values["images_uint8"], values["labels"], norm=norm, epsilon=EPSILON[norm],
        key=jax.random.key(0), attacks=[make_apgd(norm=norm, loss="ce")], batch_size=16,
        devices=jax.local_devices()[:1],
    )  # fmt: skip
    official = values[f"{norm}/apgd-ce/robust"]
    assert 1 < official.sum() < 13
    assert (result.robust == official).sum() >= (14 if norm == "L1" else 15)


def test_square_comes_near_the_official_one(small_cnn):
    """With a tenth of the queries: nothing that withstands 5,000, most of what does not."""
    network, values = small_cnn()
    result = autoattack(
        network, values["images_uint8"], values["labels"], key=jax.random.key(0),
        attacks=[make_square(norm="Linf", num_queries=500)], batch_size=16,
        devices=jax.local_devices()[:1],
    )  # fmt: skip
    official = values["Linf/square/robust"]
    assert (result.robust[official]).all()
    assert (~result.robust).sum() >= 0.6 * (~official).sum() > 4
