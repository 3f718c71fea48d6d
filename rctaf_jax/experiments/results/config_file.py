"""`config.json`: written as a person would, read back as the configuration that it is.

Folders age. What a key is called now, and what it means that an older folder lacks one, is said
here and nowhere else; configurations are compared after that.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from rctaf_jax.config import RunConfig, SweepConfig
from rctaf_jax.errors import InputError
from rctaf_jax.typed_json import convert_typed, read_json

CONFIG = "config.json"

RENAMED = {
    "evaluation.evaluation_batch": "evaluation.batch_size",
    "hessian.probes": "hessian.num_probes",
    "hessian.hessian_examples": "hessian.num_examples",
    "hessian.hessian_batch": "hessian.batch_size",
}
"""What a key of an older folder is called now."""

ABSENT: dict[str, Any] = {
    "data.image_size": None,
    "train.mean": None,
    "train.std": None,
    "train.method_options": [],
    "train.budget": "fixed",
    "train.awp": 0.0,
    "train.awp_epoch": None,
    "train.averaging": 0.0,
    "evaluation.attack": "pgd",
}
"""What a folder says that lacks a key: that key's default when the folder was made.

Options left out are the published ones, as they were before a method had any."""

ADDED: dict[type, dict[str, Any]] = {
    RunConfig: {"validation": {"num_examples": 0, "every": None, "patience": None}},
    SweepConfig: {},
}
"""Sections that a folder of each kind may lack, and what it says then."""

KINDS = {
    RunConfig: ("the folder of a run", "that of `rctaf train`, or one below members/ of a sweep"),
    SweepConfig: ("a results folder", "that of `rctaf sweep`, or one below studies/"),
}
"""What the folder should be, and which one to give instead."""

Config = TypeVar("Config", bound=RunConfig | SweepConfig)


def as_json(config: Any) -> dict[str, Any]:
    """A configuration as it is read back from JSON: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def read_config(folder: Path, kind: type[Config]) -> Config:
    """What a folder's run or sweep was told, of whatever age the folder is.

    Raises:
      InputError: if `folder` is not such a folder, or its config.json is damaged; it names the key.
    """
    path, (whose, allowed) = folder / CONFIG, KINDS[kind]
    if not path.is_file():
        raise InputError(f"{folder} is not {whose}: it has no {CONFIG}; give {allowed}.")
    stored = read_json(path)
    value = ADDED[kind] | stored
    if set(value) != {field.name for field in dataclasses.fields(kind)}:
        keys = ", ".join(sorted(stored)) or "nothing"
        raise InputError(f"{path} is not that of {whose}: it has the keys {keys}; give {allowed}.")
    return convert_typed(renewed(value), kind, path, allow_unknown=False)


def read_config_file(path: Path) -> RunConfig | SweepConfig:
    """A run's or a sweep's configuration from its file, or from the folder that has it.

    Raises:
      InputError: if it is neither, or damaged; it names the key.
    """
    path = path / CONFIG if path.is_dir() else path
    stored = read_json(path)
    kind: Any
    for kind in KINDS:
        value = ADDED[kind] | stored
        if set(value) == {field.name for field in dataclasses.fields(kind)}:
            found: RunConfig | SweepConfig
            found = convert_typed(renewed(value), kind, path, allow_unknown=False)
            return found
    keys = ", ".join(sorted(stored)) or "nothing"
    raise InputError(f"{path} is the configuration of no run and no sweep: it has the keys {keys}.")


def renewed(value: dict[str, Any]) -> dict[str, Any]:
    """A configuration of any age as one of today; sections that it does not have stay away.

    >>> renewed({"hessian": {"probes": 4}, "seeds": [0]})
    {'hessian': {'num_probes': 4}, 'seeds': [0]}
    """
    result = {
        section: dict(inner) if isinstance(inner, dict) else inner
        for section, inner in value.items()
    }
    for old, new in RENAMED.items():
        (section, key), (_, now) = old.split("."), new.split(".")
        if isinstance(result.get(section), dict) and key in result[section]:
            result[section][now] = result[section].pop(key)
    for name, meaning in ABSENT.items():
        section, key = name.split(".")
        if isinstance(result.get(section), dict):
            result[section].setdefault(key, meaning)
    return result


def check_same(path: Path, found: dict[str, Any], stated: dict[str, Any]) -> None:
    """Refuse to mix results of two configurations.

    Args:
      path: where `found` is from.
      found: what the folder was made for, nested.
      stated: what is asked for now, nested likewise.

    Raises:
      InputError: naming the first difference.
    """
    there, here = flatten(found), flatten(stated)
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            raise InputError(
                f"{path} says {key} = {there.get(key)}, this command {here.get(key)}: "
                "choose another --output, or give the same settings to go on."
            )


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keys joined by dots.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, inner in value.items()
        for key, leaf in flatten(inner, f"{prefix}.{name}" if prefix else name).items()
    }
