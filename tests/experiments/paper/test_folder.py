"""What a reproduction's own files say is checked before it is used."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.paper.exhibits import table_2
from rctaf_jax.experiments.paper.folder import claim_reproduction, open_reproduction
from rctaf_jax.experiments.paper.scales import scale_named

RESULTS = Path(__file__).parents[3] / "results" / "reproduce-cpu"
DEEP = "[" * 100_000

STATED = {
    "{}": "lacks scale: it must be text",
    "null": "holds null: it must hold one object",
    "[]": r"holds \[\]: it must hold one object",
    "": "is damaged",
    DEEP: "is nested too deeply",
    '{"scale": NaN, "experiments": []}': "has scale = NaN: it must be a finite number",
    '{"scale": null, "experiments": []}': "has scale = null: it must be text",
    '{"scale": 5, "experiments": []}': "has scale = 5: it must be text",
    '{"scale": ["cpu"], "experiments": []}': r'has scale = \["cpu"\]: it must be text',
    '{"scale": {}, "experiments": []}': r"has scale = \{\}: it must be text",
    '{"scale": true, "experiments": []}': "has scale = true: it must be text",
    '{"scale": "cpu"}': "lacks experiments: it must be a list",
    '{"scale": "cpu", "experiments": null}': "experiments = null: it must be a list",
    '{"scale": "cpu", "experiments": "figure-3"}': "experiments = .*: it must be a list",
    '{"scale": "cpu", "experiments": 3}': "experiments = 3: it must be a list",
    '{"scale": "cpu", "experiments": {"figure-3": 1}}': "experiments = .*: it must be a list",
    '{"scale": "cpu", "experiments": [3]}': r"experiments\[0\] = 3: it must be text",
    '{"scale": "cpu", "experiments": ["figure-3", null]}': r"experiments\[1\] = null: it must",
    '{"scale": "cpu", "experiments": [["figure-3"]]}': r"experiments\[0\] = .*: it must be text",
    '{"scale": "cpu", "experiments": [{}]}': r"experiments\[0\] = \{\}: it must be text",
}


@pytest.mark.parametrize(("text", "sentence"), STATED.items(), ids=range(len(STATED)))
def test_reproduction_json(tmp_path: Path, text: str, sentence: str):
    (tmp_path / "reproduction.json").write_text(text)
    with pytest.raises(InputError, match=f"reproduction.json (has )?{sentence}"):
        open_reproduction(tmp_path)
    with pytest.raises(InputError, match=f"reproduction.json (has )?{sentence}"):
        claim_reproduction(tmp_path, scale_named("cpu", None), [])
    assert (tmp_path / "reproduction.json").read_text() == text


def test_an_unknown_scale_is_refused(tmp_path: Path):
    (tmp_path / "reproduction.json").write_text('{"scale": "moon", "experiments": []}')
    with pytest.raises(InputError, match="unknown scale 'moon'"):
        open_reproduction(tmp_path)


OVERHEAD: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "no memory": (("memory",), None, "memory = null: it must be an object"),
    "a list of memories": (("memory",), [], r"memory = \[\]: it must be an object"),
    "one activation's memory lacks": (("memory", "gelu"), ..., "lacks memory.gelu: memory must"),
    "bytes in words": (("memory", "gelu", "temporary_bytes"), "9", "gelu.temporary_bytes = .9.:"),
    "no bytes": (("memory", "relu", "temporary_bytes"), 0, "it must be an integer >= 1"),
    "negative bytes": (("memory", "elu", "temporary_bytes"), -1, "it must be an integer >= 1"),
    "half a byte": (("memory", "elu", "temporary_bytes"), 0.5, "it must be an integer >= 1"),
    "bytes lack": (("memory", "elu", "temporary_bytes"), ..., "lacks memory.elu.temporary_bytes:"),
    "no times": (("time",), {}, "lacks time.relu: time must have all 11 activations"),
    "a number of times": (("time",), 3, "time = 3: it must be an object"),
    "one activation's time lacks": (("time", "mish"), ..., "lacks time.mish: time must have"),
    "a ratio lacks": (("time", "mish", "ratio"), ..., "lacks time.mish.ratio: it must be an obj"),
    "no ratio": (("time", "mish", "ratio", "median"), 0, "median = 0: it must be a number > 0"),
    "a ratio in words": (("time", "mish", "ratio", "low"), "1", "low = .1.: it must be a number"),
    "negative seconds": (("time", "mish", "seconds", "median"), -1, "it must be a number > 0"),
    "a quartile lacks": (("time", "mish", "ratio", "high"), ..., "lacks time.mish.ratio.high"),
    "no step": (("step",), None, "step = null: it must be an object"),
    "a text for a batch": (("step", "batch"), "32", "step.batch = .32.: it must be an integer"),
    "no width": (("memory_step", "width"), 0, "memory_step.width = 0: it must be a number > 0"),
    "no rounds": (("rounds",), 0, "rounds = 0: it must be an integer >= 1"),
    "no environment": (("environment",), ..., "lacks environment: it must be an object"),
    "no device": (("environment", "device"), 5, "environment.device = 5: it must be text"),
    "a version number": (
        ("environment", "versions", "jax"),
        1,
        "versions.jax = 1: it must",
    ),
}


@pytest.mark.parametrize(("keys", "value", "sentence"), OVERHEAD.values(), ids=OVERHEAD)
def test_overhead_json(tmp_path: Path, keys: tuple[str, ...], value: Any, sentence: str):
    shutil.copytree(RESULTS / "table-2", tmp_path / "table-2")
    path = tmp_path / "table-2" / "overhead.json"
    result = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    if value is ...:
        del place[keys[-1]]
    path.write_text(json.dumps(result))
    with pytest.raises(InputError, match=f"overhead.json (has )?.*{sentence}"):
        table_2.EXPERIMENT.show({}, tmp_path / "table-2")


def test_overhead_json_nested(tmp_path: Path):
    (tmp_path / "overhead.json").write_text(DEEP)
    with pytest.raises(InputError, match=r"overhead.json is nested too deeply"):
        table_2.has_times(tmp_path)
