"""JSON files read back: bounded, then converted to a type, or refused in one sentence.

A type is a dataclass (or what else `msgspec.convert` takes) whose annotations say what is allowed:
`Annotated[int, msgspec.Meta(ge=1)]`, `Literal["done", "diverged"]`. A field with a default may be
absent from the file, which is how a file of an older version stays readable.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import inspect

from rctaf_jax.errors import InputError

AtLeast0 = Annotated[int, msgspec.Meta(ge=0)]
AtLeast1 = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
"""Ranges of numbers in a file."""

Typed = TypeVar("Typed")
Keys = tuple[str | int, ...]

MAX_NESTING = 64
MAX_SHOWN = 60
_PLACE = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]")
_TEXT = "text that UTF-8 can hold, without NUL"
_WORDS = {
    inspect.AnyType: "any value",
    inspect.NoneType: "null",
    inspect.BoolType: "true or false",
    inspect.IntType: "an integer",
    inspect.FloatType: "a number",
    inspect.StrType: "text",
    inspect.ListType: "a list",
    inspect.VarTupleType: "a list",
}
_BOUNDS = {
    "gt": "> {}",
    "ge": ">= {}",
    "lt": "< {}",
    "le": "<= {}",
    "min_length": "of length >= {}",
    "max_length": "of length <= {}",
    "pattern": "that matches {}",
}


def read_typed(
    path: str | os.PathLike[str], type: type[Typed], *, allow_unknown: bool = True
) -> Typed:
    """Reads a file that holds one JSON object as a value of a type.

    Args:
      path: of the file.
      type: a dataclass whose annotations say what is allowed.
      allow_unknown: whether keys that the type does not have are ignored, as those of a newer
        version; otherwise they are refused.

    Raises:
      InputError: as `read_json` and `convert_typed` do.
    """
    return convert_typed(read_json(path), type, path, allow_unknown=allow_unknown)


def convert_typed(
    value: Any, type: type[Typed], where: str | os.PathLike[str], *, allow_unknown: bool = True
) -> Typed:
    """A value as `read_json` gives it as one of a type; an integer may stand for a float.

    Args:
      value: plain values.
      type: a dataclass whose annotations say what is allowed.
      where: the file, for the message.
      allow_unknown: whether keys that the type does not have are ignored or refused.

    Raises:
      InputError: naming the file, the key, what was found and what is allowed.

    >>> import dataclasses
    >>> from typing import Annotated
    >>> @dataclasses.dataclass(frozen=True)
    ... class Train:
    ...     epochs: Annotated[int, msgspec.Meta(ge=1)]
    ...     epsilon: float = 0.1
    >>> convert_typed({"epochs": 3}, Train, "config.json")
    Train(epochs=3, epsilon=0.1)
    >>> convert_typed({"epochs": "3"}, Train, "config.json")
    Traceback (most recent call last):
    rctaf_jax.errors.InputError: config.json has epochs = "3": it must be an integer >= 1.
    """
    try:
        converted: Typed = msgspec.convert(value, type, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(_refusal(value, type, where, error)) from None
    if not allow_unknown:
        _refuse_unknown(value, inspect.type_info(type), where, ())
    return converted


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
      InputError: if the file is missing, unreadable, not UTF-8, not JSON, or not an object; if it
        is nested deeper than `MAX_NESTING`, or holds what no file of ours does: NaN or an
        infinity, an integer of more than 64 bits, text with NUL or half of a surrogate pair.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; a file with one JSON object is needed.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be read ({reason}); it must be a JSON file.") from None
    except ValueError as error:  # what JSONDecodeError and UnicodeDecodeError have in common
        raise InputError(f"{path} is damaged: it must hold one JSON object ({error}).") from None
    except RecursionError:
        raise InputError(_too_deep(path)) from None
    _check_values(path, value)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {_shown(value)}: it must hold one object, {{...}}.")
    return value


def _check_values(path: Path, value: Any) -> None:
    """Refuse what no file of ours holds, whatever it is converted to later."""
    pending: list[tuple[Keys, Any]] = [((), value)]
    while pending:
        keys, item = pending.pop()
        if len(keys) > MAX_NESTING:
            raise InputError(_too_deep(path))
        if isinstance(item, dict):
            pending += [((*keys, key), child) for key, child in item.items()]
        elif isinstance(item, list):
            pending += [((*keys, index), child) for index, child in enumerate(item)]
        if allowed := _fault(item):
            raise InputError(f"{path} {_says(keys, item)}: it must be {allowed}.")
        if keys and _fault(keys[-1]):
            raise InputError(f"{path} has the key {_dotted(keys)}: it must be {_TEXT}.")


def _fault(value: Any) -> str | None:
    """What a value should have been, None if it is good."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "an integer of at most 64 bits"
    if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
        return _TEXT
    return None


def _too_deep(path: Path) -> str:
    return f"{path} is nested too deeply: {MAX_NESTING} levels are allowed."


def _says(keys: Keys, found: Any) -> str:
    return f"has {_dotted(keys)} = {_shown(found)}" if keys else f"holds {_shown(found)}"


def _shown(value: Any) -> str:
    """A value as JSON, shortened."""
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _dotted(keys: Keys) -> str:
    """A place in nested values; a key that would spoil a line is quoted and shortened.

    >>> _dotted(("layers", 3, "rms"))
    'layers[3].rms'
    """
    return "".join(map(_step, keys)).removeprefix(".")


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if re.fullmatch(r"[\w-]{1,60}", key, re.ASCII) else f".{_shown(key)}"


def _refusal(value: Any, type: Any, where: Any, error: msgspec.ValidationError) -> str:
    """A sentence in place of msgspec's, which has neither the value nor all that is allowed."""
    keys, info = _place(value, type, error), inspect.type_info(type)
    if missing := re.search(r"missing required field `(.*?)`", str(error)):
        keys = (*keys, missing[1])
        return f"{where} lacks {_dotted(keys)}: it must be {_describe(_inner(info, keys))}."
    return f"{where} {_says(keys, _at(value, keys))}: it must be {_describe(_inner(info, keys))}."


def _place(value: Any, type: Any, error: msgspec.ValidationError) -> Keys:
    """The place that an error is about; msgspec says `[...]` for whichever key of a dict."""
    keys: Keys = ()
    place = _PLACE.search(str(error))
    for name, index in _STEP.findall(place[1] if place else ""):
        if index == "...":
            keys = (*keys, _culprit(value, type, keys))
        else:
            keys = (*keys, name or int(index))
    return keys


def _culprit(value: Any, type: Any, keys: Keys) -> str:
    """The first key of the dict at a place that makes the conversion fail, on its own."""
    found: dict[str, Any] = _at(value, keys)
    for key, child in found.items():
        try:
            msgspec.convert(_with(value, keys, {key: child}), type, strict=True)
        except msgspec.ValidationError:
            return key
    raise AssertionError("some key made the conversion fail")


def _at(value: Any, keys: Keys) -> Any:
    for key in keys:
        value = value[key]
    return value


def _with(value: Any, keys: Keys, new: Any) -> Any:
    """A copy of nested values with another one at a place."""
    if not keys:
        return new
    copy = value.copy()
    copy[keys[0]] = _with(value[keys[0]], keys[1:], new)
    return copy


def _inner(info: Any, keys: Keys) -> Any:
    """The type at a place of a type."""
    for key in keys:
        inner = [child for option in _options(info) if (child := _child(option, key)) is not None]
        info = inner[0] if inner else inspect.AnyType()
    return info


def _options(info: Any) -> tuple[Any, ...]:
    return info.types if isinstance(info, inspect.UnionType) else (info,)


def _child(info: Any, key: str | int) -> Any:
    if hasattr(info, "fields"):
        return next((field.type for field in info.fields if field.name == key), None)
    if isinstance(info, inspect.TupleType) and isinstance(key, int):
        return info.item_types[key]
    return getattr(info, "value_type" if isinstance(key, str) else "item_type", None)


def _refuse_unknown(value: Any, info: Any, where: Any, keys: Keys) -> None:
    """Refuse the first key that a type does not have."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    fields = [f.name for option in _options(info) for f in getattr(option, "fields", ())]
    for key, child in value.items():
        if fields and key not in fields:
            raise InputError(
                f"{where} has the key {_dotted((*keys, key))}: it may have {', '.join(fields)}."
            )
        _refuse_unknown(child, _inner(info, (key,)), where, (*keys, key))


def _describe(info: Any) -> str:
    """What a type allows, in words."""
    if isinstance(info, inspect.UnionType):
        return " or ".join(_describe(option) for option in info.types)
    if isinstance(info, inspect.LiteralType):
        return " or ".join(map(_shown, info.values))
    if isinstance(info, inspect.TupleType):
        return f"a list of length {len(info.item_types)}"
    bounds = {text: getattr(info, name, None) for name, text in _BOUNDS.items()}
    said = [text.format(bound) for text, bound in bounds.items() if bound is not None]
    return " ".join([_WORDS.get(type(info), "an object, {...}"), " and ".join(said)]).rstrip()
