"""From a folder of pictures to a robust network that PyTorch runs: the same logits."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import rctaf_jax
from rctaf_jax.cli import main
from rctaf_jax.data import load

SIZE = 64
TRAIN = "--model resnet-mini --width 0.25 --method trades --epsilon 2/255 --attack-steps 1"
TRAIN += " --step-size 1/255 --epochs 1 --batch-size 8 --pgd-steps 1 --activation swish"


@pytest.fixture
def pictures(tmp_path):
    """Of several sizes, in two classes that a network can tell apart."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 180)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(10):
            shape = (70 + number, 90 - number, 3)
            pixels = np.clip(rng.normal(level, 20, shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def in_pytorch(state, images):
    """resnet-mini written out with PyTorch's functions, from the file's names alone."""
    torch = pytest.importorskip("torch")
    conv, silu = torch.nn.functional.conv2d, torch.nn.functional.silu
    state = {name: torch.tensor(array) for name, array in state.items()}

    def norm(x, name):
        parts = (state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return torch.nn.functional.batch_norm(x, *parts)

    def block(x, name, stride):
        shortcut = x
        if f"{name}.shortcut.0.weight" in state:
            shortcut = conv(x, state[f"{name}.shortcut.0.weight"], stride=stride)
            shortcut = norm(shortcut, f"{name}.shortcut.1")
        y = conv(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = conv(silu(norm(y, f"{name}.bn1")), state[f"{name}.conv2.weight"], padding=1)
        return silu(norm(y, f"{name}.bn2") + shortcut)

    x = (torch.tensor(images).permute(0, 3, 1, 2) - state["mu"]) / state["sigma"]
    x = silu(norm(conv(x, state["conv1.weight"], stride=2, padding=1), "bn1"))
    x = block(block(x, "layer1.0", 1), "layer2.0", 2)
    return (x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]).numpy()


def test_pytorch_gives_the_same_logits(pictures, tmp_path):
    data = ["--data", str(pictures), "--image-size", str(SIZE)]
    normalisation = ["--mean", "0.4", "0.5", "0.6", "--std", "0.2", "0.25", "0.3"]
    run, file = tmp_path / "run", tmp_path / "weights.safetensors"
    assert main(["train", *data, *TRAIN.split(), *normalisation, "--output", str(run)]) == 0
    assert main(["export", str(run), str(file)]) == 0
    images = load(pictures, image_size=SIZE).test.images.astype(np.float32) / 255
    assert images.shape[1:] == (SIZE, SIZE, 3)
    expected = rctaf_jax.load_network(run)(jnp.asarray(images))
    np.testing.assert_allclose(in_pytorch(load_file(file), images), expected, rtol=1e-4, atol=1e-5)
