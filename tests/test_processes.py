"""Several processes as one run, for real: two processes of two devices each on this machine."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from rctaf_jax import processes
from rctaf_jax.errors import InputError

TRAIN = ["train", "--data", "digits", "--num-train", "64", "--num-test", "20", "--model", "mlp-1x8"]
TRAIN += ["--batch-size", "8", "--method", "dkl", "--width", "1", "--preset", "digits"]


def start(words, devices, **environment):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "rctaf_jax", *map(str, words)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_two(words, **environment):
    """One told by flags, the other by the environment."""
    address = f"127.0.0.1:{free_port()}"
    flags = ["--distributed", "--coordinator", address, "--num-processes", "2"]
    first = start([*words, *flags, "--process-index", "0"], devices=2, **environment)
    variables = {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    return [first, start([*words, "--distributed"], devices=2, **variables, **environment)]


def finish(running, timeout=240):
    results = []
    try:
        for process in running:
            output, errors = process.communicate(timeout=timeout)
            results.append((process.returncode, output, errors))
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return results


def final_state(folder):
    with ocp.CheckpointManager((folder / "checkpoints").absolute()) as manager:
        step = manager.latest_step()
        return step, manager.restore(step, args=ocp.args.StandardRestore())


def num_reports(folder):
    log = folder / "metrics.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def wait_for_step(folder, process, after=0, seconds=240):
    """Until the log says that training has begun, or gone on `after` so many reports."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if num_reports(folder) > after + 1:
            return
        time.sleep(0.1)
    pytest.fail(f"no step within {seconds} s: {process.communicate()}")


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for name in sorted(tree) for leaf in leaves(tree[name])]
    if isinstance(tree, list | tuple):
        return [leaf for inner in tree for leaf in leaves(inner)]
    return [] if tree is None else [np.asarray(tree)]


GLOO = re.compile(
    r"\[Gloo\] Rank|is connected to|peer ranks\.|Expected number of connected peer ranks is :|\d+"
)
"""What Gloo says of its connections, in the pieces that its threads write between one another's."""


def test_two_processes_of_two_devices_equal_one_of_four(tmp_path):
    # In float32 the attack's signs amplify the rounding of sums taken in another order.
    words, precise = [*TRAIN, "--epochs", "2", "--dtype", "float64"], {"JAX_ENABLE_X64": "1"}
    one = start([*words, "--output", tmp_path / "one"], devices=4, **precise)
    [(code, _, errors)] = finish([one])
    assert code == 0, errors
    results = finish(start_two([*words, "--output", tmp_path / "two"], **precise))
    assert [code for code, _, _ in results] == [0, 0], results
    assert "rctaf evaluate" in results[0][1]
    assert not GLOO.sub("", results[1][1]).strip()
    (step, one), (other_step, two) = (final_state(tmp_path / name) for name in ("one", "two"))
    assert step == other_step == 16
    for a, b in zip(leaves(one), leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 16
    assert len({json.loads(line)["step"] for line in lines}) == len(lines)


@pytest.mark.slow
def test_a_lost_process_stops_the_others_and_the_run_goes_on(tmp_path):
    words = [*TRAIN, "--epochs", "3000", "--output", tmp_path / "run"]
    running = start_two(words)
    wait_for_step(tmp_path / "run", running[0])
    running[0].send_signal(signal.SIGTERM)
    assert [code for code, _, _ in finish(running)] == [0, 0]
    saved = final_state(tmp_path / "run")[0]
    before = num_reports(tmp_path / "run")
    running = start_two(words)
    wait_for_step(tmp_path / "run", running[0], before)
    running[1].kill()
    (code, _, errors), _ = finish(running)
    assert code == processes.LOST, errors
    assert "does not answer any more; the newest checkpoint is kept" in errors
    assert "Traceback" not in errors
    before = num_reports(tmp_path / "run")
    running = start_two(words)
    wait_for_step(tmp_path / "run", running[0], before)
    for process in running:
        process.send_signal(signal.SIGTERM)
    results = finish(running)
    assert [code for code, _, _ in results] == [0, 0], results
    assert f"going on from step {saved}" in results[0][1]


def test_sigterm_saves_exits_0_and_the_run_goes_on_bit_for_bit(tmp_path):
    words = [*TRAIN, "--epochs", "1500", "--output", tmp_path / "run"]
    process = start(words, devices=1)
    wait_for_step(tmp_path / "run", process)
    process.send_signal(signal.SIGTERM)
    [(code, _, errors)] = finish([process])
    assert code == 0, errors
    step, _ = final_state(tmp_path / "run")
    assert f"saved at step {step}; the same command goes on" in errors
    assert 0 < step < 1500 * 8
    [(code, output, errors)] = finish([start(words, devices=1)])
    assert code == 0, errors
    assert f"going on from step {step}" in output
    whole = [*words[:-1], tmp_path / "whole"]
    [(code, _, errors)] = finish([start(whole, devices=1)])
    assert code == 0, errors
    (_, one), (_, two) = (final_state(tmp_path / name) for name in ("run", "whole"))
    for a, b in zip(leaves(one), leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_process_without_a_cluster_is_told_what_to_give():
    [(code, _, errors)] = finish([start([*TRAIN, "--distributed"], devices=1)])
    assert code == 2, errors
    assert "give coordinator HOST:PORT, num-processes and process-index" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":12", "host:abc", "host:65536"])
def test_a_coordinator_is_a_host_and_a_port(address, monkeypatch):
    with pytest.raises(InputError, match=r"it must be HOST:PORT"), processes.joined(address, 1, 0):
        pass
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
    with pytest.raises(InputError, match=r"it must be HOST:PORT"), processes.joined(None, 1, 0):
        pass


def test_numbers_of_the_environment_are_integers(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    refusal = pytest.raises(InputError, match="JAX_NUM_PROCESSES is 'two': it must be an integer")
    with refusal, processes.joined("127.0.0.1:1"):
        pass


def test_one_process_does_what_the_first_does():
    done = []
    processes.on_first(lambda: done.append(1))
    assert done == [1]

    def refuse():
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        processes.on_first(refuse)
