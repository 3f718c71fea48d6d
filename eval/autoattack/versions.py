"""Which attacks an ensemble is made of: AutoAttack's versions as a table."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rctaf_jax.errors import InputError
from rctaf_jax.values import lookup

from .apgd import make_apgd, make_apgd_targeted
from .attack import Attack
from .fab import make_fab, make_fab_targeted
from .square import make_square

NUM_TARGETS = 9
NUM_EOT = 20

MakeAttack = Callable[[str, int], Attack]


class Version(NamedTuple):
    """An ensemble.

    Attributes:
      attacks: of each norm, in the order they run: (norm, classes) to an attack, each.
      is_random: made for networks that draw random numbers of their own.
    """

    attacks: dict[str, tuple[MakeAttack, ...]]
    is_random: bool = False


def _apgd(loss: str, restarts: int = 1, num_eot: int = 1) -> MakeAttack:
    return lambda norm, classes: make_apgd(
        norm=norm, loss=loss, num_restarts=restarts, num_eot=num_eot
    )


def _apgd_t(num_targets: int = NUM_TARGETS) -> MakeAttack:
    return lambda norm, classes: make_apgd_targeted(
        norm=norm, num_targets=min(num_targets, classes - 1)
    )


def _fab(norm: str, classes: int) -> Attack:
    return make_fab(norm=norm, num_restarts=5)._replace(backward_passes=classes - 1)


def _fab_t(norm: str, classes: int) -> Attack:
    return make_fab_targeted(norm=norm, num_targets=min(NUM_TARGETS, classes - 1))


def _square(norm: str, classes: int) -> Attack:
    return make_square(norm=norm)


_STANDARD = (_apgd("ce"), _apgd_t(), _fab_t, _square)
_STANDARD_L1 = (_apgd("ce", restarts=5), _apgd_t(5), _fab_t, _square)
_PLUS = (_apgd("ce", restarts=5), _apgd("dlr", restarts=5), _fab, _square, _apgd_t(), _fab_t)
_RAND = (_apgd("ce", num_eot=NUM_EOT), _apgd("dlr", num_eot=NUM_EOT))

VERSIONS = {
    "standard": Version({"Linf": _STANDARD, "L2": _STANDARD, "L1": _STANDARD_L1}),
    "plus": Version({"Linf": _PLUS, "L2": _PLUS, "L1": _PLUS}),
    "rand": Version({"Linf": _RAND, "L2": _RAND, "L1": _RAND}, is_random=True),
}

ATTACKS: dict[str, MakeAttack] = {
    "apgd-ce": _apgd("ce"),
    "apgd-dlr": _apgd("dlr"),
    "apgd-t": _apgd_t(),
    "fab": _fab,
    "fab-t": _fab_t,
    "square": _square,
}


def version_of(name: str) -> Version:
    """The row of `VERSIONS` with this name.

    Raises:
      InputError: if there is none.
    """
    return lookup("version", name, VERSIONS)


def attacks_named(
    version: str, attacks: Sequence[str | Attack] | None, *, norm: str, num_classes: int
) -> tuple[Attack, ...]:
    """The attacks of a version, or those listed instead, for a number of classes.

    Raises:
      InputError: if a name is unknown, nothing is listed, an attack is made for another norm, or
          there are fewer classes than an attack needs; then it names those that can run.
    """
    made = tuple(make(norm, num_classes) for make in version_of(version).attacks[norm])
    if attacks is not None:
        own = {attack.name: attack for attack in made}
        made = tuple(_resolve(attack, own, norm, num_classes) for attack in attacks)
    if not made:
        raise InputError("no attack is listed: give at least one of " + ", ".join(ATTACKS))
    for attack in made:
        if attack.norm != norm:
            raise InputError(f"{attack.name} is made for {attack.norm}, but the norm is {norm}")
        if not _can_run(attack, num_classes):
            able = [
                n for n, make in ATTACKS.items() if _can_run(make(norm, num_classes), num_classes)
            ]
            raise InputError(
                f"{attack.name} needs at least {attack.min_classes} classes, the network has "
                f"{num_classes}: these can run: {', '.join(able)}"
            )
    return made


def _can_run(attack: Attack, num_classes: int) -> bool:
    return attack.min_classes <= num_classes


def _resolve(
    attack: str | Attack, own: Mapping[str, Attack], norm: str, num_classes: int
) -> Attack:
    """An attack as it is; a name's as the version has it, or else as in `ATTACKS`."""
    if isinstance(attack, Attack):
        return attack
    if attack in own:
        return own[attack]
    return lookup("attack", attack, ATTACKS)(norm, num_classes)
