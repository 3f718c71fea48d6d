"""Robust training: one file a method, and the pure steps that any of them runs in."""

from .augmentation.autoaugment import autoaugment
from .averaging import moving_average
from .awp import adversarial_weights
from .batches import DeviceBatch, DeviceData, make_sample
from .methods.method import Budget, Memory, Method, Recipe, ViewLogits
from .methods.registry import METHODS, make_method, register_method
from .one_call import Callback, EpochReport, train
from .own_loop import (
    LossAux,
    acat_loss,
    dajat_loss,
    dkl_loss,
    mart_loss,
    pgd_at_loss,
    robust_loss,
    standard_loss,
    trades_loss,
)
from .state import TrainState, Weights, initial_state, sgd
from .step import Metrics, StepPlan, TracedNumbers, make_advance, make_step
from .trainer import Trainer, device_data, make_trainer

__all__ = [
    "METHODS",
    "Budget",
    "Callback",
    "DeviceBatch",
    "DeviceData",
    "EpochReport",
    "LossAux",
    "Memory",
    "Method",
    "Metrics",
    "Recipe",
    "StepPlan",
    "TracedNumbers",
    "TrainState",
    "Trainer",
    "ViewLogits",
    "Weights",
    "acat_loss",
    "adversarial_weights",
    "autoaugment",
    "dajat_loss",
    "device_data",
    "dkl_loss",
    "initial_state",
    "make_advance",
    "make_method",
    "make_sample",
    "make_step",
    "make_trainer",
    "mart_loss",
    "moving_average",
    "pgd_at_loss",
    "register_method",
    "robust_loss",
    "sgd",
    "standard_loss",
    "trades_loss",
    "train",
]
