"""From the words of a command to one subcommand with its flags."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import tyro
from rich.console import Console
from tyro import MISSING

from rctaf_jax.config import (
    AttackConfig,
    DiagonalConfig,
    EvaluationConfig,
    NetworkConfig,
    RunConfig,
    SweepConfig,
)
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.config_file import read_config_file
from rctaf_jax.experiments.sweep.presets import PRESETS, preset_for

from .library import ActivationsCommand, DataCommand, ValidateAppendixCommand
from .networks import (
    AttackCommand,
    EvaluateCommand,
    ExportCommand,
    HessianCommand,
    TrainCommand,
)
from .schema import registry
from .studies import ClaimsCommand, ReportCommand, ReproduceCommand, SweepCommand

DESCRIPTION = """How an activation's curvature max|sigma''| decides adversarial robustness.

Start with `rctaf sweep`: it trains small networks on the digits that ship with the package and ends
with a report. `rctaf COMMAND --help` explains each command. Compiled programs are kept for the next
command in the user's cache folder; `--no-compilation-cache`, a flag of each, leaves that out.
"""


class Command(Protocol):
    """A subcommand: a dataclass whose fields are the flags and whose docstring is the help."""

    def run(self, console: Console, command: str) -> None:
        """Do it; `command` is the command line, for the record."""


def parse(words: Sequence[str]) -> Command:
    """The subcommand that `words` name; what it needs is imported when it runs.

    Raises:
      InputError: for an unknown preset, or a number that is none.
      SystemExit: for words that are no command, and for --help.
    """
    parsed: Command = tyro.cli(
        subcommands(words),
        args=words,
        prog="rctaf",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=registry,
    )
    return parsed


def subcommands(words: Sequence[str]) -> Any:
    """The union of the subcommands, with the defaults that `words` ask for.

    Raises:
      InputError: for an unknown preset.
    """
    config, one = defaults(words)
    evaluate, attack, hessian, export, data, reproduce = others(words, config, one)
    config = for_method(config, value_of("--method", words))
    train = TrainCommand(config.data, config.train, config.evaluation)
    if one is not None:
        train = dataclasses.replace(
            train, activation=one.activation, seed=one.seed, validation=one.validation
        )
    named = tyro.conf.subcommand
    return (
        Annotated[SweepCommand, named("sweep", default=SweepCommand(config))]
        | Annotated[TrainCommand, named("train", default=train)]
        | Annotated[EvaluateCommand, named("evaluate", default=evaluate)]
        | Annotated[AttackCommand, named("attack", default=attack)]
        | Annotated[HessianCommand, named("hessian", default=hessian)]
        | Annotated[ExportCommand, named("export", default=export)]
        | Annotated[ValidateAppendixCommand, named("validate-appendix")]
        | Annotated[ReproduceCommand, named("reproduce", default=reproduce)]
        | Annotated[ClaimsCommand, named("claims")]
        | Annotated[ReportCommand, named("report")]
        | Annotated[ActivationsCommand, named("activations")]
        | Annotated[DataCommand, named("data", default=data)]
    )


def defaults(words: Sequence[str]) -> tuple[SweepConfig, RunConfig | None]:
    """Where the flags' defaults come from: a file of --config, or a preset; and a run's own.

    Raises:
      InputError: for an unknown preset, or a file that is no configuration.
    """
    preset, file = value_of("--preset", words), value_of("--config", words)
    base = PRESETS[preset_for(preset, value_of("--data", words))]
    if file is None:
        return base, None
    if preset is not None:
        raise InputError("--preset and --config both say the flags' defaults: give one of them.")
    found = read_config_file(Path(file))
    if isinstance(found, SweepConfig):
        return found, None
    return dataclasses.replace(base, data=found.data, train=found.train), found


def others(
    words: Sequence[str], config: SweepConfig, one: RunConfig | None
) -> tuple[
    EvaluateCommand, AttackCommand, HessianCommand, ExportCommand, DataCommand, ReproduceCommand
]:
    """The commands that do not train, with a configuration's values if it is given.

    Args:
      words: of the command.
      config, one: what `defaults` made of a file of --config; that of a single run says nothing of
        how it is measured.
    """
    if value_of("--config", words) is None:
        return (
            EvaluateCommand(MISSING),
            AttackCommand(MISSING),
            HessianCommand(MISSING),
            ExportCommand(MISSING, MISSING),
            DataCommand(MISSING),
            ReproduceCommand(MISSING),
        )
    data, train, evaluation = config.data, config.train, config.evaluation
    hessian = config.hessian
    network = NetworkConfig(
        data=data.name,
        data_dir=data.data_dir,
        image_size=data.image_size,
        num_train=data.num_train,
        num_test=data.num_test,
    )
    diagonal = DiagonalConfig(
        num_probes=hessian.num_probes,
        num_examples=hessian.num_examples,
        batch_size=hessian.batch_size,
    )
    if one is not None:
        evaluation, diagonal = EvaluationConfig(), DiagonalConfig()
    return (
        EvaluateCommand(MISSING, network, evaluation, train.norm, train.epsilon),
        AttackCommand(MISSING, network, AttackConfig(norm=train.norm, epsilon=(train.epsilon,))),
        HessianCommand(MISSING, network, diagonal),
        ExportCommand(MISSING, MISSING, network=network),
        DataCommand(data.name, data.data_dir, data.image_size),
        ReproduceCommand(MISSING, data_dir=data.data_dir),
    )


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """The value a flag has in the words of a command, None if it is not there.

    >>> value_of("--data", ["sweep", "--data", "cifar10"]), value_of("--data", ["--data=digits"])
    ('cifar10', 'digits')
    """
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            rest = words[position + 1 : position + 2]
            return value if equals else (rest[0] if rest else None)
    return None


def for_method(config: SweepConfig, method: str | None) -> SweepConfig:
    """A preset for another method than its own: the inner maximisation is that method's."""
    if method in (None, config.train.method):
        return config
    train = dataclasses.replace(config.train, attack_steps=None, step_size=None, method_options=())
    return dataclasses.replace(config, train=train)
