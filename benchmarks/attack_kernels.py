"""Kernels of a step of each attack on an H100, and where it waits for the host; needs no card.

    python benchmarks/attack_kernels.py      # with the [cuda] extra

AutoAttack's programs on ResNet-18, compiled ahead of time as `accelerator_programs.py` does it. Of
the loop over steps: the kernels that one turn launches (loops inside it counted by their turns),
how many of them are convolutions or products, and the places at which the device must tell the host
how to go on: conditionals, and loops that end by a flag. All branches count as if taken.
"""

import re
import unittest.mock
from typing import Any, NamedTuple

import accelerator_programs as programs
import harness
import jax
from rich.console import Console
from rich.table import Table

from rctaf_jax.eval.autoattack.versions import attacks_named
from rctaf_jax.threat_model import NORMS

NO_KERNELS = {
    *(
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
    ),
    *("while", "conditional", "call", "async-done", "copy-done"),
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*?\s([a-z][\w\-]*)\(")


class Counted(NamedTuple):
    """Of one turn of a computation."""

    kernels: int = 0
    products: int = 0
    waits: int = 0

    def plus(self, other: "Counted", times: int = 1) -> "Counted":
        """The sum, with the other so many times."""
        return Counted(*(a + times * b for a, b in zip(self, other, strict=True)))


def computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation of an HLO module, and the entry's name."""
    found: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[2]
            entry = name if match[1] else entry
            found[name] = []
        elif name:
            found[name].append(line)
    return found, entry


def count(name: str, found: dict[str, list[str]]) -> Counted:
    """One turn of a computation, with everything that it calls."""
    total = Counted()
    for line in found[name]:
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        kind = match[1]
        if kind not in NO_KERNELS:
            is_product = kind == "custom-call" and re.search(r"cudnn|cublas", line) is not None
            total = total.plus(Counted(1, int(is_product or "gemm" in line)))
        if kind == "while":
            total = total.plus(*looped(line, found))
        for called in re.findall(
            r"(?:branch_computations=\{|true_computation=|to_apply=)([^},]+)", line
        ):
            if kind in ("conditional", "call"):
                for branch in called.replace("%", "").split(", "):
                    total = total.plus(count(branch, found))
        total = total.plus(Counted(waits=int(kind == "conditional")))
    return total


def looped(line: str, found: dict[str, list[str]]) -> tuple[Counted, int]:
    """A loop: one turn, and how many; a loop that ends by a flag is one turn and waits."""
    body = re.search(r"body=%?([\w.\-]+)", line)
    assert body is not None
    turn = count(body[1], found)
    turns = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
    return (turn, int(turns[1])) if turns else (turn.plus(Counted(waits=1)), 1)


def of_a_step(text: str) -> Counted:
    """The largest loop of the entry: the one over steps."""
    found, entry = computations(text)
    loops = [looped(line, found)[0] for line in found[entry] if re.search(r"\swhile\(", line)]
    return max(loops)


def main() -> None:
    console, target = Console(), programs.describe_target("h100")
    result: dict[str, Any] = harness.start()
    table = Table("attack", "kernels", "products", "waits")
    result["steps"] = {}
    with unittest.mock.patch.object(jax, "default_backend", return_value="gpu"):
        for norm in NORMS:
            for attack in attacks_named("standard", None, norm=norm, num_classes=10):
                compiled = programs.attack_steps(target, attack).compile()
                found = of_a_step(compiled.as_text())
                result["steps"][f"{norm} {attack.name}"] = found._asdict()
                table.add_row(f"{norm} {attack.name}", *map(str, found))
                console.print(f"{norm} {attack.name}: {found}", highlight=False)
                jax.clear_caches()
    console.print(table)
    harness.save("attack_kernels", result, console)


if __name__ == "__main__":
    main()
