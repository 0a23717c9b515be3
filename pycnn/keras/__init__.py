"""Keras's vocabulary: the names, defaults, shapes and behaviour of Keras 3 on this engine.

``from pycnn import keras`` serves a program written for ``import keras``; all names are found one
level up as well, ``pycnn.layers`` is ``pycnn.keras.layers``.
"""

from __future__ import annotations

import sys
from typing import Any

from pycnn._version import __version__
from pycnn.keras import (
    activations,
    backend,
    config,
    initializers,
    losses,
    metrics,
    ops,
    optimizers,
    random,
    regularizers,
)
from pycnn.keras._absent import explain_missing_names
from pycnn.keras.initializers import Initializer
from pycnn.keras.keras_tensor import KerasTensor
from pycnn.keras.losses import Loss
from pycnn.keras.metrics import Metric
from pycnn.keras.optimizers import Optimizer
from pycnn.keras.regularizers import Regularizer
from pycnn.keras.variables import Variable

from pycnn.keras import layers  # isort: skip
from pycnn.keras import models  # isort: skip
from pycnn.keras import callbacks, saving, utils  # isort: skip
from pycnn.keras.layers import Input, InputSpec, Layer  # isort: skip
from pycnn.keras.models import Model, Sequential  # isort: skip

__all__ = [
    "Initializer",
    "Input",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "Variable",
    "__version__",
    "activations",
    "backend",
    "callbacks",
    "config",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "saving",
    "utils",
    "version",
]


def __getattr__(name: str) -> Any:
    """Import the data sets on first use: they need modules that cost time."""
    if name == "datasets":
        from importlib import import_module

        return import_module("pycnn.keras.datasets")
    raise AttributeError(f"module 'pycnn.keras' has no attribute {name!r}")


def version() -> str:
    """The version of this library."""
    return __version__


for _module in (
    activations,
    callbacks,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    utils,
    sys.modules[__name__],
):
    explain_missing_names(_module)
