"""Logits of published classes against ours, for weights and statistics drawn from their names.

`torch_layouts.json.gz` has, for each model, the names and shapes of the state dict of RobustBench's
class (in resnet.py, wide_resnet.py, robust_wide_resnet.py and dm_wide_resnet.py, the commit of 31
March 2025; wrn-34-r at a quarter of its width) and its logits
in PyTorch 2.13, for `IMAGES` and the arrays of `drawn`.
"""

import functools
import gzip
import json
import re
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.models import create, from_torch, model_names, to_torch
from rctaf_jax.models.torch_state import architectures, find_network

IMAGES = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}
# What state dicts of DeepMind's classes leave out.
STATED = {
    "dm-preact-resnet18": {"activation": "swish", **CIFAR10},
    "dm-wrn-10-2": {"activation": "swish", **CIFAR10},
    "dm-wrn-16-1": {"activation": "relu", **CIFAR10},
}
CASES = json.loads(gzip.decompress((Path(__file__).parent / "torch_layouts.json.gz").read_bytes()))


def drawn(key, shape):
    if key in ("mu", "sigma"):
        return np.reshape(CIFAR10["mean" if key == "mu" else "std"], shape)
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if key.endswith("running_mean"):
        return rng.normal(0, 0.1, shape)
    if len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape) if key.endswith("weight") else rng.normal(0, 0.1, shape)
    return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))


@functools.cache
def state_of(name):
    return {k: drawn(k, v).astype(np.float32) for k, v in CASES[name]["shapes"].items()}


def logits_of(name, variables, num_classes=10):
    activation = STATED.get(name, {}).get("activation", "relu")
    width = 1 / 4 if name == "wrn-34-r" else 1
    model = create(name, num_classes=num_classes, activation=activation, width=width)
    return jax.jit(lambda v: model.apply(v, jnp.asarray(IMAGES))[0])(variables)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_originals(name):
    expected = np.array(CASES[name]["logits"])
    state = state_of(name)
    assert name in architectures(find_network(state).arrays)
    variables = from_torch(name, state, **STATED.get(name, {}))
    logits = logits_of(name, variables, expected.shape[1])
    error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    assert error < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_written_out_it_is_the_same_state_dict(name):
    state = state_of(name)
    variables = from_torch(name, state, **STATED.get(name, {}))
    layout = "trades" if any(key.startswith("sub_block1") for key in state) else None
    again = to_torch(name, variables, layout=layout)
    assert again.keys() == state.keys()
    for key, array in again.items():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        if not key.startswith("sub_block1"):
            np.testing.assert_array_equal(array, state[key])


def test_every_model_of_the_table_is_compared():
    forms = {re.sub("[A-Z]+", r"\\d+", form) for form in model_names() if form[:3] != "mlp"}
    names = {name.replace("-activated", "") for name in CASES} | {"resnet-mini"}
    assert all(any(re.fullmatch(form, name) for name in names) for form in forms)
    assert all(any(re.fullmatch(form, name) for form in forms) for name in names)


WRAPPERS = {
    "data parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "twice": lambda s: {f"module.module.{k}": v for k, v in s.items()},
    "checkpoint": lambda s: {"epoch": 7, "state_dict": {f"model.{k}": v for k, v in s.items()}},
    "optimiser": lambda s: {
        "net": s,
        "optimizer": {"state": {0: {"momentum_buffer": np.zeros((4, 3, 3, 3))}}},
    },
    "sequential": lambda s: {
        "0.mean": np.full(3, 0.5),
        "0.std": np.full((1, 3, 1, 1), 0.25),
        **{f"1.{k}": v for k, v in s.items()},
    },
    "counters": lambda s: s | {"bn1.num_batches_tracked": np.int64(3)},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_are_seen_through(wrapper):
    state = state_of("wrn-10-2")
    variables = from_torch("wrn-10-2", WRAPPERS[wrapper](state))
    plain = from_torch("wrn-10-2", state)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], plain["params"])
    assert ("input" in variables) == (wrapper == "sequential")
    if wrapper == "sequential":
        np.testing.assert_array_equal(variables["input"]["mean"], [0.5] * 3)
        np.testing.assert_array_equal(variables["input"]["std"], [0.25] * 3)


def test_an_average_beside_the_weights_must_be_chosen():
    state = state_of("wrn-16-1")
    average = {k: v + 1 for k, v in state.items()}
    both = {"state_dict": state, "state_dict_ema": {f"module.{k}": v for k, v in average.items()}}
    with pytest.raises(InputError, match=r"prefixes state_dict, state_dict_ema\.module: say which"):
        from_torch("wrn-16-1", both)
    with pytest.raises(InputError, match="'ema' is none of them"):
        from_torch("wrn-16-1", both, prefix="ema")
    chosen = from_torch("wrn-16-1", both, prefix="state_dict_ema.module")
    np.testing.assert_array_equal(chosen["params"]["dense"]["bias"], average["fc.bias"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_types_become_float32(dtype):
    state = {k: v.astype(dtype) for k, v in state_of("wrn-10-2").items()}
    variables = from_torch("wrn-10-2", state)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    expected = np.asarray(state["fc.bias"], np.float32)
    np.testing.assert_array_equal(variables["params"]["dense"]["bias"], expected)


def with_key(name, key, array):
    return state_of(name) | {key: array}


def without(name, *keys):
    return {k: v for k, v in state_of(name).items() if k not in keys}


@pytest.mark.parametrize(
    ("name", "state", "stated", "message"),
    [
        ("preact-resnet18", state_of("preact-resnet18-input"), {}, "where the shortcuts of this"),
        (
            "preact-resnet18-norm",
            state_of("preact-resnet18-activated-norm"),
            {},
            "state preact-resnet18-activated-norm or preact-resnet18-input-norm",
        ),
        ("preact-resnet18-input", state_of("resnet18"), {}, "that of a resnet18, not of a preact"),
        ("wrn-16-2", state_of("wrn-10-2"), {}, "is that of a wrn-10-2, not of a wrn-16-2"),
        ("wrn-10-2", state_of("dm-wrn-10-2"), {}, "is that of a dm-wrn-10-2, not of a wrn-10-2"),
        ("dm-wrn-10-2", state_of("dm-wrn-10-2"), {"activation": "swish"}, "state mean and std"),
        ("dm-wrn-10-2", state_of("dm-wrn-10-2"), CIFAR10, "state the activation"),
        ("wrn-10-2", state_of("wrn-10-2"), {"mean": 0.5}, "mean and std belong together"),
        ("wrn-10-2", state_of("wrn-10-2"), {"mean": 0.5, "std": 0}, "each must be positive"),
        ("wrn-10-2", state_of("wrn-10-2"), {"mean": (1, 2), "std": 1}, "mean has 2 values"),
        (
            "preact-resnet18-activated-norm",
            state_of("preact-resnet18-activated-norm"),
            {"mean": 0.5, "std": 0.5},
            "the checkpoint has",
        ),
        ("wrn-10-2", with_key("wrn-10-2", "mu", np.zeros(3)), {}, "a mean for the images and no"),
        ("wrn-10-2", with_key("wrn-10-2", "prelu.weight", np.zeros(1)), {}, "unknown prelu.weight"),
        ("wrn-10-2", without("wrn-10-2", "fc.bias"), {}, "missing fc.bias"),
        ("wrn-10-2", {"epoch": 3}, {}, "no network is found"),
        (
            "wrn-10-2",
            {f"1.{k}": v for k, v in state_of("wrn-10-2").items()} | {"2.weight": np.eye(10)},
            {},
            "2.weight beside the network 1",
        ),
        ("mlp-1x8", state_of("wrn-10-2"), {}, "mlp-1x8 has no PyTorch names"),
    ],
)
def test_what_names_do_not_tell_is_asked_for(name, state, stated, message):
    with pytest.raises(InputError, match=message):
        from_torch(name, state, **stated)


def test_unknown_layout_is_refused():
    with pytest.raises(InputError, match="unknown layout 'keras': choose one of trades"):
        to_torch("wrn-10-2", {}, layout="keras")
