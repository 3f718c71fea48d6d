"""Several processes as one run: joined, watched, and parted again.

All run the same program on the same data; `parallel.data_parallel` then spans the devices of all.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # The one way to the coordinator's key-value store.

from rctaf_jax import locks, parallel
from rctaf_jax.errors import InputError, Preempted, describe_failure

BEAT_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
"""Silence after which a process counts as lost; a call of JAX's own gives up after 100 s."""
LOST = 1
"""Exit code of a process that lost another one."""
REFUSED = 2
"""Exit code of a process that may not write or read a file."""


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_index: int | None = None,
) -> Iterator[None]:
    """Join the processes of a run, for as long as the context lasts.

    What is left out comes from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or
    from the cluster: Slurm, Kubernetes, Open MPI and TPU pods are detected. Nothing may have used
    JAX before. If a process is lost the others say so and exit with code 1, since a collective
    operation with it would never end.

    Args:
      coordinator: HOST:PORT at which the first process listens.
      num_processes: how many there are.
      process_index: which one this is, from 0.

    Raises:
      InputError: if there is no such cluster, or it cannot be joined.
    """
    count = _number("num-processes", num_processes, "JAX_NUM_PROCESSES")
    index = _number("process-index", process_index, "JAX_PROCESS_ID")
    _check_coordinator(coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS"))
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is the run's to handle.
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"no cluster to join ({str(error).splitlines()[0]}): give coordinator HOST:PORT, "
            "num-processes and process-index, or start under Slurm, Kubernetes or on a TPU pod."
        ) from None
    ended = threading.Event()
    threading.Thread(target=_watch, args=(ended,), daemon=True).start()
    try:
        yield
        parallel.gather_processes(np.zeros(1))  # None leaves while another still counts on it.
    except (InputError, Preempted):
        raise  # All processes take the same decision, and leave together.
    except jax.errors.JaxRuntimeError as error:
        _give_up(f"another process, or a device ({str(error).splitlines()[0]}),", ended)
    except OSError as error:
        # The system refuses files to one process; waiting for the others would never end.
        print(f"rctaf: {describe_failure(error)}", file=sys.stderr, flush=True)
        os._exit(REFUSED)
    except BaseException:
        # Leaving in good order would wait for the others, who wait for this process.
        traceback.print_exc()
        os._exit(LOST)
    finally:
        ended.set()
        jax.distributed.shutdown()


def _check_coordinator(address: str | None) -> None:
    """Refuse an address without a port, at which JAX itself would crash."""
    host, _, port = (address or "").rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if address is not None and not (host and is_port):
        raise InputError(
            f"coordinator is {address!r}: it must be HOST:PORT, the port from 1 to 65535."
        )


def _number(name: str, given: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if given is not None or text is None:
        return given
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"{variable} is {text!r}: it must be an integer, or give {name}."
        ) from None


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the one run that works in `folder`: the first process holds the lock for all.

    Raises:
      InputError: in every process, if another run is working in it.
    """
    with contextlib.ExitStack() as held:
        on_first(lambda: held.enter_context(locks.alone(folder)))
        yield


def on_first(action: Callable[[], object]) -> None:
    """Do something in the first process only; all wait for it.

    Raises:
      InputError: in every process, if the action raised one, or the system refused a file.
    """
    refusal: InputError | None = None
    if is_first():
        try:
            action()
        except InputError as error:
            refusal = error
        except OSError as error:
            refusal = InputError(describe_failure(error))
    is_refused = parallel.gather_processes(np.asarray(refusal is not None))[0]
    if refusal is not None:
        raise refusal
    if is_refused:
        raise InputError("the first process refused to go on: see what it says.")


def _watch(ended: threading.Event) -> None:
    """Beat, and listen for the others' beats."""
    client: Any = distributed.global_state.client
    index, number = jax.process_index(), jax.process_count()
    heard = {other: ("", time.monotonic()) for other in range(number) if other != index}
    beat = 0
    while not ended.wait(BEAT_SECONDS):
        beat += 1
        try:
            client.key_value_set(f"rctaf/beat/{index}", str(beat), allow_overwrite=True)
            beats = {key.rsplit("/", 1)[1]: b for key, b in client.key_value_dir_get("rctaf/beat")}
        except Exception:  # Any failure to reach the coordinator means the same.
            _give_up("the first process", ended)
            return
        now = time.monotonic()
        for other, (last, since) in heard.items():
            beat_of_other = beats.get(str(other), "")
            if beat_of_other != last:
                heard[other] = (beat_of_other, now)
            elif now - since > PATIENCE_SECONDS:
                _give_up(f"process {other} of {number}", ended)


def _give_up(who: str, ended: threading.Event) -> None:
    if ended.is_set():
        return
    print(
        f"rctaf: {who} does not answer any more; the newest checkpoint is kept: start all "
        "processes again to go on.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LOST)  # The main thread may wait in a collective operation that never ends.
