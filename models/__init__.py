"""Networks: ResNet, PreAct ResNet, Wide ResNet and MLP behind `init` and `apply`."""

from .registry import Apply, Init, Model, Variables, create, model_names
from .torch_names import from_torch, to_torch

__all__ = [
    "Apply",
    "Init",
    "Model",
    "Variables",
    "create",
    "from_torch",
    "model_names",
    "to_torch",
]
