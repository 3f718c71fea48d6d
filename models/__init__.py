"""Networks: ResNet, PreAct ResNet, Wide ResNet and MLP behind `init` and `apply`."""

from .norm_sets import norm_set, with_norm_set
from .registry import Apply, Init, Model, Variables, create, model_kind, model_names
from .torch_names import from_torch, to_torch

__all__ = [
    "Apply",
    "Init",
    "Model",
    "Variables",
    "create",
    "from_torch",
    "model_kind",
    "model_names",
    "norm_set",
    "to_torch",
    "with_norm_set",
]
