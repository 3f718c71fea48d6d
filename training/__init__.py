"""Robust training: one file a method, and the pure steps that any of them runs in."""

from .method import Budget, Method, Recipe
from .registry import METHODS, method_named
from .state import TrainState, initial_state, sgd
from .step import Batch, Data, Metrics, Settings, make_advance, make_sample, make_step
from .trainer import Trainer, device_data, make_trainer

__all__ = [
    "METHODS",
    "Batch",
    "Budget",
    "Data",
    "Method",
    "Metrics",
    "Recipe",
    "Settings",
    "TrainState",
    "Trainer",
    "device_data",
    "initial_state",
    "make_advance",
    "make_sample",
    "make_step",
    "make_trainer",
    "method_named",
    "sgd",
]
