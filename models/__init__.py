"""Networks: ResNet, PreAct ResNet, Wide ResNet and MLP behind `init` and `apply`.

Trained ones come in and go out as files of weights, or as PyTorch's state dicts.
"""

from .network import Network, network_of
from .norm_sets import norm_set, with_norm_set
from .registry import Apply, Init, Model, Variables, create
from .table import model_kind, model_names
from .torch_names import from_torch, to_torch
from .weights import load_weights, save_weights

__all__ = [
    "Apply",
    "Init",
    "Model",
    "Network",
    "Variables",
    "create",
    "from_torch",
    "load_weights",
    "model_kind",
    "model_names",
    "network_of",
    "norm_set",
    "save_weights",
    "to_torch",
    "with_norm_set",
]
