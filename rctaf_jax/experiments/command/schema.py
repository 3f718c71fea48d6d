"""How configurations become flags: numbers as fractions, names that stay apart on one line.

A configuration is a plain dataclass that knows nothing of the command line. Its fields become flags
without a prefix, so those that several configurations have are told apart by `FLAGS`.
"""

import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from tyro import MISSING
from tyro.conf import arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from rctaf_jax.config import (
    AttackConfig,
    DataConfig,
    EvaluationConfig,
    HessianConfig,
    ValidationConfig,
)
from rctaf_jax.values import parse_number

FLAGS: dict[type, dict[str, str]] = {
    DataConfig: {"name": "data"},
    ValidationConfig: {"num_examples": "validation", "every": "validate_every"},
    EvaluationConfig: {"batch_size": "evaluation_batch"},
    AttackConfig: {"batch_size": "attack_batch", "seed": "attack_seed"},
    HessianConfig: {
        "num_probes": "probes",
        "num_examples": "hessian_examples",
        "batch_size": "hessian_batch",
    },
}
"""Of each configuration: the flags that are not called as their fields are."""

ConfigFile = Annotated[Path | None, arg(name="config")]
MEASURED = "A config.json, or its folder: its images, radius and numbers where flags say none."
MeasuredConfig = Annotated[Path | None, arg(name="config", help=MEASURED)]

registry = ConstructorRegistry()


@registry.primitive_rule
def number_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    """Numbers may be fractions such as `8/255`."""
    if info.type is not float:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="NUMBER",
        instance_from_str=lambda words: parse_number(words[0]),
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [f"{value:g}"],
    )


@registry.struct_rule
def config_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Configurations of `FLAGS` by other names than their fields'."""
    flags = FLAGS.get(info.type)
    if flags is None:
        return None
    hints, helps = get_type_hints(info.type, include_extras=True), field_helps(info.type)
    stated = info.default if isinstance(info.default, info.type) else None
    fields = tuple(
        StructFieldSpec(
            name=flags.get(field.name, field.name),
            type=hints[field.name],
            default=_default(field) if stated is None else getattr(stated, field.name),
            helptext=helps.get(field.name),
        )
        for field in dataclasses.fields(info.type)
    )
    names = {flag: name for name, flag in flags.items()}

    def instantiate(**values: Any) -> Any:
        return info.type(**{names.get(flag, flag): value for flag, value in values.items()})

    return StructConstructorSpec(instantiate=instantiate, fields=fields)


def _default(field: dataclasses.Field[Any]) -> Any:
    return MISSING if field.default is dataclasses.MISSING else field.default


def field_helps(config: type) -> dict[str, str]:
    """The string below each field of a dataclass.

    >>> field_helps(DataConfig)["data_dir"]
    'Where TFDS keeps its datasets.'
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    helps = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            helps[ast.unparse(field.target)] = str(ast.literal_eval(below.value))
    return helps
