"""`rctaf evaluate`, `attack`, `hessian` and `export` on networks from anywhere."""

import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rctaf_jax.cli import main
from rctaf_jax.config import NetworkConfig
from rctaf_jax.data import load
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.run.network import load_network
from rctaf_jax.experiments.run.subject import open_subject
from rctaf_jax.models import create, from_torch, network_of, save_weights, to_torch

TRAIN = "train --model resnet-mini --width 0.25 --method standard --num-train 64 --num-test 20"
TRAIN += " --batch-size 32 --epochs 2 --pgd-steps 1 --mean 0.3 --std 0.25 --averaging 0.5"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "run"
    assert main([*TRAIN.split(), "--epsilon", "0.1", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small colour images of ten classes, as a file of one's own."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("images") / "images.npz"
    splits = {"train": 20, "test": 10}
    arrays = {
        f"{name}_images": rng.integers(0, 256, (size, 8, 8, 3), np.uint8)
        for name, size in splits.items()
    }
    labels = {f"{name}_labels": np.arange(size) % 10 for name, size in splits.items()}
    np.savez(path, **arrays, **labels)
    return path


@pytest.fixture(scope="module", params=[".safetensors", ".pt"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as RobustBench's are: normalised by buffers, wrapped for several GPUs."""
    model = create("wrn-10-1", num_classes=10, activation="relu", mean=0.5, std=0.25)
    variables = model.init(jax.random.key(0), (8, 8, 3))
    state = {f"module.{k}": v for k, v in to_torch("wrn-10-1", variables).items()}
    path = tmp_path_factory.mktemp("published") / f"Someone2020{request.param}"
    if request.param == ".pt":
        torch = pytest.importorskip("torch", reason="writes the checkpoint")
        tensors = {key: torch.tensor(np.asarray(array)) for key, array in state.items()}
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(state, path)
    return path


def test_a_published_checkpoint_is_attacked_and_measured(published, images, tmp_path, capsys):
    """Three commands: AutoAttack, PGD, the Hessian norm; with the file's hash in each result."""
    words = [str(published), "--data", str(images)]
    few = ["--epsilon", "1/255", "--attacks", "apgd-ce", "--num-examples", "4"]
    assert main(["attack", *words, *few, "--output", str(tmp_path / "aa")]) == 0
    radius = ["--epsilon", "2/255", "--pgd-steps", "2", "--output", str(tmp_path / "pgd")]
    assert main(["evaluate", *words, *radius]) == 0
    probes = ["--num-probes", "2", "--num-examples", "2", "--method", "hutchinson"]
    assert main(["hessian", *words, *probes, "--output", str(tmp_path / "h")]) == 0
    assert "wrn-10-1" not in capsys.readouterr().err
    results = [
        json.loads((tmp_path / name).read_text())
        for name in ("aa/autoattack.json", "pgd/evaluation.json", "h/hessian.json")
    ]
    (digest,) = {result["sha256"] for result in results}
    assert digest == load_network(published).facts["sha256"]
    assert {result["file"] for result in results} == {published.name}
    attack, evaluation, hessian = results
    assert (attack["architecture"], attack["name"]) == ("wrn-10-1", published.name)
    assert attack["eps"] == "1/255"
    assert evaluation["attack"] == "PGD-2 x 1, margin, Linf 0.007843"
    assert hessian["num_parameters"] == sum(
        leaf.size for leaf in jax.tree.leaves(load_network(published).variables["params"])
    )
    network = load_network(published)
    split = load(images).test
    right = np.argmax(network(jnp.asarray(split.images) / 255), axis=1) == split.labels
    assert evaluation["clean_correct"] == right.sum()


def test_a_run_opens_without_its_images_and_its_method(run, tmp_path):
    """Moved, its data gone, trained by a method that nobody here has."""
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    config = json.loads((moved / "config.json").read_text())
    config["train"]["method"], config["data"]["name"] = "mine", "gone.npz"
    (moved / "config.json").write_text(json.dumps(config))
    here, there = load_network(run), load_network(moved)
    jax.tree.map(np.testing.assert_array_equal, here.variables, there.variables)
    assert there.facts["step"] == 4
    assert main(["evaluate", str(moved), "--data", "digits", "--pgd-steps", "1"]) == 0
    with pytest.raises(InputError, match=r"gone\.npz"):
        open_subject(str(moved), NetworkConfig())


def test_a_runs_normalisation_and_average_are_its_networks(run):
    subject = open_subject(str(run), NetworkConfig())
    assert subject.network.variables["input"]["mean"].tolist() == pytest.approx([0.3])
    assert subject.as_trained["input"]["std"].tolist() == [0.25]
    kernel = subject.network.variables["params"]["stem"]["kernel"]
    assert not np.array_equal(kernel, subject.as_trained["params"]["stem"]["kernel"])
    result = json.loads((run / "evaluations" / "pgd-1x1-margin" / "evaluation.json").read_text())
    pixels = jnp.asarray(subject.dataset.test.images, jnp.float32) / 255
    right = np.argmax(subject.network(pixels), axis=1) == subject.dataset.test.labels
    assert result["clean_correct"] == right.sum()


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_an_exported_run_is_the_same_network(run, tmp_path, capsys, suffix):
    path = tmp_path / f"weights{suffix}"
    assert main(["export", str(run), str(path)]) == 0
    assert "resnet-mini with rct-af:beta=1,alpha=14 and 10 classes" in capsys.readouterr().out
    here, there = load_network(run), load_network(path)
    assert (there.model, there.width, there.activation) == (here.model, 0.25, here.activation)
    jax.tree.map(np.testing.assert_array_equal, here.variables, there.variables)
    if suffix == ".safetensors":
        again = from_torch("resnet-mini", load_file(path), activation=here.activation)
        jax.tree.map(np.testing.assert_array_equal, here.variables, again)


MODULE = """
import jax.numpy as jnp

def plain():
    def apply(variables, images):
        return images.reshape(len(images), -1) @ variables["params"]["w"]
    return apply, {"params": {"w": jnp.eye(192, 10)}}

def network():
    from rctaf_jax.models import Network
    return Network(*plain(), num_classes=10)

ready = network()

def flat():
    return lambda v, x: x.reshape(len(x), -1) @ v["w"], {"w": jnp.eye(192, 10)}

def careless():
    return lambda v, x: x.reshape(len(x), -1) @ v["nothing"], {"w": jnp.eye(192, 10)}

def in_a_tuple():
    return lambda v, x: (plain()[0](v, x), x), plain()[1]

def in_a_dict():
    return lambda v, x: {"logits": plain()[0](v, x)}, plain()[1]

def of_one_axis():
    return lambda v, x: plain()[0](v, x).sum(1), plain()[1]

def of_three_classes():
    return lambda v, x: plain()[0](v, x)[:, :3], plain()[1]

def no_pair():
    return plain()[0]

def failing():
    raise RuntimeError("no weights here")

number = 7
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import os\n1 / 0\n")
    (tmp_path / "needy.py").write_text("import a_package_of_nobody\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("mine", "broken", "needy"):
        sys.modules.pop(name, None)


def test_a_function_of_ones_own_is_attacked(module, images):
    words = ["--data", str(images), "--epsilon", "1/255"]
    few = ["--attacks", "apgd-ce", "--num-examples", "4"]
    assert main(["attack", "mine:plain", *words, *few]) == 0
    result = json.loads((module / "runs/mine-plain/autoattack/autoattack.json").read_text())
    assert result["function"] == "mine:plain"
    assert result["activation"] is None
    for place in ("mine:network", "mine:ready"):
        assert main(["evaluate", place, *words, "--pgd-steps", "1"]) == 0
        folder = module / "runs" / place.replace(":", "-") / "evaluations" / "pgd-1x1-margin"
        assert json.loads((folder / "evaluation.json").read_text())["function"] == place
    words = ["--data", str(images), "--method", "coordinates", "--num-probes", "2"]
    assert main(["hessian", "mine:plain", *words, "--num-examples", "4"]) == 0
    result = json.loads((module / "runs/mine-plain/hessian/coordinates/hessian.json").read_text())
    assert result["num_parameters"] == 1920


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("attack mine:in_a_tuple", "returns a tuple for two images: it must return logits"),
        ("attack mine:in_a_dict", "returns a dict for two images"),
        ("attack mine:of_one_axis", r"returns (2,) for two images"),
        ("evaluate mine:of_three_classes", "has 3 classes, but images has 10"),
        ("attack mine:no_pair", "returned a function: it must return (apply, variables)"),
        ("attack mine:failing", "failed: RuntimeError at mine.py:37: no weights here"),
        ("attack mine:careless", "with the channels last: KeyError at mine.py:19: 'nothing'"),
        ("attack mine:number", "mine:number failed: TypeError"),
        ("attack mine:nothing", "mine has no nothing"),
        ("attack nobody.there:f", "there is no module 'nobody'"),
        ("attack broken:f", "cannot be imported: ZeroDivisionError at broken.py:2"),
        ("attack needy:f", "there is no module 'a_package_of_nobody'"),
        ("hessian mine:flat", 'must be a dict with the part "params"'),
        ("attack mine:plain --model wrn-10-1 --mean 0.5", "leave out model, mean"),
        ("evaluate mine:plain --norm L2", "which radius it was trained: give --epsilon"),
        ("evaluate mine:plain --norm L2 --epsilon 0", "epsilon must be a positive number"),
    ],
)
def test_functions_that_are_no_networks(module, images, capsys, words, message):
    radius = [] if words.startswith("hessian") or "--norm" in words else ["--epsilon", "0.1"]
    assert main([*words.split(), "--data", str(images), *radius]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert error.count("rctaf:") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate {run} --norm L2", "trained for Linf, whose radius means nothing in L2"),
        ("attack {run} --model resnet18", "says itself what it is: leave out model"),
        ("attack {file}", "does not say which images it is for: give --data"),
        ("attack {file} --num-test 5", "does not say which images it is for: give --data"),
        ("attack {run} --num-test 21", "cannot take 21 of the 20 test images"),
        ("attack {text}", "is no network: expected a file that ends in .safetensors, .npz, .pt"),
        ("export {run} x.npz --layout trades", "only a Wide ResNet has the layout trades"),
        ("hessian {run} --image-size 5", "image-size belongs to images that are stated: give"),
        ("attack {file} --data {images}", "which radius it was trained: give --epsilon"),
        ("evaluate {file} --data {images}", "which radius it was trained: give --epsilon"),
        ("attack {file} --data digits --epsilon 0.1", "the network takes 3, in the last axis"),
        (
            "attack {file} --data {images} --model wrn-16-1",
            "is that of a wrn-10-1, not of a wrn-16",
        ),
        ("attack {file} --data {images} --mean 0.1 --std 1", "but the checkpoint has"),
        ("attack {file} --data {images} --prefix ema", "'ema' is none of them"),
        ("hessian {run} --data {images}", "the network takes 1, in the last axis"),
        ("export {file} x.onnx", "unknown kind of weights file '.onnx'"),
        ("export {run} x.npz --data digits", "weights need no images: leave out --data"),
        ("export {mlp} x.npz --layout trades", "has no PyTorch names"),
        ("attack {mlp} --data {images} --epsilon 0.1", "are not those of this network for images"),
    ],
)
def test_what_does_not_fit_is_a_sentence(run, published, images, tmp_path, capsys, words, message):
    variables = create("mlp-1x4", num_classes=10, activation="relu").init(
        jax.random.key(0), (8, 8, 1)
    )
    mlp = save_weights(tmp_path / "mlp.npz", network_of("mlp-1x4", variables, "relu", {}))
    (tmp_path / "mine.py").write_text("")
    places = {"run": run, "file": published, "images": images, "mlp": mlp}
    places["text"] = tmp_path / "mine.py"
    assert main(words.format(**places).split()) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error


def test_a_program_goes_everywhere(run, tmp_path, capsys):
    """Written by the command, it is measured by every command, with the run's own verdicts."""
    file, out = tmp_path / "network.jax", tmp_path / "out"
    assert main(["export", str(run), str(file)]) == 0
    expected, found = load_network(run), load_network(file)
    images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))
    np.testing.assert_allclose(found(images), expected(images), rtol=1e-5, atol=1e-6)
    config = ["--config", str(run)]
    for name in (str(run), str(file)):
        words = ["evaluate", name, *config, "--pgd-steps", "2", "--output", str(out / "e")]
        assert main(words) == 0
        words = ["attack", name, *config, "--num-examples", "6", "--attacks", "apgd-ce", "fab-t"]
        assert main([*words, "--output", str(tmp_path / f"attack-{Path(name).name}")]) == 0
        words = ["hessian", name, *config, "--method", "hutchinson", "--num-probes", "4"]
        assert main([*words, "--output", str(tmp_path / f"hessian-{Path(name).name}")]) == 0
    reports = [
        json.loads((tmp_path / f"attack-{name}" / "autoattack.json").read_text())
        for name in (run.name, file.name)
    ]
    assert reports[0]["robust_accuracy"] == reports[1]["robust_accuracy"]
    norms = [
        json.loads((tmp_path / f"hessian-{name}" / "hessian.json").read_text())["rms"]
        for name in (run.name, file.name)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    capsys.readouterr()
    for words, message in [
        (["hessian", str(file), *config, "--method", "exact"], "the method exact is not for a net"),
        (["evaluate", str(file), *config, "--model", "resnet18"], "says itself what it is"),
        (["export", str(run), str(file), "--layout", "trades"], "a program has no names"),
        (["export", str(file), str(tmp_path / "w.npz")], "a function of one's own has no weights"),
    ]:
        assert main(words) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert message in error
        assert "Traceback" not in error


def test_a_function_without_forward_mode_has_a_hessian(tmp_path, monkeypatch, capsys):
    """A custom_vjp of somebody's own: the norm is that of the same network without."""
    (tmp_path / "reverse_only.py").write_text(
        "import jax, jax.numpy as jnp\n"
        "@jax.custom_vjp\n"
        "def f(x): return jnp.sin(x)\n"
        "f.defvjp(lambda x: (jnp.sin(x), x), lambda x, u: (u * jnp.cos(x),))\n"
        "def make(f):\n"
        "    w = jnp.sin(jnp.arange(640.0)).reshape(64, 10) / 8\n"
        "    run = lambda v, x: f(x.reshape(x.shape[0], -1) @ v['params']['w'])\n"
        "    return jax.jit(run), {'params': {'w': w}}\n"
        "def with_vjp(): return make(f)\n"
        "def plain(): return make(jnp.sin)\n"
    )
    monkeypatch.chdir(tmp_path)
    norms = []
    for name in ("with_vjp", "plain"):
        words = ["hessian", f"reverse_only:{name}", "--data", "digits", "--num-train", "50"]
        words += ["--method", "hutchinson", "--num-probes", "4", "--output", name]
        assert main(words) == 0
        norms.append(json.loads((tmp_path / name / "hessian.json").read_text())["rms"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    capsys.readouterr()
    words = ["hessian", "reverse_only:with_vjp", "--data", "digits", "--method", "exact"]
    assert main(words) == 2
    assert "derivatives in reverse mode alone" in " ".join(capsys.readouterr().err.split())
    sys.modules.pop("reverse_only")
