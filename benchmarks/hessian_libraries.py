"""Exact Hessian diagonals by other libraries: PyTorch with curvlinops or BackPACK, same network."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from rctaf_jax.hessian import Layer

OTHERS = ("torch", "curvlinops-for-pytorch", "backpack-for-pytorch")


def import_others(console: Console) -> dict[str, Any]:
    """PyTorch, curvlinops and BackPACK, which the package itself never needs; none if one lacks."""
    try:
        import backpack
        import curvlinops
        import torch
        from backpack.extensions import DiagHessian
    except ImportError as missing:
        console.print(
            f"The comparison with other libraries is left out, since {missing.name} is not "
            f"installed; it takes {', '.join(OTHERS)}."
        )
        return {}
    return {
        "torch": torch,
        "curvlinops": curvlinops,
        "backpack": backpack,
        "DiagHessian": DiagHessian,
    }


def torch_network(torch: Any, layers: Sequence[Layer]) -> Any:
    """The tanh network with these weights in float64."""
    modules = []
    for weight, bias in layers:
        linear = torch.nn.Linear(*weight.shape[::-1], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.asarray(weight)))
            linear.bias.copy_(torch.tensor(np.asarray(bias)))
        modules += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*modules[:-1])


def curvlinops_diagonal(
    others: Mapping[str, Any],
    layers: Sequence[Layer],
    inputs: np.ndarray,
    labels: np.ndarray,
    columns: int,
) -> Callable[[], np.ndarray]:
    """The Hessian operator on basis vectors, so many columns at a time."""
    torch = others["torch"]
    network = torch_network(torch, layers)
    hessian = others["curvlinops"].HessianLinearOperator(
        network,
        torch.nn.CrossEntropyLoss(),
        list(network.parameters()),
        [(torch.tensor(inputs), torch.tensor(labels))],
        check_deterministic=False,
    )
    size = sum(leaf.size for layer in layers for leaf in layer)

    def diagonal() -> np.ndarray:
        entries = []
        for start in range(0, size, columns):
            rows = torch.arange(start, min(start + columns, size))
            vectors = torch.zeros(size, len(rows), dtype=torch.float64)
            vectors[rows, torch.arange(len(rows))] = 1
            entries.append((hessian @ vectors)[rows, torch.arange(len(rows))])
        return torch.cat(entries).numpy()

    return diagonal


def backpack_diagonal(
    others: Mapping[str, Any], layers: Sequence[Layer], inputs: np.ndarray, labels: np.ndarray
) -> Callable[[], list[np.ndarray]]:
    """DiagHessian's backward pass."""
    torch, backpack = others["torch"], others["backpack"]
    network = backpack.extend(torch_network(torch, layers))
    loss = backpack.extend(torch.nn.CrossEntropyLoss())
    x, y = torch.tensor(inputs), torch.tensor(labels)
    # No gradient with respect to the images is wanted, of which PyTorch warns at each call.
    warnings.filterwarnings("ignore", "Full backward hook is firing")

    def diagonal() -> list[np.ndarray]:
        network.zero_grad()
        with backpack.backpack(others["DiagHessian"]()):
            loss(network(x), y).backward()
        return [p.diag_h.numpy() for p in network.parameters()]

    return diagonal
