"""A sweep on a Ray cluster of two nodes on this machine, one of which dies."""

import io
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.config import (
    DataConfig,
    EngineConfig,
    EvaluationConfig,
    HessianConfig,
    SweepConfig,
    TrainConfig,
)
from rctaf_jax.errors import InputError, Preempted
from rctaf_jax.experiments.cluster import arrivals
from rctaf_jax.experiments.run.network import load_network
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.experiments.sweep import ray_engine, unfinished
from rctaf_jax.experiments.sweep.engines import run_with
from rctaf_jax.experiments.sweep.members import SweepMember, expand
from rctaf_jax.experiments.sweep.ray_task import train_here
from rctaf_jax.experiments.sweep.setup import resolve_sweep
from rctaf_jax.experiments.sweep.sweep import run_members, run_sweep
from rctaf_jax.typed_json import read_json

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
Cluster = pytest.importorskip("ray.cluster_utils").Cluster

SMALL = SweepConfig(
    data=DataConfig(num_train=64, num_test=40),
    train=TrainConfig(model="mlp-1x8", epsilon=0.1, attack_steps=1, epochs=3, batch_size=16),
    evaluation=EvaluationConfig(pgd_steps=2, batch_size=40),
    hessian=HessianConfig(num_probes=4, batch_size=64),
    betas=(1,),
    curvatures=(1.0, 7.0),
    seeds=(0, 1),
)
IDS = [one.id for one in expand(SMALL)]
RELU = [one for one in expand(SMALL) if one.activation.name == "relu"]
PATIENCE_SECONDS = 240


def sweep(folder: Path, engine: Callable, members: list[SweepMember] | None = None) -> str:
    """Run the small sweep, or some of its members; returns what was printed."""
    output = io.StringIO()

    def some(opened, all_members, progress):
        engine(opened, all_members if members is None else members, progress)

    resolved = resolve_sweep(SMALL)
    with SweepProgress(Console(file=output, width=200)) as progress:
        run_sweep(resolved, folder, "rctaf sweep --small", progress, some)
    return output.getvalue()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """What this process makes of the same sweep."""
    folder = tmp_path_factory.mktemp("local") / "results"
    sweep(folder, run_members)
    return folder


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
    """`train_here` that writes down each start; on the doomed node the second one hangs.

    The other node waits for that before its own second one, or it might take all members.
    """

    def train_and_note(order, members):
        node = ray.get_runtime_context().get_node_id()
        with log.open("a") as file:
            file.writelines(f"{member.id} {node}\n" for member in members)
        if log.read_text().count(node) > 1:
            wait_for(lambda: log.read_text().count(doomed) > 1)
            time.sleep(PATIENCE_SECONDS if node == doomed else 0)
        yield from train_here(order, members)

    return train_and_note


def starts(log: Path) -> list[list[str]]:
    """Member and node of each start so far."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


# JAX warns of any fork, and this test starts a node; the engine itself needs no such filter.
@pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
def test_a_node_dies_and_nothing_is_lost_or_done_twice(cluster, local, tmp_path, monkeypatch):
    log, folder = tmp_path / "starts", tmp_path / "results"
    node = cluster.add_node(num_cpus=1)
    monkeypatch.setattr(ray_engine, "train_here", noting(log, node.node_id))
    collected: list[str] = []

    def kill_when_it_hangs() -> None:
        def on_node() -> list[str]:
            return [member for member, where in starts(log) if where == node.node_id]

        def is_done(member: str) -> bool:
            return (folder / "members" / member / "row.json").exists()

        wait_for(lambda: len(on_node()) == 2 and is_done(on_node()[0]))
        collected.extend(member for member in IDS if is_done(member))
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_when_it_hangs)
    killer.start()
    output = sweep(folder, run_with(EngineConfig("ray", cluster.address)))
    killer.join()

    counts = Counter(member for member, _ in starts(log))
    assert len(collected) >= 1
    assert all(counts[member] == 1 for member in collected)
    lost = [member for member, where in starts(log) if where == node.node_id][1]
    assert counts == {member: 1 + (member == lost) for member in IDS}
    assert f"{lost}: lost (" in output
    assert_equal(folder, local)
    assert not (folder / "unfinished").exists()


def assert_equal(folder: Path, local: Path) -> None:
    """Everything but the seconds is what this process makes."""
    assert {path.name for path in (folder / "members").iterdir()} == set(IDS)
    for member in IDS:
        here, there = local / "members" / member, folder / "members" / member
        rows = [read_json(path / "row.json") | {"seconds": None} for path in (here, there)]
        assert rows[0] == rows[1]
        with np.load(here / "outcomes.npz") as one, np.load(there / "outcomes.npz") as other:
            assert one.keys() == other.keys()
            assert all((one[name] == other[name]).all() for name in one)
        assert read_json(there / "environment.json")["device"] == "cpu x 4"
    states = [load_network(path / "members" / IDS[0]).variables for path in (folder, local)]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), *states)))


def failing(order, members):
    for member in members:
        if member.id == "relu-seed1":
            raise InputError("relu-seed1 was told to fail.")
    yield from train_here(order, members)


def test_an_error_in_a_task_ends_the_sweep_with_its_sentence(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "train_here", failing)
    engine = run_with(EngineConfig("ray", cluster.address))
    with pytest.raises(InputError, match=r"^relu-seed1 was told to fail\.$"):
        sweep(tmp_path / "results", engine, RELU)
    assert [path.name for path in (tmp_path / "results" / "members").iterdir()] == ["relu-seed0"]


def dying(order, members):
    os._exit(1)
    yield


def test_a_member_that_kills_its_workers_ends_the_sweep(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "train_here", dying)
    monkeypatch.setattr(arrivals, "MAX_ATTEMPTS", 2)
    engine = run_with(EngineConfig("ray", cluster.address))
    with pytest.raises(InputError, match=r"relu-seed0 lost the worker 2 times.* WorkerCrashed"):
        sweep(tmp_path / "results", engine, RELU[:1])


def hanging(order, members):
    if members[0].id != "relu-seed0":
        time.sleep(PATIENCE_SECONDS)
    yield from train_here(order, members)


def test_told_to_stop_it_keeps_what_arrived_and_goes_on_from_there(tmp_path, monkeypatch):
    """On a cluster that it starts itself, as without an address."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder, engine = tmp_path / "results", run_with(EngineConfig("ray"))

    def stop(self, row):
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ray_engine, "train_here", hanging)
        patch.setattr(SweepProgress, "member", stop)
        with pytest.raises(Preempted, match="what is done is kept; the same command goes on"):
            sweep(folder, engine, RELU)
    (done,) = folder.glob("members/*/row.json")
    written = done.stat().st_mtime_ns
    assert "1 of 2 members are done already" in sweep(folder, engine, RELU)
    assert done.stat().st_mtime_ns == written
    assert len(list(folder.glob("members/*/row.json"))) == 2


def test_checkpoints_of_members_that_are_not_done_are_kept(local, tmp_path):
    """Without a cluster, since nothing that is asked for is missing."""
    folder = tmp_path / "results"
    shutil.copytree(local, folder)
    (folder / "members" / "relu-seed1" / "row.json").unlink()
    claimed = {
        name: unfinished.claim(folder, unfinished.Group((name,), 1, 1)).parent
        for name in ("relu-seed0", "relu-seed1")
    }
    sweep(folder, run_with(EngineConfig("ray")), RELU[:1])
    assert list((folder / "unfinished").iterdir()) == [claimed["relu-seed1"]]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:10001"])
def test_an_address_without_a_cluster_is_refused_at_once(address, tmp_path):
    with pytest.raises(InputError, match=re.escape(address)):
        sweep(tmp_path / "results", run_with(EngineConfig("ray", address)))
