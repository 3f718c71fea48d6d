"""The members of a sweep, and how they are grouped."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import SweepConfig
from rctaf_jax.errors import InputError
from rctaf_jax.values import check_seed


class SweepMember(NamedTuple):
    """One network of a sweep."""

    id: str
    activation: Activation
    seed: int


def expand(config: SweepConfig) -> list[SweepMember]:
    """Every member: family by family, then curvature, then seed.

    Raises:
      InputError: if an activation is wrong, or one is named twice.
    """
    family = [
        (f"rct-af-beta{beta}-curvature{curvature:g}", f"rct-af:beta={beta},curvature={curvature}")
        for beta, curvature in itertools.product(config.betas, config.curvatures)
    ]
    baselines = [(name.replace(":", "-").replace(",", "-"), name) for name in config.baselines]
    members = [
        SweepMember(f"{name}-seed{seed}", parse_activation(text), seed)
        for name, text in [*family, *baselines]
        for seed in config.seeds
    ]
    for seed in config.seeds:
        check_seed(seed)
    ids = [member.id for member in members]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise InputError(f"the sweep names {twice[0]} twice: give each value once.")
    return members


def members_of(activations: Sequence[str], seeds: Sequence[int]) -> list[SweepMember]:
    """A member for each activation and seed, whichever way the activation is written.

    >>> [member.id for member in members_of(["rct-af:beta=1,curvature=7", "gelu"], [0])]
    ['rct-af-beta1-alpha14-seed0', 'gelu-seed0']
    """
    parsed = [parse_activation(text) for text in activations]
    return [SweepMember(f"{_slug(one)}-seed{seed}", one, seed) for one in parsed for seed in seeds]


def _slug(activation: Activation) -> str:
    if activation.alpha is None:
        return activation.name.replace("_", "-")
    return f"rct-af-beta{activation.beta}-alpha{activation.alpha:g}"


def by_family(members: Sequence[SweepMember]) -> list[list[SweepMember]]:
    """Members that share a compiled program, together and in order."""
    families: dict[str, list[SweepMember]] = {}
    for member in members:
        families.setdefault(member.activation.name, []).append(member)
    return list(families.values())


def groups_of(members: Sequence[SweepMember], size: int) -> Iterator[list[SweepMember]]:
    """Cut members into groups that train at once; the same cut whatever is already done."""
    return (list(members[start : start + size]) for start in range(0, len(members), size))
