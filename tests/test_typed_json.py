import dataclasses
import json
from typing import Annotated, Any, Literal

import msgspec
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.typed_json import MAX_NESTING, convert_typed, read_json, read_typed

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclasses.dataclass(frozen=True)
class Layer:
    rms: Share | None
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    count: Annotated[int, msgspec.Meta(ge=1)]
    status: Literal["done", "diverged"]
    layers: tuple[Layer, ...] = ()
    seconds: dict[str, Annotated[float, msgspec.Meta(ge=0)] | None] = dataclasses.field(
        default_factory=dict
    )
    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("a",)
    interval: tuple[float, float] = (0.0, 1.0)
    curvature: Annotated[float, msgspec.Meta(gt=0)] | Literal["inf"] = 1.0


GOOD = {"count": 2, "status": "done"}
REFUSED = {
    "a text for a count": ({"count": "2"}, 'count = "2": it must be an integer >= 1'),
    "a truth value for a count": ({"count": True}, "count = true: it must be an integer >= 1"),
    "a fraction for a count": ({"count": 1.5}, "count = 1.5: it must be an integer >= 1"),
    "no count": ({"count": 0}, "count = 0: it must be an integer >= 1"),
    "an unknown word": ({"status": "x"}, 'status = "x": it must be "diverged" or "done"'),
    "a list for an object": ({"seconds": [1]}, r"seconds = \[1\]: it must be an object"),
    "a value of any key": (
        {"seconds": {"train": 1.0, "hessian": -1}},
        "seconds.hessian = -1: it must be a number >= 0 or null",
    ),
    "inside a list": (
        {"layers": [{"rms": 0}, {"rms": 2}]},
        r"layers\[1\].rms = 2: it must be a number >= 0 and <= 1 or null",
    ),
    "a key missing inside a list": (
        {"layers": [{}]},
        r"lacks layers\[0\].rms: it must be a number >= 0 and <= 1 or null",
    ),
    "an empty list": ({"names": []}, r"names = \[\]: it must be a list of length >= 1"),
    "a list too short": ({"interval": [1]}, r"interval = \[1\]: it must be a list of length 2"),
    "a number or a word": ({"curvature": "x"}, 'it must be a number > 0 or "inf"'),
    "a long value": ({"status": "x" * 10**6}, f'status = "{"x" * 59}\\.\\.\\.: it must be'),
}


def test_good():
    record = convert_typed({**GOOD, "seconds": {"train": 1}, "newer": 3}, Record, "row.json")
    assert record == Record(2, "done", seconds={"train": 1.0})


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(change: dict[str, Any], message: str):
    with pytest.raises(InputError, match=f"^row.json (has |lacks )?.*{message}") as caught:
        convert_typed({**GOOD, **change}, Record, "row.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("change", "place"),
    [({"newer": 1}, "newer"), ({"layers": [{"rms": 0, "x": 1}]}, "layers.0..x")],
)
def test_unknown_keys_where_they_are_refused(change: dict[str, Any], place: str):
    convert_typed({**GOOD, **change}, Record, "config.json")
    with pytest.raises(InputError, match=f"config.json has the key {place}: it may have "):
        convert_typed({**GOOD, **change}, Record, "config.json", allow_unknown=False)


def test_a_key_that_would_spoil_the_sentence_is_quoted():
    with pytest.raises(InputError, match=r'row.json has seconds."a\\nb" = -1: it must be'):
        convert_typed({**GOOD, "seconds": {"a\nb": -1}}, Record, "row.json")


TEXTS = {
    "nested": ("[" * 100_000, "nested too deeply: 64 levels"),
    "nested within what Python can read": (
        '{"a":' * (MAX_NESTING + 1) + "1" + "}" * (MAX_NESTING + 1),
        "nested too deeply",
    ),
    "nested without an end": ('{"a":' * 100_000, "nested too deeply"),
    "not a number": ('{"a": {"b": NaN}}', "has a.b = NaN: it must be a finite number"),
    "infinite": ('{"a": [-Infinity]}', r"has a\[0\] = -Infinity: it must be a finite number"),
    "too large for a float": ('{"a": 1e999}', "has a = Infinity: it must be a finite number"),
    "too large for 64 bits": (f'{{"a": {2**63}}}', "it must be an integer of at most 64 bits"),
    "too many digits": (f'{{"a": {"9" * 5000}}}', "is damaged"),
    "half a surrogate pair": ('{"a": "\\ud800"}', "it must be text that UTF-8 can hold"),
    "half a surrogate pair as a key": ('{"\\ud800": 1}', "it must be text that UTF-8 can hold"),
    "a NUL": ('{"a": "x\\u0000"}', "it must be text that UTF-8 can hold, without NUL"),
    "a list": ("[1]", r"holds \[1\]: it must hold one object"),
    "null": ("null", "holds null: it must hold one object"),
    "cut": ('{"a": ', "is damaged"),
    "empty": ("", "is damaged"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_what_no_file_holds(tmp_path, text: str, message: str):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path} ")
    assert len(str(caught.value)) < 250 + len(str(path))


def test_nesting_that_is_allowed(tmp_path):
    text = '{"a":' * MAX_NESTING + "1" + "}" * MAX_NESTING
    (tmp_path / "some.json").write_text(text)
    assert read_json(tmp_path / "some.json") == json.loads(text)


def test_not_utf_8_and_not_there(tmp_path):
    (tmp_path / "some.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match=r"some\.json is damaged"):
        read_json(tmp_path / "some.json")
    with pytest.raises(InputError, match=r"other\.json does not exist"):
        read_json(tmp_path / "other.json")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_json(tmp_path)


def test_read_typed(tmp_path):
    path = tmp_path / "row.json"
    path.write_text(json.dumps(GOOD))
    assert read_typed(path, Record) == Record(2, "done")
    path.write_text(json.dumps(GOOD | {"count": None}))
    with pytest.raises(InputError, match=r"row\.json has count = null: it must be an integer"):
        read_typed(path, Record)
