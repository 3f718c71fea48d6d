"""Networks: ResNet, PreAct ResNet, Wide ResNet and MLP behind `init` and `apply`.

Trained ones come in and go out as files of weights, or as PyTorch's state dicts.
"""

from .network import Network, network_of
from .norm_sets import norm_set, with_norm_set
from .own import OwnModel, equinox_model, function_model, linen_model, nnx_model
from .registry import Apply, Init, Model, Variables, create
from .table import model_kind, model_names, register_model
from .torch_names import from_torch, to_torch
from .weights import load_weights, save_weights

__all__ = [
    "Apply",
    "Init",
    "Model",
    "Network",
    "OwnModel",
    "Variables",
    "create",
    "equinox_model",
    "from_torch",
    "function_model",
    "linen_model",
    "load_weights",
    "model_kind",
    "model_names",
    "network_of",
    "nnx_model",
    "norm_set",
    "register_model",
    "save_weights",
    "to_torch",
    "with_norm_set",
]
