"""AutoAttack on a Ray cluster of two nodes on this machine, one of which dies."""

import io
import json
import re
import signal
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.cli import main
from rctaf_jax.errors import InputError, Preempted
from rctaf_jax.eval.autoattack import AutoAttackResult, make_autoattack
from rctaf_jax.eval.autoattack.apgd import make_apgd
from rctaf_jax.eval.autoattack.ensemble import run_all
from rctaf_jax.eval.autoattack.square import make_square
from rctaf_jax.experiments.cluster import attack_engine
from rctaf_jax.experiments.cluster.attack_engine import attack_with_ray
from rctaf_jax.experiments.cluster.attack_task import attack_here
from rctaf_jax.models import Network, create, network_of, save_weights

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
Cluster = pytest.importorskip("ray.cluster_utils").Cluster

pytestmark = pytest.mark.filterwarnings("ignore:Square lowers robust accuracy")

IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (24, 4, 4, 1)).astype(np.float32)


def untrained(activation: str, num_classes: int, size: int) -> Network:
    model = create("mlp-1x8", num_classes=num_classes, activation=activation)
    variables = model.init(jax.random.key(2), (size, size, 1))
    return network_of("mlp-1x8", variables, activation, {}, num_classes=num_classes)


NETWORK = untrained("rct-af:beta=1,curvature=7", num_classes=5, size=4)
LABELS = np.argmax(np.asarray(NETWORK(IMAGES)), axis=1)
ATTACKS = (
    make_apgd(norm="Linf", loss="ce", num_steps=5),
    make_square(norm="Linf", num_queries=30),
)
EPSILON, SLOTS = 0.03, 2
"""So that a third of the images withstand, and blocks are of eight."""
PATIENCE_SECONDS = 240


def attack(directory: Path | None, engine: Callable = run_all, progress=None) -> AutoAttackResult:
    run = make_autoattack(
        NETWORK.apply,
        norm="Linf",
        attacks=ATTACKS,
        batch_size=SLOTS,
        devices=jax.local_devices()[:1],
        engine=engine,
    )
    arguments = (NETWORK.variables, IMAGES, LABELS, jax.random.key(0), EPSILON)
    return run(*arguments, directory=directory, progress=progress)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def kept(folder: Path) -> dict[Path, tuple[int, list[int]]]:
    """When each file of finished images was written, and which images are in it."""
    return {
        path: (path.stat().st_mtime_ns, np.load(path)["example"].tolist())
        for path in sorted(folder.glob("*-*/*.npz"))
    }


def assert_equal(result: AutoAttackResult, expected: AutoAttackResult, folder: Path) -> None:
    """Everything but the seconds; and each image of each attack was finished once."""
    for name in ("robust", "adversarial", "correct", "nonfinite", "warnings"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    for number, (one, other) in enumerate(zip(result.attacks, expected.attacks, strict=True), 1):
        for name in set(one._fields) - {"seconds"}:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        files = folder.glob(f"{number}-*/*.npz")
        examples = [example for path in files for example in np.load(path)["example"].tolist()]
        assert sorted(examples) == np.flatnonzero(other.attacked).tolist()


@pytest.fixture(scope="module")
def alone() -> AutoAttackResult:
    """What this process finds."""
    result = attack(None)
    assert 4 < result.robust.sum() < 20
    assert result.attacks[1].broken.any()
    return result


@pytest.fixture(scope="module", autouse=True)
def tasks_of_this_module() -> Iterator[None]:
    """Workers cannot import a test module: what they need of it travels with the task."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Of one node with one CPU."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    cluster.shutdown()


def noting(log: Path, doomed: str) -> Callable:
    """`attack_here` that writes down what it sends; on the doomed node it hangs after that once.

    The other node waits until then, or it might take all blocks.
    """

    def attack_and_note(order, block):
        node = ray.get_runtime_context().get_node_id()
        if node != doomed:
            wait_for(log.exists)
        for number, finished in attack_here(order, block):
            yield number, finished
            with log.open("a") as file:
                file.writelines(f"{number} {example} {node}\n" for example in finished.example)
            time.sleep(PATIENCE_SECONDS if node == doomed else 0)

    return attack_and_note


# JAX warns of any fork, and this test starts a node; the engine itself needs no such filter.
@pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
def test_a_node_dies_and_nothing_is_lost_or_done_twice(cluster, alone, tmp_path, monkeypatch):
    log, folder, output = tmp_path / "sent", tmp_path / "attack", io.StringIO()
    node = cluster.add_node(num_cpus=1)
    monkeypatch.setattr(attack_engine, "attack_here", noting(log, node.node_id))

    def sent() -> list[list[str]]:
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def kill_when_it_hangs() -> None:
        wait_for(lambda: any(where == node.node_id for _, _, where in sent()))
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_when_it_hangs)
    killer.start()
    engine = attack_with_ray(NETWORK, cluster.address, Console(file=output, width=200))
    told = []
    result = attack(folder, engine, told.append)
    killer.join()
    assert_equal(result, alone, folder)
    assert re.search(r"\d images: lost \(.*\), attacked again elsewhere", output.getvalue())
    assert set(Counter((number, example) for number, example, _ in sent()).values()) == {1}
    assert {where for _, _, where in sent()} > {node.node_id}
    assert told[-1].num_done == told[-1].num_examples
    assert told[-1].robust_accuracy == alone.robust_accuracy


def hanging(order, block):
    """Sends what it has first, and no more."""
    yield next(iter(attack_here(order, block)))
    time.sleep(PATIENCE_SECONDS)


def test_interrupted_here_and_there_it_goes_on_from_what_is_kept(
    cluster, alone, tmp_path, monkeypatch
):
    """One process, Ctrl-C; the cluster, SIGTERM; the cluster, Ctrl-C; one process, to the end."""
    folder, before = tmp_path / "attack", {}
    engine = attack_with_ray(NETWORK, cluster.address, Console(quiet=True))

    def ctrl_c(progress):
        raise KeyboardInterrupt

    def sigterm(progress):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(attack_engine, "attack_here", hanging)
    for where, stop, error in (
        (run_all, ctrl_c, KeyboardInterrupt),
        (engine, sigterm, Preempted),
        (engine, ctrl_c, KeyboardInterrupt),
    ):
        with pytest.raises(error):
            attack(folder, where, stop)
        assert before.items() < kept(folder).items()
        before = kept(folder)
    assert_equal(attack(folder), alone, folder)
    assert before.items() < kept(folder).items()


def test_a_function_that_a_node_cannot_import_is_named(cluster, tmp_path, monkeypatch):
    module = types.ModuleType("only_here")
    exec("def apply(variables, images): return images.reshape(len(images), -1)", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    engine = attack_with_ray(Network(module.apply, {}), cluster.address, Console(quiet=True))
    with pytest.raises(InputError, match=r"lacks something .* \(No module named 'only_here'\)"):
        attack(tmp_path / "attack", engine)


def words(folder: Path) -> list[str]:
    """A command that attacks an untrained network at a radius at which nothing withstands."""
    path = folder / "network.npz"
    save_weights(path, untrained("relu", num_classes=10, size=8))
    told = ["--data", "digits", "--epsilon", "0.5", "--num-examples", "40", "--attacks", "apgd-ce"]
    return ["attack", str(path), *told]


def test_the_command_writes_what_it_writes_alone(cluster, tmp_path):
    results = []
    for name, engine in (("alone", []), ("ray", ["--engine", "ray", "--address", cluster.address])):
        output = tmp_path / name
        assert main([*words(tmp_path), "--output", str(output), *engine]) == 0
        result = json.loads((output / "autoattack.json").read_text())
        for part in (*result["attacks"], result["environment"]):
            for incidental in {"seconds", "started", "command"} & part.keys():
                del part[incidental]
        results.append((result, dict(np.load(output / "autoattack.npz"))))
    (one, arrays), (other, others) = results
    assert one == other
    assert one["attacks"][0]["num_broken"] > 0
    assert arrays.keys() == others.keys()
    assert all(arrays[name].tobytes() == others[name].tobytes() for name in arrays)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:10001"])
def test_an_address_without_a_cluster_is_refused_at_once(address, tmp_path, capsys):
    command = [*words(tmp_path), "--output", str(tmp_path / "attack"), "--engine", "ray"]
    assert main([*command, "--address", address]) == 2
    assert address in capsys.readouterr().err


def test_an_address_needs_ray_and_ray_its_package(tmp_path, capsys, monkeypatch):
    assert main(["attack", "nowhere", "--address", "10.0.0.1:6379"]) == 2
    assert "give --engine ray too" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["attack", "nowhere", "--engine", "ray"]) == 2
    assert "pip install 'rctaf-jax[ray]'" in capsys.readouterr().err
