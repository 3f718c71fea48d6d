"""Commands killed at random moments and given again: the same bits, nothing finished done twice.

Forty times a sweep, a reproduction, an attack or a Hessian gets SIGKILL, SIGINT or SIGTERM, with
finished members present; the same command then goes on to its end. Prints a table of it all.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

TINY = ["--num-train", "64", "--num-test", "20", "--model", "mlp-1x8", "--batch-size", "16"]
TINY += ["--attack-steps", "1", "--step-size", "0.1", "--pgd-steps", "2", "--probes", "2"]
TINY += ["--method", "pgd-at", "--epochs", "1"]
TIMES = {"started", "command", "seconds", "environment"}
"""What differs from run to run, at any depth of a JSON file."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# A command in its own program, so that a reproduction can be as tiny as the rest.
START = """
import dataclasses, sys
from rctaf_jax.cli import main
from rctaf_jax.experiments.paper import scales
from rctaf_jax.config import DataConfig, HessianConfig, EvaluationConfig

def tiny(study):
    train = dataclasses.replace(study.train, model="mlp-1x8", epochs=1, batch_size=16)
    probes = min(study.hessian.probes, 2)
    return dataclasses.replace(
        study,
        train=train,
        data=DataConfig(num_train=64, num_test=20),
        evaluation=EvaluationConfig(pgd_steps=2),
        hessian=HessianConfig(probes=probes, hessian_examples=20),
    )

digits = scales.SCALES["digits"]
scales.SCALES["digits"] = digits._replace(
    studies={name: tiny(study) for name, study in digits.studies.items()},
    curvatures=(1.0, 4.0, 7.0),
    seeds=(0,),
)
print("ready", flush=True)
sys.exit(main(sys.argv[1:]))
"""


class Case(NamedTuple):
    """A command to kill.

    Attributes:
      name: of it.
      words: of the command, without the folder.
      first: words that finish a part before the first kill; none where they are empty.
      kills: how often.
    """

    name: str
    words: Sequence[str]
    first: Sequence[str]
    kills: int


GRID = ["--betas", "1", "--curvatures"]
CASES = (
    Case(
        "sweep",
        ["sweep", *TINY, *GRID, "1", "4", "9", "--baselines", "relu", "gelu", "--seeds", "0"],
        [],
        13,
    ),
    Case("reproduce", ["reproduce", "figure-3", "--yes"], [], 9),
    Case("attack", ["attack", "RUN", "--attacks", "apgd-ce", "square"], [], 9),
    Case(
        "hessian",
        ["hessian", "RUN", "--method", "coordinates", "--num-probes", "400", "--batch-size", "8"],
        [],
        9,
    ),
)


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
        "XLA_FLAGS": "",
    }
