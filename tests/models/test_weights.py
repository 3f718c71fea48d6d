"""Files of weights: bit for bit back, in PyTorch too, and sentences for what is no such file."""

import functools
import json
import pickle
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rctaf_jax.errors import InputError
from rctaf_jax.models import Network, create, load_weights, network_of, save_weights, to_torch

ACTIVATION = "rct-af:beta=1,curvature=7"
MODELS = {
    "resnet-mini": {},
    "preact-resnet18-input": {"width": 1 / 16},
    "dm-wrn-10-1": {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)},
    "wrn-10-2": {"mean": 0.5, "std": 0.25, "width": 0.5},
    "resnet18": {"width": 0.036, "mean": (0.4, 0.5, 0.6), "std": 0.25},  # 2, 5, 9, 18 channels
    "mlp-2x5": {"width": 2.0, "mean": 0.5, "std": 0.25},
}
SUFFIXES = [".safetensors", ".npz", ".pt"]
SHAPE = (8, 8, 3)


def made(name, **settings):
    model = create(name, num_classes=4, activation=ACTIVATION, **settings)
    variables = model.init(jax.random.key(3), SHAPE)
    variables["activation"]["alpha"] = jnp.float32(1 / 3)  # not what the text says
    variables["batch_stats"] = jax.tree.map(lambda a: a + 0.25, variables["batch_stats"])
    return network_of(name, variables, ACTIVATION, {}, width=settings.get("width", 1.0))


@functools.cache
def state_of(name):
    """A state dict as others have it, of seven classes."""
    model = create(name, num_classes=7, activation="relu", width=1 / 8 if "resnet" in name else 1)
    return to_torch(name, model.init(jax.random.key(3), SHAPE))


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(1), (3, *SHAPE))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", MODELS)
def test_the_same_network_comes_back(tmp_path, name, suffix):
    if suffix == ".pt":
        pytest.importorskip("torch")
    network = made(name, **MODELS[name])
    again = load_weights(save_weights(tmp_path / f"weights{suffix}", network))
    assert (again.model, again.width, again.num_classes) == (name, network.width, 4)
    assert again.activation.name == "rct-af:beta=1"
    assert jax.tree.structure(again.variables) == jax.tree.structure(network.variables)
    jax.tree.map(np.testing.assert_array_equal, again.variables, network.variables)
    assert len(again.facts["sha256"]) == 64


def test_the_same_logits_come_back(tmp_path, images):
    network = made("resnet-mini")
    again = load_weights(save_weights(tmp_path / "w.safetensors", network))
    np.testing.assert_array_equal(again(images), network(images))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_state_dict_of_others_is_known_by_its_names(tmp_path, suffix):
    path = tmp_path / f"theirs{suffix}"
    state = state_of("wrn-16-1")
    save_file(state, path) if suffix == ".safetensors" else np.savez(path, **state)
    network = load_weights(path)
    assert (network.model, network.num_classes, network.width) == ("wrn-16-1", 7, 1)
    assert network.activation.text == "relu"
    assert "input" not in load_weights(path).variables
    assert load_weights(path, mean=0.5, std=0.5).variables["input"]["mean"].tolist() == [0.5] * 3


def test_what_names_do_not_tell_must_be_stated(tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file(state_of("preact-resnet18-input"), path)
    with pytest.raises(
        InputError, match=r"may hold preact-resnet18-activated or .*state the model"
    ):
        load_weights(path)
    assert load_weights(path, model="preact-resnet18-input").model == "preact-resnet18-input"
    save_file(state_of("dm-wrn-10-2"), path)
    with pytest.raises(InputError, match="state mean and std"):
        load_weights(path)
    stated = load_weights(path, activation="swish", mean=0.5, std=(0.2, 0.3, 0.4))
    assert (stated.model, stated.activation.text) == ("dm-wrn-10-2", "swish")


def test_bfloat16_comes_in(tmp_path):
    path = tmp_path / "half.safetensors"
    state = {k: v.astype(ml_dtypes.bfloat16) for k, v in state_of("wrn-10-2").items()}
    save_file(state, path)
    bias = load_weights(path).variables["params"]["dense"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, state["fc.bias"].astype(np.float32))


def test_pytorch_reads_what_is_written(tmp_path, images):
    torch = pytest.importorskip("torch")
    network = made("resnet-mini")
    path = save_weights(tmp_path / "w.safetensors", network)
    from safetensors.torch import load_file as load_tensors

    tensors = load_tensors(path)
    kernel = network.variables["params"]["stem"]["kernel"]
    ours = torch.nn.functional.conv2d(
        torch.tensor(np.asarray(images)).permute(0, 3, 1, 2), tensors["conv1.weight"], padding=1
    )
    theirs = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_tensors_that_require_grad_come_in(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    state = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in state_of("wrn-10-2").items()}
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    bias = load_weights(path).variables["params"]["dense"]["bias"]
    np.testing.assert_array_equal(bias, state_of("wrn-10-2")["fc.bias"])


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


def test_no_code_of_a_file_is_run(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Evil()}, path)
    with pytest.raises(InputError, match="other objects than tensors"):
        load_weights(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError):
        load_weights(path)
    np.savez(tmp_path / "w.npz", a=np.array([Evil()], object))
    with pytest.raises(InputError, match="damaged"):
        load_weights(tmp_path / "w.npz")
    assert "code was run" not in capsys.readouterr().out


def test_without_pytorch_its_files_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pt").write_bytes(b"x")
    with pytest.raises(InputError, match="PyTorch, which is not installed"):
        load_weights(tmp_path / "w.pt")


def own_file(folder, **changes):
    path = save_weights(folder / "own.safetensors", made("mlp-2x5"))
    state = load_file(path)
    metadata = {"model": "mlp-2x5", "width": 1.0, "activation": "relu", **changes}
    save_file(state, path, metadata={"rctaf_jax": json.dumps(metadata)})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 5}, r"metadata rctaf_jax, has model = 5: it must be text"),
        ({"width": "x"}, "has width = .x.: it must be a number > 0"),
        ({"width": -1}, "has width = -1: it must be a number > 0"),
        ({"activation": None}, "has activation = null: it must be text"),
        ({"normalisation": 5}, "has normalisation = 5"),
        ({"normalisation": [[0.5]]}, "normalisation"),
        ({"normalisation": [[0.5], [0]]}, r"normalisation\[1\]\[0\] = 0: it must be a number > 0"),
        ({"model": "mlp-2x6"}, "its arrays are not those of mlp-2x6"),
        ({"model": "mlp-3x5"}, "its arrays are not those of mlp-3x5"),
        ({"width": 0.5}, "its arrays are not those of mlp-2x5"),
        ({"model": "tree"}, "unknown model 'tree'"),
        ({"activation": "tree"}, "unknown activation 'tree'"),
        ({"model": "resnet18"}, "no network is found"),
    ],
)
def test_metadata_are_not_believed(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load_weights(own_file(tmp_path, **changes))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, ""])
def test_metadata_that_are_no_json(tmp_path, text):
    path = save_weights(tmp_path / "own.safetensors", made("mlp-2x5"))
    save_file(load_file(path), path, metadata={"rctaf_jax": text})
    with pytest.raises(InputError, match="metadata rctaf_jax, are no JSON"):
        load_weights(path)


def test_what_a_file_says_itself_is_not_stated(tmp_path):
    path = save_weights(tmp_path / "own.npz", made("mlp-2x5"))
    with pytest.raises(InputError, match=r"says itself which network .* leave out model, mean"):
        load_weights(path, model="mlp-2x5", mean=0.5, std=1)


def test_files_that_are_none(tmp_path):
    for name, content, message in (
        ("w.onnx", b"", "unknown kind of weights file '.onnx': choose one of .safetensors, .npz"),
        ("w", b"", "unknown kind of weights file ''"),
        ("w.safetensors", b"nonsense", "is damaged"),
        ("v.safetensors", b"", "is damaged"),
        ("w.npz", b"nonsense", "is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_weights(tmp_path / name)
        assert (tmp_path / name).exists()
    with pytest.raises(InputError, match=r"none\.npz is no file"):
        load_weights(tmp_path / "none.npz")
    with pytest.raises(InputError, match="is no file"):
        load_weights(tmp_path / "folder.npz")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"unknown kind of weights file '\.h5'"):
        save_weights(tmp_path / "w.h5", made("mlp-2x5"))
    with pytest.raises(InputError, match="a function of one's own"):
        save_weights(tmp_path / "w.npz", Network(lambda v, x: x, {}))
    with pytest.raises(InputError, match="mlp-2x5 has no PyTorch names"):
        save_weights(tmp_path / "w.npz", made("mlp-2x5"), layout="trades")
    with pytest.raises(OSError, match="nowhere"):
        save_weights(tmp_path / "nowhere" / "w.npz", made("mlp-2x5"))
