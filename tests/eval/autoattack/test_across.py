"""Two processes of `jax.distributed` attack the images of one, for real."""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import numpy as np

from rctaf_jax.eval.autoattack.across import packed, share_of, unpacked, with_others
from rctaf_jax.eval.autoattack.pool import Finished

SCRIPT = textwrap.dedent("""
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from rctaf_jax import processes
    from rctaf_jax.errors import InputError
    from rctaf_jax.eval import autoattack, make_apgd, make_square

    rng = np.random.default_rng(0)
    IMAGES = rng.uniform(0.3, 0.7, (21, 3, 2, 1)).astype(np.float32)
    HIDDEN, OUTPUT = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 16), (16, 5)))

    def network(x):
        return jnp.tanh(3 * (x.reshape(len(x), -1) - 0.5) @ HIDDEN) @ OUTPUT

    def attack(directory, images=IMAGES, seed=1, sign=1, progress=None):
        attacks = [make_apgd(norm="Linf", loss="ce", num_steps=6),
                   make_square(norm="Linf", num_queries=40)]
        labels = np.asarray(network(IMAGES)).argmax(1)
        return autoattack(lambda x: sign * network(x), images, labels, jax.random.key(seed),
                          epsilon=0.02, attacks=attacks, batch_size=2, directory=directory,
                          devices=jax.local_devices()[:1], progress=progress)

    def save(path, result):
        flags = {name: getattr(result, name) for name in
                 ("robust", "adversarial", "correct", "nonfinite")}
        for number, report in enumerate(result.attacks):
            flags |= {f"{name}{number}": value for name, value in report._asdict().items()
                      if name != "seconds"}
        np.savez(path, **flags, warnings=np.array(result.warnings, str))
""")
ALONE = SCRIPT + textwrap.dedent("""
    def stop(progress):
        raise KeyboardInterrupt

    whole, begun = sys.argv[1:]
    save(whole, attack(None))
    try:
        attack(begun, progress=stop)
    except KeyboardInterrupt:
        print("begun")
""")
TOGETHER = SCRIPT + textwrap.dedent("""
    address, index, folder, begun = sys.argv[1:]
    index = int(index)
    with processes.joined(address, 2, index):
        for arguments in ({"seed": index}, {"sign": 1 - 2 * index}):
            try:
                attack(None, **arguments)
            except InputError as error:
                print(error)
        # Only the first process's folder is looked at.
        save(f"{folder}/new{index}.npz", attack(f"{folder}/folder{index}"))
        try:
            attack(f"{folder}/folder{index}", seed=2)
        except InputError as error:
            print(error)
        save(f"{folder}/begun{index}.npz", attack(begun if index == 0 else None))
""")


def start(script, *words):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(*running):
    try:
        ended = [process.communicate(timeout=240) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * len(running), ended
    return [output for output, _ in ended]


def kept(folder):
    """The files of finished images, and the images in them."""
    return {path: np.load(path)["example"].tolist() for path in folder.glob("*-*/*.npz")}


def kept_by(folder, number):
    """The images that an attack is done with, as often as they are kept."""
    parts = [which for path, which in kept(folder).items() if path.match(f"{number + 1}-*/*")]
    return sorted(example for part in parts for example in part)


def test_two_processes_find_what_one_finds(tmp_path):
    whole, begun = tmp_path / "whole.npz", tmp_path / "begun"
    assert finish(start(ALONE, whole, begun)) == ["begun\n"]
    before = kept(begun)
    assert before
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    said = finish(*(start(TOGETHER, address, index, tmp_path, begun) for index in (0, 1)))
    for output in said:
        assert "given different images, labels, keys or settings of attacks" in output
        assert "given different networks" in output
    assert "folder0 holds an attack with another key" in said[0]
    assert "the first process refused to go on" in said[1]
    expected = np.load(whole)
    assert 2 < expected["robust"].sum() < 19
    for name in ("new0", "new1", "begun0", "begun1"):
        found = np.load(tmp_path / f"{name}.npz")
        assert found.keys() == expected.keys()
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key], f"{name} {key}")
    assert not (tmp_path / "folder1").exists()
    assert before.items() < kept(begun).items()
    for folder in (begun, tmp_path / "folder0"):
        for number in (0, 1):
            assert kept_by(folder, number) == np.flatnonzero(expected[f"attacked{number}"]).tolist()


def test_a_group_travels_with_its_types():
    rng = np.random.default_rng(0)
    group = Finished(
        np.array([3, 2**40]), np.array([True, False]), np.array([False, True]),
        rng.random((2, 4, 4, 1), np.float32), np.array([7, 2**35]),
    )  # fmt: skip
    for sent, came in zip(group, unpacked(packed(group)), strict=True):
        assert came.dtype == sent.dtype
        np.testing.assert_array_equal(came, sent)


def test_one_process_has_all_images_and_nobody_else(monkeypatch):
    assert list(share_of([4, 7, 9])) == [4, 7, 9]
    groups = [object(), object()]
    assert list(with_others(iter(groups))) == groups
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert list(share_of([4, 7, 9])) == [7]
    assert list(share_of([4])) == []
